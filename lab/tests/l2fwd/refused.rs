//! What is refused, with the remedy.

use sumac_lab::Lab;

use crate::setup::Cards;

/// A device belongs to one process; the second is told which.
#[test]
fn l2fwd_refuses_a_device_in_use() {
    let Some(lab) = Lab::open("l2fwd_refuses_a_device_in_use") else {
        return;
    };
    let cards = Cards::with([&[], &[]]);
    let script = "
        l2fwd $A $B --isolation driver --json &
        first=$!
        while ! ls -l /proc/$first/fd | grep -q vfio; do sleep 0.1; done
        set +e
        l2fwd $A --isolation driver --json 2> /tmp/said
        code=$?
        set -e
        cat /tmp/said
        test $code -eq 2
        test $(wc -l < /tmp/said) -eq 1
        grep -q \"$A\" /tmp/said
        grep -q \"$first\" /tmp/said
        kill -TERM $first
        wait $first";
    let guest = cards.boot(&lab, script);
    cards.finish(guest);
}
