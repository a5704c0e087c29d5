//! Parts of the lab: folders of `target/lab`, each made once.
//!
//! Invariant: a part is complete or absent. It is filled under another name and renamed, by one process at a time, and
//! its own name tells the recipe that it was made by. What is there is never changed or removed: other processes, of
//! other checkouts too, may be using it, and another recipe makes another folder.

use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::LabError;
use crate::tools::folder;

/// A folder and how it is made.
pub struct Part {
    name: &'static str,
    /// Anything that decides what is in it.
    recipe: String,
}

impl Part {
    /// The part of this name that is made by this recipe.
    pub fn new(name: &'static str, recipe: String) -> Self {
        Self { name, recipe }
    }

    /// Where it is, or would be.
    pub fn folder(&self) -> PathBuf {
        folder().join(self.own_name())
    }

    fn own_name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.recipe.hash(&mut hasher);
        format!("{}-{:016x}", self.name, hasher.finish())
    }

    /// Whether it is there.
    pub fn is_made(&self) -> bool {
        fs::read_to_string(self.folder().join(RECIPE)).is_ok_and(|made_by| made_by == self.recipe)
    }

    /// Makes it if it is not there, by having `fill` put into a folder what belongs there.
    ///
    /// # Errors
    /// Those of `fill`, and those of files.
    pub fn make(&self, fill: impl FnOnce(&Path) -> Result<(), LabError>) -> Result<(), LabError> {
        if self.is_made() {
            return Ok(());
        }
        let (home, name) = (folder(), self.own_name());
        fs::create_dir_all(&home).map_err(LabError::file(&home))?;
        // Held until the end of this function.
        let _lock = lock(&home.join(format!("{name}.lock")))?;
        if self.is_made() {
            return Ok(());
        }
        let new = home.join(format!("new-{name}"));
        remove(&new)?;
        fs::create_dir(&new).map_err(LabError::file(&new))?;
        fill(&new)?;
        let recipe = new.join(RECIPE);
        fs::write(&recipe, &self.recipe).map_err(LabError::file(&recipe))?;
        // Without its recipe it is not complete, so nobody uses it.
        remove(&self.folder())?;
        fs::rename(&new, self.folder()).map_err(LabError::file(self.folder()))
    }
}

/// The file that tells how a part was made: written last.
const RECIPE: &str = "recipe";

/// Waits until no other process makes this part, and says so.
fn lock(path: &Path) -> Result<File, LabError> {
    let lock = File::create(path).map_err(LabError::file(path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            println!("waiting for another process, which has {}", path.display());
            lock.lock().map_err(LabError::file(path))?;
            Ok(lock)
        }
        Err(TryLockError::Error(error)) => Err(LabError::file(path)(error)),
    }
}

pub(crate) fn remove(folder: &Path) -> Result<(), LabError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LabError::file(folder)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    /// A part of a test's own, gone with the test.
    struct Own(Part);

    impl Own {
        fn new(recipe: &str) -> Self {
            let own = format!("{recipe} {}", std::process::id());
            Self(Part::new("test", own))
        }
    }

    impl Drop for Own {
        fn drop(&mut self) {
            let _ = remove(&self.0.folder());
            let _ = fs::remove_file(folder().join(format!("{}.lock", self.0.own_name())));
        }
    }

    fn write(text: &'static str) -> impl FnOnce(&Path) -> Result<(), LabError> {
        move |new| fs::write(new.join("file"), text).map_err(LabError::file(new))
    }

    fn read(part: &Part) -> String {
        fs::read_to_string(part.folder().join("file")).unwrap()
    }

    #[test]
    fn test_each_recipe_has_a_part_of_its_own() {
        let (one, other) = (Own::new("one"), Own::new("other"));
        assert!(!one.0.is_made());
        one.0.make(write("one")).unwrap();
        other.0.make(write("other")).unwrap();
        one.0.make(|_| panic!("it is there")).unwrap();
        assert_eq!([read(&one.0), read(&other.0)], ["one", "other"]);
    }

    #[test]
    fn test_what_could_not_be_filled_is_not_there() {
        let part = Own::new("unfilled");
        let half = |new: &Path| {
            write("half")(new)?;
            Err(LabError::Unavailable("no mirror".to_owned()))
        };
        assert!(part.0.make(half).is_err());
        assert!(!part.0.is_made());
        part.0.make(write("whole")).unwrap();
        assert_eq!(read(&part.0), "whole");
    }

    #[test]
    fn test_of_several_at_once_one_makes_it() {
        let part = Own::new("several");
        let made = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let fill = |new: &Path| {
                        made.fetch_add(1, Ordering::Relaxed);
                        write("once")(new)
                    };
                    part.0.make(fill).unwrap();
                    assert_eq!(read(&part.0), "once");
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }
}
