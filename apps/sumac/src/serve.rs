//! `sumac serve`: software devices for other processes.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sumac_devices::ixgbe::{Counter, DeviceThread};
use sumac_devices::vfio_user::{ListenError, Listener, ServeError, Served82599, SessionReport};
use sumac_linux::cores::{CoreError, CoreList};
use sumac_linux::signals::Stop;
use sumac_linux::spec::{DeviceSpec, SpecError};
use sumac_linux::{OpenError, open};

use crate::output;

/// Between two looks at the counters.
const SECOND: Duration = Duration::from_secs(1);

/// What is served, and where.
#[derive(Debug, Args)]
#[command(after_help = "\
Several ports get a socket each: PATH.0, PATH.1 and so on; PATH itself if there is one port. A client that\n\
leaves may come back; a second at the same time is refused. Ends at Ctrl-C or SIGTERM and removes the sockets.\n\n\
For QEMU (10.1 or later), whose memory must be shared:\n  \
  qemu-system-x86_64 -m 1G -machine q35,memory-backend=m \\\n    \
    -object memory-backend-memfd,id=m,size=1G,share=on \\\n    \
    -device '{\"driver\":\"vfio-user-pci\",\"socket\":{\"type\":\"unix\",\"path\":\"/tmp/nic.sock\"}}' ...\n\n\
Exit status: 0; 1 if a rule of the datasheet was broken and --strict is given, or a wire failed; 2 if it could\n\
not start.")]
pub struct ServeOptions {
    /// The socket clients connect to.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// What is plugged into the port, and what it is, as in a device spec `sim:SPEC`: `tap=tap0`, `gen,rate=1mpps`,
    /// `peer=a` (twice: two ports joined), `id=10f7,mac=02:00:00:00:00:01,null`,
    /// `gen,gone=5s,back=8s` (registers that read as all ones for a while). Once for all ports, or
    /// once for each.
    #[arg(long, value_name = "SPEC", default_value = "null")]
    wire: Vec<String>,
    /// How many ports, 1 to 8.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    ports: u8,
    /// Do not offer MSI-X, only MSI and the pin: for cards to be unplugged with `device_del`, in which QEMU (up to
    /// 11.1) aborts if they have it.
    #[arg(long)]
    without_msix: bool,
    /// Exit with 1 if the driver broke a rule of the datasheet.
    #[arg(long)]
    strict: bool,
    /// The processor core that polls the ports.
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,
    /// No line of counters.
    #[arg(long)]
    quiet: bool,
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Neither one wire nor one for each port.
    #[error("{ports} ports and {wires} times --wire: give it once, or once for each port")]
    Wires {
        /// Ports asked for.
        ports: u8,
        /// Wires given.
        wires: usize,
    },
    /// A wire that means nothing.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A wire that cannot be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No device.
    #[error(transparent)]
    Device(#[from] ServeError),
    /// No socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A core that there is not.
    #[error("--core: {0}")]
    Core(#[from] CoreError),
    /// No thread, no signal handler.
    #[error("cannot serve: {0}")]
    System(#[from] io::Error),
}

/// A port and its socket.
struct Port {
    device: Served82599,
    listener: Listener,
}

/// Serves until a signal comes. `false`: something was not as it should be.
///
/// # Errors
/// [`Refused`], before anything is served.
pub fn serve(options: &ServeOptions) -> Result<bool, Refused> {
    let specs = specs(options)?;
    if let Some(core) = options.core {
        CoreList::from(core).check_usable()?;
    }
    let mut ports = Vec::new();
    for (number, (identity, wire)) in open::sockets(&specs)?.into_iter().enumerate() {
        let path = socket_path(&options.socket, number, options.ports);
        ports.push(Port {
            device: if options.without_msix {
                Served82599::without_msix(identity, wire)?
            } else {
                Served82599::new(identity, wire)?
            },
            listener: Listener::bind(&path)?,
        });
    }
    let stop = Stop::install()?;
    let devices: Vec<_> = ports.iter().map(|port| port.device.clone()).collect();
    let thread = DeviceThread::spawn(&devices, options.core)?;
    let pulling = open::pull(&specs, &devices)?;
    for port in &ports {
        say(&format!(
            "serving an 82599 at {}",
            port.listener.path().display()
        ));
    }
    let served = std::thread::scope(|scope| {
        let run = |port: &Port| {
            let ended = |report, end| say_end(port, report, end);
            let result = port.listener.run(&port.device, &ended);
            if result.is_err() {
                stop.request();
            }
            result
        };
        let threads: Vec<_> = ports
            .iter()
            .map(|port| scope.spawn(move || run(port)))
            .collect();
        watch(&ports, &thread, stop, options.quiet);
        ports.iter().for_each(|port| port.listener.stop());
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("it has panicked")))
        })
    });
    drop(pulling);
    let polled = thread.is_alive();
    drop(thread);
    Ok(sum_up(&ports, options.strict) && polled && said(served))
}

/// A device spec for each port.
fn specs(options: &ServeOptions) -> Result<Vec<DeviceSpec>, Refused> {
    let ports = usize::from(options.ports);
    let wires = &options.wire;
    if wires.len() != 1 && wires.len() != ports {
        return Err(Refused::Wires {
            ports: options.ports,
            wires: wires.len(),
        });
    }
    (0..ports)
        .map(|port| {
            let wire = &wires[port % wires.len()];
            let spec = if wire.is_empty() {
                "sim".to_owned()
            } else {
                format!("sim:{wire}")
            };
            Ok(spec.parse()?)
        })
        .collect()
}

fn socket_path(path: &Path, number: usize, ports: u8) -> PathBuf {
    if ports == 1 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Waits for the end, with a line of counters for people.
fn watch(ports: &[Port], thread: &DeviceThread, stop: Stop, quiet: bool) {
    let live = !quiet && io::stderr().is_terminal();
    while thread.is_alive() && !stop.wait(SECOND) {
        if live {
            let mut line = String::new();
            for (number, port) in ports.iter().enumerate() {
                line_of(&mut line, number, port);
            }
            // A terminal that is gone is no failure.
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
        }
    }
    if live {
        output::tell("");
    }
}

/// A line on standard output. Serving goes on whether it can be written or not; `false` if a full disk took it.
fn say(line: &str) -> bool {
    let printed = output::print(&format!("{line}\n"));
    printed.map_err(|trouble| crate::fail(&trouble)).is_ok()
}

fn line_of(line: &mut String, number: usize, port: &Port) {
    let totals = port.device.totals();
    let client = if port.listener.is_connected() {
        ""
    } else {
        " (no client)"
    };
    let separator = if number == 0 { "" } else { " | " };
    // Writing to a string does not fail.
    let _ = write!(
        line,
        "{separator}port {number}{client}: rx {}, tx {}, missed {}, violations {}",
        totals.get(Counter::DmaReceived),
        totals.get(Counter::GoodTransmitted),
        totals.get(Counter::Missed),
        port.device.violations().total(),
    );
}

/// A client has left.
fn say_end(port: &Port, report: SessionReport, end: io::Result<()>) {
    let path = port.listener.path().display();
    let SessionReport {
        messages,
        refused,
        unsealed,
    } = report;
    let how = match end {
        Ok(()) => String::new(),
        Err(error) => format!(", {error}"),
    };
    say(&format!(
        "{path}: client left after {messages} messages, {refused} refused{how}"
    ));
    if unsealed > 0 {
        say(&format!(
            "{path}: the client's memory could become shorter under the device and was refused; with QEMU, \
             take memory-backend-memfd, which seals it"
        ));
    }
}

/// The account of every port; `false` if something was not as it should be.
fn sum_up(ports: &[Port], strict: bool) -> bool {
    let mut good = true;
    for (number, port) in ports.iter().enumerate() {
        port.device.finish();
        let (wire, violations) = (port.device.wire_report(), port.device.violations());
        good &= say(&format!(
            "port {number}: {} clients; {} frames to the driver, {} from it",
            port.listener.clients(),
            wire.to_device_frames,
            wire.from_device_frames,
        ));
        if wire.passed_by > 0 {
            good &= say(&format!(
                "port {number}: {} frames came while it did not receive",
                wire.passed_by
            ));
        }
        good &= say(&format!("port {number}: {violations}"));
        let totals = port.device.totals();
        let counted = counters(|counter| totals.get(counter));
        good &= say(&format!("port {number}: counters{counted}"));
        let unread = counters(|counter| totals.unread(counter));
        if !unread.is_empty() {
            good &= say(&format!("port {number}: cleared unread{unread}"));
        }
        good &= violations.total() == 0 || !strict;
        if let Some(failure) = wire.failure {
            output::tell(&format!("port {number}: {failure}"));
            good = false;
        }
    }
    good
}

/// Of each counter so much, by the datasheet's names; what is zero is left out.
fn counters(of: impl Fn(Counter) -> u64) -> String {
    let named = Counter::ALL
        .iter()
        .map(|&counter| (counter.name(), of(counter)));
    named
        .filter(|&(_, count)| count != 0)
        .map(|(name, count)| format!(" {name}={count}"))
        .collect()
}

fn said(result: io::Result<()>) -> bool {
    if let Err(error) = &result {
        output::tell(&format!("sumac: serving ended: {error}"));
    }
    result.is_ok()
}
