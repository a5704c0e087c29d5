//! `veth=IFACE`: a network interface of the host, through a packet socket.
//!
//! Every frame the interface receives comes to the device, and what the device sends leaves by it. Frames wait in the
//! socket for descriptors, but not for a port that does not receive.
//! The kernel sees the frames too: an interface used like this has no addresses. Two things a cable
//! would not do are put right here: a VLAN tag that the kernel has taken out goes back in, and a
//! transport checksum that the sender left to hardware is filled in. One is not: a sender with
//! segmentation offload hands over frames of up to 64 KiB, which are counted as oversize; turn it
//! off at the other end (`ethtool -K IFACE tso off gso off`) and here (`gro off`).

use std::fs::File;
use std::io::Write;

use super::interface::{BUFFER, IDLE_NS, new_report, system_error};
use super::sys::{self, Received, interface_name};
use super::{LinkSwitch, MAX_FRAME, Wire, WireError, WireReport};
use crate::frame::vlan::TAG_LEN;
use crate::frame::{L3, Layout, TransmitChecksums};

/// A network interface of the host.
#[derive(Debug)]
pub struct VethWire {
    link: LinkSwitch,
    name: String,
    socket: File,
    /// A frame begins [`TAG_LEN`] bytes in, or at 0 if a tag was put back.
    buffer: Box<[u8]>,
    /// Where the frame at the port is; empty is none.
    frame: std::ops::Range<usize>,
    idle_until_ns: u64,
    report: WireReport,
}

impl VethWire {
    /// Opens a packet socket on the interface `name` and makes it promiscuous.
    ///
    /// # Errors
    /// There is no such interface, or no permission.
    pub fn open(name: &str) -> Result<Self, WireError> {
        let checked =
            interface_name(name).ok_or_else(|| WireError::InterfaceName(name.to_owned()))?;
        let index = sys::interface_index(&checked).map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => WireError::NoInterface(name.to_owned()),
            _ => system_error(name, "look it up", "CAP_NET_RAW", error),
        })?;
        let socket = sys::open_packet_socket(index)
            .map_err(|error| system_error(name, "open a packet socket", "CAP_NET_RAW", error))?;
        Ok(Self {
            link: LinkSwitch::new(),
            name: name.to_owned(),
            socket,
            buffer: vec![0; TAG_LEN + BUFFER].into(),
            frame: 0..0,
            idle_until_ns: 0,
            report: new_report(),
        })
    }

    /// Makes a received frame what it was on the cable. `None`: no port can carry it.
    fn restore(&mut self, received: Received) -> Option<std::ops::Range<usize>> {
        let end = TAG_LEN + received.length;
        if received.length > MAX_FRAME {
            return None;
        }
        let frame = self.buffer.get_mut(TAG_LEN..end)?;
        if received.checksum_missing {
            fill_checksum(frame);
        }
        match received.vlan {
            Some((ether_type, control)) if received.length >= 12 => {
                self.buffer.copy_within(TAG_LEN..TAG_LEN + 12, 0);
                self.buffer[12..14].copy_from_slice(&ether_type.to_be_bytes());
                self.buffer[14..16].copy_from_slice(&control.to_be_bytes());
                (end <= MAX_FRAME).then_some(0..end)
            }
            _ => Some(TAG_LEN..end),
        }
    }
}

/// Completes a transport checksum, in whose field the sender has put that of the pseudo header.
fn fill_checksum(frame: &mut [u8]) {
    let layout = Layout::of(frame);
    if layout.l3 == L3::Other || layout.l4_offset == 0 {
        return;
    }
    let (mac_len, l4_at) = (usize::from(layout.l3_offset), usize::from(layout.l4_offset));
    let request = TransmitChecksums {
        mac_len,
        ip_len: l4_at - mac_len,
        ip: false,
        l4: Some(layout.l4),
    };
    // The layout says that the headers fit, which is all that could fail.
    let _ = request.insert(&mut frame[..usize::from(layout.l3_end)]);
}

impl Wire for VethWire {
    fn peek(&mut self, now_ns: u64) -> Option<&[u8]> {
        if !self.link.is_up() || (self.frame.is_empty() && now_ns < self.idle_until_ns) {
            return None;
        }
        while self.frame.is_empty() {
            match sys::receive(&self.socket, &mut self.buffer[TAG_LEN..]) {
                Ok(received) => match self.restore(received) {
                    Some(frame) => self.frame = frame,
                    None => self.report.errors.oversize += 1,
                },
                Err(error) => {
                    self.idle_until_ns = now_ns + IDLE_NS;
                    // ENETDOWN is said once when the interface goes down; it may come up again.
                    self.report.not_received(&self.name, &error);
                    return None;
                }
            }
        }
        self.buffer.get(self.frame.clone())
    }

    fn consume(&mut self) {
        if !self.frame.is_empty() {
            self.report.consumed(self.frame.len());
            self.frame = 0..0;
        }
    }

    fn transmit(&mut self, _now_ns: u64, frame: &[u8]) -> bool {
        let outcome = self.socket.write(frame);
        self.report.sent(&self.name, frame.len(), outcome)
    }

    fn drops_when_full(&self) -> bool {
        false
    }

    fn pass_by(&mut self, now_ns: u64, limit: usize) -> usize {
        let mut passed = 0;
        while passed < limit && self.peek(now_ns).is_some() {
            self.frame = 0..0;
            self.report.passed_by += 1;
            passed += 1;
        }
        passed
    }

    fn link(&self) -> &LinkSwitch {
        &self.link
    }

    fn report(&self) -> WireReport {
        self.report.clone()
    }
}
