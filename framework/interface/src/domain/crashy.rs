//! [`Crashy`]: an interface for tests and benchmarks of isolation. Its object fails on request, and passes
//! things in every way there is.

use sumac_idl::{Exchangeable, interface};
use sumac_rref::RRef;

use crate::{Object, RpcResult};

/// How to fail. A domain of safe code has no way to some of these, and answers
/// [`RpcError::Refused`](crate::RpcError::Refused).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Exchangeable)]
pub enum Failure {
    /// `panic!`.
    Panic,
    /// An access to address zero.
    Null,
    /// A division by zero.
    Divide,
    /// An instruction that is none.
    Illegal,
    /// Recursion without end.
    Overflow,
    /// A loop without end.
    Spin,
    /// Allocation without end.
    OutOfMemory,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Panic,
        Self::Null,
        Self::Divide,
        Self::Illegal,
        Self::Overflow,
        Self::Spin,
        Self::OutOfMemory,
    ];
}

/// What is passed to and fro.
pub type Block = [u64; 8];

/// Fails on request.
#[interface]
pub trait Crashy: Send {
    /// Does nothing.
    fn nothing(&self) -> RpcResult<()>;

    /// Returns its argument.
    fn echo(&self, value: u64) -> RpcResult<u64>;

    /// Returns its argument, moved in and back.
    fn echo_rref(&mut self, object: RRef<Block>) -> RpcResult<RRef<Block>>;

    /// The sum of a borrowed object's numbers.
    fn sum(&self, object: &RRef<Block>) -> RpcResult<u64>;

    /// Keeps a moved object for good.
    fn keep(&mut self, object: RRef<Block>) -> RpcResult<()>;

    /// Gives the object kept longest back.
    fn give_back(&mut self) -> RpcResult<Option<RRef<Block>>>;

    /// Allocates `bytes` on the private heap and keeps them.
    #[once]
    fn allocate(&mut self, bytes: u64) -> RpcResult<()>;

    /// Fails.
    #[once]
    fn fail(&mut self, how: Failure) -> RpcResult<()>;

    /// Fails with a moved object in hand.
    fn fail_with(&mut self, how: Failure, object: RRef<Block>) -> RpcResult<RRef<Block>>;

    /// Fails while it borrows.
    #[once]
    fn fail_borrowing(&mut self, how: Failure, object: &RRef<Block>) -> RpcResult<u64>;

    /// Returns the interface object it was given: the caller gets a proxy before a proxy.
    fn echo_object(&mut self, object: Object<dyn Crashy>) -> RpcResult<Object<dyn Crashy>>;

    /// Another object of the same domain.
    fn another(&mut self) -> RpcResult<Object<dyn Crashy>>;

    /// Keeps an interface object for [`call_back`](Self::call_back); drops the one it had.
    fn meet(&mut self, other: Option<Object<dyn Crashy>>) -> RpcResult<()>;

    /// Keeps what makes more domains, for [`spawn`](Self::spawn); drops what it had.
    fn found(&mut self, maker: Option<Object<dyn CreateCrashy>>) -> RpcResult<()>;

    /// Has `rounds` domains made one after the other, calls each, has it fail if `how` says so, and ends
    /// it; returns how many did as they should.
    #[once]
    fn spawn(&mut self, rounds: u32, how: Option<Failure>) -> RpcResult<u32>;

    /// At depth zero fails if `how` says so, and returns 0; else has the object that it met do the same at
    /// `depth` less one, and returns one more than that.
    #[once]
    fn call_back(&mut self, depth: u32, how: Option<Failure>) -> RpcResult<u32>;

    /// As [`call_back`](Self::call_back), with the object to call passed along; it is handed back and
    /// forth.
    fn call_through(
        &mut self,
        other: Object<dyn Crashy>,
        depth: u32,
        how: Option<Failure>,
    ) -> RpcResult<u32>;
}

/// Makes domains and ends them: what a domain needs that is to do so, and has only if it was given it.
#[interface]
pub trait CreateCrashy: Send {
    /// A fresh domain: its number, and what it offers.
    fn create(&mut self) -> RpcResult<(u32, Object<dyn Crashy>)>;

    /// Ends a domain that this made, dead or alive, and frees all it had; whether there was one.
    fn end(&mut self, number: u32) -> RpcResult<bool>;
}
