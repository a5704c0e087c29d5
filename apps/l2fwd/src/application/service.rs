//! The application's domain: what it is started with, each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use l2fwd_forward::domain::{CreateForward, CreateFragileForward, Forward};
use sumac_interface::domain::{Failure, LaneOf, Moment};
use sumac_interface::net::NetQueue;
use sumac_interface::{Object, RpcError, RpcResult};
use sumac_linux::domains::{Losses, Program, Service, StartError, start_with};
use sumac_rref::{PacketPool, PoolGrant};
use sumac_runtime::{Domain, SharedReclaim};

use super::{LanePlan, Share};
use crate::domains::{QUOTA, QUOTA_CRASHING};
use crate::run::partner;

/// An application's domain, by what it offers.
#[derive(Clone)]
pub enum ApplicationProgram {
    /// [`CreateForward`].
    Forward(Program<dyn CreateForward>),
    /// [`CreateFragileForward`]: it also fails on request.
    Fragile(Program<dyn CreateFragileForward>),
}

enum RootObject {
    Forward(Object<dyn CreateForward>),
    Fragile(Object<dyn CreateFragileForward>),
}

/// The application's domain, and what it forwards between.
pub struct ApplicationService<Q> {
    /// The domain.
    pub program: ApplicationProgram,
    /// Frees what it owned when it dies.
    pub shared: Arc<dyn SharedReclaim + Send>,
    /// Where its packets are of.
    pub pool: &'static PacketPool,
    /// Frames moved at once.
    pub batch: u32,
    /// The workers' shares.
    pub workers: Vec<Share<Q>>,
    /// What calls of drivers lost, by port, where somebody counts it.
    pub losses: Vec<Option<Arc<Losses>>>,
    /// Frames that were in hand when it died, by the port they were to leave by.
    pub lost: Arc<Vec<AtomicU64>>,
}

/// One life of the application.
pub struct ApplicationLife {
    /// By worker; none once it is taken.
    forwarders: Vec<Option<Object<dyn Forward>>>,
    root: RootObject,
}

impl ApplicationLife {
    /// The forwarder of a worker, once.
    pub fn take_forwarder(&mut self, worker: usize) -> RpcResult<Object<dyn Forward>> {
        let forwarder = self.forwarders.get_mut(worker).and_then(Option::take);
        forwarder.ok_or(RpcError::Refused)
    }

    /// Has the application fail, if it does so on request.
    ///
    /// # Errors
    /// [`RpcError::Refused`] if it does not, or that of the call.
    pub fn fail_next(&mut self, how: Failure, when: Moment) -> RpcResult<()> {
        match &mut self.root {
            RootObject::Forward(_) => Err(RpcError::Refused),
            RootObject::Fragile(root) => root.fail_next(how, when),
        }
    }
}

impl<Q: NetQueue + 'static> ApplicationService<Q> {
    /// Has a domain make a forwarder for each worker, and gives it its queue pairs.
    fn set_up(&self, domain: Domain, mut root: RootObject) -> Result<ApplicationLife, StartError> {
        let pool = PoolGrant::new(self.pool);
        let mut forwarders = Vec::new();
        for Share { lanes, .. } in &self.workers {
            let lend = |lane: &LanePlan<Q>| lane.home.lend();
            let Some(queues) = lanes.iter().map(lend).collect::<Option<Vec<_>>>() else {
                // A worker that has ended took them for good.
                forwarders.push(None);
                continue;
            };
            let set_up = || {
                let mut forwarder = match &mut root {
                    RootObject::Forward(root) => root.create(pool, self.batch)?,
                    RootObject::Fragile(root) => root.create(pool, self.batch)?,
                };
                for (lane, queue) in lanes.iter().zip(queues) {
                    forwarder.add(LaneOf::object(queue), lane.to as u32, lane.home.rewrite())?;
                }
                Ok(forwarder)
            };
            let forwarder = set_up().map_err(|source| StartError::Entry {
                name: NAME.to_owned(),
                source,
                last_words: domain.last_words(),
            })?;
            forwarders.push(Some(forwarder));
        }
        Ok(ApplicationLife { forwarders, root })
    }

    /// Counts as lost what was received and neither transmitted nor dropped nor lost with a driver: the loans
    /// are home, so that their figures are final.
    fn count_lost(&self) {
        let ports = self.lost.len();
        let mut in_hand = vec![0_u64; ports];
        let lanes = || self.workers.iter().flat_map(|share| &share.lanes);
        for lane in lanes() {
            in_hand[partner(lane.from, ports)] += lane.home.figures().stats().rx_packets;
        }
        for lane in lanes() {
            let figures = lane.home.figures();
            let stats = figures.stats();
            let left = stats.tx_packets + stats.tx_errors + figures.gone();
            let in_hand = &mut in_hand[lane.from];
            *in_hand = in_hand.saturating_sub(left);
        }
        for ((lost, in_hand), losses) in self.lost.iter().zip(in_hand).zip(&self.losses) {
            let elsewhere = losses.as_ref().map_or(0, |losses| losses.transmitting());
            lost.store(in_hand.saturating_sub(elsewhere), Ordering::Relaxed);
        }
    }
}

/// The domain's name, for people.
pub const NAME: &str = "l2fwd";

impl<Q: NetQueue + 'static> Service for ApplicationService<Q> {
    type Life = ApplicationLife;
    type Error = StartError;

    fn start(&mut self) -> Result<(Domain, ApplicationLife), StartError> {
        self.count_lost();
        match &self.program {
            ApplicationProgram::Forward(program) => {
                start_with(NAME, program, QUOTA, &*self.shared, |domain, root| {
                    self.set_up(domain, RootObject::Forward(root))
                })
            }
            ApplicationProgram::Fragile(program) => start_with(
                NAME,
                program,
                QUOTA_CRASHING,
                &*self.shared,
                |domain, root| self.set_up(domain, RootObject::Fragile(root)),
            ),
        }
    }
}
