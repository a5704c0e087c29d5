//! References, and types that hold private memory or change behind a borrow, are not exchangeable.
use std::cell::Cell;

use sumac_rref::RRef;

fn reference(_: RRef<&'static u8>) {}
fn vector(_: RRef<Vec<u8>>) {}
fn cell(_: RRef<Cell<u8>>) {}
fn pointer(_: RRef<*const u8>) {}

fn main() {}
