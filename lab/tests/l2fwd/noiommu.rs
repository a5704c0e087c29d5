//! Without an IOMMU: only when told to, and what is left of protection then.

use sumac_lab::{Lab, Program};

use crate::frames::mixed;
use crate::setup::{Cards, REFUSED, assert_same};

/// Frames go through byte for byte at physical addresses, by `--unsafe-noiommu` alone, which says what it gives up.
/// Devices of a process that was killed may not use the bus any more. `sumac` hands them over from the kernel's driver, tells
/// what is given up, and gives them back.
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
        driver() {{ basename $(readlink /sys/bus/pci/devices/$1/driver); }}
        test $(driver $A) = ixgbe
        refused \"$A: in no IOMMU group\" sumac bind $A
        test $(driver $A) = ixgbe
        sumac bind --unsafe-noiommu $A $B 2> /tmp/said
        cat /tmp/said
        grep -q \"^$B: no IOMMU keeps it in bounds: it can read and overwrite all memory\" /tmp/said
        test $(driver $A) = uio_pci_generic
        test $(cat /run/sumac/bound/$A) = ixgbe
        sumac devices
        if sumac doctor $A > /tmp/doctor; then exit 1; fi
        grep '^warning  driver .*only .l2fwd --unsafe-noiommu. takes it' /tmp/doctor
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
        both() {{ master $A && master $B; }}
        wait_on $first both
        refused \"$A: another process drives it; end that first\" /bin/l2fwd $A $B $options
        master $A
        refused \"$A: in use by process $first (l2fwd)\" sumac unbind $A
        master $A
        kill -KILL $first
        wait $first || true
        if master $A || master $B; then exit 1; fi
        sumac unbind $A $B
        test $(driver $A) = ixgbe
        test $(driver $B) = ixgbe
        test ! -e /run/sumac/bound/$A"
    );
    let guest = cards.boot_with(&lab, &script, |image| {
        image.modules(&["ixgbe", "uio_pci_generic"]);
        image.program(&Program::built("sumac"));
    });
    let outcome = cards.finish(guest);
    assert_same(&outcome.sent[1], &forth);
    assert_same(&outcome.sent[0], &back);
}
