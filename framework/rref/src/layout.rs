//! The sizes and alignments of what crosses between domains in memory, for the loader to compare: host and
//! domain are compiled apart and must agree.

use core::mem::{align_of, size_of};

use crate::{Header, Object, Packet, PacketBatch, PacketMeta, RRef};

/// Size, alignment and the size as an `Option` of each shared type, in this build.
pub const LAYOUT: [usize; 21] = {
    let types = [
        of::<Header>(),
        of::<RRef<u64>>(),
        of::<RRef<[u8; 64]>>(),
        of::<Packet>(),
        of::<PacketMeta>(),
        of::<PacketBatch>(),
        of::<Object<dyn Send>>(),
    ];
    let mut numbers = [0; 21];
    let mut i = 0;
    while i < numbers.len() {
        numbers[i] = types[i / 3][i % 3];
        i += 1;
    }
    numbers
};

const fn of<T>() -> [usize; 3] {
    [size_of::<T>(), align_of::<T>(), size_of::<Option<T>>()]
}
