//! Copies to and from memory that a driver may change at the same time.
//!
//! A plain copy would be a data race, and the compiler may assume there is none. These copies are
//! opaque to it: an instruction sequence that moves bytes, whatever they are at that moment, as a
//! device's DMA engine does. A race gives a mixture of old and new bytes and nothing worse.

/// Bytes of the shortest frame without frame check sequence: what there is most of.
const SHORT: usize = 60;

/// Copies `len` bytes, not overlapping, from `from` to `to`.
///
/// # Safety
/// `len` bytes are readable at `from` and writable at `to`. One side is private to the caller; the
/// other may be changed by somebody else meanwhile.
#[inline(always)]
pub(super) unsafe fn opaque(from: *const u8, to: *mut u8, len: usize) {
    if len == SHORT {
        // SAFETY: passed on.
        unsafe { copy_short(from, to) }
    } else if (32..=64).contains(&len) {
        // SAFETY: passed on; both ends of the range are covered by 32 bytes each.
        unsafe {
            copy32(from, to);
            copy32(from.add(len - 32), to.add(len - 32));
        }
    } else {
        // SAFETY: passed on.
        unsafe { copy_any(from, to, len) }
    }
}

/// [`SHORT`] bytes, four of them twice.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn copy_short(from: *const u8, to: *mut u8) {
    // SAFETY: the caller has 60 bytes at both ends; SSE is part of x86-64.
    unsafe {
        core::arch::asm!(
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 44]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 44], {d}",
            from = in(reg) from,
            to = in(reg) to,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn copy32(from: *const u8, to: *mut u8) {
    // SAFETY: the caller has 32 bytes at both ends; SSE is part of x86-64.
    unsafe {
        core::arch::asm!(
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            from = in(reg) from,
            to = in(reg) to,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
unsafe fn copy_any(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller has `len` bytes at both ends; the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_short(from: *const u8, to: *mut u8) {
    // SAFETY: passed on.
    unsafe { copy_any(from, to, SHORT) }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy32(from: *const u8, to: *mut u8) {
    // SAFETY: passed on.
    unsafe { copy_any(from, to, 32) }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_any(from: *const u8, to: *mut u8, len: usize) {
    use core::sync::atomic::{AtomicU8, Ordering};
    for index in 0..len {
        // SAFETY: the caller has `len` bytes at both ends; every access is atomic.
        unsafe {
            let byte = AtomicU8::from_ptr(from.add(index).cast_mut()).load(Ordering::Relaxed);
            AtomicU8::from_ptr(to.add(index)).store(byte, Ordering::Relaxed);
        }
    }
}

/// Whether 16 aligned bytes can be stored at once: processors with AVX guarantee it (Intel SDM volume
/// 3A, section 9.1.1).
#[inline(always)]
pub(super) fn stores_descriptors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Stores a line of four descriptors, each at once and one after another.
///
/// # Safety
/// [`stores_descriptors`]; `to` is aligned to 16 bytes, 64 are writable there, and others only reach
/// them by atomics.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn store_line(from: &[[u64; 2]; 4], to: *mut u8) {
    // SAFETY: the caller's; what others see are 64-bit stores that nothing came between.
    unsafe {
        core::arch::asm!(
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movaps [{to}], {a}",
            "movaps [{to} + 16], {b}",
            "movaps [{to} + 32], {c}",
            "movaps [{to} + 48], {d}",
            from = in(reg) from.as_ptr(),
            to = in(reg) to,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack, preserves_flags),
        );
    }
}

/// Never called: `stores_descriptors` says no.
///
/// # Safety
/// As above.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn store_line(from: &[[u64; 2]; 4], to: *mut u8) {
    // SAFETY: the caller's.
    unsafe { copy_any(from.as_ptr().cast(), to, 64) }
}

/// Asks for the cache line at `base + offset` in a state to be written.
#[inline(always)]
pub(super) fn prefetch_write(base: *const u8, offset: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults and changes no memory.
    unsafe {
        core::arch::asm!(
            "prefetchw [{} + {}]",
            in(reg) base,
            in(reg) offset,
            options(nostack, preserves_flags, readonly),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (base, offset);
}

/// Asks for the cache line at `address`.
#[inline(always)]
pub(super) fn prefetch_read(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults and changes no memory.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_length_is_copied_and_nothing_beside_it(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut target = vec![0xEE_u8; bytes.len() + 32];
            // SAFETY: both vectors are long enough and private to this test.
            unsafe { opaque(bytes.as_ptr(), target.as_mut_ptr().add(16), bytes.len()) };
            prop_assert_eq!(&target[16..16 + bytes.len()], &bytes[..]);
            prop_assert!(target[..16].iter().chain(&target[16 + bytes.len()..]).all(|&b| b == 0xEE));
        }
    }
}
