//! Safe code cannot make anything somebody's.
use sumac_rref::{DomainId, Exchangeable, Mover, RRef};

fn steal(object: &RRef<u64>) {
    object.move_to(&Mover::to(DomainId::HOST));
}

fn main() {}
