//! Cards that another process serves: `sumac serve`, over vfio-user.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::frames::{mixed, read_pcap, write_pcap};
use crate::program::{Finished, L2FWD, Running, run};

/// `sumac`, built as `l2fwd` is.
fn sumac() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = Path::new(L2FWD).with_file_name("sumac");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "sumac"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().expect("cargo runs").success());
        program
    })
}

/// The flag of a socket that listens, `__SO_ACCEPTCON`, as `/proc/net/unix` has it.
const ACCEPTS_CONNECTIONS: &str = "00010000";

/// The sockets at a path.
struct Sockets {
    listening: bool,
    connections: usize,
}

impl Sockets {
    /// What the kernel knows of them: the file alone is there before it can be connected to.
    fn at(path: &Path) -> Self {
        let path = path.display().to_string();
        let table = fs::read_to_string("/proc/net/unix").expect("a list of sockets");
        let ours = (table.lines()).filter(|line| line.ends_with(&path));
        let (listening, others): (Vec<_>, Vec<_>) = ours.partition(|line| {
            let flags = line.split_whitespace().nth(3);
            flags == Some(ACCEPTS_CONNECTIONS)
        });
        Self {
            listening: !listening.is_empty(),
            connections: others.len(),
        }
    }
}

/// A server, ended when dropped.
struct Server {
    process: Running,
    folder: TempDir,
    ports: usize,
}

impl Server {
    /// Serves a card for each of these wires; `FOLDER` in them is the server's folder.
    #[track_caller]
    fn start(folder: TempDir, wires: &[&str]) -> Self {
        let mut server = Self {
            process: Self::spawn(&folder, wires),
            folder,
            ports: wires.len(),
        };
        server.wait_for_sockets();
        server
    }

    /// Kills it, and starts another in its place.
    #[track_caller]
    fn replace(&mut self, wires: &[&str]) {
        self.kill();
        self.process = Self::spawn(&self.folder, wires);
        self.wait_for_sockets();
    }

    #[track_caller]
    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.process.finish();
    }

    fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    fn spawn(folder: &TempDir, wires: &[&str]) -> Running {
        let socket = folder.path().join("card");
        let mut command = Command::new(sumac());
        command.args(["serve", "82599", "--strict", "--quiet", "--ports"]);
        command
            .arg(wires.len().to_string())
            .arg("--socket")
            .arg(&socket);
        for wire in wires {
            let wire = wire.replace("FOLDER", &folder.path().display().to_string());
            command.arg("--wire").arg(wire);
        }
        Running::spawn(&mut command)
    }

    #[track_caller]
    fn wait_for_sockets(&mut self) {
        let sockets: Vec<_> = (0..self.ports).map(|port| self.socket(port)).collect();
        self.process.wait_for("sockets that listen", || {
            sockets.iter().all(|socket| Sockets::at(socket).listening)
        });
    }

    fn socket(&self, port: usize) -> PathBuf {
        match self.ports {
            1 => self.folder.path().join("card"),
            _ => self.folder.path().join(format!("card.{port}")),
        }
    }

    /// The card as l2fwd takes it.
    fn spec(&self, port: usize) -> String {
        format!("vfio-user:{}", self.socket(port).display())
    }

    /// Ends it; no rule of the datasheet was broken, or the test fails. Returns what it wrote to this file.
    #[track_caller]
    fn finish(mut self, file: &str) -> Vec<Vec<u8>> {
        self.end();
        read_pcap(&self.folder.path().join(file))
    }

    /// Ends it; no rule of the datasheet was broken, or the test fails.
    #[track_caller]
    fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        let finished = self.process.finish();
        assert!(finished.status.success(), "{finished:?}");
    }
}

/// Two cards: the first receives these frames, the second writes what it sends into `out`.
fn pair(frames: &[Vec<u8>]) -> Server {
    let folder = TempDir::new().expect("a temporary folder");
    write_pcap(&folder.path().join("in"), frames);
    Server::start(folder, &["pcap=FOLDER/in", "out=FOLDER/out"])
}

#[track_caller]
fn assert_one_line(finished: &Finished, code: i32, named: &[&str]) {
    let Finished { status, stderr, .. } = finished;
    assert_eq!(status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    for name in named {
        assert!(stderr.contains(name), "{name} is not named in: {stderr}");
    }
}

#[test]
fn test_served_cards_forward_byte_for_byte() {
    let frames: Vec<_> = std::iter::repeat_with(mixed).take(10).flatten().collect();
    for options in [
        &["--isolation", "driver"][..],
        &["--isolation", "driver", "--interrupt"],
        &["--isolation", "domain"],
        &["--isolation", "domain", "--interrupt"],
        &["--isolation", "shadow", "--interrupt"],
        &["--application", "domain", "--interrupt"],
        &["--application", "shadow", "--interrupt"],
    ] {
        let server = pair(&frames);
        let (count, devices) = (frames.len().to_string(), [server.spec(0), server.spec(1)]);
        let usual = [
            "--json",
            "--no-mac-updating",
            "--frames",
            &count,
            "--duration",
            "100s",
        ];
        let words = usual.iter().chain(options).map(|word| (*word).to_owned());
        let report = run(words.chain(devices)).report();
        assert_eq!(report.count("/pool/free"), report.count("/pool/total"));
        assert!(server.finish("out") == frames, "{options:?}: frames differ");
    }
}

#[test]
fn test_several_queues_of_served_cards() {
    let folder = TempDir::new().expect("a temporary folder");
    // As fast as they are taken: of frames at a rate some are lost whenever nobody takes any for a while.
    let wires = ["gen,rate=max,flows=64,frames=2000", "out=FOLDER/out"];
    let server = Server::start(folder, &wires);
    let usual = [
        "--json",
        "--queues",
        "4",
        "--frames",
        "2000",
        "--duration",
        "100s",
    ];
    let words = usual.map(str::to_owned).into_iter();
    let report = run(words.chain([server.spec(0), server.spec(1)])).report();
    assert_eq!(report.count("/pool/free"), report.count("/pool/total"));
    assert_eq!(server.finish("out").len(), 2000);
}

#[test]
fn test_served_and_software_cards_share_a_pool() {
    let frames = mixed();
    let server = pair(&frames);
    let input = format!("sim:pcap={}", server.folder.path().join("in").display());
    let usual = [
        "--json",
        "--no-mac-updating",
        "--duration",
        "100s",
        "--isolation",
        "driver",
    ];
    let words = usual.map(str::to_owned).into_iter();
    run(words.chain([input, server.spec(1)])).report();
    assert!(server.finish("out") == frames, "frames differ");
}

#[test]
fn test_a_server_killed_in_traffic_ends_the_run_with_one_line() {
    for isolation in ["driver", "domain"] {
        let folder = TempDir::new().expect("a temporary folder");
        let mut server = Server::start(folder, &["gen", "gen"]);
        let devices = [server.spec(0), server.spec(1)];
        let dump = server.folder.path().join("forwarded");
        let dumped = dump.display().to_string();
        let words = ["--json", "--isolation", isolation, "--pcap-dump", &dumped].map(str::to_owned);
        let mut running = Running::start(words.into_iter().chain(devices));
        running.wait_for("frame forwarded", || {
            fs::metadata(&dump).is_ok_and(|file| file.len() > 4096)
        });
        server.kill();
        let finished = running.finish();
        assert_one_line(&finished, 1, &[&server.spec(0), "gone"]);
    }
}

/// How often the table said last that drivers were started again.
fn restarts_shown(running: &Running) -> u64 {
    let said = running.said();
    let mut lines = said.lines().rev();
    let restarts = lines.find_map(|line| line.split_once(" restarts, ")?.0.parse().ok());
    restarts.unwrap_or(0)
}

/// A server that a debugger stops, and a machine that is paused as a whole, are gone on with.
#[test]
fn test_forwarding_goes_on_after_a_standstill() {
    // Longer than an answer may take, and than a transmit queue may stand still.
    const STANDSTILL: Duration = Duration::from_secs(7);
    let wires = ["gen,rate=10000pps", "gen,rate=10000pps"];
    let mut server = Server::start(TempDir::new().expect("a temporary folder"), &wires);
    let dump = server.folder.path().join("forwarded");
    let forwarded = || fs::metadata(&dump).map_or(0, |file| file.len());
    let dumped = dump.display().to_string();
    let ports = [server.spec(0), server.spec(1)];
    let options = ["--json", "--pcap-dump", &dumped].map(str::to_owned);
    let mut running = Running::start(options.into_iter().chain(ports));
    for all in [false, true] {
        let before = forwarded();
        running.wait_for("frame forwarded", || forwarded() > before + 4096);
        server.signal(Signal::SIGSTOP);
        if all {
            running.signal(Signal::SIGSTOP);
        }
        thread::sleep(STANDSTILL);
        if all {
            running.signal(Signal::SIGCONT);
        }
        server.signal(Signal::SIGCONT);
    }
    let before = forwarded();
    running.wait_for("frame forwarded", || forwarded() > before + 4096);
    running.signal(Signal::SIGINT);
    let finished = running.finish();
    let waited = finished.stderr.matches("is stopped").count();
    assert!(waited > 0, "{}", finished.stderr);
    let report = finished.report();
    for port in 0..2 {
        assert!(!report.is_removed(port));
    }
    assert_eq!(report.count("/pool/free"), report.count("/pool/total"));
    server.end();
}

/// The other pair goes on without the server that is killed, though its drivers die too and want memory that
/// devices reach.
#[test]
fn test_other_ports_go_on_when_a_server_is_killed() {
    let shadow = ["--isolation", "shadow", "--crash-every", "100ms"];
    for (way, deaths) in [(&["--isolation", "driver"][..], 0), (&shadow, 5)] {
        let folder = TempDir::new().expect("a temporary folder");
        let mut server = Server::start(folder, &["gen,rate=10000pps", "null"]);
        let dump = server.folder.path().join("forwarded");
        let forwarded = || fs::metadata(&dump).map_or(0, |file| file.len());
        let ports = [server.spec(0), server.spec(1)];
        let others = ["sim:rate=10000pps", "sim:null"].map(str::to_owned);
        let options = ["--json", "--pcap-dump", &dump.display().to_string()].map(str::to_owned);
        let shown = ["--stats-interval", "50ms"];
        let way = way.iter().chain(&shown).map(|&word| word.to_owned());
        let words = ports.iter().cloned().chain(others).chain(options);
        let mut running = Running::start(words.chain(way));
        running.wait_for("frame forwarded", || forwarded() > 4096);
        server.kill();
        for card in ["card.0", "card.1"] {
            // Its row of the table.
            running.wait_for_words(&format!("{card}  gone"), 1);
        }
        let (before, restarts) = (forwarded(), restarts_shown(&running));
        running.wait_until("frame forwarded again and restart", |running| {
            forwarded() > before + 4096 && restarts_shown(running) >= restarts + deaths
        });
        running.signal(Signal::SIGINT);
        let finished = running.finish().without_table();
        let report = finished.report_without(&[&ports[0], &ports[1]]);
        let packets = report.count("/ports/3/tx_packets");
        assert!(packets > 0, "{:#}", report.0);
        for port in 0..4 {
            assert_eq!(report.is_removed(port), port < 2, "{:#}", report.0);
        }
        assert_eq!(report.count("/pool/free"), report.count("/pool/total"));
    }
}

#[test]
fn test_a_server_that_comes_back_is_gone_on_with() {
    let wires = ["gen,rate=10000pps", "gen,rate=10000pps"];
    for (isolation, application) in [
        ("driver", "linked"),
        ("domain", "linked"),
        ("shadow", "linked"),
        ("driver", "domain"),
        ("shadow", "shadow"),
    ] {
        let mut server = Server::start(TempDir::new().expect("a temporary folder"), &wires);
        let dump = server.folder.path().join("forwarded");
        let forwarded = || fs::metadata(&dump).map_or(0, |file| file.len());
        let dumped = dump.display().to_string();
        let ports = [server.spec(0), server.spec(1)];
        let options = ["--json", "--wait-for-device", "--isolation", isolation];
        let dumping = ["--application", application, "--pcap-dump", &dumped];
        let options = options.into_iter().chain(dumping).map(str::to_owned);
        let mut running = Running::start(options.chain(ports));
        running.wait_for("frame forwarded", || forwarded() > 4096);
        server.replace(&wires);
        running.wait_for_words(": back", 2);
        let before = forwarded();
        running.wait_for("frame forwarded again", || forwarded() > before + 4096);
        running.signal(Signal::SIGINT);
        let report = running.finish().report();
        for port in 0..2 {
            assert_eq!(report.count(&format!("/ports/{port}/returns")), 1);
            assert!(!report.is_removed(port));
        }
        assert_eq!(report.count("/pool/free"), report.count("/pool/total"));
    }
}

#[test]
fn test_served_cards_that_cannot_be_had() {
    let folder = TempDir::new().expect("a temporary folder");
    let missing = format!("vfio-user:{}/none", folder.path().display());
    assert_one_line(&run([&missing]), 2, &[&missing, "sumac serve"]);
    let text = folder.path().join("text");
    fs::write(&text, "no socket").expect("a file");
    let text = format!("vfio-user:{}", text.display());
    assert_one_line(&run([&text]), 2, &[&text]);

    let server = Server::start(folder, &["null"]);
    let mut first = Running::start(["--isolation", "driver", "--json", &server.spec(0)]);
    first.wait_for("connection", || {
        // Accepted, or in the queue before whoever comes next.
        Sockets::at(&server.socket(0)).connections > 0
    });
    let second = run(["--isolation", "driver", "--json", &server.spec(0)]);
    let named = [&server.spec(0), "serves somebody else already"];
    assert_one_line(&second, 2, &named);
    first.wait_for_handler(Signal::SIGTERM);
    first.signal(Signal::SIGTERM);
    first.finish();
}
