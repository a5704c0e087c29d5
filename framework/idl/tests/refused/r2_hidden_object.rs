//! Interface objects behind an alias, and in a struct: they would cross without a proxy.
use sumac_interface::{Exchangeable, Object, RpcResult, interface};

#[interface]
trait Other: Send {
    fn nothing(&self) -> RpcResult<()>;
}

type Alias = Object<dyn Other>;

#[derive(Exchangeable)]
struct Holder {
    object: Alias,
}

#[interface]
trait Net: Send {
    fn alias(&self, object: Alias) -> RpcResult<()>;
}

fn main() {}
