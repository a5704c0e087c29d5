//! The application in a domain of its own, which is given its queue pairs on loan and nothing besides.
//!
//! All workers' forwarders are objects of one domain. When it dies each worker is told by its next call; the
//! first has the supervisor, if there is one, bury it: then all loans come home, and the next life gets them.
//!
//! - `service`: its domain, and what that is started with;
//! - `worker`: who calls it, one a core.

mod service;
mod worker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sumac_interface::domain::{Failure, Moment};
use sumac_interface::net::NetQueue;
use sumac_interface::{Cause, Object, Policy, RpcError, RpcResult, Shadow};
use sumac_linux::domains::{self, Renewal, Restarts, Service, StartError, Supervisor};
use sumac_runtime::{Domain, SharedReclaim};

use crate::forward::Shared;
use crate::loan::{Home, Meter};

use service::NAME;
pub use service::{ApplicationLife, ApplicationProgram, ApplicationService};
pub use worker::HostedWorker;
use worker::Isolated;

/// A lane of a worker to be: whoever runs the application gets the queue pair from its home.
pub struct LanePlan<Q> {
    /// The port its frames come from.
    pub from: usize,
    /// The worker's lane of the port they leave by.
    pub to: usize,
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

/// A worker's share of the queue pairs.
pub struct Share<Q> {
    /// Its lanes.
    pub lanes: Vec<LanePlan<Q>>,
    /// What measures it.
    pub meter: Arc<Meter>,
}

impl<Q> Clone for Share<Q> {
    fn clone(&self) -> Self {
        Self {
            lanes: self.lanes.clone(),
            meter: Arc::clone(&self.meter),
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
pub type Hosting<W> = (Vec<W>, Arc<dyn Hosted>);

/// Starts the application in a domain, once or as often as it dies, and makes the workers that call it.
///
/// # Errors
/// [`StartError`].
pub fn workers<Q: NetQueue + 'static>(
    service: ApplicationService<Q>,
    shared: &Arc<Shared>,
    again: bool,
) -> Result<Hosting<HostedWorker<Q>>, StartError> {
    let shares = service.workers.clone();
    let (applications, hosted) = match again {
        true => supervise(service)?,
        false => start(service)?,
    };
    let worker = |(share, application)| HostedWorker {
        application,
        hosted: hosted.clone(),
        share,
        shared: shared.clone(),
    };
    let all = shares.into_iter().zip(applications);
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
fn start<Q: NetQueue + 'static>(
    mut service: ApplicationService<Q>,
) -> Result<Hosting<Isolated>, StartError> {
    let workers = service.workers.len();
    let (domain, mut life) = service.start()?;
    let isolated = |forwarder| {
        let served = Box::new(|| {});
        Isolated { forwarder, served }
    };
    // Nobody took any yet, so that all are there.
    let forwarders = (0..workers).filter_map(|worker| life.take_forwarder(worker).ok());
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
fn supervise<Q: NetQueue + 'static>(
    service: ApplicationService<Q>,
) -> Result<Hosting<Isolated>, StartError> {
    let (workers, lost, shared) = (
        service.workers.len(),
        service.lost.clone(),
        service.shared.clone(),
    );
    let policy = Policy::default();
    let supervisor = Supervisor::start(service, shared, policy.limit)?;
    let application = |worker: usize| {
        let take = move |life: &mut ApplicationLife| life.take_forwarder(worker);
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
        let fail = |life: &mut ApplicationLife| life.fail_next(how, when);
        self.supervisor.with(fail).unwrap_or(Err(RpcError::Refused))
    }

    fn lost(&self) -> Vec<u64> {
        let lost = self.lost.iter();
        lost.map(|lost| lost.load(Ordering::Relaxed)).collect()
    }
}
