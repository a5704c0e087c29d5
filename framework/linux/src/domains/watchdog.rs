//! The watchdog: ends domains whose calls take longer than they may, and interrupts the threads of dead
//! domains until they are out.
//!
//! A call costs the caller nothing for this: the watchdog looks at the threads' blocks from time to time
//! and adds the processor time of a thread to the innermost call that it finds there twice running. So
//! time that a domain spends waiting for the processor, or in the domains it calls, is not its own. Nor is time in
//! which the whole machine stood still, as virtual ones do: some kernels count it as processor time.

use std::collections::HashMap;
use std::io;
use std::thread;
use std::time::Duration;

use sumac_runtime::Cause;
use sumac_runtime::thread::{Innermost, threads};
use sumac_runtime::{Domain, Phase, ThreadBlock};

use super::threads::processor_ns;

/// How often the watchdog looks at least, and at most: each look takes a core from whoever has it.
const SOON: Duration = Duration::from_millis(1);
/// How often it looks when nothing has a deadline, or nobody was in a domain for so many looks.
const LATER: Duration = Duration::from_millis(20);
const QUIET_LOOKS: u32 = 50;
/// How often it looks while the shortest deadline goes by: a call may have that part of it more.
const LOOKS: u32 = 10;
/// The most that is charged for one look, in the time that was to pass since the one before.
const MOST_CHARGED: u32 = 2;

/// Starts the watchdog's thread, which lasts as long as the process.
pub(super) fn start() -> io::Result<()> {
    let run = || {
        let mut watchdog = Watchdog::default();
        loop {
            thread::sleep(watchdog.look());
        }
    };
    let name = String::from("sumac-watchdog");
    thread::Builder::new().name(name).spawn(run).map(drop)
}

/// What the watchdog remembers of a thread.
#[derive(Debug, Default)]
struct Watched {
    last: Option<Innermost>,
    /// The thread's processor time at the last look.
    at_ns: u64,
    /// By depth: which call, and its time so far.
    spent: Vec<(u32, u64)>,
}

#[derive(Debug, Default)]
struct Watchdog {
    /// By handle.
    watched: HashMap<u64, Watched>,
    /// Looks in a row that found nobody in a domain.
    quiet: u32,
    /// When to look again, said by the last look.
    next: Duration,
}

fn dead(domain: &Domain) -> bool {
    matches!(domain.phase(), Phase::Dead(_))
}

impl Watchdog {
    /// Looks at all threads; says when to look again.
    fn look(&mut self) -> Duration {
        self.look_at_threads();
        self.next = self.when_next();
        self.next
    }

    fn look_at_threads(&mut self) {
        for domain in Domain::all().filter(dead) {
            domain.interrupt();
        }
        let mut inside = 0;
        for block in threads() {
            if let Some(innermost) = block.innermost() {
                inside += 1;
                self.watch(block, innermost);
            } else if let Some(watched) = self.watched.get_mut(&block.handle()) {
                watched.last = None;
            }
        }
        self.quiet = match inside {
            0 => self.quiet.saturating_add(1),
            _ => 0,
        };
        if inside == 0 {
            // Handles of threads long gone, too.
            self.watched.clear();
        }
    }

    fn when_next(&self) -> Duration {
        if Domain::all().any(|domain| dead(&domain)) {
            return SOON;
        }
        if self.quiet >= QUIET_LOOKS {
            // Where all sleep the watchdog nearly does: a call that begins now is found so much later.
            return LATER;
        }
        let limits = Domain::all().map(|domain| domain.call_ns());
        match limits.filter(|limit| *limit != 0).min() {
            Some(shortest) => (Duration::from_nanos(shortest) / LOOKS).clamp(SOON, LATER),
            None => LATER,
        }
    }

    /// Charges a thread's innermost call.
    fn watch(&mut self, block: &ThreadBlock, innermost: Innermost) {
        let Some(domain) = Domain::find(innermost.domain) else {
            return;
        };
        let limit = domain.call_ns();
        if limit == 0 {
            return;
        }
        let Some(now) = processor_ns(block.handle()) else {
            return;
        };
        let watched = self.watched.entry(block.handle()).or_default();
        if watched.spent.len() <= innermost.depth {
            watched.spent.resize(innermost.depth + 1, (0, 0));
        }
        let spent = &mut watched.spent[innermost.depth];
        if spent.0 != innermost.turn {
            *spent = (innermost.turn, 0);
        } else if watched.last == Some(innermost) {
            let most = (self.next * MOST_CHARGED).as_nanos() as u64;
            spent.1 += now.saturating_sub(watched.at_ns).min(most);
        }
        if spent.1 > limit {
            domain.kill(Cause::Deadline);
        }
        watched.last = Some(innermost);
        watched.at_ns = now;
    }
}
