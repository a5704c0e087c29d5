//! A supervised domain dies under several threads at once: it is started again once a death, all of them go on
//! with the new one, and nothing is left of the old.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use sumac_interface::domain::{Block, Crashy, Failure};
use sumac_interface::{Cause, Object, Policy, Remake, RpcError, RpcResult, Shadow};
use sumac_linux::domains::{
    self, Program, Service, Shared, StartError, Started, Supervisor, mapped_pages, start_program,
};
use sumac_rref::SharedHeap;
use sumac_runtime::load::{TrustedKeys, Verified, inspect};
use sumac_runtime::{Domain, Quota};
use sumac_testbed::domains::BuiltDomains;

const QUOTA: Quota = Quota {
    pages: 512,
    threads: 0,
    call_ns: 250_000_000,
};

/// Restarts in a row that serve nobody.
const LIMIT: u32 = 4;

fn file() -> &'static Verified {
    static FILE: OnceLock<Verified> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = BuiltDomains::build(&["crashy"]).file("crashy");
        let signer = inspect(&file).expect("a sound file").signer;
        Verified::new(file, &TrustedKeys::from_iter([signer])).expect("a signed file")
    })
}

fn heap() -> &'static SharedHeap {
    static HEAP: OnceLock<&'static SharedHeap> = OnceLock::new();
    HEAP.get_or_init(|| {
        domains::install().expect("Linux gives what domains need");
        let heap = SharedHeap::create_for(domains::hooks());
        heap.know::<Block>();
        heap
    })
}

/// The fragile domain; it does not start when told so.
struct Fragile {
    program: Program<dyn Crashy>,
    barren: Arc<AtomicBool>,
}

impl Service for Fragile {
    type Life = Object<dyn Crashy>;
    type Error = String;

    fn start(&mut self) -> Result<(Domain, Object<dyn Crashy>), String> {
        if self.barren.load(Ordering::Relaxed) {
            return Err("it is barren".into());
        }
        let started = start_program("crashy", &self.program, QUOTA, heap());
        let Started { domain, root } = started.map_err(|error: StartError| error.to_string())?;
        Ok((domain, root))
    }
}

/// Another object of the domain that runs.
struct Renewal {
    supervisor: Arc<Supervisor<Fragile>>,
    seen: u64,
}

impl Remake<dyn Crashy> for Renewal {
    fn remake(&mut self, pause: Duration) -> RpcResult<Object<dyn Crashy>> {
        thread::sleep(pause);
        let take = |root: &mut Object<dyn Crashy>| root.another();
        self.supervisor.renew(&mut self.seen, take)
    }
}

fn supervised() -> (Arc<Supervisor<Fragile>>, Arc<AtomicBool>) {
    let barren = Arc::new(AtomicBool::new(false));
    let service = Fragile {
        program: Program::new(file().clone()),
        barren: barren.clone(),
    };
    let shared = Shared {
        heap: heap(),
        pools: Vec::new(),
    };
    (
        Supervisor::start(service, Arc::new(shared), LIMIT).expect("it starts"),
        barren,
    )
}

fn shadow(supervisor: &Arc<Supervisor<Fragile>>) -> Shadow<dyn Crashy, Renewal> {
    let seen = supervisor.life();
    let object = supervisor.with(|root| root.another());
    let renewal = Renewal {
        supervisor: supervisor.clone(),
        seen,
    };
    let object = object.expect("it runs").expect("it lives");
    Shadow::new(object, renewal, Policy::default())
}

/// One test at a time: they count what is left of all domains.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn every_death_is_followed_by_one_restart_and_all_go_on() {
    let _alone = alone();
    let pages = mapped_pages();
    let (supervisor, _) = supervised();
    let (calls, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let deaths = [
        Failure::Panic,
        Failure::Overflow,
        Failure::Spin,
        Failure::OutOfMemory,
    ];
    thread::scope(|scope| {
        for _ in 0..3 {
            let mut shadow = shadow(&supervisor);
            let (calls, stop) = (&calls, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let value = calls.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(shadow.echo(value), Ok(value));
                    let moved = heap().allocate([value; 8]).expect("room");
                    match shadow.echo_rref(moved) {
                        Ok(back) => assert_eq!(back[0], value),
                        Err(error) => assert!(matches!(error, RpcError::Dead(_)), "{error}"),
                    }
                }
            });
        }
        let mut killer = shadow(&supervisor);
        for (death, how) in (1..).zip(deaths.into_iter().cycle().take(24)) {
            // It fails once, and is not issued again.
            assert!(
                matches!(killer.fail(how), Err(RpcError::Dead(_))),
                "{how:?}"
            );
            assert_eq!(killer.echo(death), Ok(death));
            supervisor.served();
            let restarts = supervisor.restarts();
            assert_eq!((restarts.count, restarts.less_reset.len()), (death, death));
            let moved = calls.load(Ordering::Relaxed);
            let patience = Instant::now() + Duration::from_secs(60);
            while calls.load(Ordering::Relaxed) < moved + 6 {
                assert!(Instant::now() < patience, "the others do not go on");
                thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    supervisor.end().expect("nobody is in it");
    assert_eq!(mapped_pages(), pages);
    assert_eq!(heap().count(), 0);
}

#[test]
fn what_does_not_start_again_is_told_and_tried_again() {
    let _alone = alone();
    let (supervisor, barren) = supervised();
    let mut shadow = shadow(&supervisor);
    barren.store(true, Ordering::Relaxed);
    assert_eq!(
        shadow.fail(Failure::Panic),
        Err(RpcError::Dead(Cause::Panic))
    );
    let restarts = supervisor.restarts();
    assert_eq!((restarts.count, supervisor.life()), (0, 1));
    assert_eq!(restarts.last_failure.as_deref(), Some("it is barren"));
    let death = restarts.last_death.expect("it died");
    assert!(death.contains("crashy died (panic)"), "{death}");
    assert!(supervisor.with(|_| ()).is_none());
    // Whoever asks next has it started.
    barren.store(false, Ordering::Relaxed);
    let mut seen = supervisor.life();
    let object = supervisor.renew(&mut seen, |root| root.another());
    assert_eq!(object.expect("it starts").echo(3), Ok(3));
    assert_eq!((seen, supervisor.restarts().count), (2, 1));
    // And nobody once it was ended for good.
    supervisor.end().expect("nobody is in it");
    let after = supervisor.renew(&mut seen, |root| root.another());
    assert_eq!(after.err(), Some(RpcError::Refused));
}

#[test]
fn what_serves_nobody_is_given_up() {
    let _alone = alone();
    let (supervisor, _) = supervised();
    let mut shadow = shadow(&supervisor);
    for in_a_row in 1..LIMIT {
        assert!(shadow.fail(Failure::Panic).is_err());
        assert_eq!(supervisor.in_a_row(), in_a_row);
    }
    supervisor.served();
    assert!(shadow.fail(Failure::Panic).is_err());
    assert_eq!(supervisor.in_a_row(), 0);
    let mut seen = supervisor.life();
    for _ in 1..LIMIT {
        let taken = supervisor.renew(&mut seen, |root| root.another());
        assert!(taken.is_ok());
    }
    let refused = supervisor.renew(&mut seen, |root| root.another());
    assert_eq!(refused.err(), Some(RpcError::Refused));
    assert_eq!(supervisor.restarts().count, u64::from(2 * LIMIT - 1));
    supervisor.end().expect("nobody is in it");
}
