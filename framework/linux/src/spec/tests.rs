//! Every form and every mistake.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<DeviceSpec, SpecError> {
    text.parse()
}

/// The message of a spec that is refused.
fn refusal(text: &str) -> String {
    match parse(text) {
        Ok(spec) => panic!("`{text}` was taken for {spec:?}"),
        Err(error) => error.to_string(),
    }
}

fn sim(text: &str) -> SimSpec {
    match parse(text) {
        Ok(DeviceSpec::Sim(sim)) => sim,
        other => panic!("`{text}` gave {other:?}"),
    }
}

fn together(specs: &[&str]) -> Result<(), String> {
    let specs: Vec<DeviceSpec> = specs.iter().map(|spec| parse(spec).unwrap()).collect();
    check_together(&specs).map_err(|error| error.to_string())
}

#[test]
fn pci_addresses() {
    for text in ["0000:03:00.0", "03:00.0", "3:0.0"] {
        assert_eq!(parse(text).unwrap().to_string(), "0000:03:00.0");
    }
    assert_eq!(parse("10000:AB:1f.7").unwrap().to_string(), "10000:ab:1f.7");
    for text in [
        "03:00",
        "03:20.0",
        "03:00.8",
        "000:03:00.0",
        "0000:03:00.0.0",
        "03:00.",
        "0:0:0:0.0",
    ] {
        let message = refusal(text);
        assert!(
            message.contains(text) && message.contains("0000:03:00.0"),
            "{message}"
        );
    }
}

#[test]
fn vfio_user() {
    assert_eq!(
        parse("vfio-user:/run/a:b.sock"),
        Ok(DeviceSpec::VfioUser("/run/a:b.sock".into()))
    );
    assert_eq!(parse("vfio-user:"), Err(SpecError::NoSocket));
}

#[test]
fn plain_sim_is_a_generator_at_line_rate() {
    let usual = SimSpec::default();
    assert_eq!(sim("sim"), usual);
    assert_eq!(sim("sim:gen"), usual);
    assert_eq!(sim("sim:gen,size=64,rate=line,flows=64"), usual);
    let WireSpec::Gen(generator) = usual.wire else {
        panic!("not a generator")
    };
    assert_eq!((generator.size, generator.rate), (64, Rate::Line));
}

#[test]
fn when_a_card_goes_and_comes_back() {
    let pulled = |text: &str| sim(text).pulled.map(|Pulled { after, back }| (after, back));
    let ms = Duration::from_millis;
    assert_eq!(pulled("sim:null"), None);
    assert_eq!(pulled("sim:null,gone=1s"), Some((ms(1000), None)));
    let both = "sim:rate=max,gone=500ms,back=2s";
    assert_eq!(pulled(both), Some((ms(500), Some(ms(2000)))));
    assert_eq!(sim(both).to_string(), "sim:rate=max,gone=500ms,back=2000ms");
    for bad in [
        "gone",
        "gone=1",
        "back=1s",
        "gone=1s,back=1s",
        "gone=1s,back=",
        "back=2s,gone=1s",
    ] {
        let message = refusal(&format!("sim:{bad}"));
        assert!(message.contains("such as"), "{message}");
    }
}

#[test]
fn sim_keys() {
    let spec =
        sim("sim:frames=1000000,size=1518,rate=1.5mpps,flows=16,id=0x1517,mac=02:00:00:00:00:01");
    assert_eq!(spec.device_id, Some(0x1517));
    assert_eq!(spec.mac.map(|mac| mac.octets()), Some([2, 0, 0, 0, 0, 1]));
    let expected = GenSpec {
        size: 1518,
        rate: Rate::PerSecond(1_500_000),
        flows: 16,
        frames: Some(1_000_000),
    };
    assert_eq!(spec.wire, WireSpec::Gen(expected));
    let both = WireSpec::Pcap {
        input: Some("a=b.pcap".into()),
        repeats: 3,
        output: Some("c.pcap".into()),
    };
    assert_eq!(
        sim("sim:out=c.pcap,loop=3,id=10fb,pcap=a=b.pcap").wire,
        both
    );
    assert_eq!(sim("sim:null").wire, WireSpec::Null);
    assert_eq!(sim("sim:tap=t0").wire, WireSpec::Tap("t0".into()));
    assert_eq!(sim("sim:veth=eth0").wire, WireSpec::Veth("eth0".into()));
    assert_eq!(sim("sim:peer=x").wire, WireSpec::Peer("x".into()));
}

#[test]
fn rates() {
    for (text, frames) in [
        ("1pps", 1),
        ("14.88mpps", 14_880_000),
        ("2mpps", 2_000_000),
        ("1000mpps", 1_000_000_000),
        ("0.000001mpps", 1),
    ] {
        let WireSpec::Gen(generator) = sim(&format!("sim:rate={text}")).wire else {
            panic!("not a generator")
        };
        assert_eq!(generator.rate, Rate::PerSecond(frames));
    }
}

#[test]
fn values_that_cannot_be() {
    for item in [
        "gen=1",
        "size=63",
        "size=9729",
        "size=",
        "size",
        "size=+64",
        "size=6x",
        "rate=0pps",
        "rate=0mpps",
        "rate=-1pps",
        "rate=1.mpps",
        "rate=1.1234567mpps",
        "rate=.5mpps",
        "rate=fast",
        "rate=5",
        "rate=99999999999999999999pps",
        "rate=18446744073709551615mpps",
        "rate=1000.000001mpps",
        "rate=1000000001pps",
        "flows=0",
        "flows=65537",
        "frames=0",
        "pcap",
        "pcap=",
        "loop=0",
        "null=1",
        "out=",
        "tap=",
        "tap=abcdefghijklmnop",
        "tap=a b",
        "tap=a/b",
        "veth=..",
        "peer=",
        "id=10fbb",
        "id=82599",
        "id=xyzw",
        "mac=01:00:5e:00:00:01",
        "mac=00:00:00:00:00:00",
        "mac=hello",
    ] {
        let message = refusal(&format!("sim:{item}"));
        let item = if item.contains('=') {
            item.to_owned()
        } else {
            format!("{item}=")
        };
        assert!(message.contains(&format!("`{item}`: ")), "{message}");
        assert!(
            message.contains("write ") && !message.contains('\n'),
            "{message}"
        );
    }
}

#[test]
fn unknown_keys_name_the_nearest_or_all() {
    assert!(refusal("sim:pacp=x").contains("did you mean `pcap`?"));
    assert!(refusal("sim:Size=64").contains("did you mean `size`?"));
    let all = refusal("sim:colour=red");
    assert!(
        all.contains(
            "the keys are gen, size, rate, flows, frames, pcap, out, loop, null, tap, veth, peer, id, mac"
        ),
        "{all}"
    );
    for text in ["sim:", "sim:gen,", "sim:,gen"] {
        assert!(refusal(text).contains("the keys are"), "{text}");
    }
}

#[test]
fn keys_that_do_not_go_together() {
    assert!(refusal("sim:size=64,size=64").contains("`size` is there twice"));
    assert!(refusal("sim:tap=a,pcap=b").contains("`tap` and `pcap`"));
    assert!(refusal("sim:out=a,loop=2").contains("add pcap=FILE"));
    assert!(refusal("sim:null,rate=max").contains("`null` and `rate`"));
    assert!(refusal("sim:gen,tap=a").contains("`gen` and `tap`"));
    assert!(refusal("sim:pcap=b,mac=02:00:00:00:00:01,rate=max").contains("`pcap` and `rate`"));
}

#[test]
fn no_device_at_all() {
    for text in ["", "simm", "eth0", "vfio:3", "sim=gen", "vfio-user"] {
        assert!(refusal(text).contains("names no device"), "{text}");
    }
}

#[test]
fn given_twice() {
    assert_eq!(
        together(&[
            "sim",
            "sim",
            "03:00.0",
            "03:00.1",
            "sim:pcap=a",
            "sim:pcap=a"
        ]),
        Ok(())
    );
    for (specs, what) in [
        (
            ["03:00.0", "0000:03:00.0"],
            "device 0000:03:00.0 is given twice",
        ),
        (["vfio-user:s", "vfio-user:./s"], "/s is given twice"),
        (["sim:tap=x", "sim:veth=x"], "interface x is given twice"),
        (["sim:out=o", "sim:pcap=i,out=./o"], "/o is given twice"),
        (
            ["sim:mac=02:00:00:00:00:01", "sim:mac=2:0:0:0:0:1"],
            "MAC address 02:00:00:00:00:01 is given twice",
        ),
        (["sim:pcap=./f", "sim:out=f"], "`sim:out=f` writes ./f"),
        (["sim", "sim:pcap=f,out=f"], "name another file"),
    ] {
        let message = together(&specs).unwrap_err();
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn peers_pair() {
    assert_eq!(
        together(&["sim:peer=1", "sim:peer=2", "sim:peer=2", "sim:peer=1"]),
        Ok(())
    );
    assert!(
        together(&["sim:peer=1", "sim:peer=2", "sim:peer=2"])
            .unwrap_err()
            .contains("`sim:peer=1` is alone")
    );
    assert!(
        together(&["sim:peer=7"; 3])
            .unwrap_err()
            .contains("peer=7 is on 3 ports")
    );
}

fn any_wire() -> impl Strategy<Value = WireSpec> {
    let rate = prop_oneof![
        Just(Rate::Line),
        Just(Rate::Max),
        (1u64..=1_000_000_000).prop_map(Rate::PerSecond)
    ];
    let generator = (64u16..=9728, rate, 1u32..=65_536, prop::option::of(1u64..)).prop_map(
        |(size, rate, flows, frames)| {
            WireSpec::Gen(GenSpec {
                size,
                rate,
                flows,
                frames,
            })
        },
    );
    let file = || prop::option::of("[^,]{1,20}".prop_map(PathBuf::from));
    let pcap = (file(), 1u64.., file()).prop_map(|(input, times, output)| {
        let repeats = if input.is_some() { times } else { 1 };
        match (&input, &output) {
            (None, None) => WireSpec::Null,
            _ => WireSpec::Pcap {
                input,
                repeats,
                output,
            },
        }
    });
    let name = "[a-z][a-z0-9._-]{0,14}";
    prop_oneof![
        generator,
        pcap,
        name.prop_map(WireSpec::Tap),
        name.prop_map(WireSpec::Veth),
        "[^,]{1,8}".prop_map(WireSpec::Peer),
    ]
}

fn any_spec() -> impl Strategy<Value = DeviceSpec> {
    let mac = any::<[u8; 6]>().prop_map(|octets| {
        Some(octets.into()).filter(|mac: &sumac_packet::MacAddress| mac.is_unicast())
    });
    let pulled = any::<Option<(u32, Option<u16>)>>().prop_map(|times| {
        let (after, later) = times?;
        let after = Duration::from_millis(after.into());
        let back = later.map(|ms| after + Duration::from_millis(u64::from(ms) + 1));
        Some(Pulled { after, back })
    });
    let sim = (any_wire(), any::<Option<u16>>(), mac, pulled).prop_map(
        |(wire, device_id, mac, pulled)| {
            DeviceSpec::Sim(SimSpec {
                wire,
                device_id,
                mac,
                pulled,
            })
        },
    );
    let pci =
        (any::<u32>(), any::<u8>(), 0u8..32, 0u8..8).prop_map(|(domain, bus, device, function)| {
            DeviceSpec::Pci(PciAddress::new(domain, bus, device, function).unwrap())
        });
    prop_oneof![
        sim,
        pci,
        ".{1,20}".prop_map(|socket| DeviceSpec::VfioUser(socket.into()))
    ]
}

proptest! {
    #[test]
    fn display_and_parse_are_inverse(spec in any_spec()) {
        prop_assert_eq!(parse(&spec.to_string()), Ok(spec));
    }

    #[test]
    fn no_text_panics(text in "(sim:|vfio-user:|0000:)?.{0,30}") {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_list_of_keys_panics(
        items in prop::collection::vec("(gen|null|loop|size|rate|flows|frames|pcap|out|tap|veth|peer|id|mac)(=[0-9a-z.:]{0,8})?", 0..4),
    ) {
        if let Ok(spec) = parse(&format!("sim:{}", items.join(","))) {
            prop_assert_eq!(parse(&spec.to_string()), Ok(spec));
        }
    }
}
