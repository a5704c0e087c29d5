//! The `sim` spec: a software device and the wire plugged into it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sumac_packet::MacAddress;

use super::SpecError;
use super::pci::hex;
use crate::time::parse_duration;

/// The shortest generated frame, in bytes with check sequence.
pub(super) const MIN_SIZE: u16 = 64;
/// The longest generated frame, in bytes with check sequence (MAXFRS, section 8.2.3.22.13).
pub(super) const MAX_SIZE: u16 = 9728;
/// Frame length if none is given, in bytes with check sequence.
pub(super) const DEFAULT_SIZE: u16 = 64;
/// Flows if no number is given: enough that every queue gets some.
const DEFAULT_FLOWS: u32 = 64;
/// The most flows a generator has.
const MAX_FLOWS: u32 = 65_536;
/// The most frames a second that can be asked for.
const MAX_RATE: u64 = 1_000_000_000;

/// A built-in software device: `sim` or `sim:KEY[=VALUE],...`.
///
/// | key | meaning |
/// |---|---|
/// | `gen` | the built-in generator and sink (the wire if none is named) |
/// | `size=64` `rate=line` `flows=64` `frames=N` | of the generator: frame length with check sequence, [`Rate`], flows, frames in all |
/// | `pcap=FILE` `out=FILE` | frames from a capture file, to a capture file; either or both |
/// | `loop=1` | how many times to play the capture |
/// | `tap=NAME` | a tap interface, made for the run |
/// | `veth=IFACE` | an existing interface, by AF_PACKET |
/// | `peer=ID` | back to back with the port of the same id |
/// | `null` | a link with nobody at the other end |
/// | `id=10fb` `mac=..` | the device's PCI device id and MAC address |
/// | `gone=TIME` `back=TIME` | the device is pulled out so long after its driver started it, as in `1s` or `500ms`; and put back |
///
/// A value cannot hold a comma.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SimSpec {
    /// What is plugged in.
    pub wire: WireSpec,
    /// PCI device id, if not the model's usual one.
    pub device_id: Option<u16>,
    /// MAC address, if not the model's usual one.
    pub mac: Option<MacAddress>,
    /// When it is pulled out, if it is.
    pub pulled: Option<Pulled>,
}

/// When a software device is pulled out, since its driver started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pulled {
    /// So long after that.
    pub after: Duration,
    /// And put back so long after that; never if none.
    pub back: Option<Duration>,
}

/// What is plugged into a software port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WireSpec {
    /// A generator of frames that checks what comes back.
    Gen(GenSpec),
    /// Capture files; at least one of the two.
    Pcap {
        /// Read and sent to the port.
        input: Option<PathBuf>,
        /// How many times to play it, 1 or more.
        repeats: u64,
        /// Created, and filled with what leaves the port.
        output: Option<PathBuf>,
    },
    /// A tap interface of this name.
    Tap(String),
    /// An existing interface of this name.
    Veth(String),
    /// The other port with this id.
    Peer(String),
    /// A link with nobody at the other end.
    Null,
}

impl Default for WireSpec {
    fn default() -> Self {
        Self::Gen(GenSpec::default())
    }
}

/// What the generator makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GenSpec {
    /// Frame length in bytes with check sequence, 64 to 9728.
    pub size: u16,
    /// Frames a second.
    pub rate: Rate,
    /// Number of flows, 1 to 65,536.
    pub flows: u32,
    /// Frames in all; without end if none.
    pub frames: Option<u64>,
}

impl Default for GenSpec {
    fn default() -> Self {
        Self {
            size: DEFAULT_SIZE,
            rate: Rate::Line,
            flows: DEFAULT_FLOWS,
            frames: None,
        }
    }
}

/// How fast the generator sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// As a 10 Gbit/s line carries them.
    Line,
    /// As fast as the port takes them.
    Max,
    /// So many frames a second, 1 to 1,000,000,000.
    PerSecond(u64),
}

/// The keys, each with the name users write.
macro_rules! keys {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Key { $($variant),+ }

        impl Key {
            pub(super) const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            pub(super) fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

keys! {
    Gen = "gen", Size = "size", Rate = "rate", Flows = "flows", Frames = "frames",
    Pcap = "pcap", Out = "out", Loop = "loop", Null = "null", Tap = "tap", Veth = "veth", Peer = "peer",
    Id = "id", Mac = "mac", Gone = "gone", Back = "back",
}

impl Key {
    /// Keys of the same wire have the same number; 0 goes with any.
    const fn wire(self) -> u8 {
        match self {
            Self::Id | Self::Mac | Self::Gone | Self::Back => 0,
            Self::Gen | Self::Size | Self::Rate | Self::Flows | Self::Frames => 1,
            Self::Pcap | Self::Out | Self::Loop => 2,
            Self::Tap => 3,
            Self::Veth => 4,
            Self::Peer => 5,
            Self::Null => 6,
        }
    }
}

impl SimSpec {
    /// Parses `keys`, what is behind `sim:` in `spec`.
    pub(super) fn parse(spec: &str, keys: &str) -> Result<Self, SpecError> {
        let mut sim = Self::default();
        let mut seen: Vec<Key> = Vec::new();
        for item in keys.split(',') {
            let (name, value) = match item.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (item, None),
            };
            let key = Key::named(name).ok_or_else(|| SpecError::UnknownKey {
                spec: spec.to_owned(),
                key: name.to_owned(),
            })?;
            check_with_others(spec, key, &seen)?;
            seen.push(key);
            sim.set(key, value).ok_or_else(|| SpecError::BadValue {
                spec: spec.to_owned(),
                key: key.name(),
                value: value.unwrap_or_default().to_owned(),
            })?;
        }
        match &sim.wire {
            WireSpec::Pcap { input: None, .. } if seen.contains(&Key::Loop) => {
                let spec = spec.to_owned();
                Err(SpecError::LoopWithoutPcap { spec })
            }
            _ => Ok(sim),
        }
    }

    /// Sets what `key` says; `None` if `value` is none it takes.
    fn set(&mut self, key: Key, value: Option<&str>) -> Option<()> {
        if let Key::Gen | Key::Null = key {
            if key == Key::Null {
                self.wire = WireSpec::Null;
            }
            return value.is_none().then_some(());
        }
        let value = value.filter(|value| !value.is_empty())?;
        match (key, &mut self.wire) {
            (Key::Size, WireSpec::Gen(generator)) => {
                generator.size = number(value, MIN_SIZE.into(), MAX_SIZE.into())? as u16;
            }
            (Key::Flows, WireSpec::Gen(generator)) => {
                generator.flows = number(value, 1, MAX_FLOWS.into())? as u32;
            }
            (Key::Frames, WireSpec::Gen(generator)) => {
                generator.frames = Some(number(value, 1, u64::MAX)?);
            }
            (Key::Rate, WireSpec::Gen(generator)) => generator.rate = Rate::parse(value)?,
            (Key::Pcap, WireSpec::Pcap { input, .. }) => *input = Some(value.into()),
            (Key::Out, WireSpec::Pcap { output, .. }) => *output = Some(value.into()),
            (Key::Loop, WireSpec::Pcap { repeats, .. }) => {
                *repeats = number(value, 1, u64::MAX)?;
            }
            (Key::Pcap | Key::Out | Key::Loop, wire) => {
                *wire = WireSpec::Pcap {
                    input: None,
                    repeats: 1,
                    output: None,
                };
                return self.set(key, Some(value));
            }
            (Key::Tap, wire) => *wire = WireSpec::Tap(interface(value)?),
            (Key::Veth, wire) => *wire = WireSpec::Veth(interface(value)?),
            (Key::Peer, wire) => *wire = WireSpec::Peer(value.to_owned()),
            (Key::Id, _) => {
                let digits = value.strip_prefix("0x").unwrap_or(value);
                self.device_id = Some(hex(digits, 4..=4)? as u16);
            }
            (Key::Mac, _) => {
                let mac: MacAddress = value.parse().ok()?;
                self.mac = Some(mac).filter(|mac| mac.is_unicast());
                self.mac?;
            }
            (Key::Gone, _) => {
                let after = parse_duration(value)?;
                self.pulled = Some(Pulled { after, back: None });
            }
            (Key::Back, _) => {
                let pulled = self.pulled.as_mut()?;
                let back = parse_duration(value)?;
                pulled.back = Some(back).filter(|back| *back > pulled.after);
                pulled.back?;
            }
            // Keys of another wire were refused before.
            (Key::Gen | Key::Null | Key::Size | Key::Rate | Key::Flows | Key::Frames, _) => {
                return None;
            }
        }
        Some(())
    }
}

/// Refuses a key that was there before, or that asks for another wire than those before.
fn check_with_others(spec: &str, key: Key, seen: &[Key]) -> Result<(), SpecError> {
    if seen.contains(&key) {
        return Err(SpecError::RepeatedKey {
            spec: spec.to_owned(),
            key: key.name(),
        });
    }
    let other = |seen: &&Key| seen.wire() != 0 && key.wire() != 0 && seen.wire() != key.wire();
    match seen.iter().find(other) {
        Some(first) => Err(SpecError::TwoWires {
            spec: spec.to_owned(),
            first: first.name(),
            second: key.name(),
        }),
        None => Ok(()),
    }
}

/// A decimal number in a range, without sign.
fn number(text: &str, min: u64, max: u64) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = digits.then(|| text.parse().ok()).flatten()?;
    (min..=max).contains(&value).then_some(value)
}

/// An interface name as the kernel takes it (`dev_valid_name`).
fn interface(text: &str) -> Option<String> {
    let bad = |byte: u8| matches!(byte, b'/' | b':' | 0) || byte.is_ascii_whitespace();
    let valid = (1..=15).contains(&text.len()) && text != "." && text != "..";
    (valid && !text.bytes().any(bad)).then(|| text.to_owned())
}

impl Rate {
    /// `line`, `max`, `<decimal>mpps`, `<number>pps`.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "line" => return Some(Self::Line),
            "max" => return Some(Self::Max),
            _ => {}
        }
        if let Some(millions) = text.strip_suffix("mpps") {
            let (whole, fraction) = millions.split_once('.').unwrap_or((millions, "0"));
            if fraction.is_empty() || fraction.len() > 6 {
                return None;
            }
            let whole = number(whole, 0, MAX_RATE / 1_000_000)?;
            let scale = 10u64.pow(6 - fraction.len() as u32);
            let frames = whole * 1_000_000 + number(fraction, 0, 999_999)? * scale;
            return (1..=MAX_RATE)
                .contains(&frames)
                .then_some(Self::PerSecond(frames));
        }
        number(text.strip_suffix("pps")?, 1, MAX_RATE).map(Self::PerSecond)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line => f.write_str("line"),
            Self::Max => f.write_str("max"),
            Self::PerSecond(frames) => write!(f, "{frames}pps"),
        }
    }
}

impl fmt::Display for SimSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut keys: Vec<String> = Vec::new();
        match &self.wire {
            WireSpec::Gen(generator) => generator.keys(&mut keys),
            WireSpec::Pcap {
                input,
                repeats,
                output,
            } => {
                keys.extend(input.iter().map(|file| format!("pcap={}", file.display())));
                keys.extend((*repeats != 1).then(|| format!("loop={repeats}")));
                keys.extend(output.iter().map(|file| format!("out={}", file.display())));
            }
            WireSpec::Tap(name) => keys.push(format!("tap={name}")),
            WireSpec::Veth(name) => keys.push(format!("veth={name}")),
            WireSpec::Peer(id) => keys.push(format!("peer={id}")),
            WireSpec::Null => keys.push("null".into()),
        }
        keys.extend(self.device_id.map(|id| format!("id={id:04x}")));
        keys.extend(self.mac.map(|mac| format!("mac={mac}")));
        if let Some(Pulled { after, back }) = self.pulled {
            keys.push(format!("gone={}ms", after.as_millis()));
            keys.extend(back.map(|back| format!("back={}ms", back.as_millis())));
        }
        match keys.is_empty() {
            true => f.write_str("sim"),
            false => write!(f, "sim:{}", keys.join(",")),
        }
    }
}

impl GenSpec {
    /// The keys that differ from the defaults.
    fn keys(&self, keys: &mut Vec<String>) {
        let usual = Self::default();
        if self.size != usual.size {
            keys.push(format!("size={}", self.size));
        }
        if self.rate != usual.rate {
            keys.push(format!("rate={}", self.rate));
        }
        if self.flows != usual.flows {
            keys.push(format!("flows={}", self.flows));
        }
        keys.extend(self.frames.map(|frames| format!("frames={frames}")));
    }
}
