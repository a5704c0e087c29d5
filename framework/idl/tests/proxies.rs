//! Proxies: what crosses, how, and what the callee and the caller see of it.

mod gate;

use gate::{TestGate, current, heap};
use sumac_interface::{Cause, Exchangeable, Interface, Object, RpcError, RpcResult, interface};
use sumac_rref::{DomainId, RRef};

/// What is shared in these tests.
type Shared = RRef<[u32; 4]>;

#[derive(Exchangeable)]
struct Pair {
    left: Shared,
    right: Option<Shared>,
    tag: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Exchangeable)]
enum Fault {
    Odd,
    Of(u16),
}

/// Numbers of another domain.
#[interface]
trait Numbers: Send {
    fn where_am_i(&self) -> RpcResult<u32>;
    fn add(&mut self, left: u32, right: u32) -> RpcResult<u32>;
    fn owner(&mut self, object: Shared) -> RpcResult<(u32, Shared)>;
    fn pair(&mut self, pair: Pair) -> RpcResult<Pair>;
    fn borrowed(&self, one: &RRef<[u32; 4]>, two: &RRef<u64>) -> RpcResult<(u32, u32, u32)>;
    fn halve(&self, number: u16) -> RpcResult<Result<u16, Fault>>;
    fn fails(&self) -> RpcResult<u8>;
    fn other(&mut self, odd: bool) -> RpcResult<Result<Object<dyn Numbers>, Fault>>;
    fn ask(&mut self, whom: Object<dyn Numbers>) -> RpcResult<u32>;
    fn maybe(
        &mut self,
        gate: Option<Object<dyn Numbers>>,
        object: u8,
    ) -> RpcResult<(u8, Option<Object<dyn Numbers>>)>;
}

struct Real;

impl Numbers for Real {
    fn where_am_i(&self) -> RpcResult<u32> {
        Ok(current().get())
    }
    fn add(&mut self, left: u32, right: u32) -> RpcResult<u32> {
        Ok(left + right)
    }
    fn owner(&mut self, object: Shared) -> RpcResult<(u32, Shared)> {
        Ok((object.header().owner().get(), object))
    }
    fn pair(&mut self, pair: Pair) -> RpcResult<Pair> {
        assert_eq!(pair.left.header().owner(), current());
        let right = pair.right.as_ref().map(|right| right.header().owner());
        assert_eq!(right, Some(current()));
        Ok(pair)
    }
    fn borrowed(&self, one: &RRef<[u32; 4]>, two: &RRef<u64>) -> RpcResult<(u32, u32, u32)> {
        let borrows = one.header().borrows() + 10 * two.header().borrows();
        Ok((one.header().owner().get(), borrows, one[0] + **two as u32))
    }
    fn halve(&self, number: u16) -> RpcResult<Result<u16, Fault>> {
        let odd = if number == 1 {
            Fault::Odd
        } else {
            Fault::Of(number)
        };
        Ok(if number.is_multiple_of(2) {
            Ok(number / 2)
        } else {
            Err(odd)
        })
    }
    fn fails(&self) -> RpcResult<u8> {
        Err(RpcError::Refused)
    }
    fn other(&mut self, odd: bool) -> RpcResult<Result<Object<dyn Numbers>, Fault>> {
        Ok(if odd { Err(Fault::Odd) } else { Ok(real()) })
    }
    fn ask(&mut self, whom: Object<dyn Numbers>) -> RpcResult<u32> {
        whom.where_am_i()
    }
    fn maybe(
        &mut self,
        gate: Option<Object<dyn Numbers>>,
        object: u8,
    ) -> RpcResult<(u8, Option<Object<dyn Numbers>>)> {
        Ok((object + 1, gate))
    }
}

fn real() -> Object<dyn Numbers> {
    Object::from_box(Box::new(Real))
}

fn proxied(gate: &TestGate) -> Object<dyn Numbers> {
    <dyn Numbers>::proxy(real(), gate.clone())
}

fn shared(first: u32) -> Shared {
    heap().allocate([first, 2, 3, 4]).expect("fits")
}

#[test]
fn a_call_runs_in_the_callee_and_comes_back() {
    let gate = TestGate::one();
    let mut numbers = proxied(&gate);
    assert_eq!(numbers.where_am_i(), Ok(2));
    assert_eq!(current(), DomainId::HOST);
    assert_eq!(numbers.add(3, 4), Ok(7));
    assert_eq!(gate.counts.all(), [2, 2, 2, 0, 0]);
    drop(numbers);
    assert_eq!(gate.counts.all(), [2, 2, 2, 0, 1]);
}

#[test]
fn what_is_moved_is_the_callees_during_and_the_callers_after() {
    let gate = TestGate::one();
    let mut numbers = proxied(&gate);
    let object = shared(1);
    assert_eq!(object.header().owner(), DomainId::HOST);
    let (during, object) = numbers.owner(object).expect("it lives");
    assert_eq!(during, 2);
    assert_eq!(object.header().owner(), DomainId::HOST);
}

#[test]
fn objects_in_a_struct_are_moved_with_it() {
    let gate = TestGate::one();
    let pair = Pair {
        left: shared(1),
        right: Some(shared(2)),
        tag: 9,
    };
    let pair = proxied(&gate).pair(pair).expect("it lives");
    assert_eq!(pair.left.header().owner(), DomainId::HOST);
    let right = pair.right.expect("it came back");
    assert_eq!((right.header().owner(), right[0]), (DomainId::HOST, 2));
    assert_eq!(pair.tag, 9);
}

#[test]
fn what_is_borrowed_is_counted_for_the_call_and_stays_the_callers() {
    let gate = TestGate::one();
    let (one, two) = (shared(5), heap().allocate(6u64).expect("fits"));
    let seen = proxied(&gate).borrowed(&one, &two);
    assert_eq!(seen, Ok((DomainId::HOST.get(), 11, 11)));
    assert_eq!((one.header().borrows(), two.header().borrows()), (0, 0));
    assert_eq!(gate.counts.all(), [1, 0, 1, 2, 1]);
}

#[test]
fn a_borrow_ends_also_when_the_callee_is_dead() {
    let gate = TestGate::one();
    let numbers = proxied(&gate);
    gate.counts.kill();
    let (one, two) = (shared(5), heap().allocate(6u64).expect("fits"));
    let seen = numbers.borrowed(&one, &two);
    assert_eq!(seen, Err(RpcError::Dead(Cause::Panic)));
    assert_eq!((one.header().borrows(), two.header().borrows()), (0, 0));
}

#[test]
fn what_was_to_be_moved_into_a_dead_domain_is_dropped_and_was_never_its() {
    let gate = TestGate::one();
    let mut numbers = proxied(&gate);
    gate.counts.kill();
    let given = gate.counts.all()[1];
    assert!(numbers.owner(shared(1)).is_err());
    assert_eq!(gate.counts.all()[1], given);
}

#[test]
fn the_callees_own_errors_come_through() {
    let gate = TestGate::one();
    let numbers = proxied(&gate);
    assert_eq!(numbers.fails(), Err(RpcError::Refused));
    assert_eq!(numbers.halve(8), Ok(Ok(4)));
    assert_eq!(numbers.halve(1), Ok(Err(Fault::Odd)));
    assert_eq!(numbers.halve(3), Ok(Err(Fault::Of(3))));
}

#[test]
fn an_object_that_is_returned_is_called_through_a_proxy() {
    let gate = TestGate::one();
    let mut numbers = proxied(&gate);
    let other = numbers.other(false).expect("it lives").expect("not odd");
    assert_eq!(other.where_am_i(), Ok(2));
    assert_eq!(gate.counts.all()[0], 2);
    assert_eq!(
        numbers.other(true).expect("it lives").err(),
        Some(Fault::Odd)
    );
    gate.counts.kill();
    assert_eq!(other.where_am_i(), Err(RpcError::Dead(Cause::Panic)));
}

#[test]
fn an_object_that_is_passed_is_called_through_a_proxy_into_whoever_passed_it() {
    let gates = TestGate::several(2);
    let mut asked = proxied(&gates[0]);
    // The host's own object: called back, it runs in the host.
    assert_eq!(asked.ask(real()), Ok(DomainId::HOST.get()));
    // An object of domain 3, through the host.
    assert_eq!(asked.ask(proxied(&gates[1])), Ok(3));
    assert_eq!(gates[1].counts.all()[0], 1);
    gates[1].counts.kill();
    let refused = asked.ask(proxied(&gates[1]));
    assert_eq!(refused, Err(RpcError::Dead(Cause::Panic)));
}

#[test]
fn objects_in_options_and_tuples_get_proxies_too() {
    let gates = TestGate::several(2);
    let mut numbers = proxied(&gates[0]);
    let (count, none) = numbers.maybe(None, 1).expect("it lives");
    assert!(none.is_none());
    assert_eq!(count, 2);
    let (_, back) = numbers
        .maybe(Some(proxied(&gates[1])), 1)
        .expect("it lives");
    let back = back.expect("it came back");
    // Through domain 2, which held it, and the host, which passed it, to domain 3.
    let before = gates[0].counts.all()[0];
    assert_eq!(back.where_am_i(), Ok(3));
    assert_eq!(gates[0].counts.all()[0], before + 1);
    gates[0].counts.kill();
    assert_eq!(back.where_am_i(), Err(RpcError::Dead(Cause::Panic)));
}
