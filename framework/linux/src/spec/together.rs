//! What only a whole list of specs can get wrong: things given twice, and peers that do not pair.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::{DeviceSpec, SimSpec, SpecError, WireSpec};

/// Checks specs that are to be opened together.
///
/// # Errors
/// [`SpecError::GivenTwice`], [`SpecError::ReadAndWritten`], [`SpecError::LonePeer`],
/// [`SpecError::CrowdedPeer`].
pub fn check_together(specs: &[DeviceSpec]) -> Result<(), SpecError> {
    let mut owners: HashMap<Owned, &DeviceSpec> = HashMap::new();
    let mut peers: BTreeMap<&str, usize> = BTreeMap::new();
    for spec in specs {
        for owned in Owned::of(spec) {
            let what = owned.to_string();
            if let Some(first) = owners.insert(owned, spec) {
                return Err(SpecError::GivenTwice {
                    what,
                    first: first.to_string(),
                    second: spec.to_string(),
                });
            }
        }
        if let Some(WireSpec::Peer(id)) = wire(spec) {
            *peers.entry(id).or_default() += 1;
        }
    }
    check_inputs(specs, &owners)?;
    for (id, count) in peers {
        let id = id.to_owned();
        match count {
            2 => {}
            1 => return Err(SpecError::LonePeer { id }),
            count => return Err(SpecError::CrowdedPeer { id, count }),
        }
    }
    Ok(())
}

/// No file is read and written.
fn check_inputs(
    specs: &[DeviceSpec],
    owners: &HashMap<Owned, &DeviceSpec>,
) -> Result<(), SpecError> {
    for reader in specs {
        let Some(WireSpec::Pcap {
            input: Some(input), ..
        }) = wire(reader)
        else {
            continue;
        };
        if let Some(writer) = owners.get(&Owned::Output(identity(input))) {
            return Err(SpecError::ReadAndWritten {
                spec: writer.to_string(),
                reader: reader.to_string(),
                file: input.display().to_string(),
            });
        }
    }
    Ok(())
}

fn wire(spec: &DeviceSpec) -> Option<&WireSpec> {
    match spec {
        DeviceSpec::Sim(SimSpec { wire, .. }) => Some(wire),
        _ => None,
    }
}

/// Something only one port can have.
#[derive(PartialEq, Eq, Hash)]
enum Owned {
    Pci(super::PciAddress),
    Socket(PathBuf),
    Output(PathBuf),
    Interface(String),
    Mac(sumac_packet::MacAddress),
}

impl Owned {
    fn of(spec: &DeviceSpec) -> Vec<Self> {
        match spec {
            DeviceSpec::Pci(address) => vec![Self::Pci(*address)],
            DeviceSpec::VfioUser(socket) => vec![Self::Socket(identity(socket))],
            DeviceSpec::Sim(sim) => {
                let mut owned = Vec::from_iter(sim.mac.map(Self::Mac));
                match &sim.wire {
                    WireSpec::Pcap { output, .. } => {
                        owned.extend(output.iter().map(|file| Self::Output(identity(file))));
                    }
                    WireSpec::Tap(name) | WireSpec::Veth(name) => {
                        owned.push(Self::Interface(name.clone()));
                    }
                    WireSpec::Gen(_) | WireSpec::Peer(_) | WireSpec::Null => {}
                }
                owned
            }
        }
    }
}

impl std::fmt::Display for Owned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pci(address) => write!(f, "device {address}"),
            Self::Socket(path) => write!(f, "socket {}", path.display()),
            Self::Output(path) => write!(f, "output file {}", path.display()),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Mac(mac) => write!(f, "MAC address {mac}"),
        }
    }
}

/// One name for a file however it is written, also before it exists.
fn identity(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match (parent.canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}
