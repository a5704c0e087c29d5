use sumac_interface::{RpcResult, interface};

#[interface]
trait Net: Send {
    fn generic<T>(&self, value: u8) -> RpcResult<()>;
    fn lifetime<'a>(&'a self) -> RpcResult<()>;
    fn clause(&self) -> RpcResult<()>
    where
        u8: Copy;
    async fn later(&self) -> RpcResult<()>;
    unsafe fn careful(&self) -> RpcResult<()>;
    extern "C" fn foreign(&self) -> RpcResult<()>;
    fn default(&self) -> RpcResult<u32> {
        Ok(7)
    }
    fn unnamed(&self, _: u32) -> RpcResult<()>;
    fn like_self(&self, other: Self) -> RpcResult<()>;
    #[cfg(test)]
    fn sometimes(&self) -> RpcResult<()>;
}

fn main() {}
