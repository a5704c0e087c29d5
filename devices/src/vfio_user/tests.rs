//! A client written by hand from the protocol's description, against a served 82599: what a driver needs,
//! and what a hostile process tries.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use super::message::{
    Capabilities, Command, DmaMap, DmaUnmap, Header, RegionAccess, Version, dma, flag, region,
};
use super::*;
use crate::ixgbe::Identity;
use crate::ixgbe::registers as r;
use crate::wire::NullWire;

mod driver;
mod hostile;
mod memory;

/// Where the client's memory is on the bus.
const MEMORY: u64 = 0x4000_0000;
const MEMORY_BYTES: u64 = 1 << 20;

/// Makes a socket as a killed server leaves it. Not only closed: a process that another test starts just now has it open
/// as well for a moment.
pub(super) fn leave_socket(path: &Path) {
    let socket = UnixListener::bind(path).unwrap();
    rustix::net::shutdown(&socket, rustix::net::Shutdown::Both).unwrap();
}

fn null_device() -> Served82599 {
    Served82599::new(Identity::default(), NullWire::new().into()).unwrap()
}

/// A process that uses a device.
struct Client {
    socket: Socket,
    id: u16,
    session: Option<JoinHandle<SessionReport>>,
}

impl Client {
    /// One that has said nothing yet.
    fn silent(device: &Served82599) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let device = device.clone();
        let session = std::thread::spawn(move || session::serve(&device, theirs).0);
        let socket = Socket::from(ours);
        socket.set_timeout(Duration::from_secs(60)).unwrap();
        Self {
            socket,
            id: 0,
            session: Some(session),
        }
    }

    /// One that has said which version it speaks.
    fn new(device: &Served82599) -> Self {
        let mut client = Self::silent(device);
        let answer = client.ask(Command::Version, &greeting(), &[]).unwrap();
        assert_eq!(
            Version::parse(&answer),
            Some(Version { major: 0, minor: 0 })
        );
        let capabilities = Capabilities::parse(&answer[Version::SIZE..]);
        assert_eq!(capabilities, Some(Capabilities::OURS));
        client
    }

    fn ask(
        &mut self,
        command: Command,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<u8>, u32> {
        self.ask_for_fds(command, body, fds).map(|(body, _)| body)
    }

    fn ask_for_fds(
        &mut self,
        command: Command,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), u32> {
        self.id += 1;
        let header = Header::request(self.id, command, body.len());
        self.socket.send(&header, body, fds).unwrap();
        self.answer(header)
    }

    fn answer(&mut self, asked: Header) -> Result<(Vec<u8>, Vec<OwnedFd>), u32> {
        let mut body = Vec::new();
        let answer = self.socket.receive(&mut body).unwrap().expect("an answer");
        let Header {
            id, command, flags, ..
        } = answer.header;
        assert_eq!((id, command), (asked.id, asked.command));
        assert_eq!(flags & flag::TYPE, flag::REPLY);
        match answer.header.refused() {
            Some(errno) => Err(errno),
            None => Ok((body, answer.fds)),
        }
    }

    fn read(&mut self, region: u32, offset: u64, count: u32) -> Result<Vec<u8>, u32> {
        let access = RegionAccess {
            offset,
            region,
            count,
        };
        let answer = self.ask(Command::RegionRead, &put(|out| access.put(out)), &[])?;
        assert_eq!(RegionAccess::parse(&answer), Some(access));
        Ok(answer[RegionAccess::SIZE..].to_vec())
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), u32> {
        self.ask(Command::RegionWrite, &write_body(region, offset, data), &[])
            .map(drop)
    }

    fn config16(&mut self, at: u64) -> u16 {
        let bytes = self.read(region::CONFIG, at, 2).unwrap();
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    fn register(&mut self, offset: u32) -> u32 {
        let bytes = self.read(0, offset.into(), 4).unwrap();
        u32::from_le_bytes(*bytes.first_chunk().unwrap())
    }

    /// As drivers write registers: without waiting for an answer.
    fn set_register(&mut self, offset: u32, value: u32) {
        let body = write_body(0, offset.into(), &value.to_le_bytes());
        let header = Header::request(0, Command::RegionWrite, body.len());
        let flags = flag::NO_REPLY;
        self.socket
            .send(&Header { flags, ..header }, &body, &[])
            .unwrap();
    }

    /// Lends all of some new memory, at [`MEMORY`].
    fn lend(&mut self) -> OwnedFd {
        let file = memory(MEMORY_BYTES);
        self.map(whole(MEMORY, MEMORY_BYTES), Some(&file)).unwrap();
        file
    }

    fn map(&mut self, map: DmaMap, memory: Option<&OwnedFd>) -> Result<(), u32> {
        let fds: Vec<_> = memory.iter().map(|fd| fd.as_fd()).collect();
        self.ask(Command::DmaMap, &put(|out| map.put(out)), &fds)
            .map(drop)
    }

    fn unmap(&mut self, address: u64, size: u64, flags: u32) -> Result<(), u32> {
        let unmap = DmaUnmap {
            argsz: 24,
            flags,
            address,
            size,
        };
        self.ask(Command::DmaUnmap, &put(|out| unmap.put(out)), &[])
            .map(drop)
    }

    /// What the server says of the session after it is over.
    fn leave(mut self) -> SessionReport {
        self.socket
            .stream()
            .shutdown(std::net::Shutdown::Both)
            .unwrap();
        self.session.take().unwrap().join().unwrap()
    }
}

fn greeting() -> Vec<u8> {
    put(|out| {
        Version { major: 0, minor: 0 }.put(out);
        Capabilities::OURS.put(out);
    })
}

fn put(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn write_body(region: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let count = data.len() as u32;
    let mut body = put(|out| {
        RegionAccess {
            offset,
            region,
            count,
        }
        .put(out)
    });
    body.extend_from_slice(data);
    body
}

fn memory(bytes: u64) -> OwnedFd {
    let fd = unsealed(bytes);
    fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
    fd
}

fn unsealed(bytes: u64) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("client", flags).unwrap();
    rustix::fs::ftruncate(&fd, bytes).unwrap();
    fd
}

fn whole(address: u64, size: u64) -> DmaMap {
    DmaMap {
        argsz: DmaMap::SIZE as u32,
        flags: dma::READ | dma::WRITE,
        offset: 0,
        address,
        size,
    }
}

fn errno(errno: Errno) -> Result<(), u32> {
    Err(errno.raw_os_error().unsigned_abs())
}

fn reachable(device: &Served82599, address: u64) -> bool {
    device.memory().access().slice(address, 1).is_some()
}

/// A receive queue of eight descriptors at the memory's start, buffers behind, set up by messages.
fn start_receiving(client: &mut Client, memory: &File) {
    use std::os::unix::fs::FileExt;
    for index in 0..8_u64 {
        let buffer = MEMORY + 4096 + 2048 * index;
        memory
            .write_all_at(&buffer.to_le_bytes(), index * 16)
            .unwrap();
    }
    for (offset, value) in [
        (r::FCTRL, r::FCTRL_UNICAST | r::FCTRL_BROADCAST),
        (r::RDRXCTL, r::RDRXCTL_CRC_STRIP),
        (r::GPIE, r::GPIE_MSIX),
        (r::IVAR, 0x83),
        (r::EIMS_EX, 1 << 3),
        (0x1000, MEMORY as u32),
        (0x1004, 0),
        (0x1008, 128),
        (r::SRRCTL_LOW, 1 << 25 | 2),
        (0x1028, r::QUEUE_ENABLE),
        (r::RXCTRL, r::RXCTRL_ENABLE),
        (0x1018, 7),
    ] {
        client.set_register(offset, value);
    }
}
