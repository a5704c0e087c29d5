//! A shared object that was moved away is not the mover's any more.
use sumac_rref::{RRef, SharedHeap};

fn send(_: RRef<u64>) {}

fn main() {
    let object = SharedHeap::create().allocate(7u64).unwrap();
    send(object);
    println!("{}", *object);
}
