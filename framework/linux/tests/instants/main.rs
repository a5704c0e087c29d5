//! Domains killed at each instruction of a call, one after the other: whichever it is, every buffer is
//! somewhere afterwards, and once. What rings, batches and pools do in several stores shows here if it can be
//! cut short between them.
// UNSAFETY: the trap flag is set, and a handler of single steps installed.
#![expect(unsafe_code)]

mod walk;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{process, slice, thread};

use sumac_device::{DmaSpace, HostDevice};
use sumac_devices::ixgbe::{Sim82599, Sim82599Config, SteppedClock};
use sumac_devices::memory::SimDma;
use sumac_devices::wire::{GenOptions, GenWire, Rate};
use sumac_interface::domain::{CreateLane, CreateNet, NetLane, PortSettings};
use sumac_interface::{Cause, Interface, Object};
use sumac_linux::domains::{self, Program, Shared, Started, bury, start_program};
use sumac_linux::grant::GrantedDevice;
use sumac_rref::{PacketBatch, PacketPool, PoolGrant, SharedHeap};
use sumac_runtime::load::{TrustedKeys, Verified, inspect};
use sumac_runtime::{Domain, Quota};
use sumac_testbed::domains::BuiltDomains;

const BUFFERS: u32 = 1024;
const SETTINGS: PortSettings = PortSettings {
    queues: 1,
    rx_descriptors: 64,
    tx_descriptors: 128,
    mtu: 1500,
    promiscuous: true,
    found_whole: true,
    interrupts: false,
};
/// The first transmit queue's head and tail (sections 8.2.3.9.8 and 8.2.3.9.9).
const TDH: u32 = 0x6010;
const TDT: u32 = 0x6018;
/// The longest that a death may take, all that it had freed included.
const PATIENCE: Duration = Duration::from_secs(120);

/// One test at a time: a walk is this process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn program<I: Interface + ?Sized>(name: &str) -> Program<I> {
    let file = BuiltDomains::build(&[name]).file(name);
    let signer = inspect(&file).expect("a sound file").signer;
    let trust = TrustedKeys::from_iter([signer]);
    Program::new(Verified::new(file, &trust).expect("a signed file"))
}

/// Has a domain of `program` make `call`, which follows on `prepare`, and die at one of its instructions, for each
/// that there is: nothing is lost.
fn die_at_each_instant<I: Interface + ?Sized, T, R>(
    program: &Program<I>,
    shared: &Shared,
    prepare: impl Fn(Domain, &mut I) -> T,
    call: impl Fn(&mut I, T) -> R,
) {
    let live = |walk: &mut dyn FnMut(Domain, &mut dyn FnMut())| {
        let started = start_program("walked", program, Quota::default(), shared);
        let Started { domain, mut root } = started.expect("it starts");
        let mut ready = Some(prepare(domain, &mut root));
        let mut left = None;
        walk(domain, &mut || {
            left = ready.take().map(|ready| call(&mut root, ready));
        });
        drop((left, root));
        domain.kill(Cause::Killed);
        bury(domain, shared).expect("nobody is in it");
    };
    // The first time everything is fetched that those after it find there.
    live(&mut |_, call| call());
    let mut instants = Vec::new();
    live(&mut |_, call| instants = walk::instants(call));
    // Instants that it did not come to, and instructions that it went on for, dead already.
    let (mut missed, mut whole) = (0, 0);
    let alive = watched(instants.len());
    for (number, instant) in instants.iter().enumerate() {
        alive.send(number).expect("it listens");
        live(&mut |domain, call| {
            let further = walk::kill_at(*instant, domain, call);
            missed += usize::from(further.is_none());
            whole += further.unwrap_or_default();
        });
        let pool = shared.pools[0];
        let account = pool.account();
        assert_eq!(
            (account.free, account.device, shared.heap.count()),
            (BUFFERS, 0, 0),
            "killed at instruction {number} of {}, {instant:x?}",
            instants.len()
        );
        pool.audit().expect("no buffer is there twice");
    }
    let all = instants.len();
    println!("{all} instants, {missed} of them missed, {whole} instructions done whole");
    // Memory that lies elsewhere than in the first walk may have the call go another way.
    assert!(missed <= all / 2, "{missed} of {all}");
    assert!(whole > 0, "something is done whole");
}

/// What is to be told the number of each death, before. Ends the process, which is a failed test, when one takes too
/// long: whoever died held a lock.
fn watched(deaths: usize) -> mpsc::Sender<usize> {
    let (sender, told) = mpsc::channel();
    thread::spawn(move || {
        let mut last = 0;
        loop {
            match told.recv_timeout(PATIENCE) {
                Ok(number) => last = number,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    eprintln!("killed at instruction {last} of {deaths}: somebody waits in vain");
                    process::abort();
                }
            }
        }
    });
    sender
}

fn pool(heap: &'static SharedHeap, dma: &dyn DmaSpace) -> (&'static PacketPool, Shared) {
    let pool = PacketPool::create(heap, dma, BUFFERS).expect("memory for packets");
    let pools = vec![pool];
    (pool, Shared { heap, pools })
}

fn heap() -> &'static SharedHeap {
    walk::install();
    SharedHeap::create_for(domains::hooks())
}

/// A batch of `count` packets.
fn packets(pool: &'static PacketPool, count: usize) -> PacketBatch {
    let mut batch = pool.batch().expect("room");
    let mut cache = pool.claim_cache().expect("nobody has it");
    assert_eq!(cache.allocate(&mut batch, count, 60), count);
    batch
}

/// Has a lane send `batch`, and then what it received in the call before, each time up to so many frames.
fn exchange(lane: &mut Object<dyn NetLane>, batch: PacketBatch, limits: &[u32]) {
    let empty = batch.pool().batch().expect("room");
    let mut batches = Some((empty, batch));
    for limit in limits {
        let Some((send, receive)) = batches.take() else {
            return;
        };
        batches = lane.exchange(receive, send, *limit).ok();
    }
}

#[test]
fn batches_and_stocks_of_buffers_are_whole_at_each_instant() {
    let _alone = alone();
    let (pool, shared) = pool(heap(), &SimDma::new().expect("address space"));
    let nullnet = program::<dyn CreateLane>("nullnet");
    // One is made, empties its stock and fills it again, by single packets and by several, and goes.
    die_at_each_instant(
        &nullnet,
        &shared,
        |_, _| (),
        |root, ()| {
            if let Ok(mut lane) = root.create(PoolGrant::new(pool)) {
                exchange(&mut lane, packets(pool, 0), &[9, 1, 0]);
            }
        },
    );
    // One gets more than its stock holds.
    die_at_each_instant(
        &nullnet,
        &shared,
        |_, root| {
            let mut lane = root.create(PoolGrant::new(pool)).expect("it lives");
            for _ in 0..8 {
                lane.transmit(packets(pool, 64)).expect("it lives");
            }
            (lane, packets(pool, 5))
        },
        |_, (mut lane, batch)| drop(lane.transmit(batch)),
    );
}

#[test]
fn rings_are_whole_at_each_instant() {
    let _alone = alone();
    let dma = SimDma::new().expect("address space");
    let (pool, shared) = pool(heap(), &dma);
    let frames = GenOptions {
        rate: Rate::Max,
        ..GenOptions::default()
    };
    let wire = GenWire::new(&frames).expect("in range");
    let sim = Sim82599::new(Sim82599Config::new("sim0", wire), &dma);
    // While nobody waits the device stands still, so that a call goes the same way each time.
    let clock = Arc::new(SteppedClock::new(slice::from_ref(&sim)));
    let mut backing = sim.backing();
    backing.clock = clock.clone();
    let device = Arc::new(GrantedDevice::new(backing, Arc::new(sim.clone())));
    die_at_each_instant(
        &program::<dyn CreateNet>("ixgbe"),
        &shared,
        |domain, root| {
            let grant = device.lend(domain, pool).expect("nobody has it");
            let made = root.create(grant, PoolGrant::new(pool), SETTINGS);
            let mut port = made.expect("it lives").expect("the device is well");
            port.start().expect("it lives").expect("the device is well");
            let lane = port.take_queue(0).expect("it lives");
            let mut lane = lane.expect("there is one");
            // As many as make the next one look for what was sent.
            for _ in 0..8 {
                lane.transmit(packets(pool, 8)).expect("it lives");
            }
            // Until the device has done all there is to do: what was sent is reported, and the ring full.
            let is_sent = || device.read32(TDH) == device.read32(TDT);
            while clock.step(1_000) > 0 || !is_sent() || lane.waiting(8).expect("it lives") < 8 {}
            (port, lane, packets(pool, 4))
        },
        |_, (port, mut lane, batch)| {
            exchange(&mut lane, batch, &[4, 1, 0]);
            let _or_dead = lane.reclaim();
            drop(lane);
            port
        },
    );
    let violations = sim.violations();
    assert_eq!(violations.total(), 0, "{violations}");
}
