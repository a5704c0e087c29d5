//! Table 1: what a call costs, from a plain one to one into another process.
//!
//! *Pipelined*: the processor may begin a call before the one before has ended, as in a program.
//! *Serialised*: a fence between calls, so each is seen from its beginning to its end.

use std::cell::Cell;
use std::hint::black_box;
use std::ops::DerefMut;
use std::path::Path;
use std::time::Duration;

use sumac_interface::domain::{Block, Crashy};
use sumac_interface::rpc::RpcResult;
use sumac_interface::{Object, Policy, Shadow};
use sumac_linux::time::{TickCounter, serialise};
use sumac_rref::{HeapError, RRef, SharedHeap};

use super::process::{Echo, Wake};
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

/// What each row stands beside.
const PEERS: [(&str, &str); 8] = [
    ("dyn", "plain"),
    ("proxied", "syscall"),
    ("proxied_rref", "proxied"),
    ("proxied_borrow", "proxied"),
    ("shadow", "proxied"),
    ("shadow_rref", "shadow"),
    ("process", "proxied"),
    ("process_eventfd", "proxied"),
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

/// What is called. Each kind of call has an object of its own.
struct Callees {
    heap: &'static SharedHeap,
    near: Box<dyn Near>,
    /// Of one domain: for plain arguments, for moved ones, for lent ones.
    proxied: [Object<dyn Crashy>; 3],
    /// Of another: for plain arguments and for moved ones.
    shadows: [Box<dyn Crashy>; 2],
}

impl Callees {
    fn start(folder: &Path) -> Result<Self, IsolationError> {
        let heap = heap()?;
        heap.know::<Block>();
        let several = || -> Result<[Object<dyn Crashy>; 3], IsolationError> {
            let mut root = domain::<dyn Crashy>(folder, "crashy", heap)?.root;
            let mut another = || root.another().map_err(|error| failed(&error));
            let others = [another()?, another()?];
            let [second, third] = others;
            Ok([root, second, third])
        };
        let [first, second, _] = several()?;
        Ok(Self {
            heap,
            near: Box::new(Here),
            proxied: several()?,
            shadows: [shadow(first), shadow(second)],
        })
    }

    fn object(&self) -> Result<RRef<Block>, IsolationError> {
        let object = self.heap.allocate([1; 8]);
        object.map_err(|error: HeapError| failed(&error))
    }
}

fn failed(error: &dyn std::fmt::Display) -> IsolationError {
    IsolationError::Failed(error.to_string())
}

/// A shadow that never has to restart what is behind it.
fn shadow(object: Object<dyn Crashy>) -> Box<dyn Crashy> {
    let policy = Policy {
        limit: 1,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
    };
    let again = |_: Duration| Err(sumac_interface::RpcError::Refused);
    Box::new(Shadow::<dyn Crashy, _>::new(object, again, policy))
}

/// Calls one after the other, with a fence between them or not.
struct Caller<'a> {
    serialised: bool,
    /// Set by a call that failed: a figure of failing calls would be none.
    failed: &'a Cell<bool>,
}

impl<'a> Caller<'a> {
    /// A call that returns whether it went well.
    fn calls(&self, name: &str, runs: u64, mut call: impl FnMut() -> bool + 'a) -> Candidate<'a> {
        let (serialised, failed) = (self.serialised, self.failed);
        let work = move |runs| {
            for _ in 0..runs {
                if !call() {
                    failed.set(true);
                }
                if serialised {
                    serialise();
                }
            }
        };
        candidate(name, runs, work)
    }

    /// A call that an object goes into and comes back from.
    fn moves(
        &self,
        name: &str,
        object: RRef<Block>,
        mut callee: impl DerefMut<Target = dyn Crashy> + 'a,
    ) -> Candidate<'a> {
        let (serialised, failed) = (self.serialised, self.failed);
        let mut kept = Some(object);
        let work = move |runs| {
            let Some(mut object) = kept.take() else {
                return failed.set(true);
            };
            for _ in 0..runs {
                match callee.echo_rref(object) {
                    Ok(back) => object = back,
                    Err(_) => return failed.set(true),
                }
                if serialised {
                    serialise();
                }
            }
            kept = Some(object);
        };
        candidate(name, CALLS, work)
    }
}

fn candidate<'a>(name: &str, runs: u64, work: impl FnMut(u64) + 'a) -> Candidate<'a> {
    Candidate {
        name: name.to_owned(),
        units: 1,
        work: Box::new(work),
        runs,
    }
}

/// What a call returned, looked at as a program does.
#[inline(always)]
fn seen<T>(result: RpcResult<T>) -> bool {
    result.map(black_box).is_ok()
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
    let failed = Cell::new(false);
    let caller = Caller {
        serialised,
        failed: &failed,
    };
    let mut calls = calls(folder, &caller)?;
    let mut figures = measure(&mut calls, windows, Disturbed::Drop);
    let mut trips = trips(&caller)?;
    figures.extend(measure(&mut trips, windows, Disturbed::Keep));
    let names = calls.iter().chain(&trips).map(|c| c.name.clone());
    let rows = rows(&names.collect::<Vec<_>>(), &figures, serialised);
    if failed.get() {
        let what = "a callee died while it was measured".to_owned();
        return Err(IsolationError::Failed(what));
    }
    Ok(rows)
}

/// Calls within this process, and into the kernel.
fn calls<'a>(folder: &Path, caller: &Caller<'a>) -> Result<Vec<Candidate<'a>>, IsolationError> {
    let callees = Callees::start(folder)?;
    let (first, second, lent) = (callees.object()?, callees.object()?, callees.object()?);
    let Callees {
        near,
        proxied: [echo, moves, borrows],
        shadows: [shadow_echo, shadow_moves],
        ..
    } = callees;
    let near = black_box(near);
    Ok(vec![
        caller.calls("plain", CALLS, || black_box(plain(1)) == 1),
        caller.calls("dyn", CALLS, move || seen(near.echo(1))),
        caller.calls("proxied", CALLS, move || seen(echo.echo(1))),
        caller.moves("proxied_rref", first, moves),
        caller.calls("proxied_borrow", CALLS, move || seen(borrows.sum(&lent))),
        caller.calls("shadow", CALLS, move || seen(shadow_echo.echo(1))),
        caller.moves("shadow_rref", second, shadow_moves),
        caller.calls("syscall", SLOW_CALLS, || {
            black_box(nix::unistd::getppid()).as_raw() != 0
        }),
    ])
}

/// Round trips to another process.
fn trips<'a>(caller: &Caller<'a>) -> Result<Vec<Candidate<'a>>, IsolationError> {
    let trip = |name, wake| -> Result<_, IsolationError> {
        let mut echo = Echo::start(wake)?;
        Ok(caller.calls(name, ROUND_TRIPS, move || echo.round()))
    };
    Ok(vec![
        trip("process", Wake::Futex)?,
        trip("process_eventfd", Wake::EventFd)?,
    ])
}

fn rows(names: &[String], figures: &[Vec<f64>], serialised: bool) -> Vec<Row> {
    let of = |name: &str| {
        let place = names.iter().position(|n| n == name);
        place
            .and_then(|place| figures.get(place))
            .map_or(&[][..], Vec::as_slice)
    };
    let found = |table: &[(&str, &'static str)], name: &str| {
        table
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, peer)| *peer)
    };
    names
        .iter()
        .map(|name| {
            let shown = match serialised {
                true => format!("serialised/{name}"),
                false => name.clone(),
            };
            let peer = found(&PEERS, name).map(|peer| (peer, of(peer)));
            let paper = PAPER.iter().find(|(n, _)| n == name).map(|(_, p)| *p);
            row(&shown, "ticks/call", of(name), peer, paper)
        })
        .collect()
}
