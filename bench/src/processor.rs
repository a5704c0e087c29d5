//! The processor: its time stamp counter, its cores, its neighbours.
// UNSAFETY: reading the time stamp counter is an intrinsic.
#![expect(unsafe_code)]

use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

/// The time stamp counter. Ticks, at a constant rate whatever the core's clock does.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the counter, and Linux lets user space read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Ticks a second, against the system's clock over `interval`: not below half a second on a busy
/// machine, where short intervals were seen to be 8 % off.
pub fn ticks_per_second(interval: Duration) -> f64 {
    let (start, first) = (Instant::now(), ticks());
    std::thread::sleep(interval);
    (ticks() - first) as f64 / start.elapsed().as_secs_f64()
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// What the kernel says, above all when there is no such core.
pub fn pin(core: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// How often the calling thread had to leave its core for another.
pub fn involuntary_switches() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD);
    usage.map_or(0, |usage| usage.involuntary_context_switches() as u64)
}

/// The processor's name, as the kernel shows it.
pub fn name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| {
            Some(
                line.strip_prefix("model name")?
                    .split_once(": ")?
                    .1
                    .to_owned(),
            )
        })
        .unwrap_or_else(|| "unknown processor".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        let before = ticks();
        assert!(ticks() > before);
        assert!(ticks_per_second(Duration::from_millis(20)) > 1e8);
    }

    #[test]
    fn a_core_that_is_not_there() {
        assert!(pin(1023).is_err());
    }
}
