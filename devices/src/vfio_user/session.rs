//! One client's use of a function, from its first message to its last.
//!
//! Invariant: any bytes, any descriptors and any end of the stream lead to answers, refusals or the end
//! of the session, never further. When [`serve`] returns the function is reset, and nothing of the client's
//! is held.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::fs::{SealFlags, fcntl_get_seals};
use rustix::io::Errno;

use super::function::{Function, Region};
use super::message::{
    Capabilities, Capability, Command, DeviceInfo, DmaMap, DmaUnmap, IrqInfo, MAX_MAPS,
    RegionAccess, RegionInfo, RegionIoFds, RegionType, SetIrqs, SparseHeader, VERSION, Version,
    device, dma, region,
};
use super::socket::{Received, Socket, for_at_most};
use crate::memory::{PAGE, WindowError};

/// How long one who is refused has to end what it began to say.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What happened in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionReport {
    /// Messages that came.
    pub messages: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those refused since the memory they lend is not sealed against becoming shorter.
    pub unsealed: u64,
}

/// Serves `function` to the client behind `stream` until it leaves.
///
/// # Errors
/// How the stream ended, if it was not closed after a whole message. The function is reset all the same.
pub fn serve(function: &dyn Function, stream: UnixStream) -> (SessionReport, io::Result<()>) {
    let mut session = Session {
        function,
        socket: stream.into(),
        maps: BTreeMap::new(),
        greeted: false,
        report: SessionReport::default(),
    };
    let end = session.run();
    session.leave();
    (session.report, end)
}

/// Tells a client, which has begun to say something, that the function is in use; it gets no further.
pub fn refuse(stream: UnixStream, errno: Errno) -> io::Result<()> {
    let socket = Socket::from(stream);
    socket.set_timeout(PATIENCE)?;
    let mut wait = for_at_most(PATIENCE);
    if let Some(message) = socket.receive_while(&mut Vec::new(), &mut wait)? {
        socket.send(&message.header.refusal(number(errno)), &[], &[])?;
    }
    Ok(())
}

struct Session<'a> {
    function: &'a dyn Function,
    socket: Socket,
    /// Lent memory: bus address and length.
    maps: BTreeMap<u64, u64>,
    greeted: bool,
    report: SessionReport,
}

/// What an answer consists of, besides its header.
#[derive(Default)]
struct Answer<'a> {
    body: Vec<u8>,
    fd: Option<BorrowedFd<'a>>,
}

impl From<Vec<u8>> for Answer<'_> {
    fn from(body: Vec<u8>) -> Self {
        Self { body, fd: None }
    }
}

impl<'a> Session<'a> {
    fn run(&mut self) -> io::Result<()> {
        self.function.reset();
        let mut body = Vec::new();
        while let Some(message) = self.socket.receive(&mut body)? {
            self.report.messages += 1;
            let header = message.header;
            if !header.is_request() {
                // Nothing was asked of the client.
                self.report.refused += 1;
                continue;
            }
            let answer = self.answer(message, &body);
            self.report.refused += u64::from(answer.is_err());
            if header.is_posted() {
                continue;
            }
            match answer {
                Ok(Answer { body, fd }) => {
                    self.socket
                        .send(&header.answer(body.len()), &body, fd.as_slice())?;
                }
                Err(errno) => {
                    let refusal = header.refusal(number(errno));
                    self.socket.send(&refusal, &[], &[])?;
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.function.lines().clear();
        self.function.reset();
        for (address, size) in std::mem::take(&mut self.maps) {
            // It was mapped as it is unmapped.
            let _ = self.function.memory().unmap(address, size);
        }
    }

    fn answer(&mut self, message: Received, body: &[u8]) -> Result<Answer<'a>, Errno> {
        let Received {
            header,
            oversize,
            mut fds,
            lost_fds,
        } = message;
        if oversize || lost_fds {
            return Err(Errno::TOOBIG);
        }
        let command = Command::from_number(header.command).ok_or(Errno::OPNOTSUPP)?;
        if !self.greeted && command != Command::Version {
            return Err(Errno::PROTO);
        }
        if !matches!(command, Command::DmaMap | Command::SetIrqs) && !fds.is_empty() {
            return Err(Errno::INVAL);
        }
        match command {
            Command::Version => self.version(body).map(Into::into),
            Command::DmaMap => {
                let fd = fds.pop();
                if !fds.is_empty() {
                    return Err(Errno::INVAL);
                }
                self.dma_map(parse(body, DmaMap::parse)?, fd)?;
                Ok(Answer::default())
            }
            Command::DmaUnmap => self
                .dma_unmap(parse(body, DmaUnmap::parse)?)
                .map(Into::into),
            Command::DeviceInfo => Ok(self.device_info().into()),
            Command::RegionInfo => self.region_info(parse(body, RegionInfo::parse)?),
            Command::RegionIoFds => {
                let asked = parse(body, RegionIoFds::parse)?;
                self.function.region(asked.index).ok_or(Errno::INVAL)?;
                let argsz = RegionIoFds::SIZE as u32;
                Ok(put(|out| {
                    RegionIoFds {
                        argsz,
                        count: 0,
                        ..asked
                    }
                    .put(out)
                })
                .into())
            }
            Command::IrqInfo => self.irq_info(parse(body, IrqInfo::parse)?).map(Into::into),
            Command::SetIrqs => {
                self.set_irqs(body, fds)?;
                Ok(Answer::default())
            }
            Command::RegionRead => self
                .region_read(parse(body, RegionAccess::parse)?)
                .map(Into::into),
            Command::RegionWrite => self.region_write(body).map(Into::into),
            Command::DeviceReset => {
                self.function.reset();
                Ok(Answer::default())
            }
            // These are a server's to ask.
            Command::DmaRead | Command::DmaWrite => Err(Errno::OPNOTSUPP),
        }
    }

    fn version(&mut self, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let version = parse(body, Version::parse)?;
        if version.major != VERSION.0 {
            return Err(Errno::OPNOTSUPP);
        }
        Capabilities::parse(&body[Version::SIZE..]).ok_or(Errno::INVAL)?;
        self.greeted = true;
        let (major, minor) = VERSION;
        Ok(put(|out| {
            Version { major, minor }.put(out);
            Capabilities::OURS.put(out);
        }))
    }

    fn dma_map(&mut self, map: DmaMap, fd: Option<OwnedFd>) -> Result<(), Errno> {
        let known = dma::READ | dma::WRITE | dma::MAP;
        let rights = map.flags & (dma::READ | dma::WRITE);
        if (map.argsz as usize) < DmaMap::SIZE || map.flags & !known != 0 || rights == 0 {
            return Err(Errno::INVAL);
        }
        // Without a descriptor there is nothing that could be reached directly (a ROM, mostly).
        let Some(fd) = fd else { return Ok(()) };
        if self.maps.len() >= MAX_MAPS {
            return Err(Errno::NOSPC);
        }
        let end = map.address.checked_add(map.size).ok_or(Errno::INVAL)?;
        if map.size == 0 || !map.size.is_multiple_of(PAGE) || !map.address.is_multiple_of(PAGE) {
            return Err(Errno::INVAL);
        }
        if self
            .maps
            .range(..end)
            .next_back()
            .is_some_and(|(&at, &size)| at + size > map.address)
        {
            return Err(Errno::EXIST);
        }
        // A file that becomes shorter under a device at work would end this process.
        if !fcntl_get_seals(&fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK)) {
            self.report.unsealed += 1;
            return Err(Errno::PERM);
        }
        let file = File::from(fd);
        let whole = file.metadata().map_err(|_| Errno::INVAL)?.len();
        if map
            .offset
            .checked_add(map.size)
            .is_none_or(|end| end > whole)
        {
            return Err(Errno::INVAL);
        }
        let memory = self.function.memory();
        if end > memory.limit() {
            return Err(Errno::NOSPC);
        }
        let (at, bytes, offset) = (map.address, map.size, map.offset);
        // What may be written may be read: processors have no other pages.
        let mapped = match map.flags & dma::WRITE {
            0 => memory.map_to_read(at, bytes, &file, offset),
            _ => memory.map(at, bytes, &file, offset),
        };
        mapped.map_err(|error| match error {
            WindowError::HugePages { .. } => Errno::INVAL,
            _ => Errno::NOMEM,
        })?;
        self.maps.insert(map.address, map.size);
        Ok(())
    }

    /// Takes back all that was lent between two addresses, if anything was. QEMU takes back ranges of its own choosing,
    /// whatever is in them, as VFIO of the kernel has it: a whole address space when a guest turns its IOMMU off.
    fn dma_unmap(&mut self, unmap: DmaUnmap) -> Result<Vec<u8>, Errno> {
        let (first, last) = unmap.range().ok_or(Errno::INVAL)?;
        let inside: Vec<(u64, u64)> = (self.maps.range(first..=last))
            .map(|(&at, &size)| (at, size))
            .collect();
        // What was lent at once goes at once.
        let cut_at_start =
            (self.maps.range(..first).next_back()).is_some_and(|(&at, &size)| at + size > first);
        let cut_at_end = inside
            .last()
            .is_some_and(|&(at, size)| at + (size - 1) > last);
        if cut_at_start || cut_at_end {
            return Err(Errno::INVAL);
        }
        for (address, size) in inside {
            self.maps.remove(&address);
            (self.function.memory().unmap(address, size)).map_err(|_| Errno::NOMEM)?;
        }
        Ok(put(|out| unmap.put(out)))
    }

    fn device_info(&self) -> Vec<u8> {
        let info = DeviceInfo {
            argsz: DeviceInfo::SIZE as u32,
            flags: device::RESET | device::PCI,
            regions: self.function.regions(),
            irqs: super::message::irq::PCI_COUNT,
        };
        put(|out| info.put(out))
    }

    fn region_info(&self, asked: RegionInfo) -> Result<Answer<'a>, Errno> {
        if asked.index >= self.function.regions() {
            return Err(Errno::INVAL);
        }
        let found = self.function.region(asked.index);
        let (mut info, capabilities) = match &found {
            None => (RegionInfo::default(), Vec::new()),
            Some(found) => describe(found),
        };
        info.index = asked.index;
        info.argsz = (RegionInfo::SIZE + capabilities.len()) as u32;
        let room = asked.argsz >= info.argsz;
        if !room {
            info.capabilities = 0;
        }
        let body = put(|out| {
            info.put(out);
            if room {
                out.extend_from_slice(&capabilities);
            }
        });
        let fd = found.and_then(|found| Some(found.mappable?.0));
        Ok(Answer { body, fd })
    }

    fn irq_info(&self, asked: IrqInfo) -> Result<Vec<u8>, Errno> {
        let (count, flags) = self
            .function
            .lines()
            .count(asked.index)
            .ok_or(Errno::INVAL)?;
        let argsz = IrqInfo::SIZE as u32;
        Ok(put(|out| {
            IrqInfo {
                argsz,
                flags,
                count,
                ..asked
            }
            .put(out)
        }))
    }

    fn set_irqs(&self, body: &[u8], fds: Vec<OwnedFd>) -> Result<(), Errno> {
        let request = parse(body, SetIrqs::parse)?;
        let data = &body[SetIrqs::SIZE..];
        let change = self.function.lines().change(&request, data, fds)?;
        self.function.set_lines(change);
        Ok(())
    }

    /// Whether an access lies inside its region.
    fn check(&self, access: &RegionAccess) -> Result<(), Errno> {
        let region = self.function.region(access.region).ok_or(Errno::INVAL)?;
        let end = (access.offset.checked_add(access.count.into())).ok_or(Errno::INVAL)?;
        if end > region.bytes || access.count == 0 {
            return Err(Errno::INVAL);
        }
        Ok(())
    }

    fn region_read(&self, access: RegionAccess) -> Result<Vec<u8>, Errno> {
        self.check(&access)?;
        let mut body = put(|out| access.put(out));
        body.resize(RegionAccess::SIZE + access.count as usize, 0);
        let data = &mut body[RegionAccess::SIZE..];
        self.function.read(access.region, access.offset, data)?;
        Ok(body)
    }

    fn region_write(&self, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let access = parse(body, RegionAccess::parse)?;
        self.check(&access)?;
        let data = &body[RegionAccess::SIZE..];
        if data.len() != access.count as usize {
            return Err(Errno::INVAL);
        }
        self.function.write(access.region, access.offset, data)?;
        Ok(put(|out| access.put(out)))
    }
}

/// A region that exists, and its capabilities.
fn describe(found: &Region<'_>) -> (RegionInfo, Vec<u8>) {
    let mut info = RegionInfo {
        flags: region::READ | region::WRITE,
        size: found.bytes,
        ..RegionInfo::default()
    };
    let mut capabilities = Vec::new();
    let start = RegionInfo::SIZE as u32;
    if let Some((_, area)) = found.mappable {
        info.flags |= region::MAP | region::CAPABILITIES;
        let len = Capability::SIZE + SparseHeader::SIZE + super::message::Area::SIZE;
        let next = if found.kind.is_some() {
            start + len as u32
        } else {
            0
        };
        Capability {
            id: region::CAPABILITY_SPARSE,
            version: 1,
            next,
        }
        .put(&mut capabilities);
        SparseHeader {
            areas: 1,
            reserved: 0,
        }
        .put(&mut capabilities);
        area.put(&mut capabilities);
    }
    if let Some((kind, subtype)) = found.kind {
        info.flags |= region::CAPABILITIES;
        Capability {
            id: region::CAPABILITY_TYPE,
            version: 1,
            next: 0,
        }
        .put(&mut capabilities);
        RegionType { kind, subtype }.put(&mut capabilities);
    }
    if !capabilities.is_empty() {
        info.capabilities = start;
    }
    (info, capabilities)
}

fn parse<T>(body: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Result<T, Errno> {
    parse(body).ok_or(Errno::INVAL)
}

fn put(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn number(errno: Errno) -> u32 {
    errno.raw_os_error().unsigned_abs()
}
