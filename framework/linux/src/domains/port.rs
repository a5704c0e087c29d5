//! [`SupervisedPort`]: a port that goes on with the next driver when one dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sumac_interface::domain::{NetLane, RemotePort, RemoteQueue};
use sumac_interface::net::{Link, MacAddress, Net, NetError};
use sumac_interface::{Object, Policy, RpcError, RpcResult, Shadow};
use sumac_rref::PacketPool;

use super::queue::{Side, SupervisedQueue};
use super::service::{PortLife, PortService, Progress};
use super::{Renewal, Supervisor};

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

    pub(super) fn add_transmitting(&self, packets: u64) {
        self.transmitting.fetch_add(packets, Ordering::Relaxed);
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
        let renewed = Arc::clone(&side);
        let take = move |life: &mut PortLife| renewed.renew(life.take_lane(index));
        let renewal = Renewal::new(Arc::clone(&self.supervisor), self.life, take);
        let lane = Object::from_box(Box::new(Shadow::new(lane, renewal, self.policy)) as _);
        let queue = RemoteQueue::new(lane, self.port.pool());
        let (supervisor, losses) = (Arc::clone(&self.supervisor), Arc::clone(&self.losses));
        SupervisedQueue::new(queue, side, supervisor, losses)
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
