//! The panic handler: formats the message into a fixed line and ends the domain.
//!
//! Invariant: nothing here allocates, and a panic while formatting ends the domain all the same.

use core::fmt::Write;
use core::panic::PanicInfo;

use super::line::Line;
use crate::abi::CAUSE_PANIC;

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    let mut line = Line::new();
    let _ = match info.location() {
        Some(at) => write!(line, "{} at {}:{}", info.message(), at.file(), at.line()),
        None => write!(line, "{}", info.message()),
    };
    super::fail(CAUSE_PANIC, line.as_str())
}
