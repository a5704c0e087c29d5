//! The registers: where each is, what it holds, and one way to reach them.
//!
//! [`offsets`] says where a register is and whether it is read, written or holds an address; the
//! contents are bitfield types ([`general`], [`receive`], [`transmit`], [`mac`]) that know their own
//! register, so that [`Registers::get`] and [`Registers::set`] cannot pair contents with the wrong
//! offset. Reserved bits are kept as they were read.

pub mod general;
pub mod mac;
pub mod offsets;
pub mod receive;
pub mod transmit;

pub use general::*;
pub use mac::*;
pub use offsets::*;
pub use receive::*;
pub use transmit::*;

use core::sync::atomic::{AtomicBool, Ordering};

use sumac_device::registers::{Readable, Writable};
use sumac_device::{Bar, Clock};

use crate::error::{Fault, Wait};

/// One microsecond, in the clock's unit.
pub(crate) const MICROSECOND: u64 = 1_000;
/// One millisecond, in the clock's unit.
pub(crate) const MILLISECOND: u64 = 1_000_000;

/// The contents of one register.
pub trait Contents: From<u32> + Into<u32> + Copy {
    /// The family of registers it is in, which says how it may be accessed.
    type Offset: Copy;
    /// Its place.
    const AT: Self::Offset;
}

/// The contents of one of several like registers.
pub trait IndexedContents: From<u32> + Into<u32> + Copy {
    /// The family of registers it is in, which says how it may be accessed.
    type Offset: Copy;
    /// The place of the one at `index`.
    fn at(index: u32) -> Self::Offset;
}

/// Says which register each bitfield type describes.
macro_rules! contents {
    ($($name:ident => $family:ident::$variant:ident $(($index:ident))?),+ $(,)?) => {
        $($crate::registers::contents!(@one $name $family $variant $($index)?);)+
    };
    (@one $name:ident $family:ident $variant:ident) => {
        impl $crate::registers::Contents for $name {
            type Offset = $crate::registers::$family;
            const AT: Self::Offset = $crate::registers::$family::$variant;
        }
    };
    (@one $name:ident $family:ident $variant:ident $index:ident) => {
        impl $crate::registers::IndexedContents for $name {
            type Offset = $crate::registers::$family;
            fn at($index: u32) -> Self::Offset {
                $crate::registers::$family::$variant($index)
            }
        }
    };
}
pub(crate) use contents;

/// A port's registers, by contents.
#[derive(Debug)]
pub struct Registers {
    bar: Bar,
    /// A change was not made, since nobody answered.
    missed: AtomicBool,
}

impl Registers {
    /// The registers of the device behind `bar`.
    pub fn new(bar: &Bar) -> Self {
        Self {
            bar: bar.clone(),
            missed: AtomicBool::new(false),
        }
    }

    /// The BAR itself.
    pub fn bar(&self) -> &Bar {
        &self.bar
    }

    /// Reads a register without contents of its own.
    pub fn read(&self, register: impl Readable) -> u32 {
        self.bar.read(register)
    }

    /// Writes a register without contents of its own.
    pub fn write(&self, register: impl Writable, value: u32) {
        self.bar.write(register, value);
    }

    /// Reads a register's contents.
    pub fn get<T: Contents<Offset: Readable>>(&self) -> T {
        T::from(self.bar.read(T::AT))
    }

    /// Writes a register's contents.
    pub fn set<T: Contents<Offset: Writable>>(&self, contents: T) {
        self.bar.write(T::AT, contents.into());
    }

    /// Reads, changes and writes back a register; bits the change does not name stay. What reads
    /// as all ones twice is left alone: each of these registers has reserved bits, so nobody
    /// answers, which the next wait or [`alive`](Self::alive) finds out.
    pub fn update<T>(&self, change: impl FnOnce(T) -> T)
    where
        T: Contents<Offset: Readable + Writable>,
    {
        if let Some(value) = self.answer(T::AT) {
            self.set(change(T::from(value)));
        }
    }

    /// What a register that has reserved bits reads as, unless nobody answers.
    fn answer(&self, register: impl Readable) -> Option<u32> {
        let mut reads = [(); 2].into_iter().map(|()| self.bar.read(register));
        let answer = reads.find(|value| *value != u32::MAX);
        if answer.is_none() {
            self.missed.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Reads the register at `index`.
    pub fn get_at<T: IndexedContents<Offset: Readable>>(&self, index: u32) -> T {
        T::from(self.bar.read(T::at(index)))
    }

    /// Writes the register at `index`.
    pub fn set_at<T: IndexedContents<Offset: Writable>>(&self, index: u32, contents: T) {
        self.bar.write(T::at(index), contents.into());
    }

    /// Reads, changes and writes back the register at `index`.
    pub fn update_at<T>(&self, index: u32, change: impl FnOnce(T) -> T)
    where
        T: IndexedContents<Offset: Readable + Writable>,
    {
        if let Some(value) = self.answer(T::at(index)) {
            self.set_at(index, change(T::from(value)));
        }
    }

    /// Makes sure that somebody answers: STATUS has reserved bits that read as zero, so all ones,
    /// twice, mean that the device is gone. A change missed since the last call counts as well: the
    /// device may be back, but is not as it was told to be.
    ///
    /// # Errors
    /// [`Fault::DeviceGone`].
    pub fn alive(&self) -> Result<(), Fault> {
        let missed = self.missed.load(Ordering::Relaxed);
        self.alive_now()?;
        if missed {
            Err(Fault::DeviceGone)
        } else {
            Ok(())
        }
    }

    /// As [`alive`](Self::alive), whatever was missed before: for whoever begins anew.
    ///
    /// # Errors
    /// [`Fault::DeviceGone`].
    pub fn alive_now(&self) -> Result<(), Fault> {
        let answer = self.answer(GeneralStatus::Status);
        self.missed.store(false, Ordering::Relaxed);
        answer.map(drop).ok_or(Fault::DeviceGone)
    }

    /// Polls `done` every `interval_ns` for at most `timeout_ns`.
    ///
    /// # Errors
    /// [`Fault::DeviceGone`] when the device went away (a bit waited for reads as set then, which
    /// must not pass for success), else [`Fault::TimedOut`].
    pub fn wait(
        &self,
        clock: &dyn Clock,
        wait: Wait,
        interval_ns: u64,
        timeout_ns: u64,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<(), Fault> {
        let waited = clock.wait_until(interval_ns, timeout_ns, || done(self));
        self.alive()?;
        waited.map_err(|timed_out| wait.fault(timed_out))
    }
}
