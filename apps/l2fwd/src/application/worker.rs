//! A worker whose application is in a domain of its own.

use std::sync::Arc;
use std::time::Instant;

use l2fwd_forward::domain::Forward;
use sumac_interface::net::QueueError;
use sumac_interface::{Object, RpcError};

use super::{Hosted, Share};
use crate::forward::{DRAIN_TIMEOUT, LaneFigures, Outcome, ROUNDS_BETWEEN_REPORTS, Shared};
use crate::report::Sleeps;

/// A forwarder in a domain, or the shadow before it.
pub struct Isolated {
    pub forwarder: Object<dyn Forward>,
    /// Told when a call succeeded.
    pub served: Box<dyn Fn() + Send>,
}

/// What ended a call of the application.
enum Failed {
    /// A queue pair failed.
    Queue(QueueError),
    /// The application's domain did not answer; what it had in hand is gone.
    Domain(RpcError),
}

impl Isolated {
    /// So many rounds over all lanes; says how many frames moved.
    fn run(&mut self, rounds: u32) -> Result<u64, Failed> {
        let moved = self.forwarder.run(rounds).map_err(Failed::Domain)?;
        (self.served)();
        moved.map_err(|error| Failed::Queue(QueueError::Domain(error)))
    }
}

/// One core's share of the forwarding, as a [`Worker`](crate::forward::Worker) is that has the application linked
/// in: it has the application run for a while, looks what the main thread wants, and so on.
pub struct HostedWorker<Q> {
    pub(super) application: Isolated,
    pub(super) hosted: Arc<dyn Hosted>,
    pub(super) share: Share<Q>,
    pub(super) shared: Arc<Shared>,
}

impl<Q> HostedWorker<Q> {
    /// Where the worker's live figures are, by the port each lane receives from.
    pub fn figures(&self) -> Vec<(usize, Arc<LaneFigures>)> {
        let lanes = self.share.lanes.iter();
        lanes
            .map(|lane| (lane.from, lane.home.figures().clone()))
            .collect()
    }

    /// Forwards until told to stop, or until a queue pair or the application fails.
    pub fn run(mut self) -> Outcome<Q> {
        let failed = self.forward_until_told().err();
        let failed = failed.or_else(|| self.drain().err());
        let held = |lane| self.application.forwarder.held(lane as u32).unwrap_or(0);
        let undelivered = (0..self.share.lanes.len()).map(held).collect();
        // Its queue pairs come home now; those of one that is dead, when all it had is freed.
        drop(self.application);
        let (mut error, mut application) = (None, None);
        match failed {
            None => {}
            Some(Failed::Queue(queue)) => {
                let failed = self.share.lanes.iter().find(|lane| lane.home.has_failed());
                error = Some((failed.map_or(0, |lane| lane.from), queue));
            }
            Some(Failed::Domain(dead)) => {
                application = Some(dead);
                if let Err(what) = self.hosted.end() {
                    eprintln!("l2fwd: {what}");
                }
            }
        }
        Outcome {
            queues: self
                .share
                .lanes
                .iter()
                .map(|lane| lane.home.take())
                .collect(),
            undelivered,
            sleeps: Sleeps::default(),
            error,
            application,
        }
    }

    fn rounds(&mut self, rounds: u32) -> Result<u64, Failed> {
        let moved = self.application.run(rounds);
        self.share.meter.end();
        moved
    }

    fn forward_until_told(&mut self) -> Result<(), Failed> {
        while !self.shared.draining() {
            self.rounds(ROUNDS_BETWEEN_REPORTS)?;
        }
        Ok(())
    }

    /// Has the application receive until nothing comes any more, and waits until all was sent, within limits.
    fn drain(&mut self) -> Result<(), Failed> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < deadline {
            let moved = self.rounds(1)?;
            let under_way = self.application.forwarder.under_way();
            let under_way = under_way.map_err(Failed::Domain)?;
            let may_receive = !self.shared.exhausted();
            let pending = under_way.held > 0 || may_receive && under_way.waiting > 0;
            match moved > 0 || pending || under_way.outstanding > 0 {
                true => quiet = 0,
                false => quiet += 1,
            }
            // The device may live on this very core.
            std::thread::yield_now();
        }
        Ok(())
    }
}
