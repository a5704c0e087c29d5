use std::cell::Cell;
use std::sync::atomic::AtomicU32;

use sumac_interface::{RpcResult, interface};
use sumac_rref::RRef;

#[interface]
trait Net: Send {
    fn reference(&self, value: &u32) -> RpcResult<()>;
    fn exclusive(&self, value: &mut u32) -> RpcResult<()>;
    fn exclusive_object(&self, value: &mut RRef<u32>) -> RpcResult<()>;
    fn forever(&self, value: &'static RRef<u32>) -> RpcResult<()>;
    fn slice(&self, value: &[u8]) -> RpcResult<()>;
    fn text(&self, value: &str) -> RpcResult<()>;
    fn boxed(&self, value: Box<u32>) -> RpcResult<()>;
    fn vec(&self, value: Vec<u8>) -> RpcResult<()>;
    fn string(&self, value: String) -> RpcResult<()>;
    fn pointer(&self, value: *const u8) -> RpcResult<()>;
    fn pointer_mut(&self, value: *mut u8) -> RpcResult<()>;
    fn function(&self, value: fn(u32) -> u32) -> RpcResult<()>;
    fn closure(&self, value: impl Fn(u32) -> u32) -> RpcResult<()>;
    fn boxed_closure(&self, value: Box<dyn Fn()>) -> RpcResult<()>;
    fn object(&self, value: &dyn Send) -> RpcResult<()>;
    fn cell(&self, value: &RRef<Cell<u32>>) -> RpcResult<()>;
    fn atomic(&self, value: &RRef<AtomicU32>) -> RpcResult<()>;
    fn nested(&self, value: Option<(u8, [&u8; 2])>) -> RpcResult<()>;
    fn returned(&self) -> RpcResult<&u32>;
    fn returned_object(&self) -> RpcResult<&RRef<u32>>;
    fn returned_vec(&self) -> RpcResult<Vec<u8>>;
}

fn main() {}
