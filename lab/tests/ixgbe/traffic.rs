//! Frames between two ports: the driver's counters are the device's, and every byte arrives.

use std::time::Duration;

use sumac_lab::Lab;

use crate::guest::{run, run_on};

/// Sends a file of 64 MiB from eth0 to eth1 and compares.
const TRANSFER: &str = "
head -c 67108864 /dev/urandom > /tmp/sent
# A receiver whose input ends would end, too.
mkfifo /tmp/silence
exec 3<> /tmp/silence
transfer() {
  there nc -l -p 5000 > /tmp/got <&3 & receiver=$!
  wait_until there sh -c 'netstat -ltn | grep -q :5000'
  nc 10.0.0.2 5000 < /tmp/sent
  wait $receiver
  cmp /tmp/sent /tmp/got
  rm /tmp/got
}
";

#[test]
fn files_arrive_whole_and_counters_agree() {
    let Some(lab) = Lab::open("ixgbe_traffic") else {
        return;
    };
    let script = format!(
        "{TRANSFER}
        apart
        answered 10 10.0.0.2
        transfer
        say small done
        # A reset follows, and with it goes what the driver has not read yet.
        quiet
        /bin/ip link set eth0 mtu 9000
        there /bin/ip link set eth1 mtu 9000
        wait_until up eth0
        wait_until ping -c 1 -W 1 -s 8900 10.0.0.2
        transfer
        say jumbo done
        quiet
        for name in {} rx_csum_offload_errors tx_timeout_count; do say $name: $(kept $name); done",
        COUNTED.map(|(name, _)| name).join(" ")
    );
    let outcome = run(&lab, &script, |machine| {
        machine.limit(Duration::from_secs(600));
    });
    let ended = &outcome.ended;
    assert!(ended.text.contains("test: small done") && ended.text.contains("test: jumbo done"));
    let said = |name: &str| -> Option<u64> {
        let said = ended.value(&format!("test: {name}:"));
        said.and_then(|said| said.parse().ok())
    };
    let card = &outcome.carried[0];
    for (name, register) in COUNTED {
        // Octets have two words, and reading the high one clears both (section 8.2.3.23): Linux's ixgbe_update_stats reads
        // that for nothing else, and never learns of what was counted since it had read the low one.
        let (counted, unread) = (card.counter(register), card.unread(register));
        assert_eq!(
            said(name),
            Some(counted - unread),
            "{name}, {register}: {counted}, {unread} unread"
        );
    }
    assert_eq!(said("tx_pkts_nic"), Some(card.from_driver));
    assert_eq!(said("rx_pkts_nic"), Some(card.to_driver));
    for name in [
        "rx_missed_errors",
        "rx_csum_offload_errors",
        "tx_timeout_count",
    ] {
        assert_eq!(said(name), Some(0), "{name}");
    }
}

/// More frames than an emulated processor takes: the card counts those among the good ones that it has no room for, and
/// the driver subtracts them.
#[test]
fn frames_that_find_no_room_are_counted_as_the_driver_expects() {
    let Some(lab) = Lab::open("ixgbe_overrun") else {
        return;
    };
    let script = "
        /bin/ip link set eth0 up
        wait_until up eth0
        # All that is made is good, and is received or missed.
        all() { test $(($(stat rx_pkts_nic) + $(stat rx_missed_errors))) -eq 1000000; }
        wait_until all
        ethtool -S eth0 > /tmp/kept
        for name in rx_pkts_nic rx_missed_errors; do say $name: $(kept $name); done";
    let wires = ["gen,rate=1mpps,frames=1000000", "null"];
    let outcome = run_on(&lab, wires, script, |_| {});
    let said = |name: &str| -> u64 {
        let said = outcome.ended.value(&format!("test: {name}:"));
        said.and_then(|said| said.parse().ok()).unwrap_or(u64::MAX)
    };
    let card = &outcome.carried[0];
    let (good, missed) = (card.counter("GPRC"), card.counter("MPC"));
    assert!(missed > 0, "{card:?}");
    assert_eq!(said("rx_missed_errors"), missed, "{card:?}");
    assert_eq!(said("rx_pkts_nic"), good - missed, "{card:?}");
}

/// What the driver reads of the card (`ethtool -S`), and the register that it reads it from.
const COUNTED: [(&str, &str); 9] = [
    ("tx_pkts_nic", "GPTC"),
    ("rx_pkts_nic", "GPRC"),
    ("tx_bytes_nic", "GOTC"),
    ("rx_bytes_nic", "GORC"),
    ("broadcast", "BPRC"),
    ("multicast", "MPRC"),
    ("rx_missed_errors", "MPC"),
    ("rx_crc_errors", "CRCERRS"),
    ("rx_length_errors", "RLEC"),
];

#[test]
fn filters_tags_and_queues_do_what_they_are_told() {
    let Some(lab) = Lab::open("ixgbe_filters") else {
        return;
    };
    let script = r#"
        apart
        # Flows are spread over both queues.
        for host in $(seq 10 40); do
          there /bin/ip addr add 10.0.0.$host/24 dev eth1
          known 10.0.0.$host eth0 $THERE_MAC
        done
        for host in $(seq 10 40); do wait_until ping -c 1 -W 1 10.0.0.$host; done
        # Each processor has a queue to send by.
        for processor in 1 2; do taskset $processor ping -q -c 1 -W 60 10.0.0.10; done
        say queues $(ethtool -S eth0 | grep -c '[tr]x_queue_[01]_packets: [1-9]')
        # Tags, stripped and inserted by the port; one it has no part in does not pass.
        /bin/ip link add link eth0 name tagged type vlan id 100
        there /bin/ip link add link eth1 name tagged type vlan id 100
        /bin/ip addr add 10.1.0.1/24 dev tagged
        there /bin/ip addr add 10.1.0.2/24 dev tagged
        /bin/ip link set tagged up
        there /bin/ip link set tagged up
        wait_until ping -c 1 -W 1 10.1.0.2
        ping -c 3 10.1.0.2
        there /bin/ip link add link eth1 name stranger type vlan id 200
        there /bin/ip addr add 10.2.0.2/24 dev stranger
        there /bin/ip link set stranger up
        known 10.1.0.2 tagged $THERE_MAC
        there_known 10.1.0.1 tagged $HERE_MAC
        there_known 10.2.0.1 stranger $HERE_MAC
        quiet
        before=$(kept rx_packets)
        there ping -c 20 -i 0.1 -W 1 10.2.0.1 || true
        quiet
        say strange $(( $(kept rx_packets) - before ))
        # Multicast: only groups somebody joined, until all are wanted.
        before=$(kept multicast)
        there ping -c 3 -W 1 -I eth1 224.1.2.3 || true
        quiet
        say unwanted $(( $(kept multicast) - before ))
        /bin/ip link set eth0 allmulticast on
        more_multicast() { there ping -c 3 -W 1 -I eth1 224.1.2.3 || true; test $(stat multicast) -ge $((before + 3)); }
        wait_until more_multicast
        # Promiscuous: frames to others.
        there_known 10.0.0.99 eth1 02:00:00:00:00:99
        quiet
        before=$(kept rx_pkts_nic)
        there ping -c 3 -W 1 10.0.0.99 || true
        quiet
        say others $(( $(kept rx_pkts_nic) - before ))
        /bin/ip link set eth0 promisc on
        more_of_others() { there ping -c 3 -W 1 10.0.0.99 || true; test $(stat rx_pkts_nic) -ge $((before + 3)); }
        wait_until more_of_others
        say all done"#;
    let outcome = run(&lab, script, |_| {});
    let ended = &outcome.ended;
    assert_eq!(ended.value("test: queues"), Some("4"));
    assert_eq!(ended.value("test: unwanted"), Some("0"));
    assert_eq!(ended.value("test: strange"), Some("0"));
    assert_eq!(ended.value("test: others"), Some("0"));
    assert_eq!(ended.value("test: all"), Some("done"));
}

#[test]
fn a_reset_amid_traffic_is_survived() {
    let Some(lab) = Lab::open("ixgbe_reset") else {
        return;
    };
    let script = format!(
        "{TRANSFER}
        apart
        transfer & busy=$!
        # Some megabytes more have come than at the last reset, or all.
        arrived() {{ test $(/bin/stat -c %s /tmp/got) -ge $1 || test ! -e /proc/$busy; }}
        amid=0
        for turn in $(seq 5); do
          wait_until arrived $((turn * 4194304))
          # New rings, and with them a reset.
          ethtool -G eth0 rx $((512 + 64 * turn)) tx 512
          if kill -0 $busy; then amid=$turn; fi
        done
        wait $busy
        # One reset at least came before the last byte.
        say resets amid the transfer: $amid
        test $amid -ge 1
        answered 3 10.0.0.2
        say again"
    );
    let outcome = run(&lab, &script, |machine| {
        machine.limit(Duration::from_secs(600));
    });
    assert!(outcome.ended.text.contains("test: again"));
}
