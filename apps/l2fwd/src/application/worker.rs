//! A worker whose application is in a domain of its own.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use l2fwd_forward::Rewrite;
use l2fwd_forward::domain::Forward;
use sumac_interface::net::NetQueue;
use sumac_interface::{Object, RpcError, RpcResult};
use sumac_linux::Bell;

use super::{Hosted, Share};
use crate::forward::{
    Change, Drain, LaneFigures, Outcome, ROUNDS_BETWEEN_REPORTS, Rest, Shared, Sleeper,
};
use crate::loan::Home;

/// Rounds between two looks at whether to sleep: a call that finds nothing is to be short.
const ROUNDS_AWAKE: u32 = 32;

/// A forwarder in a domain, or the shadow before it.
pub struct Isolated {
    pub forwarder: Object<dyn Forward>,
    /// Told when a call succeeded.
    pub served: Box<dyn Fn() + Send>,
}

/// One core's share of the forwarding, as a [`Worker`](crate::forward::Worker) is that has the application linked
/// in: it has the application run for a while, looks what the main thread wants, and so on. It is the worker that
/// sleeps, and that gives queue pairs up and brings others: none of it waits for the application's consent.
pub struct HostedWorker<Q> {
    pub(super) application: Isolated,
    pub(super) hosted: Arc<dyn Hosted>,
    pub(super) share: Share<Q>,
    pub(super) shared: Arc<Shared>,
}

impl<Q: NetQueue> HostedWorker<Q> {
    /// Where the worker's live figures are, by the port each lane receives from.
    pub fn figures(&self) -> Vec<(usize, Arc<LaneFigures>)> {
        let lanes = self.share.lanes.iter();
        lanes
            .map(|lane| (lane.from, lane.home.figures().clone()))
            .collect()
    }

    /// Forwards until told to stop, or until the application fails. It does what `changes` say, and sleeps on
    /// `bell` while no frames come.
    pub fn run(mut self, changes: &Receiver<Change<Q>>, bell: Option<Arc<Bell>>) -> Outcome<Q> {
        let mut rest = Rest::on(bell);
        let failed = self.forward_until_told(changes, &mut rest).err();
        let failed = failed.or_else(|| self.drain().err());
        let held = |lane| self.application.forwarder.held(lane as u32).unwrap_or(0);
        let undelivered = (0..self.share.lanes.len()).map(held).collect();
        // Its queue pairs come home now; those of one that is dead, when all it had is freed.
        drop(self.application);
        if failed.is_some() {
            end(&*self.hosted);
        }
        let lanes = &self.share.lanes;
        let failure = |lane: &super::LanePlan<Q>| Some((lane.from, lane.home.failure()?));
        Outcome {
            queues: lanes.iter().map(|lane| lane.home.take()).collect(),
            undelivered,
            sleeps: rest.sleeps,
            error: lanes.iter().find_map(failure),
            application: failed,
        }
    }

    /// So many rounds over all lanes; says how many frames moved.
    fn rounds(&mut self, rounds: u32) -> RpcResult<u64> {
        let moved = self.application.forwarder.run(rounds);
        self.share.meter.end();
        let moved = moved?;
        (self.application.served)();
        moved
    }

    fn forward_until_told(
        &mut self,
        changes: &Receiver<Change<Q>>,
        rest: &mut Rest,
    ) -> RpcResult<()> {
        let rounds = match rest.may_sleep() {
            true => ROUNDS_AWAKE,
            false => ROUNDS_BETWEEN_REPORTS,
        };
        while !self.shared.draining() {
            let moved = self.rounds(rounds)?;
            while let Ok(change) = changes.try_recv() {
                self.make(change)?;
            }
            if moved == 0 {
                rest.sleep(self, &Arc::clone(&self.shared))?;
            }
        }
        Ok(())
    }

    /// Does what the main thread asks.
    fn make(&mut self, change: Change<Q>) -> RpcResult<()> {
        match change {
            Change::Take { port, to } => {
                let made = self.close(port);
                let queues = self.homes(port).filter_map(|home| home.withdraw());
                // Whoever asks waits for them.
                let _ = to.send(queues.collect());
                made
            }
            Change::Bring {
                port,
                queues,
                rewrite,
            } => {
                let mut queues = queues.into_iter();
                self.homes(port).for_each(|home| home.open(queues.next()));
                self.readdress(port, rewrite)
            }
        }
    }

    /// The homes of a port's queue pairs.
    fn homes(&self, port: usize) -> impl Iterator<Item = &Home<Q>> {
        let lanes = self.share.lanes.iter();
        lanes.filter_map(move |lane| (lane.from == port).then_some(&*lane.home))
    }

    /// Has a port's queue pairs come home.
    fn close(&mut self, port: usize) -> RpcResult<()> {
        self.homes(port).for_each(Home::close);
        // The application calls all it has been lent, by which each comes home.
        let called = self.application.forwarder.under_way();
        if self.homes(port).any(Home::is_away) {
            // It did not, and keeps it until its end.
            end(&*self.hosted);
            return Err(called.err().unwrap_or(RpcError::Refused));
        }
        called.map(drop)
    }

    /// A port came back, whose address may be another: tells the application, and those that follow it.
    fn readdress(&mut self, port: usize, rewrite: Option<Rewrite>) -> RpcResult<()> {
        let lanes = &self.share.lanes;
        let of_port = |(_, lane): &(usize, &super::LanePlan<Q>)| lane.from == port;
        for (index, _) in lanes.iter().enumerate().filter(of_port) {
            for lane in lanes.iter().filter(|lane| lane.to == index) {
                lane.home.set_rewrite(rewrite);
            }
            let forwarder = &mut self.application.forwarder;
            forwarder.readdress(index as u32, rewrite)?;
        }
        Ok(())
    }

    /// Has the application receive until nothing comes any more, and waits until all was sent, within limits.
    fn drain(&mut self) -> RpcResult<()> {
        let mut drain = Drain::new();
        loop {
            let moved = self.rounds(1)? > 0;
            let under_way = self.application.forwarder.under_way()?;
            let may_receive = !self.shared.exhausted();
            let pending = under_way.held > 0 || may_receive && under_way.waiting > 0;
            if !drain.goes_on(moved, pending, under_way.outstanding) {
                return Ok(());
            }
            // The device may live on this very core.
            std::thread::yield_now();
        }
    }
}

/// Ends the application, by which all it was lent comes home.
fn end(hosted: &dyn Hosted) {
    if let Err(what) = hosted.end() {
        eprintln!("l2fwd: {what}");
    }
}

impl<Q: NetQueue> Sleeper for HostedWorker<Q> {
    type Error = RpcError;

    fn all_is_sent(&mut self) -> RpcResult<bool> {
        let under_way = self.application.forwarder.under_way()?;
        Ok(under_way.held == 0 && under_way.outstanding == 0)
    }

    /// The application arms its queue pairs, and their homes remember what they said.
    fn arm(&mut self) -> RpcResult<bool> {
        let homes = || self.share.lanes.iter().map(|lane| &lane.home);
        homes().for_each(|home| home.wake());
        self.application.forwarder.arm()??;
        Ok(homes().all(|home| home.sleeps()))
    }

    fn is_waiting(&mut self) -> RpcResult<bool> {
        Ok(self.application.forwarder.under_way()?.waiting > 0)
    }
}
