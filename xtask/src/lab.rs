//! `cargo xtask lab`: QEMU guests for what needs a PCI bus, an IOMMU or somebody else's driver.
//!
//! The machinery and the tests are the crate `lab`; here is only which of its commands runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Subcommand;
use sumac_lab::{Image, Lab, Machine};

use crate::report::{self, Outcome, Report};
use crate::workspace::cargo;

/// All guests together, and building the programs they run.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// What to do with the lab.
///
/// Guests run under QEMU's own processor, so that no virtualisation of the hardware's is needed. QEMU (10.1 or
/// later), a Debian kernel and some programs are downloaded by apt from the mirror this machine uses, and unpacked
/// into target/lab; nothing is installed. Consoles of guests are kept in target/lab/logs.
#[derive(Subcommand)]
#[command(
    after_help = "SUMAC_QEMU=PROGRAM takes another QEMU, SUMAC_LAB_KERNEL=FILE another kernel, with all that a test asks for built \
        in. SUMAC_LAB_SHOW=1 shows consoles as they are written."
)]
pub enum What {
    /// Fetch QEMU, a guest kernel and programs, and tell their versions.
    Fetch,
    /// Build a guest kernel with iommufd, which none of Debian's has: tests that need one are skipped without.
    Kernel,
    /// List the tests.
    List,
    /// Run the tests of a file, or those whose names contain a word, showing the guests' consoles; without a word, all of
    /// them.
    Run {
        /// The file of tests (doctor, ixgbe, l2fwd, machine, testpmd), or part of a test's name.
        test: Option<String>,
    },
    /// Boot a guest and talk to its shell; `exit` ends it.
    #[command(
        after_help = "Example, a software card behind the IOMMU, to bind and to drive:\n  \
            target/release/sumac serve 82599 --socket /tmp/card --wire gen &\n  \
            cargo xtask lab shell --vfio-user /tmp/card --program target/release/sumac"
    )]
    Shell {
        /// Memory in MiB.
        #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(256..=65_536))]
        memory: u32,
        /// The socket of a vfio-user device to plug in; may be given more than once.
        #[arg(long, value_name = "SOCKET", value_parser = there)]
        vfio_user: Vec<PathBuf>,
        /// A program of this machine to take along, with the libraries it needs; may be given more than once.
        #[arg(long, value_name = "FILE", value_parser = there)]
        program: Vec<PathBuf>,
    },
}

/// The path of something that is there.
fn there(path: &str) -> Result<PathBuf, String> {
    let found = Path::new(path).metadata();
    found.map_err(|error| error.to_string())?;
    Ok(path.into())
}

/// Does it; true if it went well.
pub fn run(what: &What) -> bool {
    match what {
        What::Fetch => fetch(),
        What::Kernel => kernel(),
        What::List => list(),
        What::Run { test } => {
            let mut report = Report::new(1);
            report.step("lab", "QEMU guests", || {
                tests(Some(test.as_deref()), report::tests)
            });
            report.finish()
        }
        What::Shell {
            memory,
            vfio_user,
            program,
        } => shell(*memory, vfio_user, program),
    }
}

/// The lab's tests as a step, by one of [`report`]'s ways to run tests: `filter` as for [`What::Run`], or all of them
/// quietly.
///
/// One at a time: a guest and the process that serves its device fill two cores.
pub fn tests(filter: Option<Option<&str>>, run: fn(&mut Command, Duration) -> Outcome) -> Outcome {
    let word = filter.flatten();
    let file = word.filter(|word| is_file_of_tests(word));
    let mut test = cargo(["test", "--package", "sumac-lab", "--no-fail-fast"]);
    test.args(["--test", file.unwrap_or("*")]);
    test.args(word.filter(|_| file.is_none()));
    test.args(["--", "--test-threads=1"]);
    if filter.is_some() {
        test.arg("--nocapture").env("SUMAC_LAB_SHOW", "1");
    }
    run(&mut test, LIMIT)
}

/// Whether the lab has a file of tests, or a folder of them, of this name.
fn is_file_of_tests(word: &str) -> bool {
    let tests = Path::new("lab/tests");
    tests.join(word).join("main.rs").is_file() || tests.join(format!("{word}.rs")).is_file()
}

fn fetch() -> bool {
    let fetched = sumac_lab::fetch().and_then(|()| sumac_lab::packages());
    match fetched {
        Ok(packages) => {
            print!("{packages}");
            println!("in {}", sumac_lab::folder().display());
            true
        }
        Err(error) => {
            eprintln!("xtask: {error}");
            false
        }
    }
}

fn kernel() -> bool {
    match sumac_lab::kernel::build() {
        Ok(image) => {
            println!("{}", image.display());
            true
        }
        Err(error) => {
            eprintln!("xtask: {error}");
            false
        }
    }
}

/// Each test by its name.
fn list() -> bool {
    let mut list = cargo(["test", "--quiet", "--package", "sumac-lab", "--test", "*"]);
    list.args(["--", "--list", "--format", "terse"]);
    let listed = list.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let Ok(listed) = listed else {
        return false;
    };
    let text = String::from_utf8_lossy(&listed.stdout);
    let name = |line| str::strip_suffix(line, ": test").unwrap_or(line);
    report::list(text.lines().map(name));
    listed.status.success()
}

fn shell(memory: u32, sockets: &[PathBuf], programs: &[PathBuf]) -> bool {
    let Some(lab) = Lab::open("shell") else {
        return false;
    };
    let mut image = Image::new(&lab);
    image.modules(&["vfio-pci", "vfio_iommu_type1", "uio_pci_generic", "ixgbe"]);
    image.tools(&["ethtool", "iperf3", "ip", "dpdk-testpmd"]);
    for program in programs {
        image.program(&sumac_lab::Program::at(program));
    }
    image.script("stty sane; setsid cttyhack sh");
    let mut machine = Machine::new();
    machine.memory_mib(memory).iommu(48);
    for socket in sockets {
        let slot = machine.vfio_user(socket);
        println!("{} is {}", socket.display(), slot.address);
    }
    println!("control-a x stops the guest, control-a c talks to QEMU");
    match machine.attend(&lab, &image) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("xtask: {error}");
            false
        }
    }
}
