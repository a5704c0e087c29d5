//! A guest that runs.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::console::Console;
use crate::error::LabError;
use crate::image::Image;
use crate::machine::Machine;
use crate::process::mortal;
use crate::qmp::Monitor;
use crate::tools::{self, Lab};

/// What `init.sh` writes before the exit code.
const SENTINEL: &str = "lab: exit code ";
const POLL: Duration = Duration::from_millis(20);

/// A running guest: stopped when dropped, and with the thread that started it. Its console is kept in `target/lab/logs`.
pub struct Guest {
    qemu: Child,
    input: Option<ChildStdin>,
    console: Console,
    /// What QEMU itself says, and which parts of lines are expected there.
    said: Console,
    expected: Vec<&'static str>,
    name: String,
    start: Instant,
    limit: Duration,
    /// Image and monitor's socket.
    folder: TempDir,
}

/// How a guest ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code of the test's script; `None` when the guest stopped without one.
    pub code: Option<u8>,
    /// All that was written to the console.
    pub text: String,
    /// All that QEMU itself said.
    pub said: String,
    /// From boot to end.
    pub elapsed: Duration,
    name: String,
    why: Option<String>,
}

/// QEMU's command for a machine with its kernel and image, which lies in the folder.
fn prepare(lab: &Lab, image: &Image, machine: &Machine) -> Result<(Command, TempDir), LabError> {
    let folder = tempfile::tempdir().map_err(LabError::file("a temporary folder"))?;
    let initrd = folder.path().join("initrd");
    fs::write(&initrd, image.archive()?).map_err(LabError::file(&initrd))?;
    let mut command = machine.qemu();
    command.arg("-kernel").arg(lab.kernel()?);
    command.arg("-initrd").arg(&initrd);
    if lab.has_own_kernel() {
        // The kernel built here has no hot plug by ACPI, only PCIe's own.
        command.args([
            "-global",
            "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
        ]);
    }
    Ok((mortal(&command), folder))
}

/// Runs a guest on this terminal until it ends.
pub(crate) fn attend(lab: &Lab, image: &Image, machine: &Machine) -> Result<(), LabError> {
    let (mut command, _folder) = prepare(lab, image, machine)?;
    command.args(["-serial", "mon:stdio"]);
    let status = command
        .status()
        .map_err(LabError::file("setpriv, which starts QEMU"))?;
    match status.success() {
        true => Ok(()),
        false => Err(LabError::Program {
            program: "QEMU".to_owned(),
            said: status.to_string(),
        }),
    }
}

impl Guest {
    pub(crate) fn boot(lab: &Lab, image: &Image, machine: &Machine) -> Result<Self, LabError> {
        let (mut command, folder) = prepare(lab, image, machine)?;
        let monitor = format!(
            "unix:{},server=on,wait=off",
            folder.path().join("qmp").display()
        );
        command.args(["-qmp", &monitor, "-serial", "stdio"]);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut qemu = command
            .spawn()
            .map_err(LabError::file("setpriv, which starts QEMU"))?;
        let console = Console::default();
        if let Some(stdout) = qemu.stdout.take() {
            console.take(stdout);
        }
        let said = Console::default();
        if let Some(stderr) = qemu.stderr.take() {
            said.take(stderr);
        }
        Ok(Self {
            input: qemu.stdin.take(),
            qemu,
            console,
            said,
            expected: machine.expected().to_vec(),
            name: numbered(lab.test()),
            start,
            limit: machine.time_limit(),
            folder,
        })
    }

    /// QEMU's process id.
    pub fn id(&self) -> u32 {
        self.qemu.id()
    }

    /// Everything on the console so far.
    pub fn text(&self) -> String {
        self.console.text()
    }

    /// Waits for a text on the console, after that of the last call.
    ///
    /// # Panics
    /// With the console, when the guest ends or its time is over before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        if !self.console.wait_for(text, self.start + self.limit) {
            let ended = self.end(false);
            panic!("{}: no {text:?} on the console{}", self.name, ended.shown());
        }
    }

    /// Writes a line to the script's standard input.
    ///
    /// # Panics
    /// When the guest is gone.
    #[track_caller]
    pub fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("open until the guest ends");
        let sent = writeln!(input, "{line}").and_then(|()| input.flush());
        assert!(
            sent.is_ok(),
            "{}: gone:\n{}",
            self.name,
            self.console.text()
        );
    }

    /// A connection to the machine's monitor; one at a time.
    ///
    /// # Panics
    /// When QEMU is gone.
    #[track_caller]
    pub fn monitor(&self) -> Monitor {
        let socket = self.folder.path().join("qmp");
        Monitor::connect(&socket).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Waits for the guest's end; past its limit it is stopped.
    ///
    /// # Panics
    /// When QEMU said what it was not expected to, such as that a device's server refused what it asked for.
    #[track_caller]
    pub fn finish(mut self) -> Ended {
        let ended = self.end(true);
        let complaints = complaints(&ended.said, &self.expected);
        assert!(
            complaints.is_empty(),
            "{}: QEMU said {complaints:#?}{}",
            self.name,
            ended.shown()
        );
        ended
    }

    /// Ends the guest, waiting first if told to.
    fn end(&mut self, wait: bool) -> Ended {
        let deadline = self.start + self.limit;
        let ended = wait && self.wait_until(deadline);
        if !ended {
            let _ = self.qemu.kill();
        }
        let status = self.qemu.wait();
        for stream in [&self.console, &self.said] {
            stream.wait_for_end(Instant::now() + Duration::from_secs(10));
        }
        let elapsed = self.start.elapsed();
        let (text, said) = (self.console.text(), self.said.text());
        let code = exit_code(&text);
        let why = match (ended, code) {
            (true, Some(_)) => None,
            (false, _) if !wait => Some("stopped".to_owned()),
            (false, _) => Some(format!("stopped after its limit of {:?}", self.limit)),
            (true, None) => Some(format!("QEMU ended with {status:?}, the script did not")),
        };
        let name = self.name.clone();
        keep(&name, &format!("{text}{said}"));
        Ended {
            code: code.filter(|_| why.is_none()),
            text,
            said,
            elapsed,
            name,
            why,
        }
    }

    /// Whether it ends by itself; looked at once more after the deadline, for nobody may have looked for a while.
    fn wait_until(&mut self, deadline: Instant) -> bool {
        loop {
            let in_time = Instant::now() < deadline;
            if !matches!(self.qemu.try_wait(), Ok(None)) {
                return true;
            }
            if !in_time {
                return false;
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Ended {
    /// Asserts the exit code of the guest's script.
    ///
    /// # Panics
    /// With the console, when it is another or there is none.
    #[track_caller]
    pub fn assert_code(&self, expected: u8) -> &Self {
        let as_expected = self.code == Some(expected);
        assert!(
            as_expected,
            "{}: exit code {:?} and not {expected}{}",
            self.name,
            self.code,
            self.shown()
        );
        self
    }

    /// The rest of the first line that starts with this, after white space.
    pub fn value(&self, key: &str) -> Option<&str> {
        let mut lines = self.text.lines();
        lines
            .find_map(|line| line.trim_start().strip_prefix(key))
            .map(str::trim)
    }

    fn shown(&self) -> String {
        let why = self.why.as_deref().map(|why| format!(" ({why})"));
        let (why, text, said) = (why.unwrap_or_default(), &self.text, &self.said);
        format!("{why}; its console:\n{text}QEMU:\n{said}")
    }
}

/// Lines that are neither warnings nor expected.
fn complaints<'a>(said: &'a str, expected: &[&str]) -> Vec<&'a str> {
    said.lines()
        .filter(|line| !line.contains(": warning: "))
        .filter(|line| !expected.iter().any(|part| line.contains(part)))
        .collect()
}

/// The exit code on the console's last line that has one.
fn exit_code(text: &str) -> Option<u8> {
    text.lines()
        .rev()
        .find_map(|line| line.strip_prefix(SENTINEL))
        .and_then(|code| code.trim().parse().ok())
}

/// The test's name for its first guest in this process, and with a number for others.
fn numbered(test: &str) -> String {
    static GUESTS: AtomicU32 = AtomicU32::new(0);
    format!("{test}-{}", GUESTS.fetch_add(1, Ordering::Relaxed))
}

/// Keeps a console for whoever looks later; a full disk is no reason to fail a test.
fn keep(name: &str, text: &str) {
    let logs: PathBuf = tools::folder().join("logs");
    let _ =
        fs::create_dir_all(&logs).and_then(|()| fs::write(logs.join(format!("{name}.log")), text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_what_is_not_expected_of_qemu_is_noticed() {
        let said = "qemu-system-x86_64: warning: nic device1 has no peer\n\
            qemu-system-x86_64: vtd_iova_to_sspte: detected sspte permission error\n\
            vfio_user_wait_reqs - error reply on async request: command 3 error Invalid argument\n";
        let found = complaints(said, &["vtd_iova_to_sspte"]);
        assert_eq!(found, said.lines().skip(2).collect::<Vec<_>>());
        assert_eq!(complaints(said, &[]).len(), 2);
    }

    #[test]
    fn test_exit_code_is_the_sentinels() {
        assert_eq!(exit_code("boot\nlab: exit code 0\n"), Some(0));
        assert_eq!(exit_code("lab: exit code 0\nlab: exit code 7\nx"), Some(7));
        assert_eq!(exit_code("echo lab: exit code 0\n"), None);
        assert_eq!(exit_code("lab: exit code 300"), None);
    }
}
