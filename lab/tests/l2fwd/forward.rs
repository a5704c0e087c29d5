//! Forwarding: by one queue and by several, in every place the driver can run, as root and as anybody.

use sumac_lab::Lab;

use crate::frames::mixed;
use crate::setup::{Cards, assert_same};

/// Frames of 60 to 9,000 bytes each way, and nothing changed but on request.
#[test]
fn l2fwd_forwards_byte_for_byte() {
    let Some(lab) = Lab::open("l2fwd_forwards_byte_for_byte") else {
        return;
    };
    let forth: Vec<_> = std::iter::repeat_with(mixed).take(20).flatten().collect();
    let back = mixed();
    let cards = Cards::with([&forth, &back]);
    let total = forth.len() + back.len();
    let script = format!("l2fwd $A $B --isolation driver --no-mac-updating --json --frames {total} --cores 0");
    let guest = cards.boot(&lab, &script);
    let outcome = cards.finish(guest);
    assert_same(&outcome.sent[1], &forth);
    assert_same(&outcome.sent[0], &back);
}
