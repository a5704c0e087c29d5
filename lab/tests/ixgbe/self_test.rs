//! What `ethtool` says, above all the driver's own test of the hardware.

use sumac_lab::{Ended, Lab};

use crate::guest::run;

/// The lines of `ethtool -t`.
const TESTS: [&str; 5] = [
    "Register test  (offline)",
    "Eeprom test    (offline)",
    "Interrupt test (offline)",
    "Loopback test  (offline)",
    "Link test   (on/offline)",
];

const TEST: &str = "
/bin/ip link set eth0 up
wait_until up eth0
# The driver waits 10 ms for an interrupt and 200 ms for frames, which a busy machine may let pass: those two may be tried
# again.
others_failed() { grep 'line)' /tmp/test | grep -v ' 0$' | grep -v '^Interrupt\\|^Loopback'; }
for card in eth0 eth1; do
  tries=0
  until ethtool -t $card offline > /tmp/test; do
    sed 's/^/failed: /' /tmp/test
    if others_failed; then exit 1; fi
    tries=$((tries + 1))
    test $tries -lt 5
  done
  cat /tmp/test
done
wait_until up eth0
no_complaints
";

fn assert_passed(ended: &Ended) {
    let count = |text: &str| ended.text.matches(text).count();
    assert_eq!(count("The test result is PASS"), 2, "{}", ended.text);
    for test in TESTS {
        let passed = (ended.text.lines())
            .filter(|line| {
                line.trim_start()
                    .strip_prefix(test)
                    .is_some_and(|rest| rest.trim() == "0")
            })
            .count();
        assert_eq!(passed, 2, "{test}: {}", ended.text);
    }
}

/// With MSI-X, and everything else `ethtool` asks.
#[test]
fn the_drivers_own_test_passes() {
    let Some(lab) = Lab::open("ixgbe_self_test") else {
        return;
    };
    let script = format!(
        "{TEST}
        for ask in -i -d -k -l -x -m; do echo \"ethtool $ask\"; ethtool $ask eth0; done
        ethtool eth0
        true"
    );
    let outcome = run(&lab, &script, |_| {});
    let ended = &outcome.ended;
    assert_passed(ended);
    for (key, value) in [
        ("driver:", "ixgbe"),
        ("bus-info:", "0000:01:00.0"),
        ("Speed:", "10000Mb/s"),
        ("Link detected:", "yes"),
        ("Transceiver type", ": 10G Ethernet: 10G Base-SR"),
        ("Vendor OUI", ": 00:1b:21"),
        ("rx-checksumming:", "on"),
        ("tcp-segmentation-offload:", "on"),
        ("Combined:", "2"),
        (
            "RX flow hash indirection table for eth0 with 2 RX ring(s):",
            "",
        ),
        ("Link Status:", "up"),
        ("Link Speed:", "10G"),
    ] {
        let said = ended.value(key);
        assert!(
            said.is_some_and(|said| said.starts_with(value)),
            "{key} {said:?}"
        );
    }
}

/// Without MSI: the driver's interrupt test has the pin to test.
#[test]
fn the_drivers_own_test_passes_with_the_interrupt_pin() {
    let Some(lab) = Lab::open("ixgbe_interrupt_pin") else {
        return;
    };
    let script = format!(
        "{TEST}
        grep IO-APIC.*eth0 /proc/interrupts
        apart
        answered 20 10.0.0.2"
    );
    let outcome = run(&lab, &script, |machine| {
        machine.kernel_option("pci=nomsi");
    });
    assert_passed(&outcome.ended);
}
