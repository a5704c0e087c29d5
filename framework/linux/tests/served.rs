//! The 82599 driver over vfio-user: brought up on an 82599 that a server has, in memory that is lent to it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sumac_devices::ixgbe::{DeviceThread, Identity};
use sumac_devices::vfio_user::{Listener, Served82599};
use sumac_devices::wire::{GenOptions, GenWire, Rate};
use sumac_ixgbe::{Port, PortConfig};
use sumac_linux::open;
use sumac_rref::{PacketPool, SharedHeap};

const BUFFERS: u32 = 2048;
const LIMIT: Duration = Duration::from_secs(60);

/// A card with a generator that verifies what comes back, and its server.
struct Server {
    device: Served82599,
    listener: Arc<Listener>,
    run: Option<JoinHandle<()>>,
    _poll: DeviceThread,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(frames: u64) -> Self {
        let options = GenOptions {
            rate: Rate::Max,
            frames: Some(frames),
            ..GenOptions::default()
        };
        let wire = GenWire::new(&options).unwrap();
        let device = Served82599::new(Identity::default(), wire.into()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let listener = Arc::new(Listener::bind(&folder.path().join("nic")).unwrap());
        let (served, listening) = (device.clone(), Arc::clone(&listener));
        let run = std::thread::spawn(move || listening.run(&served, &|_, _| {}).unwrap());
        Self {
            _poll: DeviceThread::spawn(std::slice::from_ref(&device), None).unwrap(),
            device,
            listener,
            run: Some(run),
            folder,
        }
    }

    fn spec(&self) -> String {
        format!("vfio-user:{}", self.folder.path().join("nic").display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listener.stop();
        if let Some(run) = self.run.take() {
            run.join().unwrap();
        }
    }
}

/// Forwards until the generator has all its frames back. Returns how many that are.
fn forward(spec: &str, done: impl Fn() -> bool) {
    let opened = open::open(&[spec.parse().unwrap()], None).unwrap();
    let pool = PacketPool::create(SharedHeap::create(), &*opened.dma, BUFFERS).unwrap();
    let config = PortConfig {
        promiscuous: true,
        rx_descriptors: 256,
        tx_descriptors: 256,
        ..PortConfig::default()
    };
    let mut port = Port::open(opened.ports[0].backing.clone(), pool, &config).unwrap();
    port.start().unwrap();
    let mut queues = port.take_queues();
    let queue = &mut queues[0];
    let mut batch = pool.batch().unwrap();
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "frames are missing");
        queue.receive(&mut batch, 32).unwrap();
        queue.transmit(&mut batch).unwrap();
    }
}

#[test]
fn every_frame_comes_back_unchanged_and_no_rule_is_broken() {
    const FRAMES: u64 = 20_000;
    let server = Server::start(FRAMES);
    forward(&server.spec(), || {
        server.device.wire_report().from_device_frames >= FRAMES
    });
    let report = server.device.wire_report();
    assert_eq!(report.from_device_frames, FRAMES);
    assert_eq!(
        report.errors.total() + report.errors.foreign,
        0,
        "{report:?}"
    );
    let violations = server.device.violations();
    assert_eq!(violations.total(), 0, "{violations}");
}

#[test]
fn a_second_process_is_told_that_the_device_is_in_use() {
    let server = Server::start(1);
    let spec = [server.spec().parse().unwrap()];
    let first = open::open(&spec, None).unwrap();
    let error = open::open(&spec, None)
        .err()
        .expect("it is in use")
        .to_string();
    assert!(error.contains("serves somebody else"), "{error}");
    drop(first);
    let start = Instant::now();
    while open::open(&spec, None).is_err() {
        assert!(start.elapsed() < LIMIT, "the device is not given back");
        std::thread::yield_now();
    }
}
