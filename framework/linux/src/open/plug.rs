//! From wire specs to wires. Inputs are opened for all ports before the first output is created, so
//! that a mistake on the command line leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

use sumac_devices::wire::{
    AnyWire, GenOptions, GenWire, NullWire, PcapWire, Peers, Rate as WireRate, TapWire, VethWire,
    WireError,
};
use sumac_packet::MacAddress;

use crate::spec::{GenSpec, Rate, WireSpec};

/// A port whose wire is to be plugged in.
pub(super) struct Socket<'a> {
    /// Its spec, as errors show it.
    pub name: String,
    /// What to plug in.
    pub wire: &'a WireSpec,
    /// The port's address, which a generator sends to.
    pub mac: MacAddress,
}

/// A wire that cannot be plugged in, and the spec that asked for it.
#[derive(Debug)]
pub(super) struct PlugError {
    pub spec: String,
    pub source: WireError,
}

/// Makes every port's wire, in the order of the ports.
pub(super) fn plug_all(ports: &[Socket<'_>]) -> Result<Vec<AnyWire>, PlugError> {
    let mut peers = Peers::new();
    let mut wires = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        wires.push(port.error(plug(port, number, &mut peers))?);
    }
    let mut created = Created::default();
    let mut plugged = Vec::new();
    for (port, wire) in ports.iter().zip(wires) {
        plugged.push(match (port.wire, wire) {
            (
                WireSpec::Pcap {
                    output: Some(file), ..
                },
                AnyWire::Pcap(wire),
            ) => {
                let new = !file.exists();
                let wire = port.error(wire.record(file).map_err(WireError::from))?;
                if new {
                    created.files.push(file.clone());
                }
                wire.into()
            }
            (_, wire) => wire,
        });
    }
    created.files.clear();
    Ok(plugged)
}

impl Socket<'_> {
    fn error<T>(&self, outcome: Result<T, WireError>) -> Result<T, PlugError> {
        outcome.map_err(|source| PlugError {
            spec: self.name.clone(),
            source,
        })
    }
}

/// Files to be removed again unless all goes well.
#[derive(Default)]
struct Created {
    files: Vec<PathBuf>,
}

impl Drop for Created {
    fn drop(&mut self) {
        for file in &self.files {
            // It was made a moment ago and is empty; if it cannot be removed, so be it.
            let _ = fs::remove_file(file);
        }
    }
}

/// One port's wire, but for its output file.
fn plug(port: &Socket<'_>, number: usize, peers: &mut Peers) -> Result<AnyWire, WireError> {
    Ok(match port.wire {
        WireSpec::Gen(generator) => GenWire::new(&generator.options(port.mac, number))?.into(),
        WireSpec::Null => NullWire::new().into(),
        WireSpec::Pcap { input, repeats, .. } => {
            let wire = PcapWire::new();
            match input {
                Some(file) => wire.play(file as &Path, *repeats)?.into(),
                None => wire.into(),
            }
        }
        WireSpec::Tap(name) => TapWire::open(name)?.into(),
        WireSpec::Veth(name) => VethWire::open(name)?.into(),
        WireSpec::Peer(id) => peers.plug(id)?.into(),
    })
}

impl GenSpec {
    /// The generator on port `number`, sending to the port's address.
    fn options(&self, mac: MacAddress, number: usize) -> GenOptions {
        let usual = GenOptions::default();
        let mut source = usual.source;
        source[4] = number as u8;
        GenOptions {
            size: self.size.into(),
            rate: match self.rate {
                Rate::Line => WireRate::Line,
                Rate::Max => WireRate::Max,
                Rate::PerSecond(frames) => WireRate::MilliFps(frames.saturating_mul(1000)),
            },
            flows: self.flows,
            frames: self.frames,
            generator: number as u16,
            source,
            destination: mac.octets(),
            ..usual
        }
    }
}

#[cfg(test)]
mod tests {
    use sumac_devices::wire::Wire;
    use tempfile::TempDir;

    use super::*;
    use crate::spec::DeviceSpec;

    fn plug_specs(specs: &[&str]) -> Result<Vec<AnyWire>, PlugError> {
        let specs: Vec<DeviceSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        plug_all(&specs.iter().map(socket).collect::<Vec<_>>())
    }

    fn socket(spec: &DeviceSpec) -> Socket<'_> {
        match spec {
            DeviceSpec::Sim(sim) => Socket {
                name: sim.to_string(),
                wire: &sim.wire,
                mac: MacAddress([2, 0, 0, 0, 0, 7]),
            },
            other => panic!("{other} has no wire"),
        }
    }

    /// An empty capture: the file header of little-endian pcap, Ethernet.
    fn empty_capture(dir: &TempDir) -> String {
        let path = dir.path().join("in.pcap");
        let mut header = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        header.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
        fs::write(&path, header).unwrap();
        path.display().to_string()
    }

    #[test]
    fn every_port_gets_the_wire_it_asked_for() {
        let dir = TempDir::new().unwrap();
        let capture = format!(
            "sim:pcap={},out={}/o.pcap",
            empty_capture(&dir),
            dir.path().display()
        );
        let wires = plug_specs(&["sim", "sim:peer=1", "sim:null", &capture, "sim:peer=1"]).unwrap();
        let kinds = wires.iter().map(|wire| match wire {
            AnyWire::Gen(_) => "gen",
            AnyWire::Pcap(_) => "pcap",
            AnyWire::Peer(_) => "peer",
            AnyWire::Null(_) => "null",
            _ => "other",
        });
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            ["gen", "peer", "null", "pcap", "peer"]
        );
        assert!(dir.path().join("o.pcap").exists());
    }

    #[test]
    fn generators_send_to_their_port_and_differ() {
        let mut wires = plug_specs(&["sim:rate=max,size=128", "sim:rate=max,size=128"]).unwrap();
        let mut frames = wires.iter_mut().map(|wire| wire.peek(1).unwrap().to_vec());
        let (first, second) = (frames.next().unwrap(), frames.next().unwrap());
        assert_eq!((first.len(), second.len()), (124, 124));
        assert_eq!(first[..6], [2, 0, 0, 0, 0, 7]);
        assert_ne!(first[6..12], second[6..12]);
    }

    #[test]
    fn rates_are_handed_on() {
        let rate = |text: &str| match text.parse() {
            Ok(DeviceSpec::Sim(sim)) => match sim.wire {
                WireSpec::Gen(generator) => generator.options(MacAddress::BROADCAST, 0).rate,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert_eq!(rate("sim"), WireRate::Line);
        assert_eq!(rate("sim:rate=max"), WireRate::Max);
        assert_eq!(rate("sim:rate=1.5mpps"), WireRate::MilliFps(1_500_000_000));
    }

    #[test]
    fn a_missing_input_leaves_no_output_behind() {
        let dir = TempDir::new().unwrap();
        let output = dir.path().join("out.pcap");
        let specs = [
            format!("sim:out={}", output.display()),
            "sim:pcap=/nonexistent.pcap".to_owned(),
        ];
        let error = plug_specs(&specs.each_ref().map(String::as_str))
            .err()
            .unwrap();
        assert_eq!(error.spec, specs[1]);
        assert!(error.source.to_string().contains("/nonexistent.pcap"));
        assert!(!output.exists());
    }

    #[test]
    fn an_output_that_cannot_be_leaves_none_behind() {
        let dir = TempDir::new().unwrap();
        let old = dir.path().join("old.pcap");
        fs::write(&old, "before").unwrap();
        let new = dir.path().join("new.pcap");
        let specs = [&old, &new, &PathBuf::from("/nonexistent/out.pcap")];
        let specs = specs.map(|file| format!("sim:out={}", file.display()));
        let error = plug_specs(&specs.each_ref().map(String::as_str))
            .err()
            .unwrap();
        assert_eq!(error.spec, specs[2]);
        assert!(old.exists() && !new.exists());
    }
}
