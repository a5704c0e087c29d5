//! What is refused, with the remedy.

use serde_json::json;
use sumac_lab::Lab;

use crate::setup::{Cards, REFUSED};

/// A device that cannot be had: named wrongly, with the kernel, in a group with one that is, another user's, or in
/// use, where the second process is told who has it.
#[test]
fn l2fwd_refuses_devices_it_cannot_have() {
    let Some(lab) = Lab::open("l2fwd_refuses_devices_it_cannot_have") else {
        return;
    };
    let mut cards = Cards::with([&[], &[]]);
    // Two functions of one slot, so in one group.
    let first = json!({ "driver": "e1000e", "addr": "0.0", "multifunction": true });
    let shared = cards.machine.device(first).address;
    let second = json!({ "driver": "e1000e", "bus": "port3", "addr": "0.1" });
    (cards.machine).arguments(["-device".to_owned(), second.to_string()]);
    let script = format!(
        "{REFUSED}
        C={shared}
        D=${{C%0}}1
        group() {{ basename $(readlink /sys/bus/pci/devices/$1/iommu_group); }}
        l2fwd() {{ /bin/l2fwd --isolation driver --json \"$@\"; }}
        refused 'names no device: write a PCI address' l2fwd $A nowhere
        refused 'is no PCI address: write DOMAIN:BUS:DEVICE.FUNCTION' l2fwd 0000:77:00
        refused '0000:77:00.0: no such PCI device' l2fwd $A 0000:77:00.0
        refused \"$C: it is bound to e1000e and not to vfio-pci; run \\`sumac bind $C\\`\" l2fwd $A $C
        bind-vfio $C
        refused \"$C: group $(group $C) is not viable: $D is bound to e1000e; run \\`sumac bind $D\\`\" l2fwd $A $C
        refused \"$A: no permission for /dev/vfio/$(group $A); run \\`sudo sumac bind --user\" su user -c \"l2fwd $A --isolation driver\"
        /bin/l2fwd $A $B --isolation driver --json &
        first=$!
        opened() {{ ls -l /proc/$first/fd | grep /dev/vfio/$(group $A); }}
        wait_on $first opened
        refused \"$A: process $first (l2fwd) has its group $(group $A) open; end that first\" l2fwd $A
        kill -TERM $first
        wait $first"
    );
    let guest = cards.boot_with(&lab, &script, |image| {
        image.modules(&["e1000e"]);
    });
    cards.finish(guest);
}
