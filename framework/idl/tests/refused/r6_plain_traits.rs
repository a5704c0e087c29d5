use sumac_interface::{RpcResult, interface};

#[interface]
trait NotSend {
    fn nothing(&self) -> RpcResult<()>;
}

#[interface]
trait Super: Send + std::fmt::Debug {
    fn nothing(&self) -> RpcResult<()>;
}

#[interface]
trait Generic<T>: Send {
    fn nothing(&self) -> RpcResult<()>;
}

#[interface]
unsafe trait Careful: Send {
    fn nothing(&self) -> RpcResult<()>;
}

#[interface]
trait Associated: Send {
    type Item;
    const LIMIT: u32;
    fn nothing(&self) -> RpcResult<()>;
}

#[interface(fast)]
trait Arguments: Send {
    fn nothing(&self) -> RpcResult<()>;
}

fn main() {}
