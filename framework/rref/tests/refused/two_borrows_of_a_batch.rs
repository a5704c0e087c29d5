//! A packet of a batch is borrowed once at a time.
use sumac_rref::PacketBatch;

fn twice(batch: &mut PacketBatch) {
    let mut first = batch.packets_mut().next().unwrap();
    let mut again = batch.packets_mut().next().unwrap();
    first.data_mut()[0] = 1;
    again.data_mut()[0] = 2;
}

fn sent_while_borrowed(mut batch: PacketBatch, send: fn(PacketBatch)) {
    let mut packet = batch.packets_mut().next().unwrap();
    send(batch);
    packet.data_mut()[0] = 1;
}

fn main() {}
