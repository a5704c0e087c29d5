//! VLAN tags: taken out on receive, put in on transmit (datasheet sections 7.4.3 and 7.4.4).
//!
//! The tag's EtherType is a register (VLNCTRL.VET), so it is an argument everywhere.

use super::be16;

/// Bytes of a VLAN tag: EtherType and tag control information.
pub const TAG_LEN: usize = 4;

/// The tag control information of `frame`'s outer tag, if its EtherType is `ether_type`.
#[inline]
pub fn tag(frame: &[u8], ether_type: u16) -> Option<u16> {
    (be16(frame, 12)? == ether_type).then(|| be16(frame, 14))?
}

/// `frame` without its outer tag, as two pieces to write one after the other, and the tag control
/// information; `None` if there is no tag of `ether_type`.
#[inline]
pub fn stripped(frame: &[u8], ether_type: u16) -> Option<(u16, [&[u8]; 2])> {
    let control = tag(frame, ether_type)?;
    Some((control, [&frame[..12], &frame[12 + TAG_LEN..]]))
}

/// Puts a tag behind the two addresses. `false`, and nothing changed, if the frame is too short to
/// hold them.
pub fn insert(frame: &mut Vec<u8>, ether_type: u16, control: u16) -> bool {
    if frame.len() < 12 {
        return false;
    }
    let [e0, e1] = ether_type.to_be_bytes();
    let [c0, c1] = control.to_be_bytes();
    frame.splice(12..12, [e0, e1, c0, c1]);
    true
}
