//! `sumac serve` as a user runs it.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use sumac_devices::vfio_user::Socket;
use sumac_devices::vfio_user::message::{
    Capabilities, Command as Ask, Header, RegionAccess, SetIrqs, Version, flag, irq,
};

/// Far longer than anything here takes: a bound on hanging, not on speed.
const PATIENCE: Duration = Duration::from_secs(60);

fn sumac(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sumac"));
    command.args(["serve", "82599"]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server that has said for each port that it listens.
fn serve(socket: &Path, ports: usize, more: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let (socket, count) = (socket.display().to_string(), ports.to_string());
    let mut arguments = vec!["--socket", &socket, "--ports", &count];
    arguments.extend(more);
    let mut child = sumac(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..ports {
        let line = next_line(&mut lines);
        if !line.starts_with("serving an 82599 at ") {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("it said {line:?} and {output:?}");
        }
    }
    (child, lines)
}

/// What it says next: nothing if it ended, or says nothing for too long.
fn next_line(lines: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    if lines.buffer().is_empty() {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let mut pipe = [PollFd::new(lines.get_ref(), PollFlags::IN)];
        if poll(&mut pipe, Some(&patience)).unwrap() == 0 {
            return line;
        }
    }
    lines.read_line(&mut line).unwrap();
    line
}

/// Tells a server to end; says how it did.
fn end(child: &mut Child) -> Option<i32> {
    let id = i32::try_from(child.id()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    panic!("it does not end");
}

/// The same, and what it said.
fn terminate(mut child: Child, mut lines: impl Read) -> (Option<i32>, String) {
    let code = end(&mut child);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    (code, rest)
}

fn ask(socket: &Socket, command: Ask, body: &[u8]) -> Header {
    socket
        .send(&Header::request(1, command, body.len()), body, &[])
        .unwrap();
    socket
        .receive(&mut Vec::new())
        .unwrap()
        .expect("an answer")
        .header
}

fn greet(path: &Path) -> Socket {
    let socket = Socket::from(UnixStream::connect(path).unwrap());
    socket.set_timeout(PATIENCE).unwrap();
    let mut body = Vec::new();
    Version { major: 0, minor: 0 }.put(&mut body);
    Capabilities::OURS.put(&mut body);
    assert_eq!(ask(&socket, Ask::Version, &body).refused(), None);
    socket
}

#[test]
fn ports_have_a_socket_each_that_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (child, lines) = serve(&folder.path().join("nic"), 2, &["--wire", "peer=a"]);
    let sockets = ["nic.0", "nic.1"].map(|name| folder.path().join(name));
    drop(greet(&sockets[0]));
    let _second = greet(&sockets[1]);
    let (code, text) = terminate(child, lines);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("port 1: 1 clients; 0 frames to the driver, 0 from it"),
        "{text}"
    );
    assert!(sockets.iter().all(|socket| !socket.exists()));
}

/// Writes to the eventfd that a client has given and filled would wait for good, once it has cleared its O_NONBLOCK.
#[test]
fn a_client_that_fills_its_eventfd_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _lines) = serve(&folder.path().join("nic"), 2, &["--wire", "gen"]);
    let [bad, good] = ["nic.0", "nic.1"].map(|name| greet(&folder.path().join(name)));
    let event = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    let mut body = Vec::new();
    SetIrqs {
        argsz: SetIrqs::SIZE as u32,
        flags: irq::DATA_EVENTFD | irq::TRIGGER,
        index: irq::MSIX,
        start: 3,
        count: 1,
    }
    .put(&mut body);
    let assign = Header::request(1, Ask::SetIrqs, body.len());
    bad.send(&assign, &body, &[event.as_fd()]).unwrap();
    let answer = bad.receive(&mut Vec::new()).unwrap().unwrap().header;
    assert_eq!(answer.refused(), None);
    rustix::fs::fcntl_setfl(&event, rustix::fs::OFlags::empty()).unwrap();
    rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    // GPIE.Multiple_MSIX, EIMS(1) and EICS(1) for vector 3.
    for (register, value) in [(0x898, 1 << 4), (0xAA0, 1 << 3), (0xA90, 1 << 3)] {
        let body = register_write(register, value);
        let header = Header {
            flags: flag::NO_REPLY,
            ..Header::request(2, Ask::RegionWrite, body.len())
        };
        bad.send(&header, &body, &[]).unwrap();
    }
    for client in [&bad, &good] {
        let body = register_write(0x898, 0);
        assert_eq!(ask(client, Ask::RegionWrite, &body).refused(), None);
    }
    assert_eq!(end(&mut child), Some(0));
    let mut count = [0; 8];
    rustix::io::read(&event, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), u64::MAX, "it was told");
}

fn register_write(register: u64, value: u32) -> Vec<u8> {
    let mut body = Vec::new();
    RegionAccess {
        offset: register,
        region: 0,
        count: 4,
    }
    .put(&mut body);
    body.extend_from_slice(&value.to_le_bytes());
    body
}

#[test]
fn a_broken_rule_is_told_and_counts_when_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nic");
    for (more, code) in [(&["--strict"][..], 1), (&[], 0)] {
        let (child, lines) = serve(&path, 1, more);
        let client = greet(&path);
        // RXCTRL, of which only the lowest bits mean something.
        let body = register_write(0x3000, 0x100);
        assert_eq!(ask(&client, Ask::RegionWrite, &body).refused(), None);
        let (ended, text) = terminate(child, lines);
        assert_eq!(ended, Some(code), "{text}");
        assert!(
            text.contains("port 0: 1 violations, reserved-bit 1"),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_served_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nic");
    let nic = path.display().to_string();
    let notes = folder.path().join("notes.txt").display().to_string();
    std::fs::write(&notes, "mine").unwrap();
    let missing = folder.path().join("no/nic").display().to_string();
    let (child, lines) = serve(&path, 1, &[]);
    for (arguments, said) in [
        (
            &["--socket", &nic][..],
            "another process serves a device there",
        ),
        (&["--socket", &notes], "something that is no socket"),
        (
            &["--socket", &missing],
            "give a --socket in a directory you may write to",
        ),
        (&["--socket", &nic, "--wire", "nonsense=1"], "nonsense"),
        (
            &[
                "--socket", &nic, "--ports", "3", "--wire", "null", "--wire", "null",
            ],
            "once for each port",
        ),
        (&["--socket", &nic, "--ports", "9"], "--ports"),
    ] {
        let output = sumac(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(
            text.contains(said) && text.lines().count() == 1,
            "{arguments:?}: {text}"
        );
    }
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "mine");
    assert_eq!(terminate(child, lines).0, Some(0));
}
