//! [`PortService`]: a network driver's domain to be supervised; [`SupervisedPort`]: its port, which goes on
//! with the next driver when one dies.
//!
//! A queue pair is called through a [`Shadow`] of its own, which its core has to itself. What passes a pair
//! is counted on this side: what a driver counted goes with it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sumac_device::HostDevice;
use sumac_interface::domain::{
    CreateFragileNet, CreateNet, DeviceFault, Failure, Moment, NetDevice, NetLane, PortSettings,
    RemotePort, RemoteQueue,
};
use sumac_interface::net::{
    Armed, Exchanged, Link, MacAddress, Net, NetError, NetQueue, QueueError, QueueStats,
};
use sumac_interface::{Object, Policy, RpcError, RpcResult, Shadow};
use sumac_rref::{PacketBatch, PacketPool, PoolGrant};
use sumac_runtime::{Domain, Quota, SharedReclaim};

use super::{Program, Renewal, Service, StartError, Supervisor, start_with};
use crate::grant::GrantedDevice;

/// Why a driver's domain does not drive its device.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The domain was refused, or failed as it started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Another domain has the device, or had, and it did not stop.
    #[error(
        "{0}: another domain has the device, or had it when it could not be stopped; end the program, so that Linux resets it"
    )]
    Taken(String),
    /// It died while it took its device over.
    #[error("{device}: the driver's domain: {source}")]
    Died {
        /// The device.
        device: String,
        /// What of.
        source: RpcError,
    },
    /// The driver turned its device down.
    #[error("{0}")]
    Device(Box<DeviceFault>),
}

/// A driver's domain, by what it offers.
#[derive(Clone)]
pub enum Driver {
    /// [`CreateNet`].
    Net(Program<dyn CreateNet>),
    /// [`CreateFragileNet`]: it also fails on request.
    FragileNet(Program<dyn CreateFragileNet>),
}

/// A driver's domain, and the device it drives.
pub struct PortService {
    /// For people.
    pub name: String,
    /// The domain.
    pub driver: Driver,
    /// What it may use.
    pub quota: Quota,
    /// Frees what it owned if it dies as it starts.
    pub shared: Arc<dyn SharedReclaim + Send>,
    /// Its device.
    pub device: Arc<GrantedDevice>,
    /// Where its packets are of.
    pub pool: &'static PacketPool,
    /// How the port is to work.
    pub settings: PortSettings,
    /// How far a new driver brings its port.
    pub progress: Progress,
}

/// How far a port has come, and a new driver brings it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Made, its queue pairs at home.
    #[default]
    Made,
    /// Started, its queue pairs taken.
    Running,
    /// The same, but nothing more is let in.
    Draining,
}

/// One life of a driver.
pub struct PortLife {
    device: Option<Object<dyn NetDevice>>,
    lanes: Vec<Option<Object<dyn NetLane>>>,
    root: RootObject,
}

enum RootObject {
    Net(Object<dyn CreateNet>),
    FragileNet(Object<dyn CreateFragileNet>),
}

impl PortLife {
    /// The port, once.
    pub fn take_device(&mut self) -> Option<Object<dyn NetDevice>> {
        self.device.take()
    }

    /// Has the driver fail, if it does so on request.
    ///
    /// # Errors
    /// [`RpcError::Refused`] if it does not, or that of the call.
    pub fn fail_next(&mut self, how: Failure, when: Moment) -> RpcResult<()> {
        match &mut self.root {
            RootObject::Net(_) => Err(RpcError::Refused),
            RootObject::FragileNet(root) => root.fail_next(how, when),
        }
    }
}

impl PortService {
    /// Has a domain just entered take its device over and bring the port where the last one had it.
    fn bring_up(&self, domain: Domain, mut root: RootObject) -> Result<PortLife, DriverError> {
        let died = |source| DriverError::Died {
            device: self.device_name(),
            source,
        };
        let faulty = |fault: DeviceFault| DriverError::Device(Box::new(fault));
        let lent = self.device.lend(domain, self.pool);
        let grant = lent.ok_or_else(|| DriverError::Taken(self.device_name()))?;
        let (pool, settings) = (PoolGrant::new(self.pool), self.settings);
        let created = match &mut root {
            RootObject::Net(root) => root.create(grant, pool, settings),
            RootObject::FragileNet(root) => root.create(grant, pool, settings),
        };
        let mut device = created.map_err(died)?.map_err(faulty)?;
        let mut lanes = Vec::new();
        if self.progress != Progress::Made {
            device.start().map_err(died)?.map_err(faulty)?;
            for index in 0..device.queues().map_err(died)? {
                let lane = device.take_queue(index).map_err(died)?.map_err(faulty)?;
                lanes.push(Some(lane));
            }
        }
        if self.progress == Progress::Draining {
            device.stop_receiving().map_err(died)?.map_err(faulty)?;
        }
        Ok(PortLife {
            device: Some(device),
            lanes,
            root,
        })
    }

    fn device_name(&self) -> String {
        HostDevice::name(&*self.device).to_owned()
    }
}

impl Service for PortService {
    type Life = PortLife;
    type Error = DriverError;

    fn start(&mut self) -> Result<(Domain, PortLife), DriverError> {
        let (name, quota, shared) = (&self.name, self.quota, &*self.shared);
        let started = match &self.driver {
            Driver::Net(program) => start_with(name, program, quota, shared, |domain, root| {
                self.bring_up(domain, RootObject::Net(root))
            }),
            Driver::FragileNet(program) => {
                start_with(name, program, quota, shared, |domain, root| {
                    self.bring_up(domain, RootObject::FragileNet(root))
                })
            }
        };
        self.settings.found_whole |= started.is_ok();
        started
    }

    fn device_ns(&self) -> u64 {
        self.device.own_ns()
    }
}

/// A port whose driver is started again when it dies.
pub struct SupervisedPort {
    port: RemotePort,
    supervisor: Arc<Supervisor<PortService>>,
    policy: Policy,
    /// Queue pairs nobody has taken yet, of the life of this number.
    lanes: Vec<Object<dyn NetLane>>,
    life: u64,
    losses: Arc<Losses>,
}

/// Packets that were in a call when the driver died.
#[derive(Debug, Default)]
pub struct Losses {
    transmitting: AtomicU64,
}

impl Losses {
    /// Packets handed over to be transmitted. Some may have been.
    pub fn transmitting(&self) -> u64 {
        self.transmitting.load(Ordering::Relaxed)
    }
}

impl SupervisedPort {
    /// The port of a supervised driver, which adds to `losses` what was in calls that died.
    ///
    /// # Errors
    /// [`RpcError`] when the driver does not answer, even when it was started again.
    pub fn new(
        supervisor: Arc<Supervisor<PortService>>,
        pool: &'static PacketPool,
        policy: Policy,
        losses: Arc<Losses>,
    ) -> RpcResult<Self> {
        let take = |life: &mut PortLife| life.take_device().ok_or(RpcError::Refused);
        let seen = supervisor.life();
        let device = supervisor.with(take).ok_or(RpcError::Refused)??;
        let renewal = Renewal::new(Arc::clone(&supervisor), seen, take);
        let device = Object::from_box(Box::new(Shadow::new(device, renewal, policy)) as _);
        Ok(Self {
            port: RemotePort::new(device, pool)?,
            supervisor,
            policy,
            lanes: Vec::new(),
            life: 0,
            losses,
        })
    }

    fn queue(&self, index: usize, lane: Object<dyn NetLane>) -> SupervisedQueue {
        let side = Arc::new(Side::default());
        let prefetch = Arc::clone(&side);
        let take = move |life: &mut PortLife| {
            let lane = life.lanes.get_mut(index).and_then(Option::take);
            let mut lane = lane.ok_or(RpcError::Refused)?;
            lane.set_prefetch(prefetch.prefetch.load(Ordering::Relaxed))?;
            prefetch.renewals.fetch_add(1, Ordering::Relaxed);
            Ok(lane)
        };
        let renewal = Renewal::new(Arc::clone(&self.supervisor), self.life, take);
        let lane = Object::from_box(Box::new(Shadow::new(lane, renewal, self.policy)) as _);
        SupervisedQueue {
            queue: RemoteQueue::new(lane, self.port.pool()),
            side,
            supervisor: Arc::clone(&self.supervisor),
            served: None,
            losses: Arc::clone(&self.losses),
            passed: QueueStats::default(),
            gone: Cell::default(),
            last: Cell::default(),
        }
    }
}

impl Net for SupervisedPort {
    type Queue = SupervisedQueue;

    fn name(&self) -> &str {
        self.port.name()
    }

    fn mac(&self) -> MacAddress {
        self.port.mac()
    }

    fn link(&self) -> Link {
        self.port.link()
    }

    fn link_change(&mut self) -> Result<Option<Link>, NetError> {
        self.port.link_change()
    }

    fn check(&mut self) -> Result<(), NetError> {
        self.port.check()
    }

    /// Those of the driver that runs now.
    fn counters(&mut self) -> Vec<(String, u64)> {
        self.port.counters()
    }

    fn take_queues(&mut self) -> Vec<SupervisedQueue> {
        let lanes = std::mem::take(&mut self.lanes).into_iter().enumerate();
        lanes.map(|(index, lane)| self.queue(index, lane)).collect()
    }

    fn return_queues(&mut self, queues: Vec<SupervisedQueue>) {
        drop(queues);
    }

    /// Starts the port, with a driver that lives from before until after.
    fn start(&mut self) -> Result<(), NetError> {
        for _ in 0..=self.policy.limit {
            self.life = self.supervisor.life();
            self.port.start()?;
            self.lanes = self.port.take_lanes()?;
            self.supervisor
                .change(|service| service.progress = Progress::Running);
            if self.supervisor.life() == self.life {
                break;
            }
            self.supervisor
                .change(|service| service.progress = Progress::Made);
        }
        Ok(())
    }

    fn stop_receiving(&mut self) -> Result<(), NetError> {
        self.supervisor
            .change(|service| service.progress = Progress::Draining);
        self.port.stop_receiving()
    }

    fn stop(&mut self) -> Result<(), NetError> {
        self.port.stop()
    }
}

/// What a queue and what makes its lanes anew tell each other.
#[derive(Debug, Default)]
struct Side {
    /// How often there was another lane.
    renewals: AtomicU64,
    prefetch: AtomicBool,
}

/// A queue pair of a [`SupervisedPort`].
pub struct SupervisedQueue {
    queue: RemoteQueue,
    side: Arc<Side>,
    supervisor: Arc<Supervisor<PortService>>,
    /// By renewals, which lane was told of last to have served.
    served: Option<u64>,
    losses: Arc<Losses>,
    /// Frames and bytes that went through, seen from here.
    passed: QueueStats,
    /// What drivers counted that are gone, and what this one had counted when it was asked last, by renewals.
    gone: Cell<QueueStats>,
    last: Cell<(u64, QueueStats)>,
}

impl SupervisedQueue {
    fn renewals(&self) -> u64 {
        self.side.renewals.load(Ordering::Relaxed)
    }

    /// What became of a call: one whose driver died, and another came, did nothing.
    #[inline]
    fn settle<T>(
        &mut self,
        result: Result<T, QueueError>,
        renewals: u64,
    ) -> Result<Option<T>, QueueError> {
        match result {
            Ok(done) => {
                if self.served != Some(renewals) {
                    self.served = Some(renewals);
                    self.supervisor.served();
                }
                Ok(Some(done))
            }
            Err(QueueError::Domain(RpcError::Dead(_))) if self.renewals() != renewals => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[inline]
    fn count_received(&mut self, frames: usize, before: InHand, now: &PacketBatch) {
        self.passed.rx_packets += frames as u64;
        self.passed.rx_bytes += now.frame_bytes().saturating_sub(before.bytes);
    }

    #[inline]
    fn count_sent(&mut self, frames: usize, before: InHand, now: &PacketBatch) {
        self.passed.tx_packets += frames as u64;
        self.passed.tx_bytes += before.bytes.saturating_sub(now.frame_bytes());
    }

    /// What lay in a batch to receive into went with the driver: it is as if it had not been received; unless another
    /// queue pair of the port had received it, before the device was away.
    #[cold]
    fn uncount_received(&mut self, before: InHand, now: &PacketBatch) {
        let (now, passed) = (InHand::of(now), &mut self.passed);
        let lost = |before: u64, now: u64| before.saturating_sub(now);
        passed.rx_packets = lost(passed.rx_packets, lost(before.frames, now.frames));
        passed.rx_bytes = lost(passed.rx_bytes, lost(before.bytes, now.bytes));
    }

    /// What was to be transmitted went with the driver.
    #[cold]
    fn count_lost(&mut self, before: InHand, now: &PacketBatch) {
        let lost = before.frames.saturating_sub(InHand::of(now).frames);
        let transmitting = &self.losses.transmitting;
        transmitting.fetch_add(lost, Ordering::Relaxed);
    }
}

/// What a batch holds.
#[derive(Clone, Copy)]
struct InHand {
    frames: u64,
    bytes: u64,
}

impl InHand {
    #[inline]
    fn of(batch: &PacketBatch) -> Self {
        Self {
            frames: batch.len() as u64,
            bytes: batch.frame_bytes(),
        }
    }
}

impl NetQueue for SupervisedQueue {
    #[inline]
    fn receive(&mut self, batch: &mut PacketBatch, limit: usize) -> Result<usize, QueueError> {
        let (before, renewals) = (InHand::of(batch), self.renewals());
        let result = self.queue.receive(batch, limit);
        match self.settle(result, renewals) {
            Ok(Some(received)) => {
                self.count_received(received, before, batch);
                Ok(received)
            }
            lost => {
                self.uncount_received(before, batch);
                lost.map(Option::unwrap_or_default)
            }
        }
    }

    #[inline]
    fn transmit(&mut self, batch: &mut PacketBatch) -> Result<usize, QueueError> {
        let (before, renewals) = (InHand::of(batch), self.renewals());
        let result = self.queue.transmit(batch);
        match self.settle(result, renewals) {
            Ok(Some(taken)) => {
                self.count_sent(taken, before, batch);
                Ok(taken)
            }
            lost => {
                self.count_lost(before, batch);
                lost.map(Option::unwrap_or_default)
            }
        }
    }

    #[inline]
    fn exchange(
        &mut self,
        send: &mut PacketBatch,
        receive: &mut PacketBatch,
        limit: usize,
    ) -> Result<Exchanged, QueueError> {
        let (sending, had) = (InHand::of(send), InHand::of(receive));
        let renewals = self.renewals();
        let result = self.queue.exchange(send, receive, limit);
        match self.settle(result, renewals) {
            Ok(Some(exchanged)) => {
                self.count_sent(exchanged.sent, sending, send);
                self.count_received(exchanged.received, had, receive);
                Ok(exchanged)
            }
            lost => {
                self.count_lost(sending, send);
                self.uncount_received(had, receive);
                lost.map(Option::unwrap_or_default)
            }
        }
    }

    fn set_prefetch(&mut self, on: bool) {
        self.side.prefetch.store(on, Ordering::Relaxed);
        self.queue.set_prefetch(on);
    }

    fn allocate(&mut self, batch: &mut PacketBatch, count: usize, len: u16) -> usize {
        self.queue.allocate(batch, count, len)
    }

    fn recycle(&mut self, batch: &mut PacketBatch) {
        self.queue.recycle(batch);
    }

    fn reclaim(&mut self) -> u32 {
        self.queue.reclaim()
    }

    /// Of a driver that died nothing is armed any more, and of its successor nothing yet: whoever sleeps then is
    /// woken by the [`Supervisor`].
    fn arm(&mut self) -> Result<Armed, QueueError> {
        let renewals = self.renewals();
        match self.queue.arm() {
            Err(QueueError::Domain(RpcError::Dead(_))) if self.renewals() != renewals => {
                Ok(Armed::Ready)
            }
            armed => armed,
        }
    }

    fn waiting(&self, limit: u32) -> u32 {
        self.queue.waiting(limit)
    }

    /// What passed since the queue was made, and what its drivers counted besides: what one that died counted
    /// after it was asked last is not known.
    fn stats(&self) -> QueueStats {
        let now = self.queue.stats();
        let renewals = self.renewals();
        let (at, last) = self.last.replace((renewals, now));
        let mut gone = self.gone.get();
        if at != renewals {
            gone += last;
            self.gone.set(gone);
        }
        gone += now;
        QueueStats {
            rx_packets: self.passed.rx_packets,
            rx_bytes: self.passed.rx_bytes,
            tx_packets: self.passed.tx_packets,
            tx_bytes: self.passed.tx_bytes,
            tx_outstanding: now.tx_outstanding,
            ..gone
        }
    }
}
