//! Checksum offload: verifying on receive (datasheet section 7.1.11), inserting on transmit
//! (7.2.5).

use super::checksum::{Sum, crc32c};
use super::{L3, L4, Layout, be16};

/// What the port says of one checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Not checked: there is none, or not one the port knows. The IPCS or L4CS bit stays clear.
    #[default]
    Unchecked,
    /// Checked and correct.
    Good,
    /// Checked and wrong: the IPE or TCPE bit is set.
    Bad,
}

impl Verdict {
    fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }
}

/// What the port says of a received frame's checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveChecksums {
    /// The IPv4 header checksum.
    pub ip: Verdict,
    /// The TCP or UDP checksum, or the SCTP CRC.
    pub l4: Verdict,
}

impl ReceiveChecksums {
    /// Verifies the checksums of `frame`, whose layout is `layout`.
    ///
    /// Fragments, packets cut short and IPv6 packets with addresses in extension headers have
    /// their transport checksum left unchecked, as has a UDP packet over IPv4 whose sender
    /// computed none (a zero field; the first 82599s are known to flag those as wrong now and
    /// then, which drivers work around).
    #[inline]
    pub fn verify(frame: &[u8], layout: &Layout) -> Self {
        let packet = &frame[..frame.len().min(usize::from(layout.l3_end))];
        let ip = match layout.l3 {
            L3::Ipv4 => verify_ipv4(packet, layout),
            _ => Verdict::Unchecked,
        };
        let skip = layout.truncated || layout.fragment || layout.opaque || layout.l4 == L4::Other;
        let l4 = if skip {
            None
        } else {
            verify_l4(packet, layout)
        };
        Self {
            ip,
            l4: l4.unwrap_or_default(),
        }
    }
}

#[inline]
fn verify_ipv4(packet: &[u8], layout: &Layout) -> Verdict {
    let rest = packet
        .get(usize::from(layout.l3_offset)..)
        .unwrap_or_default();
    let sum = match rest.first_chunk::<20>() {
        // Of a length known beforehand: nearly every header.
        Some(header) if !layout.extended => Sum::default().bytes(header),
        Some(header) => {
            let length = usize::from(header[0] & 0xF) * 4;
            let Some(header) = rest.get(..length) else {
                return Verdict::Unchecked;
            };
            Sum::default().bytes(header)
        }
        None => return Verdict::Unchecked,
    };
    Verdict::of(sum.folded() == 0xFFFF)
}

/// `None` where the checksum is left unchecked.
#[inline]
fn verify_l4(packet: &[u8], layout: &Layout) -> Option<Verdict> {
    let segment = packet.get(usize::from(layout.l4_offset)..)?;
    match layout.l4 {
        L4::Udp => {
            let length = usize::from(be16(segment, 4)?);
            if be16(segment, 6)? == 0 && layout.l3 == L3::Ipv4 {
                return None;
            }
            let Some(datagram) = segment.get(..length).filter(|datagram| datagram.len() >= 8)
            else {
                return Some(Verdict::Bad);
            };
            Some(verify_sum(packet, layout, datagram, 17))
        }
        L4::Tcp => Some(verify_sum(packet, layout, segment, 6)),
        L4::Sctp => {
            let (head, tail) = (segment.get(..8)?, segment.get(12..)?);
            let stored = u32::from_le_bytes(segment.get(8..12)?.try_into().ok()?);
            Some(Verdict::of(crc32c(&[head, &[0; 4], tail]) == stored))
        }
        L4::Other => None,
    }
}

#[inline]
fn verify_sum(packet: &[u8], layout: &Layout, segment: &[u8], protocol: u8) -> Verdict {
    match pseudo_header(packet, layout, segment.len(), protocol) {
        Some(sum) => Verdict::of(sum.bytes(segment).folded() == 0xFFFF),
        None => Verdict::Unchecked,
    }
}

/// The sum of the pseudo header for a transport segment of `length` bytes; `None` without IP.
#[inline]
pub fn pseudo_header(frame: &[u8], layout: &Layout, length: usize, protocol: u8) -> Option<Sum> {
    let at = usize::from(layout.l3_offset);
    let addresses = match layout.l3 {
        L3::Ipv4 => frame.get(at + 12..at + 20)?,
        L3::Ipv6 => frame.get(at + 8..at + 40)?,
        _ => return None,
    };
    let length = u16::try_from(length).ok()?;
    Some(
        Sum::default()
            .bytes(addresses)
            .word(length)
            .word(u16::from(protocol)),
    )
}

/// The checksums a transmit descriptor and its context ask for (datasheet section 7.2.3.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransmitChecksums {
    /// MACLEN: bytes before the IP header, VLAN tags included.
    pub mac_len: usize,
    /// IPLEN: bytes of IP header, options or extension headers included.
    pub ip_len: usize,
    /// IXSM with TUCMD.IPV4: insert the IPv4 header checksum.
    pub ip: bool,
    /// TXSM with TUCMD.L4T: insert this protocol's checksum.
    pub l4: Option<L4>,
}

/// A checksum that cannot be inserted: the context does not fit the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// MACLEN + IPLEN reach beyond the frame, or IPLEN is no IPv4 header's.
    #[error("the context's header lengths do not fit the frame")]
    Lengths,
    /// The transport header does not fit the frame, or no transport protocol was named.
    #[error("the transport header does not fit the frame")]
    Transport,
}

impl TransmitChecksums {
    /// Puts the checksums into `frame`.
    ///
    /// For TCP and UDP the driver has put the sum of the pseudo header into the checksum field
    /// (section 7.2.5.1); the port adds everything from the transport header to the frame's end.
    /// A UDP checksum that comes to 0 is sent as 0xFFFF. For SCTP the field's contents do not
    /// matter.
    ///
    /// # Errors
    /// The context does not fit the frame, which then is unchanged.
    pub fn insert(&self, frame: &mut [u8]) -> Result<(), InsertError> {
        let l4_at = self.mac_len.saturating_add(self.ip_len);
        if l4_at > frame.len() || (self.ip && self.ip_len < 20) {
            return Err(InsertError::Lengths);
        }
        if let Some(l4) = self.l4 {
            insert_l4(&mut frame[l4_at..], l4)?;
        }
        if self.ip {
            let header = &mut frame[self.mac_len..l4_at];
            header[10..12].fill(0);
            let checksum = Sum::default().bytes(header).checksum();
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        Ok(())
    }
}

fn insert_l4(segment: &mut [u8], l4: L4) -> Result<(), InsertError> {
    let (field, header) = match l4 {
        L4::Tcp => (16, 20),
        L4::Udp => (6, 8),
        L4::Sctp => (8, 12),
        L4::Other => return Err(InsertError::Transport),
    };
    if segment.len() < header {
        return Err(InsertError::Transport);
    }
    if l4 == L4::Sctp {
        segment[field..field + 4].fill(0);
        let crc = crc32c(&[segment]);
        segment[field..field + 4].copy_from_slice(&crc.to_le_bytes());
        return Ok(());
    }
    let mut checksum = Sum::default().bytes(segment).checksum();
    if checksum == 0 && l4 == L4::Udp {
        checksum = 0xFFFF;
    }
    segment[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}
