//! Processor cores: which ones this process may use, lists of them, and threads pinned to one.
//!
//! A core is named by Linux's number for it, from 0.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Why cores cannot be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// A text is no list of cores.
    #[error("`{text}` is no list of cores: write numbers and ranges, as in 0,2-3")]
    BadList {
        /// The text as given.
        text: String,
    },
    /// A core is in a list twice.
    #[error("core {core} is given twice in `{text}`: each thread needs its own")]
    GivenTwice {
        /// The core.
        core: usize,
        /// The list as given.
        text: String,
    },
    /// The process may not run there, or there is no such core.
    #[error("core {core} is not to be used: this process may use {usable}")]
    NotUsable {
        /// The core.
        core: usize,
        /// Those it may use.
        usable: CoreList,
    },
    /// Linux refused.
    #[error("pinning to core {core}: {reason}")]
    Refused {
        /// The core.
        core: usize,
        /// What it said.
        reason: Errno,
    },
    /// Linux does not say which cores there are.
    #[error("asking for the usable cores: {0}")]
    Unknown(Errno),
    /// A thread could not be started.
    #[error("starting thread {name}: {reason}")]
    Thread {
        /// The thread.
        name: String,
        /// What Linux said.
        reason: io::Error,
    },
}

/// Cores, each once, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreList(Vec<usize>);

impl CoreList {
    /// The cores.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// The cores this process may use, in ascending order.
    ///
    /// # Errors
    /// [`CoreError::Unknown`].
    pub fn usable() -> Result<Self, CoreError> {
        let set = sched_getaffinity(Pid::from_raw(0)).map_err(CoreError::Unknown)?;
        let allowed = |core: &usize| set.is_set(*core).unwrap_or(false);
        Ok(Self((0..CpuSet::count()).filter(allowed).collect()))
    }

    /// Whether this process may use all of them.
    ///
    /// # Errors
    /// [`CoreError::NotUsable`] with the first it may not, [`CoreError::Unknown`].
    pub fn check_usable(&self) -> Result<(), CoreError> {
        let usable = Self::usable()?;
        match self.0.iter().find(|core| !usable.0.contains(core)) {
            None => Ok(()),
            Some(&core) => Err(CoreError::NotUsable { core, usable }),
        }
    }
}

impl From<usize> for CoreList {
    fn from(core: usize) -> Self {
        Self(vec![core])
    }
}

impl FromStr for CoreList {
    type Err = CoreError;

    /// `0,2-3`: numbers and ascending ranges, separated by commas.
    fn from_str(text: &str) -> Result<Self, CoreError> {
        let bad = || CoreError::BadList {
            text: text.to_owned(),
        };
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let core = digits.then(|| part.parse::<usize>().ok()).flatten();
            core.filter(|core| *core < CpuSet::count()).ok_or_else(bad)
        };
        let mut cores = Vec::new();
        for item in text.split(',') {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(bad());
            }
            for core in first..=last {
                if cores.contains(&core) {
                    let text = text.to_owned();
                    return Err(CoreError::GivenTwice { core, text });
                }
                cores.push(core);
            }
        }
        Ok(Self(cores))
    }
}

impl fmt::Display for CoreList {
    /// Runs of ascending cores as ranges: the form that parses to the same list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, run) in self.0.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [only] => write!(f, "{comma}{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// Lets the calling thread run on `core` only.
///
/// # Errors
/// [`CoreError::NotUsable`] where the process may not, [`CoreError::Refused`].
pub fn pin_current_thread(core: usize) -> Result<(), CoreError> {
    let mut set = CpuSet::new();
    let outcome = set
        .set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    match outcome {
        Ok(()) => Ok(()),
        Err(Errno::EINVAL) => Err(CoreError::NotUsable {
            core,
            usable: CoreList::usable()?,
        }),
        Err(reason) => Err(CoreError::Refused { core, reason }),
    }
}

/// Starts a thread on `core`, or wherever the caller may run if none is given.
///
/// The caller moves to `core` for the moment of the start: a thread inherits where it may run, so
/// the new one is never anywhere else. Linux shows the first 15 bytes of `name`.
///
/// # Errors
/// [`CoreError`] if the core cannot be used or the thread cannot be started; then `body` never
/// runs.
pub fn spawn<T: Send + 'static>(
    name: &str,
    core: Option<usize>,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, CoreError> {
    let start = || {
        let started = thread::Builder::new().name(name.to_owned()).spawn(body);
        started.map_err(|reason| CoreError::Thread {
            name: name.to_owned(),
            reason,
        })
    };
    let Some(core) = core else {
        return start();
    };
    let before = sched_getaffinity(Pid::from_raw(0)).map_err(CoreError::Unknown)?;
    pin_current_thread(core)?;
    let thread = start();
    sched_setaffinity(Pid::from_raw(0), &before)
        .map_err(|reason| CoreError::Refused { core, reason })?;
    thread
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Vec<usize>, String> {
        let list = text.parse::<CoreList>();
        list.map(|list| list.0).map_err(|error| error.to_string())
    }

    #[test]
    fn lists() {
        assert_eq!(parse("0"), Ok(vec![0]));
        assert_eq!(parse("0,2-3"), Ok(vec![0, 2, 3]));
        assert_eq!(parse("5,1-1,0"), Ok(vec![5, 1, 0]));
        for text in [
            "",
            ",",
            "0,",
            "-1",
            "1-",
            "3-2",
            "a",
            "0x1",
            "+1",
            "0 1",
            "1024",
            "0-99999999999999999999",
        ] {
            let message = parse(text).unwrap_err();
            assert!(
                message.contains(&format!("`{text}` is no list of cores")),
                "{message}"
            );
        }
        assert!(
            parse("0-3,2")
                .unwrap_err()
                .contains("core 2 is given twice")
        );
    }

    #[test]
    fn usable_cores_are_usable() {
        let usable = CoreList::usable().unwrap();
        assert!(!usable.as_slice().is_empty());
        usable.check_usable().unwrap();
        let absent = CoreList(vec![1023]);
        let message = absent.check_usable().unwrap_err().to_string();
        assert_eq!(
            message,
            format!("core 1023 is not to be used: this process may use {usable}")
        );
    }

    #[test]
    fn threads_run_where_they_are_told() {
        let usable = CoreList::usable().unwrap();
        for &core in usable.as_slice() {
            let where_it_runs = || {
                let name = thread::current().name().map(str::to_owned);
                (CoreList::usable().unwrap(), name)
            };
            let (cores, name) = spawn("sumac-test", Some(core), where_it_runs)
                .unwrap()
                .join()
                .unwrap();
            assert_eq!(cores, CoreList(vec![core]));
            assert_eq!(name.as_deref(), Some("sumac-test"));
        }
        assert_eq!(CoreList::usable().unwrap(), usable);
        let free = spawn("sumac-test", None, || CoreList::usable().unwrap());
        assert_eq!(free.unwrap().join().unwrap(), usable);
    }

    #[test]
    fn cores_that_are_not_there() {
        for core in [1023, 1024, usize::MAX] {
            let error = spawn("sumac-test", Some(core), || ()).unwrap_err();
            assert!(
                matches!(error, CoreError::NotUsable { core: c, .. } if c == core),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(cores in prop::collection::hash_set(0usize..64, 1..20)) {
            let list = CoreList(cores.into_iter().collect());
            prop_assert_eq!(parse(&list.to_string()), Ok(list.0));
        }
    }
}
