//! The memory of the attached driver, and the thread that finds out who that is.
//!
//! One driver at a time. While a driver is attached, pages are only ever added to the window; they
//! are taken away after the driver is gone and the device has been reset ([`DriverMemory::detach`]).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::attach::{self, FileIdentity};
use super::{BarMemory, SharedBarError};
use crate::memory::{CHUNK, GuestMemory};

/// No process.
const NOBODY: u32 = 0;

/// What the device reaches by physical addresses: the attached driver's huge pages.
pub struct DriverMemory {
    window: Arc<GuestMemory>,
    bars: Vec<FileIdentity>,
    /// The process that drives the ports, or [`NOBODY`].
    driver: AtomicU32,
    /// The driver is gone; the device has not been told yet.
    gone: AtomicBool,
    pages: Mutex<Pages>,
}

/// The driver's pages that the window shows, and the last thing that went wrong in looking.
#[derive(Default)]
struct Pages {
    known: BTreeSet<u64>,
    failure: Option<SharedBarError>,
}

impl DriverMemory {
    pub(super) fn new(bars: &[Arc<BarMemory>]) -> Result<Self, SharedBarError> {
        let unreadable = |source| SharedBarError::Attach {
            process: std::process::id(),
            source,
        };
        let bars = bars.iter().map(|bar| bar.identity().map_err(unreadable));
        Ok(Self {
            window: Arc::new(GuestMemory::new(attach::physical_end())?),
            bars: bars.collect::<Result<_, _>>()?,
            driver: AtomicU32::new(NOBODY),
            gone: AtomicBool::new(false),
            pages: Mutex::default(),
        })
    }

    /// The process that drives the ports.
    pub fn driver(&self) -> Option<u32> {
        let process = self.driver.load(Ordering::Acquire);
        (process != NOBODY).then_some(process)
    }

    /// The memory by physical addresses.
    pub fn window(&self) -> &Arc<GuestMemory> {
        &self.window
    }

    /// Shows the device what the driver has mapped since the last time. Not while holding an
    /// [`Access`](crate::memory::Access) to the window: placing a page waits for the devices.
    pub fn look(&self) {
        let mut pages = self.pages();
        if let Some(process) = self.driver() {
            pages.failure = attach::map_huge_pages(process, &self.window, &mut pages.known).err();
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong when the driver's memory was last looked at. Taken: told once.
    pub fn failure(&self) -> Option<SharedBarError> {
        self.pages().failure.take()
    }

    /// Whether the driver is gone, so that the ports are to be reset and [`detach`](Self::detach)
    /// called.
    #[inline]
    pub fn driver_is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Takes the memory of the driver that is gone away; another may attach. To be called after the
    /// ports were reset, and not while holding an access to the window.
    pub fn detach(&self) {
        let mut pages = self.pages();
        for physical in std::mem::take(&mut pages.known) {
            // What was placed whole is taken away whole.
            if let Err(error) = self.window.unmap(physical, CHUNK) {
                pages.failure = Some(error.into());
            }
        }
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
                    Some(_) => Duration::from_millis(250),
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
