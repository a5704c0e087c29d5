//! One queue's registers: all the authority a queue has over the device.
//!
//! A queue of the data path holds one of these and can reach no other queue and nothing global.
//! Programming, enabling and disabling follow sections 4.6.7 and 4.6.8; a ring may be freed
//! only after `disable` returned.

use sumac_device::{Bar, Clock, Doorbell, Iova};

use crate::error::{Fault, Wait};
use crate::registers::{
    DcaRxctrl, DcaTxctrl, HeadWriteBackOff, MICROSECOND, MILLISECOND, Registers, RxQueue,
    RxQueueAddress, Rxdctl, Srrctl, TxQueue, TxQueueAddress, Txdctl,
};

/// How long a queue may take to start or stop.
const QUEUE_TIMEOUT: u64 = 100 * MILLISECOND;
/// Between two looks at an ENABLE bit.
const QUEUE_INTERVAL: u64 = 10 * MICROSECOND;
/// After ENABLE reads as clear, until the device is done with the ring (section 4.6.7.1.2).
const RX_DRAIN: u64 = 100 * MICROSECOND;
/// Ring length unit and alignment in bytes (sections 8.2.3.8.1 and 8.2.3.8.3).
const RING_UNIT: u32 = 128;
/// Longest ring in bytes (section 8.2.3.8.3).
const RING_MAX: u32 = 1 << 20;
/// Advanced descriptor with one buffer (section 8.2.3.8.7).
const ADVANCED_ONE_BUFFER: u8 = 1;
/// Header buffer size left at its reset value of 256 bytes; no header is split.
const HEADER_UNITS: u8 = 4;

/// How a receive queue is to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxQueueSettings {
    /// Bytes of each buffer: a multiple of 1,024 up to 16,384. A longer frame takes several.
    pub buffer_bytes: u32,
    /// Drop frames when no descriptor is left, so that one slow queue does not hold up the others.
    pub drop_when_empty: bool,
    /// Take VLAN tags out; the descriptor has them.
    pub strip_vlan: bool,
}

/// How a transmit queue is to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxQueueSettings {
    /// Fetch when fewer descriptors than this are cached (TXDCTL.PTHRESH).
    pub prefetch_threshold: u8,
    /// Fetch at least this many at a time (TXDCTL.HTHRESH).
    pub host_threshold: u8,
    /// Write back this many at a time (TXDCTL.WTHRESH); 0 with head write-back or sparse RS bits.
    pub write_back_threshold: u8,
    /// Where the head is written back to; `None` is off. The register's bit 0 enables it, so this is
    /// the address of the *second* byte of a 4-byte aligned word (`memory.iova_at(offset + 1)`):
    /// still an address of the driver's own memory.
    pub head_write_back: Option<Iova>,
}

impl Default for TxQueueSettings {
    /// Section 7.2.3.4: prefetch in bursts of at least eight; descriptors ask for their own
    /// write-back (RS), which WTHRESH above zero would delay.
    fn default() -> Self {
        Self {
            prefetch_threshold: 36,
            host_threshold: 8,
            write_back_threshold: 0,
            head_write_back: None,
        }
    }
}

/// Both halves of queue pair `queue`.
pub fn queue_registers(bar: &Bar, queue: u16) -> (RxQueueRegisters, TxQueueRegisters) {
    (
        RxQueueRegisters::new(bar, queue),
        TxQueueRegisters::new(bar, queue),
    )
}

fn check_ring(ring: Iova, bytes: u32) -> Result<(), Fault> {
    let whole = bytes != 0 && bytes <= RING_MAX && bytes.is_multiple_of(RING_UNIT);
    if whole && ring.to_bits().is_multiple_of(u64::from(RING_UNIT)) {
        Ok(())
    } else {
        Err(Fault::BadRing { bytes })
    }
}

/// A receive queue's registers and nothing else.
#[derive(Debug)]
pub struct RxQueueRegisters {
    registers: Registers,
    queue: u16,
}

impl RxQueueRegisters {
    /// The registers of receive queue `queue`, 0 to 127.
    pub fn new(bar: &Bar, queue: u16) -> Self {
        Self {
            registers: Registers::new(bar),
            queue,
        }
    }

    /// Which queue.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Sets ring, buffers and options while the queue is disabled; head and tail become zero.
    ///
    /// # Errors
    /// [`Fault::BadRing`] or [`Fault::BadBuffer`], before anything is written.
    pub fn program(
        &self,
        ring: Iova,
        ring_bytes: u32,
        settings: RxQueueSettings,
    ) -> Result<(), Fault> {
        check_ring(ring, ring_bytes)?;
        let bytes = settings.buffer_bytes;
        if !bytes.is_multiple_of(1024) || !(1024..=16_384).contains(&bytes) {
            return Err(Fault::BadBuffer { bytes });
        }
        let q = u32::from(self.queue);
        let registers = &self.registers;
        // Section 4.6.7, per queue, in its order.
        registers.bar().write_address(RxQueueAddress::Rdba(q), ring);
        registers.write(RxQueue::Rdlen(q), ring_bytes);
        registers.set_at(
            q,
            Srrctl::new()
                .with_buffer_kib((bytes / 1024) as u8)
                .with_header_size(HEADER_UNITS)
                .with_descriptor_type(ADVANCED_ONE_BUFFER)
                .with_drop_enable(settings.drop_when_empty),
        );
        registers.write(RxQueue::Rscctl(q), 0);
        self.set_head(0);
        registers.write(RxQueue::Rdt(q), 0);
        registers.update_at(q, |rxdctl: Rxdctl| {
            rxdctl.with_strip_vlan(settings.strip_vlan)
        });
        // Section 4.6.7, last paragraph: set by reset, but to be cleared.
        registers.update_at(q, |dca: DcaRxctrl| dca.with_reserved_12(false));
        Ok(())
    }

    /// Starts the queue and waits until it runs. Only then may the tail be moved.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] or [`Fault::DeviceGone`].
    pub fn enable(&self, clock: &dyn Clock) -> Result<(), Fault> {
        self.switch(clock, true, Wait::RxQueueEnable(self.queue))
    }

    /// Stops the queue and waits until the device is done with ring and buffers
    /// (section 4.6.7.1.2).
    ///
    /// # Errors
    /// [`Fault::TimedOut`] or [`Fault::DeviceGone`]; after a timeout the memory must not be freed
    /// before the port was reset.
    pub fn disable(&self, clock: &dyn Clock) -> Result<(), Fault> {
        self.switch(clock, false, Wait::RxQueueDisable(self.queue))?;
        clock.sleep_ns(RX_DRAIN);
        Ok(())
    }

    fn switch(&self, clock: &dyn Clock, on: bool, wait: Wait) -> Result<(), Fault> {
        let q = u32::from(self.queue);
        self.registers.alive()?;
        self.registers
            .update_at(q, |rxdctl: Rxdctl| rxdctl.with_enable(on));
        self.registers
            .wait(clock, wait, QUEUE_INTERVAL, QUEUE_TIMEOUT, |registers| {
                registers.get_at::<Rxdctl>(q).enable() == on
            })
    }

    /// Whether the queue runs.
    pub fn is_enabled(&self) -> bool {
        self.registers.get_at::<Rxdctl>(self.queue.into()).enable()
    }

    /// Sets the head; only while the queue is disabled.
    pub fn set_head(&self, index: u32) {
        self.registers.write(RxQueue::Rdh(self.queue.into()), index);
    }

    /// The head, as the device says: not to be trusted as an index.
    pub fn head(&self) -> u32 {
        self.registers.read(RxQueue::Rdh(self.queue.into()))
    }

    /// The tail register.
    pub fn tail_doorbell(&self) -> Doorbell {
        self.registers
            .bar()
            .doorbell(RxQueue::Rdt(self.queue.into()))
    }
}

/// A transmit queue's registers and nothing else.
#[derive(Debug)]
pub struct TxQueueRegisters {
    registers: Registers,
    queue: u16,
}

impl TxQueueRegisters {
    /// The registers of transmit queue `queue`, 0 to 127.
    pub fn new(bar: &Bar, queue: u16) -> Self {
        Self {
            registers: Registers::new(bar),
            queue,
        }
    }

    /// Which queue.
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Sets ring and options while the queue is disabled; head and tail become zero.
    ///
    /// # Errors
    /// [`Fault::BadRing`] or [`Fault::BadHeadWriteBack`], before anything is written.
    pub fn program(
        &self,
        ring: Iova,
        ring_bytes: u32,
        settings: TxQueueSettings,
    ) -> Result<(), Fault> {
        check_ring(ring, ring_bytes)?;
        if settings
            .head_write_back
            .is_some_and(|head| head.to_bits() & 3 != 1)
        {
            return Err(Fault::BadHeadWriteBack);
        }
        let q = u32::from(self.queue);
        let registers = &self.registers;
        // Section 4.6.8, per queue, in its order.
        registers.bar().write_address(TxQueueAddress::Tdba(q), ring);
        registers.write(TxQueue::Tdlen(q), ring_bytes);
        self.set_head(0);
        registers.write(TxQueue::Tdt(q), 0);
        registers.update_at(q, |txdctl: Txdctl| {
            txdctl
                .with_prefetch(settings.prefetch_threshold.min(0x7f))
                .with_host(settings.host_threshold.min(0x7f))
                .with_write_back(settings.write_back_threshold.min(0x7f))
        });
        match settings.head_write_back {
            None => registers.write(HeadWriteBackOff::Tdwbal(q), 0),
            Some(head) => {
                registers.update_at(q, |dca: DcaTxctrl| {
                    dca.with_write_back_relaxed_ordering(false)
                });
                registers
                    .bar()
                    .write_address(TxQueueAddress::Tdwba(q), head);
            }
        }
        Ok(())
    }

    /// Starts the queue and waits until it runs. DMATXCTL.TE must be set already.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] or [`Fault::DeviceGone`].
    pub fn enable(&self, clock: &dyn Clock) -> Result<(), Fault> {
        self.switch(clock, true, Wait::TxQueueEnable(self.queue))
    }

    /// Waits until everything posted was sent, or `timeout_ns` are over.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] when the link is down or paused; the queue can still be disabled.
    pub fn drain(&self, clock: &dyn Clock, timeout_ns: u64) -> Result<(), Fault> {
        let q = u32::from(self.queue);
        let wait = Wait::TxQueueDrain(self.queue);
        self.registers
            .wait(clock, wait, QUEUE_INTERVAL, timeout_ns, |registers| {
                registers.read(TxQueue::Tdh(q)) == registers.read(TxQueue::Tdt(q))
            })
    }

    /// Has completed descriptors written back, stops the queue and waits until it stands
    /// (section 4.6.8.1).
    ///
    /// # Errors
    /// [`Fault::TimedOut`] or [`Fault::DeviceGone`]; after a timeout the memory must not be freed
    /// before the port was reset.
    pub fn disable(&self, clock: &dyn Clock) -> Result<(), Fault> {
        self.switch(clock, false, Wait::TxQueueDisable(self.queue))
    }

    fn switch(&self, clock: &dyn Clock, on: bool, wait: Wait) -> Result<(), Fault> {
        let q = u32::from(self.queue);
        self.registers.alive()?;
        self.registers
            .update_at(q, |txdctl: Txdctl| txdctl.with_enable(on));
        self.registers
            .wait(clock, wait, QUEUE_INTERVAL, QUEUE_TIMEOUT, |registers| {
                registers.get_at::<Txdctl>(q).enable() == on
            })
    }

    /// Asks for the write-back of what is complete, for a queue that goes idle
    /// (TXDCTL.SWFLSH).
    pub fn flush(&self) {
        self.registers
            .update_at(self.queue.into(), |txdctl: Txdctl| txdctl.with_flush(true));
    }

    /// Whether the queue runs.
    pub fn is_enabled(&self) -> bool {
        self.registers.get_at::<Txdctl>(self.queue.into()).enable()
    }

    /// Sets the head; only while the queue is disabled.
    pub fn set_head(&self, index: u32) {
        self.registers.write(TxQueue::Tdh(self.queue.into()), index);
    }

    /// The head, as the device says: not to be trusted as an index.
    pub fn head(&self) -> u32 {
        self.registers.read(TxQueue::Tdh(self.queue.into()))
    }

    /// The tail, as it was written last.
    pub fn tail(&self) -> u32 {
        self.registers.read(TxQueue::Tdt(self.queue.into()))
    }

    /// The tail register.
    pub fn tail_doorbell(&self) -> Doorbell {
        self.registers
            .bar()
            .doorbell(TxQueue::Tdt(self.queue.into()))
    }
}
