//! A bus address and a domain are not made of numbers.
use sumac_device::Iova;
use sumac_rref::DomainId;

fn main() {
    let _ = Iova(0xdead_0000);
    let _ = DomainId(7);
}
