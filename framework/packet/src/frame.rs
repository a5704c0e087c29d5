//! Whole frames for tests and generators: UDP over IPv4 over Ethernet, checksums right.

use core::net::{IpAddr, Ipv4Addr};

use crate::{
    BufferTooSmall, EtherType, EthernetRepr, IpProtocol, Ipv4Repr, MacAddress, UdpPacket, UdpRepr,
    ethernet, ipv4, udp,
};

/// Bytes of all three headers.
pub const HEADERS_LEN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;

/// One end of a UDP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// MAC address.
    pub mac: MacAddress,
    /// IPv4 address.
    pub ip: Ipv4Addr,
    /// UDP port.
    pub port: u16,
}

/// A UDP frame to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFrame {
    /// Who sends it.
    pub source: Endpoint,
    /// Who is to get it.
    pub destination: Endpoint,
    /// UDP payload in bytes.
    pub payload_len: u16,
}

impl UdpFrame {
    /// The frame whose whole length is `frame_len` bytes without check sequence; `None` if that is
    /// below [`HEADERS_LEN`] or above what IPv4 can say.
    pub fn of_len(source: Endpoint, destination: Endpoint, frame_len: usize) -> Option<Self> {
        let payload_len = frame_len.checked_sub(HEADERS_LEN)?;
        let frame = Self {
            source,
            destination,
            payload_len: payload_len.try_into().ok()?,
        };
        (frame.ip_len() <= usize::from(u16::MAX)).then_some(frame)
    }

    /// Length of the frame in bytes, without check sequence or padding.
    pub const fn len(&self) -> usize {
        HEADERS_LEN + self.payload_len as usize
    }

    /// Whether the frame has no payload.
    pub const fn is_empty(&self) -> bool {
        self.payload_len == 0
    }

    /// Writes the frame to the front of `buffer` and lets `fill` write the payload; the frame's
    /// length comes back.
    ///
    /// # Errors
    /// [`BufferTooSmall`] if it does not fit.
    pub fn emit(
        &self,
        buffer: &mut [u8],
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<usize, BufferTooSmall> {
        let ethernet = EthernetRepr {
            destination: self.destination.mac,
            source: self.source.mac,
            ethertype: EtherType::IPV4,
        };
        let (need, have) = (self.len(), buffer.len());
        let too_small = |_| BufferTooSmall { need, have };
        let ip_payload = udp::HEADER_LEN + usize::from(self.payload_len);
        let ip = Ipv4Repr {
            source: self.source.ip,
            destination: self.destination.ip,
            protocol: IpProtocol::UDP,
            ttl: 64,
            identification: 0,
            payload_len: ip_payload
                .try_into()
                .map_err(|_| BufferTooSmall { need, have })?,
        };
        let udp = UdpRepr {
            source_port: self.source.port,
            destination_port: self.destination.port,
            payload_len: self.payload_len,
        };
        let datagram = ip
            .emit(ethernet.emit(buffer).map_err(too_small)?)
            .map_err(too_small)?;
        fill(udp.emit(datagram).map_err(too_small)?);
        if let Ok(mut packet) = UdpPacket::new_checked(datagram) {
            packet.fill_checksum(IpAddr::V4(ip.source), IpAddr::V4(ip.destination));
        }
        Ok(need)
    }

    fn ip_len(&self) -> usize {
        self.len() - ethernet::HEADER_LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EthernetFrame, Ipv4Packet, ParseError};

    fn endpoint(n: u8) -> Endpoint {
        Endpoint {
            mac: MacAddress([2, 0, 0, 0, 0, n]),
            ip: Ipv4Addr::new(10, 0, 0, n),
            port: 1000 + u16::from(n),
        }
    }

    #[test]
    fn construct_and_deconstruct() -> Result<(), ParseError> {
        let frame = UdpFrame::of_len(endpoint(1), endpoint(2), 60).unwrap();
        assert_eq!((frame.len(), frame.payload_len), (60, 18));
        let mut buffer = [0; 64];
        let len = frame.emit(&mut buffer, |payload| payload.fill(0x5a));
        assert_eq!(len, Ok(60));
        let ethernet = EthernetFrame::new_checked(&buffer[..60])?;
        assert_eq!(ethernet.destination(), endpoint(2).mac);
        let ip = Ipv4Packet::new_checked(ethernet.payload())?;
        assert!(ip.verify_checksum());
        let udp = UdpPacket::new_checked(ip.payload())?;
        assert_eq!(udp.source_port(), 1001);
        assert!(udp.checksum() != 0);
        assert!(udp.verify_checksum(ip.source().into(), ip.destination().into()));
        assert_eq!(udp.payload(), &[0x5a; 18]);
        Ok(())
    }

    #[test]
    fn sizes_that_cannot_be() {
        let of_len = |len| UdpFrame::of_len(endpoint(1), endpoint(2), len);
        assert_eq!(of_len(41), None);
        assert!(of_len(42).is_some_and(|frame| frame.is_empty()));
        assert!(of_len(65_549).is_some());
        assert_eq!(of_len(65_550), None);
        assert_eq!(of_len(usize::MAX), None);
        let error = of_len(60).unwrap().emit(&mut [0; 59], |_| ());
        assert_eq!(error, Err(BufferTooSmall { need: 60, have: 59 }));
        let oversized = UdpFrame {
            payload_len: u16::MAX,
            ..of_len(60).unwrap()
        };
        assert!(oversized.emit(&mut [0; 70_000], |_| ()).is_err());
    }
}
