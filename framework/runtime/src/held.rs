//! The proxies that domains hold. A proxy is the host's memory, and what is behind it somebody else's: when
//! the domain that holds it dies, nobody of its own drops it. So the host keeps each, and gives the domain
//! a handle; what is left when a domain is reclaimed is dropped here.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ptr::NonNull;

use sumac_interface::rpc::Interface;
use sumac_rref::{DomainId, Object};

use crate::lock::SpinLock;

/// A proxy of any interface.
trait Kept: Send {}

impl<I: ?Sized + Interface> Kept for Object<I> {}

/// Who holds a proxy, and the proxy.
struct Held {
    by: DomainId,
    proxy: Box<dyn Kept>,
}

/// By the addresses of the proxies.
static HELD: SpinLock<BTreeMap<usize, Held>> = SpinLock::new(BTreeMap::new());

/// A handle of `proxy` for the domain `by`. Dropping either drops the proxy.
pub(crate) fn keep<I: ?Sized + Interface>(by: DomainId, proxy: Object<I>) -> Object<I> {
    if by == DomainId::HOST {
        return proxy;
    }
    let (object, drop) = proxy.into_raw();
    // SAFETY: the parts of an object, used once as one that is dropped: here.
    let proxy = Box::new(unsafe { Object::from_raw(object, drop) });
    let held = Held { by, proxy };
    HELD.with(|all| all.insert(object.addr().get(), held));
    // SAFETY: the proxy stays where it is until it is taken out of `HELD`, which this handle's drop does, or
    // `drop_all` when no thread is in the domain that has the handle.
    unsafe { Object::from_raw(object, let_go::<I>) }
}

/// Drops the proxy whose handle is dropped.
///
/// # Safety
/// The handle is not used again.
unsafe fn let_go<I: ?Sized>(object: NonNull<I>) {
    let held = HELD.with(|all| all.remove(&object.addr().get()));
    // Outside of the lock: what is behind it may have to do.
    drop(held);
}

/// Drops the proxies that a domain held as it died; says how many.
///
/// # Safety
/// No thread has a frame of the domain.
pub(crate) unsafe fn drop_all(by: DomainId) -> usize {
    let left: Vec<Held> = HELD.with(|all| {
        let of_it = all.iter().filter(|(_, held)| held.by == by);
        let addresses: Vec<usize> = of_it.map(|(address, _)| *address).collect();
        addresses.iter().filter_map(|at| all.remove(at)).collect()
    });
    let count = left.len();
    left.into_iter().for_each(|held| drop(held.proxy));
    count
}
