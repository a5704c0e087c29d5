//! The 82599 driver as a domain: loaded from its signed file, driving software devices under full traffic,
//! dying at any moment, and started again. No DMA outside of what lives, no buffer lost.
#![forbid(unsafe_code)]

mod ports;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sumac_device::DeviceControl;
use sumac_interface::domain::{CreateNet, NetDevice, NetLane, PortSettings};
use sumac_interface::{Cause, Object, RpcError};
use sumac_linux::domains::{self, Shared, Started, bury, mapped_pages, start};
use sumac_linux::grant::GrantedDevice;
use sumac_linux::open::{self, OpenPorts};
use sumac_rref::{PacketBatch, PacketPool, PoolGrant, SharedHeap};
use sumac_runtime::load::{TrustedKeys, inspect};
use sumac_runtime::{Domain, Quota};
use sumac_testbed::domains::BuiltDomains;
use sumac_testbed::graveyard::Graveyard;

use ports::assert_clean;

const BUFFERS: u32 = 4096;
/// Far longer than any frame takes to come.
const PATIENCE: Duration = Duration::from_secs(120);
const SETTINGS: PortSettings = PortSettings {
    queues: 1,
    rx_descriptors: 128,
    tx_descriptors: 128,
    mtu: 1500,
    promiscuous: true,
    found_whole: false,
    interrupts: false,
};

struct Host {
    /// One test at a time: they count the pages of all domains.
    _alone: MutexGuard<'static, ()>,
    opened: OpenPorts,
    devices: Vec<Arc<GrantedDevice>>,
    /// Where the rings of the dead lie.
    graves: Arc<Graveyard>,
    shared: Shared,
    pool: &'static PacketPool,
    file: Vec<u8>,
}

/// The driver's domain file, built once for all tests.
fn file() -> Vec<u8> {
    static BUILT: OnceLock<BuiltDomains> = OnceLock::new();
    BUILT
        .get_or_init(|| BuiltDomains::build(&["ixgbe"]))
        .file("ixgbe")
}

impl Host {
    fn new(specs: &[&str]) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        domains::install().expect("Linux gives what domains need");
        let specs: Vec<_> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        let opened = open::open(&specs, None).unwrap();
        let heap = SharedHeap::create_for(domains::hooks());
        let pool = PacketPool::create(heap, &*opened.dma, BUFFERS).unwrap();
        let graves = Arc::new(Graveyard::new(opened.dma.clone()));
        let grantable = |port: &open::OpenPort| {
            let mut backing = port.backing.clone();
            backing.dma = graves.clone();
            Arc::new(GrantedDevice::new(backing, port.control.clone()))
        };
        Self {
            _alone: alone,
            devices: opened.ports.iter().map(grantable).collect(),
            graves,
            opened,
            shared: Shared {
                heap,
                pools: vec![pool],
            },
            pool,
            file: file(),
        }
    }

    /// A driver's domain, without a device.
    fn start(&self) -> Started<dyn CreateNet> {
        let trust = TrustedKeys::from_iter([inspect(&self.file).unwrap().signer]);
        start("ixgbe", &self.file, &trust, Quota::default(), &self.shared).unwrap()
    }

    /// A driver's domain for one device, its port started.
    fn drive(&self, device: &Arc<GrantedDevice>) -> Driver {
        let Started { domain, mut root } = self.start();
        let grant = device.lend(domain, self.pool).expect("nobody else has it");
        let created = root.create(grant, PoolGrant::new(self.pool), SETTINGS);
        let mut port = created.expect("it lives").expect("the device is well");
        port.start().expect("it lives").expect("the device is well");
        let lane = port.take_queue(0).expect("it lives").expect("there is one");
        Driver { domain, lane, port }
    }

    /// Ends a driver that lives, as if it had been killed in mid-traffic, and frees what it had.
    fn bury(&self, driver: Driver) {
        driver.domain.kill(Cause::Killed);
        bury(driver.domain, &self.shared).expect("nobody is in it");
        // A device that was not stopped would still be at work.
        thread::sleep(Duration::from_millis(2));
        assert!(self.graves.check() > 0, "its rings are gone");
    }
}

struct Driver {
    domain: Domain,
    lane: Object<dyn NetLane>,
    port: Object<dyn NetDevice>,
}

/// A round from one driver to the other; how many frames came.
fn forward(from: &mut Driver, to: &mut Driver, batch: PacketBatch) -> (PacketBatch, usize) {
    let batch = from.lane.receive(batch, 32).expect("it lives");
    let came = batch.len();
    (to.lane.transmit(batch).expect("it lives"), came)
}

/// One test at a time: they count what is left of all domains.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_driver_in_a_domain_forwards_dies_and_is_started_again() {
    let _alone = alone();
    let host = Host::new(&["sim:rate=max", "sim:rate=max"]);
    let [first, second] = &host.devices[..] else {
        panic!("two devices");
    };
    let mut second_driver = host.drive(second);
    let mut pages = 0;
    for death in 0..12_u32 {
        let mut first_driver = host.drive(first);
        assert!(first_driver.port.link().expect("it lives").mbps <= 10_000);
        let mut batch = host.pool.batch().unwrap();
        let (start, mut forwarded) = (Instant::now(), 0);
        for round in 0.. {
            let (left, came) = match round % 2 {
                0 => forward(&mut first_driver, &mut second_driver, batch),
                _ => forward(&mut second_driver, &mut first_driver, batch),
            };
            forwarded += came;
            batch = left;
            if round >= (death % 5 + 1) * 500 && forwarded > 0 {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "no frames come");
        }
        drop(batch);
        host.bury(first_driver);
        if death > 0 {
            assert_eq!(mapped_pages(), pages, "death {death}");
        }
        pages = mapped_pages();
    }
    // The one that nobody killed is well all the time.
    assert!(second_driver.lane.stats().is_ok());
    host.bury(second_driver);
    let account = host.pool.account();
    assert_eq!((account.free, account.device), (BUFFERS, 0));
    assert_eq!(host.pool.heap().count(), 0);
    assert_clean(&host.opened);
}

#[test]
fn calls_into_a_dead_driver_are_errors_and_what_they_carried_comes_back() {
    let _alone = alone();
    let host = Host::new(&["sim"]);
    let mut driver = host.drive(&host.devices[0]);
    driver.domain.kill(Cause::Killed);
    let dead = RpcError::Dead(Cause::Killed);
    let batch = host.pool.batch().unwrap();
    assert_eq!(driver.lane.receive(batch, 32).err(), Some(dead));
    assert_eq!(driver.port.mac().err(), Some(dead));
    host.bury(driver);
    assert_eq!(host.pool.account().free, BUFFERS);
    assert_eq!(host.pool.heap().count(), 0);
}

/// How many drivers are killed: `SUMAC_DEATHS`, for longer runs.
fn deaths() -> u32 {
    let deaths = std::env::var("SUMAC_DEATHS").ok();
    deaths.map_or(12, |text| text.parse().expect("a number of deaths"))
}

#[test]
fn a_driver_killed_at_any_instant_leaves_every_buffer_somewhere() {
    let _alone = alone();
    let host = Host::new(&["sim:rate=max"]);
    let mut rounds = 0;
    for death in 0..deaths() {
        let mut driver = host.drive(&host.devices[0]);
        let domain = driver.domain;
        // Another instant each time: from a few calls on to some thousands.
        let wait = Duration::from_nanos(u64::from(death * 7919 % 1009) * 1000);
        let killer = thread::spawn(move || {
            let start = Instant::now();
            while start.elapsed() < wait {
                std::hint::spin_loop();
            }
            domain.kill(Cause::Killed)
        });
        let mut batches = Some((host.pool.batch().unwrap(), host.pool.batch().unwrap()));
        while let Some((send, receive)) = batches.take() {
            batches = driver.lane.exchange(receive, send, 32).ok();
            rounds += 1;
        }
        assert!(killer.join().unwrap(), "nobody else ended it");
        drop(driver);
        bury(domain, &host.shared).expect("nobody is in it");
        let account = host.pool.account();
        assert_eq!(
            (account.free, account.device, host.pool.heap().count()),
            (BUFFERS, 0, 0),
            "death {death}, after {wait:?}"
        );
        host.pool.audit().expect("no buffer is there twice");
    }
    assert!(rounds > 0, "it was at work");
    assert_clean(&host.opened);
}

/// A device that goes on whatever it is told.
struct Stubborn;

impl DeviceControl for Stubborn {
    fn stop(&self) -> bool {
        false
    }

    fn start(&self) {}

    fn is_there(&self) -> bool {
        true
    }
}

#[test]
fn what_a_device_may_still_write_to_is_not_used_again() {
    let host = Host::new(&["sim"]);
    let port = &host.opened.ports[0];
    let mut backing = port.backing.clone();
    backing.dma = host.graves.clone();
    let device = Arc::new(GrantedDevice::new(backing, Arc::new(Stubborn)));
    let driver = host.drive(&device);
    let posted = host.pool.account().device;
    assert!(posted > 0);
    driver.domain.kill(Cause::Killed);
    bury(driver.domain, &host.shared).expect("nobody is in it");
    assert_eq!(host.graves.check(), 0, "its rings are not freed");
    assert_eq!(host.pool.account().free, BUFFERS - posted);
    let next = host.start();
    assert!(device.lend(next.domain, host.pool).is_none());
    next.domain.kill(Cause::Killed);
    bury(next.domain, &host.shared).expect("nobody is in it");
    assert!(port.control.stop());
    assert_clean(&host.opened);
}

#[test]
fn what_a_driver_drops_while_its_device_runs_is_freed_once_that_was_stopped() {
    let host = Host::new(&["sim:rate=max"]);
    let Driver { domain, lane, port } = host.drive(&host.devices[0]);
    drop(lane);
    // The device goes on receiving.
    thread::sleep(Duration::from_millis(2));
    assert_eq!(host.graves.check(), 0, "its rings are not freed");
    assert!(host.pool.account().device > 0);
    domain.kill(Cause::Killed);
    bury(domain, &host.shared).expect("nobody is in it");
    assert!(host.graves.check() > 0, "now they are");
    let account = host.pool.account();
    assert_eq!((account.free, account.device), (BUFFERS, 0));
    drop(port);
    assert_clean(&host.opened);
}

#[test]
fn a_device_of_another_kind_is_refused_and_given_back() {
    let host = Host::new(&["sim"]);
    let port = &host.opened.ports[0];
    let mut backing = port.backing.clone();
    backing.id.device = 0x0953;
    let device = Arc::new(GrantedDevice::new(backing, port.control.clone()));
    let (mut one, two) = (host.start(), host.start());
    let grant = device.lend(one.domain, host.pool).expect("nobody has it");
    assert!(
        device.lend(two.domain, host.pool).is_none(),
        "it has one owner"
    );
    let pool = PoolGrant::new(host.pool);
    let refused = one.root.create(grant, pool, SETTINGS).expect("it lives");
    let fault = refused.expect_err("it is no 82599").to_string();
    assert!(fault.contains("0953"), "{fault}");
    one.domain.kill(Cause::Killed);
    bury(one.domain, &host.shared).expect("nobody is in it");
    assert!(
        device.lend(two.domain, host.pool).is_some(),
        "it is free again"
    );
    two.domain.kill(Cause::Killed);
    bury(two.domain, &host.shared).expect("nobody is in it");
    assert_clean(&host.opened);
}
