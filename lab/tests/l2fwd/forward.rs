//! Forwarding: wherever the driver runs, by one queue and by several, as root and as anybody.

use std::collections::BTreeMap;

use sumac_lab::{Ended, Lab};

use crate::frames::mixed;
use crate::setup::{Cards, assert_same};
use crate::traffic::udp;

/// Frames of 60 to 9,000 bytes each way, and not a byte of them changed.
fn forwards(test: &str, isolation: &str) {
    let Some(lab) = Lab::open(test) else {
        return;
    };
    let forth: Vec<_> = std::iter::repeat_with(mixed).take(20).flatten().collect();
    let back = mixed();
    let cards = Cards::with([&forth, &back]);
    let total = forth.len() + back.len();
    let script = format!(
        "l2fwd $A $B --domains /domains --isolation {isolation} --no-mac-updating --json --frames {total}"
    );
    let guest = cards.boot(&lab, &script);
    let outcome = cards.finish(guest);
    assert_same(&outcome.sent[1], &forth);
    assert_same(&outcome.sent[0], &back);
}

#[test]
fn l2fwd_forwards_byte_for_byte() {
    forwards("l2fwd_forwards_byte_for_byte", "driver");
}

#[test]
fn l2fwd_forwards_with_the_driver_in_a_domain() {
    forwards("l2fwd_forwards_with_the_driver_in_a_domain", "domain");
}

/// By workers that sleep until frames come.
#[test]
fn l2fwd_forwards_byte_for_byte_when_woken() {
    forwards(
        "l2fwd_forwards_byte_for_byte_when_woken",
        "domain --interrupt",
    );
}

#[test]
fn l2fwd_forwards_behind_a_shadow() {
    forwards("l2fwd_forwards_behind_a_shadow", "shadow");
}

/// The flow of a frame of [`udp`]: its source port.
fn by_flow(frames: &[Vec<u8>]) -> BTreeMap<[u8; 2], Vec<&[u8]>> {
    let mut flows: BTreeMap<_, Vec<&[u8]>> = BTreeMap::new();
    for frame in frames {
        flows.entry([frame[34], frame[35]]).or_default().push(frame);
    }
    flows
}

/// Four queues of each card on two cores: each flow keeps its order, whatever the others do.
#[test]
fn l2fwd_forwards_by_several_queues() {
    let Some(lab) = Lab::open("l2fwd_forwards_by_several_queues") else {
        return;
    };
    let (forth, back) = (udp(4000), udp(1000));
    let cards = Cards::with([&forth, &back]);
    let script = "l2fwd $A $B --isolation driver --queues 4 --cores 0-1 --no-mac-updating --json --frames 5000";
    let guest = cards.boot(&lab, script);
    let outcome = cards.finish(guest);
    for (sent, expected) in [(&outcome.sent[1], &forth), (&outcome.sent[0], &back)] {
        assert_eq!(sent.len(), expected.len());
        assert!(by_flow(sent) == by_flow(expected), "a flow's frames differ");
    }
}

/// An ordinary user with the groups' files and enough memory to lock forwards as root does, wherever the driver runs:
/// woken by interrupts byte for byte, by a pair of cards each; and polling, though nothing comes any more.
#[test]
fn l2fwd_runs_as_an_ordinary_user() {
    let Some(lab) = Lab::open("l2fwd_runs_as_an_ordinary_user") else {
        return;
    };
    let frames = mixed();
    let cards = Cards::with([&frames, &[], &frames, &[], &frames, &[]]);
    let script = format!(
        "for device in $A $B $C $D $E $F; do
          chown user /dev/vfio/$(basename $(readlink /sys/bus/pci/devices/$device/iommu_group))
        done
        ulimit -l 262144
        export XDG_CONFIG_HOME=/domains
        if su user -c 'cat /proc/1/environ'; then exit 1; fi
        su user -c id
        run() {{ # run CARDS ISOLATION OPTIONS
          echo \"l2fwd $1 --domains /domains --isolation $2 --no-mac-updating --json $3\" > /tmp/run
          cat /tmp/run
          su user -c 'sh /tmp/run'
        }}
        for how in '--interrupt --frames {}' '--duration 300ms'; do
          run \"$A $B\" driver \"$how\"
          run \"$C $D\" domain \"$how\"
          run \"$E $F\" shadow \"$how\"
        done",
        frames.len()
    );
    let guest = cards.boot(&lab, &script);
    let outcome = cards.finish(guest);
    assert!(
        outcome.ended.text.contains("uid=1000"),
        "{}",
        outcome.ended.text
    );
    for to in [1, 3, 5] {
        assert_same(&outcome.sent[to], &frames);
    }
}

#[test]
fn l2fwd_goes_on_over_drivers_that_die() {
    if let Some(lab) = Lab::open("l2fwd_goes_on_over_drivers_that_die") {
        goes_on_over_drivers_that_die(&lab);
    }
}

/// A driver in a domain that dies a tenth of a second after it has come up is started again each time, on a card behind
/// the IOMMU. Frames may be lost in between, each as a whole: those that come out are those that went in, in their order.
/// More go in for as long as it takes, for a driver dies with frames in hand; they are short, for all are recorded.
pub fn goes_on_over_drivers_that_die(lab: &Lab) -> Ended {
    let mut frames = udp(30_000);
    frames.iter_mut().for_each(|frame| frame.truncate(60));
    let cards = Cards::again_and_again([&frames, &frames]);
    let script = r#"
        l2fwd $A $B --domains /domains --isolation shadow --no-mac-updating --json \
          --crash-every 100ms,panic --stats-interval 500ms > /tmp/report 2> /tmp/said &
        l2fwd=$!
        wait_on $l2fwd grep -E '^([4-9]|[1-9][0-9]+) restarts' /tmp/said
        kill -INT $l2fwd
        wait $l2fwd
        grep -E '"(restarts|vfio)"' /tmp/report"#;
    let guest = cards.boot(lab, script);
    let outcome = cards.finish(guest);
    // More than the rings of two drivers hold, and less than would let a frame that comes late pass for the next round's.
    let most_lost = frames.len() / 2;
    for sent in &outcome.sent {
        assert!(!sent.is_empty(), "{}", outcome.ended.text);
        let mut round = frames.iter().cycle();
        for (i, frame) in sent.iter().enumerate() {
            let mut next = round.by_ref().take(most_lost);
            assert!(
                next.any(|other| other == frame),
                "frame {i} did not go in, or not after those before it"
            );
        }
    }
    outcome.ended
}

/// Workers that sleep are woken by MSI-X through the IOMMU, wherever the driver runs: none of the frames of a card's
/// generator is slept through, which come one by one after those that fell due between two runs. Each run goes on until
/// its worker has left the processor often.
#[test]
fn l2fwd_is_woken_by_interrupts() {
    let Some(lab) = Lab::open("l2fwd_is_woken_by_interrupts") else {
        return;
    };
    let cards = Cards::under_load("50pps");
    let script = r#"
        left() { # left TIMES
          worker=$(grep -l '^l2fwd-0' /proc/$l2fwd/task/*/comm)
          times=$(sed -n 's/^voluntary_ctxt_switches://p' ${worker%comm}status)
          test $times -ge $1
        }
        for isolation in driver domain shadow; do
          echo isolation $isolation
          l2fwd $A $B --domains /domains --interrupt --isolation $isolation --json > /tmp/report &
          l2fwd=$!
          wait_on $l2fwd left 200
          kill -INT $l2fwd
          wait $l2fwd
          cat /tmp/report
        done"#;
    let guest = cards.boot(&lab, script);
    let (ended, _) = cards.finish_load(guest);
    let runs: Vec<_> = ended.text.split("isolation ").skip(1).collect();
    assert_eq!(runs.len(), 3, "{}", ended.text);
    for run in runs {
        let count = |key: &str| -> Option<u64> {
            let (_, rest) = run.split_once(&format!("\"{key}\": "))?;
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        assert!(count("packets") >= Some(100), "{run}");
        assert!(count("slept") >= Some(100), "{run}");
        assert!(count("woken") >= Some(100), "{run}");
        assert_eq!(count("overslept"), Some(0), "{run}");
        assert_eq!(count("link_mbps"), Some(10_000), "{run}");
    }
}
