//! The order of register writes against the datasheet's checklist, and the end of every wait.
// UNSAFETY: a register file for tests implements the unsafe trait RegisterIo.
#![expect(unsafe_code)]

mod module;
mod register_file;

use module::WiredModule;
use register_file::*;
use sumac_device::{Clock, RegisterIo};
use sumac_interface::net::MacAddress;
use sumac_ixgbe::{
    ConfigError, Control, Fault, FlowControl, LinkState, PortConfig, QueueControl,
    RxQueueRegisters, Speed, TxQueueRegisters, Wait,
};

const KX4: u16 = 0x10f7;

/// Where `what` is in the log, from `from` on.
fn find(log: &[(u32, u32)], from: usize, what: impl Fn(u32, u32) -> bool) -> usize {
    log.iter()
        .enumerate()
        .skip(from)
        .find(|(_, (offset, value))| what(*offset, *value))
        .map(|(place, _)| place)
        .expect("the write must be there")
}

fn open(config: &PortConfig) -> (std::sync::Arc<RegisterFile>, Control) {
    let (registers, _, backing) = device(KX4);
    let control = Control::open(backing, config).expect("nothing is wrong");
    (registers, control)
}

/// What opening fails with when `offset` reads as `value` for ever.
fn fault_when_stuck(offset: u32, value: u32) -> Fault {
    let (registers, _, backing) = device(KX4);
    registers.stick(offset, value);
    let error = Control::open(backing, &PortConfig::default())
        .err()
        .expect("must fail");
    assert_eq!(error.device, "test0");
    error.fault
}

fn timed_out(fault: &Fault) -> Option<Wait> {
    match fault {
        Fault::TimedOut { wait, .. } => Some(*wait),
        _ => None,
    }
}

#[test]
fn bring_up_follows_section_4_6_3() {
    let (registers, _control) = open(&PortConfig::default());
    let log = registers.take_log();
    let masked = find(&log, 0, |offset, _| offset == EIMC);
    let quiet = find(&log, masked, |offset, value| {
        offset == CTRL && value & 4 != 0
    });
    let reset = find(&log, quiet, |offset, value| {
        offset == CTRL && value & 0x0400_0008 == 0x0400_0008
    });
    let masked_again = find(&log, reset, |offset, _| offset == EIMC);
    let link = find(&log, masked_again, |offset, value| {
        offset == AUTOC && value & 1 << 12 != 0
    });
    let rss = find(&log, link, |offset, _| offset == MRQC);
    let held = find(&log, rss, |offset, value| {
        offset == RTTDCS && value & 0x40 != 0
    });
    let requests = find(&log, held, |offset, value| {
        offset == DTXMXSZRQ && value == 0xfff
    });
    let mtqc = find(&log, requests, |offset, _| offset == MTQC);
    let released = find(&log, mtqc, |offset, value| {
        offset == RTTDCS && value & 0x40 == 0
    });
    find(&log, released, |offset, _| offset == FCTRL);
    // Reserved: EIMC bit 31. Not yet: receive and transmit.
    assert!(
        log.iter()
            .all(|(offset, value)| *offset != EIMC || value >> 31 == 0)
    );
    assert!(
        log.iter()
            .all(|(offset, value)| *offset != RXCTRL || value & 1 == 0)
    );
    assert_eq!(registers.cell(DMATXCTL) & 1, 0);
}

#[test]
fn both_places_agree_on_crc_stripping() {
    let (registers, _control) = open(&PortConfig::default());
    assert_eq!(registers.cell(HLREG0) & 2, 2);
    let rdrxctl = registers.cell(RDRXCTL);
    assert_eq!(rdrxctl & 2, 2);
    // RSCFRSTSIZE clear, RSCACKC and FCOE_WRFIX set.
    assert_eq!(rdrxctl & 0x063e_0000, 0x0600_0000);
}

#[test]
fn every_wait_of_bring_up_ends_with_its_name() {
    let wait = |offset, value| timed_out(&fault_when_stuck(offset, value));
    assert_eq!(wait(CTRL, 0x0400_0000), Some(Wait::Reset));
    assert_eq!(wait(EEC, 0x0100), Some(Wait::EepromAutoRead));
    assert_eq!(wait(EERD, 0), Some(Wait::EepromWord));
    assert_eq!(wait(RDRXCTL, 0), Some(Wait::DmaInit));
    assert_eq!(wait(SWSM, 1), Some(Wait::DriverSemaphore));
    assert_eq!(wait(SW_FW_SYNC, 1 << 8), Some(Wait::SharedResource));
}

#[test]
fn what_a_driver_that_died_holds_is_taken_from_it() {
    let (registers, _, backing) = device(KX4);
    // The other port's driver, with its firmware at work on something else.
    registers.write32(SW_FW_SYNC, 1 << 3 | 1 << 6);
    assert!(Control::open(backing, &PortConfig::default()).is_ok());
    assert_eq!(registers.cell(SW_FW_SYNC), 1 << 6);
}

#[test]
fn bad_contents_are_named() {
    assert!(matches!(
        fault_when_stuck(EERD, 0x1234_0002),
        Fault::EepromLayout { .. } | Fault::EepromChecksum { .. }
    ));
    assert_eq!(
        fault_when_stuck(RAL0, 1),
        Fault::NoStationAddress(MacAddress([1, 0, 0, 0, 0, 1]))
    );
    assert_eq!(fault_when_stuck(STATUS, u32::MAX), Fault::DeviceGone);
}

#[test]
fn a_bad_configuration_touches_nothing() {
    let (registers, _, backing) = device(KX4);
    let config = PortConfig {
        queues: 65,
        ..PortConfig::default()
    };
    let error = Control::open(backing, &config).err().expect("must fail");
    assert_eq!(error.fault, Fault::Config(ConfigError::Queues(65)));
    assert_eq!(error.to_string(), "test0: 65 queues cannot be; use 1 to 64");
    assert!(registers.take_log().is_empty());

    let (_, _, other) = device(0x10ed);
    let error = Control::open(other, &PortConfig::default())
        .err()
        .expect("must fail");
    assert!(matches!(error.fault, Fault::NotSupported(_)));
}

/// A queue pair without rings: enables and disables only.
struct Bare {
    rx: RxQueueRegisters,
    tx: TxQueueRegisters,
    stopped: usize,
}

impl QueueControl for Bare {
    fn start_transmit(&mut self, clock: &dyn Clock) -> Result<(), Fault> {
        self.tx.enable(clock)
    }
    fn start_receive(&mut self, clock: &dyn Clock) -> Result<(), Fault> {
        self.rx.enable(clock)
    }
    fn stop_receive(&mut self, clock: &dyn Clock) -> Result<(), Fault> {
        self.rx.disable(clock)
    }
    fn stop_transmit(&mut self, clock: &dyn Clock) -> Result<(), Fault> {
        self.tx.disable(clock)
    }
    fn stopped(&mut self) {
        self.stopped += 1;
    }
}

fn bare(control: &Control) -> Vec<Bare> {
    (0..control.config().queues)
        .map(|queue| control.queue_registers(queue).expect("the queue exists"))
        .map(|(rx, tx)| Bare { rx, tx, stopped: 0 })
        .collect()
}

#[test]
fn receive_is_the_last_to_start_and_the_first_to_stop() {
    let (registers, mut control) = open(&PortConfig::default());
    let mut queues = bare(&control);
    registers.take_log();
    control.start(&mut queues).expect("nothing is wrong");
    let log = registers.take_log();
    let transmit = find(&log, 0, |offset, value| {
        offset == DMATXCTL && value & 1 != 0
    });
    let tx_queue = find(&log, transmit, |offset, _| offset == TXDCTL0);
    let rx_queue = find(&log, tx_queue, |offset, _| offset == RXDCTL0);
    let held = find(&log, rx_queue, |offset, value| {
        offset == SECRXCTRL && value & 2 != 0
    });
    let receive = find(&log, held, |offset, value| {
        offset == RXCTRL && value & 1 != 0
    });
    let released = find(&log, receive, |offset, value| {
        offset == SECRXCTRL && value & 2 == 0
    });
    assert_eq!(released, log.len() - 1);
    assert_eq!(
        control.start(&mut queues).map_err(|error| error.fault),
        Err(Fault::Already("started"))
    );

    control.stop(&mut queues).expect("nothing is wrong");
    let log = registers.take_log();
    let receive = find(&log, 0, |offset, value| offset == RXCTRL && value & 1 == 0);
    let rx_queue = find(&log, receive, |offset, value| {
        offset == RXDCTL0 && value >> 25 & 1 == 0
    });
    let tx_queue = find(&log, rx_queue, |offset, value| {
        offset == TXDCTL0 && value >> 25 & 1 == 0
    });
    find(&log, tx_queue, |offset, value| {
        offset == DMATXCTL && value & 1 == 0
    });
    assert_eq!(queues.iter().map(|queue| queue.stopped).sum::<usize>(), 1);
}

#[test]
fn a_queue_that_does_not_stop_ends_in_a_reset() {
    let (registers, mut control) = open(&PortConfig::default());
    let mut queues = bare(&control);
    control.start(&mut queues).expect("nothing is wrong");
    registers.take_log();
    registers.stick(RXDCTL0, 1 << 25);
    let error = control.stop(&mut queues).expect_err("must fail");
    assert_eq!(timed_out(&error.fault), Some(Wait::RxQueueDisable(0)));
    find(&registers.take_log(), 0, |offset, value| {
        offset == CTRL && value & 1 << 26 != 0
    });
    assert_eq!(queues.iter().map(|queue| queue.stopped).sum::<usize>(), 1);
    // What the reset undid is done again before the port starts.
    registers.unstick(RXDCTL0);
    control.start(&mut queues).expect("the queue is well again");
    let log = registers.take_log();
    let rss = find(&log, 0, |offset, _| offset == MRQC);
    find(&log, rss, |offset, value| {
        offset == RXCTRL && value & 1 != 0
    });
}

#[test]
fn filters_change_with_receive_halted() {
    let (registers, mut control) = open(&PortConfig::default());
    control
        .start(&mut bare(&control))
        .expect("nothing is wrong");
    registers.take_log();
    control.set_promiscuous(true).expect("nothing is wrong");
    let log = registers.take_log();
    let off = find(&log, 0, |offset, value| offset == RXCTRL && value & 1 == 0);
    let fctrl = find(&log, off, |offset, value| {
        offset == FCTRL && value & 0x300 == 0x300
    });
    find(&log, fctrl, |offset, value| {
        offset == RXCTRL && value & 1 != 0
    });
}

#[test]
fn a_change_the_device_refuses_is_not_remembered() {
    let (registers, mut control) = open(&PortConfig::default());
    control
        .start(&mut bare(&control))
        .expect("nothing is wrong");
    registers.stick(SECRXSTAT, 0);
    let error = control.set_mtu(9000).expect_err("must fail");
    assert_eq!(timed_out(&error.fault), Some(Wait::ReceivePathEmpty));
    assert_eq!(control.mtu(), 1500);
    let mac = control.mac();
    assert!(control.set_mac(MacAddress([2, 0, 0, 0, 0, 9])).is_err());
    assert_eq!(control.mac(), mac);
}

#[test]
fn jumbo_frames_need_both_registers() {
    let (registers, mut control) = open(&PortConfig::default());
    assert_eq!(
        (registers.cell(MAXFRS) >> 16, registers.cell(HLREG0) & 4),
        (1518, 0)
    );
    control.set_mtu(9710).expect("nothing is wrong");
    assert_eq!(
        (registers.cell(MAXFRS) >> 16, registers.cell(HLREG0) & 4),
        (9728, 4)
    );
    let error = control.set_mtu(9711).expect_err("must fail");
    assert_eq!(
        error.to_string(),
        "test0: an MTU of 9711 bytes cannot be; use 68 to 9710"
    );
}

#[test]
fn pause_thresholds_are_set_in_every_mode() {
    const FCRTH0: u32 = 0x3260;
    let (registers, _control) = open(&PortConfig::default());
    assert_eq!(registers.cell(FCRTH0), 512 * 1024 - 0x6000);
    let both = PortConfig {
        flow_control: FlowControl::Full,
        ..PortConfig::default()
    };
    let (registers, _control) = open(&both);
    assert_eq!(registers.cell(FCRTH0), 1 << 31 | (512 * 1024 - 0x6000));
}

#[test]
fn queues_count_in_sixteen_counters() {
    const RQSMR: u32 = 0x2300;
    const TQSM: u32 = 0x8600;
    let config = PortConfig {
        queues: 17,
        ..PortConfig::default()
    };
    let (registers, _control) = open(&config);
    for base in [RQSMR, TQSM] {
        assert_eq!(registers.cell(base), 0x0302_0100);
        assert_eq!(registers.cell(base + 4 * 3), 0x0f0e_0d0c);
        assert_eq!(registers.cell(base + 4 * 4), 0x0302_0100);
    }
}

#[test]
fn link_changes_are_told_once() {
    let (registers, mut control) = open(&PortConfig::default());
    assert_eq!(control.link_change(), Ok(None));
    assert_eq!(control.wait_for_link(50_000_000), Ok(LinkState::Down));
    registers.stick(LINKS, 0x7000_0000);
    let up = LinkState::Up(Some(Speed::G10));
    assert_eq!(control.link_change(), Ok(Some(up)));
    assert_eq!(control.link_change(), Ok(None));
    assert_eq!(control.wait_for_link(50_000_000), Ok(up));
    registers.stick(STATUS, u32::MAX);
    assert_eq!(
        control.link().map_err(|error| error.fault),
        Err(Fault::DeviceGone)
    );
}

#[test]
fn a_module_in_the_cage_is_identified() {
    const SFP: u16 = 0x10fb;
    let (registers, _, backing) = device(SFP);
    let mut memory = [0; 256];
    memory[0] = 3;
    memory[3] = 0x10;
    registers.insert(WiredModule::new(memory));
    let control = Control::open(backing, &PortConfig::default()).expect("nothing is wrong");
    let module = control.module().expect("it answers").expect("there is one");
    assert_eq!((module.identifier, module.name()), (3, "10GBASE-SR"));

    let (_, _, backing) = device(SFP);
    let empty = Control::open(backing, &PortConfig::default()).expect("an empty cage is fine");
    assert_eq!(empty.module(), Ok(None));

    // The wire held down for ever: nobody who can answer, and no endless wait.
    let (registers, _, backing) = device(SFP);
    registers.stick(I2CCTL, 0);
    let held = Control::open(backing, &PortConfig::default()).expect("a dead cage is fine");
    assert_eq!(held.module(), Ok(None));
}

#[test]
fn a_dropped_port_leaves_a_quiet_device() {
    let (registers, mut control) = open(&PortConfig::default());
    control
        .start(&mut bare(&control))
        .expect("nothing is wrong");
    drop(control);
    assert_eq!(registers.cell(RXCTRL) & 1, 0);
    assert_eq!(registers.cell(DMATXCTL) & 1, 0);
    assert_eq!(registers.cell(CTRL) & 4, 4);
}
