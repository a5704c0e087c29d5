//! The host drops what a dead domain owned, by its own code: a type's destructor is its fields' alone.
use sumac_interface::Exchangeable;

#[derive(Exchangeable)]
struct Counted {
    number: u32,
}

impl Drop for Counted {
    fn drop(&mut self) {}
}

fn main() {}
