//! A server that does as its script says.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use sumac_devices::vfio_user::Socket;
use sumac_devices::vfio_user::message::{
    Area, Capabilities, Capability, Command, DeviceInfo, DmaMap, DmaUnmap, Header, IrqInfo,
    RegionAccess, RegionInfo, SetIrqs, SparseHeader, Version, device, irq, region,
};

const BAR: u64 = 0x8000;
/// The part of the BAR that can be mapped.
const AREA: Area = Area {
    offset: 0x4000,
    size: 0x1000,
};

/// What a server does instead of answering.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Misdeed {
    HangUp,
    Silence,
    Trickle,
    OtherQuestion,
    TooShort,
    TooLong,
    Nonsense,
    Questions,
    Refusal,
    /// An answer with this body, whatever was asked.
    Body,
}

/// What the server does, and what it saw.
pub struct Script {
    /// Which message is answered by a misdeed, from 0; none are, by default.
    pub misdeed: Option<(usize, Misdeed)>,
    pub version: (u16, u16),
    pub sealed: bool,
    pub max_fds: usize,
    pub body: Vec<u8>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            misdeed: None,
            version: (0, 0),
            sealed: true,
            max_fds: 1,
            body: Vec::new(),
        }
    }
}

#[derive(Default)]
pub struct Seen {
    pub mapped: BTreeMap<u64, File>,
    pub events: Vec<(SetIrqs, Vec<OwnedFd>)>,
    pub messages: usize,
    pub registers: BTreeMap<u64, u32>,
}

struct Server {
    socket: Socket,
    script: Script,
    bar: File,
    config: [u8; 64],
    seen: Arc<Mutex<Seen>>,
}

pub fn serve(stream: UnixStream, script: Script) -> (JoinHandle<()>, Arc<Mutex<Seen>>) {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let bar = File::from(memfd_create(c"bar", flags).unwrap());
    bar.set_len(BAR).unwrap();
    if script.sealed {
        fcntl(&bar, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    }
    let mut config = [0; 64];
    config[..4].copy_from_slice(&[0x86, 0x80, 0xfb, 0x10]);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut server = Server {
        socket: stream.into(),
        script,
        bar,
        config,
        seen: seen.clone(),
    };
    (std::thread::spawn(move || server.run()), seen)
}

impl Server {
    fn run(&mut self) {
        let mut body = Vec::new();
        while let Ok(Some(message)) = self.socket.receive(&mut body) {
            let number = self.seen.lock().unwrap().messages;
            self.seen.lock().unwrap().messages += 1;
            if let Some((when, misdeed)) = self.script.misdeed
                && when == number
            {
                if misdeed == Misdeed::HangUp {
                    return;
                }
                self.misbehave(misdeed, &message.header);
                continue;
            }
            let (answer, fd) = self.answer(&message.header, &body, message.fds);
            let header = message.header.answer(answer.len());
            let fds: Vec<_> = fd.iter().map(|fd: &File| fd.as_fd()).collect();
            if self.socket.send(&header, &answer, &fds).is_err() {
                return;
            }
        }
    }

    fn misbehave(&self, misdeed: Misdeed, question: &Header) {
        let answer = question.answer(0);
        let send = |header: &Header, body: &[u8]| {
            let _ = self.socket.send(header, body, &[]);
        };
        match misdeed {
            Misdeed::HangUp | Misdeed::Silence => {}
            Misdeed::Trickle => {
                use std::io::Write;
                let mut start = Vec::new();
                question.answer(1 << 16).put(&mut start);
                let mut bytes = start.into_iter().chain(std::iter::repeat(0));
                let mut sent = |byte| self.socket.stream().write_all(&[byte]).is_ok();
                while bytes.next().is_some_and(&mut sent) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            Misdeed::OtherQuestion => send(
                &Header {
                    id: question.id.wrapping_add(1),
                    ..answer
                },
                &[],
            ),
            Misdeed::TooShort => send(&Header { size: 3, ..answer }, &[]),
            Misdeed::TooLong => send(&question.answer(1 << 22), &vec![0; 1 << 22]),
            Misdeed::Nonsense => send(&question.answer(7), &[0xFF; 7]),
            Misdeed::Questions => {
                for id in 0..100 {
                    send(&Header::request(id, Command::DmaRead, 0), &[]);
                }
            }
            Misdeed::Body => send(&question.answer(self.script.body.len()), &self.script.body),
            Misdeed::Refusal => send(&question.refusal(16), &[]),
        }
    }

    fn answer(
        &mut self,
        header: &Header,
        body: &[u8],
        fds: Vec<OwnedFd>,
    ) -> (Vec<u8>, Option<File>) {
        let mut out = Vec::new();
        let mut fd = None;
        match Command::from_number(header.command).unwrap() {
            Command::Version => {
                let (major, minor) = self.script.version;
                Version { major, minor }.put(&mut out);
                Capabilities {
                    max_fds: self.script.max_fds,
                    ..Capabilities::default()
                }
                .put(&mut out);
            }
            Command::DeviceInfo => DeviceInfo {
                argsz: 16,
                flags: device::PCI | device::RESET,
                regions: region::PCI_COUNT,
                irqs: irq::PCI_COUNT,
            }
            .put(&mut out),
            Command::RegionInfo => {
                let index = RegionInfo::parse(body).unwrap().index;
                self.region(index, &mut out);
                fd = (index == 0).then(|| self.bar.try_clone().unwrap());
            }
            Command::IrqInfo => IrqInfo {
                count: 64,
                ..IrqInfo::parse(body).unwrap()
            }
            .put(&mut out),
            Command::SetIrqs => {
                let set = SetIrqs::parse(body).unwrap();
                self.seen.lock().unwrap().events.push((set, fds));
            }
            Command::DmaMap => {
                let map = DmaMap::parse(body).unwrap();
                let file = File::from(fds.into_iter().next().unwrap());
                self.seen.lock().unwrap().mapped.insert(map.address, file);
            }
            Command::DmaUnmap => {
                let unmap = DmaUnmap::parse(body).unwrap();
                self.seen.lock().unwrap().mapped.remove(&unmap.address);
                out.extend_from_slice(body);
            }
            Command::RegionRead | Command::RegionWrite => {
                let access = RegionAccess::parse(body).unwrap();
                access.put(&mut out);
                let data = &body[RegionAccess::SIZE..];
                let read = self.access(&access, data);
                out.extend_from_slice(&read[..read.len() * usize::from(data.is_empty())]);
            }
            _ => self.config[4] = 2,
        }
        (out, fd)
    }

    fn region(&self, index: u32, out: &mut Vec<u8>) {
        let size = if index == 0 { BAR } else { 256 };
        RegionInfo {
            argsz: 80,
            flags: if index == 0 { 0xF } else { 0x3 },
            index,
            capabilities: if index == 0 {
                RegionInfo::SIZE as u32
            } else {
                0
            },
            size,
            offset: 0,
        }
        .put(out);
        if index == 0 {
            Capability {
                id: region::CAPABILITY_SPARSE,
                version: 1,
                next: 0,
            }
            .put(out);
            SparseHeader {
                areas: 1,
                reserved: 0,
            }
            .put(out);
            AREA.put(out);
        }
    }

    fn access(&mut self, access: &RegionAccess, data: &[u8]) -> Vec<u8> {
        let count = access.count as usize;
        if access.region == region::CONFIG {
            let place = &mut self.config[access.offset as usize..][..count];
            if !data.is_empty() {
                place.copy_from_slice(data);
            }
            return place.to_vec();
        }
        let mut seen = self.seen.lock().unwrap();
        if let Ok(value) = data.try_into() {
            seen.registers
                .insert(access.offset, u32::from_le_bytes(value));
        }
        let value = seen.registers.get(&access.offset).copied().unwrap_or(0);
        value.to_le_bytes().to_vec()
    }
}
