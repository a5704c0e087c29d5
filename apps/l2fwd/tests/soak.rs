//! Soak test: `l2fwd` again and again under random set-ups, ended in random ways.
//!
//! Runs for `SUMAC_SOAK_SECONDS` (default 3), each run a few hundred milliseconds. After each the
//! pool must account for every buffer, no rule of the device may have been broken, and what was
//! received must have been sent or counted as dropped. `SUMAC_SOAK_SEED` repeats a run.
#![forbid(unsafe_code)]

#[path = "e2e/program.rs"]
#[expect(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
mod program;

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use program::Running;

/// xorshift64*: a few random choices a second, repeatable from the seed.
struct Choices(u64);

impl Choices {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|e| panic!("{variable}={text}: {e}")),
    )
}

/// A random set-up: one to four ports, any batch, queues, MTU, isolation; drivers and applications that crash.
fn arguments(choices: &mut Choices) -> Vec<String> {
    let mut arguments = vec!["--json".to_owned()];
    let ports = choices.below(4) as usize + 1;
    arguments.extend(vec!["sim".to_owned(); ports]);
    arguments.push(format!("--batch={}", choices.below(64) + 1));
    arguments.push(format!("--queues={}", choices.of(&[1, 1, 2, 4])));
    arguments.push(format!(
        "--mtu={}",
        choices.of(&[68, 1280, 1500, 4000, 9000, 9710])
    ));
    arguments.push(
        choices
            .of(&["--promiscuous", "--no-promiscuous"])
            .to_owned(),
    );
    if choices.below(2) == 0 {
        arguments.push("--no-mac-updating".to_owned());
    }
    let isolation = choices.of(&["driver", "domain", "shadow"]);
    arguments.push(format!("--isolation={isolation}"));
    if isolation == "shadow" {
        let how = choices.of(&["panic", "fault", "spin", "oom"]);
        arguments.push(format!("--crash-every={}ms,{how}", choices.below(30) + 1));
    }
    let application = choices.of(&["linked", "domain", "shadow"]);
    arguments.push(format!("--application={application}"));
    arguments
}

#[test]
fn test_random_runs_leave_balanced_books() {
    let time = Duration::from_secs(number("SUMAC_SOAK_SECONDS").unwrap_or(3));
    let seed = number("SUMAC_SOAK_SEED")
        .unwrap_or_else(|| RandomState::new().hash_one(0))
        .max(1);
    println!("SUMAC_SOAK_SEED={seed}");
    let mut choices = Choices(seed);
    let (start, mut runs, mut packets) = (Instant::now(), 0_u64, 0_u64);
    // Where one takes as long as usually many do, it may be one of those that end before a frame came.
    while start.elapsed() < time || runs < 10 {
        let mut arguments = arguments(&mut choices);
        let ending = choices.below(4);
        match ending {
            0 => arguments.push(format!("--frames={}", choices.below(100_000) + 1)),
            1 => arguments.push(format!("--duration={}ms", choices.below(300) + 1)),
            _ => {}
        }
        println!("run {runs}: l2fwd {}", arguments.join(" "));
        let mut l2fwd = Running::start(&arguments);
        if ending > 1 {
            let signal = choices.of(&[Signal::SIGINT, Signal::SIGTERM]);
            l2fwd.wait_for_handler(signal);
            thread::sleep(Duration::from_millis(choices.below(300)));
            l2fwd.signal(signal);
        }
        let report = l2fwd.finish().report();
        report.assert_books_balance();
        packets += report.count("/packets");
        runs += 1;
    }
    println!("{runs} runs, {packets} packets, seed {seed}");
    assert!(packets > 0, "no run forwarded anything");
}
