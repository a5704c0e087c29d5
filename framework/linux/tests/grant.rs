//! A driver dies at any moment under full traffic: its device is stopped before anything it could reach is
//! freed, every buffer comes back, and the next driver has the device.
// UNSAFETY: the test stands in for the runtime: it says when a domain is gone.
#![expect(unsafe_code)]

mod ports;

use std::mem::forget;
use std::time::{Duration, Instant};

use sumac_ixgbe::{Port, PortConfig};
use sumac_linux::grant::GrantedDevice;
use sumac_linux::open::{self, OpenPorts};
use sumac_rref::{DomainId, PacketPool, SharedHeap};
use sumac_testbed::pretend::{HOOKS, inside};

use ports::assert_clean;

const BUFFERS: u32 = 4096;
/// Far longer than any frame takes to come.
const PATIENCE: Duration = Duration::from_secs(120);

struct Host {
    opened: OpenPorts,
    devices: Vec<GrantedDevice>,
    pool: &'static PacketPool,
}

fn host(specs: &[&str]) -> Host {
    let specs: Vec<_> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
    let mut opened = open::open(&specs, None).unwrap();
    let pool = PacketPool::create(SharedHeap::create_for(HOOKS), &*opened.dma, BUFFERS).unwrap();
    let mut devices = Vec::new();
    opened.ports.iter_mut().for_each(|port| {
        let granted = GrantedDevice::new(port.backing.clone(), port.control.clone());
        devices.push(granted);
    });
    Host {
        opened,
        devices,
        pool,
    }
}

/// Drives both devices for some rounds and dies there, frames in every ring.
fn live_and_die(host: &Host, rounds: usize) {
    let config = PortConfig {
        promiscuous: true,
        rx_descriptors: 128,
        tx_descriptors: 128,
        ..PortConfig::default()
    };
    let mut ports: Vec<Port> = (host.devices.iter())
        .map(|device| {
            // SAFETY: `host` lives on, and ends the grant before the next.
            let grant = unsafe { device.grant() }.expect("nobody else has it");
            let mut port = Port::open(grant.backing(), host.pool, &config).unwrap();
            port.start().unwrap();
            port
        })
        .collect();
    let mut queues: Vec<_> = (ports.iter_mut())
        .map(|port| port.take_queues().pop().unwrap())
        .collect();
    let mut batch = host.pool.batch().unwrap();
    let (start, mut forwarded) = (Instant::now(), 0);
    for round in 0.. {
        let (from, to) = (round % 2, (round + 1) % 2);
        forwarded += queues[from].receive(&mut batch, 32).unwrap();
        if round % 3 != 0 {
            queues[to].transmit(&mut batch).unwrap();
        }
        // In its first rounds a device may not have begun; in many it has, however late.
        if round >= rounds && (rounds < 1000 || forwarded > 0) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "no frames come");
    }
    forget((ports, queues, batch));
}

fn bury(host: &Host, id: DomainId) -> (u32, usize) {
    assert!(host.devices.iter().all(GrantedDevice::stop));
    // SAFETY: what the domain had was forgotten: it runs nowhere.
    unsafe { host.pool.heap().reclaim(id) };
    let (mut buffers, mut memories) = (0, 0);
    for device in &host.devices {
        // SAFETY: as above, and the device was stopped.
        let ended = unsafe { device.end(id, host.pool) };
        buffers += ended.buffers;
        memories += ended.memories;
    }
    (buffers, memories)
}

#[test]
fn deaths_under_traffic_leave_nothing_behind() {
    let deaths = match std::env::var("SUMAC_DEATHS") {
        Ok(number) => number.parse().expect("SUMAC_DEATHS is a number"),
        Err(_) => 40,
    };
    let host = host(&["sim:rate=max", "sim:rate=max"]);
    for death in 0..deaths {
        let id = DomainId::new(10 + death);
        let rounds = 10 + death as usize % 7 * 1000;
        inside(id, || live_and_die(&host, rounds));
        let (buffers, memories) = bury(&host, id);
        assert!(buffers >= 256, "{buffers} were with the rings at least");
        assert_eq!(memories, 4, "two rings a port");
        let account = host.pool.account();
        assert_eq!(
            (account.free, account.device),
            (BUFFERS, 0),
            "death {death}"
        );
        assert_eq!(host.pool.heap().count(), 0);
    }
    assert_clean(&host.opened);
}

#[test]
fn a_device_is_granted_to_one_domain_at_a_time() {
    let host = host(&["sim:null"]);
    let device = &host.devices[0];
    // SAFETY: `host` lives on, and nobody drives the device by the grants.
    let first = unsafe { device.grant() };
    assert!(first.is_some());
    // SAFETY: as above.
    assert!(unsafe { device.grant() }.is_none());
    assert!(device.stop());
    // SAFETY: nothing ever ran as this domain.
    let ended = unsafe { device.end(DomainId::new(9), host.pool) };
    assert_eq!((ended.buffers, ended.memories), (0, 0));
    // SAFETY: as above.
    assert!(unsafe { device.grant() }.is_some());
}
