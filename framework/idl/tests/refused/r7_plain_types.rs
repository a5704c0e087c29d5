use sumac_interface::Exchangeable;

#[derive(Exchangeable)]
struct Lifetime<'a> {
    value: [u8; 4],
    borrowed: Marker<'a>,
}

struct Marker<'a>(&'a u8);

#[derive(Exchangeable)]
struct Unbounded<T> {
    value: T,
}

#[derive(Exchangeable)]
union Either {
    number: u32,
    bytes: [u8; 4],
}

#[derive(Exchangeable)]
enum Never {}

#[derive(Exchangeable)]
#[repr(C, packed)]
struct Packed {
    byte: u8,
    number: u32,
}

fn main() {}
