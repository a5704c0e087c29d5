//! Runs `l2fwd` and reads its JSON object.
//!
//! Invariant: no run outlives its test: it is killed when its [`Running`] is dropped. Every wait ends after
//! [`PATIENCE`], with a message of what was waited for and what the program had said by then.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sumac_testbed::domains::BuiltDomains;

/// Far longer than any run here takes: a bound on hanging, not on speed.
pub const PATIENCE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(10);

/// The program under test.
pub const L2FWD: &str = env!("CARGO_BIN_EXE_l2fwd");

/// The domain files that `l2fwd` starts drivers and applications from here, and a configuration that trusts them.
pub fn built() -> &'static BuiltDomains {
    static BUILT: OnceLock<BuiltDomains> = OnceLock::new();
    BUILT.get_or_init(|| {
        BuiltDomains::build(&[
            "ixgbe",
            "ixgbe-crashy",
            "ixgbe-mortal",
            "l2fwd",
            "l2fwd-crashy",
            "l2fwd-mortal",
        ])
    })
}

/// Says on standard error, past libtest's capture, that a test did not run and why.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(io::stderr(), "SKIP {test}: {reason}");
}

/// True if this process may make namespaces and interfaces.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Everything a run left: how it ended and what it wrote.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The JSON object of a run that must have ended well.
    pub fn report(&self) -> Report {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
        self.json()
    }

    /// The JSON object of a run at whose end devices were gone, each of which is named in its one line of error.
    pub fn report_without(&self, devices: &[&str]) -> Report {
        let Self { status, stderr, .. } = self;
        assert_eq!(status.code(), Some(1), "{stderr}");
        let errors: Vec<_> = (stderr.lines())
            .filter(|line| !line.ends_with("waiting for its return") && !line.ends_with(": back"))
            .collect();
        assert_eq!(errors.len(), 1, "{stderr}");
        for device in devices {
            assert!(errors[0].contains(device), "{device}: {stderr}");
        }
        assert!(errors[0].contains("gone"), "{stderr}");
        self.json()
    }

    /// But for the table of `--stats-interval`, which tells of the run and not of its end.
    pub fn without_table(mut self) -> Self {
        let told = (self.stderr.lines()).filter(|line| line.starts_with("l2fwd: "));
        self.stderr = told.collect::<Vec<_>>().join("\n");
        self
    }

    /// The JSON object of a run, however it ended.
    pub fn json(&self) -> Report {
        let value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("stdout is not one JSON object ({e}): {}", self.stdout));
        Report(value)
    }
}

/// A run under way.
pub struct Running {
    child: Child,
    stdout: Option<Collected>,
    stderr: Option<Collected>,
}

/// What a pipe has brought so far, and the thread that reads it.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collected {
    /// Reads a pipe to its end on a thread of its own, so that the program never blocks on it.
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let come = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut part) {
                come.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        Self { bytes, thread }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn all(self) -> String {
        let Self { bytes, thread } = self;
        let _ = thread.join();
        let bytes = bytes.lock().unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Running {
    /// Starts `l2fwd` with these arguments, and drivers from [`built`].
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::start_from(built().folder(), arguments)
    }

    /// Starts `l2fwd` with these arguments, and drivers from `domains`.
    pub fn start_from<A: AsRef<OsStr>>(
        domains: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut command = Command::new(L2FWD);
        command.arg("--domains").arg(domains).args(arguments);
        Self::spawn(command.env("XDG_CONFIG_HOME", built().folder()))
    }

    /// Starts a prepared command.
    pub fn spawn(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let deadline = Instant::now() + PATIENCE;
        let mut child = loop {
            match command.spawn() {
                Ok(child) => break child,
                // A copy of the program just made is still open for writing in a child that
                // another test is about to start.
                Err(e)
                    if e.kind() == io::ErrorKind::ExecutableFileBusy
                        && Instant::now() < deadline =>
                {
                    thread::sleep(POLL);
                }
                Err(e) => panic!("{command:?}: {e}"),
            }
        };
        let stdout = child.stdout.take().map(Collected::new);
        let stderr = child.stderr.take().map(Collected::new);
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Waits until the program has installed its handler for `signal`, which it does before it
    /// touches a device.
    #[track_caller]
    pub fn wait_for_handler(&mut self, signal: Signal) {
        let status = format!("/proc/{}/status", self.child.id());
        let bit = 1_u64 << (signal as i32 - 1);
        self.wait_for("a signal handler", || {
            fs::read_to_string(&status).is_ok_and(|text| {
                text.lines()
                    .find_map(|line| line.strip_prefix("SigCgt:"))
                    .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                    .is_some_and(|mask| mask & bit != 0)
            })
        });
    }

    /// Waits until `ready`, failing at once if the program ends before.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, ready: impl Fn() -> bool) {
        self.wait_until(what, |_| ready());
    }

    /// Waits until it has said so on standard error, as often as that.
    #[track_caller]
    pub fn wait_for_words(&mut self, words: &str, times: usize) {
        let said = |running: &Self| running.said().matches(words).count() >= times;
        self.wait_until(&format!("{words:?} said {times} times"), said);
    }

    /// Waits until `ready`, which may ask what was [said](Self::said).
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, ready: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // First: what it did last may be what is waited for.
            let ended = self.has_ended();
            if ready(self) {
                return;
            }
            assert!(!ended, "it ended without {what}; {}", self.so_far());
            assert!(Instant::now() < deadline, "no {what}; {}", self.so_far());
            thread::sleep(POLL);
        }
    }

    /// Whether it has, and all it said was read.
    fn has_ended(&mut self) -> bool {
        let mut pipes = [&self.stdout, &self.stderr].into_iter().flatten();
        let read = pipes.all(|pipe| pipe.thread.is_finished());
        read && self.child.try_wait().expect("it is our child").is_some()
    }

    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        let stderr = self.stderr.as_ref();
        stderr.map(Collected::so_far).unwrap_or_default()
    }

    /// What there is to tell of it when it does not do what is waited for.
    fn so_far(&self) -> String {
        let stdout = self.stdout.as_ref().map(Collected::so_far);
        let threads = threads(self.child.id()).join(", ");
        format!(
            "threads: {threads}\nstandard output: {}\nstandard error: {}",
            stdout.unwrap_or_default(),
            self.said()
        )
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id is an i32"));
        kill(pid, signal).expect("the program runs and is ours");
    }

    /// Waits for the end.
    #[track_caller]
    pub fn finish(&mut self) -> Finished {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "it does not end; {}", self.so_far());
            thread::sleep(POLL);
        };
        let text = |pipe: Option<Collected>| pipe.map(Collected::all).unwrap_or_default();
        Finished {
            status,
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
        }
    }
}

/// A process's threads: the name of each, its state, and what it waits for in the kernel.
fn threads(process: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let thread = |task: fs::DirEntry| {
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let (name, status, place) = (read("comm"), read("status"), read("wchan"));
        let state = status.lines().find_map(|line| line.strip_prefix("State:"));
        let state = state.unwrap_or_default().trim();
        format!("{} {state} {place}", name.trim())
    };
    tasks.into_iter().flatten().flatten().map(thread).collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already waited for in a test that passed; otherwise the test has failed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `l2fwd` to its end.
pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Finished {
    Running::start(arguments).finish()
}

/// What came of the first of these tries that was enough to judge by: how much happens in a time, and in which order,
/// is the machine's affair.
///
/// # Panics
/// When no try was enough.
#[track_caller]
pub fn first_enough<T, R: Debug>(
    tries: impl IntoIterator<Item = T>,
    run: impl Fn(T) -> R,
    enough: impl Fn(&R) -> bool,
) -> R {
    let mut last = None;
    for one in tries {
        let result = run(one);
        if enough(&result) {
            return result;
        }
        last = Some(result);
    }
    panic!("not enough in the last try: {last:#?}")
}

/// Runs for a second, and for longer until there was enough of what a test is about. `run_for` is given the time as
/// `--duration` takes it; the books of every run balance.
#[track_caller]
pub fn long_enough(run_for: impl Fn(&str) -> Report, enough: impl Fn(&Report) -> bool) -> Report {
    let run_for = |duration| {
        let report = run_for(duration);
        report.assert_books_balance();
        report
    };
    first_enough(["1s", "4s", "30s"], run_for, enough)
}

/// The JSON object of a run with these arguments that must end well.
pub fn report(arguments: &[&str]) -> Report {
    run(["--json"].iter().chain(arguments)).report()
}

/// The same of a run that was [`long_enough`].
#[track_caller]
pub fn report_until(enough: impl Fn(&Report) -> bool, arguments: &[&str]) -> Report {
    let run_for = |duration: &str| report(&[arguments, &["--duration", duration]].concat());
    long_enough(run_for, enough)
}

/// The JSON object `l2fwd --json` prints.
#[derive(Debug)]
pub struct Report(pub Value);

impl Report {
    /// Whether anything was forwarded.
    pub fn forwarded(&self) -> bool {
        self.count("/packets") > 0
    }

    /// How often drivers were started again.
    pub fn restarts(&self) -> u64 {
        self.count("/restarts")
    }

    /// How often the application was started again.
    pub fn application_restarts(&self) -> u64 {
        self.count("/application/restarts")
    }

    /// A count at a JSON pointer such as `/ports/0/rx_packets`.
    pub fn count(&self, pointer: &str) -> u64 {
        self.0
            .pointer(pointer)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("no count {pointer} in {:#}", self.0))
    }

    /// A number at a JSON pointer.
    pub fn number(&self, pointer: &str) -> f64 {
        self.0
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("no number {pointer} in {:#}", self.0))
    }

    /// Whether a port's device was gone at the end.
    pub fn is_removed(&self, port: usize) -> bool {
        self.0["ports"][port]["removed"].as_bool().expect("a bool")
    }

    /// How many ports there are.
    pub fn ports(&self) -> usize {
        self.0["ports"].as_array().map_or(0, Vec::len)
    }

    /// What must hold after every run on software devices, whatever happened in it.
    pub fn assert_books_balance(&self) {
        let pool = |what: &str| self.count(&format!("/pool/{what}"));
        assert_eq!(
            pool("free") + pool("held") + pool("device"),
            pool("total"),
            "{:#}",
            self.0
        );
        assert_eq!(
            pool("held"),
            0,
            "buffers still held after the end: {:#}",
            self.0
        );
        assert_eq!(self.count("/stray_dma"), 0, "{:#}", self.0);
        let ports = self.ports();
        assert!(ports > 0, "no ports in {:#}", self.0);
        for port in 0..ports {
            let count = |port: usize, what: &str| self.count(&format!("/ports/{port}/{what}"));
            assert_eq!(count(port, "violations"), 0, "{:#}", self.0);
            assert_eq!(
                count(port, "wire/errors"),
                0,
                "wrong frames on a wire: {:#}",
                self.0
            );
            let to = peer(port, ports);
            let lost = count(to, "lost_transmit") + count(to, "lost_application");
            assert_eq!(
                count(port, "rx_packets"),
                count(to, "tx_packets") + count(to, "tx_dropped") + lost,
                "port {port} received other than port {to} sent, dropped and lost: {:#}",
                self.0
            );
        }
    }
}

impl Report {
    /// What must hold besides after a run whose application was started again: what it lost is what it can have
    /// had in hand, a batch in each direction of each queue pair.
    pub fn assert_losses_are_in_hand(&self, batch: u64, queues: u64) {
        let most = self.count("/application/restarts") * queues * batch;
        let lost = |port| self.count(&format!("/ports/{port}/lost_application"));
        let lost: Vec<u64> = (0..self.ports()).map(lost).collect();
        assert!(lost.iter().all(|lost| *lost <= most), "{:#}", self.0);
        assert_eq!(
            lost.iter().sum::<u64>(),
            self.count("/application/lost"),
            "{:#}",
            self.0
        );
    }

    /// What must hold besides after a run whose drivers were started again, on ports that take any frame: what
    /// passed the wires, counted there, is what the books say; and no more was lost than drivers that die
    /// can have in their rings and in hand.
    pub fn assert_losses_are_explained(&self, descriptors: u64, queues: u64) {
        let mut sum = (0, 0);
        for port in 0..self.ports() {
            let count = |what: &str| self.count(&format!("/ports/{port}/{what}"));
            let (restarts, lost) = (
                count("restarts"),
                [count("lost_received"), count("lost_transmit")],
            );
            sum = (sum.0 + restarts, sum.1 + lost[0] + lost[1]);
            assert_eq!(
                count("wire/sent"),
                count("rx_packets") + count("rx_dropped") + count("rx_errors") + lost[0],
                "what came in over the wire of port {port}: {:#}",
                self.0
            );
            assert_eq!(
                count("wire/received"),
                count("tx_packets"),
                "what went out over the wire of port {port}: {:#}",
                self.0
            );
            // A ring full, and a batch in hand.
            let absences = count("returns") + u64::from(self.is_removed(port));
            let most = (restarts + absences) * queues * (descriptors + 64);
            assert!(lost.iter().all(|lost| *lost <= most), "{:#}", self.0);
        }
        assert_eq!(
            sum,
            (self.count("/restarts"), self.count("/lost_in_restart")),
            "{:#}",
            self.0
        );
    }
}

/// Where a port forwards to: 0 and 1, 2 and 3, and so on; an odd one to itself.
fn peer(port: usize, ports: usize) -> usize {
    if port ^ 1 < ports { port ^ 1 } else { port }
}
