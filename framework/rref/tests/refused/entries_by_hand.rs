//! Entries and buffer numbers change hands in unsafe code only.
use sumac_device::ring::{BufferPool, Entry, EntrySink, EntrySource};
use sumac_rref::{PacketBatch, PacketCache};

fn forge(batch: &mut PacketBatch) {
    batch.push(Entry::new(7, [0, 0]));
}

fn send_twice(from: &PacketBatch, to: &mut PacketBatch) {
    to.push(from.entries()[0]);
}

fn forget(batch: &mut PacketBatch) {
    batch.advance(1);
}

fn give_twice(cache: &mut PacketCache) {
    cache.give(&[7, 7]);
}

fn main() {}
