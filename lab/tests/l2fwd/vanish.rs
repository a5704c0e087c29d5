//! Cards that are there no more.

use sumac_lab::Lab;

use crate::setup::Cards;

/// Whose registers read as ones is gone: the run ends with an error that names it, and not with a hang.
#[test]
fn l2fwd_ends_with_an_error_when_its_cards_vanish() {
    let Some(lab) = Lab::open("l2fwd_ends_with_an_error_when_its_cards_vanish") else {
        return;
    };
    let cards = Cards::under_load("20000pps");
    let script = "
        l2fwd $A $B --isolation driver --json 2> /tmp/said &
        run=$!
        while ! ls -l /proc/$run/fd | grep -q vfio; do sleep 0.1; done
        sleep 2
        echo forwarding
        set +e
        wait $run
        code=$?
        set -e
        cat /tmp/said
        test $code -eq 1
        test $(wc -l < /tmp/said) -eq 1
        grep -q \"$A\\|$B\" /tmp/said";
    let mut guest = cards.boot(&lab, script);
    guest.wait_for("forwarding");
    cards.vanish();
    guest.finish().assert_code(0);
}
