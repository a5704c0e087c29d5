use sumac_interface::{RpcResult, interface};

#[interface]
trait Net: Send {
    fn none() -> RpcResult<()>;
    fn value(self) -> RpcResult<()>;
    fn boxed(self: Box<Self>) -> RpcResult<()>;
    fn typed(self: &Self) -> RpcResult<()>;
    fn not_self(this: u32) -> RpcResult<()>;
}

fn main() {}
