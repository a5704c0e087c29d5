//! A served device: registers, configuration space, memory, interrupts, reset.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, setsockopt, sockopt};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use nix::sys::time::{TimeVal, TimeValLike};
use sumac_device::{Bar, DeviceBacking, DeviceControl, DmaSpace, PciId};
use sumac_devices::vfio_user::message::{
    Capabilities, Command, DeviceInfo, DmaMap, DmaUnmap, IrqInfo, RegionAccess,
    RegionInfo as RegionQuestion, SetIrqs, VERSION, Version, device, dma, irq, region,
};
use sumac_devices::vfio_user::{TAILS_KIND, is_tail};

use super::VfioUserError;
use super::connection::{Connection, Limits, Unanswered};
use crate::bar::{Area, Calls, MappedBar};
use crate::dma::{Reach, Region};
use crate::function::{self, Config};
use crate::interrupts::{Bell, Cord, Interrupts};
use crate::time::LinuxClock;
use crate::vfio::region::RegionInfo;

/// A server that takes no connection for so long hangs.
const PATIENCE: Duration = Duration::from_secs(1);
/// The register BAR.
const REGISTERS: u32 = 0;
/// Regions that are looked at.
const MOST_REGIONS: u32 = 32;
/// Bytes of an answer about a region: hundreds of areas.
const REGION_ANSWER: u32 = 8192;
/// Bus addresses used, of those the protocol has: as many as the narrowest IOMMU's.
const ADDRESSES: Range<u64> = 0..1 << 39;

/// A device that another process serves to this one.
pub(crate) struct ServedDevice {
    socket: PathBuf,
    id: PciId,
    bar: Bar,
    server: Arc<Server>,
    /// What the server rings bells by: its interrupts', and that of its request to have the device back.
    vectors: Mutex<Vec<Arc<Cord>>>,
    request: Mutex<Option<Arc<Cord>>>,
}

/// What stands for the server: its connection, and what it takes.
struct Server {
    connection: Connection,
    capabilities: Capabilities,
}

impl ServedDevice {
    /// Connects to the server behind `socket`, and takes its device over: resets it, and lets it do DMA.
    ///
    /// # Errors
    /// [`VfioUserError`].
    pub fn connect(socket: &Path) -> Result<Self, VfioUserError> {
        let unreachable = |source| VfioUserError::Unreachable {
            socket: socket.to_owned(),
            source,
        };
        let stream = stream(socket).map_err(unreachable)?;
        Self::over(stream, socket, Limits::USUAL)
    }

    /// As [`connect`](Self::connect), over a stream that is connected, and with other limits to how long an answer
    /// takes.
    pub(super) fn over(
        stream: UnixStream,
        socket: &Path,
        limits: Limits,
    ) -> Result<Self, VfioUserError> {
        let failed = |what| move |unanswered| why(socket, what, unanswered);
        let broken = |error| failed("connecting")(Unanswered::Broken(error));
        let unfit = |reason| VfioUserError::Unfit {
            socket: socket.to_owned(),
            reason,
        };
        let connection = Connection::new(stream, limits).map_err(broken)?;
        let (version, capabilities) =
            greet(&connection).map_err(failed("asking for its version"))?;
        if version.major != VERSION.0 || version.minor > VERSION.1 {
            return Err(VfioUserError::OtherVersion {
                socket: socket.to_owned(),
                major: version.major,
                minor: version.minor,
            });
        }
        let server = Arc::new(Server {
            connection,
            capabilities,
        });
        let info = server
            .device_info()
            .map_err(failed("asking what the device is"))?;
        if info.flags & device::PCI == 0 || info.regions <= region::CONFIG {
            return Err(unfit("it is no PCI device"));
        }
        let (registers, fd) =
            (server.region_info(REGISTERS)).map_err(failed("asking about BAR 0"))?;
        if !registers.is_registers() {
            return Err(unfit("its BAR 0 holds no registers"));
        }
        let areas = fd.map_or_else(Vec::new, |fd| map(&File::from(fd), &registers));
        let mut registers =
            MappedBar::new(registers.size as u32, areas, Registers(Arc::clone(&server)));
        let tails = (server.tails(info.regions)).map_err(failed("asking about its regions"))?;
        if let Some(cells) = tails {
            registers = registers.with_doorbells(cells, is_tail);
        }
        let broken = |what| move |error| failed(what)(Unanswered::Broken(error));
        let opened = Self {
            socket: socket.to_owned(),
            id: function::ids(&*server).map_err(broken("reading configuration space"))?,
            bar: Bar::new(Arc::new(registers)),
            server,
            vectors: Mutex::default(),
            request: Mutex::default(),
        };
        opened.halt().map_err(broken("resetting the device"))?;
        function::set_bus_master(&*opened.server, true).map_err(broken("letting it do DMA"))?;
        Ok(opened)
    }

    /// What a driver takes.
    pub fn backing(&self, dma: Arc<dyn DmaSpace>) -> DeviceBacking {
        let name = format!("vfio-user:{}", self.socket.display());
        function::backing(name, self.id, &self.bar, dma)
    }

    /// What makes memory reachable for it.
    pub fn reach(&self) -> Arc<dyn Reach> {
        Arc::clone(&self.server) as _
    }

    fn halt(&self) -> io::Result<()> {
        function::halt(&*self.server, self.id, &self.bar, &LinuxClock, || {
            Ok(self.server.ask(Command::DeviceReset, &[], &[])?)
        })
    }

    /// Has answers take no longer from now on.
    #[cfg(test)]
    pub(super) fn set_limits_for_test(&self, limits: Limits) {
        self.server.connection.set_limits_for_test(limits);
    }

    /// The stream to the server.
    #[cfg(test)]
    pub fn socket_for_test(&self) -> UnixStream {
        self.server.connection.stream_for_test()
    }
}

/// A connection, unless the server takes none for so long.
fn stream(socket: &Path) -> io::Result<UnixStream> {
    let address = UnixAddr::new(socket)?;
    let (family, kind) = (AddressFamily::Unix, SockType::Stream);
    let stream = nix::sys::socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // None at all would be no limit.
        let patience = TimeVal::milliseconds(left.as_millis().max(1) as i64);
        setsockopt(&stream, sockopt::SendTimeout, &patience)?;
        match nix::sys::socket::connect(stream.as_raw_fd(), &address) {
            // A signal that was for somebody else.
            Err(Errno::EINTR) => {}
            connected => {
                connected?;
                return Ok(UnixStream::from(stream));
            }
        }
    }
}

fn why(socket: &Path, what: &'static str, unanswered: Unanswered) -> VfioUserError {
    let socket = socket.to_owned();
    match unanswered {
        Unanswered::Refused(errno) => VfioUserError::Refused {
            socket,
            what,
            errno,
        },
        Unanswered::Stopped(server) => VfioUserError::Stopped {
            socket,
            server: server.to_string(),
        },
        Unanswered::Broken(source) => VfioUserError::Silent {
            socket,
            what,
            source,
        },
    }
}

fn greet(connection: &Connection) -> Result<(Version, Capabilities), Unanswered> {
    let mut body = Vec::new();
    let (major, minor) = VERSION;
    Version { major, minor }.put(&mut body);
    Capabilities::OURS.put(&mut body);
    connection.ask(Command::Version, &body, &[], |answer, _| {
        let version = Version::parse(answer)?;
        let capabilities = match version.major {
            0 => Capabilities::parse(answer.get(Version::SIZE..)?)?,
            _ => Capabilities::default(),
        };
        Some((version, capabilities))
    })
}

/// Maps what the server offers. A file that the server could shorten is not mapped, nor one of huge pages, into which it
/// could punch holes: an access there would end this process.
fn map(file: &File, region: &RegionInfo) -> Vec<Area> {
    let sealed = fcntl(file, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK));
    let plain = fstatfs(file).is_ok_and(|kind| kind.filesystem_type() != HUGETLBFS_MAGIC);
    let len = match file.metadata() {
        Ok(metadata) if sealed && plain => metadata.len(),
        _ => 0,
    };
    let area = |area: &Range<u64>| {
        let (start, bytes) = (region.position(area.start).ok()?, area.end - area.start);
        (start.checked_add(bytes)? <= len).then_some(())?;
        Area::map(file.as_fd(), start, area.start as u32, bytes as u32).ok()
    };
    region.areas.iter().filter_map(area).collect()
}

impl Server {
    /// Asks for something whose answer says nothing more.
    fn ask(&self, command: Command, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Unanswered> {
        self.connection.ask(command, body, fds, |_, _| Some(()))
    }

    fn device_info(&self) -> Result<DeviceInfo, Unanswered> {
        let question = DeviceInfo {
            argsz: DeviceInfo::SIZE as u32,
            ..DeviceInfo::default()
        };
        let mut body = Vec::new();
        question.put(&mut body);
        let take = |answer: &[u8], _| DeviceInfo::parse(answer);
        self.connection.ask(Command::DeviceInfo, &body, &[], take)
    }

    fn region_info(&self, index: u32) -> Result<(RegionInfo, Option<OwnedFd>), Unanswered> {
        let question = RegionQuestion {
            argsz: REGION_ANSWER,
            index,
            ..RegionQuestion::default()
        };
        let mut body = Vec::new();
        question.put(&mut body);
        self.connection
            .ask(Command::RegionInfo, &body, &[], |answer, fds| {
                (RegionQuestion::parse(answer)?.index == index).then_some(())?;
                Some((RegionInfo::parse(answer)?, fds.into_iter().next()))
            })
    }

    /// The cells of a software 82599 of ours, whose tails need no messages.
    fn tails(&self, regions: u32) -> Result<Option<Area>, Unanswered> {
        for index in region::PCI_COUNT..regions.min(MOST_REGIONS) {
            let (region, fd) = self.region_info(index)?;
            if let Some(fd) = fd.filter(|_| region.kind == Some(TAILS_KIND)) {
                return Ok(map(&File::from(fd), &region).pop());
            }
        }
        Ok(None)
    }

    /// Reads from a region.
    fn read(&self, region: u32, offset: u64, bytes: &mut [u8]) -> Result<(), Unanswered> {
        let access = RegionAccess {
            offset,
            region,
            count: bytes.len() as u32,
        };
        let mut body = Vec::new();
        access.put(&mut body);
        self.connection
            .ask(Command::RegionRead, &body, &[], |answer, _| {
                (RegionAccess::parse(answer)? == access).then_some(())?;
                let data = answer.get(RegionAccess::SIZE..)?.get(..bytes.len())?;
                bytes.copy_from_slice(data);
                Some(())
            })
    }

    /// Writes to a region. The server has taken it when this returns, so that stores to mapped registers come
    /// after.
    fn write(&self, region: u32, offset: u64, bytes: &[u8]) -> Result<(), Unanswered> {
        let access = RegionAccess {
            offset,
            region,
            count: bytes.len() as u32,
        };
        let mut body = Vec::new();
        access.put(&mut body);
        body.extend_from_slice(bytes);
        self.ask(Command::RegionWrite, &body, &[])
    }

    fn interrupts(&self, index: u32) -> Result<u32, Unanswered> {
        let question = IrqInfo {
            argsz: IrqInfo::SIZE as u32,
            index,
            ..IrqInfo::default()
        };
        let mut body = Vec::new();
        question.put(&mut body);
        let take = |answer: &[u8], _| IrqInfo::parse(answer);
        Ok(self
            .connection
            .ask(Command::IrqInfo, &body, &[], take)?
            .count)
    }

    /// Sends interrupts of a kind to `events`, as many at a time as the server takes; without any, turns them
    /// off.
    fn set_events(&self, index: u32, events: &[BorrowedFd<'_>]) -> Result<(), Unanswered> {
        if events.is_empty() {
            let flags = irq::DATA_NONE | irq::TRIGGER;
            return self.set_irqs(flags, index, 0, &[]);
        }
        let most = self
            .capabilities
            .max_fds
            .clamp(1, Capabilities::OURS.max_fds);
        let flags = irq::DATA_EVENTFD | irq::TRIGGER;
        for (number, events) in events.chunks(most).enumerate() {
            self.set_irqs(flags, index, (number * most) as u32, events)?;
        }
        Ok(())
    }

    fn set_irqs(
        &self,
        flags: u32,
        index: u32,
        start: u32,
        events: &[BorrowedFd<'_>],
    ) -> Result<(), Unanswered> {
        let set = SetIrqs {
            argsz: SetIrqs::SIZE as u32,
            flags,
            index,
            start,
            count: events.len() as u32,
        };
        let mut body = Vec::new();
        set.put(&mut body);
        self.ask(Command::SetIrqs, &body, events)
    }
}

// SAFETY: the server has a mapping of its own of the region's file, which keeps the pages as long as the server
// has it; what this process makes of its addresses later is not in that file.
unsafe impl Reach for Server {
    fn usable(&self) -> Vec<Range<u64>> {
        vec![ADDRESSES]
    }

    fn map(&self, region: &Region, iova: u64) -> Result<(), String> {
        let map = DmaMap {
            argsz: DmaMap::SIZE as u32,
            flags: dma::READ | dma::WRITE,
            offset: 0,
            address: iova,
            size: region.len() as u64,
        };
        let mut body = Vec::new();
        map.put(&mut body);
        (self.ask(Command::DmaMap, &body, &[region.file().as_fd()])).map_err(|error| {
            format!(
                "the device's server does not take it: {}",
                io::Error::from(error)
            )
        })
    }

    fn unmap(&self, iova: u64, bytes: u64) -> Result<(), String> {
        let unmap = DmaUnmap {
            argsz: DmaUnmap::SIZE as u32,
            flags: 0,
            address: iova,
            size: bytes,
        };
        let mut body = Vec::new();
        unmap.put(&mut body);
        match self.ask(Command::DmaUnmap, &body, &[]) {
            Err(Unanswered::Refused(errno)) => {
                Err(format!("the device's server keeps it: error {errno}"))
            }
            // A server that is gone reaches nothing; one that only hung up has the old file to itself, of which no part
            // is lent again.
            Ok(()) | Err(Unanswered::Broken(_) | Unanswered::Stopped(_)) => Ok(()),
        }
    }

    fn lends_files(&self) -> bool {
        true
    }
}

impl Config for Server {
    fn read(&self, offset: u16, bytes: &mut [u8]) -> io::Result<()> {
        Ok(Server::read(self, region::CONFIG, offset.into(), bytes)?)
    }

    fn write(&self, offset: u16, bytes: &[u8]) -> io::Result<()> {
        Ok(Server::write(self, region::CONFIG, offset.into(), bytes)?)
    }
}

/// Registers that are reached by messages.
struct Registers(Arc<Server>);

impl Calls for Registers {
    fn read32(&self, offset: u32) -> u32 {
        let mut bytes = [0xFF; 4];
        match self.0.read(REGISTERS, offset.into(), &mut bytes) {
            Ok(()) => u32::from_le_bytes(bytes),
            Err(_) => u32::MAX,
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        // A device that is gone loses writes; one that refuses them shows it in what it reads as.
        let _ = self.0.write(REGISTERS, offset.into(), &value.to_le_bytes());
    }
}

impl DeviceControl for ServedDevice {
    /// A server that hung up is taken to reach nothing any more; one that is silent may yet wake.
    fn stop(&self) -> bool {
        let name = format_args!("vfio-user:{}", self.socket.display());
        function::stopped(&name, self.halt(), || !self.server.connection.has_hung_up())
    }

    fn start(&self) {
        if let Err(error) = function::set_bus_master(&*self.server, true) {
            log::error!(
                "vfio-user:{}: cannot be let do DMA: {error}",
                self.socket.display()
            );
        }
    }

    fn is_there(&self) -> bool {
        function::is_there(&*self.server, &self.bar)
    }
}

impl Interrupts for ServedDevice {
    fn vectors(&self) -> io::Result<u32> {
        Ok(self.server.interrupts(irq::MSIX)?)
    }

    fn connect(&self, bells: &[Arc<Bell>]) -> io::Result<()> {
        let cords = bells.iter().map(|bell| bell.cord());
        let cords = cords.collect::<io::Result<Vec<_>>>()?;
        let events: Vec<_> = cords.iter().map(|cord| cord.as_fd()).collect();
        self.server.set_events(irq::MSIX, &events)?;
        *self.vectors.lock().unwrap_or_else(PoisonError::into_inner) = cords;
        Ok(())
    }

    fn on_removal(&self, bell: &Bell) -> io::Result<()> {
        if self.server.interrupts(irq::REQUEST)? == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let cord = bell.cord()?;
        self.server.set_events(irq::REQUEST, &[cord.as_fd()])?;
        *self.request.lock().unwrap_or_else(PoisonError::into_inner) = Some(cord);
        Ok(())
    }
}
