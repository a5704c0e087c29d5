//! Without an IOMMU: only when told to, and what is left of protection then.

use sumac_lab::Lab;

use crate::frames::mixed;
use crate::setup::{Cards, REFUSED, assert_same};

/// Frames go through byte for byte at physical addresses, by `--unsafe-noiommu` alone, which says what it gives up.
/// Devices of a process that was killed may not use the bus any more.
#[test]
fn l2fwd_forwards_without_an_iommu_when_told_to() {
    let Some(lab) = Lab::open("l2fwd_forwards_without_an_iommu_when_told_to") else {
        return;
    };
    let (forth, back) = (mixed(), mixed());
    let cards = Cards::without_iommu([&forth, &back]);
    let total = forth.len() + back.len();
    let script = format!(
        "{REFUSED}
        options='--isolation driver --no-mac-updating --json'
        refused \"$A: no IOMMU translates for it; turn VT-d or AMD-Vi on\" /bin/l2fwd $A $B $options
        options=\"$options --unsafe-noiommu\"
        refused \"$A: no IOMMU translates for it, so memory it shares\" /bin/l2fwd $A sim $options
        refused \"$A: no permission for /\" su user -c \"l2fwd $A $B $options\"
        /bin/l2fwd $A $B $options --frames {total} 2> /tmp/said
        cat /tmp/said
        test $(wc -l < /tmp/said) -eq 1
        grep -q '^l2fwd: no IOMMU: the devices can read and overwrite all memory' /tmp/said
        # Bus mastering, bit 2 of the command register.
        master() {{ test $(($(hexdump -s 4 -n 1 -e '\"%d\"' /sys/bus/pci/devices/$1/config) & 4)) -ne 0; }}
        if master $A; then exit 1; fi
        /bin/l2fwd $A $B $options &
        first=$!
        until master $A && master $B; do sleep 0.1; done
        refused \"$A: another process drives it; end that first\" /bin/l2fwd $A $B $options
        master $A
        kill -KILL $first
        wait $first || true
        if master $A || master $B; then exit 1; fi"
    );
    let guest = cards.boot(&lab, &script);
    let outcome = cards.finish(guest);
    assert_same(&outcome.sent[1], &forth);
    assert_same(&outcome.sent[0], &back);
}
