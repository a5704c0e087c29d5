//! What was moved into a call is not the caller's any more.
use sumac_interface::domain::Crashy;
use sumac_interface::domain::crashy::Block;
use sumac_rref::RRef;

fn twice(crashy: &mut dyn Crashy, object: RRef<Block>) {
    let _ = crashy.keep(object);
    let _ = object[0];
}

fn main() {}
