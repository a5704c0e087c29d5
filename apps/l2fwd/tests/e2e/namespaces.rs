//! Two network namespaces joined by nothing but `l2fwd` over two tap interfaces.
//!
//! The kernels' TCP/IP on both sides judge what is forwarded. Each tap gets the address l2fwd
//! rewrites destinations to (02:00:00:00:00:port), so that rewritten frames are accepted there.
//! Names hold the process id and a counter, so that runs side by side do not meet. Invariant: a
//! [`Lab`] that is dropped has stopped l2fwd and removed both namespaces.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

use crate::program::{PATIENCE, Report, Running, first_enough, is_root, skip};

/// How long nothing happens between two pings; longer where those were not slept through.
const DOZES: [Duration; 3] = [
    Duration::from_micros(300),
    Duration::from_millis(3),
    Duration::from_millis(30),
];

/// Times an end asks who has an address, a second apart, before it gives up on it.
const ASKED: &str = "60";

const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2)];

/// Why no lab can be built here, if so.
fn obstacle() -> Option<&'static str> {
    let runs = |program: &str| Command::new(program).arg("-V").output().is_ok();
    if !is_root() {
        Some("needs root, to make network namespaces")
    } else if !Path::new("/dev/net/tun").exists() {
        Some("needs /dev/net/tun")
    } else if !runs("ip") {
        Some("needs `ip`: apt-get install iproute2")
    } else if !runs("ping") {
        Some("needs `ping`: apt-get install iputils-ping")
    } else {
        None
    }
}

/// Runs a test in a lab, or skips it with the reason. Returns the run's report, whose books balance.
fn in_lab(test: &str, mtu: u32, options: &[&str], body: impl FnOnce(&Lab)) -> Option<Report> {
    if let Some(reason) = obstacle() {
        skip(test, reason);
        return None;
    }
    // Each lab keeps a core busy and its neighbours waiting: one at a time.
    static ONE_LAB: Mutex<()> = Mutex::new(());
    let _only = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::build(mtu, options);
    body(&lab);
    let report = lab.stop();
    report.assert_books_balance();
    Some(report)
}

/// One end: a namespace and the tap interface in it.
struct End {
    namespace: String,
    tap: String,
}

impl End {
    /// A command run inside.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    fn pings(&self) -> Pings {
        let read = || fs::read_to_string("/proc/thread-self/net/snmp");
        let snmp = self.inside(read).join().expect("it reads a file");
        let snmp = snmp.expect("every namespace has it");
        let counter = |name| icmp_counter(&snmp, name).unwrap_or_else(|| panic!("{name}: {snmp}"));
        Pings {
            asked: counter("OutEchos"),
            answered: counter("InEchoReps"),
        }
    }

    /// Runs `work` on a thread inside.
    fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = Path::new("/run/netns").join(&self.namespace);
        thread::spawn(move || {
            let namespace = File::open(&path).expect("the namespace was made by this test");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            work()
        })
    }
}

/// What an end's kernel has counted of pings.
struct Pings {
    asked: u64,
    answered: u64,
}

/// A counter of ICMP in the words of `/proc/net/snmp`: a line of names, then one of numbers.
fn icmp_counter(snmp: &str, name: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let column = names.split(' ').position(|other| other == name)?;
    numbers.split(' ').nth(column)?.parse().ok()
}

/// Both ends, and l2fwd between them.
struct Lab {
    ends: [End; 2],
    l2fwd: Option<Running>,
}

impl Lab {
    fn build(mtu: u32, options: &[&str]) -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        // At most 15 characters: st + side + up to 7 digits of the process id + number.
        let ends = ["a", "b"].map(|side| End {
            namespace: format!("sumac-{pid}-{number}{side}"),
            tap: format!("st{side}{pid}-{number}"),
        });
        let mut l2fwd = Running::start(
            ends.iter()
                .map(|end| format!("sim:tap={}", end.tap))
                .chain(["--json".to_owned(), format!("--mtu={mtu}")])
                .chain(options.iter().map(|&option| option.to_owned())),
        );
        for end in &ends {
            let interface = Path::new("/sys/class/net").join(&end.tap);
            l2fwd.wait_for("tap interface", || interface.exists());
        }
        let lab = Self {
            ends,
            l2fwd: Some(l2fwd),
        };
        for (port, (end, address)) in lab.ends.iter().zip(ADDRESSES).enumerate() {
            let End { namespace, tap } = end;
            ip(&["netns", "add", namespace]);
            ip(&["link", "set", tap, "netns", namespace]);
            let inside = |arguments: &[&str]| ip(&[&["-n", namespace], arguments].concat());
            let (hardware, mtu) = (format!("02:00:00:00:00:{port:02x}"), mtu.to_string());
            inside(&["link", "set", tap, "address", &hardware, "mtu", &mtu]);
            inside(&["address", "add", &format!("{address}/24"), "dev", tap]);
            inside(&["link", "set", tap, "up"]);
            let asked = ["mcast_probes", ASKED, "ucast_probes", ASKED];
            let table = ["ntable", "change", "name", "arp_cache", "dev", tap];
            inside(&[&table[..], &asked].concat());
        }
        lab
    }

    /// Pings from the first end to the second; every request must be answered. The kernel counts that: `ping` takes
    /// for lost what is answered later than two round trips after its last request.
    fn ping(&self, arguments: &[&str]) {
        let before = self.ends[0].pings();
        let far = ADDRESSES[1].to_string();
        let mut ping = self.ends[0].command("ping");
        let output = ping.args(["-q", "-n"]).args(arguments).arg(far).output();
        let output = output.expect("`ping` is there");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.ends[0].pings();
            let (asked, answered) = (now.asked - before.asked, now.answered - before.answered);
            if asked > 0 && answered == asked {
                return;
            }
            assert!(
                asked > 0 && Instant::now() < deadline,
                "{answered} of {asked} pings answered: {}",
                shown(&output)
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Twenty large pings, each sent when the one before is answered: `ping` has room for two such answers
    /// only, and loses the others when it has to wait for a processor.
    fn ping_in_turn(&self, arguments: &[&str]) {
        let one = [&["-c", "1", "-W", "30"], arguments].concat();
        (0..20).for_each(|_| self.ping(&one));
    }

    /// Sends so many single frames to the second end and has each back before the next, which it sends when everybody
    /// has gone to sleep.
    fn ping_in_sleep(&self, pings: u64, doze: Duration) {
        let bind = |end: usize| {
            let address = SocketAddrV4::new(ADDRESSES[end], 7);
            let bound = self.ends[end].inside(move || UdpSocket::bind(address));
            let socket = bound.join().expect("it binds").expect("the port is free");
            (socket.set_read_timeout(Some(PATIENCE))).expect("a timeout");
            (socket, address)
        };
        let ((near, _), (far, address)) = (bind(0), bind(1));
        let echo = thread::spawn(move || {
            for _ in 0..pings {
                let (bytes, from) = far.recv_from(&mut [0; 16]).expect("a ping");
                far.send_to(&[0; 16][..bytes], from).expect("it is sent");
            }
        });
        for ping in 0..pings {
            near.send_to(&[0; 8], address).expect("it is sent");
            near.recv(&mut [0; 16])
                .unwrap_or_else(|e| panic!("ping {ping}: {e}"));
            thread::sleep(doze);
        }
        echo.join().expect("it answers");
    }

    /// Sends `bytes` over TCP from one end to the other and compares the digests of both.
    fn transfer(&self, from: usize, to: usize, bytes: u64) {
        let address = ADDRESSES[to];
        let (port_known, port) = std::sync::mpsc::channel();
        let receiver = self.ends[to].inside(move || {
            let listener = TcpListener::bind(SocketAddrV4::new(address, 0)).expect("a free port");
            let local = listener.local_addr().expect("it is bound");
            port_known.send(local).expect("the test waits for it");
            let (stream, _) = listener.accept().expect("the other end connects");
            receive(stream)
        });
        let server = port.recv_timeout(PATIENCE).expect("the listener is bound");
        let sender = self.ends[from].inside(move || {
            let stream = TcpStream::connect_timeout(&server, PATIENCE).expect("forwarded");
            send(stream, bytes)
        });
        let sent = sender.join().expect("all bytes were sent");
        let received = receiver.join().expect("all bytes were received");
        assert_eq!(sent, received, "bytes and digest, sent and received");
        assert_eq!(sent.0, bytes);
    }

    /// Stops l2fwd as a user would and returns its report.
    fn stop(mut self) -> Report {
        let mut l2fwd = self.l2fwd.take().expect("it runs until now");
        l2fwd.signal(Signal::SIGINT);
        l2fwd.finish().report()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.l2fwd = None;
        for End { namespace, .. } in &self.ends {
            // The interfaces go with l2fwd. A namespace that was never made is no concern here.
            let _ = Command::new("ip")
                .args(["netns", "delete", namespace])
                .output();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("`ip` is there");
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        shown(&output)
    );
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A number from the environment, or the usual one.
fn asked(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| {
        (text.parse()).unwrap_or_else(|e| panic!("{variable}={text}: {e}"))
    })
}

/// How much each TCP test sends, in bytes; `SUMAC_TRANSFER_MIB` sets it, in MiB.
fn transfer_size() -> u64 {
    asked("SUMAC_TRANSFER_MIB", 64) << 20
}

/// Writes a reproducible stream that repeats only after 2^64 words; returns its length and digest.
fn send(mut stream: TcpStream, bytes: u64) -> (u64, u64) {
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a nonzero time");
    let (mut digest, mut state, mut left) = (DefaultHasher::new(), 0_u64, bytes);
    let mut block = vec![0; 64 * 1024];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            word.copy_from_slice(&state.wrapping_mul(state | 1).to_le_bytes());
        }
        let now = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        stream
            .write_all(&block[..now])
            .expect("the connection holds");
        digest.write(&block[..now]);
        left -= now as u64;
    }
    stream
        .shutdown(Shutdown::Write)
        .expect("the connection holds");
    // Keeps the socket until the other end has read everything and closed.
    let end = io::copy(&mut stream, &mut io::sink()).expect("the other end closes");
    assert_eq!(end, 0);
    (bytes, digest.finish())
}

/// Reads to the end of the stream; returns its length and digest.
fn receive(mut stream: TcpStream) -> (u64, u64) {
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a nonzero time");
    let (mut digest, mut bytes) = (DefaultHasher::new(), 0);
    // Digests depend on how the stream is cut into writes: both sides hash whole blocks.
    let mut block = Vec::with_capacity(64 * 1024);
    loop {
        block.clear();
        let read = (&mut stream).take(64 * 1024).read_to_end(&mut block);
        let read = read.expect("the connection holds");
        if read == 0 {
            return (bytes, digest.finish());
        }
        digest.write(&block);
        bytes += read as u64;
    }
}

#[test]
fn test_ping_and_flood() {
    in_lab("test_ping_and_flood", 1500, &[], |lab| {
        lab.ping(&["-c", "5", "-i", "0.05"]);
        lab.ping(&["-f", "-c", "20000"]);
    });
}

/// A frame that were slept through would be answered after the longest sleep, and counted. `SUMAC_PINGS` says how many
/// there are.
#[test]
fn test_no_ping_is_slept_through() {
    let pings = asked("SUMAC_PINGS", 2_000);
    for application in ["linked", "domain", "shadow"] {
        for isolation in ["driver", "shadow"] {
            let options = [
                "--interrupt",
                "--application",
                application,
                "--isolation",
                isolation,
            ];
            let with = |doze| {
                let lab = |lab: &Lab| lab.ping_in_sleep(pings, doze);
                let report = in_lab("test_no_ping_is_slept_through", 1500, &options, lab)?;
                assert_eq!(report.count("/sleeps/overslept"), 0, "{:#}", report.0);
                Some(report)
            };
            // There and back; on a busy machine most are not slept through.
            let slept = |report: &Report| report.count("/sleeps/slept") > pings / 20;
            let enough = |report: &Option<Report>| report.as_ref().is_none_or(slept);
            let Some(report) = first_enough(DOZES, with, enough) else {
                return;
            };
            let sleeps = &report.0["sleeps"];
            println!("{application}, {isolation}: {pings} pings, {sleeps}");
        }
    }
}

#[test]
fn test_largest_pings_without_fragments() {
    in_lab("test_largest_pings_without_fragments", 9000, &[], |lab| {
        for size in ["18", "1472", "4000", "8972"] {
            lab.ping_in_turn(&["-M", "do", "-s", size]);
        }
    });
}

#[test]
fn test_fragmented_pings() {
    in_lab("test_fragmented_pings", 1500, &[], |lab| {
        lab.ping_in_turn(&["-s", "60000"]);
    });
}

#[test]
fn test_tcp_at_mtu_1500() {
    in_lab("test_tcp_at_mtu_1500", 1500, &[], |lab| {
        lab.transfer(0, 1, transfer_size());
        lab.transfer(1, 0, transfer_size() / 4);
    });
}

#[test]
fn test_tcp_at_mtu_9000() {
    in_lab("test_tcp_at_mtu_9000", 9000, &[], |lab| {
        lab.transfer(0, 1, transfer_size());
        lab.transfer(1, 0, transfer_size() / 4);
    });
}

#[test]
fn test_tcp_at_batch_1() {
    in_lab("test_tcp_at_batch_1", 1500, &["--batch", "1"], |lab| {
        lab.transfer(0, 1, transfer_size() / 4);
    });
}
