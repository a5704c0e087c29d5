//! The application, wherever it runs: linked into the program, or a domain of its own, which is given its
//! queue pairs on loan and nothing besides.
//!
//! All workers' forwarders are objects of one domain. When it dies each worker is told by its next call; the
//! first has the supervisor, if there is one, bury it: then all loans come home, and the next life gets them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use l2fwd_forward::domain::{CreateForward, CreateFragileForward, Forward};
use l2fwd_forward::{Forwarder, Lane, Rewrite, UnderWay};
use sumac_interface::domain::{Failure, LaneOf, Moment};
use sumac_interface::net::{NetQueue, QueueError};
use sumac_interface::{Cause, Object, Policy, RpcError, RpcResult, Shadow};
use sumac_linux::domains::{
    self, Losses, Renewal, Restarts, Service, StartError, Supervisor, start_with,
};
use sumac_rref::{PacketPool, PoolGrant};
use sumac_runtime::load::Verified;
use sumac_runtime::{Domain, Quota, SharedReclaim};

use crate::loan::{Home, Loan};
use crate::run::partner;

/// What the application's domain may use. A call of it is some hundred rounds, which takes less than a
/// millisecond; the time that drivers take is theirs.
const QUOTA: Quota = Quota {
    pages: 16 * 1024 * 1024 / 4096,
    threads: 0,
    call_ns: 100_000_000,
};

/// What ends a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplicationError {
    /// A queue pair failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The application is in a domain of its own, which did not answer; what it had in hand is gone.
    #[error("the application's domain: {0}")]
    Domain(RpcError),
}

/// What a worker runs. Dropping it brings its queue pairs home, if its domain lives.
pub trait Application: Send {
    /// So many rounds over all lanes; says how many frames moved.
    ///
    /// # Errors
    /// [`ApplicationError`].
    fn run(&mut self, rounds: u32) -> Result<u64, ApplicationError>;

    /// What is not done yet; nothing of one that is dead.
    fn under_way(&mut self) -> UnderWay;

    /// Frames of a lane received and not yet transmitted.
    fn held(&self, lane: usize) -> u64;

    /// Arms the interrupts of all lanes; `false` if one wakes nobody.
    fn arm(&mut self) -> bool {
        false
    }
}

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

/// The application linked in, over a worker's lanes.
///
/// # Errors
/// [`RpcError::Refused`] if a queue pair is away, or the shared heap has no batches.
pub fn linked<Q: NetQueue + 'static>(
    lanes: &[LanePlan<Q>],
    pool: &'static PacketPool,
    batch: usize,
) -> RpcResult<Box<dyn Application>> {
    let mut forwarder = Forwarder::new(batch);
    for lane in lanes {
        forwarder.add(Lane {
            to: lane.to,
            rewrite: lane.rewrite,
            queue: lane.home.lend().ok_or(RpcError::Refused)?,
            batch: pool.batch().map_err(|_| RpcError::Refused)?,
        });
    }
    Ok(Box::new(forwarder))
}

impl<Q: NetQueue> Application for Forwarder<Loan<Q>> {
    fn run(&mut self, rounds: u32) -> Result<u64, ApplicationError> {
        Ok(Forwarder::run(self, rounds)?)
    }

    fn under_way(&mut self) -> UnderWay {
        Forwarder::under_way(self)
    }

    fn held(&self, lane: usize) -> u64 {
        Forwarder::held(self, lane)
    }

    fn arm(&mut self) -> bool {
        Forwarder::arm(self)
    }
}

/// A forwarder in a domain, or the shadow before it.
struct Isolated {
    forwarder: Object<dyn Forward>,
    /// Told when a call succeeded.
    served: Box<dyn Fn() + Send>,
}

impl Application for Isolated {
    fn run(&mut self, rounds: u32) -> Result<u64, ApplicationError> {
        let result = self.forwarder.run(rounds);
        let moved = result.map_err(ApplicationError::Domain)?;
        (self.served)();
        Ok(moved.map_err(QueueError::Domain)?)
    }

    fn under_way(&mut self) -> UnderWay {
        self.forwarder.under_way().unwrap_or_default()
    }

    fn held(&self, lane: usize) -> u64 {
        self.forwarder.held(lane as u32).unwrap_or(0)
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
            let mut set_up = || {
                let mut forwarder = match &mut root {
                    RootObject::Forward(root) => root.create(pool, self.batch)?,
                    RootObject::Fragile(root) => root.create(pool, self.batch)?,
                };
                for lane in lanes {
                    let queue = lane.home.lend().ok_or(RpcError::Refused)?;
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
pub type Hosting = (Vec<Box<dyn Application>>, Arc<dyn Hosted>);

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
///
/// # Errors
/// [`StartError`].
pub fn start<Q: NetQueue + 'static>(
    mut service: ApplicationService<Q>,
) -> Result<Hosting, StartError> {
    let (domain, mut life) = service.start()?;
    let isolated = |forwarder| {
        let served = Box::new(|| {});
        Box::new(Isolated { forwarder, served }) as Box<dyn Application>
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
///
/// # Errors
/// [`StartError`].
pub fn supervise<Q: NetQueue + 'static>(
    service: ApplicationService<Q>,
) -> Result<Hosting, StartError> {
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
        Some(Box::new(Isolated {
            forwarder: Object::from_box(Box::new(Shadow::new(first, renewal, policy)) as _),
            served: Box::new(move || told.served()),
        }) as Box<dyn Application>)
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
