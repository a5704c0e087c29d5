//! What a domain's image calls: the functions of its host table.
//!
//! They run on the domain's stack, as trusted code. They hold nothing when they end the domain.

use core::ptr;

use sumac_interface::rpc::Cause;
use sumac_rref::DomainId;

use crate::fault;
use crate::host::host;
use crate::thread::ThreadBlock;

/// `HostTable::grow`: zeroed private pages for the calling domain; null beyond its quota.
///
/// # Safety
/// None: any argument is good. Unsafe since the table's type says so.
pub unsafe extern "C" fn grow(bytes: usize) -> *mut u8 {
    let frame = ThreadBlock::current().top_frame();
    let (control, id) = (frame.control(), frame.domain());
    if id == DomainId::HOST {
        return ptr::null_mut();
    }
    if !control.is_live(id) {
        // SAFETY: only the domain's image calls this.
        unsafe { fault::fail(control.cause(id), "") }
    }
    control
        .grow(bytes)
        .map_or(ptr::null_mut(), |start| start.as_ptr())
}

/// `HostTable::fail`: the domain ends, the call into it fails. `cause` is a [`Cause`] as number.
///
/// # Safety
/// Called by the domain's image only; `message` and `len` are of a string that stays for the call.
pub unsafe extern "C" fn fail(cause: u32, message: *const u8, len: usize) -> ! {
    let cause = Cause::from_number(cause).unwrap_or(Cause::Panic);
    // SAFETY: the caller's promises.
    unsafe { fault::fail(cause, text(message, len)) }
}

/// `HostTable::log`: a line of the domain's for the host's log.
///
/// # Safety
/// `message` and `len` are of a string that stays for the call.
pub unsafe extern "C" fn log(level: u32, message: *const u8, len: usize) {
    let domain = ThreadBlock::current().domain();
    if let Some(host) = host() {
        // SAFETY: the caller's promise.
        host.log(domain, level, unsafe { text(message, len) });
    }
}

/// # Safety
/// `message` is null or points to `len` bytes that stay for as long as the result is used.
unsafe fn text<'a>(message: *const u8, len: usize) -> &'a str {
    if message.is_null() {
        return "";
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { core::slice::from_raw_parts(message, len) };
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    }
}
