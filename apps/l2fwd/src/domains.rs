//! Drivers in domains of their own: started from their signed file, started again when they die if there is
//! a shadow before them, ended and freed after the run. [`DomainHost`] also reads the application's file.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use l2fwd_forward::domain::{CreateForward, CreateFragileForward};
use sumac_interface::Policy;
use sumac_interface::domain::{CreateFragileNet, CreateNet, PortSettings, RemotePort};
use sumac_interface::rpc::{Cause, RpcError};
use sumac_linux::domains::{
    self, DriverError, Losses, PortLife, PortService, Program, Progress, Restarts, Service, Shared,
    SupervisedPort, Supervisor,
};
use sumac_linux::grant::GrantedDevice;
use sumac_linux::open::OpenPort;
use sumac_rref::{PacketPool, SharedHeap};
use sumac_runtime::{Domain, Phase, Quota, SharedReclaim};

use crate::application::ApplicationProgram;
use crate::cli::{ApplicationIn, Isolation, Options};
use crate::files::{FileError, Files, Wanted};

/// The driver's domain, and that of the one that fails on request.
const DRIVER: Wanted = driver("ixgbe");
const CRASHY_DRIVER: Wanted = driver("ixgbe-crashy");
/// Likewise the application's.
const APPLICATION: Wanted = application("l2fwd");
const CRASHY_APPLICATION: Wanted = application("l2fwd-crashy");

const fn driver(name: &'static str) -> Wanted {
    let instead = "link the driver with --isolation driver";
    Wanted { name, instead }
}

const fn application(name: &'static str) -> Wanted {
    let instead = "link the application with --application linked";
    Wanted { name, instead }
}

/// What a domain may use. Calls of a driver take microseconds, and tens of milliseconds while it brings a port up with
/// many queues in a build for debugging, on a device outside this process hundreds; those of an application less than a
/// millisecond. But time that a hypervisor takes from its virtual machine may count as a call's, and who dies of that
/// has died for nothing: only one that really hangs takes so long.
pub const QUOTA: Quota = Quota {
    pages: 16 * 1024 * 1024 / 4096,
    threads: 0,
    call_ns: 2_000_000_000,
};
/// The same for what is made to hang, so that this is found soon.
pub const QUOTA_CRASHING: Quota = Quota {
    call_ns: 100_000_000,
    ..QUOTA
};

/// Why a domain does not run. Each is one line with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// There is no file to start it from.
    #[error(transparent)]
    File(#[from] FileError),
    /// This process cannot have domains.
    #[error("hosting domains: {0}")]
    Host(io::Error),
    /// A driver's does not start, or not drive its device.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A driver's died when it was asked for its port.
    #[error("{device}: the driver's domain: {source}")]
    Died {
        /// The device.
        device: String,
        /// What of.
        source: RpcError,
    },
}

/// This process as a host of drivers, of the application, or of both.
pub struct DomainHost {
    driver: Option<domains::Driver>,
    application: Option<ApplicationProgram>,
    heap: &'static SharedHeap,
}

impl DomainHost {
    /// Reads the files of what the options want in domains, and makes this process a host.
    ///
    /// # Errors
    /// [`DomainError`].
    pub fn new(options: &Options) -> Result<Self, DomainError> {
        let files = Files::of(options);
        let driver = match options.isolation {
            Isolation::Driver => None,
            _ if options.drivers_crash() => {
                let file = files.read::<dyn CreateFragileNet>(CRASHY_DRIVER)?;
                Some(domains::Driver::FragileNet(Program::new(file)))
            }
            _ => {
                let file = files.read::<dyn CreateNet>(DRIVER)?;
                Some(domains::Driver::Net(Program::new(file)))
            }
        };
        let application = match options.application {
            ApplicationIn::Linked => None,
            _ if options.application_crashes() => {
                let file = files.read::<dyn CreateFragileForward>(CRASHY_APPLICATION)?;
                Some(ApplicationProgram::Fragile(Program::new(file)))
            }
            _ => {
                let file = files.read::<dyn CreateForward>(APPLICATION)?;
                Some(ApplicationProgram::Forward(Program::new(file)))
            }
        };
        if driver.is_none() && application.is_none() {
            return Ok(Self {
                driver,
                application,
                heap: SharedHeap::create(),
            });
        }
        domains::install().map_err(DomainError::Host)?;
        Ok(Self {
            driver,
            application,
            heap: SharedHeap::create_for(domains::hooks()),
        })
    }

    /// The heap that host and domains share.
    pub fn heap(&self) -> &'static SharedHeap {
        self.heap
    }

    /// The file of the application, if that is to be in a domain.
    pub fn application(&self) -> Option<&ApplicationProgram> {
        self.application.as_ref()
    }

    /// What frees shared objects of dead domains whose packets are of `pool`.
    pub fn shared(&self, pool: &'static PacketPool) -> Arc<dyn SharedReclaim + Send> {
        Arc::new(Shared {
            heap: self.heap,
            pools: vec![pool],
        })
    }

    /// Drivers whose packets are of `pool`; none if they are part of this program.
    pub fn drivers(&self, pool: &'static PacketPool) -> Option<Drivers> {
        Some(Drivers {
            program: self.driver.clone()?,
            shared: self.shared(pool),
            pool,
            seats: RefCell::default(),
            supervisors: Supervisors::default(),
        })
    }
}

/// The drivers that run. Dropping this ends them and frees all they had.
pub struct Drivers {
    program: domains::Driver,
    shared: Arc<dyn SharedReclaim + Send>,
    pool: &'static PacketPool,
    /// By port.
    seats: RefCell<Vec<Seat>>,
    supervisors: Supervisors,
}

/// Those who look after drivers now.
pub type Supervisors = Arc<Mutex<Vec<Arc<Supervisor<PortService>>>>>;

/// A port's place for drivers.
#[derive(Default)]
struct Seat {
    driver: Option<Driver>,
    /// Whether its drivers are started again.
    supervised: bool,
    /// Of drivers that were ended since their device was gone.
    past: Restarts,
    /// What calls of all its drivers lost.
    losses: Arc<Losses>,
}

/// One driver that runs.
enum Driver {
    /// Until it dies.
    Once(Domain, PortLife),
    /// One after the other.
    Supervised(Arc<Supervisor<PortService>>),
}

impl Drivers {
    fn service(&self, port: &OpenPort, options: &Options) -> PortService {
        let (backing, control) = (port.backing.clone(), port.control.clone());
        PortService {
            name: format!("{} of {}", DRIVER.name, backing.name),
            driver: self.program.clone(),
            quota: match port.software {
                Some(_) if options.drivers_crash() => QUOTA_CRASHING,
                _ => QUOTA,
            },
            shared: self.shared.clone(),
            device: Arc::new(GrantedDevice::new(backing, control)),
            pool: self.pool,
            settings: PortSettings {
                queues: options.queues,
                rx_descriptors: options.descriptors,
                tx_descriptors: options.descriptors,
                mtu: options.mtu,
                promiscuous: options.is_promiscuous(),
                found_whole: false,
                interrupts: options.interrupt,
            },
            progress: Progress::default(),
        }
    }

    /// Starts a driver for the device of port `index`.
    ///
    /// # Errors
    /// [`DomainError`].
    pub fn start(
        &self,
        index: usize,
        port: &OpenPort,
        options: &Options,
    ) -> Result<RemotePort, DomainError> {
        let (domain, mut life) = self.service(port, options).start()?;
        let device = life.take_device().ok_or(RpcError::Refused);
        self.seat(index, Driver::Once(domain, life));
        device
            .and_then(|device| RemotePort::new(device, self.pool))
            .map_err(|source| died(port, source))
    }

    /// Starts a driver for the device of port `index` that is started again whenever it dies.
    ///
    /// # Errors
    /// [`DomainError`].
    pub fn supervise(
        &self,
        index: usize,
        port: &OpenPort,
        options: &Options,
    ) -> Result<SupervisedPort, DomainError> {
        let service = self.service(port, options);
        let policy = Policy::default();
        let supervisor = Supervisor::start(service, self.shared.clone(), policy.limit)?;
        let losses = self.seat(index, Driver::Supervised(supervisor.clone()));
        let supervised = SupervisedPort::new(supervisor, self.pool, policy, losses);
        supervised.map_err(|source| died(port, source))
    }

    /// Seats a driver; says where the losses of its calls go.
    fn seat(&self, index: usize, driver: Driver) -> Arc<Losses> {
        let mut seats = self.seats.borrow_mut();
        if seats.len() <= index {
            seats.resize_with(index + 1, Seat::default);
        }
        seats[index].supervised = matches!(driver, Driver::Supervised(..));
        seats[index].driver = Some(driver);
        let losses = seats[index].losses.clone();
        drop(seats);
        self.tell_supervisors();
        losses
    }

    /// Ends the driver of a port whose device is gone, and frees all it had.
    pub fn end(&self, index: usize) {
        let driver = match self.seats.borrow_mut().get_mut(index) {
            Some(seat) => seat.take(),
            None => None,
        };
        self.tell_supervisors();
        if let Some(driver) = driver {
            self.free(driver);
        }
    }

    /// What calls lost, by port, where somebody counts it.
    pub fn losses(&self) -> Vec<Option<Arc<Losses>>> {
        let losses = |seat: &Seat| seat.supervised.then(|| seat.losses.clone());
        self.seats.borrow().iter().map(losses).collect()
    }

    fn free(&self, driver: Driver) {
        let ended = match driver {
            Driver::Once(domain, _life) => {
                domain.kill(Cause::Killed);
                let freed = domains::bury(domain, &*self.shared).map(drop);
                freed.map_err(|e| format!("what {} had could not be freed: {e}", domain.name()))
            }
            Driver::Supervised(supervisor) => supervisor.end(),
        };
        if let Err(error) = ended {
            eprintln!("l2fwd: {error}");
        }
    }

    fn tell_supervisors(&self) {
        let supervisor = |seat: &Seat| match &seat.driver {
            Some(Driver::Supervised(supervisor)) => Some(supervisor.clone()),
            _ => None,
        };
        let now = self.seats.borrow().iter().filter_map(supervisor).collect();
        *self
            .supervisors
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Who looks after drivers, now and later, in the order of the ports.
    pub fn supervisors(&self) -> Supervisors {
        Arc::clone(&self.supervisors)
    }

    /// What happened to the drivers of a port so far, and how many frames their calls lost; none if nobody looks
    /// after them.
    pub fn restarts(&self, port: usize) -> Option<(Restarts, u64)> {
        let seats = self.seats.borrow();
        let seat = seats.get(port).filter(|seat| seat.supervised)?;
        let mut restarts = seat.past.clone();
        if let Some(Driver::Supervised(supervisor)) = &seat.driver {
            restarts += &supervisor.restarts();
        }
        Some((restarts, seat.losses.transmitting()))
    }

    /// Of what the drivers died that are dead, one a line.
    pub fn deaths(&self) -> Vec<String> {
        let death = |seat: &Seat| match seat.driver.as_ref()? {
            Driver::Once(domain, _) => {
                let dead = matches!(domain.phase(), Phase::Dead(_));
                dead.then(|| domains::obituary(*domain))
            }
            Driver::Supervised(supervisor) => {
                let restarts = supervisor.restarts();
                restarts.last_failure.or(restarts.last_death)
            }
        };
        self.seats.borrow().iter().filter_map(death).collect()
    }
}

impl Seat {
    /// The driver, which is to end; what happened to it stays.
    fn take(&mut self) -> Option<Driver> {
        let driver = self.driver.take()?;
        if let Driver::Supervised(supervisor) = &driver {
            self.past += &supervisor.restarts();
        }
        Some(driver)
    }
}

fn died(port: &OpenPort, source: RpcError) -> DomainError {
    DomainError::Died {
        device: port.backing.name.clone(),
        source,
    }
}

impl Drop for Drivers {
    fn drop(&mut self) {
        let seats = std::mem::take(self.seats.get_mut());
        for driver in seats.into_iter().filter_map(|seat| seat.driver) {
            self.free(driver);
        }
    }
}
