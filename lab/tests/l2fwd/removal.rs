//! Cards that go in mid-traffic: unplugged (QEMU's `device_del`), or taken away by the guest's kernel (`remove`). Either
//! way the kernel asks for them, and gets them; the other cards go on. And cards whose registers read as all ones from one
//! moment to the next, of which the kernel knows nothing.

use serde_json::Value;
use sumac_lab::{Ended, Lab};

use crate::forward::goes_on_over_drivers_that_die;
use crate::setup::Cards;

/// Runs l2fwd on these cards, waits for frames of the last one, sees that go, and what comes after; then asserts with which
/// code l2fwd ends.
///
/// `gone` takes the card away, or says that it may be taken, and returns when it is gone.
fn script(cards: &str, options: &str, gone: &str, after: &str, code: u8) -> String {
    format!(
        r#"
        l2fwd {cards} {options} --domains /domains --json --stats-interval 1s > /tmp/report 2> /tmp/said &
        l2fwd=$!
        received() {{ awk "/^$1 / {{ n = \$3 }} END {{ print n + 0 }}" /tmp/said; }}
        beyond() {{ test $(received $1) -gt $2; }}
        more() {{ wait_on $l2fwd beyond $1 $(($(received $1) + 100)); }} # more CARD: frames come by it
        present() {{ test -e /sys/bus/pci/devices/$1; }}
        absent() {{ ! present $1; }}
        LAST={last}
        more $LAST
        {gone}
        {after}
        kill -INT $l2fwd
        code=0
        wait $l2fwd || code=$?
        tail -n 8 /tmp/said
        grep -E '"(vfio|device|removed|returns|tx_dropped_removed|free|total)"' /tmp/report
        test $code -eq {code}"#,
        last = cards.rsplit(' ').next().unwrap_or_default(),
    )
}

/// What a script says when its card may be unplugged, and when it may be plugged in again.
const PULL: &str = "card may be pulled";
const PLUG: &str = "card may be plugged in";

/// The value of the last line of l2fwd's report that has this key: of the last port, or the pool.
fn last<'a>(ended: &'a Ended, key: &str) -> &'a str {
    let key = format!("\"{key}\": ");
    let mut lines = ended.text.lines().rev();
    let line = lines.find_map(|line| line.trim().strip_prefix(&key));
    let line = line.unwrap_or_else(|| panic!("no {key} in:\n{}", ended.text));
    line.trim_end_matches(',')
}

#[test]
fn l2fwd_goes_on_without_a_card_that_is_unplugged() {
    if let Some(lab) = Lab::open("l2fwd_goes_on_without_a_card_that_is_unplugged") {
        goes_on_without_a_card_that_is_unplugged(&lab);
    }
}

fn goes_on_without_a_card_that_is_unplugged(lab: &Lab) -> Ended {
    let cards = Cards::pluggable_under_load(4, "2000pps");
    let gone = format!("echo {PULL}; wait_on $l2fwd absent $LAST");
    // Frames for it come, and are dropped. Then by both of the other pair come more than had come for it, and so was sent by
    // it, when it went.
    let after = r#"
        more $C
        most=$(($(received $C) + 100))
        for card in $A $B; do wait_on $l2fwd beyond $card $most; done"#;
    let script = script("$A $B $C $D", "--isolation driver", &gone, after, 1);
    let named = r#"grep "^l2fwd: $D: taken back by the kernel" /tmp/said"#;
    let mut guest = cards.boot(lab, &format!("{script}\n{named}"));
    guest.wait_for(PULL);
    cards.pull(&mut guest.monitor(), 3);
    let (ended, carried) = cards.finish_load(guest);
    assert_eq!(last(&ended, "removed"), "true", "{}", ended.text);
    assert_ne!(last(&ended, "tx_dropped_removed"), "0", "{}", ended.text);
    assert_eq!(last(&ended, "free"), last(&ended, "total"));
    let went_on = |card: usize| carried[card].from_driver > carried[3].from_driver;
    assert!(went_on(0) && went_on(1), "{carried:?}");
    ended
}

#[test]
fn l2fwd_waits_for_a_card_that_is_unplugged() {
    if let Some(lab) = Lab::open("l2fwd_waits_for_a_card_that_is_unplugged") {
        waits_for_a_card_that_is_unplugged(&lab);
    }
}

fn waits_for_a_card_that_is_unplugged(lab: &Lab) -> Ended {
    let cards = Cards::pluggable_under_load(4, "2000pps");
    let gone = format!("echo {PULL}; wait_on $l2fwd absent $LAST; more $A");
    let back = format!("echo {PLUG}; wait_on $l2fwd present $LAST; bind-vfio $LAST; more $LAST");
    let options = "--isolation domain --wait-for-device";
    let script = script("$A $B $C $D", options, &gone, &back, 0);
    let mut guest = cards.boot(lab, &script);
    guest.wait_for(PULL);
    let mut monitor = guest.monitor();
    cards.pull(&mut monitor, 3);
    guest.wait_for(PLUG);
    cards.plug(&mut monitor, 3);
    let (ended, _) = cards.finish_load(guest);
    assert_eq!(last(&ended, "removed"), "false", "{}", ended.text);
    assert_eq!(last(&ended, "returns"), "1", "{}", ended.text);
    assert_eq!(last(&ended, "free"), last(&ended, "total"));
    ended
}

/// The only card there is goes, and with it the IOMMU's mappings; they are made again when it comes back.
#[test]
fn l2fwd_waits_for_its_only_card() {
    if let Some(lab) = Lab::open("l2fwd_waits_for_its_only_card") {
        waits_for_its_only_card(&lab);
    }
}

/// The same, and all else that goes and comes, for cards with files of their own: the mappings stay, for they are not the
/// card's.
#[test]
fn l2fwd_goes_on_over_what_goes_by_its_own_file() {
    if let Some(lab) = Lab::with_iommufd("l2fwd_goes_on_over_what_goes_by_its_own_file") {
        for goes_on in [
            waits_for_its_only_card,
            goes_on_without_a_card_that_is_unplugged,
            waits_for_a_card_that_is_unplugged,
            goes_on_over_drivers_that_die,
        ] {
            let ended = goes_on(&lab);
            assert_eq!(last(&ended, "vfio"), r#""cdev""#, "{}", ended.text);
        }
    }
}

fn waits_for_its_only_card(lab: &Lab) -> Ended {
    let cards = Cards::pluggable_under_load(1, "2000pps");
    // Comes back when nobody has the card open any more.
    let gone = "echo 1 > /sys/bus/pci/devices/$LAST/remove; test ! -e /sys/bus/pci/devices/$LAST";
    let back = "echo 1 > /sys/bus/pci/rescan; bind-vfio $LAST; more $LAST";
    let options = "--isolation driver --wait-for-device";
    let guest = cards.boot(lab, &script("$A", options, gone, back, 0));
    let (ended, _) = cards.finish_load(guest);
    assert_eq!(last(&ended, "returns"), "1", "{}", ended.text);
    assert_eq!(last(&ended, "free"), last(&ended, "total"));
    ended
}

/// Two cards read as all ones after a while; one of them answers again, is reset and goes on. Of the other the run's end
/// tells; those that were never gone forward all the time, and every frame of each pair is accounted for.
#[test]
fn l2fwd_goes_on_over_registers_that_read_as_ones() {
    let Some(lab) = Lab::open("l2fwd_goes_on_over_registers_that_read_as_ones") else {
        return;
    };
    let cards = Cards::going_under_load(&["", "", "gone=5s", "gone=5s,back=9s"], "2000pps");
    let gone = r#"
        wait_on $l2fwd grep "^l2fwd: $LAST: gone, waiting" /tmp/said
        wait_on $l2fwd grep "^l2fwd: $C: gone, waiting" /tmp/said
        more $A
        more $B
        most=$(($(received $LAST) + 100))"#;
    // By the pair that was never gone goes more than by those that were, until they were.
    let back = r#"
        wait_on $l2fwd grep "^l2fwd: $LAST: back" /tmp/said
        more $LAST
        for card in $A $B; do wait_on $l2fwd beyond $card $most; done"#;
    let options = "--isolation shadow --interrupt --wait-for-device";
    let script = script("$A $B $C $D", options, gone, back, 1);
    let named = r#"
        if grep "^l2fwd: $C: back" /tmp/said; then exit 1; fi
        tail -n 1 /tmp/said | grep "^l2fwd: $C: the device is gone"
        echo BOOKS
        cat /tmp/report"#;
    let guest = cards.boot(&lab, &format!("{script}\n{named}"));
    let (ended, carried) = cards.finish_load(guest);
    let books = books(&ended);
    let removed: Vec<_> = (0..4)
        .map(|port| &books["ports"][port]["removed"])
        .collect();
    assert_eq!(removed, [false, false, true, false], "{books:#}");
    let returns: Vec<_> = (0..4)
        .map(|port| &books["ports"][port]["returns"])
        .collect();
    assert_eq!(returns, [0, 0, 0, 1], "{books:#}");
    assert_eq!(books["pool"]["free"], books["pool"]["total"]);
    assert_ne!(books["ports"][2]["tx_dropped_removed"], 0, "{books:#}");
    for port in 0..4 {
        let count = |port: usize, what: &str| {
            let count = books["ports"][port][what].as_u64();
            count.unwrap_or_else(|| panic!("no {what} in {books:#}"))
        };
        let to = port ^ 1;
        let left = ["tx_packets", "tx_dropped", "lost_transmit"].map(|what| count(to, what));
        assert_eq!(
            count(port, "rx_packets"),
            left.iter().sum::<u64>() + count(to, "lost_application"),
            "from {port} to {to}: {books:#}"
        );
    }
    for card in [0, 1] {
        assert!(carried[card].from_driver > carried[2].from_driver);
    }
}

/// The report that l2fwd wrote.
fn books(ended: &Ended) -> Value {
    let report = ended.text.split_once("BOOKS").map(|(_, report)| report);
    let report = report.unwrap_or_else(|| panic!("no report in:\n{}", ended.text));
    // What follows it on the console is the guest's.
    let mut values = serde_json::Deserializer::from_str(report).into_iter::<Value>();
    let value = values.next().and_then(Result::ok);
    value.unwrap_or_else(|| panic!("no JSON in:\n{report}"))
}
