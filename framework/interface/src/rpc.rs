//! Calls between domains: what every interface method returns, and what stands behind a proxy.

use sumac_idl::Exchangeable;
use sumac_rref::{Exchangeable, Object, RRef};

/// What every method of an interface returns: the call may fail because its callee did.
pub type RpcResult<T> = Result<T, RpcError>;

/// Why a domain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Exchangeable, thiserror::Error)]
#[repr(u64)]
pub enum Cause {
    /// It panicked.
    #[error("panic")]
    Panic = 1,
    /// Its memory quota was used up.
    #[error("out of memory")]
    OutOfMemory = 2,
    /// It touched memory that is not there, or not to be written.
    #[error("memory fault")]
    MemoryFault = 3,
    /// It divided by zero, or overflowed a division.
    #[error("divide error")]
    DivideError = 4,
    /// It came upon an instruction that is none.
    #[error("illegal instruction")]
    IllegalInstruction = 5,
    /// Its stack was used up.
    #[error("stack overflow")]
    StackOverflow = 6,
    /// A call took longer than it may.
    #[error("call over its deadline")]
    Deadline = 7,
    /// It was ended from outside.
    #[error("ended from outside")]
    Killed = 8,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Panic,
        Self::OutOfMemory,
        Self::MemoryFault,
        Self::DivideError,
        Self::IllegalInstruction,
        Self::StackOverflow,
        Self::Deadline,
        Self::Killed,
    ];

    /// The cause of this number.
    pub fn from_number(number: u32) -> Option<Self> {
        let number = u64::from(number);
        Self::ALL.into_iter().find(|cause| *cause as u64 == number)
    }
}

/// Why a call came back without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Exchangeable, thiserror::Error)]
pub enum RpcError {
    /// The callee is dead, or died in this call: what was moved into the call is gone.
    #[error("the domain called is dead ({0})")]
    Dead(Cause),
    /// The domain that called is dead: it ends as this call returns.
    #[error("the calling domain is dead")]
    CallerDead,
    /// Calls are nested too deeply; nothing was called, what was to be moved is dropped.
    #[error("calls between domains are nested too deeply")]
    Nesting,
    /// Too little stack is left for the callee; nothing was called.
    #[error("too little stack is left for a call into another domain")]
    Stack,
    /// The callee refused: out of something, or asked for what it does not have.
    #[error("the domain called refused")]
    Refused,
}

/// What stands between a caller and a callee. The host's runtime implements it; proxies are generic over
/// it, so that generated code is safe and domains link no runtime.
pub trait Gate: Sized + Send + Sync + 'static {
    /// Runs `work` inside the callee. What changes hands does so in there, by [`give`](Self::give) and
    /// [`accept`](Self::accept): then the callee's frame holds off that it is reclaimed.
    ///
    /// # Errors
    /// [`RpcError`] where the callee is dead or dies meanwhile, the caller does, or calls nest too deeply.
    fn cross<R>(&self, work: impl FnOnce() -> R) -> RpcResult<R>;

    /// Makes an argument the callee's. Called inside [`cross`](Self::cross): what changes hands does so
    /// while the callee's frame holds off that it is reclaimed.
    fn give<T: Exchangeable>(&self, value: T) -> T;

    /// Makes a result the caller's. Called inside [`cross`](Self::cross).
    fn accept<T: Exchangeable>(&self, value: T) -> T;

    /// Counts `value` as borrowed while `call` runs, also when the callee crashes in it. Called around
    /// [`cross`](Self::cross).
    ///
    /// # Errors
    /// Those of `call`.
    fn lend<T: Exchangeable, R>(
        &self,
        value: &RRef<T>,
        call: impl FnOnce(&RRef<T>) -> RpcResult<R>,
    ) -> RpcResult<R>;

    /// The gate into the domain that calls now: for interface objects that it passes as arguments. Called
    /// before [`cross`](Self::cross), while that domain is still the one that runs.
    fn to_caller(&self) -> Self;

    /// The gate into the callee: for interface objects that it returns.
    fn to_callee(&self) -> Self;

    /// Puts a proxy before an interface object that is an argument, for the callee to hold; `caller` is the
    /// gate into the domain that passes it. Called inside [`cross`](Self::cross). A
    /// gate keeps account of it: a proxy is the host's memory, and dropped when the domain that holds it
    /// dies.
    fn give_object<I: ?Sized + Interface>(&self, object: Object<I>, caller: &Self) -> Object<I> {
        I::proxy(object, caller.to_callee())
    }

    /// Puts a proxy before an interface object that is a result, for the caller to hold. Called inside
    /// [`cross`](Self::cross).
    fn accept_object<I: ?Sized + Interface>(&self, object: Object<I>) -> Object<I> {
        I::proxy(object, self.to_callee())
    }

    /// Drops an object inside its domain if that lives, and forgets it otherwise: then its memory goes with
    /// all of the domain's.
    fn release<I: ?Sized>(&self, object: Object<I>);
}

/// What `#[interface]` implements for `dyn Trait`.
#[diagnostic::on_unimplemented(
    message = "interface rule R2 (exchangeable): `{Self}` is not an interface",
    label = "not an interface",
    note = "an object that crosses between domains is of a trait with `#[interface]`"
)]
pub trait Interface: Send + 'static {
    /// The trait's name.
    const NAME: &'static str;
    /// What it looks like in every detail that a caller depends on, as a number: the hash of
    /// [`TEXT`](Self::TEXT).
    const FINGERPRINT: u64;
    /// The same in words: this interface and all that it names, a method a line, with the tags of all
    /// types. [`first_difference`](crate::describe::first_difference) tells two of these apart.
    const TEXT: &'static str;

    /// [`TEXT`](Self::TEXT), owned.
    fn describe() -> alloc::string::String {
        Self::TEXT.into()
    }

    /// Puts a proxy before an object: what it returns may be handed to another domain.
    fn proxy<G: Gate>(object: Object<Self>, gate: G) -> Object<Self>;
}
