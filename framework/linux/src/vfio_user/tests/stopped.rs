//! Servers whose process is stopped, as by a debugger.

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::*;

const CHILD: &str = "SUMAC_TEST_SERVER_CHILD";

/// Not a test by itself: what the servers of the others run.
#[test]
fn child() {
    let Some(socket) = std::env::var_os(CHILD) else {
        return;
    };
    let listener = UnixListener::bind(socket).unwrap();
    println!("\nlistening");
    let (stream, _) = listener.accept().unwrap();
    let (thread, _seen) = serve(stream, Script::default());
    thread.join().unwrap();
}

/// A server in a process of its own, ended when dropped.
struct Server {
    process: Child,
    folder: TempDir,
    /// Open for as long as it may say something.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "vfio_user::tests::stopped::child", "--nocapture"])
            .env(CHILD, folder.path().join("s.sock"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "listening"));
        Self {
            process,
            folder,
            _said: said,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }

    fn connect(&self, limits: Limits) -> Result<ServedDevice, VfioUserError> {
        let socket = self.socket();
        ServedDevice::over(UnixStream::connect(&socket).unwrap(), &socket, limits)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }

    fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let stat = Path::new("/proc").join(self.process.id().to_string());
        let stopped = || {
            let stat = std::fs::read_to_string(stat.join("stat")).unwrap();
            stat.contains(") T ")
        };
        while !stopped() {
            thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_server_that_is_stopped_for_longer_than_an_answer_takes_is_waited_for() {
    let server = Server::start();
    // Once it goes on it has most of this to answer in, on however slow a machine.
    let limits = Limits {
        answer: Duration::from_secs(4),
        stopped: LONG.stopped,
    };
    let device = server.connect(limits).unwrap();
    let dma = Arc::new(LinuxDma::new(vec![device.reach()]));
    let bar = device.backing(dma).bar;
    bar.write(Register(0x10), 7);
    server.stop();
    let value = thread::scope(|scope| {
        let read = scope.spawn(|| bar.read(Register(0x10)));
        thread::sleep(limits.answer + limits.answer / 2);
        server.signal(Signal::SIGCONT);
        read.join().unwrap()
    });
    assert_eq!(value, 7);
    assert!(device.is_there());
}

#[test]
fn a_server_that_stays_stopped_is_waited_for_no_longer_than_that() {
    let server = Server::start();
    server.stop();
    let error = server.connect(SHORT).err().unwrap().to_string();
    let process = server.process.id();
    let named = [
        server.socket().display().to_string(),
        format!("process {process}, is stopped"),
        format!("kill -CONT {process}"),
    ];
    for name in named {
        assert!(error.contains(&name), "{name} is not named in: {error}");
    }
    assert!(!error.contains('\n'));
}
