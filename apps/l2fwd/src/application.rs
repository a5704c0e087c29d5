//! The application in a domain of its own, which is given its queue pairs on loan and nothing besides.
//!
//! All workers' forwarders are objects of one domain. When it dies each worker is told by its next call; the
//! first has the supervisor, if there is one, bury it: then all loans come home, and the next life gets them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use l2fwd_forward::Rewrite;
use l2fwd_forward::domain::{CreateForward, CreateFragileForward, Forward};
use sumac_interface::domain::{Failure, LaneOf, Moment};
use sumac_interface::net::{NetQueue, QueueError};
use sumac_interface::{Cause, Object, Policy, RpcError, RpcResult, Shadow};
use sumac_linux::domains::{
    self, Losses, Renewal, Restarts, Service, StartError, Supervisor, start_with,
};
use sumac_rref::{PacketPool, PoolGrant};
use sumac_runtime::load::Verified;
use sumac_runtime::{Domain, Quota, SharedReclaim};

use crate::forward::{DRAIN_TIMEOUT, LaneFigures, Outcome, ROUNDS_BETWEEN_REPORTS, Shared};
use crate::loan::{Home, Meter};
use crate::run::partner;

/// What the application's domain may use. A call of it is some hundred rounds, which takes less than a
/// millisecond; the time that drivers take is theirs.
const QUOTA: Quota = Quota {
    pages: 16 * 1024 * 1024 / 4096,
    threads: 0,
    call_ns: 100_000_000,
};

/// A lane of a worker to be: whoever runs the application gets the queue pair from its home.
pub struct LanePlan<Q> {
    /// The port its frames come from.
    pub from: usize,
    /// The worker's lane of the port they leave by.
    pub to: usize,
    /// How frames are changed on the way.
    pub rewrite: Option<Rewrite>,
    /// Where its queue pair is while the application does not have it.
    pub home: Arc<Home<Q>>,
}

impl<Q> Clone for LanePlan<Q> {
    fn clone(&self) -> Self {
        Self {
            home: Arc::clone(&self.home),
            ..*self
        }
    }
}

/// A forwarder in a domain, or the shadow before it.
struct Isolated {
    forwarder: Object<dyn Forward>,
    /// Told when a call succeeded.
    served: Box<dyn Fn() + Send>,
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
    application: Isolated,
    hosted: Arc<dyn Hosted>,
    lanes: Vec<LanePlan<Q>>,
    meter: Arc<Meter>,
    shared: Arc<Shared>,
}

impl<Q> HostedWorker<Q> {
    /// Where the worker's live figures are, by the port each lane receives from.
    pub fn figures(&self) -> Vec<(usize, Arc<LaneFigures>)> {
        let lanes = self.lanes.iter();
        lanes
            .map(|lane| (lane.from, lane.home.figures().clone()))
            .collect()
    }

    /// Forwards until told to stop, or until a queue pair or the application fails.
    pub fn run(mut self) -> Outcome<Q> {
        let failed = self.forward_until_told().err();
        let failed = failed.or_else(|| self.drain().err());
        let held = |lane| self.application.forwarder.held(lane as u32).unwrap_or(0);
        let undelivered = (0..self.lanes.len()).map(held).collect();
        // Its queue pairs come home now; those of one that is dead, when all it had is freed.
        drop(self.application);
        let (mut error, mut application) = (None, None);
        match failed {
            None => {}
            Some(Failed::Queue(queue)) => error = Some(queue),
            Some(Failed::Domain(dead)) => {
                application = Some(dead);
                if let Err(what) = self.hosted.end() {
                    eprintln!("l2fwd: {what}");
                }
            }
        }
        Outcome {
            queues: self
                .lanes
                .iter()
                .filter_map(|lane| lane.home.take())
                .collect(),
            undelivered,
            error,
            application,
        }
    }

    fn rounds(&mut self, rounds: u32) -> Result<u64, Failed> {
        let moved = self.application.run(rounds);
        self.meter.end();
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

/// The file of an application's domain, and what is in it.
#[derive(Clone)]
pub enum ApplicationFile {
    /// It offers [`CreateForward`].
    Forward(Verified),
    /// It offers [`CreateFragileForward`]: it also fails on request.
    Fragile(Verified),
}

enum RootObject {
    Forward(Object<dyn CreateForward>),
    Fragile(Object<dyn CreateFragileForward>),
}

/// The application's domain, and what it forwards between.
pub struct ApplicationService<Q> {
    /// The domain's file.
    pub file: ApplicationFile,
    /// Frees what it owned when it dies.
    pub shared: Arc<dyn SharedReclaim + Send>,
    /// Where its packets are of.
    pub pool: &'static PacketPool,
    /// Frames moved at once.
    pub batch: u32,
    /// The lanes, by worker.
    pub workers: Vec<Vec<LanePlan<Q>>>,
    /// What calls of drivers lost, by port, where somebody counts it.
    pub losses: Vec<Option<Arc<Losses>>>,
    /// Frames that were in hand when it died, by the port they were to leave by.
    pub lost: Arc<Vec<AtomicU64>>,
}

/// One life of the application.
pub struct ApplicationLife {
    /// By worker.
    forwarders: Vec<Option<Object<dyn Forward>>>,
    root: RootObject,
}

impl<Q: NetQueue + 'static> ApplicationService<Q> {
    /// Has a domain make a forwarder for each worker, and gives it its queue pairs.
    fn set_up(&self, domain: Domain, mut root: RootObject) -> Result<ApplicationLife, StartError> {
        let pool = PoolGrant::new(self.pool);
        let mut forwarders = Vec::new();
        for lanes in &self.workers {
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
                    forwarder.add(LaneOf::object(queue), lane.to as u32, lane.rewrite)?;
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
        let lanes = || self.workers.iter().flatten();
        for lane in lanes() {
            in_hand[partner(lane.from, ports)] += lane.home.figures().stats().rx_packets;
        }
        for lane in lanes() {
            let stats = lane.home.figures().stats();
            let gone = &mut in_hand[lane.from];
            *gone = gone.saturating_sub(stats.tx_packets + stats.tx_errors);
        }
        for ((lost, in_hand), losses) in self.lost.iter().zip(in_hand).zip(&self.losses) {
            let elsewhere = losses.as_ref().map_or(0, |losses| losses.transmitting());
            lost.store(in_hand.saturating_sub(elsewhere), Ordering::Relaxed);
        }
    }
}

/// The domain's name, for people.
const NAME: &str = "l2fwd";

impl<Q: NetQueue + 'static> Service for ApplicationService<Q> {
    type Life = ApplicationLife;
    type Error = StartError;

    fn start(&mut self) -> Result<(Domain, ApplicationLife), StartError> {
        self.count_lost();
        match &self.file {
            ApplicationFile::Forward(file) => {
                start_with(NAME, file, QUOTA, &*self.shared, |domain, root| {
                    self.set_up(domain, RootObject::Forward(root))
                })
            }
            ApplicationFile::Fragile(file) => {
                start_with(NAME, file, QUOTA, &*self.shared, |domain, root| {
                    self.set_up(domain, RootObject::Fragile(root))
                })
            }
        }
    }
}

/// An application in a domain of its own, as a run looks after it.
pub trait Hosted: Send + Sync {
    /// Ends it for good and frees all it had: then all queue pairs are home.
    ///
    /// # Errors
    /// In words, where that cannot be.
    fn end(&self) -> Result<(), String>;

    /// Of what it died, if it did, once it is ended.
    fn death(&self) -> Option<String>;

    /// What happened to it so far.
    fn restarts(&self) -> Restarts;

    /// Whether it did something since it was started last.
    fn has_served(&self) -> bool;

    /// Has it fail, if it does so on request.
    ///
    /// # Errors
    /// [`RpcError::Refused`] if it does not, or that of the call.
    fn fail_next(&self, how: Failure, when: Moment) -> RpcResult<()>;

    /// Frames that were in its hands when it died, by the port they were to leave by.
    fn lost(&self) -> Vec<u64>;
}

/// What the workers run, one each, and what looks after it.
type Hosting = (Vec<Isolated>, Arc<dyn Hosted>);

/// Starts the application in a domain, once or as often as it dies, and makes the workers that call it.
///
/// # Errors
/// [`StartError`].
pub fn workers<Q: NetQueue + 'static>(
    service: ApplicationService<Q>,
    meters: Vec<Arc<Meter>>,
    shared: &Arc<Shared>,
    again: bool,
) -> Result<(Vec<HostedWorker<Q>>, Arc<dyn Hosted>), StartError> {
    let lanes = service.workers.clone();
    let (applications, hosted) = match again {
        true => supervise(service)?,
        false => start(service)?,
    };
    let all = lanes.into_iter().zip(meters).zip(applications);
    let worker = |((lanes, meter), application)| HostedWorker {
        application,
        hosted: hosted.clone(),
        lanes,
        meter,
        shared: shared.clone(),
    };
    Ok((all.map(worker).collect(), hosted))
}

/// One that is not started again.
struct Once {
    shared: Arc<dyn SharedReclaim + Send>,
    state: Mutex<Life>,
    ports: usize,
}

/// Where one is that lives once.
enum Life {
    Running {
        domain: Domain,
        /// Its root object.
        _kept: ApplicationLife,
    },
    /// Of what it died, unless it was ended.
    Over(Option<String>),
}

/// Starts the application in a domain that lives until it dies.
fn start<Q: NetQueue + 'static>(mut service: ApplicationService<Q>) -> Result<Hosting, StartError> {
    let (domain, mut life) = service.start()?;
    let isolated = |forwarder| {
        let served = Box::new(|| {});
        Isolated { forwarder, served }
    };
    let forwarders = life.forwarders.iter_mut().filter_map(Option::take);
    let applications = forwarders.map(isolated).collect();
    let once = Once {
        shared: service.shared.clone(),
        state: Mutex::new(Life::Running {
            domain,
            _kept: life,
        }),
        ports: service.lost.len(),
    };
    Ok((applications, Arc::new(once)))
}

impl Once {
    fn state(&self) -> MutexGuard<'_, Life> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hosted for Once {
    fn end(&self) -> Result<(), String> {
        let mut state = self.state();
        let Life::Running { domain, .. } = &*state else {
            return Ok(());
        };
        let domain = *domain;
        let died = !domain.kill(Cause::Killed);
        // Into a dead domain nothing is called: the objects are forgotten.
        *state = Life::Over(died.then(|| domains::obituary(domain)));
        let freed = domains::bury(domain, &*self.shared).map(drop);
        freed.map_err(|error| format!("what {NAME} had could not be freed: {error}"))
    }

    fn death(&self) -> Option<String> {
        match &*self.state() {
            Life::Running { .. } => None,
            Life::Over(death) => death.clone(),
        }
    }

    fn restarts(&self) -> Restarts {
        Restarts::default()
    }

    fn has_served(&self) -> bool {
        false
    }

    fn fail_next(&self, _: Failure, _: Moment) -> RpcResult<()> {
        Err(RpcError::Refused)
    }

    fn lost(&self) -> Vec<u64> {
        vec![0; self.ports]
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        // After a run it is ended already, and was told of.
        let _ = self.end();
    }
}

/// One that is started again when it dies.
struct Supervised<Q: NetQueue + 'static> {
    supervisor: Arc<Supervisor<ApplicationService<Q>>>,
    lost: Arc<Vec<AtomicU64>>,
}

/// Starts the application in a domain that is started again whenever it dies.
fn supervise<Q: NetQueue + 'static>(service: ApplicationService<Q>) -> Result<Hosting, StartError> {
    let (workers, lost, shared) = (
        service.workers.len(),
        service.lost.clone(),
        service.shared.clone(),
    );
    let policy = Policy::default();
    let supervisor = Supervisor::start(service, shared, policy.limit)?;
    let application = |worker: usize| {
        let take = move |life: &mut ApplicationLife| {
            let forwarder = life.forwarders.get_mut(worker).and_then(Option::take);
            forwarder.ok_or(RpcError::Refused)
        };
        let seen = supervisor.life();
        let first = supervisor.with(take)?.ok()?;
        let renewal = Renewal::new(Arc::clone(&supervisor), seen, take);
        let told = Arc::clone(&supervisor);
        Some(Isolated {
            forwarder: Object::from_box(Box::new(Shadow::new(first, renewal, policy)) as _),
            served: Box::new(move || told.served()),
        })
    };
    // Nobody called it yet, so that all are there.
    let applications = (0..workers).filter_map(application).collect();
    Ok((applications, Arc::new(Supervised { supervisor, lost })))
}

impl<Q: NetQueue + 'static> Hosted for Supervised<Q> {
    fn end(&self) -> Result<(), String> {
        self.supervisor.end()
    }

    fn death(&self) -> Option<String> {
        let restarts = self.supervisor.restarts();
        restarts.last_failure.or(restarts.last_death)
    }

    fn restarts(&self) -> Restarts {
        self.supervisor.restarts()
    }

    fn has_served(&self) -> bool {
        self.supervisor.has_served()
    }

    fn fail_next(&self, how: Failure, when: Moment) -> RpcResult<()> {
        let fail = |life: &mut ApplicationLife| match &mut life.root {
            RootObject::Forward(_) => Err(RpcError::Refused),
            RootObject::Fragile(root) => root.fail_next(how, when),
        };
        self.supervisor.with(fail).unwrap_or(Err(RpcError::Refused))
    }

    fn lost(&self) -> Vec<u64> {
        let lost = self.lost.iter();
        lost.map(|lost| lost.load(Ordering::Relaxed)).collect()
    }
}
