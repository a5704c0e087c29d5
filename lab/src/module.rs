//! Kernel modules: where they are, and which others each needs.
//!
//! A kernel package has modules but no list of dependencies: that is made where it is installed. Each module
//! names the modules it needs in its own section `.modinfo`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::LabError;

/// The modules of one kernel.
pub struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    busybox: PathBuf,
}

/// A module as the guest inserts it.
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// The object file.
    pub object: Vec<u8>,
}

impl Modules {
    /// Reads which modules are below `folder`, that of one kernel version. `busybox` decompresses them.
    pub fn new(folder: &Path, busybox: &Path) -> Result<Self, LabError> {
        let mut files = BTreeMap::new();
        gather(folder, &mut files)?;
        let list = folder.join("modules.builtin");
        let builtin = fs::read_to_string(&list).map_err(LabError::file(&list))?;
        let builtin = builtin
            .lines()
            .filter_map(|line| module_name(Path::new(line)));
        Ok(Self {
            files,
            builtin: builtin.collect(),
            busybox: busybox.to_owned(),
        })
    }

    /// These modules and all they need, each after those it needs.
    pub fn with_needed(&self, names: &[String]) -> Result<Vec<Module>, LabError> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.add(&underscored(name), &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn add(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<(), LabError> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let file = self.files.get(name);
        let file = file.ok_or_else(|| LabError::NoModule(name.to_owned()))?;
        let object = self.object(file)?;
        for needed in depends(&object) {
            self.add(&needed, seen, order)?;
        }
        order.push(Module {
            name: name.to_owned(),
            object,
        });
        Ok(())
    }

    fn object(&self, file: &Path) -> Result<Vec<u8>, LabError> {
        if file.extension().is_some_and(|ending| ending == "ko") {
            return fs::read(file).map_err(LabError::file(file));
        }
        let output = Command::new(&self.busybox)
            .args(["xzcat"])
            .arg(file)
            .output()
            .map_err(LabError::file(&self.busybox))?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(LabError::Program {
                program: format!("busybox xzcat {}", file.display()),
                said: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        }
    }
}

fn gather(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), LabError> {
    for entry in fs::read_dir(folder).map_err(LabError::file(folder))? {
        let entry = entry.map_err(LabError::file(folder))?;
        let path = entry.path();
        if entry.file_type().map_err(LabError::file(&path))?.is_dir() {
            gather(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The name of the module in this file, if it is one: `vfio-pci.ko.xz` is `vfio_pci`.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".xz").unwrap_or(name);
    name.strip_suffix(".ko").map(underscored)
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

/// The modules that a module says it needs: `depends=a,b` between zero bytes.
fn depends(object: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = object.windows(KEY.len()).position(|part| part == KEY) else {
        return Vec::new();
    };
    let list = &object[at + KEY.len()..];
    let end = list
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(list.len());
    String::from_utf8_lossy(&list[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(underscored)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_names_and_needs() {
        let name = |path: &str| module_name(Path::new(path));
        assert_eq!(
            name("kernel/drivers/vfio/pci/vfio-pci.ko.xz").as_deref(),
            Some("vfio_pci")
        );
        assert_eq!(name("modules.builtin"), None);
        assert_eq!(
            depends(b"..\0depends=mdio,dca\0name=ixgbe\0"),
            ["mdio", "dca"]
        );
        assert!(depends(b"\0depends=\0").is_empty());
        assert!(depends(b"no such thing").is_empty());
    }
}
