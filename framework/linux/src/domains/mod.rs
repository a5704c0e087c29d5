//! The Linux process as a host of domains: what [`sumac_runtime::Host`] asks for.
//!
//! - `pages`: private memory by mmap, and fences by membarrier;
//! - `start`: a domain from its file to its root object;
//! - `service`: a network driver's domain, and how it takes its device over;
//! - `port`, `queue`: the port and the queue pairs of a driver that is started again when it dies;
//! - `stack`: where a thread's stack ends, and the reserve below what domains may use of it;
//! - `supervisor`: keeps a domain running;
//! - `threads`: the gs base, an alternate signal stack, both for as long as the thread lives;
//! - `traps`: signal handlers for processor exceptions, and the signal that interrupts a thread;
//! - `watchdog`: deadlines of calls, and interrupting dead domains' threads again.
//!
//! Call [`install`] once. A thread is attached as it first calls a domain; [`attach`] does it ahead of
//! time, off the fast path. The gs base and one real-time signal are the runtime's from then on.

mod pages;
mod port;
mod queue;
mod service;
mod stack;
mod start;
mod supervisor;
mod threads;
mod traps;
mod watchdog;

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;

use sumac_rref::{DomainId, HostHooks};
use sumac_runtime::{Domain, Host, thread};

pub use pages::mapped_pages;
pub use port::{Losses, SupervisedPort};
pub use queue::SupervisedQueue;
pub use service::{Driver, DriverError, PortLife, PortService, Progress};
pub use start::{Program, Shared, StartError, Started, bury, start, start_program, start_with};
pub use supervisor::{Renewal, Restarts, Service, Supervisor, obituary};
pub use threads::attach;

/// Linux under domains.
#[derive(Debug)]
struct Linux;

// SAFETY: `map` gives fresh anonymous memory; membarrier is what `fence_all_threads` promises, and
// `install` made sure that it works.
unsafe impl Host for Linux {
    fn map(&self, pages: usize) -> Option<NonNull<u8>> {
        pages::map(pages)
    }

    unsafe fn unmap(&self, start: NonNull<u8>, pages: usize) {
        // SAFETY: the caller's promise.
        unsafe { pages::unmap(start, pages) }
    }

    fn fence_all_threads(&self) {
        pages::fence_all_threads();
    }

    fn attach(&self) {
        if let Err(error) = threads::attach() {
            self.abort(format_args!("this thread cannot call domains: {error}"));
        }
    }

    fn interrupt(&self, handle: u64) {
        traps::interrupt(threads::id_of(handle));
    }

    fn close_reserve(&self) {
        threads::close_reserve();
    }

    fn log(&self, domain: DomainId, level: u32, message: &str) {
        let name = Domain::find(domain).map_or(String::new(), Domain::name);
        let level = match level {
            1 => log::Level::Error,
            2 => log::Level::Warn,
            3 => log::Level::Info,
            4 => log::Level::Debug,
            _ => log::Level::Trace,
        };
        log::log!(level, "domain {name} ({}): {message}", domain.get());
    }

    fn abort(&self, reason: fmt::Arguments<'_>) -> ! {
        eprintln!("{reason}");
        std::process::abort()
    }
}

/// Makes this process a host of domains. Once is enough, more do no harm.
///
/// # Errors
/// What Linux says if it gives no membarrier (before Linux 4.14), handler or thread.
pub fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        let all = || {
            pages::register_fences()?;
            sumac_runtime::install(&Linux);
            traps::install()?;
            watchdog::start()
        };
        all().map_err(|error: io::Error| error.raw_os_error().unwrap_or(libc::ENOSYS))
    });
    installed.map_err(io::Error::from_raw_os_error)
}

/// What a shared heap of this process asks: [`sumac_rref::SharedHeap::create_for`] takes it. A thread that
/// is not attached runs host code.
pub fn hooks() -> HostHooks {
    HostHooks {
        current: || {
            if threads::is_attached() {
                thread::current_domain()
            } else {
                DomainId::HOST
            }
        },
    }
}
