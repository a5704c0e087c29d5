//! The memory of the attached driver, and the thread that finds out who that is.
//!
//! One driver at a time. While a driver is attached, pages are only ever added to the window; they
//! are taken away after the driver is gone and the device has been reset ([`DriverMemory::detach`]).

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::attach::{self, FileIdentity};
use super::window::Window;
use super::{BarMemory, SharedBarError};

/// No process.
const NOBODY: u32 = 0;

/// What the device reaches by physical addresses: the attached driver's huge pages.
pub struct DriverMemory {
    window: Window,
    bars: Vec<FileIdentity>,
    /// The process that drives the ports, or [`NOBODY`].
    driver: AtomicU32,
    /// The driver is gone; the device has not been told yet.
    gone: AtomicBool,
    /// Held while looking at the driver's mappings, with the last thing that went wrong.
    looking: Mutex<Option<SharedBarError>>,
}

impl DriverMemory {
    pub(super) fn new(bars: &[Arc<BarMemory>]) -> Result<Self, SharedBarError> {
        let unreadable = |source| SharedBarError::Attach {
            process: std::process::id(),
            source,
        };
        let bars = bars.iter().map(|bar| bar.identity().map_err(unreadable));
        Ok(Self {
            window: Window::new()?,
            bars: bars.collect::<Result<_, _>>()?,
            driver: AtomicU32::new(NOBODY),
            gone: AtomicBool::new(false),
            looking: Mutex::new(None),
        })
    }

    /// The process that drives the ports.
    pub fn driver(&self) -> Option<u32> {
        let process = self.driver.load(Ordering::Acquire);
        (process != NOBODY).then_some(process)
    }

    /// The address of `length` bytes at physical address `at`, if they are the driver's.
    ///
    /// The memory is shared with another process, which may write it at any time.
    #[inline(always)]
    pub fn pointer(&self, at: u64, length: u32) -> Option<NonNull<u8>> {
        match self.window.pointer(at, length) {
            Some(pointer) => Some(pointer),
            None => self.pointer_after_looking(at, length),
        }
    }

    /// A driver may have mapped memory since we last looked.
    #[cold]
    fn pointer_after_looking(&self, at: u64, length: u32) -> Option<NonNull<u8>> {
        self.look();
        self.window.pointer(at, length)
    }

    /// Shows the device what the driver has mapped since the last time.
    pub fn look(&self) {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = self.driver() {
            *looking = attach::map_huge_pages(process, &self.window).err();
        }
    }

    /// What went wrong when the driver's memory was last looked at. Taken: told once.
    pub fn failure(&self) -> Option<SharedBarError> {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        looking.take()
    }

    /// Whether the driver is gone, so that the ports are to be reset and [`detach`](Self::detach)
    /// called.
    #[inline]
    pub fn driver_is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Takes the memory of the driver that is gone away; another may attach.
    ///
    /// # Safety
    /// No address that [`pointer`](Self::pointer) returned is used any more, and none is asked for
    /// during the call: the devices have been reset by the one thread that steps them, which is the
    /// caller's.
    pub unsafe fn detach(&self) {
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the caller's promise.
        unsafe { self.window.clear() };
        self.driver.store(NOBODY, Ordering::Release);
        self.gone.store(false, Ordering::Release);
    }

    /// One look at who is there.
    fn find(&self) {
        if self.driver_is_gone() {
            return; // the device thread has not detached yet
        }
        match self.driver() {
            None => {
                if let Some(process) = attach::find_driver(&self.bars) {
                    self.driver.store(process, Ordering::Release);
                    self.look();
                }
            }
            Some(process) if attach::maps_bar(process, &self.bars) => {}
            Some(_) => self.gone.store(true, Ordering::Release),
        }
    }
}

/// A thread that looks for drivers, and for their end, until it is dropped.
///
/// It is a thread of its own because looking takes milliseconds, while a driver gives a reset ten
/// microseconds.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(memory: Arc<DriverMemory>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                memory.find();
                std::thread::sleep(match memory.driver() {
                    None => Duration::from_millis(2),
                    Some(_) => Duration::from_millis(20),
                });
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
