//! Lets a hostile process talk vfio-user to a served 82599.
//!
//! Input: pieces of `fds command flags length body`, sent as messages with a proper header, and `255 length
//! bytes`, sent as they are. The wire has frames for a device that is set up. Invariants: the session ends when the
//! client has left, nothing it has lent can be reached then, and the next client finds the device as at power-on.
#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sumac_devices::ixgbe::{Identity, Polled};
use sumac_devices::vfio_user::message::{Capabilities, Command, DmaMap, Header, Version};
use sumac_devices::vfio_user::{Function, Served82599, Socket, TAILS, session};
use sumac_devices::wire::{GenOptions, GenWire, Rate};

static DEVICE: LazyLock<Served82599> = LazyLock::new(|| {
    let options = GenOptions {
        rate: Rate::Max,
        ..GenOptions::default()
    };
    let wire = GenWire::new(&options).expect("a generator of these options");
    Served82599::new(Identity::default(), wire.into()).expect("memory and addresses")
});

/// What a client may lend (the device's own registers are sealed memory like any other), have rung, or send by mistake.
static FILES: LazyLock<[OwnedFd; 3]> = LazyLock::new(|| {
    let tails = DEVICE.region(TAILS).and_then(|region| region.mappable);
    let (cells, _) = tails.expect("there to be mapped");
    let null = std::fs::File::open("/dev/null").expect("always there");
    let cells = cells.try_clone_to_owned();
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty());
    [
        cells.expect("another descriptor"),
        null.into(),
        event.expect("an eventfd"),
    ]
});

fuzz_target!(|bytes: &[u8]| {
    let device = &*DEVICE;
    let mut lent = Vec::new();
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    std::thread::scope(|scope| {
        let session = scope.spawn(move || session::serve(device, theirs));
        // Answers are not looked at, but somebody has to take them.
        let mut answers = ours.try_clone().expect("another descriptor");
        scope.spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
        let socket = Socket::from(ours);
        greet(&socket);
        let mut rest = bytes;
        while let Some(after) = piece(&socket, rest, &mut lent) {
            rest = after;
            device.poll(0);
        }
        // A session that has ended already has closed its side.
        let _ = socket.stream().shutdown(Shutdown::Write);
        session.join().expect("sessions do not panic");
        let _ = socket.stream().shutdown(Shutdown::Both);
    });
    let access = device.memory().access();
    for address in lent {
        assert!(access.source(address, 1).is_none(), "{address:#x} is still lent");
    }
    drop(access);
    let mut ids = [0; 6];
    device.read(7, 0, &mut ids).expect("configuration space");
    assert_eq!(ids, [0x86, 0x80, 0xFB, 0x10, 0, 0], "as at power-on");
});

fn greet(socket: &Socket) {
    let mut body = Vec::new();
    Version { major: 0, minor: 0 }.put(&mut body);
    Capabilities::OURS.put(&mut body);
    let header = Header::request(0, Command::Version, body.len());
    socket
        .send(&header, &body, &[])
        .expect("room for the first message");
}

/// Sends one piece and returns what follows it; `None` at the end, or if nobody listens any more. Where it may lend
/// memory goes into `lent`.
fn piece<'a>(socket: &Socket, bytes: &'a [u8], lent: &mut Vec<u64>) -> Option<&'a [u8]> {
    let (&kind, rest) = bytes.split_first()?;
    if kind == 255 {
        let (&len, rest) = rest.split_first()?;
        let (raw, rest) = rest.split_at_checked(len.into())?;
        socket.stream().write_all(raw).ok()?;
        return Some(rest);
    }
    let [command, flags, len, rest @ ..] = rest else {
        return None;
    };
    let (body, rest) = rest.split_at_checked((*len).into())?;
    let header = Header {
        command: u16::from(*command),
        flags: u32::from(*flags) & 0x33,
        ..Header::request(1, Command::Version, body.len())
    };
    lent.extend(DmaMap::parse(body).map(|map| map.address));
    let [file, null, event] = &*FILES;
    let fds = [file.as_fd(), null.as_fd(), event.as_fd(), event.as_fd()];
    let fds = match kind & 7 {
        0 => &fds[..0],
        1 => &fds[..1],
        2 => &fds[1..2],
        3 => &fds[2..3],
        4 => &fds[2..],
        _ => &fds[..3],
    };
    socket.send(&header, body, fds).ok()?;
    Some(rest)
}
