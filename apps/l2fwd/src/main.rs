//! Layer 2 forwarding between pairs of ports.
fn main() {}
