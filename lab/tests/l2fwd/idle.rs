//! What a program takes of a core while nothing comes, in a guest and through VFIO.

use serde_json::{Value, json};
use sumac_lab::Lab;

use crate::setup::{Cards, number};

/// Watches l2fwd while it is idle: processor time of all its threads, in nanoseconds, in each of so many windows.
const WATCH: &str = r#"
taken() { cat /proc/$1/task/*/schedstat | awk '{ ns += $1 } END { printf "%.0f", ns }'; }
now() { awk '{ printf "%.0f", 1e9 * $1 }' /proc/uptime; }
watch() { # watch NAME OPTIONS
  l2fwd $A --domains /domains --json $2 > /tmp/report &
  l2fwd=$!
  # Its worker runs: all else is done.
  worker() { grep '^l2fwd-0' /proc/$l2fwd/task/*/comm; }
  wait_on $l2fwd worker
  sleep 2
  for window in $(seq $WINDOWS); do
    before=$(taken $l2fwd) since=$(now)
    sleep 2
    echo "idle $1 $(($(taken $l2fwd) - before)) $(($(now) - since))"
  done
  kill -INT $l2fwd
  wait $l2fwd
  echo "slept $1 $(sed -n 's/.*"slept": \([0-9]*\).*/\1/p' /tmp/report)"
}
watch polling "--isolation driver"
for isolation in driver domain shadow; do
  watch $isolation "--isolation $isolation --interrupt"
done
"#;

/// Workers that are told to sleep do so, wherever the driver runs, and those that are not told do not. What each takes is
/// printed, in the shape of all figures; SUMAC_IDLE_WINDOWS asks for more than one window of two seconds.
#[test]
fn workers_of_an_idle_card_sleep() {
    let Some(lab) = Lab::open("workers_of_an_idle_card_sleep") else {
        return;
    };
    let windows = number("SUMAC_IDLE_WINDOWS", 1);
    let cards = Cards::idle(1);
    let guest = cards.boot(&lab, &format!("WINDOWS={windows}\n{WATCH}"));
    let (ended, _) = cards.finish_load(guest);
    let polling = shares(&ended.text, "polling");
    for isolation in ["driver", "domain", "shadow"] {
        println!(
            "{}",
            row(isolation, &shares(&ended.text, isolation), &polling)
        );
    }
    let slept = |name: &str| {
        let count = ended.value(&format!("slept {name} "));
        count.and_then(|count| count.parse::<u64>().ok())
    };
    assert_eq!(slept("polling"), Some(0), "{}", ended.text);
    for isolation in ["driver", "domain", "shadow"] {
        assert!(slept(isolation) >= Some(1), "{}", ended.text);
    }
}

/// Shares of a core in percent, window by window.
fn shares(text: &str, name: &str) -> Vec<f64> {
    let start = format!("idle {name} ");
    let windows = text.lines().filter_map(|line| line.strip_prefix(&start));
    let shares = windows.filter_map(|window| {
        let (taken, passed) = window.split_once(' ')?;
        Some(100.0 * taken.parse::<f64>().ok()? / passed.parse::<f64>().ok()?)
    });
    let shares: Vec<f64> = shares.collect();
    assert!(!shares.is_empty(), "nothing of {name} in:\n{text}");
    shares
}

/// Means, for what is taken now and then counts.
fn row(isolation: &str, ours: &[f64], polling: &[f64]) -> Value {
    let mean = |shares: &[f64]| shares.iter().sum::<f64>() / shares.len() as f64;
    let (least, most) = (ours.iter()).fold((f64::MAX, 0.0_f64), |(least, most), share| {
        (least.min(*share), most.max(*share))
    });
    let (ours, peer) = (mean(ours), mean(polling));
    json!({
        "name": format!("idle/guest/{isolation}"), "unit": "% of a core", "ours": ours, "peer": peer,
        "peer_name": "polling", "ratio": ours / peer, "spread": [least / peer, most / peer],
        "windows": polling.len(), "class": "guest", "limited_by": "kernel", "paper": null,
    })
}
