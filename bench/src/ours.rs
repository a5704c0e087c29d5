//! Our driver as a peer: the same four turns as DPDK's in `peers/dpdk_peer.c`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sumac_device::{Bar, Clock, DeviceBacking, DmaSpace, PciId};
use sumac_devices::shared_bar::BarMemory;
use sumac_interface::net::NetQueue;
use sumac_ixgbe::{Port, PortConfig, QueuePair};
use sumac_packet::EthernetFrame;
use sumac_rref::{PacketBatch, PacketPool, SharedHeap};

use crate::timing::Peer;

/// As DPDK's side: buffers, descriptors of each ring, bytes of a frame without FCS.
const POOL: u32 = 8192;
const RING: u16 = 512;
const FRAME: u16 = 60;
/// How long the link may take.
const LINK_TIMEOUT: Duration = Duration::from_secs(10);

/// Two ports of ours: port 0 receives, port 1 sends.
pub struct Ours {
    receiver: QueuePair,
    sender: QueuePair,
    batch: PacketBatch,
    /// What the metadata adds up to, so that reading it is not optimised away.
    seen: u64,
    ports: Vec<Port>,
}

impl Ours {
    /// Brings two ports up, waiting by `clock` for what the device is to do.
    ///
    /// # Errors
    /// What the driver says.
    pub fn bring_up(
        bars: Vec<Arc<BarMemory>>,
        device: u16,
        dma: Arc<dyn DmaSpace>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let pool =
            PacketPool::create(SharedHeap::create(), &*dma, POOL).map_err(|error| text(&error))?;
        let config = PortConfig {
            rx_descriptors: RING,
            tx_descriptors: RING,
            promiscuous: true,
            vlan_strip: true,
            ..PortConfig::default()
        };
        let mut ports = Vec::new();
        for (index, bar) in bars.into_iter().enumerate() {
            let backing = DeviceBacking {
                name: format!("sim{index}"),
                id: PciId {
                    vendor: 0x8086,
                    device,
                },
                bar: Bar::new(bar),
                dma: dma.clone(),
                clock: clock.clone(),
            };
            let mut port = Port::open(backing, pool, &config).map_err(|error| text(&error))?;
            port.start().map_err(|error| text(&error))?;
            wait_for_link(&port)?;
            ports.push(port);
        }
        let mut queues = ports.iter_mut().filter_map(|port| port.take_queues().pop());
        let (Some(receiver), Some(sender)) = (queues.next(), queues.next()) else {
            return Err("two ports with a queue pair each are needed".to_owned());
        };
        drop(queues);
        let batch = pool.batch().map_err(|error| text(&error))?;
        Ok(Self {
            receiver,
            sender,
            batch,
            seen: 0,
            ports,
        })
    }

    /// Receives into the batch and adds lengths up, as an application that counts bytes.
    #[inline(always)]
    fn receive_some(&mut self, batch: usize) -> usize {
        // The only error is a batch of another pool, which this one is not.
        let count = self.receiver.receive(&mut self.batch, batch).unwrap_or(0);
        let mut bytes = 0;
        for mut packet in self.batch.packets_mut() {
            bytes += packet.data_mut().len() as u64;
        }
        self.seen = self.seen.wrapping_add(bytes);
        count
    }

    #[inline(always)]
    fn send_all(&mut self) {
        while !self.batch.is_empty() {
            if self.sender.transmit(&mut self.batch).is_err() {
                return;
            }
        }
    }
}

impl Peer for Ours {
    #[inline(always)]
    fn receive(&mut self, batch: usize) -> usize {
        self.receiver.set_prefetch(false);
        let count = self.receive_some(batch);
        for packet in self.batch.packets_mut() {
            let meta = packet.meta();
            let hash = meta.rss_hash().unwrap_or(0) ^ meta.flags().bits();
            self.seen ^= u64::from(hash) ^ u64::from(meta.vlan_tag().unwrap_or(0));
        }
        self.receiver.recycle(&mut self.batch);
        count
    }

    #[inline(always)]
    fn transmit(&mut self, batch: usize) -> usize {
        self.sender.allocate(&mut self.batch, batch, FRAME);
        let count = self.batch.len();
        self.send_all();
        count
    }

    #[inline(always)]
    fn forward(&mut self, batch: usize) -> usize {
        self.receiver.set_prefetch(false);
        let count = self.receive_some(batch);
        self.send_all();
        count
    }

    #[inline(always)]
    fn macswap(&mut self, batch: usize) -> usize {
        self.receiver.set_prefetch(true);
        let count = self.receive_some(batch);
        for mut packet in self.batch.packets_mut() {
            if let Ok(mut frame) = EthernetFrame::new_checked(packet.data_mut()) {
                frame.swap_addresses();
            }
        }
        self.send_all();
        count
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // Quiet before the rings go: the ports are dropped after the queues otherwise.
        for port in &mut self.ports {
            // A device that does not answer any more is reset by whoever owns it.
            let _ = port.stop();
        }
    }
}

fn wait_for_link(port: &Port) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let link = port.control().link().map_err(|error| error.to_string())?;
        if link.is_up() {
            return Ok(());
        }
        if start.elapsed() > LINK_TIMEOUT {
            return Err(format!("{}: no link", port.control().name()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
