//! Domains by name only, for tests of what a host does for the dead: this thread runs as whichever it says.

use std::cell::Cell;

use sumac_rref::{DomainId, HostHooks};

thread_local! {
    static CURRENT: Cell<DomainId> = const { Cell::new(DomainId::HOST) };
}

/// Of a host whose threads run as they say.
pub const HOOKS: HostHooks = HostHooks {
    current: || CURRENT.get(),
};

/// Runs `work` as if in `domain`.
pub fn inside<R>(domain: DomainId, work: impl FnOnce() -> R) -> R {
    let before = CURRENT.replace(domain);
    let result = work();
    CURRENT.set(before);
    result
}
