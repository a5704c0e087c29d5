//! What a call into a domain costs, in ticks of the time stamp counter: the median of many batches, with
//! calls that overlap and with calls that wait for each other (lfence).
// UNSAFETY: the tick counter and fences have no safe form.
#![expect(unsafe_code)]

use std::arch::x86_64::{_mm_lfence, _rdtsc};
use std::hint::black_box;

use sumac_interface::rpc::{Gate, RpcResult};
use sumac_linux::domains;
use sumac_rref::{RRef, SharedHeap};
use sumac_runtime::{Domain, DomainSpec, GateTo};

const CALLS: usize = 1000;
const BATCHES: usize = 5000;

trait Service {
    fn add(&self, number: u64) -> u64;
    fn pass(&self, object: RRef<u64>) -> RpcResult<RRef<u64>>;
}

struct Adder(u64);

impl Service for Adder {
    #[inline(never)]
    fn add(&self, number: u64) -> u64 {
        self.0.wrapping_add(number)
    }

    #[inline(never)]
    fn pass(&self, object: RRef<u64>) -> RpcResult<RRef<u64>> {
        Ok(object)
    }
}

#[inline(always)]
fn wait<const SERIAL: bool>() {
    if SERIAL {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_lfence() };
    }
}

fn measure<const SERIAL: bool>(mut call: impl FnMut(u64)) -> f64 {
    let mut all: Vec<f64> = (0..BATCHES)
        .map(|_| {
            // SAFETY: every x86-64 processor has it, and Linux lets programs use it.
            let start = unsafe { _rdtsc() };
            for number in 0..CALLS {
                wait::<SERIAL>();
                call(number as u64);
            }
            wait::<SERIAL>();
            // SAFETY: as above.
            let end = unsafe { _rdtsc() };
            (end - start) as f64 / CALLS as f64
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn row(name: &str, mut call: impl FnMut(u64)) {
    let pipelined = measure::<false>(&mut call);
    let serial = measure::<true>(&mut call);
    println!("{name:<28} {pipelined:>8.1} {serial:>8.1}");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    domains::install()?;
    domains::attach()?;
    let domain = Domain::create(DomainSpec::default())?;
    let gate: GateTo = black_box(GateTo::new(domain));
    let service: Box<dyn Service> = black_box(Box::new(Adder(3)));
    let heap = SharedHeap::create_for(domains::hooks());
    println!("{:<28} {:>8} {:>8}", "", "pipelined", "serial");
    row("nothing", |number| _ = black_box(number));
    row("dyn call", |number| _ = black_box(service.add(number)));
    row("proxied call", |number| {
        _ = black_box(gate.cross(|| service.add(number)));
    });
    let mut kept = Some(heap.allocate(7u64)?);
    row("dyn call with an RRef", |_| {
        kept = kept.take().and_then(|object| service.pass(object).ok());
    });
    row("proxied call with an RRef", |_| {
        let Some(object) = kept.take() else { return };
        let result: RpcResult<RpcResult<_>> =
            gate.cross(|| Ok(gate.accept(service.pass(gate.give(object))?)));
        kept = result.ok().and_then(Result::ok);
    });
    let lent = heap.allocate(7u64)?;
    row("proxied call with a borrow", |number| {
        _ = black_box(gate.lend(&lent, |lent| {
            gate.cross(|| service.add(number).wrapping_add(**lent))
        }));
    });
    row("system call", |_| {
        // SAFETY: asks for a number.
        _ = black_box(unsafe { libc::syscall(libc::SYS_getppid) });
    });
    Ok(())
}
