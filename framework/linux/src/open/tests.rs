//! What opens, what does not, and what is left of it.

use std::time::{Duration, Instant};

use sumac_devices::ixgbe::{Fault, FaultKind};
use sumac_devices::vfio_user::{Function, Served82599};

use super::*;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn specs(texts: &[&str]) -> Vec<DeviceSpec> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The message when these specs cannot be opened.
fn refusal(texts: &[&str]) -> String {
    match open(&specs(texts), None) {
        Ok(_) => panic!("{texts:?} opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn ports_are_as_their_specs_say() {
    let texts = [
        "sim:null,id=1517,mac=02:00:00:00:00:09",
        "sim:null",
        "sim:peer=1",
        "sim:peer=1",
    ];
    let opened = open(&specs(&texts), None).unwrap();
    let ids: Vec<u16> = opened
        .ports
        .iter()
        .map(|port| port.backing.id.device)
        .collect();
    assert_eq!(ids, [0x1517, 0x10fb, 0x10fb, 0x10fb]);
    for (number, (port, text)) in opened.ports.iter().zip(texts).enumerate() {
        assert_eq!(port.backing.name, format!("sim{number}"));
        assert_eq!(port.spec.to_string(), text);
        let software = port.software.as_ref().unwrap();
        assert!(software.violations().is_empty());
    }
    assert!(opened.is_alive());
    assert!(opened.dma.allocate(4096, 4096).is_ok());
}

#[test]
fn addresses_differ_unless_given() {
    let specs = specs(&["sim", "sim", "sim:mac=02:00:00:00:00:09"]);
    let sims = software::sims(&specs).unwrap();
    let macs: Vec<[u8; 6]> = sims.iter().map(|sim| sim.identity.mac).collect();
    assert_ne!(macs[0], macs[1]);
    assert_eq!(macs[2], [2, 0, 0, 0, 0, 9]);
}

#[test]
fn a_finished_set_of_ports_is_still() {
    let mut opened = open(&specs(&["sim:null"]), None).unwrap();
    assert!(opened.is_alive());
    opened.finish();
    assert!(!opened.is_alive());
    opened.finish();
    assert_eq!(
        opened.ports[0].software.as_ref().unwrap().wire().failure,
        None
    );
}

/// Starts receiving as a driver does in the end (RXCTRL.RXEN, datasheet section 8.2.3.8.10).
fn receive(port: &OpenPort) {
    // SAFETY: the device is this test's.
    unsafe { port.backing.bar.io() }.write32(0x3000, 1);
}

#[test]
fn a_device_goes_and_comes_back_as_its_spec_says() {
    let mut opened = open(&specs(&["sim:null,gone=1ms,back=20ms", "sim:null"]), None).unwrap();
    let is_there = |port: &OpenPort| port.control.is_there();
    std::thread::sleep(Duration::from_millis(5));
    assert!(is_there(&opened.ports[0]), "its driver has not started it");
    opened.ports.iter().for_each(receive);
    let deadline = Instant::now() + PATIENCE;
    while is_there(&opened.ports[0]) {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert!(is_there(&opened.ports[1]));
    opened.let_go(0);
    let again = loop {
        match opened.reopen(0) {
            Ok(again) => break again,
            Err(_) => assert!(Instant::now() < deadline),
        }
    };
    assert_eq!(again.spec, opened.ports[0].spec);
    // However short it was away, what was opened before is not it.
    assert!(is_there(&again) && !is_there(&opened.ports[0]));
    assert!(opened.reopen(2).is_err());
}

#[test]
fn a_device_that_is_gone_is_not_opened_again() {
    let mut opened = open(&specs(&["sim:null,gone=1ms"]), None).unwrap();
    receive(&opened.ports[0]);
    while opened.ports[0].control.is_there() {
        std::thread::yield_now();
    }
    let error = opened.reopen(0).err().unwrap().to_string();
    assert_eq!(error, "sim:null,gone=1ms: the device is gone");
}

#[test]
fn cards_behind_a_shared_bar_do_not_go_by_themselves() {
    let specs = specs(&["sim:null", "sim:null,gone=1s"]);
    let error = wires(&specs).err().unwrap().to_string();
    assert!(error.starts_with("sim:null,gone=1000ms: "), "{error}");
}

/// Nobody has started the card that goes, so it stays; and who counted its time can stop.
#[test]
fn cards_that_are_served_go_when_they_say_so() {
    let specs = specs(&["sim:null", "sim:null,gone=1ms"]);
    let served: Vec<_> = (sockets(&specs).unwrap().into_iter())
        .map(|(identity, wire)| Served82599::new(identity, wire).unwrap())
        .collect();
    let pulling = pull(&specs, &served).unwrap();
    assert_eq!(pulling.len(), 1);
    drop(pulling);
    let mut status = [0; 4];
    served[1].read(0, 8, &mut status).unwrap();
    assert_ne!(status, [0xFF; 4]);
    served[1].inject(Fault::always(FaultKind::SurpriseRemoval));
    served[1].read(0, 8, &mut status).unwrap();
    assert_eq!(status, [0xFF; 4]);
    served[1].heal();
    served[1].read(0, 8, &mut status).unwrap();
    assert_ne!(status, [0xFF; 4]);
}

#[test]
fn no_spec_is_no_device() {
    let opened = open(&[], None).unwrap();
    assert!(opened.ports.is_empty() && opened.is_alive());
}

#[test]
fn the_devices_run_on_the_core_asked_for() {
    let usable = CoreList::usable().unwrap();
    let core = *usable.as_slice().last().unwrap();
    let opened = open(&specs(&["sim:null"]), Some(core)).unwrap();
    // The thread says where it may run as soon as it has pinned itself.
    let deadline = Instant::now() + PATIENCE;
    while !pinned_to(core) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(opened);
    let error = open(&specs(&["sim"]), Some(1023))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("software devices: core 1023 is not to be used"),
        "{error}"
    );
}

/// Whether a device thread of this process is confined to `core`.
fn pinned_to(core: usize) -> bool {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return false;
    };
    tasks.flatten().any(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(str::trim)
        };
        line("Name:") == Some("sumac-device")
            && line("Cpus_allowed_list:") == Some(&core.to_string())
    })
}

#[test]
fn what_cannot_be_opened_says_why() {
    for (texts, words) in [
        (
            &["ff:1f.7"][..],
            "0000:ff:1f.7: no such PCI device; `sumac devices",
        ),
        (
            &["sim:id=1528"],
            "sim:id=1528: the software device cannot be a 1528; take id=10fb, 10f7, 1517",
        ),
        (&["sim:pcap=/nonexistent/x.pcap"], "/nonexistent/x.pcap"),
        (&["sim:out=/nonexistent/x.pcap"], "/nonexistent/x.pcap"),
        (&["sim:veth=sumac-none"], "sumac-none"),
        (&["sim:peer=a"], "peer=a"),
        (&["03:00.0", "0000:03:00.0"], "given twice"),
    ] {
        let message = refusal(texts);
        assert!(
            message.contains(words) && !message.contains('\n'),
            "{message}"
        );
    }
}
