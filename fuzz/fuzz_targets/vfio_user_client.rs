//! Lets a hostile process serve a device to the vfio-user client: a sound server's answers are spoilt on their
//! way.
//!
//! Input: what is done to one answer after another: a number below 128 leaves it as it is, others spoil it (see
//! [`Spoilt::next`]); answers after the end of the input are left alone. Invariants: opening the device and all
//! that is asked of it end, with an error of one line at worst, and the server finds its client gone.
#![no_main]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sumac_devices::ixgbe::{Identity, Polled};
use sumac_devices::vfio_user::message::{Command, Header};
use sumac_devices::vfio_user::{Served82599, Socket, session};
use sumac_devices::wire::NullWire;
use sumac_linux::interrupts::Bell;
use sumac_linux::open::{self, OpenPorts};
use sumac_testbed::Register;
use tempfile::TempDir;

static DEVICE: LazyLock<Served82599> = LazyLock::new(|| {
    Served82599::new(Identity::default(), NullWire::new().into()).expect("memory and addresses")
});

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

static LISTENER: LazyLock<UnixListener> = LazyLock::new(|| {
    UnixListener::bind(FOLDER.path().join("nic")).expect("a socket in a folder of its own")
});

fuzz_target!(|bytes: &[u8]| {
    let listener = &*LISTENER;
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    std::thread::scope(|scope| {
        scope.spawn(move || session::serve(&*DEVICE, theirs));
        scope.spawn(move || {
            let (client, _) = listener.accept().expect("a client");
            between(&client.into(), &ours.into(), bytes);
        });
        let spec = format!("vfio-user:{}", FOLDER.path().join("nic").display());
        match open::open(&[spec.parse().expect("a device")], None) {
            Ok(opened) => use_it(&opened),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    });
});

/// What a driver and its host ask of a device.
fn use_it(opened: &OpenPorts) {
    let port = &opened.ports[0];
    let bar = &port.backing.bar;
    // CTRL, EICR, and the first receive tail.
    for offset in [0, 0x800, 0x1018] {
        let value = bar.read(Register(offset));
        bar.write(Register(offset), value);
    }
    drop(opened.dma.allocate(4096, 4096));
    if let Some(interrupts) = &port.interrupts {
        let _ = interrupts.vectors();
        let bell = Arc::new(Bell::new().expect("a descriptor"));
        let _ = interrupts.connect(&[Arc::clone(&bell), Arc::clone(&bell)]);
        let _ = interrupts.on_removal(&bell);
        let _ = interrupts.connect(&[]);
    }
    // A server may refuse it, or be gone.
    let _ = port.control.stop();
    port.control.start();
}

/// Carries questions to the server and its answers back, until either side leaves.
fn between(client: &Socket, server: &Socket, bytes: &[u8]) {
    let mut spoilt = Spoilt(bytes);
    let mut body = Vec::new();
    while let Ok(Some(question)) = client.receive(&mut body) {
        if !question.header.is_request() {
            // The refusal of what was made a question.
            return;
        }
        let fds: Vec<_> = question.fds.iter().map(AsFd::as_fd).collect();
        if server.send(&question.header, &body, &fds).is_err() {
            return;
        }
        DEVICE.poll(0);
        let Ok(Some(answer)) = server.receive(&mut body) else {
            return;
        };
        if spoilt
            .next(client, answer.header, &mut body, &answer.fds)
            .is_none()
        {
            return;
        }
    }
}

/// The rest of the input.
struct Spoilt<'a>(&'a [u8]);

impl Spoilt<'_> {
    fn byte(&mut self) -> u8 {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken.to_vec()
    }

    /// Sends an answer as the input says; `None` when that is to be, or was, the last.
    fn next(
        &mut self,
        client: &Socket,
        mut header: Header,
        body: &mut Vec<u8>,
        fds: &[OwnedFd],
    ) -> Option<()> {
        let null = File::open("/dev/null").expect("always there");
        let mut fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        match self.byte() {
            ..128 => {}
            kind => match kind % 8 {
                // A byte of the body is another.
                0 => {
                    let (at, change) = (usize::from(self.byte()), self.byte());
                    if let Some(byte) = body.get_mut(at) {
                        *byte ^= change;
                    }
                }
                1 => *body = self.bytes(),
                2 => body.truncate(self.byte().into()),
                3 => body.extend(self.bytes()),
                4 => fds = [null.as_fd(), fds.pop().unwrap_or(null.as_fd())].to_vec(),
                5 => {
                    header.id ^= u16::from(self.byte());
                    header.command ^= u16::from(self.byte());
                    header.flags ^= u32::from(self.byte());
                }
                // The server asks instead, and answers after that.
                6 => {
                    let question = Header::request(header.id, Command::RegionWrite, 0);
                    client.send(&question, &[], &[]).ok()?;
                    client.receive(&mut Vec::new()).ok()?;
                }
                // Bytes that may be no message.
                _ => {
                    client.stream().write_all(&self.bytes()).ok()?;
                    return None;
                }
            },
        }
        header.size = (Header::SIZE + body.len()) as u32;
        client.send(&header, body, &fds).ok()?;
        // For an answer that looks like a question no other comes: the client waits, until this hangs up.
        (!header.is_request()).then_some(())
    }
}
