//! The Intel 82599 (and X540, X550) driver.
//!
//! Two halves. The *control path* brings a port up, keeps its link, filters and statistics, and
//! takes it down again: [`bring_up`] reads as the datasheet's checklist, [`Port`] is what a caller
//! holds. The *data path* moves packets through one [`QueuePair`] each, which knows nothing but its
//! own rings (`rx`, `tx`, `queue`).
//!
//! Section numbers are those of the Intel 82599 10 GbE Controller Datasheet. Invariant: every wait
//! on hardware ends ([`error::Wait`] names them all), and nothing the device says is trusted
//! further than its type.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bring_up;
pub mod config;
pub mod control;
pub mod eeprom;
pub mod error;
pub mod filters;
pub mod flow_control;
pub mod ids;
pub mod interrupts;
pub mod link;
mod mac_address;
pub mod mtu;
pub mod phy;
pub mod port;
mod queue;
pub mod queue_registers;
pub mod registers;
pub mod reset;
pub mod rss;
mod rx;
pub mod semaphore;
pub mod sfp;
pub mod stats;
mod tx;

pub use config::{ConfigError, PortConfig};
pub use control::{Control, QueueControl};
pub use error::{Error, Fault, Wait};
pub use flow_control::FlowControl;
pub use ids::{Generation, Identity, Media};
pub use link::{LinkState, Speed};
pub use port::Port;
pub use queue::QueuePair;
pub use queue_registers::{
    RxQueueRegisters, RxQueueSettings, TxQueueRegisters, TxQueueSettings, queue_registers,
};
pub use rss::{RssConfig, RssProtocols};
pub use sfp::Module;
pub use stats::Statistics;
