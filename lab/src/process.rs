//! A program that runs beside a guest on this machine.

use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::console::Console;

const POLL: Duration = Duration::from_millis(10);
/// Far longer than anything here takes: a bound on hanging, not on speed.
const PATIENCE: Duration = Duration::from_secs(120);

/// The same command behind a front program (of util-linux) that has the kernel kill it when the thread that started it
/// ends: nothing survives a test that panics, is killed, or forgets it. It does not start where this process was killed
/// before the kernel was told.
pub(crate) fn mortal(command: &Command) -> Command {
    let mut front = Command::new("setpriv");
    front.args(["--pdeathsig", "KILL", "--"]);
    front.args([
        "sh",
        "-c",
        r#"[ "$PPID" = "$1" ] && shift && exec "$@""#,
        "sh",
    ]);
    front.arg(process::id().to_string());
    front.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => front.env(name, value),
            None => front.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        front.current_dir(folder);
    }
    front
}

/// A running program: killed when dropped, or with the thread that started it; with all it wrote at hand.
pub struct Process {
    child: Child,
    name: String,
    console: Console,
}

impl Process {
    /// Starts a command without standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = mortal(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let console = Console::default();
        if let Some(stdout) = child.stdout.take() {
            console.take(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            console.take(stderr);
        }
        Self {
            child,
            name,
            console,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Both its streams so far.
    pub fn text(&self) -> String {
        self.console.text()
    }

    /// Waits until it writes this text, after that of the last call.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let came = self.console.wait_for(text, Instant::now() + PATIENCE);
        assert!(
            came,
            "{} did not write {text:?}:\n{}",
            self.name,
            self.text()
        );
    }

    /// Asks it to end, by SIGTERM.
    pub fn terminate(&self) {
        // The child is ours and not yet waited for, so its id cannot have been reused.
        if let Ok(id) = i32::try_from(self.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
    }

    /// Waits for its end: how it ended and all that it wrote.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn finish(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.console.wait_for_end(deadline);
                return (status, self.text());
            }
            let text = || self.text();
            assert!(
                Instant::now() < deadline,
                "{} hangs:\n{}",
                self.name,
                text()
            );
            thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
