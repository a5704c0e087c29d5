//! DPDK's side: sees that it is installed, builds `peers/dpdk_peer.c`, runs it on the software device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sumac_devices::shared_bar::{HUGE_DIRECTORY, SharedBar};

use crate::control::{ControlPage, Kind, Mode, Order};

/// The program, as it is in the repository.
const SOURCE: &str = include_str!("../peers/dpdk_peer.c");
/// Debian's packages that building and running needs.
const PACKAGES: [&str; 5] = ["dpdk", "dpdk-dev", "libdpdk-dev", "pkg-config", "gcc"];
/// Megabytes of huge pages for DPDK: 8,192 buffers of 2 KiB, rings, and its own bookkeeping.
pub const MEGABYTES: u64 = 128;
/// How long bringing two ports up may take.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What keeps DPDK from running.
#[derive(Debug, thiserror::Error)]
pub enum DpdkError {
    /// It is not there.
    #[error("DPDK is not installed ({missing}): run `apt-get install {}` as root", PACKAGES.join(" "))]
    Missing {
        /// What was looked for.
        missing: &'static str,
    },
    /// A program failed.
    #[error("{what} failed: {reason}")]
    Failed {
        /// What was tried.
        what: String,
        /// What it said.
        reason: String,
    },
    /// It started, but its ports did not come up.
    #[error("DPDK's ports did not come up; see {}", log.display())]
    NotReady {
        /// Where it says why.
        log: PathBuf,
    },
    /// The device side.
    #[error(transparent)]
    Device(#[from] sumac_devices::shared_bar::SharedBarError),
}

/// Which of its code paths DPDK uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CodePath {
    /// SSE; what it chooses by itself.
    Vector,
    /// Plain C; the only one that receives fewer than four packets at a time.
    Scalar,
}

impl CodePath {
    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Scalar => "scalar",
        }
    }
}

fn output(program: &str, arguments: &[&str]) -> Result<String, DpdkError> {
    let what = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| DpdkError::Failed {
        what: what(),
        reason: error.to_string(),
    })?;
    if !output.status.success() {
        return Err(DpdkError::Failed {
            what: what(),
            reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What is missing, if anything.
fn missing() -> Option<&'static str> {
    let fails = |program, arguments: &[&str]| output(program, arguments).is_err();
    if fails("cc", &["--version"]) {
        Some("no C compiler")
    } else if fails("pkg-config", &["--exists", "libdpdk"]) {
        Some("no libdpdk.pc")
    } else {
        None
    }
}

/// Whether `dpdk-testpmd` can be run.
pub fn has_testpmd() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join("dpdk-testpmd").is_file())
}

/// Installs Debian's packages if something is missing. Returns DPDK's version.
///
/// # Errors
/// [`DpdkError::Missing`] when it is not there and cannot be installed.
pub fn install() -> Result<String, DpdkError> {
    if missing().is_some() || !has_testpmd() {
        let mut arguments = vec!["install", "-y", "--no-install-recommends"];
        arguments.extend(PACKAGES);
        let _ = output("apt-get", &["update"]);
        let installed = output("apt-get", &arguments);
        if let Some(missing) = missing() {
            installed.map_err(|_| DpdkError::Missing { missing })?;
            return Err(DpdkError::Missing { missing });
        }
    }
    output("pkg-config", &["--modversion", "libdpdk"])
}

/// Builds the program into `directory`; returns where it is.
///
/// # Errors
/// [`DpdkError::Failed`] with the compiler's words.
pub fn build(directory: &Path) -> Result<PathBuf, DpdkError> {
    let failed = |error: std::io::Error| DpdkError::Failed {
        what: format!("writing to {}", directory.display()),
        reason: error.to_string(),
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let (source, program) = (directory.join("dpdk_peer.c"), directory.join("dpdk_peer"));
    std::fs::write(&source, SOURCE).map_err(failed)?;
    let flags = output("pkg-config", &["--cflags", "--libs", "libdpdk"])?;
    let (source, target) = (source.to_string_lossy(), program.to_string_lossy());
    let mut arguments = vec![
        "-O3",
        "-march=native",
        "-Wall",
        "-Wextra",
        "-rdynamic",
        &*source,
        "-o",
        &*target,
    ];
    arguments.extend(flags.split_whitespace());
    output("cc", &arguments)?;
    Ok(program)
}

/// A running DPDK process with both ports up; killed when dropped.
pub struct Dpdk {
    child: Child,
    page: Arc<ControlPage>,
}

impl Dpdk {
    /// Starts `program` on `bar` and waits until its ports are up. The device must be served
    /// meanwhile. What DPDK says goes to `log`.
    ///
    /// # Errors
    /// [`DpdkError::NotReady`] when the ports do not come up.
    pub fn start(
        program: &Path,
        bar: &SharedBar,
        page: Arc<ControlPage>,
        core: usize,
        path: CodePath,
        log: PathBuf,
    ) -> Result<Self, DpdkError> {
        let failed = |error: std::io::Error| DpdkError::Failed {
            what: format!("writing {}", log.display()),
            reason: error.to_string(),
        };
        let file = File::create(&log).map_err(failed)?;
        let mut command = Command::new(program);
        command.stdin(std::process::Stdio::null());
        command
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file);
        command.args([
            "--lcores",
            &format!("0@{core}"),
            "-m",
            &MEGABYTES.to_string(),
        ]);
        command.args([
            "--huge-dir",
            HUGE_DIRECTORY,
            "--file-prefix",
            "sumac",
            "--no-telemetry",
        ]);
        if path == CodePath::Scalar {
            command.arg("--force-max-simd-bitwidth=64");
        }
        command.arg("--").arg(page.path());
        let child = bar.spawn(&mut command)?;
        let mut dpdk = Self { child, page };
        let start = Instant::now();
        while start.elapsed() < START_TIMEOUT && dpdk.runs() {
            match dpdk.page.ready() {
                Some(true) => return Ok(dpdk),
                Some(false) => break,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        Err(DpdkError::NotReady { log })
    }

    /// Whether the process is still there.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it in good order; waits a second at most before it is killed.
    pub fn quit(mut self) {
        self.page.give(Order {
            mode: Mode::Receive,
            kind: Kind::Quit,
            batch: 1,
            windows: 0,
            window_ticks: 0,
        });
        let start = Instant::now();
        while self.runs() && start.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Dpdk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
