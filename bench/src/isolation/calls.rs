//! Table 1: what a call costs, from a plain one to one into another process.
//!
//! *Pipelined*: the processor may begin a call before the one before has ended, as in a program.
//! *Serialised*: a fence between calls, so each is seen from its beginning to its end.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use sumac_interface::domain::{Block, Crashy};
use sumac_interface::rpc::RpcResult;
use sumac_interface::{Object, Policy, Shadow};
use sumac_linux::time::{TickCounter, serialise};
use sumac_rref::RRef;

use super::process::Echo;
use super::{Candidate, Disturbed, IsolationError, domain, heap, machine, measure, row};
use crate::report::{Report, Row};

/// Calls of a kind in a window, and windows: 10 million calls at 1,000 windows.
const CALLS: u64 = 10_000;
/// System calls and round trips to a process in a window.
const SLOW_CALLS: u64 = 1_000;
const ROUND_TRIPS: u64 = 20;

/// The cycles of the paper's Table 1 (RedLeaf, OSDI 2020), on its own machine.
const PAPER: [(&str, f64); 4] = [
    ("proxied", 124.0),
    ("proxied_rref", 141.0),
    ("shadow", 279.0),
    ("shadow_rref", 297.0),
];

#[inline(never)]
fn plain(value: u64) -> u64 {
    black_box(value)
}

/// An object with a method, behind a pointer.
trait Near {
    fn echo(&self, value: u64) -> RpcResult<u64>;
}

struct Here;

impl Near for Here {
    #[inline(never)]
    fn echo(&self, value: u64) -> RpcResult<u64> {
        Ok(value)
    }
}

/// Between two calls: nothing, or a fence.
fn between(serialised: bool) {
    if serialised {
        serialise();
    }
}

/// What is called, in one kind of timing.
struct Callees {
    near: Box<dyn Near>,
    crashy: Object<dyn Crashy>,
    shadow: Box<dyn Crashy>,
    object: Cell<Option<RRef<Block>>>,
    lent: RRef<Block>,
}

fn callees(folder: &Path) -> Result<Callees, IsolationError> {
    let heap = heap()?;
    heap.know::<Block>();
    let failed = |error: &dyn std::fmt::Display| IsolationError::Failed(error.to_string());
    let allocate = || heap.allocate([1; 8]).map_err(|error| failed(&error));
    let crashy = domain::<dyn Crashy>(folder, "crashy", heap)?;
    let behind = domain::<dyn Crashy>(folder, "crashy", heap)?;
    let policy = Policy {
        limit: 1,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
    };
    let again = |_: Duration| Err(sumac_interface::RpcError::Refused);
    let shadow: Shadow<dyn Crashy, _> = Shadow::new(behind.root, again, policy);
    Ok(Callees {
        near: Box::new(Here),
        crashy: crashy.root,
        shadow: Box::new(shadow),
        object: Cell::new(Some(allocate()?)),
        lent: allocate()?,
    })
}

/// A moved object goes in and comes back.
fn move_through(callee: &mut dyn Crashy, object: &Cell<Option<RRef<Block>>>) {
    if let Some(moved) = object.take() {
        object.set(callee.echo_rref(moved).ok());
    }
}

/// Measures all kinds of calls, pipelined and serialised; `windows` windows of each.
///
/// # Errors
/// [`IsolationError`].
pub fn run(folder: &Path, windows: usize) -> Result<Report, IsolationError> {
    let counter = TickCounter::start();
    let mut rows = Vec::new();
    for serialised in [false, true] {
        rows.extend(table(folder, windows, serialised)?);
    }
    Ok(Report {
        machine: machine(&counter),
        rows,
        tolerated: Vec::new(),
    })
}

fn table(folder: &Path, windows: usize, serialised: bool) -> Result<Vec<Row>, IsolationError> {
    let Callees {
        near,
        crashy,
        shadow,
        object,
        lent,
    } = callees(folder)?;
    let (crashy, shadow) = (RefCell::new(crashy), RefCell::new(shadow));
    let echo = RefCell::new(Echo::start()?);
    macro_rules! calls {
        ($name:literal, $runs:expr, $call:expr) => {
            Candidate {
                name: $name.to_owned(),
                units: 1,
                work: Box::new(|runs| {
                    for _ in 0..runs {
                        let _ = $call;
                        between(serialised);
                    }
                }),
                runs: $runs,
            }
        };
    }
    let mut candidates = [
        calls!("plain", CALLS, black_box(plain(1))),
        calls!("dyn", CALLS, black_box(near.echo(1))),
        calls!("proxied", CALLS, black_box(crashy.borrow().echo(1))),
        calls!(
            "proxied_rref",
            CALLS,
            move_through(&mut **crashy.borrow_mut(), &object)
        ),
        calls!(
            "proxied_borrow",
            CALLS,
            black_box(crashy.borrow().sum(&lent))
        ),
        calls!("shadow", CALLS, black_box(shadow.borrow().echo(1))),
        calls!(
            "shadow_rref",
            CALLS,
            move_through(&mut **shadow.borrow_mut(), &object)
        ),
        calls!("syscall", SLOW_CALLS, black_box(nix::unistd::getppid())),
    ];
    let mut figures = measure(&mut candidates, windows, Disturbed::Drop);
    let mut names: Vec<String> = candidates.iter().map(|c| c.name.clone()).collect();
    drop(candidates);
    let mut process = [calls!("process", ROUND_TRIPS, echo.borrow_mut().round())];
    figures.extend(measure(&mut process, windows, Disturbed::Keep));
    names.push(process[0].name.clone());
    drop(process);
    check(&crashy, &shadow, &object, &echo)?;
    let place = |name: &str| names.iter().position(|n| n == name).unwrap_or(0);
    let of = |name: &str| figures.get(place(name)).map_or(&[][..], Vec::as_slice);
    let peer_of = |name: &str| match name {
        "proxied_rref" | "proxied_borrow" | "shadow" | "process" => Some("proxied"),
        "shadow_rref" => Some("shadow"),
        "proxied" => Some("syscall"),
        "dyn" => Some("plain"),
        _ => None,
    };
    Ok(names
        .iter()
        .map(|name| {
            let shown = match serialised {
                true => format!("serialised/{name}"),
                false => name.clone(),
            };
            let peer = peer_of(name).map(|peer| (peer, of(peer)));
            let paper = PAPER.iter().find(|(n, _)| n == name).map(|(_, p)| *p);
            row(&shown, "ticks/call", of(name), peer, paper)
        })
        .collect())
}

/// Whether all that was called lived to the end: a figure of failing calls would be none.
fn check(
    crashy: &RefCell<Object<dyn Crashy>>,
    shadow: &RefCell<Box<dyn Crashy>>,
    object: &Cell<Option<RRef<Block>>>,
    echo: &RefCell<Echo>,
) -> Result<(), IsolationError> {
    let well = crashy.borrow().echo(7) == Ok(7)
        && shadow.borrow().echo(7) == Ok(7)
        && object.take().is_some()
        && echo.borrow_mut().round();
    match well {
        true => Ok(()),
        false => Err(IsolationError::Failed(
            "a callee died while it was measured".to_owned(),
        )),
    }
}
