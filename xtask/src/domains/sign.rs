//! Signing domain files, and the key that does it.
//!
//! A key file holds 64 hexadecimal digits, the seed of an ed25519 key. The development key lies in the
//! user's configuration, never in the repository; it is made on first use and its public half is added to
//! the keys that this user's hosts trust.
//!
//! Invariant: a key file that others may read is not used.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer, SigningKey};
use sumac_domain::file;

/// The development key's file, in the configuration folder.
const KEY: &str = "domain-key";
/// The file of trusted public keys, one a line, in the configuration folder.
const TRUSTED: &str = "trusted-keys";

/// A key to sign with.
pub struct Key(SigningKey);

impl Key {
    /// The key of this file, or the development key.
    ///
    /// # Errors
    /// A file that is missing (only the development key is made), readable by others, or no key.
    pub fn open(file: Option<&Path>) -> Result<Self, String> {
        if let Some(file) = file {
            return Self::read(file);
        }
        let folder = config()?;
        let file = folder.join(KEY);
        if !file.exists() {
            Self::create(&folder, &file)?;
        }
        let key = Self::read(&file)?;
        key.trust(&folder.join(TRUSTED))?;
        Ok(key)
    }

    fn read(path: &Path) -> Result<Self, String> {
        let error = |e: std::io::Error| format!("{}: {e}", path.display());
        let mode = fs::metadata(path).map_err(error)?.mode();
        if mode & 0o077 != 0 {
            return Err(format!(
                "{0}: others may read this key (mode {1:03o}); chmod 600 {0}",
                path.display(),
                mode & 0o777
            ));
        }
        let text = fs::read_to_string(path).map_err(error)?;
        let seed = from_hex(text.trim())
            .ok_or_else(|| format!("{}: no key: 64 hexadecimal digits make one", path.display()))?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// Makes the development key. Two builds at a time may both get here: the first wins.
    fn create(folder: &Path, path: &Path) -> Result<(), String> {
        let mut seed = [0; 32];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut seed))
            .map_err(|e| format!("/dev/urandom: {e}"))?;
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| writeln!(file, "{}", hex(&seed)));
        match written {
            Ok(()) => {
                println!("made a development key: {}", path.display());
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(format!("{}: {e}", path.display())),
        }
    }

    /// Adds the public half to the trusted keys, once.
    fn trust(&self, path: &Path) -> Result<(), String> {
        let known = fs::read_to_string(path).unwrap_or_default();
        let public = self.public();
        if known.lines().any(|line| line.trim() == public) {
            return Ok(());
        }
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| writeln!(file, "# this user's development key\n{public}"))
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// The public half, in hexadecimal digits.
    pub fn public(&self) -> String {
        hex(self.0.verifying_key().as_bytes())
    }

    /// A domain file of an image and its description.
    ///
    /// # Errors
    /// A description of 4 GiB or more.
    pub fn sign(&self, image: &[u8], description: &[u8]) -> Result<Vec<u8>, String> {
        let words = u32::try_from(description.len()).map_err(|_| "description too long")?;
        let public = self.0.verifying_key().to_bytes();
        let mut signed = [image, description].concat();
        signed.extend_from_slice(&file::unsigned_trailer(words, &public));
        let signature = self.0.sign(&signed);
        signed.extend_from_slice(&signature.to_bytes());
        Ok(signed)
    }
}

/// Sumac's folder in the user's configuration.
fn config() -> Result<PathBuf, String> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CONFIG_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".config")))
        .map(|config| config.join("sumac"))
        .ok_or_else(|| "no place for a key: set HOME or XDG_CONFIG_HOME, or use --key".to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> = text
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    });
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("a temporary file");
    }

    #[test]
    fn test_only_private_key_files_are_used() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (good, open, short) = (
            folder.path().join("good"),
            folder.path().join("open"),
            folder.path().join("short"),
        );
        let digits = "0123456789abcdef".repeat(4);
        write(&good, &format!("{digits}\n"), 0o600);
        write(&open, &digits, 0o644);
        write(&short, &digits[1..], 0o600);
        assert_eq!(
            Key::read(&good).map(|key| hex(key.0.as_bytes())),
            Ok(digits)
        );
        let error = |path: &Path| Key::read(path).err().unwrap_or_default();
        assert!(error(&open).contains("chmod 600"), "{}", error(&open));
        assert!(
            error(&short).contains("64 hexadecimal"),
            "{}",
            error(&short)
        );
        assert!(error(&folder.path().join("none")).contains("No such file"));
    }

    #[test]
    fn test_a_made_key_is_private_kept_and_trusted_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, trusted) = (folder.path().join(KEY), folder.path().join(TRUSTED));
        Key::create(folder.path(), &path).expect("a key");
        assert_eq!(fs::metadata(&path).expect("the key").mode() & 0o777, 0o600);
        let key = Key::read(&path).expect("a key");
        Key::create(folder.path(), &path).expect("the first wins");
        let again = Key::read(&path).expect("a key");
        assert_eq!(key.public(), again.public());
        key.trust(&trusted).expect("a list");
        again.trust(&trusted).expect("a list");
        let list = fs::read_to_string(&trusted).expect("a list");
        assert_eq!(list.lines().filter(|line| *line == key.public()).count(), 1);
    }
}
