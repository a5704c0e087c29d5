//! Cards that are pulled out in mid-traffic, as by the button of their slot: the guest's kernel asks for them, and gets
//! them; the other cards go on.

use sumac_lab::{Guest, Lab};

use crate::setup::Cards;

/// Runs l2fwd on four cards with these options, and asks for the last when frames have passed by it. `ports` counts what
/// the first card has received so far.
fn script(options: &str, after: &str) -> String {
    format!(
        r#"
        l2fwd $A $B $C $D {options} --domains /domains --json --stats-interval 1s > /tmp/report 2> /tmp/said &
        l2fwd=$!
        received() {{ awk "/^$1 / {{ n = \$3 }} END {{ print n + 0 }}" /tmp/said; }}
        more() {{ # more PORT: frames come by it
          before=$(received $1)
          while [ $(received $1) -le $((before + 100)) ]; do
            kill -0 $l2fwd || {{ cat /tmp/said; exit 1; }}
            sleep 0.2
          done
        }}
        more $D
        echo lab: pull
        read pulled
        test ! -e /sys/bus/pci/devices/$D
        more $A
        {after}
        set +e
        kill -INT $l2fwd
        wait $l2fwd
        code=$?
        set -e
        tail -n 8 /tmp/said
        grep -E '"(device|removed|returns|tx_dropped_removed|free|total)"' /tmp/report"#
    )
}

/// Pulls the last card out; the guest has let it go when this returns.
fn pull(cards: &Cards, guest: &mut Guest) {
    guest.wait_for("lab: pull");
    let card = cards.slots.last().expect("four cards");
    let mut monitor = guest.monitor();
    monitor.device_del(&card.id).expect("QEMU asks the guest");
    (monitor.wait_for("DEVICE_DELETED")).expect("the guest lets it go");
}

/// The value of the last line of l2fwd's report that has this key: of the last port, or the pool.
fn last<'a>(text: &'a str, key: &str) -> &'a str {
    let key = format!("\"{key}\": ");
    let mut lines = text.lines().rev();
    let line = lines.find_map(|line| line.trim().strip_prefix(&key));
    let line = line.unwrap_or_else(|| panic!("no {key} in:\n{text}"));
    line.trim_end_matches(',')
}

#[test]
fn l2fwd_goes_on_without_a_card_that_is_pulled_out() {
    let Some(lab) = Lab::open("l2fwd_goes_on_without_a_card_that_is_pulled_out") else {
        return;
    };
    let cards = Cards::so_many_under_load(4, "2000pps");
    let after = "test $code -eq 1\ngrep \"^l2fwd: $D: taken back\" /tmp/said";
    let script = format!("{}\n{after}", script("--isolation driver", ""));
    let mut guest = cards.boot(&lab, &script);
    pull(&cards, &mut guest);
    guest.send("pulled");
    let (ended, carried) = cards.finish_load(guest);
    assert_eq!(last(&ended.text, "removed"), "true", "{}", ended.text);
    assert_ne!(last(&ended.text, "tx_dropped_removed"), "0");
    assert_eq!(last(&ended.text, "free"), last(&ended.text, "total"));
    assert!(
        carried.iter().all(|card| card.from_driver > 0),
        "{carried:?}"
    );
}

#[test]
fn l2fwd_waits_for_a_card_that_is_pulled_out() {
    let Some(lab) = Lab::open("l2fwd_waits_for_a_card_that_is_pulled_out") else {
        return;
    };
    let cards = Cards::so_many_under_load(4, "2000pps");
    let after = "
        echo lab: put it back
        while [ ! -e /sys/bus/pci/devices/$D ]; do sleep 0.2; done
        bind-vfio $D
        more $D";
    let wait = "--isolation domain --wait-for-device";
    let script = format!("{}\ntest $code -eq 0", script(wait, after));
    let mut guest = cards.boot(&lab, &script);
    pull(&cards, &mut guest);
    guest.send("pulled");
    guest.wait_for("lab: put it back");
    let back = guest
        .monitor()
        .add_vfio_user(&cards.slots[3], &cards.served.socket(3));
    back.expect("the slot is empty");
    let (ended, _) = cards.finish_load(guest);
    assert_eq!(last(&ended.text, "removed"), "false", "{}", ended.text);
    assert_eq!(last(&ended.text, "returns"), "1");
    assert_eq!(last(&ended.text, "free"), last(&ended.text, "total"));
}
