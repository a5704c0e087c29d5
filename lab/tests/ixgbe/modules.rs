//! The driver leaves and comes back.

use sumac_lab::Lab;

use crate::guest::run;

#[test]
fn the_module_is_taken_out_and_put_back_twenty_times() {
    let Some(lab) = Lab::open("ixgbe_modules") else {
        return;
    };
    let script = "
        for turn in $(seq 20); do
          rmmod ixgbe
          insmod /lib/modules/ixgbe.ko
          /bin/ip link set eth0 up
        done
        wait_until up eth0
        apart
        answered 3 10.0.0.2
        test $(dmesg | grep -c 'eth.: NIC Link is Up 10 Gbps') -ge 2
        no_complaints";
    run(&lab, script, |_| {});
}
