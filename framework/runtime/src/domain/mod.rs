//! Domains: who lives, with what quotas and memory.
//!
//! A fixed number of controls (`control`) serve all domains one after the other, so that a million domains
//! that come and go leave nothing behind. Nobody is brought back: a control is alive again only by
//! [`Domain::create`], for another number. `reclaim` takes back what the dead had.

mod control;
mod reclaim;

use alloc::boxed::Box;
use alloc::string::String;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use sumac_interface::rpc::Cause;
use sumac_rref::DomainId;

pub(crate) use self::control::host_control;
use self::control::{
    ALIVE, Belongings, CONTROLS, DEAD, DYING, FIRST_INDEX, FRESH, RECLAIMING, state, take_control,
};
pub use self::control::{DOMAINS, DomainControl};
pub use self::reclaim::{Freed, Grant, ReclaimError, SharedReclaim};
use crate::host::{PAGE, host};
use crate::thread::{self, ThreadBlock};

/// What a domain may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Pages of 4 KiB of private memory, its image not counted.
    pub pages: usize,
    /// Threads that it may have started at a time.
    pub threads: u32,
    /// Processor time in nanoseconds that one call may take inside the domain; 0 is no limit. Time in
    /// the domains it calls is theirs.
    pub call_ns: u64,
}

impl Default for Quota {
    /// 64 MiB, no threads, no limit to a call.
    fn default() -> Self {
        Self {
            pages: 64 * 1024 * 1024 / PAGE,
            threads: 0,
            call_ns: 0,
        }
    }
}

/// What a domain is made of.
#[derive(Clone, Debug, Default)]
pub struct DomainSpec {
    /// For people.
    pub name: String,
    /// What it may use.
    pub quota: Quota,
    /// The addresses of its code. Faults at and interrupts of instructions in here are the domain's;
    /// those elsewhere, trusted code's. Empty: only what the domain reports itself ends it.
    pub code: Range<usize>,
}

/// Where a domain is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It can be called.
    Alive,
    /// Calls fail; threads may still be in it.
    Dead(Cause),
    /// All it had was freed.
    Reclaimed,
}

/// No more domains: [`DOMAINS`] are there, or there is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The table is full: reclaim dead domains, or load fewer.
    #[error("1,022 domains are there already: reclaim the dead ones, or load fewer")]
    Full,
    /// [`install`](crate::install) was not called.
    #[error("no host was installed before the first domain")]
    NoHost,
}

/// A domain, by its number: to end it, to reclaim it, to look at it. It stays there if this is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Domain {
    control: &'static DomainControl,
    id: DomainId,
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Domain {}

impl Domain {
    /// A new domain: alive, with nothing.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create(spec: DomainSpec) -> Result<Self, CreateError> {
        host().ok_or(CreateError::NoHost)?;
        let (control, id) = take_control().ok_or(CreateError::Full)?;
        let order = Ordering::Relaxed;
        control.code_start.store(spec.code.start, order);
        control.code_end.store(spec.code.end, order);
        control.pages_used.store(0, order);
        control.pages_quota.store(spec.quota.pages, order);
        control.threads_used.store(0, order);
        control.threads_quota.store(spec.quota.threads, order);
        control.call_ns.store(spec.quota.call_ns, order);
        control.belongings.with(|all| {
            all.name = spec.name;
            all.last_words.clear();
        });
        control.state.store(state(id, 0, ALIVE), Ordering::Release);
        control.live.store(id.get(), Ordering::Release);
        Ok(Self { control, id })
    }

    /// The domain of this number, alive or not.
    pub fn find(id: DomainId) -> Option<Self> {
        let control = CONTROLS.get(id.get() as usize % DOMAINS)?;
        let domain = Self { control, id };
        (domain.phase() != Phase::Reclaimed).then_some(domain)
    }

    /// The domain that the calling thread runs in; none for the host.
    pub fn current() -> Option<Self> {
        let frame = ThreadBlock::current().top_frame();
        let (control, id) = (frame.control(), frame.domain());
        (id != DomainId::HOST).then_some(Self { control, id })
    }

    /// All domains that are alive or dead, the host not counted.
    pub fn all() -> impl Iterator<Item = Self> {
        let used = FRESH.load(Ordering::Relaxed) as usize;
        CONTROLS[FIRST_INDEX as usize..used.min(DOMAINS)]
            .iter()
            .filter_map(|control| {
                let id = (control.state.load(Ordering::Acquire) >> 32) as u32;
                let id = DomainId::new(id);
                let domain = Self { control, id };
                (id != DomainId::NONE && domain.phase() != Phase::Reclaimed).then_some(domain)
            })
    }

    /// Its number.
    pub fn id(self) -> DomainId {
        self.id
    }

    pub(crate) fn control(self) -> &'static DomainControl {
        self.control
    }

    /// Its name; empty once reclaimed.
    pub fn name(self) -> String {
        self.if_there(|all| all.name.clone()).unwrap_or_default()
    }

    /// What it said as it failed; empty if nothing.
    pub fn last_words(self) -> String {
        self.if_there(|all| all.last_words.clone())
            .unwrap_or_default()
    }

    fn if_there<R>(self, look: impl FnOnce(&mut Belongings) -> R) -> Option<R> {
        self.control
            .belongings
            .with(|all| (self.phase() != Phase::Reclaimed).then(|| look(all)))
    }

    /// Where it is in its life.
    pub fn phase(self) -> Phase {
        let state = self.control.state.load(Ordering::Acquire);
        if (state >> 32) as u32 != self.id.get() {
            return Phase::Reclaimed;
        }
        match state as u32 & 0xff {
            ALIVE => Phase::Alive,
            DYING | DEAD | RECLAIMING => Phase::Dead(self.control.cause(self.id)),
            _ => Phase::Reclaimed,
        }
    }

    /// Why it ended, if it did and that is still known: until its control serves another domain.
    pub fn cause(self) -> Option<Cause> {
        let state = self.control.state.load(Ordering::Acquire);
        let same = (state >> 32) as u32 == self.id.get();
        Cause::from_number((state >> 8) as u32 & 0xff).filter(|_| same)
    }

    /// Pages of private memory it has now, its image not counted.
    pub fn pages(self) -> usize {
        self.control.pages_used.load(Ordering::Relaxed)
    }

    /// The processor time a call may take inside, in nanoseconds; 0 is no limit.
    pub fn call_ns(self) -> u64 {
        self.control.call_ns.load(Ordering::Relaxed)
    }

    /// Counts a thread that is started for the domain; false: its quota is used up.
    pub fn begin_thread(self) -> bool {
        let quota = self.control.threads_quota.load(Ordering::Relaxed);
        let within = |used: u32| (used < quota).then_some(used + 1);
        let order = Ordering::Relaxed;
        let used = &self.control.threads_used;
        used.fetch_update(order, order, within).is_ok()
    }

    /// A thread counted by [`begin_thread`](Self::begin_thread) has ended.
    pub fn end_thread(self) {
        let order = Ordering::Relaxed;
        let less = |used: u32| used.checked_sub(1);
        // An end without a beginning counts for nothing.
        let _ = self.control.threads_used.fetch_update(order, order, less);
    }

    /// More private memory for the domain, zeroed; none beyond its quota.
    pub fn grow(self, bytes: usize) -> Option<NonNull<u8>> {
        self.control.grow(bytes)
    }

    /// Hands the memory of the domain's image over, to be unmapped with the rest. Not in its quota.
    ///
    /// # Safety
    /// The pages came from [`Host::map`](crate::host::Host::map), whatever their protection is now, and are the domain's alone.
    pub unsafe fn adopt(self, start: NonNull<u8>, pages: usize) {
        self.control.adopt(start, pages);
    }

    /// Says where the domain's code is, once that is known: see [`DomainSpec::code`].
    pub fn set_code(self, code: Range<usize>) {
        self.control.code_start.store(code.start, Ordering::Relaxed);
        self.control.code_end.store(code.end, Ordering::Relaxed);
    }

    /// Gives the domain something that is taken away before its memory is freed.
    pub fn grant(self, grant: Box<dyn Grant>) {
        self.control.belongings.with(|all| all.grants.push(grant));
    }

    /// Ends the domain. True: it lived until now. Threads inside are interrupted; threads that it has
    /// called from fail as their calls return.
    pub fn kill(self, cause: Cause) -> bool {
        self.control.end(self.id, cause, "", None)
    }

    /// Interrupts threads that are inside though it is dead: one that was in trusted code when the
    /// domain ended went on. The host calls this from time to time while a dead domain has frames.
    pub fn interrupt(self) {
        if !self.control.is_live(self.id) {
            self.control.interrupt(self.id, None);
        }
    }

    /// How many frames of the domain are on the stacks of all threads.
    pub fn frames(self) -> usize {
        let of_this = |frame: &&thread::Frame| frame.domain() == self.id;
        thread::threads()
            .map(|block| block.open_frames().iter().filter(of_this).count())
            .sum()
    }
}
