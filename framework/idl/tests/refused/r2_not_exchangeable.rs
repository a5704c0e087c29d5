//! What syntax cannot tell, the bounds do: types of one's own, and aliases.
use sumac_interface::{RpcResult, interface};
use sumac_rref::RRef;

struct Plain(u32);
type Text = std::string::String;
type Bytes = std::vec::Vec<u8>;

#[interface]
trait Net: Send {
    fn plain(&self, value: Plain) -> RpcResult<u32>;
    fn alias(&self, value: Text) -> RpcResult<u32>;
    fn result(&self) -> RpcResult<Bytes>;
    fn borrowed(&self, value: &RRef<Plain>) -> RpcResult<u32>;
}

fn main() {}
