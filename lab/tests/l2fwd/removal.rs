//! Cards that the guest's kernel takes away in mid-traffic, as it does when a slot's button is pressed: it asks for them, and
//! gets them; the other cards go on.
//!
//! By the kernel's `remove` and `rescan`, not by QEMU's `device_del`: QEMU 11.1 does not outlive a vfio-user device that is
//! unplugged (`memory_region_del_subregion: Assertion ... failed`), though the guest lets it go.

use sumac_lab::{Ended, Lab};

use crate::setup::Cards;

/// Runs l2fwd on four cards with these options, takes the last one away when frames have passed by it, does what comes
/// after that, and asserts with which code l2fwd ends.
fn script(options: &str, after: &str, code: u8) -> String {
    format!(
        r#"
        l2fwd $A $B $C $D {options} --domains /domains --json --stats-interval 1s > /tmp/report 2> /tmp/said &
        l2fwd=$!
        received() {{ awk "/^$1 / {{ n = \$3 }} END {{ print n + 0 }}" /tmp/said; }}
        more() {{ # more CARD: frames come by it
          before=$(received $1)
          while [ $(received $1) -le $((before + 100)) ]; do
            kill -0 $l2fwd || {{ cat /tmp/said; exit 1; }}
            sleep 0.2
          done
        }}
        more $D
        # Comes back when nobody has the card open any more.
        echo 1 > /sys/bus/pci/devices/$D/remove
        test ! -e /sys/bus/pci/devices/$D
        more $A
        {after}
        kill -INT $l2fwd
        code=0
        wait $l2fwd || code=$?
        tail -n 8 /tmp/said
        grep -E '"(device|removed|returns|tx_dropped_removed|free|total)"' /tmp/report
        test $code -eq {code}"#
    )
}

/// The value of the last line of l2fwd's report that has this key: of the last port, or the pool.
fn last<'a>(ended: &'a Ended, key: &str) -> &'a str {
    let key = format!("\"{key}\": ");
    let mut lines = ended.text.lines().rev();
    let line = lines.find_map(|line| line.trim().strip_prefix(&key));
    let line = line.unwrap_or_else(|| panic!("no {key} in:\n{}", ended.text));
    line.trim_end_matches(',')
}

/// What brings the last card back.
const BACK: &str = "
        echo 1 > /sys/bus/pci/rescan
        bind-vfio $D
        more $D";

#[test]
fn l2fwd_goes_on_without_a_card_that_is_taken_away() {
    let Some(lab) = Lab::open("l2fwd_goes_on_without_a_card_that_is_taken_away") else {
        return;
    };
    let cards = Cards::so_many_under_load(4, "2000pps");
    let script = script("--isolation driver", "", 1);
    let named = r#"grep "^l2fwd: $D: taken back by the kernel" /tmp/said"#;
    let guest = cards.boot(&lab, &format!("{script}\n{named}"));
    let (ended, carried) = cards.finish_load(guest);
    assert_eq!(last(&ended, "removed"), "true", "{}", ended.text);
    assert_ne!(last(&ended, "tx_dropped_removed"), "0", "{}", ended.text);
    assert_eq!(last(&ended, "free"), last(&ended, "total"));
    let went_on = |card: usize| carried[card].from_driver > carried[3].from_driver;
    assert!(went_on(0) && went_on(1), "{carried:?}");
}

#[test]
fn l2fwd_waits_for_a_card_that_is_taken_away() {
    let Some(lab) = Lab::open("l2fwd_waits_for_a_card_that_is_taken_away") else {
        return;
    };
    let cards = Cards::so_many_under_load(4, "2000pps");
    let script = script("--isolation domain --wait-for-device", BACK, 0);
    let guest = cards.boot(&lab, &script);
    let (ended, _) = cards.finish_load(guest);
    assert_eq!(last(&ended, "removed"), "false", "{}", ended.text);
    assert_eq!(last(&ended, "returns"), "1", "{}", ended.text);
    assert_eq!(last(&ended, "free"), last(&ended, "total"));
}

/// The only card there is goes, and with it the IOMMU's mappings; they are made again when it comes back.
#[test]
fn l2fwd_waits_for_its_only_card() {
    if let Some(lab) = Lab::open("l2fwd_waits_for_its_only_card") {
        waits_for_its_only_card(&lab);
    }
}

/// The same for a card with a file of its own: the mappings stay, for they are not the card's.
#[test]
fn l2fwd_waits_for_its_only_card_by_its_own_file() {
    if let Some(lab) = Lab::with_iommufd("l2fwd_waits_for_its_only_card_by_its_own_file") {
        waits_for_its_only_card(&lab);
    }
}

fn waits_for_its_only_card(lab: &Lab) {
    let cards = Cards::so_many_under_load(1, "2000pps");
    let script = script("--isolation driver --wait-for-device", BACK, 0);
    // Its only card is the first and the last.
    let script = script
        .replace("$A $B $C $D", "$A")
        .replace("more $A", "true");
    let guest = cards.boot(lab, &script.replace("$D", "$A"));
    let (ended, _) = cards.finish_load(guest);
    assert_eq!(last(&ended, "returns"), "1", "{}", ended.text);
    assert_eq!(last(&ended, "free"), last(&ended, "total"));
}
