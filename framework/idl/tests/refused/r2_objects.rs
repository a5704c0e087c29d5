//! Interface objects where no proxy can be put before them, or of more than one interface.
use sumac_interface::{Object, RpcResult, interface};
use sumac_rref::RRef;

#[interface]
trait Other: Send {
    fn nothing(&self) -> RpcResult<()>;
}

#[interface]
trait Net: Send {
    fn array(&self, objects: [Object<dyn Other>; 2]) -> RpcResult<()>;
    fn on_heap(&self, object: RRef<Object<dyn Other>>) -> RpcResult<()>;
    fn borrowed(&self, object: &RRef<Object<dyn Other>>) -> RpcResult<()>;
    fn two(&self, object: Object<dyn Other + Sync>) -> RpcResult<()>;
    fn sized(&self, object: Object<u32>) -> RpcResult<()>;
}

fn main() {}
