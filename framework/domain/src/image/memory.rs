//! The functions on memory that compiled code calls by name: a domain links no C library.
//!
//! Short copies and fills are two overlapping moves of words; the rest is left to the processor's string
//! instructions, which no compiler turns back into a call of the function it is compiling.

use core::arch::asm;

/// Longer ranges are for string instructions; up to here their start costs more than it saves.
const SHORT: usize = 128;

/// Copies `len` bytes between ranges that do not overlap.
///
/// # Safety
/// Both ranges are valid for `len` bytes and do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if len <= SHORT {
        // SAFETY: the caller's promise.
        unsafe { copy_short(to, from, len) };
    } else {
        // SAFETY: the caller's promise; the direction flag is clear by the ABI.
        unsafe {
            asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
        }
    }
    to
}

/// Copies `len` bytes between ranges that may overlap.
///
/// # Safety
/// Both ranges are valid for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if len <= SHORT {
        // SAFETY: the caller's promise; a short copy reads everything before it writes.
        unsafe { copy_short(to, from, len) };
    } else if to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: `to` is before `from`, or behind its end: copying upwards overwrites nothing that is
        // still to be read.
        unsafe {
            asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags));
        }
    } else {
        // SAFETY: downwards for the same reason: first the bytes that do not fill a word, at the end, then
        // the words before them. The direction flag is cleared again.
        unsafe {
            asm!("std", "rep movsb", "sub rsi, 7", "sub rdi, 7", "mov rcx, {words}", "rep movsq", "cld",
                words = in(reg) len / 8,
                inout("rcx") len % 8 => _,
                inout("rdi") to.wrapping_add(len - 1) => _,
                inout("rsi") from.wrapping_add(len - 1) => _,
                options(nostack));
        }
    }
    to
}

/// Copies up to 128 bytes, reading all of them before it writes any.
///
/// # Safety
/// Both ranges are valid for `len` bytes, at most [`SHORT`]; they may overlap.
#[inline(always)]
unsafe fn copy_short(to: *mut u8, from: *const u8, len: usize) {
    /// The first and the last bytes of the range, which overlap unless it is twice as long.
    #[inline(always)]
    unsafe fn both_ends<T: Copy>(to: *mut u8, from: *const u8, len: usize) {
        let last = len - size_of::<T>();
        // SAFETY: the caller has at least a T in `len` bytes.
        unsafe {
            let (a, b) = (
                from.cast::<T>().read_unaligned(),
                from.add(last).cast::<T>().read_unaligned(),
            );
            to.cast::<T>().write_unaligned(a);
            to.add(last).cast::<T>().write_unaligned(b);
        }
    }
    // SAFETY: each case has room for its type twice, overlapping, in `len` bytes.
    unsafe {
        match len {
            0 => {}
            1 => to.write(from.read()),
            2..4 => both_ends::<u16>(to, from, len),
            4..8 => both_ends::<u32>(to, from, len),
            8..16 => both_ends::<u64>(to, from, len),
            16..32 => both_ends::<u128>(to, from, len),
            32..64 => both_ends::<[u128; 2]>(to, from, len),
            _ => both_ends::<[u128; 4]>(to, from, len),
        }
    }
}

/// Fills `len` bytes with the low byte of `value`.
///
/// # Safety
/// The range is valid for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    if len <= 32 {
        // SAFETY: the caller's promise.
        unsafe { fill_short(to, value as u8, len) };
        return to;
    }
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") value as u8,
            options(nostack, preserves_flags));
    }
    to
}

/// Fills up to 32 bytes.
///
/// # Safety
/// The range is valid for `len` bytes, at most 32.
#[inline(always)]
unsafe fn fill_short(to: *mut u8, value: u8, len: usize) {
    let words = u128::from_ne_bytes([value; 16]);
    // SAFETY: as in `copy_short`.
    unsafe {
        match len {
            0 => {}
            1 => to.write(value),
            2..4 => fill_ends(to, len, words as u16),
            4..8 => fill_ends(to, len, words as u32),
            8..16 => fill_ends(to, len, words as u64),
            _ => fill_ends(to, len, words),
        }
    }
}

/// Writes the first and the last bytes of a range.
///
/// # Safety
/// The range is valid for `len` bytes, at least one T.
#[inline(always)]
unsafe fn fill_ends<T: Copy>(to: *mut u8, len: usize, value: T) {
    // SAFETY: the caller's promise.
    unsafe {
        to.cast::<T>().write_unaligned(value);
        to.add(len - size_of::<T>())
            .cast::<T>()
            .write_unaligned(value);
    }
}

/// Compares `len` bytes: less than, equal to or greater than zero, as the first that differs has it.
///
/// # Safety
/// Both ranges are valid for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut i = 0;
    // SAFETY: the caller's promise, in steps that stay below `len`.
    unsafe {
        while i + 8 <= len {
            let x = a.add(i).cast::<u64>().read_unaligned();
            let y = b.add(i).cast::<u64>().read_unaligned();
            if x != y {
                return if x.swap_bytes() < y.swap_bytes() {
                    -1
                } else {
                    1
                };
            }
            i += 8;
        }
        while i < len {
            let (x, y) = (a.add(i).read(), b.add(i).read());
            if x != y {
                return i32::from(x) - i32::from(y);
            }
            i += 1;
        }
    }
    0
}

/// Compares `len` bytes: zero if they are equal.
///
/// # Safety
/// Both ranges are valid for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, len) }
}

/// The length of a zero-terminated string.
///
/// # Safety
/// The string is valid up to and with its zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the caller's promise.
    while unsafe { text.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}

/// What the precompiled core library names for unwinding. A domain aborts instead: nothing calls it.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() -> ! {
    super::fail(crate::abi::CAUSE_PANIC, "unwinding in a domain")
}

/// As [`rust_eh_personality`].
#[unsafe(no_mangle)]
pub extern "C" fn _Unwind_Resume() -> ! {
    super::fail(crate::abi::CAUSE_PANIC, "unwinding in a domain")
}
