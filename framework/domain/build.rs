//! Hashes everything about the compiler that decides how types are laid out and passed: which compiler
//! it is, what it compiles for, and with which processor features.
//!
//! Whoever links this crate is compiled by the same compiler with the same flags, so host and domain
//! each carry the number of their own build.

use std::env;
use std::process::Command;

fn main() {
    let rustc = env::var_os("RUSTC").expect("cargo names the compiler");
    let version = Command::new(&rustc)
        .arg("-vV")
        .output()
        .expect("the compiler tells its version");
    assert!(
        version.status.success(),
        "{} -vV failed",
        rustc.to_string_lossy()
    );
    let mut hash = 0xcbf2_9ce4_8422_2325;
    hash = fnv1a(hash, &version.stdout);
    for variable in ["TARGET", "CARGO_CFG_TARGET_FEATURE"] {
        // A zero byte ends each part, so that no two lists of parts run into one.
        hash = fnv1a(hash, &[0]);
        hash = fnv1a(hash, env::var(variable).unwrap_or_default().as_bytes());
    }
    println!("cargo:rustc-env=SUMAC_COMPILER={hash}");
    println!("cargo:rerun-if-changed=build.rs");
}

fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
