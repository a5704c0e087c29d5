//! A gate for tests: counts what goes through it, and can be dead.

#![allow(dead_code)]
// UNSAFETY: re-owns and lends shared objects, as gates do.
#![expect(unsafe_code)]

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use sumac_interface::{Cause, Gate, Object, RpcError, RpcResult};
use sumac_rref::{DomainId, Exchangeable, HostHooks, Mover, RRef, SharedHeap};

thread_local! {
    /// The domains this thread is in, the innermost last.
    static INSIDE: RefCell<Vec<DomainId>> = const { RefCell::new(Vec::new()) };
}

/// The domain this thread runs in.
pub fn current() -> DomainId {
    INSIDE.with_borrow(|inside| inside.last().copied().unwrap_or(DomainId::HOST))
}

/// The heap of all tests.
pub fn heap() -> &'static SharedHeap {
    static HEAP: LazyLock<&'static SharedHeap> =
        LazyLock::new(|| SharedHeap::create_for(HostHooks { current }));
    *HEAP
}

/// What went through the gates into one domain.
#[derive(Debug, Default)]
pub struct Counts {
    pub crossings: AtomicU32,
    pub given: AtomicU32,
    pub accepted: AtomicU32,
    pub lent: AtomicU32,
    pub released: AtomicU32,
    pub dead: AtomicBool,
}

impl Counts {
    /// Crossings, arguments given, results accepted, borrows lent, objects released.
    pub fn all(&self) -> [u32; 5] {
        let of = |count: &AtomicU32| count.load(Ordering::Relaxed);
        [
            of(&self.crossings),
            of(&self.given),
            of(&self.accepted),
            of(&self.lent),
            of(&self.released),
        ]
    }

    pub fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }
}

/// Leads into one domain.
#[derive(Clone)]
pub struct TestGate {
    pub domain: DomainId,
    pub counts: Arc<Counts>,
    /// The gates of all domains, for [`Gate::to_caller`].
    all: Arc<RefCellOfGates>,
}

type RefCellOfGates = std::sync::Mutex<Vec<(DomainId, Arc<Counts>)>>;

impl TestGate {
    /// Gates into domains 2, 3 and so on, `count` of them.
    pub fn several(count: u32) -> Vec<Self> {
        let ids = (0..=count).map(|i| (DomainId::new(1 + i), Arc::new(Counts::default())));
        let all = Arc::new(RefCellOfGates::new(ids.collect()));
        let gates = (0..count).map(|i| Self::find(&all, DomainId::new(2 + i)));
        gates.collect()
    }

    pub fn one() -> Self {
        Self::several(1).remove(0)
    }

    fn find(all: &Arc<RefCellOfGates>, domain: DomainId) -> Self {
        let gates = all.lock().expect("no test panics in here");
        let (_, counts) = gates.iter().find(|(id, _)| *id == domain).expect("known");
        Self {
            domain,
            counts: counts.clone(),
            all: all.clone(),
        }
    }
}

fn count(counter: &AtomicU32) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Gate for TestGate {
    fn cross<R>(&self, call: impl FnOnce() -> R) -> RpcResult<R> {
        count(&self.counts.crossings);
        let dead = || self.counts.dead.load(Ordering::Relaxed);
        if dead() {
            return Err(RpcError::Dead(Cause::Panic));
        }
        INSIDE.with_borrow_mut(|inside| inside.push(self.domain));
        let result = call();
        INSIDE.with_borrow_mut(|inside| inside.pop());
        if dead() {
            return Err(RpcError::Dead(Cause::Panic));
        }
        Ok(result)
    }

    fn give<T: Exchangeable>(&self, value: T) -> T {
        count(&self.counts.given);
        assert_eq!(current(), self.domain, "given inside the crossing");
        // SAFETY: this is a gate; the value goes to its domain.
        value.move_to(&unsafe { Mover::to(self.domain) });
        value
    }

    fn accept<T: Exchangeable>(&self, value: T) -> T {
        count(&self.counts.accepted);
        assert_eq!(current(), self.domain, "accepted inside the crossing");
        let inside = INSIDE.with_borrow(|inside| inside.clone());
        let caller = inside.iter().rev().nth(1).copied();
        // SAFETY: this is a gate; the value goes to its caller.
        value.move_to(&unsafe { Mover::to(caller.unwrap_or(DomainId::HOST)) });
        value
    }

    fn lend<T: Exchangeable, R>(
        &self,
        value: &RRef<T>,
        call: impl FnOnce(&RRef<T>) -> RpcResult<R>,
    ) -> RpcResult<R> {
        count(&self.counts.lent);
        // SAFETY: this is a gate; released below.
        unsafe { value.header().borrow() };
        let result = call(value);
        // SAFETY: ends the borrow above.
        unsafe { value.header().release() };
        result
    }

    fn to_caller(&self) -> Self {
        Self::find(&self.all, current())
    }

    fn to_callee(&self) -> Self {
        self.clone()
    }

    fn release<I: ?Sized>(&self, object: Object<I>) {
        count(&self.counts.released);
        drop(object);
    }
}
