//! Every way to fail that safe code has.

use alloc::vec::Vec;
use core::hint::black_box;

use sumac_interface::domain::Failure;
use sumac_interface::{RpcError, RpcResult};

/// Fails.
///
/// # Errors
/// [`RpcError::Refused`] for what cannot be brought to happen from safe code.
pub fn fail(how: Failure) -> RpcResult<()> {
    match how {
        Failure::Panic => panic!("on request"),
        Failure::Divide => {
            // Safe code divides by a checked number: the panic for it is what there is to see.
            let zero = black_box(0_u64);
            black_box(1 / zero);
        }
        Failure::Overflow => {
            black_box(deepen(0));
        }
        Failure::Spin => loop {
            core::hint::spin_loop();
        },
        Failure::OutOfMemory => {
            let mut memory = Vec::new();
            loop {
                memory.push(black_box(alloc::vec![1_u8; 1 << 16]));
            }
        }
        // Safe code cannot touch address zero, nor come upon an instruction that is none.
        Failure::Null | Failure::Illegal => return Err(RpcError::Refused),
    }
    Ok(())
}

/// Uses the stack up.
#[expect(unconditional_recursion, reason = "it is to use the stack up")]
fn deepen(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    black_box(deepen(room[0] + 1)) + room[63]
}
