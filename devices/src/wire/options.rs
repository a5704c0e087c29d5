//! The wire options of a device spec: `gen`, `pcap=FILE`, `out=FILE`, `tap=NAME`, `veth=IFACE`,
//! `peer=ID`, `null`, and what goes with them.
//!
//! The spec's parser hands each `KEY=VALUE` to [`WireOptions::set`], which takes those that are a
//! wire's. What does not go together is refused when it is set; files and interfaces are opened by
//! [`WireOptions::open`].

use std::path::PathBuf;
use std::str::FromStr;

use super::{
    AnyWire, GenOptions, GenWire, NullWire, PcapWire, Peers, TapWire, VethWire, WireError,
};

/// What is to be plugged into a port.
#[derive(Debug, Clone, Default)]
enum Plug {
    /// Nothing was said: a generator.
    #[default]
    Unsaid,
    Gen,
    Null,
    Pcap,
    Tap(String),
    Veth(String),
    Peer(String),
}

impl Plug {
    fn name(&self) -> &'static str {
        match self {
            Self::Unsaid | Self::Gen => "gen",
            Self::Null => "null",
            Self::Pcap => "pcap/out",
            Self::Tap(_) => "tap",
            Self::Veth(_) => "veth",
            Self::Peer(_) => "peer",
        }
    }
}

/// The wire options of one port. Without any, the wire is a generator at line rate.
#[derive(Debug, Clone, Default)]
pub struct WireOptions {
    plug: Plug,
    generator: GenOptions,
    /// Whether an option of the generator was given.
    generator_option: Option<&'static str>,
    input: Option<PathBuf>,
    output: Option<PathBuf>,
    repeat: Option<u64>,
}

impl WireOptions {
    /// No option yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The generator's options, for what a spec does not say: addresses and the generator's number.
    pub fn generator_mut(&mut self) -> &mut GenOptions {
        &mut self.generator
    }

    /// Takes one option; `value` is what follows the `=`, empty if there is none. `false`: no wire
    /// option.
    ///
    /// `gen` | `null` | `pcap=FILE` | `out=FILE` | `loop=TIMES` | `tap=NAME` | `veth=IFACE` |
    /// `peer=ID` | `size=BYTES` | `rate=line|max|FRAMES` | `flows=N` | `frames=N` | `checksum=yes|no`
    ///
    /// # Errors
    /// The value is not one the option takes, or the option does not go with an earlier one.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, WireError> {
        let text = || value.to_owned();
        match key {
            "gen" => self.plug(Plug::Gen)?,
            "null" => self.plug(Plug::Null)?,
            "tap" => self.plug(Plug::Tap(named("tap", value)?))?,
            "veth" => self.plug(Plug::Veth(named("veth", value)?))?,
            "peer" => self.plug(Plug::Peer(named("peer", value)?))?,
            "pcap" => {
                self.plug(Plug::Pcap)?;
                self.input = Some(named("pcap", value)?.into());
            }
            "out" => {
                self.plug(Plug::Pcap)?;
                self.output = Some(named("out", value)?.into());
            }
            "loop" => {
                self.plug(Plug::Pcap)?;
                self.repeat = Some(number(
                    "loop",
                    value,
                    1,
                    u64::MAX,
                    "takes a number of times",
                )?);
            }
            "size" => {
                let size = number("size", value, 64, 9728, "takes 64 to 9728 bytes")?;
                self.generated("size")?.size = size as usize;
            }
            "rate" => {
                let rate = value.parse()?;
                self.generated("rate")?.rate = rate;
            }
            "flows" => {
                let flows = number("flows", value, 1, 65_536, "takes 1 to 65536")?;
                self.generated("flows")?.flows = flows as u32;
            }
            "frames" => {
                let frames = number("frames", value, 0, u64::MAX, "takes a number of frames")?;
                self.generated("frames")?.frames = Some(frames);
            }
            "checksum" => {
                let expected = "takes yes or no";
                let error = WireError::Value {
                    key: "checksum",
                    value: text(),
                    expected,
                };
                let fill = match value {
                    "yes" | "" => true,
                    "no" => false,
                    _ => return Err(error),
                };
                self.generated("checksum")?.udp_checksum = fill;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn plug(&mut self, plug: Plug) -> Result<(), WireError> {
        match (&self.plug, &plug, self.generator_option) {
            (Plug::Unsaid, Plug::Gen, _)
            | (Plug::Unsaid, _, None)
            | (Plug::Pcap, Plug::Pcap, _) => {
                self.plug = plug;
                Ok(())
            }
            (Plug::Unsaid, second, Some(first)) => Err(WireError::Conflict {
                first,
                second: second.name(),
            }),
            (first, second, _) => Err(WireError::Conflict {
                first: first.name(),
                second: second.name(),
            }),
        }
    }

    fn generated(&mut self, second: &'static str) -> Result<&mut GenOptions, WireError> {
        match &self.plug {
            Plug::Unsaid | Plug::Gen => {
                self.generator_option = Some(second);
                Ok(&mut self.generator)
            }
            other => Err(WireError::Conflict {
                first: other.name(),
                second,
            }),
        }
    }

    /// Opens what the options name. Ports of one process that name the same peer meet in `peers`.
    ///
    /// # Errors
    /// A file or interface cannot be opened.
    pub fn open(&self, peers: &mut Peers) -> Result<AnyWire, WireError> {
        Ok(match &self.plug {
            Plug::Unsaid | Plug::Gen => GenWire::new(&self.generator)?.into(),
            Plug::Null => NullWire::new().into(),
            Plug::Tap(name) => TapWire::open(name)?.into(),
            Plug::Veth(name) => VethWire::open(name)?.into(),
            Plug::Peer(name) => peers.plug(name)?.into(),
            Plug::Pcap => {
                let mut wire = PcapWire::new();
                if let Some(input) = &self.input {
                    wire = wire.play(input, self.repeat.unwrap_or(1))?;
                }
                if let Some(output) = &self.output {
                    wire = wire.record(output)?;
                }
                wire.into()
            }
        })
    }
}

fn named(key: &'static str, value: &str) -> Result<String, WireError> {
    if value.is_empty() {
        return Err(WireError::Value {
            key,
            value: String::new(),
            expected: "takes a name",
        });
    }
    Ok(value.to_owned())
}

fn number(
    key: &'static str,
    value: &str,
    least: u64,
    most: u64,
    expected: &'static str,
) -> Result<u64, WireError> {
    match u64::from_str(value) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(WireError::Value {
            key,
            value: value.to_owned(),
            expected,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Rate, Wire};

    /// Sets `KEY=VALUE` pairs separated by commas.
    fn options(spec: &str) -> Result<WireOptions, WireError> {
        let mut options = WireOptions::new();
        for option in spec.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            assert!(options.set(key, value)?, "{key} is a wire option");
        }
        Ok(options)
    }

    #[test]
    fn the_default_is_a_generator() {
        for spec in [
            "",
            "gen",
            "size=128,rate=max",
            "gen,flows=9,frames=0,checksum=yes",
        ] {
            let wire = options(spec).unwrap().open(&mut Peers::new()).unwrap();
            assert!(matches!(wire, AnyWire::Gen(_)), "{spec}");
        }
        let options = options("size=128,rate=2k,flows=9,frames=7").unwrap();
        let expected = GenOptions {
            size: 128,
            rate: Rate::MilliFps(2_000_000),
            flows: 9,
            frames: Some(7),
            ..GenOptions::default()
        };
        assert_eq!(options.generator, expected);
        assert!(!WireOptions::new().set("queues", "3").unwrap());
    }

    #[test]
    fn other_wires_are_opened() {
        let mut peers = Peers::new();
        let null = options("null").unwrap().open(&mut peers).unwrap();
        assert!(matches!(null, AnyWire::Null(_)));
        let ends = [(); 2].map(|()| options("peer=7").unwrap().open(&mut peers).unwrap());
        assert!(ends.iter().all(Wire::link_up));
        assert!(options("peer=7").unwrap().open(&mut peers).is_err());
        let missing = options("pcap=/nonexistent/x.pcap,loop=3").unwrap();
        let error = missing.open(&mut peers).err().unwrap().to_string();
        assert!(error.contains("/nonexistent/x.pcap"), "{error}");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for spec in [
            "gen,tap=a",
            "tap=a,tap=b",
            "size=64,pcap=x",
            "pcap=x,rate=max",
            "null,frames=3",
            "loop=3,veth=b",
        ] {
            let error = options(spec).unwrap_err().to_string();
            assert!(error.contains("cannot be on one port"), "{spec}: {error}");
        }
        for spec in [
            "size=63",
            "size=9729",
            "size=x",
            "flows=0",
            "flows=65537",
            "frames=-1",
            "rate=fast",
            "tap=",
            "pcap=",
            "loop=0",
            "checksum=maybe",
        ] {
            let error = options(spec).unwrap_err().to_string();
            assert!(error.contains("takes"), "{spec}: {error}");
        }
    }
}
