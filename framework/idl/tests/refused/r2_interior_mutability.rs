//! Nothing changes behind a shared borrow, also not behind an alias.
use std::sync::atomic::AtomicU32;

use sumac_interface::{Exchangeable, RpcResult, interface};
use sumac_rref::RRef;

type Counter = AtomicU32;
type Slot = std::cell::Cell<u8>;

#[derive(Exchangeable)]
struct Shared {
    count: Counter,
}

#[interface]
trait Net: Send {
    fn atomic(&self, count: &RRef<Counter>) -> RpcResult<()>;
    fn cell(&self, slot: &RRef<[Slot; 4]>) -> RpcResult<()>;
}

fn main() {}
