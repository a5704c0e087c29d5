//! Wires on the host's network interfaces, each test in a network namespace of its own.
//!
//! A namespace belongs to the test's thread and goes away with it. Making one takes root (or
//! CAP_SYS_ADMIN), and iproute2 and the TAP driver to fill it; without, these tests say so and check
//! nothing.

use std::io::Write;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::frame::{L4, Layout, ReceiveChecksums, Verdict, vlan};

/// Says that the calling test did not run, past libtest's capture, so that it is not counted as passed.
fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a wire's test");
    let _ = writeln!(std::io::stderr(), "SKIP {test}: {reason}");
}

/// Runs `test` in a new network namespace.
fn in_namespace(test: fn()) {
    if Command::new("ip").arg("-V").output().is_err() {
        return skip("needs `ip`: apt-get install iproute2");
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return skip("needs /dev/net/tun: modprobe tun");
    }
    let thread = std::thread::spawn(move || unshare(CloneFlags::CLONE_NEWNET).map(|()| test()));
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => skip(&format!("needs root for a network namespace: {error}")),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs `ip` with these arguments in the test's namespace.
fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}

/// Waits until the kernel sends what it is given on interface `name`. An interface that came up before its
/// other end drops frames, silently, until the kernel has taken note of the carrier.
fn wait_for_carrier(name: &str) {
    for _ in 0..60_000 {
        let mut show = Command::new("ip");
        show.args(["-o", "link", "show", "dev", name]);
        let shown = show.output().expect("iproute2").stdout;
        let shown = String::from_utf8_lossy(&shown);
        if shown.contains(" state UP ") && !shown.contains(" qdisc noop ") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("{name} has no carrier");
}

/// A veth pair, up, without the addresses that make the kernel chatter.
fn veth_pair() {
    ip("link add left type veth peer name right");
    for end in ["left", "right"] {
        ip(&format!("link set {end} mtu 9000 addrgenmode none"));
        ip(&format!("link set {end} up"));
    }
    ["left", "right"].into_iter().for_each(wait_for_carrier);
}

/// Waits for the next frame.
fn next(wire: &mut impl Wire) -> Vec<u8> {
    for attempt in 0..120_000u64 {
        if let Some(frame) = wire.peek(attempt * 1_000_000) {
            let frame = frame.to_vec();
            wire.consume();
            return frame;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("no frame in two minutes");
}

/// A broadcast frame of `length` bytes that means nothing to the kernel.
fn frame(length: usize, fill: u8) -> Vec<u8> {
    let mut frame = vec![fill; length];
    frame[..6].fill(0xFF);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[12..14].copy_from_slice(&[0x88, 0xB5]);
    frame
}

#[test]
fn a_tap_carries_frames_both_ways() {
    in_namespace(|| {
        let mut tap = TapWire::open("tap0").unwrap();
        ip("link set tap0 mtu 9000");
        let mut other = VethWire::open("tap0").unwrap();
        for length in [14, 60, 1514, 9014] {
            assert!(tap.transmit(0, &frame(length, 3)));
            assert_eq!(next(&mut other), frame(length, 3));
            assert!(other.transmit(0, &frame(length, 4)));
            // The kernel may have something to say of its own (IPv6 neighbour discovery).
            while next(&mut tap) != frame(length, 4) {}
        }
        assert_eq!(tap.report().from_device_frames, 4);
        assert!(tap.report().to_device_frames >= 4);
        assert_eq!(tap.report().errors, WireErrors::default());
        // Too short to be a frame: refused, not retried for ever.
        assert!(tap.transmit(0, &[0; 5]));
        assert_eq!(tap.report().errors.refused, 1);
        tap.link().set(false);
        assert!(tap.peek(u64::MAX).is_none());
    });
}

#[test]
fn a_veth_pair_carries_frames_both_ways() {
    in_namespace(|| {
        veth_pair();
        let (mut left, mut right) = (
            VethWire::open("left").unwrap(),
            VethWire::open("right").unwrap(),
        );
        for length in [14, 60, 1514, 9014] {
            assert!(left.transmit(0, &frame(length, 1)));
            assert_eq!(next(&mut right), frame(length, 1));
            assert!(right.transmit(0, &frame(length, 2)));
            assert_eq!(next(&mut left), frame(length, 2));
        }
        // Own frames do not come back.
        assert!(left.peek(u64::MAX - IDLE).is_none());
        // Longer than the interface's MTU.
        assert!(left.transmit(0, &frame(9500, 1)));
        assert_eq!(left.report().errors.refused, 1);
        ip("link del left");
        assert!(left.transmit(0, &frame(60, 1)));
        assert_eq!(left.report().errors.refused, 2);
    });
}

const IDLE: u64 = super::interface::IDLE_NS;

#[test]
fn vlan_tags_survive() {
    in_namespace(|| {
        veth_pair();
        let (mut left, mut right) = (
            VethWire::open("left").unwrap(),
            VethWire::open("right").unwrap(),
        );
        for ether_type in [0x8100, 0x88A8] {
            let mut tagged = frame(60, 7);
            vlan::insert(&mut tagged, ether_type, 0x6064);
            assert!(left.transmit(0, &tagged));
            assert_eq!(next(&mut right), tagged);
            let mut twice = tagged.clone();
            vlan::insert(&mut twice, 0x88A8, 0x0005);
            assert!(left.transmit(0, &twice));
            assert_eq!(next(&mut right), twice);
        }
    });
}

#[test]
fn a_checksum_left_to_hardware_is_filled_in() {
    in_namespace(|| {
        veth_pair();
        ip("addr add 10.9.9.1/24 dev left");
        ip("neigh add 10.9.9.2 lladdr 02:00:00:00:00:02 dev left");
        let mut right = VethWire::open("right").unwrap();
        let socket = std::net::UdpSocket::bind("10.9.9.1:0").unwrap();
        socket.send_to(&[5; 100], "10.9.9.2:9").unwrap();
        let sent = loop {
            let frame = next(&mut right);
            if Layout::of(&frame).l4 == L4::Udp && frame.len() == 142 {
                break frame;
            }
        };
        let checksums = ReceiveChecksums::verify(&sent, &Layout::of(&sent));
        assert_eq!((checksums.ip, checksums.l4), (Verdict::Good, Verdict::Good));
    });
}

#[test]
fn what_is_wrong_is_named() {
    assert!(matches!(
        TapWire::open("a name"),
        Err(WireError::InterfaceName(_))
    ));
    assert!(matches!(
        VethWire::open("../x"),
        Err(WireError::InterfaceName(_))
    ));
    assert!(matches!(
        VethWire::open("nonexistent0"),
        Err(WireError::NoInterface(_))
    ));
    in_namespace(|| {
        veth_pair();
        assert!(matches!(TapWire::open("left"), Err(WireError::NotTap(_))));
        let _held = TapWire::open("tap0").unwrap();
        assert!(matches!(TapWire::open("tap0"), Err(WireError::Busy(_))));
        ip("tuntap add mode tun name tun0");
        assert!(matches!(TapWire::open("tun0"), Err(WireError::NotTap(_))));
    });
}

#[test]
fn without_permission_the_remedy_is_named() {
    match VethWire::open("lo") {
        Ok(_) => skip("needs a user who may not open packet sockets: do not run as root"),
        Err(error) => {
            let text = error.to_string();
            assert!(matches!(error, WireError::Permission { .. }), "{text}");
            assert!(
                text.starts_with("lo: no permission") && text.contains("CAP_NET_RAW"),
                "{text}"
            );
            let error = TapWire::open("tap0").unwrap_err().to_string();
            assert!(error.contains("CAP_NET_ADMIN"), "{error}");
        }
    }
}

#[test]
fn a_visitor_sees_the_concrete_wire() {
    struct Kind;
    impl WireVisitor for Kind {
        type Output = &'static str;
        fn visit<W: Wire>(self, wire: &mut W) -> &'static str {
            wire.transmit(0, &[0; 60]);
            std::any::type_name::<W>()
        }
    }
    let mut wire = AnyWire::from(NullWire::new());
    assert!(wire.visit(Kind).ends_with("NullWire"));
    assert_eq!(wire.report().from_device_frames, 1);
    wire.link().set(false);
    assert!(!wire.link_up() && wire.drops_when_full() && wire.peek(0).is_none());
    wire.finish();
}
