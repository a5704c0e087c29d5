//! Shadows: what is behind one dies, is made anew, and the call is issued again where that can be.

mod gate;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gate::heap;
use sumac_interface::{Cause, Object, Policy, RpcError, RpcResult, Shadow, interface};
use sumac_rref::RRef;

/// Dies when told to.
#[interface]
trait Mortal: Send {
    fn add(&self, left: u32, right: u32) -> RpcResult<u32>;
    fn count(&mut self) -> RpcResult<u32>;
    fn moved(&mut self, object: RRef<u64>) -> RpcResult<u64>;
    fn borrowed(&mut self, object: &RRef<u64>, factor: u64) -> RpcResult<u64>;
    #[once]
    fn only_once(&mut self, value: u32) -> RpcResult<u32>;
    #[reissue]
    fn cloned(&mut self, value: sumac_interface::domain::Text<8>) -> RpcResult<u32>;
    fn meet(&mut self, other: Object<dyn Mortal>) -> RpcResult<u32>;
    fn refuses(&self) -> RpcResult<()>;
}

/// What a test sees and sets.
#[derive(Default)]
struct Fate {
    /// Calls that will die.
    deaths: AtomicU32,
    calls: AtomicU32,
    /// Whether no more can be made.
    barren: AtomicBool,
    pauses: Mutex<Vec<Duration>>,
    alive: AtomicU32,
}

impl Fate {
    fn will_die(&self, times: u32) {
        self.deaths.store(times, Ordering::Relaxed);
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

struct Real {
    fate: Arc<Fate>,
    counted: u32,
}

impl Real {
    fn live(&self) -> RpcResult<()> {
        self.fate.calls.fetch_add(1, Ordering::Relaxed);
        let less = |deaths: u32| deaths.checked_sub(1);
        let dies = self
            .fate
            .deaths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        dies.map_or(Ok(()), |_| Err(RpcError::Dead(Cause::MemoryFault)))
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.fate.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Mortal for Real {
    fn add(&self, left: u32, right: u32) -> RpcResult<u32> {
        self.live().map(|()| left + right)
    }
    fn count(&mut self) -> RpcResult<u32> {
        self.counted += 1;
        self.live().map(|()| self.counted)
    }
    fn moved(&mut self, object: RRef<u64>) -> RpcResult<u64> {
        self.live().map(|()| *object)
    }
    fn borrowed(&mut self, object: &RRef<u64>, factor: u64) -> RpcResult<u64> {
        self.live().map(|()| **object * factor)
    }
    fn only_once(&mut self, value: u32) -> RpcResult<u32> {
        self.live().map(|()| value)
    }
    fn cloned(&mut self, value: sumac_interface::domain::Text<8>) -> RpcResult<u32> {
        self.live().map(|()| value.as_str().len() as u32)
    }
    fn meet(&mut self, other: Object<dyn Mortal>) -> RpcResult<u32> {
        self.live().and_then(|()| other.add(1, 2))
    }
    fn refuses(&self) -> RpcResult<()> {
        Err(RpcError::Refused)
    }
}

fn real(fate: &Arc<Fate>) -> Object<dyn Mortal> {
    fate.alive.fetch_add(1, Ordering::Relaxed);
    Object::from_box(Box::new(Real {
        fate: fate.clone(),
        counted: 0,
    }))
}

const POLICY: Policy = Policy {
    limit: 3,
    first_pause: Duration::from_millis(2),
    longest_pause: Duration::from_millis(3),
};

macro_rules! shadow {
    ($fate:expr) => {{
        let fate = $fate.clone();
        MortalShadow::new(
            real(&fate.clone()),
            move |pause: Duration| {
                fate.pauses
                    .lock()
                    .expect("no test panics in here")
                    .push(pause);
                assert_eq!(fate.alive.load(Ordering::Relaxed), 0, "two at a time");
                if fate.barren.load(Ordering::Relaxed) {
                    return Err(RpcError::Refused);
                }
                Ok(real(&fate))
            },
            POLICY,
        )
    }};
}

fn dead<T>() -> RpcResult<T> {
    Err(RpcError::Dead(Cause::MemoryFault))
}

#[test]
fn a_call_with_copied_arguments_is_issued_again() {
    let fate = Arc::<Fate>::default();
    let mut shadow = shadow!(fate);
    assert_eq!(shadow.add(1, 2), Ok(3));
    fate.will_die(1);
    assert_eq!(shadow.add(3, 4), Ok(7));
    assert_eq!((Shadow::restarts(&shadow), fate.calls()), (1, 3));
    fate.will_die(2);
    assert_eq!(shadow.count(), Ok(1));
    assert_eq!((Shadow::restarts(&shadow), fate.calls()), (3, 6));
}

#[test]
fn a_call_with_a_borrow_is_issued_again() {
    let fate = Arc::<Fate>::default();
    let mut shadow = shadow!(fate);
    let object = heap().allocate(5u64).expect("fits");
    fate.will_die(2);
    assert_eq!(shadow.borrowed(&object, 3), Ok(15));
    assert_eq!(fate.calls(), 3);
}

#[test]
fn a_call_that_moved_something_is_not_issued_again_but_the_next_is_served() {
    let fate = Arc::<Fate>::default();
    let mut shadow = shadow!(fate);
    fate.will_die(1);
    let object = || heap().allocate(5u64).expect("fits");
    assert_eq!(shadow.moved(object()), dead());
    assert_eq!((Shadow::restarts(&shadow), fate.calls()), (1, 1));
    assert_eq!(shadow.moved(object()), Ok(5));
    let other = Arc::<Fate>::default();
    fate.will_die(1);
    assert_eq!(shadow.meet(real(&other)), dead());
    assert_eq!(shadow.meet(real(&other)), Ok(3));
}

#[test]
fn a_method_says_whether_its_calls_are_issued_again() {
    let fate = Arc::<Fate>::default();
    let mut shadow = shadow!(fate);
    fate.will_die(1);
    assert_eq!(shadow.only_once(1), dead());
    assert_eq!((Shadow::restarts(&shadow), fate.calls()), (1, 1));
    assert_eq!(shadow.only_once(1), Ok(1));
    fate.will_die(2);
    let text = sumac_interface::domain::Text::new("four");
    assert_eq!(shadow.cloned(text), Ok(4));
    assert_eq!(fate.calls(), 5);
}

#[test]
fn a_refusal_is_no_death() {
    let fate = Arc::<Fate>::default();
    let shadow = shadow!(fate);
    assert_eq!(shadow.refuses(), Err(RpcError::Refused));
    assert_eq!(Shadow::restarts(&shadow), 0);
}

#[test]
fn restarts_in_a_row_have_a_limit_and_pauses() {
    let fate = Arc::<Fate>::default();
    let shadow = shadow!(fate);
    fate.will_die(100);
    assert_eq!(shadow.add(1, 2), dead());
    let millis = |ms| Duration::from_millis(ms);
    let pauses = || fate.pauses.lock().expect("no test panics in here").clone();
    assert_eq!(pauses(), [Duration::ZERO, millis(2), millis(3)]);
    assert_eq!(fate.calls(), 4);
    // It has given up.
    assert_eq!(shadow.add(1, 2), dead());
    assert_eq!((fate.calls(), pauses().len()), (4, 3));
}

#[test]
fn a_call_that_succeeds_starts_the_count_again() {
    let fate = Arc::<Fate>::default();
    let shadow = shadow!(fate);
    for _ in 0..10 {
        fate.will_die(3);
        assert_eq!(shadow.add(1, 2), Ok(3));
    }
    assert_eq!(Shadow::restarts(&shadow), 30);
}

#[test]
fn what_cannot_be_made_anew_stays_dead() {
    let fate = Arc::<Fate>::default();
    let shadow = shadow!(fate);
    fate.barren.store(true, Ordering::Relaxed);
    fate.will_die(1);
    assert_eq!(shadow.add(1, 2), dead());
    assert_eq!(shadow.add(1, 2), dead());
    assert_eq!((Shadow::restarts(&shadow), fate.calls()), (0, 1));
    assert_eq!(fate.alive.load(Ordering::Relaxed), 0);
}

#[test]
fn pauses_double_up_to_the_longest() {
    let policy = Policy::default();
    let pauses: Vec<_> = (0..5).map(|i| policy.pause(i).as_millis()).collect();
    assert_eq!(pauses, [0, 1, 2, 4, 8]);
    assert_eq!(policy.pause(u32::MAX), policy.longest_pause);
}

#[test]
fn a_shadow_moves_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let fate = Arc::<Fate>::default();
    let shadow = is_send(shadow!(fate));
    let sum = std::thread::spawn(move || shadow.add(2, 2)).join();
    assert_eq!(sum.expect("it ends"), Ok(4));
}
