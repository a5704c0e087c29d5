//! The table of controls, each of which serves one domain after the other.
//!
//! A domain's number is its control's index with a generation, and freed controls wait in a queue: a number
//! comes again after thousands of millions of domains. `live` holds the number of the domain while it lives
//! and 0 after: one load tells a gate whether *its* domain lives.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use sumac_interface::rpc::Cause;
use sumac_rref::DomainId;

use super::Grant;
use crate::host::{PAGE, host};
use crate::lock::SpinLock;
use crate::thread::{self, ThreadBlock};

/// The places of the table: two are not for domains.
pub const DOMAINS: usize = 1024;
const INDEX_BITS: u32 = DOMAINS.trailing_zeros();
/// The first index of a domain: 0 is nobody's, 1 the host's.
pub(super) const FIRST_INDEX: u32 = DomainId::HOST.get() + 1;
/// The most bytes of a domain's last words that are kept.
const LAST_WORDS: usize = 256;

#[derive(Debug)]
pub(super) struct Region {
    pub(super) start: NonNull<u8>,
    pub(super) pages: usize,
}

// SAFETY: a region is memory that its control owns; whoever holds the region may free it.
unsafe impl Send for Region {}

/// What of a domain may be changed only by one at a time.
pub(super) struct Belongings {
    pub(super) name: String,
    pub(super) regions: Vec<Region>,
    pub(super) grants: Vec<Box<dyn Grant>>,
    pub(super) last_words: String,
}

pub(super) const FREE: u32 = 0;
pub(super) const ALIVE: u32 = 1;
pub(super) const DYING: u32 = 2;
pub(super) const DEAD: u32 = 3;
pub(super) const RECLAIMING: u32 = 4;

/// One of the table's places for a domain.
#[repr(align(64))]
pub struct DomainControl {
    /// The number of the domain while it lives.
    pub(crate) live: AtomicU32,
    /// The number of the domain, the last one's if there is none: `number << 32 | cause << 8 | phase`.
    pub(super) state: AtomicU64,
    pub(super) code_start: AtomicUsize,
    pub(super) code_end: AtomicUsize,
    pub(super) pages_used: AtomicUsize,
    pub(super) pages_quota: AtomicUsize,
    pub(super) threads_used: AtomicU32,
    pub(super) threads_quota: AtomicU32,
    pub(super) call_ns: AtomicU64,
    pub(super) belongings: SpinLock<Belongings>,
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
    pub(super) fn interrupt(&'static self, id: DomainId, but: Option<&ThreadBlock>) {
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

    pub(super) fn adopt(&self, start: NonNull<u8>, pages: usize) {
        self.belongings
            .with(|all| all.regions.push(Region { start, pages }));
    }
}

pub(super) const fn state(id: DomainId, cause: u32, phase: u32) -> u64 {
    (id.get() as u64) << 32 | (cause as u64) << 8 | phase as u64
}

/// The host's own: always alive.
static HOST: DomainControl = DomainControl::new(DomainId::HOST.get());
/// Those of the domains; the places of the numbers for nobody and the host stay empty.
pub(super) static CONTROLS: [DomainControl; DOMAINS] = [const { DomainControl::new(0) }; DOMAINS];

/// The controls that were used before and are free, the longest free first.
pub(super) static FREED: SpinLock<VecDeque<u32>> = SpinLock::new(VecDeque::new());
/// The first index that was never used.
pub(super) static FRESH: AtomicU32 = AtomicU32::new(FIRST_INDEX);

/// The host's control, as frames hold it.
pub(crate) fn host_control() -> *mut DomainControl {
    core::ptr::from_ref(&HOST).cast_mut()
}

/// A control that is free, and the number for its next domain.
pub(super) fn take_control() -> Option<(&'static DomainControl, DomainId)> {
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
