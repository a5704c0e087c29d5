//! VLAN tags (IEEE 802.1Q, 802.1ad): read, and written or removed in place.

use crate::bytes::{be16, put};
use crate::{BufferTooSmall, EtherType};

/// Bytes of a tag: protocol id and control information.
pub const TAG_LEN: usize = 4;

/// Where a frame's outermost tag lies: behind the two addresses.
const TAG_AT: usize = 12;

/// Tag control information: priority, drop eligible indicator, VLAN id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct VlanTag(pub u16);

impl VlanTag {
    /// A tag of VLAN `id` (12 bits, 0 for "priority only") and `priority` (3 bits); bits beyond
    /// are dropped.
    #[inline]
    pub const fn new(id: u16, priority: u8) -> Self {
        Self((id & 0x0fff) | ((priority as u16 & 7) << 13))
    }

    /// VLAN id, 0 to 4095.
    #[inline]
    pub const fn id(self) -> u16 {
        self.0 & 0x0fff
    }

    /// Priority code point, 0 to 7.
    #[inline]
    pub const fn priority(self) -> u8 {
        (self.0 >> 13) as u8
    }

    /// Drop eligible indicator.
    #[inline]
    pub const fn drop_eligible(self) -> bool {
        self.0 & 0x1000 != 0
    }
}

/// The tag at the front of `payload`, the EtherType behind it and the bytes behind that; `None` if
/// `ethertype` announces no tag or the tag is cut short.
#[inline]
pub fn parse(ethertype: EtherType, payload: &[u8]) -> Option<(VlanTag, EtherType, &[u8])> {
    if !ethertype.is_vlan() {
        return None;
    }
    let (tag, rest) = payload.split_at_checked(TAG_LEN)?;
    Some((VlanTag(be16(tag, 0)), EtherType(be16(tag, 2)), rest))
}

/// Puts a tag into the frame in the first `len` bytes of `buffer`; the new length comes back.
///
/// # Errors
/// [`BufferTooSmall`] if the frame has no addresses, or `buffer` no room for four more bytes.
pub fn insert(
    buffer: &mut [u8],
    len: usize,
    protocol: EtherType,
    tag: VlanTag,
) -> Result<usize, BufferTooSmall> {
    let have = buffer.len();
    let need = len.max(TAG_AT).saturating_add(TAG_LEN);
    if have < need || len < TAG_AT {
        return Err(BufferTooSmall {
            need,
            have: have.min(len),
        });
    }
    buffer.copy_within(TAG_AT..len, TAG_AT + TAG_LEN);
    put(buffer, TAG_AT, protocol.0.to_be_bytes());
    put(buffer, TAG_AT + 2, tag.0.to_be_bytes());
    Ok(len + TAG_LEN)
}

/// Takes the outermost tag out of a frame. The frame moves to the front of `frame`, four bytes
/// shorter; the tag comes back, or `None` if there is no whole one and nothing changed.
pub fn remove(frame: &mut [u8]) -> Option<VlanTag> {
    let protocol = EtherType(u16::from_be_bytes([
        *frame.get(TAG_AT)?,
        *frame.get(TAG_AT + 1)?,
    ]));
    let (tag, _, _) = parse(protocol, frame.get(TAG_AT + 2..)?)?;
    frame.copy_within(TAG_AT + TAG_LEN.., TAG_AT);
    Some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deconstruct() {
        let bytes = [0xb0, 0x64, 0x08, 0x06, 1, 2];
        let (tag, next, rest) = parse(EtherType::VLAN, &bytes).unwrap();
        assert_eq!((tag.id(), tag.priority()), (100, 5));
        assert!(tag.drop_eligible());
        assert_eq!((next, rest), (EtherType::ARP, &bytes[4..]));
        assert_eq!(parse(EtherType::IPV4, &bytes), None);
    }

    #[test]
    fn construct() {
        assert_eq!(VlanTag::new(4095, 7).0, 0xefff);
        let mut buffer = [0; 20];
        buffer[..16].copy_from_slice(b"ddddddssssss\x08\x00pp");
        let len = insert(&mut buffer, 16, EtherType::VLAN, VlanTag::new(5, 1));
        assert_eq!(len, Ok(20));
        assert_eq!(&buffer, b"ddddddssssss\x81\x00\x20\x05\x08\x00pp");
        assert_eq!(remove(&mut buffer), Some(VlanTag::new(5, 1)));
        assert_eq!(&buffer[..16], b"ddddddssssss\x08\x00pp");
        assert_eq!(remove(&mut buffer[..16]), None);
    }

    #[test]
    fn truncated() {
        assert_eq!(parse(EtherType::VLAN, &[0, 1, 8]), None);
        assert_eq!(remove(&mut [0x81; 15]), None);
        assert_eq!(remove(&mut []), None);
        let tag = VlanTag::new(1, 0);
        assert!(insert(&mut [0; 17], 14, EtherType::VLAN, tag).is_err());
        assert!(insert(&mut [0; 30], 11, EtherType::VLAN, tag).is_err());
        assert!(insert(&mut [0; 30], usize::MAX, EtherType::VLAN, tag).is_err());
    }
}
