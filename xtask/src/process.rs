//! Runs a program with a time limit, and hands each line of its output to the caller, shown or not.
//!
//! Invariant: when [`run`] returns, the program has ended; past its time limit, or when this process was killed, it and
//! everything it started are killed. cargo does not take its test programs along, so all are in a group of processes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How often a quiet program is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Which stream a line came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// Runs `command` without standard input, echoes both its streams and calls `line` for each line.
///
/// # Errors
/// One line saying why the program could not be started, that it failed, or that it was stopped at
/// `limit`.
pub fn run(
    command: &mut Command,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> Result<(), String> {
    supervise(command, limit, |stream, text| {
        // A closed terminal is no reason to stop the tests.
        let _ = match stream {
            Stream::Stdout => writeln!(io::stdout(), "{text}"),
            Stream::Stderr => writeln!(io::stderr(), "{text}"),
        };
        line(text);
    })
}

/// As [`run`], but shows nothing.
///
/// # Errors
/// As of [`run`].
pub fn listen(
    command: &mut Command,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> Result<(), String> {
    supervise(command, limit, |_, text| line(text))
}

fn supervise(
    command: &mut Command,
    limit: Duration,
    mut line: impl FnMut(Stream, &str),
) -> Result<(), String> {
    let name = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("{name}: {e}"))?;
    let heir = Heir::of(&child);
    let (sender, lines) = channel();
    if let Some(stdout) = child.stdout.take() {
        forward(stdout, Stream::Stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        forward(stderr, Stream::Stderr, sender);
    }
    if let Err(error) = heir {
        kill_group(&mut child);
        return Err(format!("{name}: not started for want of sh: {error}"));
    }
    let deadline = Instant::now() + limit;
    let in_time = read_until(&lines, deadline, &mut line) && wait_until(&mut child, deadline);
    if !in_time {
        kill_group(&mut child);
        return Err(format!(
            "{name}: stopped after its limit of {} s",
            limit.as_secs()
        ));
    }
    let status = child.wait().map_err(|e| format!("{name}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{name}: {}", ended(status)))
    }
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let arguments = command.get_args().map(|a| a.to_string_lossy().into_owned());
    std::iter::once(program)
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => format!("{status}"),
    }
}

/// Sends every line of `from` to the channel from a thread of its own.
fn forward(from: impl Read + Send + 'static, stream: Stream, to: Sender<(Stream, String)>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&bytes)
                .trim_end_matches('\n')
                .to_owned();
            if to.send((stream, line)).is_err() {
                return;
            }
            bytes.clear();
        }
    });
}

/// Hands on lines until both streams are closed; false at the deadline.
fn read_until(
    lines: &Receiver<(Stream, String)>,
    deadline: Instant,
    line: &mut impl FnMut(Stream, &str),
) -> bool {
    loop {
        match lines.recv_timeout(POLL) {
            Ok((stream, text)) => line(stream, &text),
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() > deadline {
            return false;
        }
    }
}

fn wait_until(child: &mut Child, deadline: Instant) -> bool {
    while Instant::now() <= deadline {
        match child.try_wait() {
            Ok(None) => thread::sleep(POLL),
            _ => return true,
        }
    }
    false
}

/// Kills `child` and its group: all its descendants.
fn kill_group(child: &mut Child) {
    // The child is ours and not yet waited for, so its id, which is the group's, cannot have been reused.
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.wait();
}

/// Kills a child's group when this process has ended, by whatever: it reads from a pipe that nobody else writes to.
struct Heir(Child);

impl Heir {
    fn of(child: &Child) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"read -r end; kill -s KILL -- "-$1""#, "heir"]);
        shell.arg(child.id().to_string());
        shell.stdin(Stdio::piped());
        shell.stdout(Stdio::null()).stderr(Stdio::null());
        // In a group of its own, so that it outlives what kills this process's.
        shell.process_group(0).spawn().map(Self)
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn test_both_streams_are_read_to_the_end() {
        let mut seen = Vec::new();
        let result = run(
            &mut sh("echo one; echo two >&2; printf three"),
            LONG,
            |line| {
                seen.push(line.to_owned());
            },
        );
        seen.sort();
        assert_eq!(result, Ok(()));
        assert_eq!(seen, ["one", "three", "two"]);
    }

    #[test]
    fn test_exit_code_is_reported() {
        let error = run(&mut sh("exit 7"), LONG, |_| {}).expect_err("exit 7 is a failure");
        assert!(error.ends_with("exit code 7"), "{error}");
    }

    #[test]
    fn test_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-here"), LONG, |_| {})
            .expect_err("the program does not exist");
        assert!(error.starts_with("no-such-program-here: "), "{error}");
    }

    /// Waits until a process is gone, but for what is left of it to be waited for.
    fn assert_ends(pid: u32) {
        let gone = || {
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        };
        let deadline = Instant::now() + LONG;
        while !gone() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(gone(), "process {pid} is still running");
    }

    #[test]
    fn test_limit_kills_grandchildren_too() {
        let mut grandchild = None;
        // A limit that is over before the script has begun says nothing.
        for limit in [1, 10, 100] {
            let mut script = sh("sleep 1000 & echo $!; wait");
            let error = run(&mut script, Duration::from_secs(limit), |line| {
                grandchild = line.parse().ok()
            })
            .expect_err("it runs for longer than the limit");
            assert!(error.contains(&format!("limit of {limit} s")), "{error}");
            if grandchild.is_some() {
                break;
            }
        }
        assert_ends(grandchild.expect("the script prints the grandchild's id"));
    }

    /// Set for the process that is to be killed: this test once more.
    const VICTIM: &str = "SUMAC_VICTIM";

    #[test]
    fn test_grandchildren_of_a_process_that_is_killed_end() {
        if env::var_os(VICTIM).is_some() {
            let mut script = sh("sleep 1000 & echo grandchild $! child $$; wait");
            let _ = run(&mut script, LONG, |_| {});
            return;
        }
        let this = env::current_exe().expect("this program has a path");
        let name = "process::tests::test_grandchildren_of_a_process_that_is_killed_end";
        let mut victim = Command::new(this);
        victim.args(["--exact", name, "--nocapture"]);
        victim.env(VICTIM, "1").stdout(Stdio::piped());
        let mut victim = victim.spawn().expect("this program runs");
        let said = BufReader::new(victim.stdout.take().expect("a pipe"));
        let line = (said.lines().map_while(Result::ok))
            .find(|line| line.contains("grandchild"))
            .expect("a line of the script's");
        let ids: Vec<u32> = (line.split(' '))
            .filter_map(|word| word.parse().ok())
            .collect();
        assert_eq!(ids.len(), 2, "{line}");
        victim.kill().expect("it is ours");
        victim.wait().expect("it was killed");
        ids.into_iter().for_each(assert_ends);
    }
}
