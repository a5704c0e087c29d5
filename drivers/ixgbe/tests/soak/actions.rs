//! What is done to ports that forward.

use sumac_devices::ixgbe::{Fault as Misbehaviour, FaultKind};
use sumac_interface::net::MacAddress;
use sumac_ixgbe::{FlowControl, RssConfig};
use sumac_rref::Packet;

use crate::choices::Choices;
use crate::session::{Session, config};
use crate::side::Side;

/// What a device does wrong in a session.
const MISBEHAVIOUR: [FaultKind; 22] = [
    FaultKind::ReadsAllOnes,
    FaultKind::QueueNeverDisables,
    FaultKind::CompletesUnposted,
    FaultKind::ReceiveLength(0),
    FaultKind::ReceiveLength(1),
    FaultKind::ReceiveLength(2049),
    FaultKind::ReceiveLength(u16::MAX),
    FaultKind::MissingEndOfPacket,
    FaultKind::ReceiveNeverDone,
    FaultKind::ReceiveGarbage,
    FaultKind::TransmitNeverDone,
    FaultKind::HeadBeyondRing,
    FaultKind::SurpriseRemoval,
    FaultKind::ResetNeverCompletes,
    FaultKind::EepromNeverDone,
    FaultKind::EepromGarbage,
    FaultKind::QueueNeverEnables,
    FaultKind::DmaInitNeverDone,
    FaultKind::SemaphoreHeld,
    FaultKind::LinkDown,
    FaultKind::DmaError,
    FaultKind::DmaError,
];

impl Session {
    /// Does one thing, at random.
    pub fn act(&mut self, choices: &mut Choices) {
        let side = choices.below(2) as usize;
        match choices.below(12) {
            0 => self.stop_and_start(side, choices),
            1 => {
                let at_home = choices.once_in(2);
                self.sides[side].reset(at_home).expect("the device is well");
                self.traffic(choices.below(20), choices);
                self.start_both();
            }
            2 | 3 => change_settings(&mut self.sides[side], choices),
            4 => self.pull_cable(side, choices),
            5 => self.hoard(choices),
            6 => self.reopen(side, choices),
            7 => self.misbehave(side, choices),
            8 => self.send_own(side, choices),
            9 => {
                let port = self.sides[side].port();
                port.check().expect("the device is well");
                port.control_mut().stats().expect("the device is well");
                port.control_mut()
                    .link_change()
                    .expect("the device is well");
            }
            10 => {
                self.settle();
                self.check_buffers(0);
                for side in &mut self.sides {
                    side.stop(choices.once_in(2)).expect("the device is well");
                }
                self.start_both();
            }
            _ => {}
        }
        self.traffic(choices.below(100), choices);
    }

    fn stop_and_start(&mut self, side: usize, choices: &mut Choices) {
        if choices.once_in(2) {
            let control = self.sides[side].port().control_mut();
            control.stop_receiving().expect("the device is well");
            self.traffic(choices.below(20), choices);
        }
        let at_home = choices.once_in(2);
        self.sides[side].stop(at_home).expect("the device is well");
        self.traffic(choices.below(20), choices);
        self.start_both();
    }

    /// Frames are transmitted while the link is down, more than the ring takes.
    fn pull_cable(&mut self, side: usize, choices: &mut Choices) {
        self.sides[side].cable.set(false);
        self.traffic(choices.below(100), choices);
        match choices.below(4) {
            0 => self.stop_and_start(side, choices),
            1 => self.send_own(side, choices),
            2 => change_settings(&mut self.sides[side], choices),
            _ => {}
        }
        self.sides[side].cable.set(true);
    }

    /// The application takes every buffer there is, and lets go again.
    fn hoard(&mut self, choices: &mut Choices) {
        let mut hoard: Vec<Packet> = Vec::new();
        let mut received = 0;
        for _ in 0..choices.below(50) + 1 {
            self.time.pass(choices.below(4_000) + 1);
            for (lane, side) in self.lanes.iter_mut().zip(&mut self.sides) {
                for pair in &mut side.pairs {
                    pair.receive(&mut lane.pending, 64).expect("one pool");
                }
                while let Some(packet) = lane.pending.pop_front() {
                    lane.thrown += 1;
                    hoard.push(packet);
                    received += 1;
                }
            }
        }
        if choices.once_in(2) {
            hoard.extend(std::iter::from_fn(|| Packet::allocate(self.pool)));
        }
        let buffers = hoard.iter().map(|packet| packet.segments().count()).sum();
        self.check_buffers(buffers);
        assert!(received <= hoard.len());
        while !hoard.is_empty() {
            let left = choices.below(hoard.len() as u64) as usize;
            hoard.truncate(left);
            self.time.pass(2_000);
        }
    }

    fn reopen(&mut self, side: usize, choices: &mut Choices) {
        let at_home = choices.once_in(2);
        let config = config(self.pool, choices);
        self.sides[side].close(at_home);
        self.traffic(0, choices);
        self.sides[side].reopen(&config);
        self.start_both();
    }

    /// A burst of the application's own frames, some longer than a buffer, some with a tag.
    fn send_own(&mut self, to: usize, choices: &mut Choices) {
        let lane = &mut self.lanes[1 - to];
        for _ in 0..choices.below(64) {
            let bytes = choices.of(&[14, 60, 61, 1514, 2048, 2049, 9000]);
            let frame = vec![0xee; bytes];
            let Some(mut packet) = Packet::from_frame(self.pool, &frame) else {
                break;
            };
            if choices.once_in(3) {
                packet.request_vlan(choices.below(4096) as u16);
            }
            if lane.pending.push_back(packet).is_ok() {
                lane.made += 1;
            }
        }
    }

    /// Something goes wrong with a device; a reset makes it good again.
    fn misbehave(&mut self, number: usize, choices: &mut Choices) {
        let kind = match choices.of(&MISBEHAVIOUR) {
            // On a thread of its own the device may scribble over what was posted meanwhile, and
            // then blames the driver.
            FaultKind::CompletesUnposted if !self.time.is_stepped() => return,
            kind => kind,
        };
        let once = Misbehaviour::once(kind, choices.below(50));
        let fault = match kind {
            // Each may swallow a frame.
            FaultKind::DmaError => once,
            // Back before anybody knew, it would have lost writes.
            FaultKind::SurpriseRemoval => Misbehaviour::always(kind),
            _ if choices.once_in(2) => once,
            _ => Misbehaviour::always(kind),
        };
        let side = &mut self.sides[number];
        match kind {
            FaultKind::DmaError => side.bus_error(),
            FaultKind::ReceiveLength(_)
            | FaultKind::MissingEndOfPacket
            | FaultKind::ReceiveNeverDone
            | FaultKind::CompletesUnposted
            | FaultKind::ReceiveGarbage => side.blur(100_000),
            _ => {}
        }
        side.device.inject(fault);
        self.traffic(choices.below(50), choices);
        let side = &mut self.sides[number];
        // Each of these may fail, with an error that says why; none may do harm.
        let _looked_after = side.port().check();
        if choices.once_in(2) {
            let _set_or_not = side.port().control_mut().set_mtu(1500);
        }
        if choices.once_in(2) {
            let _read_or_not = side.port().control_mut().stats().map(drop);
        }
        let at_home = choices.once_in(2);
        match choices.below(3) {
            0 => _ = side.stop(at_home),
            1 => _ = side.reset(at_home),
            _ => {}
        }
        side.device.heal();
        side.reset(at_home).expect("the device is well again");
        self.start_both();
    }
}

/// Changes a port while it runs.
fn change_settings(side: &mut Side, choices: &mut Choices) {
    let control = side.port().control_mut();
    let on = choices.once_in(2);
    let group = MacAddress([1, 0, 0x5e, 0, 0, choices.below(3) as u8]);
    let other = MacAddress([2, 0, 0, 0, 0, choices.below(3) as u8]);
    let changed = match choices.below(12) {
        0..=2 => control.set_mtu(choices.of(&[68, 1499, 1500, 1501, 4000, 9000, 9710])),
        3 => control.set_promiscuous(on),
        4 => control.set_all_multicast(on),
        5 => control.set_broadcast(on),
        6 if on => control.add_multicast(group),
        6 => control.remove_multicast(group),
        7 if on => control.add_unicast(other),
        7 => control.remove_unicast(other),
        8 => control.set_vlan(choices.below(4096) as u16, on),
        9 => control.filter_vlans(on),
        10 => {
            let queue = choices.below(u64::from(control.config().queues.min(16))) as u8;
            control.set_rss(RssConfig {
                table: on.then_some([queue; 128]),
                ..RssConfig::default()
            })
        }
        _ => control.set_flow_control(choices.of(&[FlowControl::None, FlowControl::Full])),
    };
    changed.expect("the device is well");
}
