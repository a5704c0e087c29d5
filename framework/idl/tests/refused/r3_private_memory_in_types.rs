use std::sync::Arc;

use sumac_interface::Exchangeable;

#[derive(Exchangeable)]
struct Fields {
    reference: &'static u32,
    boxed: Box<u32>,
    list: Vec<u8>,
    text: String,
    pointer: *const u8,
    function: fn(),
    cell: std::cell::Cell<u8>,
    mutex: std::sync::Mutex<u8>,
}

#[derive(Exchangeable)]
enum Variants {
    Shared(Arc<u8>),
    Exclusive { value: &'static mut u8 },
}

fn main() {}
