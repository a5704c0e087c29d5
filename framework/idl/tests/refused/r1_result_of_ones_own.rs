//! A type that is only called `RpcResult`.
use sumac_interface::interface;

type RpcResult<T> = Option<T>;

#[interface]
trait Net: Send {
    fn own(&self) -> RpcResult<u32>;
}

fn main() {}
