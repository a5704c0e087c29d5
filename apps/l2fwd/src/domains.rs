//! Drivers in domains of their own: started from their signed file, ended and freed after the run.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sumac_interface::domain::{CreateNet, PortSettings, RemotePort};
use sumac_interface::rpc::{Cause, RpcError};
use sumac_linux::domains::{self, Shared, StartError};
use sumac_linux::grant::GrantedDevice;
use sumac_linux::open::OpenPort;
use sumac_linux::trust::{TrustError, trusted_keys};
use sumac_rref::{PacketPool, PoolGrant, SharedHeap};
use sumac_runtime::load::TrustedKeys;
use sumac_runtime::{Domain, Quota};

use crate::cli::Options;

/// The driver's domain.
const DRIVER: &str = "ixgbe";

/// Why a driver's domain does not run. Each is one line with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// Its file is not there.
    #[error("{}: {source}; build it with `cargo xtask domains`, or say where it is: --domains FOLDER", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nobody is trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// This process cannot have domains.
    #[error("hosting domains: {0}")]
    Host(io::Error),
    /// It was refused, or failed as it started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Another domain has the device.
    #[error("{0}: another domain has the device")]
    Taken(String),
    /// It died while it took its device over.
    #[error("{device}: the driver's domain: {source}")]
    Died {
        /// The device.
        device: String,
        /// What of.
        source: RpcError,
    },
    /// The driver turned its device down.
    #[error("{0}")]
    Device(String),
}

/// This process as a host of drivers.
pub struct DomainHost {
    file: Vec<u8>,
    trust: TrustedKeys,
    heap: &'static SharedHeap,
}

impl DomainHost {
    /// Reads the driver's file, and makes this process a host.
    ///
    /// # Errors
    /// [`DomainError`].
    pub fn new(options: &Options) -> Result<Self, DomainError> {
        let file = options
            .domains
            .clone()
            .unwrap_or_else(beside_program)
            .join(format!("{DRIVER}.domain"));
        let contents = std::fs::read(&file).map_err(|source| DomainError::File { file, source })?;
        let trust = trusted_keys()?;
        domains::install().map_err(DomainError::Host)?;
        Ok(Self {
            file: contents,
            trust,
            heap: SharedHeap::create_for(domains::hooks()),
        })
    }

    /// The heap that host and drivers share.
    pub fn heap(&self) -> &'static SharedHeap {
        self.heap
    }

    /// Drivers whose packets are of `pool`.
    pub fn drivers(self, pool: &'static PacketPool) -> Drivers {
        Drivers {
            shared: Shared {
                heap: self.heap,
                pools: vec![pool],
            },
            host: self,
            pool,
            running: Vec::new(),
        }
    }
}

/// `target/domains` for a program in `target/release`.
fn beside_program() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.parent().and_then(|folder| folder.parent());
    folder.map_or_else(|| PathBuf::from("domains"), |folder| folder.join("domains"))
}

/// The drivers that run. Dropping this ends them and frees all they had.
pub struct Drivers {
    host: DomainHost,
    shared: Shared,
    pool: &'static PacketPool,
    running: Vec<Domain>,
}

impl Drivers {
    /// Starts a driver for one device.
    ///
    /// # Errors
    /// [`DomainError`].
    pub fn start(&mut self, port: &OpenPort, options: &Options) -> Result<RemotePort, DomainError> {
        let name = port.backing.name.clone();
        let started = domains::start::<dyn CreateNet>(
            &format!("{DRIVER} of {name}"),
            &self.host.file,
            &self.host.trust,
            Quota::default(),
            &self.shared,
        )?;
        let (domain, mut root) = (started.domain, started.root);
        self.running.push(domain);
        let died = |source| DomainError::Died {
            device: name.clone(),
            source,
        };
        let device = GrantedDevice::new(port.backing.clone(), port.control.clone());
        let grant = Arc::new(device)
            .lend(domain, self.pool)
            .ok_or_else(|| DomainError::Taken(name.clone()))?;
        let settings = PortSettings {
            queues: options.queues,
            rx_descriptors: options.descriptors,
            tx_descriptors: options.descriptors,
            mtu: options.mtu,
            promiscuous: options.is_promiscuous(),
        };
        let device = root
            .create(grant, PoolGrant::new(self.pool), settings)
            .map_err(died)?
            .map_err(|fault| DomainError::Device(fault.to_string()))?;
        RemotePort::new(device, self.pool).map_err(died)
    }
}

impl Drop for Drivers {
    fn drop(&mut self) {
        for domain in self.running.drain(..) {
            domain.kill(Cause::Killed);
            if let Err(error) = domains::bury(domain, &self.shared) {
                eprintln!(
                    "l2fwd: what {} had could not be freed: {error}",
                    domain.name()
                );
            }
        }
    }
}
