//! An address register takes no plain number.
use sumac_device::{Bar, Iova};

sumac_device::register_offsets! {
    /// Where the ring is.
    pub enum RingBase: address {
        /// Low word.
        Rdbal = 0x1000,
    }
}

fn point(bar: &Bar, address: Iova) {
    bar.write_address(RingBase::Rdbal, address);
    bar.write(RingBase::Rdbal, 0xdead_0000);
    bar.write_address(RingBase::Rdbal, 0xdead_0000);
}

fn main() {}
