//! pcapng: blocks, the interfaces they describe, and the frames in them.
//!
//! Blocks that hold no frames are skipped. A capture of several interfaces is read as one.

use std::io::Read;

use pcap_parser::{Block, parse_block_be, parse_block_le};

use crate::read::{Found, Input};
use crate::{ETHERNET, Fault, NANOSECONDS};

/// Blocks are rarely longer than a frame; name tables and key logs can be.
const MAX_BLOCK: usize = 16 << 20;
/// A section header's type reads the same in both byte orders.
const SECTION: u32 = 0x0A0D_0D0A;
/// The packet block of the format's drafts.
const OBSOLETE_PACKET: u32 = 2;
const BYTE_ORDER: u32 = 0x1A2B_3C4D;

/// One section of a pcapng file: its byte order and interfaces.
#[derive(Debug)]
pub(crate) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// A frame that was found while looking for the first interface.
    pending: Option<Found>,
}

#[derive(Debug)]
struct Interface {
    /// Timestamp units in a second.
    resolution: u64,
    /// Seconds to add to each timestamp.
    offset_s: i64,
    /// The longest frame captured; 0 is no limit.
    snap_length: u32,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at {} ns", self.range, self.time_ns)
    }
}

impl Section {
    /// Continues behind the first block type of the file, as far as the first interface, so that a
    /// capture of another link type is refused at once.
    pub(crate) fn open<R: Read>(input: &mut Input<R>) -> Result<Self, Fault> {
        let mut section = Self {
            big_endian: false,
            interfaces: Vec::new(),
            pending: None,
        };
        section.block(input, SECTION.to_le_bytes())?;
        while section.interfaces.is_empty() && section.pending.is_none() {
            let mut kind = [0; 4];
            if !input.begin(&mut kind)? {
                break;
            }
            section.pending = section.block(input, kind)?;
        }
        Ok(section)
    }

    pub(crate) fn next<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<Found>, Fault> {
        if let Some(found) = self.pending.take() {
            return Ok(Some(found));
        }
        let mut kind = [0; 4];
        while input.begin(&mut kind)? {
            if let Some(found) = self.block(input, kind)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Reads the rest of the block of type `kind` and takes from it what it has.
    fn block<R: Read>(
        &mut self,
        input: &mut Input<R>,
        kind: [u8; 4],
    ) -> Result<Option<Found>, Fault> {
        let mut head = [0; 12];
        head[..4].copy_from_slice(&kind);
        input.exact(&mut head[4..])?;
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        if u32::from_le_bytes(kind) == SECTION {
            self.interfaces.clear();
            self.big_endian = match u32::from_le_bytes(word(8)) {
                BYTE_ORDER => false,
                order if order.swap_bytes() == BYTE_ORDER => true,
                _ => return Err(Fault::NotACapture),
            };
        }
        let length = if self.big_endian {
            u32::from_be_bytes
        } else {
            u32::from_le_bytes
        }(word(4));
        let length = length as usize;
        if length < head.len() || length > MAX_BLOCK || !length.is_multiple_of(4) {
            return Err(input.damaged("a block length out of range"));
        }
        input.data.clear();
        input.data.extend(head);
        input.append(length - head.len())?;
        self.take(input)
    }

    /// Takes what the block in `input.data` has: an interface, a frame, or nothing of interest.
    fn take<R: Read>(&mut self, input: &Input<R>) -> Result<Option<Found>, Fault> {
        let block = if self.big_endian {
            parse_block_be
        } else {
            parse_block_le
        }(&input.data);
        let (_, block) = block.map_err(|_| input.damaged("a block that does not hold together"))?;
        match block {
            Block::SectionHeader(header) => match (header.major_version, header.minor_version) {
                (1, 0 | 2) => Ok(None),
                (major, minor) => Err(Fault::Version { major, minor }),
            },
            Block::InterfaceDescription(interface) => {
                let link_type = interface.linktype.0 as u32;
                if link_type != ETHERNET {
                    return Err(Fault::LinkType(link_type));
                }
                let resolution = interface
                    .ts_resolution()
                    .filter(|&resolution| resolution > 0);
                self.interfaces.push(Interface {
                    resolution: resolution.ok_or(input.damaged("a timestamp resolution"))?,
                    offset_s: interface.if_tsoffset,
                    snap_length: interface.snaplen,
                });
                Ok(None)
            }
            Block::EnhancedPacket(packet) => {
                let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let time_ns = self.interface(packet.if_id, input)?.time_ns(units);
                found(input, 28, packet.caplen as usize, packet.origlen, time_ns).map(Some)
            }
            Block::SimplePacket(packet) => {
                let snap_length = self.interface(0, input)?.snap_length;
                let limit = if snap_length == 0 {
                    u32::MAX
                } else {
                    snap_length
                };
                let captured = packet.origlen.min(limit) as usize;
                found(input, 12, captured, packet.origlen, 0).map(Some)
            }
            Block::Unknown(block) if block.block_type == OBSOLETE_PACKET => {
                Err(input.damaged("a packet block of the format's drafts"))
            }
            _ => Ok(None),
        }
    }

    fn interface<R: Read>(&self, id: u32, input: &Input<R>) -> Result<&Interface, Fault> {
        let interface = self.interfaces.get(id as usize);
        interface.ok_or_else(|| input.damaged("a frame of an interface that is not described"))
    }
}

impl Interface {
    fn time_ns(&self, units: u64) -> u64 {
        let ns = u128::from(units) * u128::from(NANOSECONDS) / u128::from(self.resolution);
        let offset = i128::from(self.offset_s) * i128::from(NANOSECONDS);
        (ns as i128 + offset).clamp(0, i128::from(u64::MAX)) as u64
    }
}

/// The frame of `captured` bytes that begins `at` bytes into the block and ends before the length
/// at the block's end.
fn found<R: Read>(
    input: &Input<R>,
    at: usize,
    captured: usize,
    original: u32,
    time_ns: u64,
) -> Result<Found, Fault> {
    input.check_whole(captured, original)?;
    if at + captured > input.data.len() - 4 {
        return Err(input.damaged("a frame longer than its block"));
    }
    Ok(Found {
        range: at..at + captured,
        time_ns,
    })
}
