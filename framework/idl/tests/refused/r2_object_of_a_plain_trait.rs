//! A trait that is no interface.
use sumac_interface::{Object, RpcResult, interface};

trait Plain: Send {
    fn borrow(&self) -> &u32;
}

#[interface]
trait Net: Send {
    fn ask(&self, object: Object<dyn Plain>) -> RpcResult<()>;
}

fn main() {}
