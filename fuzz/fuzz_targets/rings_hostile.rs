//! Both descriptor rings against a device that writes anything into any descriptor at any time.
//!
//! Invariants, checked in [`sumac_testbed::hostile`]: no panic; no two holders of one buffer; after
//! every step `free + device + held = total`; after the end every buffer is free, once.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| sumac_testbed::hostile(data));
