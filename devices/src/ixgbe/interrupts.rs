//! Interrupts (sections 7.3 and 8.2.3.5): causes, masks, vectors, moderation.
//!
//! With GPIE.Multiple_MSIX a queue's cause is the vector IVAR gives it, 0 to 63, and everything else has
//! the vector of IVAR_MISC; without, queues have the 16 causes of EICR's low half and all share vector 0,
//! which is also the level of the pin. What a vector becomes (a message, a pin, a condition variable) is
//! the hook's business.
//!
//! Invariant: a vector whose cause is pending and unmasked is told once, as soon as its EITR interval
//! is over; again after the cause was set anew, or cleared or masked in between.

use super::device::{Access32, Core};
use super::registers as r;

/// Vectors there are.
pub const VECTORS: usize = 64;
/// Queue causes EICR shows.
const SHOWN: u64 = 0xFFFF;
/// Causes of EICR that are no queue's.
const OTHER: u32 = 0x7FFF_0000;
/// What GPIE.OCD lets a read clear.
const OTHER_CLEARED: u32 = 0x3FFF_0000;
/// EITR: one unit of the interval, at 10 Gbit/s.
const INTERVAL_UNIT_NS: u64 = 2_048;

/// Called with the vector when it is due; the core is locked meanwhile.
pub type InterruptHook = Box<dyn FnMut(u32) + Send>;

/// Causes and masks, and what has been told.
pub(super) struct Interrupts {
    pub hook: Option<InterruptHook>,
    /// Pending causes: of queues, by vector (or cause, without MSI-X); all others, as in EICR.
    queues: u64,
    other: u32,
    /// EIMS and EIMS(1), EIMS(2): what is not masked.
    queues_on: u64,
    other_on: u32,
    /// EIAM and EIAM(1), EIAM(2).
    queues_auto_mask: u64,
    other_auto_mask: u32,
    /// Vectors that were told of what is pending now.
    told: u64,
    /// Vectors that are due and wait for their interval to end.
    pub waiting: u64,
    /// When each vector may be told again.
    not_before: [u64; VECTORS],
    now_ns: u64,
    set_up: SetUp,
}

/// Registers that say how, as last written.
#[derive(Clone, Copy, Default)]
struct SetUp {
    /// GPIE.
    gpie: u32,
    /// EIAC.
    auto_clear: u32,
    /// IVAR_MISC: the vector of causes that are no queue's.
    other_vector: Option<u32>,
}

impl SetUp {
    fn msix(&self) -> bool {
        self.gpie & r::GPIE_MSIX != 0
    }
}

impl Interrupts {
    pub fn new() -> Self {
        Self {
            hook: None,
            queues: 0,
            other: 0,
            queues_on: 0,
            other_on: 0,
            queues_auto_mask: 0,
            other_auto_mask: 0,
            told: 0,
            waiting: 0,
            not_before: [0; VECTORS],
            now_ns: 0,
            set_up: SetUp::default(),
        }
    }

    /// As after a reset; the hook stays.
    pub fn reset(&mut self) {
        *self = Self {
            hook: self.hook.take(),
            now_ns: self.now_ns,
            ..Self::new()
        };
    }

    /// EICR.
    fn causes(&self) -> u32 {
        (self.queues & SHOWN) as u32 | self.other
    }

    /// EIMS.
    fn enabled(&self) -> u32 {
        (self.queues_on & SHOWN) as u32 | self.other_on
    }

    /// Vectors with a cause that is pending and not masked.
    fn due(&self) -> u64 {
        self.vectors_of(self.queues & self.queues_on, self.other & self.other_on)
    }

    /// What tells of these causes.
    fn vectors_of(&self, queues: u64, other: u32) -> u64 {
        let other = other != 0;
        if self.set_up.msix() {
            let vector = self.set_up.other_vector.filter(|_| other);
            queues | vector.map_or(0, |vector| 1 << vector)
        } else {
            u64::from(queues & SHOWN != 0 || other)
        }
    }

    /// Masks what EIAM says, at an access to EICR.
    fn auto_mask(&mut self) {
        if self.set_up.gpie & r::GPIE_EIAME == 0 {
            self.queues_on &= !self.queues_auto_mask;
            self.other_on &= !self.other_auto_mask;
        }
    }

    /// A message has been sent: EIAC and EIAM (sections 8.2.3.5.5 and 8.2.3.5.6).
    fn sent(&mut self, vector: u32) {
        let bit = 1 << vector;
        let other = self.set_up.other_vector == Some(vector);
        // Vectors that EICR does not show have nobody else to clear them.
        if bit & SHOWN == 0 || self.set_up.auto_clear & bit as u32 != 0 {
            self.queues &= !bit;
        }
        if other {
            self.other &= !(self.set_up.auto_clear & OTHER);
        }
        if self.set_up.gpie & r::GPIE_EIAME != 0 {
            self.queues_on &= !(bit & self.queues_auto_mask);
            if other {
                self.other_on &= !self.other_auto_mask;
            }
        }
    }
}

impl Core {
    /// Who is told of vectors.
    pub fn on_interrupt(&mut self, hook: InterruptHook) {
        self.interrupts.hook = Some(hook);
    }

    /// Whether a cause is pending and not masked, which is the level of the interrupt pin.
    pub fn interrupt_pending(&self) -> bool {
        self.interrupts.due() != 0
    }

    /// The EITR interval of what `cause`, of a queue, is told with.
    pub(super) fn interval_ns(&self, cause: u64) -> u64 {
        let vector = if self.has_vectors() {
            cause.trailing_zeros()
        } else {
            0
        };
        self.vector_interval_ns(vector)
    }

    fn vector_interval_ns(&self, vector: u32) -> u64 {
        u64::from(self.get(r::eitr(vector)) >> 3 & 0x1FF) * INTERVAL_UNIT_NS
    }

    /// Whether GPIE.Multiple_MSIX is set.
    pub(super) fn has_vectors(&self) -> bool {
        self.get(r::GPIE) & r::GPIE_MSIX != 0
    }

    /// Sets causes of queues, by vector (or cause, without MSI-X).
    #[inline(always)]
    pub(super) fn raise(&mut self, queues: u64) {
        let state = &mut self.interrupts;
        if self.access == Access32::Trapped
            && queues & !state.queues == 0
            && queues & state.queues_on == 0
        {
            // Pending already, and masked.
            return;
        }
        self.set_causes(queues, 0);
    }

    /// Sets causes that are no queue's.
    pub(super) fn raise_other(&mut self, causes: u32) {
        self.set_causes(0, causes);
    }

    fn set_causes(&mut self, queues: u64, other: u32) {
        if self.access == Access32::Shared {
            // Masks are the driver's memory here, and nobody is told.
            let causes = (queues & SHOWN) as u32 | other;
            return self.set(r::EICR, self.get(r::EICR) | causes);
        }
        let state = &mut self.interrupts;
        state.queues |= queues;
        state.other |= other;
        // What is set anew is told anew.
        state.told &= !queues;
        if other != 0
            && let Some(vector) = state.set_up.other_vector
        {
            state.told &= !(1 << vector);
        }
        if !state.set_up.msix() {
            state.told = 0;
        }
        self.tell_due();
    }

    /// Looks again at vectors whose interval may be over.
    #[cold]
    pub(super) fn deliver_waiting(&mut self) {
        self.tell_due();
    }

    /// Time goes on; intervals are measured by it.
    #[inline(always)]
    pub(super) fn interrupt_clock(&mut self, now_ns: u64) {
        self.interrupts.now_ns = now_ns;
    }

    /// Tells of what is due.
    fn tell_due(&mut self) {
        let due = self.interrupts.due();
        self.interrupts.told &= due;
        let mut untold = due & !self.interrupts.told;
        self.interrupts.waiting = 0;
        while untold != 0 {
            let vector = untold.trailing_zeros();
            untold &= untold - 1;
            self.tell(vector);
        }
        self.set(r::EICR, self.interrupts.causes());
        self.set(r::EICS, self.interrupts.causes());
        self.set(r::EIMS, self.interrupts.enabled());
        self.publish_extended();
    }

    fn tell(&mut self, vector: u32) {
        let interval_ns = self.vector_interval_ns(vector);
        let state = &mut self.interrupts;
        let bit = 1 << vector;
        let Some(not_before) = state.not_before.get_mut(vector as usize) else {
            return;
        };
        if state.now_ns < *not_before {
            state.waiting |= bit;
            return;
        }
        *not_before = state.now_ns + interval_ns;
        state.told |= bit;
        if state.set_up.msix() {
            state.sent(vector);
            state.told &= state.due();
        }
        if let Some(hook) = &mut state.hook {
            hook(vector);
        }
    }

    fn publish_extended(&self) {
        let state = &self.interrupts;
        for (base, value) in [
            (r::EIMS_EX, state.queues_on),
            (r::EIAM_EX, state.queues_auto_mask),
        ] {
            self.set(base, value as u32);
            self.set(base + 4, (value >> 32) as u32);
        }
        let auto_mask = (state.queues_auto_mask & SHOWN) as u32 | state.other_auto_mask;
        self.set(r::EIAM, auto_mask);
    }

    /// EICR as a driver reads it: clears (section 8.2.3.5.1).
    pub(super) fn read_causes(&mut self) -> u32 {
        let state = &mut self.interrupts;
        let causes = state.causes();
        if state.set_up.gpie & r::GPIE_OCD != 0 {
            state.other &= !OTHER_CLEARED;
        } else {
            state.queues &= !SHOWN;
            state.other = 0;
        }
        state.auto_mask();
        self.tell_due();
        causes
    }

    /// A write to a register of this section; `false` if `offset` is none. Those that hold what was written
    /// hold it already.
    pub(super) fn interrupt_written(&mut self, offset: u32, value: u32) -> bool {
        let low = u64::from(value) & SHOWN;
        let other = value & OTHER;
        let state = &mut self.interrupts;
        match offset {
            r::EICR => {
                state.queues &= !low;
                state.other &= !other;
                state.auto_mask();
            }
            r::EICS => {
                self.set_by_hand(low, other);
                return true;
            }
            r::EIMS => {
                state.queues_on |= low;
                state.other_on |= other;
            }
            r::EIMC => {
                state.queues_on &= !low;
                state.other_on &= !other;
                self.set(r::EIMC, 0);
            }
            r::EIAM => {
                state.queues_auto_mask = state.queues_auto_mask & !SHOWN | low;
                state.other_auto_mask = other;
            }
            r::EIAC => state.set_up.auto_clear = value,
            r::GPIE => state.set_up.gpie = value,
            r::IVAR_MISC => {
                let allocation = value >> 8;
                state.set_up.other_vector = (allocation & 0x80 != 0).then_some(allocation & 0x3F);
            }
            _ => return self.extended_written(offset, value),
        }
        self.tell_due();
        true
    }

    /// EICS: with GPIE.EIMEN at once, whatever the interval of the vectors that are set.
    fn set_by_hand(&mut self, queues: u64, other: u32) {
        if self.interrupts.set_up.gpie & r::GPIE_EIMEN != 0 {
            let vectors = self.interrupts.vectors_of(queues, other);
            for (vector, not_before) in self.interrupts.not_before.iter_mut().enumerate() {
                if vectors >> vector & 1 != 0 {
                    *not_before = 0;
                }
            }
        }
        self.set_causes(queues, other);
    }

    /// EICS(n), EIMS(n), EIMC(n), EIAM(n): 32 vectors each.
    fn extended_written(&mut self, offset: u32, value: u32) -> bool {
        let shift = 8 * (offset & 4);
        let vectors = u64::from(value) << shift;
        let state = &mut self.interrupts;
        match offset & !4 {
            r::EICS_EX => {
                self.set_by_hand(vectors, 0);
                self.set(offset, 0);
                return true;
            }
            r::EIMS_EX => state.queues_on |= vectors,
            r::EIMC_EX => {
                state.queues_on &= !vectors;
                self.set(offset, 0);
            }
            r::EIAM_EX => {
                let half = 0xFFFF_FFFF << shift;
                state.queues_auto_mask = state.queues_auto_mask & !half | vectors;
            }
            _ => return false,
        }
        self.tell_due();
        true
    }
}
