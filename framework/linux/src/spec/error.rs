//! What can be wrong with device specs: one line each, with the thing and the remedy.

use super::sim::{DEFAULT_SIZE, Key, MAX_SIZE, MIN_SIZE};

/// Why a device spec, or a list of them, cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// None of the forms there are.
    #[error(
        "`{spec}` names no device: write a PCI address (0000:03:00.0), vfio-user:SOCKET, sim or sim:KEY=VALUE,..."
    )]
    Unknown {
        /// The spec as given.
        spec: String,
    },
    /// Almost a PCI address.
    #[error(
        "`{spec}` is no PCI address: write DOMAIN:BUS:DEVICE.FUNCTION in hexadecimal, as `lspci -D` does (0000:03:00.0)"
    )]
    BadPciAddress {
        /// The spec as given.
        spec: String,
    },
    /// `vfio-user:` with nothing behind it.
    #[error("`vfio-user:` lacks its socket: write vfio-user:SOCKET")]
    NoSocket,
    /// A key that `sim` does not have.
    #[error("`{spec}`: no key `{key}`; {}", remedy_for_key(.key))]
    UnknownKey {
        /// The spec as given.
        spec: String,
        /// The key as given.
        key: String,
    },
    /// A key twice in one spec.
    #[error("`{spec}`: key `{key}` is there twice: leave one out")]
    RepeatedKey {
        /// The spec as given.
        spec: String,
        /// Which one.
        key: &'static str,
    },
    /// A key with a value it does not take.
    #[error("`{spec}`: `{key}={value}`: {}", Key::expectation_of(.key))]
    BadValue {
        /// The spec as given.
        spec: String,
        /// Whose value.
        key: &'static str,
        /// The value as given; empty if there was none.
        value: String,
    },
    /// A capture to be played more than once, but none named.
    #[error("`{spec}`: `loop` needs a capture to play: add pcap=FILE")]
    LoopWithoutPcap {
        /// The spec as given.
        spec: String,
    },
    /// Two keys that ask for different wires.
    #[error("`{spec}`: `{first}` and `{second}` do not go together: a port has one wire")]
    TwoWires {
        /// The spec as given.
        spec: String,
        /// One key.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The same device, interface, socket or output for two ports.
    #[error("{what} is given twice (`{first}` and `{second}`): each port needs its own")]
    GivenTwice {
        /// What two ports would share.
        what: String,
        /// One spec.
        first: String,
        /// The other.
        second: String,
    },
    /// A file that is to be read and written.
    #[error("`{spec}` writes {file}, which `{reader}` reads: name another file")]
    ReadAndWritten {
        /// The spec that writes.
        spec: String,
        /// The spec that reads.
        reader: String,
        /// The file.
        file: String,
    },
    /// A peer id that only one port has.
    #[error("`sim:peer={id}` is alone: give a second port with peer={id} to be back to back with")]
    LonePeer {
        /// The peer id.
        id: String,
    },
    /// A peer id that more than two ports have.
    #[error(
        "peer={id} is on {count} ports: back to back are two; choose another id for the others"
    )]
    CrowdedPeer {
        /// The peer id.
        id: String,
        /// How many ports have it.
        count: usize,
    },
}

/// The nearest key, if one is near, else all of them.
fn remedy_for_key(key: &str) -> String {
    let nearest = Key::ALL
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(key, candidate.name()),
                candidate.name(),
            )
        })
        .min();
    match nearest {
        Some((distance, name)) if distance <= 2 && distance < name.len() => {
            format!("did you mean `{name}`?")
        }
        _ => format!("the keys are {}", Key::ALL.map(Key::name).join(", ")),
    }
}

impl Key {
    /// What a value must be like, for the key of this name.
    fn expectation_of(name: &str) -> String {
        Self::named(name).map_or_else(String::new, Self::expectation)
    }

    fn expectation(self) -> String {
        match self {
            Self::Gen | Self::Null => format!("the key takes no value: write `{}`", self.name()),
            Self::Loop => "write how many times to play the capture, 1 or more".into(),
            Self::Size => format!(
                "write a frame length with check sequence, {MIN_SIZE} to {MAX_SIZE} bytes ({DEFAULT_SIZE} if left out)"
            ),
            Self::Rate => {
                "write `line`, `max`, or frames a second up to 1000mpps, such as 1.5mpps or 250000pps"
                    .into()
            }
            Self::Flows => "write the number of flows, 1 to 65536".into(),
            Self::Frames => "write how many frames to generate, 1 or more".into(),
            Self::Pcap => "write the capture file to read".into(),
            Self::Out => "write the capture file to create".into(),
            Self::Tap | Self::Veth => {
                "write an interface name: 1 to 15 characters, no space, no `/` or `:`".into()
            }
            Self::Peer => "write an id that exactly two ports share, such as 1".into(),
            Self::Id => "write a PCI device id of four hexadecimal digits, such as 10fb".into(),
            Self::Mac => "write a unicast MAC address, such as 02:00:00:00:00:01".into(),
            Self::Gone => "write how long after its start the card is pulled out, such as 500ms".into(),
            Self::Back => {
                "write `gone=TIME` before it, and here a later time since its start, such as 3s".into()
            }
        }
    }
}
