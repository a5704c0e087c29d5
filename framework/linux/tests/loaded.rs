//! Domains from signed files, behind their gates: what is moved, lent and passed, and every way to fail that
//! safe code has. After each death nothing of the domain is left and everything else goes on.
// UNSAFETY: registers are set and looked at.
#![expect(unsafe_code)]

use std::arch::asm;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use sumac_devices::memory::SimDma;
use sumac_interface::domain::{Block, Crashy, CreateCrashy, CreateLane, Failure};
use sumac_interface::{Cause, Interface, Object, RpcError, RpcResult};
use sumac_linux::domains::{self, Shared, StartError, Started, bury, mapped_pages, start};
use sumac_rref::{PacketPool, PoolGrant, RRef, SharedHeap};
use sumac_runtime::load::{Expected, LoadError, TrustedKeys, check, inspect};
use sumac_runtime::{Domain, Phase, Quota};
use sumac_testbed::domains::BuiltDomains;

const QUOTA: Quota = Quota {
    pages: 2048,
    threads: 0,
    call_ns: 500_000_000,
};

/// A domain's file; all are built and signed once.
fn file(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<BuiltDomains> = OnceLock::new();
    BUILT
        .get_or_init(|| BuiltDomains::build(&["crashy", "nullnet"]))
        .file(name)
}

fn heap() -> &'static SharedHeap {
    static HEAP: OnceLock<&'static SharedHeap> = OnceLock::new();
    HEAP.get_or_init(|| {
        let heap = SharedHeap::create_for(domains::hooks());
        heap.know::<Block>();
        heap
    })
}

fn started<I: Interface + ?Sized>(name: &str) -> Started<I> {
    domains::install().expect("Linux gives what domains need");
    let file = file(name);
    let trust = TrustedKeys::from_iter([inspect(&file).expect("a sound file").signer]);
    start(name, &file, &trust, QUOTA, heap()).expect("it starts")
}

fn crashy() -> Started<dyn Crashy> {
    started("crashy")
}

fn block(heap: &'static SharedHeap, first: u64) -> RRef<Block> {
    heap.allocate([first, 1, 1, 1, 1, 1, 1, 1]).expect("room")
}

/// One test at a time: they count what is left of all domains.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn what_is_moved_and_lent_comes_back() {
    let _alone = alone();
    let mut crashy = crashy();
    let id = crashy.domain.id();
    assert_eq!(crashy.root.echo(42), Ok(42));
    let object = crashy.root.echo_rref(block(heap(), 5)).expect("it lives");
    assert_eq!((object[0], object.header().owner().get()), (5, 1));
    assert_eq!(crashy.root.sum(&object), Ok(12));
    assert_eq!(
        (object.header().borrows(), object.header().owner().get()),
        (0, 1)
    );
    crashy.root.keep(object).expect("it lives");
    assert_eq!(heap().count_owned(id), 1);
    let back = crashy
        .root
        .give_back()
        .expect("it lives")
        .expect("it was kept");
    assert_eq!(
        (back.header().owner().get(), heap().count_owned(id)),
        (1, 0)
    );
    drop(back);
    end(crashy, Cause::Killed);
}

/// Ends a domain that lives, or died of `cause`; all it had is gone then.
fn end(started: Started<dyn Crashy>, cause: Cause) {
    let Started { domain, mut root } = started;
    domain.kill(Cause::Killed);
    assert_eq!(domain.phase(), Phase::Dead(cause));
    assert_eq!(root.echo(1), Err(RpcError::Dead(cause)));
    assert_eq!(root.fail(Failure::Panic), Err(RpcError::Dead(cause)));
    let id = domain.id();
    bury(domain, heap()).expect("nobody is in it");
    assert_eq!(domain.phase(), Phase::Reclaimed);
    assert_eq!(heap().count_owned(id), 0);
    drop(root);
}

#[test]
fn every_failure_of_safe_code_is_an_error_of_the_call() {
    let _alone = alone();
    let deaths = [
        (Failure::Panic, Cause::Panic),
        (Failure::Divide, Cause::Panic),
        (Failure::Overflow, Cause::StackOverflow),
        (Failure::OutOfMemory, Cause::OutOfMemory),
        (Failure::Spin, Cause::Deadline),
    ];
    end(crashy(), Cause::Killed);
    let pages = mapped_pages();
    for (how, cause) in deaths {
        let mut crashy = crashy();
        crashy.root.keep(block(heap(), 1)).expect("it lives");
        let lent = block(heap(), 2);
        assert_eq!(
            crashy.root.fail_borrowing(how, &lent),
            Err(RpcError::Dead(cause))
        );
        assert_eq!((lent.header().borrows(), lent[0]), (0, 2), "{how:?}");
        end(crashy, cause);
        drop(lent);
        assert_eq!(mapped_pages(), pages, "{how:?}");
    }
    for how in [Failure::Null, Failure::Illegal] {
        let mut crashy = crashy();
        assert_eq!(
            crashy.root.fail(how),
            Err(RpcError::Refused),
            "not from safe code"
        );
        end(crashy, Cause::Killed);
    }
}

#[test]
fn callers_of_what_fails_have_their_registers_back() {
    extern "sysv64" fn overflow() {
        let mut crashy = crashy();
        let died = crashy.root.fail(Failure::Overflow);
        assert_eq!(died, Err(RpcError::Dead(Cause::StackOverflow)));
        end(crashy, Cause::StackOverflow);
    }
    extern "sysv64" fn panic() {
        let mut crashy = crashy();
        let died = crashy.root.fail(Failure::Panic);
        assert_eq!(died, Err(RpcError::Dead(Cause::Panic)));
        end(crashy, Cause::Panic);
    }
    let _alone = alone();
    assert_eq!(changed_registers(overflow), 0);
    assert_eq!(changed_registers(panic), 0);
}

/// Calls `work` with a number in each register that the System V ABI has callees preserve. Returns a bit for each
/// that holds another afterwards: rbx, rbp, r12 to r15.
fn changed_registers(work: extern "sysv64" fn()) -> u32 {
    let changed: u32;
    // SAFETY: a call by the ABI's rules, on an aligned stack: two pushes keep it so. The two registers that cannot be
    // declared are put back.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov ebx, 1",
            "mov ebp, 2",
            "mov r12d, 3",
            "mov r13d, 4",
            "mov r14d, 5",
            "mov r15d, 6",
            "call rax",
            "xor ecx, ecx",
            "xor eax, eax",
            "cmp rbx, 1",
            "setne al",
            "or ecx, eax",
            "cmp rbp, 2",
            "setne al",
            "lea ecx, [rcx + 2 * rax]",
            "cmp r12, 3",
            "setne al",
            "lea ecx, [rcx + 4 * rax]",
            "cmp r13, 4",
            "setne al",
            "lea ecx, [rcx + 8 * rax]",
            "cmp r14, 5",
            "setne al",
            "shl eax, 4",
            "or ecx, eax",
            "xor eax, eax",
            "cmp r15, 6",
            "setne al",
            "shl eax, 5",
            "or ecx, eax",
            "pop rbp",
            "pop rbx",
            inlateout("rax") work => _,
            lateout("rcx") changed,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("sysv64"),
        );
    }
    changed
}

#[test]
fn what_it_had_in_hand_dies_with_it_and_what_it_gave_away_lives() {
    let _alone = alone();
    let before = heap().count();
    let mut crashy = crashy();
    let given = crashy.root.echo_rref(block(heap(), 9)).expect("it lives");
    let lost = crashy.root.fail_with(Failure::Panic, block(heap(), 3));
    assert_eq!(lost.err(), Some(RpcError::Dead(Cause::Panic)));
    assert!(crashy.domain.last_words().contains("on request"));
    end(crashy, Cause::Panic);
    assert_eq!((given[0], heap().count()), (9, before + 1));
}

#[test]
fn calls_go_back_and_forth_and_a_failure_far_down_unwinds_to_its_caller() {
    let _alone = alone();
    for depth in [1, 2, 3, 16, 40] {
        let mut a = crashy();
        let mut b = crashy();
        let other: Object<dyn Crashy> = b.root.another().expect("it lives");
        assert_eq!(a.root.call_through(other, depth, None), Ok(depth));
        let other = b.root.another().expect("it lives");
        let failed = a.root.call_through(other, depth, Some(Failure::Panic));
        // Who is at the bottom fails; who called it gets the error, and hands it on.
        let (dead, living) = match depth % 2 {
            0 => (a, b),
            _ => (b, a),
        };
        assert!(failed.is_err(), "{failed:?} at {depth}");
        assert_eq!(dead.domain.cause(), Some(Cause::Panic), "at {depth}");
        assert_eq!(living.domain.phase(), Phase::Alive);
        assert_eq!(living.root.echo(7), Ok(7));
        end(dead, Cause::Panic);
        end(living, Cause::Killed);
    }
}

#[test]
fn packets_go_through_a_domain_and_all_come_back_from_a_dead_one() {
    let _alone = alone();
    let dma = SimDma::new().expect("address space");
    let pool = PacketPool::create(heap(), &dma, 1024).expect("memory for packets");
    let mut nullnet = started::<dyn CreateLane>("nullnet");
    let mut lane = nullnet.root.create(PoolGrant::new(pool)).expect("it lives");
    let (mut send, mut batch) = (pool.batch().expect("room"), pool.batch().expect("room"));
    for _ in 0..100 {
        (send, batch) = lane.exchange(send, batch, 32).expect("it lives");
        assert_eq!((send.len(), batch.len()), (0, 32));
        std::mem::swap(&mut send, &mut batch);
    }
    let stats = lane.stats().expect("it lives");
    assert_eq!((stats.rx_packets, stats.tx_packets), (3200, 3168));
    nullnet.domain.kill(Cause::Killed);
    let refused = lane.receive(batch, 1);
    assert_eq!(refused.err(), Some(RpcError::Dead(Cause::Killed)));
    let shared = Shared {
        heap: heap(),
        pools: vec![pool],
    };
    bury(nullnet.domain, &shared).expect("nobody is in it");
    drop((send, lane));
    assert_eq!(pool.account().free, 1024);
}

#[test]
fn a_domain_killed_at_any_instant_leaves_every_buffer_somewhere() {
    let _alone = alone();
    let dma = SimDma::new().expect("address space");
    let pool = PacketPool::create(heap(), &dma, 1024).expect("memory for packets");
    let shared = Shared {
        heap: heap(),
        pools: vec![pool],
    };
    let before = heap().count();
    let deaths = std::env::var("SUMAC_DEATHS").ok();
    let deaths = deaths.map_or(200, |text| text.parse().expect("a number of deaths"));
    for death in 0..deaths {
        let mut nullnet = started::<dyn CreateLane>("nullnet");
        let domain = nullnet.domain;
        let wait = Duration::from_nanos(u64::from(death * 7919 % 1009_u32) * 200);
        let begun = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&begun);
        let killer = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            let start = Instant::now();
            while start.elapsed() < wait {
                std::hint::spin_loop();
            }
            domain.kill(Cause::Killed)
        });
        // One in eight dies while its lane is made, the others while packets go through it.
        begun.store(death % 8 == 0, Ordering::Relaxed);
        let lane = nullnet.root.create(PoolGrant::new(pool));
        begun.store(true, Ordering::Relaxed);
        if let Ok(mut lane) = lane {
            let batch = || pool.batch().expect("room");
            let mut batches = Some((batch(), batch()));
            let mut turn = 0;
            while let Some((send, receive)) = batches.take() {
                turn += 1;
                // Batches that fill the stock and empty it, and now and then none at all.
                batches = lane.exchange(receive, send, turn % 65).ok();
            }
        }
        killer.join().expect("it ends well");
        drop(nullnet);
        bury(domain, &shared).expect("nobody is in it");
        assert_eq!(
            (pool.account().free, heap().count()),
            (1024, before),
            "death {death}, after {wait:?}"
        );
        pool.audit().expect("no buffer is there twice");
    }
}

/// Makes crashy domains for whoever was given this; counts how many of it there are.
struct Maker {
    made: Vec<Domain>,
    makers: Arc<AtomicU32>,
}

impl Maker {
    fn object(makers: &Arc<AtomicU32>) -> Object<dyn CreateCrashy> {
        makers.fetch_add(1, Ordering::Relaxed);
        Object::from_box(Box::new(Self {
            made: Vec::new(),
            makers: makers.clone(),
        }))
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.makers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl CreateCrashy for Maker {
    fn create(&mut self) -> RpcResult<(u32, Object<dyn Crashy>)> {
        let Started { domain, root } = crashy();
        self.made.push(domain);
        Ok((domain.id().get(), root))
    }

    fn end(&mut self, number: u32) -> RpcResult<bool> {
        let of_number = |domain: &Domain| domain.id().get() == number;
        let Some(at) = self.made.iter().position(of_number) else {
            return Ok(false);
        };
        let domain = self.made.swap_remove(at);
        domain.kill(Cause::Killed);
        bury(domain, heap()).map_err(|_| RpcError::Refused)?;
        Ok(true)
    }
}

#[test]
fn a_domain_that_was_given_it_makes_domains_without_a_trace() {
    let _alone = alone();
    let makers = Arc::default();
    let mut parent = crashy();
    assert_eq!(
        parent.root.spawn(1, None),
        Err(RpcError::Refused),
        "not given"
    );
    parent
        .root
        .found(Some(Maker::object(&makers)))
        .expect("it lives");
    let state = || (mapped_pages(), heap().count(), Domain::all().count());
    assert_eq!(parent.root.spawn(1, None), Ok(1));
    let before = state();
    for how in [None, Some(Failure::Panic), Some(Failure::Overflow)] {
        assert_eq!(parent.root.spawn(334, how), Ok(334), "{how:?}");
        assert_eq!(state(), before, "{how:?}");
    }
    parent.root.found(None).expect("it lives");
    assert_eq!(makers.load(Ordering::Relaxed), 0);
    end(parent, Cause::Killed);
}

#[test]
fn what_a_domain_held_of_others_is_dropped_when_it_dies() {
    let _alone = alone();
    let makers = Arc::default();
    let (mut holder, mut other) = (crashy(), crashy());
    holder
        .root
        .found(Some(Maker::object(&makers)))
        .expect("it lives");
    let met = other.root.another().expect("it lives");
    holder.root.meet(Some(met)).expect("it lives");
    assert_eq!(makers.load(Ordering::Relaxed), 1);
    let dead = RpcError::Dead(Cause::Panic);
    assert_eq!(holder.root.fail(Failure::Panic), Err(dead));
    assert_eq!(
        makers.load(Ordering::Relaxed),
        1,
        "not before it is reclaimed"
    );
    let freed = bury(holder.domain, heap()).expect("nobody is in it");
    assert_eq!((freed.proxies, makers.load(Ordering::Relaxed)), (2, 0));
    // What dropped them for it went into the other domain, which is well.
    assert_eq!(other.root.echo(5), Ok(5));
    end(other, Cause::Killed);
}

#[test]
fn what_a_domain_gave_away_is_an_error_once_it_is_dead() {
    let _alone = alone();
    let (mut grantor, mut keeper) = (crashy(), crashy());
    let given = grantor.root.another().expect("it lives");
    keeper.root.meet(Some(given)).expect("it lives");
    assert_eq!(keeper.root.call_back(1, None), Ok(1));
    end(grantor, Cause::Killed);
    let dead = RpcError::Dead(Cause::Killed);
    for _ in 0..3 {
        assert_eq!(keeper.root.call_back(1, None), Err(dead));
    }
    assert_eq!(keeper.root.echo(5), Ok(5), "the keeper is well");
    keeper.root.meet(None).expect("it lives");
    end(keeper, Cause::Killed);
}

#[test]
fn a_domain_of_another_interface_is_refused_and_the_first_difference_named() {
    let _alone = alone();
    domains::install().expect("Linux gives what domains need");
    let (pages, domains) = (mapped_pages(), Domain::all().count());
    let file = file("crashy");
    let trust = TrustedKeys::from_iter([inspect(&file).expect("a sound file").signer]);
    let other = start::<dyn CreateLane>("crashy", &file, &trust, QUOTA, heap());
    let Err(StartError::Load { source, .. }) = other else {
        panic!("it is not what was asked for");
    };
    let (host, domain) = (String::from("CreateLane"), String::from("Crashy"));
    assert_eq!(source, LoadError::Root { host, domain });
    // As if a method had changed since the file was built.
    let changed = <dyn Crashy>::TEXT.replace("echo(&self, value: u64", "echo(&self, value: u32");
    let mut expected = Expected::root::<dyn Crashy>(&changed);
    expected.root_fingerprint ^= 1;
    let refused = check(&file, &trust, &expected).expect_err("it differs");
    let LoadError::Interface { host, domain, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(
        (*host, *domain),
        (<dyn Crashy>::FINGERPRINT ^ 1, <dyn Crashy>::FINGERPRINT)
    );
    let told = refused.to_string();
    assert!(
        told.contains("::Crashy the host has `echo(&self, value: u32"),
        "{told}"
    );
    assert!(
        told.contains("the domain `echo(&self, value: u64"),
        "{told}"
    );
    assert_eq!((mapped_pages(), Domain::all().count()), (pages, domains));
}
