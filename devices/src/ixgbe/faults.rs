//! Misbehaviour as data: what a hostile or dying device does, on request.
//!
//! Invariant: without faults asked for, nothing here has an effect; a fault happens at counted
//! occasions, so a test that injects one is repeatable.

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A received frame's descriptor reports this length, whatever the frame's.
    ReceiveLength(u16),
    /// A received frame's last descriptor has no EOP.
    MissingEndOfPacket,
    /// A received frame is written, but its descriptors never get DD.
    ReceiveNeverDone,
    /// A received frame's descriptors are written back as all ones.
    ReceiveGarbage,
    /// With a received or transmitted frame, the descriptor at the tail is completed as well, which
    /// the driver has not given to the device.
    CompletesUnposted,
    /// A transmitted frame leaves, but its descriptors never get DD (nor a head write-back).
    TransmitNeverDone,
    /// A head write-back stores an index beyond the ring; RDH and TDH read so, too.
    HeadBeyondRing,
    /// Reading any register gives all ones, and nothing moves: the device was pulled out.
    SurpriseRemoval,
    /// Reading a register gives all ones, and nothing else is wrong.
    ReadsAllOnes,
    /// CTRL.RST stays set.
    ResetNeverCompletes,
    /// EERD never reports DONE.
    EepromNeverDone,
    /// The EEPROM's checksum is wrong: the word read has one bit flipped.
    EepromGarbage,
    /// RXDCTL.ENABLE or TXDCTL.ENABLE reads as zero after it was set.
    QueueNeverEnables,
    /// RXDCTL.ENABLE or TXDCTL.ENABLE reads as one after it was cleared, and the queue goes on.
    QueueNeverDisables,
    /// RDRXCTL.DMAIDONE reads as zero.
    DmaInitNeverDone,
    /// The semaphores of SWSM and SWFW_SYNC are held by firmware.
    SemaphoreHeld,
    /// LINKS reports no link.
    LinkDown,
    /// A frame on its way to memory meets a bus error: the queue stops.
    DmaError,
}

/// A fault, and at which occasions it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// How many occasions go well first.
    pub skip: u64,
    /// How many occasions after those go wrong.
    pub times: u64,
}

impl Fault {
    /// A fault at every occasion.
    pub const fn always(kind: FaultKind) -> Self {
        Self {
            kind,
            skip: 0,
            times: u64::MAX,
        }
    }

    /// A fault at one occasion, after `skip` good ones.
    pub const fn once(kind: FaultKind, skip: u64) -> Self {
        Self {
            kind,
            skip,
            times: 1,
        }
    }
}

/// The faults a device still has in store.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pending: Vec<Fault>,
}

impl Faults {
    pub fn new(faults: Vec<Fault>) -> Self {
        Self { pending: faults }
    }

    pub fn add(&mut self, fault: Fault) {
        self.pending.push(fault);
    }

    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// Whether there is any: the fast paths are for devices in health.
    #[inline(always)]
    pub fn any(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether `kind` is still in store.
    pub fn has(&self, kind: FaultKind) -> bool {
        self.pending.iter().any(|fault| fault.kind == kind)
    }

    /// One occasion for `kind`: whether it goes wrong.
    pub fn hit(&mut self, kind: FaultKind) -> bool {
        self.pick(|candidate| (candidate == kind).then_some(()))
            .is_some()
    }

    /// One occasion for the first fault that `select` knows.
    pub fn pick<T>(&mut self, select: impl Fn(FaultKind) -> Option<T>) -> Option<T> {
        let (index, value) = (self.pending.iter().enumerate())
            .find_map(|(index, fault)| Some((index, select(fault.kind)?)))?;
        let fault = &mut self.pending[index];
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        if fault.times != u64::MAX {
            fault.times = fault.times.saturating_sub(1);
        }
        if fault.times == 0 {
            self.pending.remove(index);
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_at_its_occasions_only() {
        let mut faults = Faults::new(vec![Fault {
            kind: FaultKind::LinkDown,
            skip: 2,
            times: 2,
        }]);
        let hits: Vec<bool> = (0..6).map(|_| faults.hit(FaultKind::LinkDown)).collect();
        assert_eq!(hits, [false, false, true, true, false, false]);
        assert!(!faults.any());
    }

    #[test]
    fn another_kind_is_no_occasion() {
        let mut faults = Faults::new(vec![Fault::once(FaultKind::LinkDown, 0)]);
        assert!(!faults.hit(FaultKind::EepromNeverDone));
        assert!(faults.hit(FaultKind::LinkDown));
    }
}
