//! The processor: its name, and what it did to a thread.

use nix::sys::resource::{UsageWho, getrusage};

/// How often the calling thread had to leave its core for another.
pub fn involuntary_switches() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD);
    usage.map_or(0, |usage| usage.involuntary_context_switches() as u64)
}

/// The processor's name, as the kernel shows it.
pub fn name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    name_in(&text).unwrap_or("unknown processor").to_owned()
}

fn name_in(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_counts() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t: fpu\nmodel name\t: other\n";
        assert_eq!(name_in(text), Some("AMD EPYC"));
        assert_eq!(name_in(""), None);
    }
}
