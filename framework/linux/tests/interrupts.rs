//! Wake-ups by interrupts: the real driver on software cards that ring, linked in, in a domain, and in one that is
//! started again. Whoever waits does so here, on the host's side. A frame whose wake-up is lost leaves its receiver
//! asleep until the test's patience is over, and fails it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sumac_interface::Policy;
use sumac_interface::domain::{PortSettings, RemotePort};
use sumac_interface::net::{Armed, Net, NetQueue};
use sumac_ixgbe::{Port, PortConfig};
use sumac_linux::domains::{
    self, Driver, PortService, Program, Progress, Service, Shared, SupervisedPort, Supervisor, bury,
};
use sumac_linux::grant::GrantedDevice;
use sumac_linux::open::{self, OpenPort, OpenPorts};
use sumac_linux::{Bell, DeviceSpec};
use sumac_rref::{PacketBatch, PacketPool, SharedHeap};
use sumac_runtime::load::{TrustedKeys, Verified, inspect};
use sumac_runtime::{Cause, Domain, Quota};
use sumac_testbed::domains::BuiltDomains;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of a frame.
const LENGTH: u16 = 60;
/// What a driver may use in a build for debugging, where its device's thread may stand still for seconds, too.
const QUOTA: Quota = Quota {
    pages: 4096,
    threads: 0,
    call_ns: 60_000_000_000,
};

/// Pings of a test, each of one frame there and one back; `SUMAC_PINGS` says how many in all of them.
fn pings(usual: u32) -> u32 {
    let asked = std::env::var("SUMAC_PINGS").ok();
    asked.and_then(|pings| pings.parse().ok()).unwrap_or(usual)
}

/// Two cards on a cable, and where their packets are of.
struct Cards {
    /// One test at a time: they look for drivers among all domains.
    _alone: MutexGuard<'static, ()>,
    opened: OpenPorts,
    heap: &'static SharedHeap,
    pool: &'static PacketPool,
}

impl Cards {
    fn open() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        domains::install().expect("Linux gives what domains need");
        let specs = ["sim:peer=1", "sim:peer=1"].map(|spec| spec.parse::<DeviceSpec>().unwrap());
        let opened = open::open(&specs, None).unwrap();
        let heap = SharedHeap::create_for(domains::hooks());
        let pool = PacketPool::create(heap, &*opened.dma, 4096).unwrap();
        Self {
            _alone: alone,
            opened,
            heap,
            pool,
        }
    }

    /// A port whose driver is linked in.
    fn linked(&self, card: &OpenPort) -> Port {
        let config = PortConfig {
            promiscuous: true,
            interrupts: true,
            ..PortConfig::default()
        };
        Port::open(card.backing.clone(), self.pool, &config).unwrap()
    }

    fn service(&self, card: &OpenPort) -> PortService {
        static FILE: OnceLock<Verified> = OnceLock::new();
        let file = FILE.get_or_init(|| {
            let file = BuiltDomains::build(&["ixgbe"]).file("ixgbe");
            let signer = inspect(&file).expect("a sound file").signer;
            Verified::new(file, &TrustedKeys::from_iter([signer])).expect("a signed file")
        });
        PortService {
            name: card.backing.name.clone(),
            driver: Driver::Net(Program::new(file.clone())),
            quota: QUOTA,
            shared: self.shared(),
            device: Arc::new(GrantedDevice::new(
                card.backing.clone(),
                card.control.clone(),
            )),
            pool: self.pool,
            settings: PortSettings {
                found_whole: false,
                queues: 1,
                rx_descriptors: 128,
                tx_descriptors: 128,
                mtu: 1500,
                promiscuous: true,
                interrupts: true,
            },
            progress: Progress::default(),
        }
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::new(Shared {
            heap: self.heap,
            pools: vec![self.pool],
        })
    }

    /// A port whose driver is in a domain.
    fn remote(&self, card: &OpenPort) -> RemotePort {
        let (_, mut life) = self.service(card).start().unwrap();
        RemotePort::new(life.take_device().unwrap(), self.pool).unwrap()
    }

    /// A port whose driver is in a domain and is started again when it dies.
    fn supervised(&self, card: &OpenPort) -> (SupervisedPort, Arc<Supervisor<PortService>>) {
        let policy = Policy::default();
        let supervisor =
            Supervisor::start(self.service(card), self.shared(), policy.limit).unwrap();
        let port = SupervisedPort::new(Arc::clone(&supervisor), self.pool, policy, Arc::default())
            .unwrap();
        (port, supervisor)
    }

    /// The port of `card`, started, and its queue pair's end of the cable.
    fn end<N: Net>(&self, card: &OpenPort, mut port: N) -> (N, End<N::Queue>) {
        let bell = Arc::new(Bell::new().unwrap());
        let interrupts = card.interrupts.as_ref().unwrap();
        interrupts.connect(&[Arc::clone(&bell)]).unwrap();
        port.start().unwrap();
        let end = End {
            queue: port.take_queues().remove(0),
            bell,
            batch: self.pool.batch().unwrap(),
        };
        (port, end)
    }

    #[track_caller]
    fn assert_no_rule_is_broken(&self) {
        for card in &self.opened.ports {
            assert_eq!(card.software.as_ref().unwrap().violations(), []);
        }
    }
}

impl Drop for Cards {
    /// Ends what drivers live, before what they drive goes.
    fn drop(&mut self) {
        for card in &self.opened.ports {
            while let Some(driver) = driver_of(card) {
                driver.kill(Cause::Killed);
                if bury(driver, &*self.shared()).is_err() {
                    break;
                }
            }
        }
    }
}

/// The domain of a card's driver.
fn driver_of(card: &OpenPort) -> Option<Domain> {
    Domain::all().find(|domain| domain.name() == card.backing.name)
}

/// Sleeps until a bell rings, no longer than `patience`; whether it did. Other than for a worker, a signal to its thread
/// is no reason to look around.
fn rings(bell: &Bell, patience: Duration) -> bool {
    let start = Instant::now();
    loop {
        let left = patience.saturating_sub(start.elapsed());
        match bell.wait(left) {
            false if left.is_zero() => return false,
            false => {}
            true => return true,
        }
    }
}

/// A queue pair, and what its receiver sleeps on.
struct End<Q> {
    queue: Q,
    bell: Arc<Bell>,
    batch: PacketBatch,
}

impl<Q: NetQueue> End<Q> {
    /// Sleeps until a frame has come, and takes it; `false` if none came.
    fn receive(&mut self, patience: Duration) -> bool {
        loop {
            if self.queue.receive(&mut self.batch, 1).unwrap() > 0 {
                return true;
            }
            let armed = self.queue.arm().unwrap();
            assert_ne!(armed, Armed::Never);
            if armed == Armed::Sleep && !rings(&self.bell, patience) {
                return false;
            }
        }
    }

    fn send(&mut self) {
        if self.batch.is_empty() {
            self.queue.allocate(&mut self.batch, 1, LENGTH);
        }
        while self.queue.transmit(&mut self.batch).unwrap() == 0 {
            self.queue.reclaim();
            thread::yield_now();
        }
    }
}

/// Pings from one port to the other and back, each sent when the one before was answered.
fn ping<N: Net<Queue: 'static>>(cards: &Cards, ports: [N; 2], pings: u32) {
    let [near, far] = ports;
    let (mut near_port, mut near) = cards.end(&cards.opened.ports[0], near);
    let (mut far_port, mut far) = cards.end(&cards.opened.ports[1], far);
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let far_bell = Arc::clone(&far.bell);
    let echo = thread::spawn(move || {
        let mut echoed = 0_u32;
        while !told.load(Ordering::Acquire) {
            if far.receive(Duration::from_secs(1)) {
                far.send();
                echoed += 1;
            }
        }
        (far, echoed)
    });
    for ping in 0..pings {
        near.send();
        assert!(near.receive(PATIENCE), "ping {ping} was not answered");
    }
    over.store(true, Ordering::Release);
    far_bell.ring();
    let (far, echoed) = echo.join().unwrap();
    assert_eq!(echoed, pings);
    cards.assert_no_rule_is_broken();
    for (port, end) in [(&mut near_port, near), (&mut far_port, far)] {
        port.stop().unwrap();
        port.return_queues(vec![end.queue]);
    }
}

#[test]
fn no_frame_of_many_pings_is_slept_through() {
    let cards = Cards::open();
    let [near, far] = &cards.opened.ports[..] else {
        panic!("two cards");
    };
    ping(
        &cards,
        [cards.linked(near), cards.linked(far)],
        pings(100_000),
    );
}

#[test]
fn no_frame_is_slept_through_by_drivers_in_domains() {
    let cards = Cards::open();
    let [near, far] = &cards.opened.ports[..] else {
        panic!("two cards");
    };
    ping(
        &cards,
        [cards.remote(near), cards.remote(far)],
        pings(10_000),
    );
}

#[test]
fn no_frame_is_slept_through_behind_shadows() {
    let cards = Cards::open();
    let [near, far] = &cards.opened.ports[..] else {
        panic!("two cards");
    };
    let (near, _near) = cards.supervised(near);
    let (far, _far) = cards.supervised(far);
    ping(&cards, [near, far], pings(10_000));
}

/// A frame that is in the ring already rings no more.
#[test]
fn what_has_come_is_found_by_whoever_arms() {
    let cards = Cards::open();
    let [near, far] = &cards.opened.ports[..] else {
        panic!("two cards");
    };
    let (_near_port, mut near) = cards.end(near, cards.linked(near));
    let (_far_port, mut far) = cards.end(far, cards.linked(far));
    near.send();
    assert!(far.receive(PATIENCE));
    assert_eq!(far.queue.arm().unwrap(), Armed::Sleep);
    near.send();
    assert!(rings(&far.bell, PATIENCE));
    // Its message is sent and its bell was heard; the frame is still there.
    assert_eq!(far.queue.arm().unwrap(), Armed::Ready);
}

/// A driver that dies takes what was armed with it: whoever slept is woken as its successor starts, and by that one's
/// interrupts from then on.
#[test]
fn a_restart_wakes_whoever_sleeps() {
    let cards = Cards::open();
    let [near, far] = &cards.opened.ports[..] else {
        panic!("two cards");
    };
    let (_near_port, mut near) = cards.end(near, cards.linked(near));
    let (port, supervisor) = cards.supervised(far);
    let (mut far_port, mut sleeper) = cards.end(far, port);
    supervisor.ring_at_restarts(vec![Arc::clone(&sleeper.bell)]);
    near.send();
    assert!(sleeper.receive(PATIENCE));
    // What the card still had to say is said: nothing but a restart rings now.
    while rings(&sleeper.bell, Duration::from_millis(100)) {}
    assert_eq!(sleeper.queue.arm().unwrap(), Armed::Sleep);
    assert!(driver_of(far).unwrap().kill(Cause::Killed));
    far_port.check().unwrap();
    assert_eq!(supervisor.restarts().count, 1);
    assert!(rings(&sleeper.bell, PATIENCE), "nobody woke it");
    let echo = thread::spawn(move || sleeper.receive(PATIENCE));
    // The link comes up again some time after the restart; what is sent before is lost.
    while !echo.is_finished() {
        near.send();
        thread::sleep(Duration::from_millis(1));
    }
    assert!(echo.join().unwrap());
}

/// A cable pulled and plugged in again rings the link's vector, and nobody else's; asking says so once.
fn changes<N: Net>(cards: &Cards, card: &OpenPort, mut port: N) {
    let bells: Vec<_> = (0..3).map(|_| Arc::new(Bell::new().unwrap())).collect();
    card.interrupts.as_ref().unwrap().connect(&bells).unwrap();
    port.start().unwrap();
    let link = usize::from(sumac_ixgbe::interrupts::link_vector(1));
    let cable = card.software.as_ref().unwrap().device().cable();
    let mut until = |up: bool| {
        loop {
            let change = port.link_change().unwrap();
            if change.is_some_and(|link| link.up == up) {
                return;
            }
            assert!(rings(&bells[link], PATIENCE), "no interrupt");
        }
    };
    until(true);
    for up in [false, true] {
        cable.set(up);
        until(up);
    }
    assert_eq!(port.link_change().unwrap(), None);
    assert!(!bells[0].wait(Duration::ZERO) && !bells[2].wait(Duration::ZERO));
    cards.assert_no_rule_is_broken();
    port.stop().unwrap();
}

#[test]
fn a_link_that_changes_rings() {
    let cards = Cards::open();
    let [card, other] = &cards.opened.ports[..] else {
        panic!("two cards");
    };
    changes(&cards, card, cards.linked(card));
    changes(&cards, other, cards.remote(other));
}
