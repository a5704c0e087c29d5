//! What a program takes of a core while nothing comes: `l2fwd --interrupt` as users run it, wherever its driver runs,
//! beside one that polls. Software cards in the program have a thread of their own, which looks for frames now and
//! then; a card of another process, as a real one, costs the program nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use sumac_linux::time::TickCounter;

use super::{IsolationError, machine, row};
use crate::report::{Report, Row};

/// How long a program is given to start and to come to rest.
const SETTLE: Duration = Duration::from_secs(3);
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(1);
/// The thread of software cards.
const DEVICE_THREAD: &str = "sumac-device";
/// What rows are compared with.
const PEER: &str = "polling";
/// A port on which nothing ever comes.
const NULL: &str = "sim:null";

/// Measures `windows` windows of each row; domain files are in `folder`, and the programs beside this one.
///
/// # Errors
/// [`IsolationError`].
pub fn run(folder: &Path, windows: usize) -> Result<Report, IsolationError> {
    let counter = TickCounter::start();
    let inside = [NULL, NULL].map(str::to_owned);
    let polling = L2fwd::start(folder, &["--isolation", "driver"], &inside)?;
    let polling = polling.watch(windows)?;
    let mut rows = Vec::new();
    for isolation in ["driver", "domain", "shadow"] {
        let options = ["--interrupt", "--isolation", isolation];
        let shares = L2fwd::start(folder, &options, &inside)?.watch(windows)?;
        let mut add = |name: String, ours: &[f64]| rows.push(share(&name, ours, &polling.driver));
        add(format!("sim/{isolation}"), &shares.all);
        add(format!("sim/{isolation}/less-device"), &shares.driver);
        let cards = Served::start()?;
        let shares = L2fwd::start(folder, &options, &cards.specs())?.watch(windows)?;
        add(format!("served/{isolation}"), &shares.all);
    }
    Ok(Report {
        machine: machine(&counter),
        rows,
        tolerated: Vec::new(),
    })
}

/// A row whose figure is the mean: what is taken now and then counts.
fn share(name: &str, ours: &[f64], polling: &[f64]) -> Row {
    let mut row = row(name, "% of a core", ours, Some((PEER, polling)), None);
    let mean = |figures: &[f64]| figures.iter().sum::<f64>() / figures.len().max(1) as f64;
    let (ours, polling) = (mean(ours), mean(polling));
    (row.ours, row.peer, row.ratio) = (ours, Some(polling), Some(ours / polling));
    row
}

fn failed(what: impl std::fmt::Display) -> IsolationError {
    IsolationError::Failed(what.to_string())
}

fn beside(program: &str) -> Result<PathBuf, IsolationError> {
    let own = std::env::current_exe().map_err(failed)?;
    Ok(own.with_file_name(program))
}

/// Shares of a core in percent, window by window.
struct Shares {
    /// Of the whole process.
    all: Vec<f64>,
    /// Of all its threads but that of software cards.
    driver: Vec<f64>,
}

/// A process that is ended with this.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self, IsolationError> {
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Self(piped.spawn().map_err(failed)?))
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(self.0.id() as i32);
        // One that has ended already says why.
        let _ = kill(pid, Signal::SIGTERM);
    }

    /// Nanoseconds of processor time that each thread took so far, and its name.
    fn taken(&self) -> Result<BTreeMap<u32, (String, u64)>, IsolationError> {
        let tasks = format!("/proc/{}/task", self.0.id());
        let mut taken = BTreeMap::new();
        for task in fs::read_dir(&tasks).map_err(failed)? {
            let task = task.map_err(failed)?;
            let read = |what| fs::read_to_string(task.path().join(what));
            // A thread may end while it is looked at.
            let (Ok(name), Ok(times)) = (read("comm"), read("schedstat")) else {
                continue;
            };
            let id = task.file_name().to_string_lossy().parse().map_err(failed)?;
            let ns = times.split(' ').next().and_then(|ns| ns.parse().ok());
            let ns = ns.ok_or_else(|| failed("/proc has no times of threads"))?;
            taken.insert(id, (name.trim().to_owned(), ns));
        }
        Ok(taken)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Waited for already in a run that ended well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `l2fwd` over two ports.
struct L2fwd(Running);

/// What a run says of itself.
#[derive(Deserialize)]
struct Ended {
    sleeps: Sleeps,
}

#[derive(Deserialize)]
struct Sleeps {
    slept: u64,
}

impl L2fwd {
    fn start(folder: &Path, options: &[&str], ports: &[String]) -> Result<Self, IsolationError> {
        let mut command = Command::new(beside("l2fwd")?);
        command.args(["--json", "--domains"]).arg(folder);
        command.args(options).args(ports);
        Ok(Self(Running::start(&mut command)?))
    }

    /// Watches it for so many windows, and ends it.
    fn watch(mut self, windows: usize) -> Result<Shares, IsolationError> {
        thread::sleep(SETTLE);
        let mut shares = Shares {
            all: Vec::new(),
            driver: Vec::new(),
        };
        let (mut since, mut before) = (Instant::now(), self.0.taken()?);
        for _ in 0..windows {
            thread::sleep(WINDOW);
            let (now, after) = (Instant::now(), self.0.taken()?);
            let window_ns = (now - since).as_nanos() as f64;
            let share = |device: bool| {
                let counted = |(id, (name, ns)): (&u32, &(String, u64))| {
                    let earlier = before.get(id).map_or(0, |(_, ns)| *ns);
                    (device || name != DEVICE_THREAD).then(|| ns.saturating_sub(earlier))
                };
                let ns: u64 = after.iter().filter_map(counted).sum();
                100.0 * ns as f64 / window_ns
            };
            shares.all.push(share(true));
            shares.driver.push(share(false));
            (since, before) = (now, after);
        }
        self.0.terminate();
        let interrupts = shares.driver.iter().all(|share| *share < 50.0);
        let output = self.0.0.stdout.take().map(std::io::read_to_string);
        let status = self.0.0.wait().map_err(failed)?;
        if !status.success() {
            return Err(failed(format!("l2fwd ended with {status}")));
        }
        let text = output.transpose().map_err(failed)?.unwrap_or_default();
        let ended: Ended = serde_json::from_str(&text).map_err(failed)?;
        match interrupts && ended.sleeps.slept == 0 {
            true => Err(failed("l2fwd neither polled nor slept")),
            false => Ok(shares),
        }
    }
}

/// Two cards that another process serves.
struct Served {
    _process: Running,
    folder: PathBuf,
}

impl Served {
    fn start() -> Result<Self, IsolationError> {
        let folder = std::env::temp_dir().join(format!("sumac-idle-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut command = Command::new(beside("sumac")?);
        command.args(["serve", "82599", "--quiet", "--ports", "2"]);
        command.args(["--wire", "null", "--wire", "null", "--socket"]);
        command.arg(folder.join("card"));
        let served = Self {
            _process: Running::start(&mut command)?,
            folder,
        };
        let patience = Instant::now() + SETTLE;
        while !served.sockets().iter().all(|socket| socket.exists()) {
            if Instant::now() > patience {
                return Err(failed("sumac serve: no sockets"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(served)
    }

    fn sockets(&self) -> [PathBuf; 2] {
        ["card.0", "card.1"].map(|name| self.folder.join(name))
    }

    fn specs(&self) -> [String; 2] {
        self.sockets()
            .map(|socket| format!("vfio-user:{}", socket.display()))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Nothing but sockets.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
