//! Runs a program with a time limit, and hands each line of its output to the caller, shown or not.
//!
//! Invariant: when [`run`] returns, the program has ended; past its time limit it and everything it
//! started were killed.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

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
        .spawn()
        .map_err(|e| format!("{name}: {e}"))?;
    let (sender, lines) = channel();
    if let Some(stdout) = child.stdout.take() {
        forward(stdout, Stream::Stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        forward(stderr, Stream::Stderr, sender);
    }
    let deadline = Instant::now() + limit;
    let in_time = read_until(&lines, deadline, &mut line) && wait_until(&mut child, deadline);
    if !in_time {
        kill_tree(&mut child);
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

/// Kills `child` and all its descendants: cargo does not take its test programs along.
fn kill_tree(child: &mut Child) {
    let descendants = descendants(child.id());
    // The child is ours and not yet waited for, so its id cannot have been reused.
    let _ = child.kill();
    let _ = child.wait();
    if !descendants.is_empty() {
        let _ = Command::new("kill")
            .arg("-KILL")
            .args(descendants.iter().map(u32::to_string))
            .stderr(Stdio::null())
            .status();
    }
}

/// Every process below `root`, from /proc.
fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut pending = vec![root];
    while let Some(pid) = pending.pop() {
        for &child in children.get(&pid).into_iter().flatten() {
            found.push(child);
            pending.push(child);
        }
    }
    found
}

/// The parent's id: the second field after the command name, which may itself hold spaces.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
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
        let pid: u32 = grandchild.expect("the script prints the grandchild's id");
        let gone = |pid| {
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        };
        let deadline = Instant::now() + LONG;
        while !gone(pid) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(gone(pid), "process {pid} is still running");
    }
}
