//! [`Supervisor`]: keeps a domain running. Who finds it dead has it buried and started again, and takes a
//! fresh object from the new one; who comes later finds that done.
//!
//! Nothing here is on a fast path: a call that succeeds touches no supervisor. Lives are numbered, and who
//! finds the domain dead says which life it means: so one death is followed by one restart, whoever
//! notices it. The others wait at the lock; what is done under it is bounded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sumac_interface::{Cause, Object, Remake, RpcError, RpcResult};
use sumac_runtime::{Domain, SharedReclaim};

use super::bury;
use crate::interrupts::Bell;

/// What a supervisor keeps running.
pub trait Service: Send {
    /// What a life of its domain offers: objects for those who call it.
    type Life: Send;
    /// Why it does not start.
    type Error: std::fmt::Display;

    /// Starts the domain, in the state in which the one before began its work.
    ///
    /// # Errors
    /// Nothing of the domain is left then.
    fn start(&mut self) -> Result<(Domain, Self::Life), Self::Error>;

    /// Nanoseconds of [`start`](Self::start), and of burying, that a device took for itself: a sum that only
    /// grows.
    fn device_ns(&self) -> u64 {
        0
    }
}

/// Keeps one domain running.
pub struct Supervisor<S: Service> {
    shared: Arc<dyn SharedReclaim + Send>,
    /// Restarts in a row that serve nobody before it gives up.
    limit: u32,
    /// Whether the life that is running served somebody.
    served: AtomicBool,
    state: Mutex<State<S>>,
}

struct State<S: Service> {
    service: S,
    /// None after a restart that failed.
    running: Option<(Domain, S::Life)>,
    /// The number of the life.
    life: u64,
    /// Restarts in a row that served nobody.
    in_a_row: u32,
    /// Whether there are to be no more.
    closed: bool,
    /// What those sleep on that the domain's device is to wake.
    sleepers: Vec<Arc<Bell>>,
    record: Restarts,
}

/// What happened to a supervised domain.
#[derive(Clone, Debug)]
pub struct Restarts {
    /// How often it was started again.
    pub count: u64,
    /// From noticing the death until it served again, in nanoseconds.
    pub latency: Histogram<u64>,
    /// The part of that in which the device stopped, was reset and settled.
    pub reset: Histogram<u64>,
    /// The rest of it.
    pub less_reset: Histogram<u64>,
    /// How it died last: its name, the cause, and its last words.
    pub last_death: Option<String>,
    /// Why it was not started again, the last time that failed.
    pub last_failure: Option<String>,
}

/// Who died, of what, and its last words; of a domain not buried yet.
pub fn obituary(domain: Domain) -> String {
    let cause = domain.cause().unwrap_or(Cause::Killed);
    let (name, words) = (domain.name(), domain.last_words());
    let colon = if words.is_empty() { "" } else { ": " };
    format!("{name} died ({cause}){colon}{words}")
}

/// The longest time told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(60);
/// Digits that times are good for.
const DIGITS: u8 = 3;

impl Default for Restarts {
    fn default() -> Self {
        let times = || {
            Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, DIGITS)
                .expect("these bounds are fine")
        };
        Self {
            count: 0,
            latency: times(),
            reset: times(),
            less_reset: times(),
            last_death: None,
            last_failure: None,
        }
    }
}

impl Restarts {
    fn add(&mut self, latency_ns: u64, reset_ns: u64) {
        self.count += 1;
        self.latency.saturating_record(latency_ns);
        self.reset.saturating_record(reset_ns);
        let rest = latency_ns.saturating_sub(reset_ns);
        self.less_reset.saturating_record(rest);
    }
}

impl std::ops::AddAssign<&Restarts> for Restarts {
    fn add_assign(&mut self, other: &Restarts) {
        self.count += other.count;
        // Of the same bounds, so that nothing is out of range.
        self.latency += &other.latency;
        self.reset += &other.reset;
        self.less_reset += &other.less_reset;
        self.last_death = other.last_death.clone().or(self.last_death.take());
        self.last_failure = other.last_failure.clone().or(self.last_failure.take());
    }
}

impl<S: Service> Supervisor<S> {
    /// Starts the service for the first time. `shared` frees what its domains own; after `limit` restarts in a
    /// row that serve nobody there are no more.
    ///
    /// # Errors
    /// The service's.
    pub fn start(
        mut service: S,
        shared: Arc<dyn SharedReclaim + Send>,
        limit: u32,
    ) -> Result<Arc<Self>, S::Error> {
        let running = Some(service.start()?);
        Ok(Arc::new(Self {
            shared,
            limit,
            served: AtomicBool::new(false),
            state: Mutex::new(State {
                service,
                running,
                life: 1,
                in_a_row: 0,
                closed: false,
                sleepers: Vec::new(),
                record: Restarts::default(),
            }),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the life that is running, or ran last.
    pub fn life(&self) -> u64 {
        self.state().life
    }

    /// The life that is running served somebody: for who calls it to tell once for each life.
    pub fn served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// Whether it did.
    pub fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// How many restarts in a row served nobody.
    pub fn in_a_row(&self) -> u32 {
        self.state().in_a_row
    }

    /// Takes something from the life that is running, or looks at it; none between lives.
    pub fn with<R>(&self, look: impl FnOnce(&mut S::Life) -> R) -> Option<R> {
        let mut state = self.state();
        state.running.as_mut().map(|(_, life)| look(life))
    }

    /// Changes what later lives begin with.
    pub fn change(&self, change: impl FnOnce(&mut S)) {
        change(&mut self.state().service);
    }

    /// Rings these bells from now on whenever a life ended: what it had armed wakes nobody any more, and what its
    /// successor will arm does not yet.
    pub fn ring_at_restarts(&self, bells: Vec<Arc<Bell>>) {
        self.state().sleepers = bells;
    }

    /// Takes something from a life that is not `seen`, which was found dead: from the one that followed, or
    /// from the one that is started now. `seen` is its number then.
    ///
    /// # Errors
    /// [`RpcError::Refused`] where no more lives are to be had, or that of `take`.
    pub fn renew<R>(
        &self,
        seen: &mut u64,
        take: impl FnOnce(&mut S::Life) -> RpcResult<R>,
    ) -> RpcResult<R> {
        let noticed = Instant::now();
        let mut state = self.state();
        if state.running.is_none() || state.life == *seen {
            if state.running.is_some() {
                let served = self.served.swap(false, Ordering::Relaxed);
                state.in_a_row = if served { 0 } else { state.in_a_row + 1 };
                state.closed |= state.in_a_row >= self.limit;
            }
            let restarted = state.restart(&*self.shared, noticed);
            // Also when there will be no other life: whoever sleeps is to learn of it.
            state.sleepers.iter().for_each(|bell| bell.ring());
            restarted?;
        }
        *seen = state.life;
        match &mut state.running {
            Some((_, life)) => take(life),
            None => Err(RpcError::Refused),
        }
    }

    /// What happened so far.
    pub fn restarts(&self) -> Restarts {
        self.state().record.clone()
    }

    /// Ends the domain for good, and frees all it had.
    ///
    /// # Errors
    /// In words, where that cannot be.
    pub fn end(&self) -> Result<(), String> {
        let mut state = self.state();
        state.closed = true;
        state.bury(&*self.shared)
    }
}

/// Where a [`Shadow`](sumac_interface::Shadow) before a supervised domain gets its objects from.
pub struct Renewal<S: Service, F> {
    supervisor: Arc<Supervisor<S>>,
    /// The life the last one was of.
    seen: u64,
    in_a_row: u32,
    take: F,
}

impl<S: Service, F> Renewal<S, F> {
    /// Has `take` get the next object from the life that follows the one numbered `seen`.
    pub fn new(supervisor: Arc<Supervisor<S>>, seen: u64, take: F) -> Self {
        Self {
            supervisor,
            seen,
            in_a_row: 0,
            take,
        }
    }
}

impl<I: ?Sized, S: Service, F> Remake<I> for Renewal<S, F>
where
    F: Fn(&mut S::Life) -> RpcResult<Object<I>> + Send,
{
    fn remake(&mut self, pause: Duration) -> RpcResult<Object<I>> {
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        let take = |life: &mut S::Life| (self.take)(life);
        let renewed = self.supervisor.renew(&mut self.seen, take);
        self.in_a_row = self.supervisor.in_a_row();
        renewed
    }

    fn in_a_row(&self) -> Option<u32> {
        Some(self.in_a_row)
    }
}

impl<S: Service> State<S> {
    fn restart(&mut self, shared: &dyn SharedReclaim, noticed: Instant) -> RpcResult<()> {
        if self.closed {
            return Err(RpcError::Refused);
        }
        let before = self.service.device_ns();
        let started = match self.bury(shared) {
            Ok(()) => self.service.start().map_err(|error| error.to_string()),
            Err(failure) => Err(failure),
        };
        match started {
            Ok(running) => self.running = Some(running),
            Err(failure) => {
                log::info!("{failure}");
                self.record.last_failure = Some(failure);
                return Err(RpcError::Refused);
            }
        }
        self.life += 1;
        let latency = noticed.elapsed().as_nanos() as u64;
        let reset = self.service.device_ns().saturating_sub(before);
        self.record.add(latency, reset);
        Ok(())
    }

    /// Frees what the last life had; one that somebody still calls is ended.
    fn bury(&mut self, shared: &dyn SharedReclaim) -> Result<(), String> {
        let Some((domain, life)) = self.running.take() else {
            return Ok(());
        };
        if !domain.kill(Cause::Killed) {
            self.record.last_death = Some(obituary(domain));
        }
        // Into a dead domain nothing is called: the objects are forgotten.
        drop(life);
        let name = domain.name();
        let freed = bury(domain, shared).map(drop);
        freed.map_err(|error| format!("what {name} had could not be freed: {error}"))
    }
}
