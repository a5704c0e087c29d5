//! What a hostile process tries, and one that leaves in the middle.

use std::io::Write;

use proptest::prelude::*;

use super::*;

#[test]
fn nonsense_is_refused_and_the_session_goes_on() {
    let device = null_device();
    let mut client = Client::silent(&device);
    let early = client.ask(Command::DeviceInfo, &[0; 16], &[]).map(drop);
    assert_eq!(early, errno(Errno::PROTO));
    let later = put(|out| Version { major: 1, minor: 0 }.put(out));
    assert!(client.ask(Command::Version, &later, &[]).is_err());
    client.ask(Command::Version, &greeting(), &[]).unwrap();
    let file = memory(4096);
    let fds = [file.as_fd(), file.as_fd()];
    for number in 1..=Command::DeviceReset as u16 {
        let command = Command::from_number(number).unwrap();
        if command != Command::DeviceReset && command != Command::DeviceInfo {
            assert!(client.ask(command, &[1], &[]).is_err(), "{command:?}");
        }
        assert!(
            client.ask(command, &[0; 64], &fds).is_err(),
            "{command:?} with descriptors"
        );
    }
    for command in [0, 14, 15, u16::MAX] {
        let header = Header {
            command,
            ..Header::request(9, Command::Version, 3)
        };
        client.socket.send(&header, b"abc", &[]).unwrap();
        assert_eq!(client.answer(header).map(drop), errno(Errno::OPNOTSUPP));
    }
    for (region, offset, count) in [
        (0, 512 * 1024, 4),
        (0, u64::MAX, 4),
        (0, 0, u32::MAX),
        (0, 0, 0),
        (region::CONFIG, 4093, 4),
        (1, 0, 4),
        (TAILS, 0, 4),
        (u32::MAX, 0, 4),
    ] {
        assert!(
            client.read(region, offset, count).is_err(),
            "{region} {offset} {count}"
        );
    }
    // More data than announced, and less.
    for data in [3, 5] {
        let mut body = write_body(0, 0, &[0; 4]);
        body.resize(RegionAccess::SIZE + data, 0);
        assert!(client.ask(Command::RegionWrite, &body, &[]).is_err());
    }
    // An answer that nobody asked for has no answer.
    let stray = Header::request(1, Command::RegionRead, 0).answer(0);
    client.socket.send(&stray, &[], &[]).unwrap();
    let long = vec![0; super::message::MAX_BODY + 1];
    assert_eq!(
        client.ask(Command::RegionWrite, &long, &[]).map(drop),
        errno(Errno::TOOBIG)
    );
    assert_eq!(client.config16(0), 0x8086);
    let report = client.leave();
    assert!(report.refused > 40 && report.refused < report.messages);
}

#[test]
fn a_client_may_leave_at_any_byte() {
    let device = null_device();
    let mut conversation = Vec::new();
    for (command, body) in [
        (Command::Version, greeting()),
        (Command::DeviceInfo, vec![0; 16]),
        (Command::RegionWrite, write_body(region::CONFIG, 4, &[6, 0])),
        (Command::RegionRead, write_body(0, 8, &[])),
    ] {
        Header::request(1, command, body.len()).put(&mut conversation);
        conversation.extend_from_slice(&body);
    }
    for len in 0..=conversation.len() {
        let client = Client::silent(&device);
        client
            .socket
            .stream()
            .write_all(&conversation[..len])
            .unwrap();
        client.leave();
    }
    let mut next = Client::new(&device);
    assert_eq!(
        next.config16(4),
        0,
        "nothing is left of who was there before"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever comes, the session ends when the client leaves, and the next client finds a good device.
    #[test]
    fn any_messages_leave_a_good_device(
        messages in proptest::collection::vec(
            (0_u16..16, any::<bool>(), 0_usize..3, proptest::collection::vec(any::<u8>(), 0..64), any::<u8>()),
            1..24,
        ),
        greets in any::<bool>(),
    ) {
        let device = null_device();
        let client = if greets { Client::new(&device) } else { Client::silent(&device) };
        let file = memory(8192);
        for (command, posted, fds, mut body, small) in messages {
            // Some fields are likelier to mean something when they are small.
            for byte in body.iter_mut().skip(usize::from(small % 4)).step_by(4) {
                *byte = if small < 128 { 0 } else { *byte % 8 };
            }
            let flags = if posted { flag::NO_REPLY } else { 0 };
            let header = Header { command, flags, ..Header::request(5, Command::Version, body.len()) };
            let fds = vec![file.as_fd(); fds];
            if client.socket.send(&header, &body, &fds).is_err() {
                break;
            }
        }
        client.leave();
        let mut next = Client::new(&device);
        prop_assert_eq!(next.config16(2), 0x10FB);
        next.leave();
    }
}

#[test]
fn a_message_shorter_than_its_header_ends_the_session() {
    let client = Client::silent(&null_device());
    let header = Header {
        size: 15,
        ..Header::request(1, Command::Version, 0)
    };
    client
        .socket
        .stream()
        .write_all(&put(|out| header.put(out)))
        .unwrap();
    let mut body = Vec::new();
    assert!(matches!(
        client.socket.receive(&mut body),
        Ok(None) | Err(_)
    ));
}

#[test]
fn clients_come_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nic");
    leave_socket(&path);
    let listener = Listener::bind(&path).unwrap();
    assert!(matches!(Listener::bind(&path), Err(ListenError::InUse(_))));
    let device = null_device();
    let connect = || Socket::from(UnixStream::connect(&path).unwrap());
    let greet = |socket: &Socket| {
        let body = greeting();
        socket
            .send(
                &Header::request(1, Command::Version, body.len()),
                &body,
                &[],
            )
            .unwrap();
        let answer = socket.receive(&mut Vec::new()).unwrap().unwrap();
        answer.header.refused()
    };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| listener.run(&device, &|_, _| {}));
        for _ in 0..3 {
            // The one before may not be gone yet.
            let mut first = connect();
            while greet(&first).is_some() {
                first = connect();
            }
            assert_eq!(
                greet(&connect()),
                Some(Errno::BUSY.raw_os_error().unsigned_abs())
            );
        }
        let _last = connect();
        listener.stop();
        run.join().unwrap().unwrap();
    });
    assert!(listener.clients() >= 3);
    drop(listener);
    assert!(!path.exists());
    assert!(matches!(
        Listener::bind(&folder.path().join("no/such")),
        Err(ListenError::Bind { .. })
    ));
}
