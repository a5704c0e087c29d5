//! Cards that go in mid-traffic: unplugged (QEMU's `device_del`), or taken away by the guest's kernel (`remove`). Either
//! way the kernel asks for them, and gets them; the other cards go on.

use sumac_lab::{Ended, Lab};

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
        more() {{ # more CARD: frames come by it
          before=$(received $1)
          while [ $(received $1) -le $((before + 100)) ]; do
            kill -0 $l2fwd || {{ cat /tmp/said; exit 1; }}
            sleep 0.2
          done
        }}
        present() {{ test -e /sys/bus/pci/devices/$1; }}
        LAST={last}
        more $LAST
        {gone}
        {after}
        kill -INT $l2fwd
        code=0
        wait $l2fwd || code=$?
        tail -n 8 /tmp/said
        grep -E '"(device|removed|returns|tx_dropped_removed|free|total)"' /tmp/report
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
    let Some(lab) = Lab::open("l2fwd_goes_on_without_a_card_that_is_unplugged") else {
        return;
    };
    let cards = Cards::pluggable_under_load(4, "2000pps");
    let gone = format!("echo {PULL}; while present $LAST; do sleep 0.1; done");
    let after = r#"more $A; more $B"#;
    let script = script("$A $B $C $D", "--isolation driver", &gone, after, 1);
    let named = r#"grep "^l2fwd: $D: taken back by the kernel" /tmp/said"#;
    let mut guest = cards.boot(&lab, &format!("{script}\n{named}"));
    guest.wait_for(PULL);
    cards.pull(&mut guest.monitor(), 3);
    let (ended, carried) = cards.finish_load(guest);
    assert_eq!(last(&ended, "removed"), "true", "{}", ended.text);
    assert_ne!(last(&ended, "tx_dropped_removed"), "0", "{}", ended.text);
    assert_eq!(last(&ended, "free"), last(&ended, "total"));
    let went_on = |card: usize| carried[card].from_driver > carried[3].from_driver;
    assert!(went_on(0) && went_on(1), "{carried:?}");
}

#[test]
fn l2fwd_waits_for_a_card_that_is_unplugged() {
    let Some(lab) = Lab::open("l2fwd_waits_for_a_card_that_is_unplugged") else {
        return;
    };
    let cards = Cards::pluggable_under_load(4, "2000pps");
    let gone = format!("echo {PULL}; while present $LAST; do sleep 0.1; done; more $A");
    let back = format!(
        "echo {PLUG}; until present $LAST; do sleep 0.1; done; bind-vfio $LAST; more $LAST"
    );
    let options = "--isolation domain --wait-for-device";
    let script = script("$A $B $C $D", options, &gone, &back, 0);
    let mut guest = cards.boot(&lab, &script);
    guest.wait_for(PULL);
    let mut monitor = guest.monitor();
    cards.pull(&mut monitor, 3);
    guest.wait_for(PLUG);
    cards.plug(&mut monitor, 3);
    let (ended, _) = cards.finish_load(guest);
    assert_eq!(last(&ended, "removed"), "false", "{}", ended.text);
    assert_eq!(last(&ended, "returns"), "1", "{}", ended.text);
    assert_eq!(last(&ended, "free"), last(&ended, "total"));
}

/// The only card there is goes, and with it the IOMMU's mappings; they are made again when it comes back.
#[test]
fn l2fwd_waits_for_its_only_card() {
    let Some(lab) = Lab::open("l2fwd_waits_for_its_only_card") else {
        return;
    };
    let cards = Cards::pluggable_under_load(1, "2000pps");
    // Comes back when nobody has the card open any more.
    let gone = "echo 1 > /sys/bus/pci/devices/$LAST/remove; test ! -e /sys/bus/pci/devices/$LAST";
    let back = "echo 1 > /sys/bus/pci/rescan; bind-vfio $LAST; more $LAST";
    let options = "--isolation driver --wait-for-device";
    let guest = cards.boot(&lab, &script("$A", options, gone, back, 0));
    let (ended, _) = cards.finish_load(guest);
    assert_eq!(last(&ended, "returns"), "1", "{}", ended.text);
    assert_eq!(last(&ended, "free"), last(&ended, "total"));
}
