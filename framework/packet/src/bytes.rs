//! Big-endian fields in byte slices, and splitting a buffer into header and rest.
//!
//! The only place that indexes: callers have checked the length (see the crate's panic contract).

use crate::{BufferTooSmall, ParseError};

/// The `N` bytes at `at`.
#[inline(always)]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// The 16-bit field at `at`.
#[inline(always)]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

/// The 32-bit field at `at`.
#[inline(always)]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

/// Writes `value` at `at`.
#[inline(always)]
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// `Truncated` unless there are `need` bytes.
#[inline(always)]
pub(crate) fn require(bytes: &[u8], need: usize) -> Result<(), ParseError> {
    if bytes.len() < need {
        Err(ParseError::Truncated)
    } else {
        Ok(())
    }
}

/// Splits a buffer behind a header of `header` bytes, if there are `need` bytes altogether.
pub(crate) fn split(
    buffer: &mut [u8],
    header: usize,
    need: usize,
) -> Result<(&mut [u8], &mut [u8]), BufferTooSmall> {
    let have = buffer.len();
    if have < need {
        return Err(BufferTooSmall { need, have });
    }
    buffer
        .split_at_mut_checked(header)
        .ok_or(BufferTooSmall { need: header, have })
}
