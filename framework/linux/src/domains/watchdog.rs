//! The watchdog: ends domains whose calls take longer than they may, and interrupts the threads of dead
//! domains until they are out.
//!
//! A call costs the caller nothing for this: the watchdog looks at the threads' blocks from time to time
//! and adds the processor time of a thread to the innermost call that it finds there twice running. So
//! time that a domain spends waiting for the processor, or in the domains it calls, is not its own.
//!
//! In a virtual machine that clock goes on while the host has the processor stand still. So a call that is over its
//! deadline has to be seen at it: its thread is interrupted, and hears that only if it runs.

use std::collections::HashMap;
use std::io;
use std::thread;
use std::time::Duration;

use sumac_runtime::Cause;
use sumac_runtime::thread::{Innermost, threads};
use sumac_runtime::{Domain, Phase, ThreadBlock};

use super::threads::{id_of, processor_ns};
use super::traps;

/// How often the watchdog looks at least, and at most: each look takes a core from whoever has it.
const SOON: Duration = Duration::from_millis(1);
/// How often it looks when nothing has a deadline, or nobody was in a domain for so many looks.
const LATER: Duration = Duration::from_millis(20);
const QUIET_LOOKS: u32 = 50;
/// How often it looks while the shortest deadline goes by: a call may have that part of it more.
const LOOKS: u32 = 10;
/// How often a thread has to be heard in a call that is over its deadline, a look apart.
const ANSWERS: u32 = 10;

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
    /// By depth.
    calls: Vec<Call>,
}

/// What the watchdog has seen of a call.
#[derive(Clone, Debug, Default)]
struct Call {
    turn: u32,
    /// The processor time that it took.
    spent_ns: u64,
    /// What the thread had heard as it was last asked whether it runs.
    asked: Option<u32>,
    /// How often it has answered.
    answers: u32,
}

impl Call {
    /// Whether its thread, by whose clock it is over its deadline, was seen running in it often enough; asks again if
    /// not.
    fn is_seen_running(&mut self, block: &ThreadBlock) -> bool {
        let heard = block.heard();
        if self.asked == Some(heard) {
            return false;
        }
        self.answers += u32::from(self.asked.is_some());
        if self.answers >= ANSWERS {
            return true;
        }
        self.asked = Some(heard);
        traps::interrupt(id_of(block.handle()));
        false
    }
}

#[derive(Debug, Default)]
struct Watchdog {
    /// By handle.
    watched: HashMap<u64, Watched>,
    /// Looks in a row that found nobody in a domain.
    quiet: u32,
}

impl Watchdog {
    /// Looks at all threads; says when to look again.
    fn look(&mut self) -> Duration {
        let dead = |domain: &Domain| matches!(domain.phase(), Phase::Dead(_));
        for domain in Domain::all().filter(dead) {
            domain.interrupt();
        }
        let (mut inside, mut overdue) = (0, false);
        for block in threads() {
            if let Some(innermost) = block.innermost() {
                inside += 1;
                overdue |= self.watch(block, innermost);
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
        if overdue || Domain::all().any(|domain| dead(&domain)) {
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

    /// Charges a thread's innermost call; whether that is over its deadline.
    fn watch(&mut self, block: &ThreadBlock, innermost: Innermost) -> bool {
        let Some(domain) = Domain::find(innermost.domain) else {
            return false;
        };
        let limit = domain.call_ns();
        if limit == 0 {
            return false;
        }
        let Some(now) = processor_ns(block.handle()) else {
            return false;
        };
        let watched = self.watched.entry(block.handle()).or_default();
        if watched.calls.len() <= innermost.depth {
            watched.calls.resize(innermost.depth + 1, Call::default());
        }
        let call = &mut watched.calls[innermost.depth];
        if call.turn != innermost.turn {
            *call = Call {
                turn: innermost.turn,
                ..Call::default()
            };
        } else if watched.last == Some(innermost) {
            call.spent_ns += now.saturating_sub(watched.at_ns);
        }
        let overdue = call.spent_ns > limit;
        if overdue && call.is_seen_running(block) {
            domain.kill(Cause::Deadline);
        }
        watched.last = Some(innermost);
        watched.at_ns = now;
        overdue
    }
}
