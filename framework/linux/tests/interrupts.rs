//! Wake-ups by interrupts: the real driver on software cards that ring. A frame whose wake-up is lost leaves its
//! receiver asleep until the test's patience is over, and fails it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sumac_interface::net::{Net, NetQueue};
use sumac_ixgbe::{Port, PortConfig, QueuePair};
use sumac_linux::open::{self, OpenPorts};
use sumac_linux::{Bell, DeviceSpec};
use sumac_rref::{PacketBatch, PacketPool, SharedHeap};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pings, each of one frame there and one back.
const PINGS: u32 = 100_000;
/// Bytes of a frame.
const LENGTH: u16 = 60;

struct End {
    // Goes home before the port does.
    queue: QueuePair,
    port: Port,
    bell: Arc<Bell>,
    batch: PacketBatch,
}

fn ends(opened: &OpenPorts) -> Vec<End> {
    let pool = PacketPool::create(SharedHeap::create(), &*opened.dma, 4096).unwrap();
    let config = PortConfig {
        promiscuous: true,
        interrupts: true,
        ..PortConfig::default()
    };
    let end = |open: &open::OpenPort| {
        let mut port = Port::open(open.backing.clone(), pool, &config).unwrap();
        let bell = Arc::new(Bell::new().unwrap());
        let interrupts = open.interrupts.as_ref().unwrap();
        interrupts.connect(&[Arc::clone(&bell)]).unwrap();
        port.start().unwrap();
        End {
            queue: port.take_queues().remove(0),
            port,
            bell,
            batch: pool.batch().unwrap(),
        }
    };
    opened.ports.iter().map(end).collect()
}

impl End {
    /// Sleeps until a frame has come, and takes it; `false` if none came.
    fn receive(&mut self, patience: Duration) -> bool {
        loop {
            if self.queue.receive(&mut self.batch, 1).unwrap() > 0 {
                return true;
            }
            assert!(self.queue.arm());
            if self.queue.waiting(1) == 0 && !self.bell.wait(patience) {
                return false;
            }
        }
    }

    fn send(&mut self) {
        while self.queue.transmit(&mut self.batch).unwrap() == 0 {
            self.queue.reclaim();
            std::thread::yield_now();
        }
    }

    fn close(mut self) {
        self.port.stop().unwrap();
        self.port.return_queues([self.queue]);
    }
}

fn open_pair() -> OpenPorts {
    let specs: Vec<DeviceSpec> = ["sim:peer=1", "sim:peer=1"]
        .map(|s| s.parse().unwrap())
        .into();
    open::open(&specs, None).unwrap()
}

#[test]
fn no_frame_of_many_pings_is_slept_through() {
    let opened = open_pair();
    let mut ends = ends(&opened);
    let (mut far, mut near) = (ends.pop().unwrap(), ends.pop().unwrap());
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let far_bell = Arc::clone(&far.bell);
    let echo = std::thread::spawn(move || {
        let mut echoed = 0_u32;
        while !told.load(Ordering::Acquire) {
            if far.receive(Duration::from_secs(1)) {
                far.send();
                echoed += 1;
            }
        }
        (far, echoed)
    });
    for ping in 0..PINGS {
        if near.batch.is_empty() {
            near.queue.allocate(&mut near.batch, 1, LENGTH);
        }
        near.send();
        assert!(near.receive(PATIENCE), "ping {ping} was not answered");
    }
    over.store(true, Ordering::Release);
    far_bell.ring();
    let (far, echoed) = echo.join().unwrap();
    assert_eq!(echoed, PINGS);
    for open in &opened.ports {
        assert_eq!(open.software.as_ref().unwrap().violations(), []);
    }
    near.close();
    far.close();
}

#[test]
fn a_link_that_changes_rings() {
    let opened = open_pair();
    let pool = PacketPool::create(SharedHeap::create(), &*opened.dma, 4096).unwrap();
    let config = PortConfig {
        queues: 2,
        interrupts: true,
        ..PortConfig::default()
    };
    let open = &opened.ports[0];
    let bells: Vec<_> = (0..3).map(|_| Arc::new(Bell::new().unwrap())).collect();
    open.interrupts.as_ref().unwrap().connect(&bells).unwrap();
    let mut port = Port::open(open.backing.clone(), pool, &config).unwrap();
    port.start().unwrap();
    let link = usize::from(sumac_ixgbe::interrupts::link_vector(2));
    // The link comes up after the port was opened.
    assert!(bells[link].wait(PATIENCE));
    assert!(port.control_mut().take_link_interrupt());
    assert!(!port.control_mut().take_link_interrupt());
    // Bringing the device up again negotiates the link anew.
    port.stop().unwrap();
    port.reset().unwrap();
    port.start().unwrap();
    assert!(bells[link].wait(PATIENCE));
    assert!(port.control_mut().take_link_interrupt() && port.link().up);
    assert!(!bells[0].wait(Duration::ZERO) && !bells[1].wait(Duration::ZERO));
    port.stop().unwrap();
}
