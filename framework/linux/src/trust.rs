//! Whose domain files this user loads: the public keys in `sumac/trusted-keys` of the user's configuration
//! (`$XDG_CONFIG_HOME`, or `~/.config`), one a line; lines that begin with `#` are notes.
//!
//! `cargo xtask domains` adds the development key that it makes there; other keys are added by hand.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sumac_runtime::load::{Key, TrustedKeys};

/// Why there are no trusted keys.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Neither variable that says where configuration lies is set.
    #[error("no place for trusted keys: set HOME or XDG_CONFIG_HOME")]
    NoFolder,
    /// The file cannot be read.
    #[error("{}: {error}; it holds the public keys of those whose domains are loaded, one a line (`cargo xtask domains` makes it)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A line is no key.
    #[error("{}:{line}: no public key: 64 hexadecimal digits make one", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The line, from one.
        line: usize,
    },
}

/// The keys this user trusts.
///
/// # Errors
/// [`TrustError`] where the file is missing or malformed.
pub fn trusted_keys() -> Result<TrustedKeys, TrustError> {
    read(&path()?)
}

/// Where the trusted keys are.
///
/// # Errors
/// [`TrustError::NoFolder`].
pub fn path() -> Result<PathBuf, TrustError> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CONFIG_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".config")))
        .map(|config| config.join("sumac").join("trusted-keys"))
        .ok_or(TrustError::NoFolder)
}

fn read(path: &Path) -> Result<TrustedKeys, TrustError> {
    let text = fs::read_to_string(path).map_err(|error| TrustError::Read {
        path: path.to_owned(),
        error,
    })?;
    let told = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    told.map(|(at, line)| {
        Key::from_hex(line).ok_or_else(|| TrustError::Key {
            path: path.to_owned(),
            line: at + 1,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_keys_are_read_and_mistakes_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("trusted-keys");
        let (one, two) = ("01".repeat(32), "ab".repeat(32));
        fs::write(&path, format!("# mine\n{one}\n\n  {two}  \n")).expect("a file");
        let keys = read(&path).expect("two keys");
        assert!(keys.contains(Key([1; 32])) && keys.contains(Key([0xab; 32])));
        assert!(!keys.contains(Key([2; 32])));
        fs::write(&path, format!("{one}\n{}\n", &two[1..])).expect("a file");
        let error = read(&path).expect_err("a digit is missing").to_string();
        assert!(error.contains("trusted-keys:2: no public key"), "{error}");
        let none = read(&folder.path().join("none")).expect_err("no file");
        assert!(none.to_string().contains("cargo xtask domains"), "{none}");
    }
}
