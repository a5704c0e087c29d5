//! Benchmarks of peers on the same software device.
//!
//! Two drivers, DPDK's unmodified one (another process) and ours (a thread), take turns on one core;
//! the software 82599 runs on another. [`control`] is the page through which both are told what to do
//! and report; [`session`] brings them up, [`turns`] has them take turns; [`timing`] times ours as `peers/dpdk_peer.c` times DPDK's; [`device_thread`] steps the
//! device, [`device_alone`] times it alone; [`statistics`] says which windows count; [`report`] and [`figure`] say what came of it.

pub mod compare;
pub mod constant_wire;
pub mod control;
pub mod device_alone;
pub mod device_thread;
pub mod dpdk;
pub mod figure;
pub mod isolation;
pub mod ours;
pub mod plan;
pub mod processor;
pub mod report;
mod rig;
pub mod session;
pub mod statistics;
pub mod third_party;
pub mod timing;
pub mod turns;
