//! Exchangeable types of crates that know nothing of domains: addresses in packets.

use sumac_packet::MacAddress;

use crate::{Exchangeable, TagHash, TypeTag};

// SAFETY: six bytes; the tag is made of the name, the size and the bytes' tag.
#[diagnostic::do_not_recommend]
unsafe impl Exchangeable for MacAddress {
    const TAG: TypeTag = TagHash::new("MacAddress")
        .number(size_of::<Self>() as u64)
        .tag(<[u8; 6]>::TAG)
        .finish();
}
