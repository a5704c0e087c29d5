//! DMA memory is one: nobody keeps a second handle of what a pool lends.
use sumac_device::DmaMemory;

fn twice(memory: &DmaMemory) -> (DmaMemory, DmaMemory) {
    (memory.clone(), memory.clone())
}

fn main() {}
