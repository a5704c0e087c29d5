//! Could write any code into the crate. //~ build-script

fn main() {}
