//! The table of domains: who lives, with what quotas and memory.
//!
//! A fixed number of controls serve all domains one after the other, so that a million domains that
//! come and go leave nothing behind. A domain's number is its control's index with a generation, and
//! freed controls wait in a queue: a number comes again after thousands of millions of domains.
//! `live` holds the number of the domain while it lives and 0 after: one load tells a gate whether
//! *its* domain lives. Nobody is brought back: `live` goes from 0 to a number only in [`Domain::create`].

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use sumac_interface::rpc::Cause;
use sumac_rref::{DomainId, SharedHeap};

use crate::held;
use crate::host::{Host, PAGE, host};
use crate::lock::SpinLock;
use crate::quiescence;
use crate::thread::{self, ThreadBlock};

/// The places of the table: two are not for domains.
pub const DOMAINS: usize = 1024;
const INDEX_BITS: u32 = DOMAINS.trailing_zeros();
/// The first index of a domain: 0 is nobody's, 1 the host's.
const FIRST_INDEX: u32 = DomainId::HOST.get() + 1;
/// The most bytes of a domain's last words that are kept.
const LAST_WORDS: usize = 256;

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

/// A device or another thing of the host's that a domain was given and that must not be used once the
/// domain's memory is free.
pub trait Grant: Send {
    /// Takes it away: for a device, bus mastering off, reset, wait for quiet. Runs once, when no thread
    /// is in the domain any more and before any of its memory is freed.
    fn revoke(&mut self);
}

/// Frees what dead domains own on shared heaps and in packet pools.
pub trait SharedReclaim: Sync {
    /// Drops what `owner` owns, by type; says how many objects are borrowed and have to stay.
    ///
    /// # Safety
    /// No thread has a frame of `owner`, and its grants are revoked.
    unsafe fn reclaim(&self, owner: DomainId) -> usize;
}

impl SharedReclaim for SharedHeap {
    unsafe fn reclaim(&self, owner: DomainId) -> usize {
        // SAFETY: the caller's promise.
        unsafe { SharedHeap::reclaim(self, owner) }.borrowed
    }
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

/// Why a domain is not reclaimed yet. Try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReclaimError {
    /// It lives.
    #[error("the domain is alive")]
    Alive,
    /// This many frames of it are on stacks.
    #[error("{0} calls into the domain have not ended")]
    Frames(usize),
    /// This many of its shared objects are borrowed.
    #[error("{0} shared objects of the domain are borrowed")]
    Borrowed(usize),
    /// It is reclaimed already, or by another thread just now.
    #[error("the domain is reclaimed already")]
    Reclaimed,
}

/// What reclaiming freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Private pages, and those of the image.
    pub pages: usize,
    /// Grants revoked.
    pub grants: usize,
    /// Interface objects of others that it held, dropped.
    pub proxies: usize,
}

#[derive(Debug)]
struct Region {
    start: NonNull<u8>,
    pages: usize,
}

// SAFETY: a region is memory that its control owns; whoever holds the region may free it.
unsafe impl Send for Region {}

/// What of a domain may be changed only by one at a time.
struct Belongings {
    name: String,
    regions: Vec<Region>,
    grants: Vec<Box<dyn Grant>>,
    last_words: String,
}

const FREE: u32 = 0;
const ALIVE: u32 = 1;
const DYING: u32 = 2;
const DEAD: u32 = 3;
const RECLAIMING: u32 = 4;

/// One of the table's places for a domain.
#[repr(align(64))]
pub struct DomainControl {
    /// The number of the domain while it lives.
    pub(crate) live: AtomicU32,
    /// The number of the domain, the last one's if there is none: `number << 32 | cause << 8 | phase`.
    state: AtomicU64,
    code_start: AtomicUsize,
    code_end: AtomicUsize,
    pages_used: AtomicUsize,
    pages_quota: AtomicUsize,
    threads_used: AtomicU32,
    threads_quota: AtomicU32,
    call_ns: AtomicU64,
    belongings: SpinLock<Belongings>,
}

impl core::fmt::Debug for DomainControl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DomainControl({})", self.live.load(Ordering::Relaxed))
    }
}

impl DomainControl {
    const fn new(live: u32) -> Self {
        Self {
            live: AtomicU32::new(live),
            state: AtomicU64::new(0),
            code_start: AtomicUsize::new(0),
            code_end: AtomicUsize::new(0),
            pages_used: AtomicUsize::new(0),
            pages_quota: AtomicUsize::new(0),
            threads_used: AtomicU32::new(0),
            threads_quota: AtomicU32::new(0),
            call_ns: AtomicU64::new(0),
            belongings: SpinLock::new(Belongings {
                name: String::new(),
                regions: Vec::new(),
                grants: Vec::new(),
                last_words: String::new(),
            }),
        }
    }

    /// Whether the domain of this number lives.
    #[inline(always)]
    pub(crate) fn is_live(&self, id: DomainId) -> bool {
        self.live.load(Ordering::Acquire) == id.get()
    }

    /// Whether `address` is the domain's code.
    pub(crate) fn has_code(&self, address: usize) -> bool {
        let start = self.code_start.load(Ordering::Relaxed);
        (start..self.code_end.load(Ordering::Relaxed)).contains(&address)
    }

    /// Why the domain of this number ended; [`Cause::Killed`] if that is forgotten.
    pub(crate) fn cause(&self, id: DomainId) -> Cause {
        let state = self.state.load(Ordering::Acquire);
        if (state >> 32) as u32 == id.get() {
            Cause::from_number((state >> 8) as u32 & 0xff).unwrap_or(Cause::Killed)
        } else {
            Cause::Killed
        }
    }

    /// Makes the domain dead if it lives, and interrupts the threads inside `but` one. Fit for trap handlers.
    /// True: it was this call.
    pub(crate) fn end(
        &'static self,
        id: DomainId,
        cause: Cause,
        last_words: &str,
        but: Option<&ThreadBlock>,
    ) -> bool {
        if id == DomainId::HOST {
            return false;
        }
        let alive = state(id, 0, ALIVE);
        let dying = state(id, cause as u32, DYING);
        let ordering = (Ordering::AcqRel, Ordering::Relaxed);
        if self
            .state
            .compare_exchange(alive, dying, ordering.0, ordering.1)
            .is_err()
        {
            return false;
        }
        self.live.store(0, Ordering::SeqCst);
        if !last_words.is_empty() {
            // Trap handlers, which must not lock, have no words.
            let kept = last_words.floor_char_boundary(LAST_WORDS);
            let words = String::from(&last_words[..kept]);
            self.belongings.with(|all| all.last_words = words);
        }
        self.state
            .store(state(id, cause as u32, DEAD), Ordering::Release);
        self.interrupt(id, but);
        true
    }

    /// Interrupts the threads whose innermost call is into this domain.
    fn interrupt(&'static self, id: DomainId, but: Option<&ThreadBlock>) {
        let Some(host) = host() else { return };
        for block in thread::threads() {
            let is_this = but.is_some_and(|but| core::ptr::eq(block, but));
            if !is_this && block.domain() == id {
                host.interrupt(block.handle());
            }
        }
    }

    /// More private memory for the domain, zeroed; none beyond its quota.
    pub(crate) fn grow(&self, bytes: usize) -> Option<NonNull<u8>> {
        let pages = bytes.div_ceil(PAGE).max(1);
        let quota = self.pages_quota.load(Ordering::Relaxed);
        let within = |used: usize| used.checked_add(pages).filter(|sum| *sum <= quota);
        let order = Ordering::Relaxed;
        self.pages_used.fetch_update(order, order, within).ok()?;
        let start = host().and_then(|host| host.map(pages));
        match start {
            Some(start) => self.adopt(start, pages),
            None => _ = self.pages_used.fetch_sub(pages, order),
        }
        start
    }

    fn adopt(&self, start: NonNull<u8>, pages: usize) {
        self.belongings
            .with(|all| all.regions.push(Region { start, pages }));
    }
}

const fn state(id: DomainId, cause: u32, phase: u32) -> u64 {
    (id.get() as u64) << 32 | (cause as u64) << 8 | phase as u64
}

/// The host's own: always alive.
static HOST: DomainControl = DomainControl::new(DomainId::HOST.get());
/// Those of the domains; the places of the numbers for nobody and the host stay empty.
static CONTROLS: [DomainControl; DOMAINS] = [const { DomainControl::new(0) }; DOMAINS];

/// The controls that were used before and are free, the longest free first.
static FREED: SpinLock<VecDeque<u32>> = SpinLock::new(VecDeque::new());
/// The first index that was never used.
static FRESH: AtomicU32 = AtomicU32::new(FIRST_INDEX);

/// The host's control, as frames hold it.
pub(crate) fn host_control() -> *mut DomainControl {
    core::ptr::from_ref(&HOST).cast_mut()
}

/// A control that is free, and the number for its next domain.
fn take_control() -> Option<(&'static DomainControl, DomainId)> {
    let order = Ordering::Relaxed;
    let fresh = |index: u32| (index < DOMAINS as u32).then_some(index + 1);
    let index = match FRESH.fetch_update(order, order, fresh) {
        Ok(index) => index,
        Err(_) => FREED.with(VecDeque::pop_front)?,
    };
    let control = &CONTROLS[index as usize];
    let last = (control.state.load(Ordering::Acquire) >> 32) as u32;
    let generation = (last >> INDEX_BITS).wrapping_add(1) << INDEX_BITS;
    // Generation 0 is the host's and nobody's.
    let generation = generation.max(1 << INDEX_BITS);
    Some((control, DomainId::new(generation | index)))
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
    /// The pages came from [`Host::map`], whatever their protection is now, and are the domain's alone.
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

    /// Frees all that a dead domain had: revokes its grants, then `shared` drops its shared objects, then
    /// its private memory goes, without destructors. Its control is free for another domain then.
    ///
    /// # Errors
    /// [`ReclaimError`]: nothing was freed but, with [`Borrowed`](ReclaimError::Borrowed), what no one
    /// borrows.
    pub fn reclaim(self, shared: &dyn SharedReclaim) -> Result<Freed, ReclaimError> {
        let host = host().ok_or(ReclaimError::Reclaimed)?;
        let control = self.control;
        let dead = match self.phase() {
            Phase::Alive => return Err(ReclaimError::Alive),
            Phase::Reclaimed => return Err(ReclaimError::Reclaimed),
            Phase::Dead(cause) => state(self.id, cause as u32, DEAD),
        };
        let reclaiming = dead - u64::from(DEAD) + u64::from(RECLAIMING);
        let (took, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        control
            .state
            .compare_exchange(dead, reclaiming, took, failed)
            .map_err(|now| match now as u32 & 0xff {
                // The thread that ends it is on its way out.
                DYING => ReclaimError::Frames(self.frames().max(1)),
                _ => ReclaimError::Reclaimed,
            })?;
        let result = self.free(host, shared);
        if result.is_ok() {
            // Free first: who is told so by the queue may take it at once.
            let free = dead - u64::from(DEAD) + u64::from(FREE);
            control.state.store(free, Ordering::Release);
            FREED.with(|freed| freed.push_back(self.id.get() % DOMAINS as u32));
        } else {
            control.state.store(dead, Ordering::Release);
        }
        result
    }

    /// The freeing of [`reclaim`](Self::reclaim), by one thread at a time.
    fn free(self, host: &dyn Host, shared: &dyn SharedReclaim) -> Result<Freed, ReclaimError> {
        // `live` was set to 0 before. After the fence a thread that has no frame yet finds that out
        // before it calls; one that found the domain alive has a frame that is seen here.
        quiescence::all_frames_are_published(|| host.fence_all_threads());
        let frames = self.frames();
        if frames != 0 {
            return Err(ReclaimError::Frames(frames));
        }
        let control = self.control;
        let grants = control
            .belongings
            .with(|all| core::mem::take(&mut all.grants));
        let mut freed = Freed {
            pages: 0,
            grants: grants.len(),
            proxies: 0,
        };
        for mut grant in grants {
            grant.revoke();
        }
        // SAFETY: no thread has a frame, and none gets one.
        freed.proxies += unsafe { held::drop_all(self.id) };
        // SAFETY: no thread has a frame, none gets one, and the grants are revoked.
        let borrowed = unsafe { shared.reclaim(self.id) };
        if borrowed != 0 {
            return Err(ReclaimError::Borrowed(borrowed));
        }
        let regions = control
            .belongings
            .with(|all| core::mem::take(&mut all.regions));
        for region in regions {
            freed.pages += region.pages;
            // SAFETY: the region was given to this domain; no thread has a frame of it, and shared
            // objects hold no pointers into private memory.
            unsafe { host.unmap(region.start, region.pages) };
        }
        control.pages_used.store(0, Ordering::Relaxed);
        Ok(freed)
    }
}
