//! A domain for the loader's tests: a heap, variables, constants with addresses in them, and two ways to fail.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use sumac_interface::{Gate, Interface};
use sumac_rref::Object;

/// What this domain offers.
pub type Root = dyn Probe;

/// Makes the root object.
pub fn root() -> Object<Root> {
    Object::from_box(Box::new(Sums::default()))
}

/// What the tests call.
pub trait Probe: Send {
    /// Counts `value` under its remainder by 16, in a map on the domain's heap; the sum of its group.
    fn count(&mut self, value: u64) -> u64;
    /// How often any method was called, from a variable of the domain.
    fn calls(&self) -> u64;
    /// Writes the groups' sums as text, by way of constants that hold addresses; the length.
    fn text(&self) -> usize;
    /// Copies within a buffer that overlaps itself, both ways; what a loop would have made of it.
    fn shift(&self, len: usize, by: usize) -> bool;
    /// Fills `len` bytes of a buffer and compares it with what a loop fills; whether all of it is right.
    fn fill(&self, len: usize, value: u8) -> bool;
    /// Panics with this number.
    fn panic(&self, number: u64);
    /// Takes memory until the quota is used up.
    fn devour(&self) -> usize;
}

impl Interface for dyn Probe {
    const NAME: &'static str = "Probe";
    const FINGERPRINT: u64 = 0x5072_6f62_6520_0001;

    const TEXT: &'static str = "Probe\n  count(u64) -> u64\n  calls() -> u64\n";

    /// The tests call it without a gate.
    fn proxy<G: Gate>(object: Object<Self>, _: G) -> Object<Self> {
        object
    }
}

static CALLS: AtomicU64 = AtomicU64::new(0);
static GROUPS: [&str; 4] = ["none", "one", "two", "many"];

#[derive(Default)]
struct Sums {
    groups: BTreeMap<u64, u64>,
}

impl Probe for Sums {
    fn count(&mut self, value: u64) -> u64 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let sum = self.groups.entry(value % 16).or_default();
        *sum = sum.wrapping_add(value);
        *sum
    }

    fn calls(&self) -> u64 {
        CALLS.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn text(&self) -> usize {
        let mut text = String::new();
        for (group, sum) in &self.groups {
            let word = GROUPS[(*sum).min(3) as usize];
            let _ = write!(text, "{group}: {sum} ({word}) ");
        }
        text.len()
    }

    fn shift(&self, len: usize, by: usize) -> bool {
        let bytes: Vec<u8> = (0..len + by).map(|i| (i * 7) as u8).collect();
        let (mut up, mut down) = (bytes.clone(), bytes.clone());
        up.copy_within(..len, by);
        down.copy_within(by.., 0);
        up[by..] == bytes[..len] && down[..len] == bytes[by..] && up[..by] == bytes[..by]
    }

    fn fill(&self, len: usize, value: u8) -> bool {
        let mut filled: Vec<u8> = (0..len + 2).map(|_| value ^ 0xff).collect();
        let mut looped = filled.clone();
        filled[1..=len].fill(value);
        for byte in &mut looped[1..=len] {
            *byte = core::hint::black_box(value);
        }
        let equal = filled == looped;
        // The last byte that differs decides the order.
        if let Some(last) = looped.get_mut(len) {
            *last = last.wrapping_add(1);
        }
        equal && filled.cmp(&looped) == filled[len].cmp(&looped[len])
    }

    fn panic(&self, number: u64) {
        panic!("asked to panic with {number}");
    }

    fn devour(&self) -> usize {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        loop {
            blocks.push(Vec::with_capacity(100_000));
            if blocks.len() == usize::MAX {
                return blocks.len();
            }
        }
    }
}
