//! Who runs this program, what that user may do, and how commands are to be written for them.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sumac_linux::pci::Tree;

/// Capabilities, by their bits in `/proc/self/status`.
const DAC_OVERRIDE: u64 = 1 << 1;
const IPC_LOCK: u64 = 1 << 14;

/// The user behind this process.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group, and the others.
    groups: Vec<u32>,
    capabilities: u64,
    /// How many bytes it may lock in memory; `None` for as many as it likes.
    pub lockable: Option<u64>,
    /// How this program was called.
    program: String,
}

impl Caller {
    /// From `/proc/self`. What is not there is the least anybody may do.
    pub fn read(tree: &Tree) -> Self {
        let status = tree.text("proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().split_whitespace()
        };
        let number = |text: &str| text.parse::<u32>().ok();
        let capabilities = field("CapEff:").next();
        let capabilities = capabilities.and_then(|bits| u64::from_str_radix(bits, 16).ok());
        Self {
            uid: field("Uid:").nth(1).and_then(number).unwrap_or(u32::MAX),
            groups: field("Gid:")
                .nth(1)
                .into_iter()
                .chain(field("Groups:"))
                .filter_map(number)
                .collect(),
            capabilities: capabilities.unwrap_or(0),
            lockable: lockable(&tree.text("proc/self/limits").unwrap_or_default()),
            program: program(env::args().next().as_deref()),
        }
    }

    /// The same user, who called this program by that name.
    #[cfg(test)]
    pub fn called(self, program: &str) -> Self {
        let program = program.to_owned();
        Self { program, ..self }
    }

    /// Whether it is root.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether no limit on locked memory holds for it.
    pub fn may_lock_anything(&self) -> bool {
        self.capabilities & IPC_LOCK != 0
    }

    /// Whether it may read and write a file, by the file's owner and mode.
    pub fn may_use(&self, file: &Path) -> bool {
        let Ok(facts) = fs::metadata(file) else {
            return false;
        };
        let bits = if facts.uid() == self.uid {
            facts.mode() >> 6
        } else if self.groups.contains(&facts.gid()) {
            facts.mode() >> 3
        } else {
            facts.mode()
        };
        self.capabilities & DAC_OVERRIDE != 0 || bits & 0o6 == 0o6
    }

    /// A command that takes root.
    pub fn as_root(&self, command: &str) -> String {
        if self.is_root() {
            command.to_owned()
        } else {
            format!("sudo {command}")
        }
    }

    /// A command that makes a file of VFIO's, and the folder that a container lacks as well.
    pub fn make_vfio_file(&self, name: &str, mode: &str, numbers: &str) -> String {
        let folder = self.as_root("mkdir -p /dev/vfio");
        let file = self.as_root(&format!("mknod -m {mode} /dev/vfio/{name} c {numbers}"));
        format!("{folder} && {file}")
    }

    /// A command of this program.
    pub fn sumac(&self, arguments: &str) -> String {
        format!("{} {arguments}", self.program)
    }

    /// A command of this program that takes root.
    pub fn sumac_as_root(&self, arguments: &str) -> String {
        self.as_root(&self.sumac(arguments))
    }

    /// A command that writes a line into a file of root's.
    pub fn write(&self, line: &str, file: &str) -> String {
        if self.is_root() {
            format!("echo {line} > {file}")
        } else {
            format!("echo {line} | sudo tee {file}")
        }
    }
}

/// This program as its user may call it again: by its name if that was found on the search path.
fn program(called: Option<&str>) -> String {
    let plain = |text: &&str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte))
    };
    match called.filter(|text| !text.is_empty()) {
        None => "sumac".to_owned(),
        Some(name) => match plain(&name) {
            true => name.to_owned(),
            false => format!("'{}'", name.replace('\'', r"'\''")),
        },
    }
}

/// The soft limit on locked memory, from `/proc/self/limits`.
fn lockable(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"));
    match line.unwrap_or("0").split_whitespace().next() {
        Some("unlimited") => None,
        bytes => Some(bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(program(Some("target/debug/sumac")), "target/debug/sumac");
        assert_eq!(
            program(Some("/my folder/it's/sumac")),
            r"'/my folder/it'\''s/sumac'"
        );
        assert_eq!(program(None), "sumac");
    }

    #[test]
    fn limits_are_read() {
        let limits = "Limit Soft Limit Hard Limit Units\nMax locked memory         8388608    unlimited   bytes\n";
        assert_eq!(lockable(limits), Some(8 << 20));
        assert_eq!(lockable(&limits.replace("8388608", "unlimited")), None);
        assert_eq!(lockable(""), Some(0));
    }
}
