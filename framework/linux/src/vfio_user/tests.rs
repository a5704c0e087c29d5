//! The client against a server that answers, and then does not: scripted here, since no server of ours misbehaves.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sumac_device::{DeviceControl, DmaSpace};
use sumac_devices::vfio_user::message::irq;
use sumac_testbed::Register;

use self::server::{Misdeed, Script, Seen, serve};
use super::connection::Limits;
use super::*;
use crate::dma::LinuxDma;
use crate::interrupts::{Bell, Interrupts};

mod server;
mod stopped;

/// Far longer than anybody takes who answers.
const LONG: Limits = limits(120_000);
/// How long is waited for whom the test has say nothing.
const SHORT: Limits = limits(100);

const fn limits(milliseconds: u64) -> Limits {
    let limit = Duration::from_millis(milliseconds);
    Limits {
        answer: limit,
        stopped: limit,
    }
}

/// A connection over which an answer may take so long, what serves it, and what that saw.
fn connect_for(
    limits: Limits,
    script: Script,
) -> (
    Result<ServedDevice, VfioUserError>,
    JoinHandle<()>,
    Arc<Mutex<Seen>>,
) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (thread, seen) = serve(theirs, script);
    let device = ServedDevice::over(ours, "x.sock".as_ref(), limits);
    (device, thread, seen)
}

fn connect(
    script: Script,
) -> (
    Result<ServedDevice, VfioUserError>,
    JoinHandle<()>,
    Arc<Mutex<Seen>>,
) {
    connect_for(LONG, script)
}

#[test]
fn registers_are_mapped_where_offered_and_asked_for_elsewhere() {
    let (device, thread, seen) = connect(Script::default());
    let device = device.unwrap();
    let backing = device.backing(Arc::new(LinuxDma::new(vec![device.reach()])));
    assert_eq!((backing.id.vendor, backing.id.device), (0x8086, 0x10fb));
    let before = seen.lock().unwrap().messages;
    backing.bar.write(Register(0x4018), 7);
    backing.bar.doorbell(Register(0x401c)).ring(8);
    assert_eq!(
        (
            backing.bar.read(Register(0x4018)),
            backing.bar.read(Register(0x401c))
        ),
        (7, 8)
    );
    assert_eq!(seen.lock().unwrap().messages, before);
    backing.bar.write(Register(0x10), 9);
    backing.bar.doorbell(Register(0x14)).ring(10);
    assert_eq!(
        (
            backing.bar.read(Register(0x10)),
            backing.bar.read(Register(0x18))
        ),
        (9, 0)
    );
    assert_eq!(
        seen.lock().unwrap().registers,
        BTreeMap::from([(0x10, 9), (0x14, 10)])
    );
    drop((device, backing));
    thread.join().unwrap();
}

#[test]
fn a_file_that_could_be_shortened_is_not_mapped() {
    let script = Script {
        sealed: false,
        ..Script::default()
    };
    let (device, thread, seen) = connect(script);
    let device = device.unwrap();
    let backing = device.backing(Arc::new(LinuxDma::new(vec![device.reach()])));
    backing.bar.doorbell(Register(0x4018)).ring(7);
    assert_eq!(
        seen.lock().unwrap().registers,
        BTreeMap::from([(0x4018, 7)])
    );
    drop((device, backing));
    thread.join().unwrap();
}

#[test]
fn the_server_gets_the_memory_and_loses_it_again() {
    use std::os::unix::fs::FileExt;
    let (device, thread, seen) = connect(Script::default());
    let device = device.unwrap();
    let dma = LinuxDma::new(vec![device.reach()]);
    let memory = dma.allocate(4 << 20, 64).unwrap();
    let iova = memory.iova().to_bits();
    memory.cell(3).unwrap().store(0x55, Ordering::Relaxed);
    let mut byte = [0];
    let file = seen.lock().unwrap().mapped[&iova].try_clone().unwrap();
    file.read_exact_at(&mut byte, 24).unwrap();
    assert_eq!(byte, [0x55]);
    drop(memory);
    assert!(seen.lock().unwrap().mapped.is_empty());
    assert!(device.stop());
    device.start();
    drop((device, dma));
    thread.join().unwrap();
}

#[test]
fn vectors_ring_bells_however_few_descriptors_the_server_takes() {
    for (max_fds, messages) in [(1, 5), (3, 2), (1000, 1)] {
        let script = Script {
            max_fds,
            ..Script::default()
        };
        let (device, thread, seen) = connect(script);
        let device = device.unwrap();
        assert_eq!(device.vectors().unwrap(), 64);
        let bells: Vec<_> = (0..5).map(|_| Arc::new(Bell::new().unwrap())).collect();
        device.connect(&bells).unwrap();
        let events = std::mem::take(&mut seen.lock().unwrap().events);
        assert_eq!(events.len(), messages);
        let mut next = 0;
        for (set, fds) in events {
            assert_eq!(
                (set.index, set.start, set.count as usize),
                (irq::MSIX, next, fds.len())
            );
            next += set.count;
            for fd in fds {
                nix::unistd::write(&fd, &1_u64.to_ne_bytes()).unwrap();
            }
        }
        assert!(bells.iter().all(|bell| bell.wait(Duration::from_secs(60))));
        device.connect(&[]).unwrap();
        assert_eq!(
            seen.lock().unwrap().events[0].0.flags,
            irq::DATA_NONE | irq::TRIGGER
        );
        drop(device);
        thread.join().unwrap();
    }
}

#[test]
fn a_server_may_do_anything_at_any_message() {
    use Misdeed::*;
    let all = [
        HangUp,
        Silence,
        Trickle,
        OtherQuestion,
        TooShort,
        TooLong,
        Nonsense,
        Questions,
        Refusal,
    ];
    let whole = {
        let (device, thread, seen) = connect(Script::default());
        drop(device.unwrap());
        thread.join().unwrap();
        seen.lock().unwrap().messages
    };
    assert!(whole > 8, "{whole}");
    for misdeed in all {
        for when in 0..whole {
            let start = Instant::now();
            let script = Script {
                misdeed: Some((when, misdeed)),
                ..Script::default()
            };
            let limits = match misdeed {
                Silence | Trickle => SHORT,
                _ => LONG,
            };
            let (device, thread, _) = connect_for(limits, script);
            match device.map(drop) {
                Err(error) => {
                    let error = error.to_string();
                    let is_line = error.starts_with("vfio-user:x.sock: ") && !error.contains('\n');
                    assert!(is_line, "{error}");
                }
                // A reset that fails is made up for; the answer to a write says nothing.
                Ok(()) => assert!(
                    [Refusal, Nonsense].contains(&misdeed),
                    "{misdeed:?} at {when}"
                ),
            }
            assert!(start.elapsed() < LONG.answer, "{misdeed:?} at {when}");
            thread.join().unwrap();
        }
    }
}

/// What becomes of memory hangs on it: a server that says nothing may yet wake and write.
#[test]
fn only_a_server_that_is_gone_has_stopped_without_saying_so() {
    let (device, thread, seen) = connect(Script::default());
    let device = device.unwrap();
    let opened = seen.lock().unwrap().messages;
    assert!(device.stop());
    drop(device);
    thread.join().unwrap();
    for (misdeed, stopped) in [
        (Misdeed::HangUp, true),
        (Misdeed::Silence, false),
        (Misdeed::OtherQuestion, false),
    ] {
        let script = Script {
            misdeed: Some((opened, misdeed)),
            ..Script::default()
        };
        let (device, thread, _) = connect(script);
        let device = device.unwrap();
        if misdeed == Misdeed::Silence {
            device.set_limits_for_test(SHORT);
        }
        assert_eq!(device.stop(), stopped, "{misdeed:?}");
        assert_eq!(device.stop(), stopped, "{misdeed:?} asked again");
        assert!(!device.is_there());
        drop(device);
        thread.join().unwrap();
    }
}

#[test]
fn after_its_server_is_gone_a_device_reads_as_all_ones() {
    let (device, thread, seen) = connect(Script::default());
    let device = device.unwrap();
    let dma = LinuxDma::new(vec![device.reach()]);
    let memory = dma.allocate(2 << 20, 64).unwrap();
    let backing = device.backing(Arc::new(dma.clone()));
    drop(thread);
    {
        let open = device.socket_for_test();
        open.shutdown(std::net::Shutdown::Both).unwrap();
    }
    assert_eq!(backing.bar.read(Register(0x10)), u32::MAX);
    backing.bar.write(Register(0x10), 1);
    assert!(!device.is_there());
    assert!(dma.allocate(2 << 20, 64).is_err());
    assert!(device.stop());
    drop(memory);
    assert!(!seen.lock().unwrap().registers.contains_key(&0x10));
}

#[test]
fn what_cannot_be_connected_to_says_why() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("s.sock");
    let refusal = |path: &std::path::Path| ServedDevice::connect(path).err().unwrap().to_string();
    assert!(refusal(&path).contains("no such socket; start its server first"));
    let left = UnixListener::bind(&path).unwrap();
    // Not only closed: a process that another test starts just now has it open as well for a moment.
    nix::sys::socket::shutdown(left.as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
    drop(left);
    assert!(refusal(&path).contains("nobody serves it any more"));
    let long = folder.path().join("x".repeat(120));
    assert!(refusal(&long).contains("at most 107 bytes"));
    // A server that is busy with somebody else leaves us waiting.
    let busy = folder.path().join("busy.sock");
    let _listener = UnixListener::bind(&busy).unwrap();
    let stream = UnixStream::connect(&busy).unwrap();
    let unanswered = ServedDevice::over(stream, &busy, SHORT).err().unwrap();
    let unanswered = unanswered.to_string();
    assert!(unanswered.contains("serves somebody else already"));
    // One that does not even take connections has room for one, and then for no more.
    let hangs = folder.path().join("hangs.sock");
    let listener = UnixListener::bind(&hangs).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _first = UnixStream::connect(&hangs).unwrap();
    assert!(refusal(&hangs).contains("takes no connections"));
    let script = |version| Script {
        version,
        ..Script::default()
    };
    for version in [(0, 1), (1, 0)] {
        let error = connect(script(version)).0.err().unwrap().to_string();
        let (major, minor) = version;
        assert!(
            error.contains(&format!("speaks version {major}.{minor}")),
            "{error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever is in an answer, the device opens, or one line says why not.
    #[test]
    fn any_answer_opens_or_is_refused(when in 0_usize..20, body in proptest::collection::vec(any::<u8>(), 0..120)) {
        let script = Script {
            misdeed: Some((when, Misdeed::Body)),
            body,
            ..Script::default()
        };
        let (device, thread, _) = connect(script);
        if let Err(error) = device.map(drop) {
            let error = error.to_string();
            prop_assert!(error.starts_with("vfio-user:x.sock: ") && !error.contains('\n'), "{}", error);
        }
        thread.join().unwrap();
    }
}
