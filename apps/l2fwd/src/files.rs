//! Domain files: where they are, whether they fit this program, and building them in a checkout of the
//! sources.
//!
//! A program that cargo built finds its domains in `target/domains`. Where they are missing or of another
//! build it has `cargo xtask domains` make them, so that `cargo run` needs no second command; an installed
//! program says what is wrong and what to do.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sumac_interface::Interface;
use sumac_linux::trust::{TrustError, trusted_keys};
use sumac_runtime::load::{LoadError, Verified};

use crate::cli::Options;

/// Why there is no file to start a domain from. Each is one line with the remedy: to do without it, `instead`,
/// among others.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("{}: {source}; build it with `cargo xtask domains`, say where it is with --domains FOLDER, or {instead}", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
        /// How to do without.
        instead: &'static str,
    },
    /// Nobody is trusted.
    #[error("{trust}{hint}", trust = .0, hint = as_root())]
    Trust(#[from] TrustError),
    /// It does not fit this program.
    #[error("{}: it does not fit this program: build it anew with `cargo xtask domains`, or {instead} ({source}){}", file.display(), as_root())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<LoadError>,
        /// How to do without.
        instead: &'static str,
    },
    /// It could not be built.
    #[error("building domain {name}: {what}; try `cargo xtask domains`, or {instead}")]
    Build {
        /// The domain.
        name: String,
        /// What went wrong.
        what: String,
        /// How to do without.
        instead: &'static str,
    },
}

/// Whose keys count where this runs as somebody else's root.
fn as_root() -> &'static str {
    match std::env::var_os("SUDO_USER") {
        Some(_) => {
            "; under sudo, root's keys count: add env XDG_CONFIG_HOME=\"$HOME/.config\" behind sudo for yours"
        }
        None => "",
    }
}

/// A domain that a run wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: &'static str,
    /// How to do without it, for people.
    pub instead: &'static str,
}

/// Where domain files are.
pub struct Files {
    folder: PathBuf,
    /// The sources and the target folder of a program that cargo built and that runs where it was built.
    checkout: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// Those in the folder that the options name, or beside the program's.
    pub fn of(options: &Options) -> Self {
        if let Some(folder) = &options.domains {
            return Self {
                folder: folder.clone(),
                checkout: None,
            };
        }
        // `target` for a program in `target/release`.
        let program = std::env::current_exe().unwrap_or_default();
        let target = program.ancestors().nth(2).unwrap_or(Path::new(""));
        Self {
            folder: target.join("domains"),
            checkout: checkout(target).map(|root| (root, target.to_owned())),
        }
    }

    /// The file of a domain whose root interface is `I`, and whose signatures count. In a checkout it is built
    /// if it has to be.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read<I: Interface + ?Sized>(&self, wanted: Wanted) -> Result<Verified, FileError> {
        let found = self.find::<I>(wanted);
        match (&self.checkout, &found) {
            (Some((sources, target)), Err(why)) => {
                let name = wanted.name;
                eprintln!("l2fwd: building domain {name} first ({})", why.briefly());
                self.build::<I>(wanted, sources, target)?;
                self.find::<I>(wanted)
            }
            _ => found,
        }
    }

    fn find<I: Interface + ?Sized>(&self, wanted: Wanted) -> Result<Verified, FileError> {
        let Wanted { name, instead } = wanted;
        let file = self.folder.join(format!("{name}.domain"));
        let contents = match fs::read(&file) {
            Ok(contents) => contents,
            Err(source) => {
                return Err(FileError::Missing {
                    file,
                    source,
                    instead,
                });
            }
        };
        let trust = trusted_keys()?;
        let fits = || {
            let file = Verified::new(contents, &trust)?;
            file.check::<I>()?;
            Ok(file)
        };
        fits().map_err(|source| FileError::Unfit {
            file,
            source: Box::new(source),
            instead,
        })
    }

    /// Has the trusted build make a domain, unless somebody else just did.
    fn build<I: Interface + ?Sized>(
        &self,
        wanted: Wanted,
        sources: &Path,
        target: &Path,
    ) -> Result<(), FileError> {
        let Wanted { name, instead } = wanted;
        let failed = |what: String| FileError::Build {
            name: name.to_owned(),
            what,
            instead,
        };
        let _one_at_a_time = lock(&self.folder).map_err(|error| failed(error.to_string()))?;
        if self.find::<I>(wanted).is_ok() {
            return Ok(());
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // What it says goes where no results are expected.
        let status = Command::new(cargo)
            .args([
                "run",
                "--quiet",
                "--package",
                "xtask",
                "--",
                "domains",
                name,
                "--out",
            ])
            .arg(&self.folder)
            .env("CARGO_TARGET_DIR", target)
            .current_dir(sources)
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(format!("cargo xtask domains: {status}"))),
            Err(error) => Err(failed(format!("cargo: {error}"))),
        }
    }
}

impl FileError {
    /// Why a domain is to be built, without the remedy.
    fn briefly(&self) -> String {
        match self {
            Self::Missing { .. } => "it is not there yet".to_owned(),
            Self::Trust(_) => "no key is trusted yet".to_owned(),
            Self::Unfit { source, .. } => source.to_string(),
            Self::Build { what, .. } => what.clone(),
        }
    }
}

/// The sources that this program was built from, if it still is in cargo's folder `target` and they are this
/// user's: nothing is built in somebody else's name.
fn checkout(target: &Path) -> Option<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let owner = fs::metadata(sources.join("xtask/Cargo.toml")).ok()?.uid();
    let by_cargo = target.join("CACHEDIR.TAG").is_file();
    let me = fs::metadata("/proc/self").ok()?.uid();
    (by_cargo && owner == me).then(|| sources.to_owned())
}

/// Waits until nobody else builds domains into `folder`.
fn lock(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let file = File::create(folder.join("lock"))?;
    file.lock()?;
    Ok(file)
}
