//! A domain file's way, whole: built and signed by `cargo xtask domains`, loaded here, entered, called, and
//! brought to fail.
//!
//! A host's `fail` must not return; here it ends a forked child, whose parent looks at what it told.
// UNSAFETY: entering a domain, a host's functions for it, and forking have no safe form.
#![expect(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, slice};

use domain_probe::Probe;
use sumac_domain::abi::{ABI_VERSION, CAUSE_OUT_OF_MEMORY, CAUSE_PANIC, HostTable};
use sumac_linux::LinuxImages;
use sumac_runtime::load::memory::{Access, ImageMemory};
use sumac_runtime::load::{Image, Key, LoadError, TrustedKeys, inspect, load};
use sumac_testbed::domains::BuiltDomains;

/// What a domain may take in these tests, in bytes.
const QUOTA: usize = 4 << 20;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

static HOST: HostTable = HostTable {
    version: ABI_VERSION,
    domain: 7,
    grow,
    fail,
    log,
};

extern "C" fn grow(bytes: usize) -> *mut u8 {
    if TAKEN.fetch_add(bytes, Ordering::Relaxed) + bytes > QUOTA {
        return std::ptr::null_mut();
    }
    let pages = LinuxImages.reserve(bytes).expect("memory");
    let base = pages.base();
    // The domain's until the process ends.
    std::mem::forget(pages);
    std::ptr::with_exposed_provenance_mut(base)
}

/// Writes what happened where the parent reads it, and ends the child.
extern "C" fn fail(cause: u32, message: *const u8, len: usize) -> ! {
    // SAFETY: the domain passes text.
    let message = unsafe { slice::from_raw_parts(message, len) };
    let mut told = cause.to_le_bytes().to_vec();
    told.extend_from_slice(message);
    // SAFETY: the parent put the pipe's end there; this process is about to end.
    let mut pipe = unsafe { fs::File::from_raw_fd(PIPE) };
    let written = pipe.write_all(&told).is_ok();
    // SAFETY: ends this child without running what its parent registered.
    unsafe { libc::_exit(if written { 0 } else { 1 }) }
}

extern "C" fn log(_: u32, _: *const u8, _: usize) {}

/// Where the child finds its end of the pipe.
const PIPE: i32 = 100;

/// Runs `crash` in a child; what `fail` was told.
fn crash(crash: impl FnOnce()) -> (u32, String) {
    let mut ends = [0; 2];
    // SAFETY: plain system calls. The child calls nothing of this process but the domain and `fail`: what
    // other threads held at the fork does not matter to those.
    let child = unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        libc::fork()
    };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        // SAFETY: the child's own descriptors.
        unsafe { libc::dup2(ends[1], PIPE) };
        crash();
        // SAFETY: ends this child: nothing failed.
        unsafe { libc::_exit(2) };
    }
    let (mut told, mut status) = (Vec::new(), 0);
    // SAFETY: this end is not used again, and the other is the parent's own.
    let mut pipe = unsafe {
        libc::close(ends[1]);
        fs::File::from_raw_fd(ends[0])
    };
    pipe.read_to_end(&mut told).expect("what the child told");
    // SAFETY: the child of above.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(
        libc::WIFEXITED(status),
        "the child ended by a signal: {status:#x}"
    );
    assert_eq!(libc::WEXITSTATUS(status), 0);
    let (cause, message) = told.split_first_chunk().expect("a cause");
    let message = String::from_utf8(message.to_vec()).expect("text");
    (u32::from_le_bytes(*cause), message)
}

/// The probe's domain file, built once for all tests.
fn probe() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| BuiltDomains::build(&["probe"]).file("probe"))
}

fn signer(file: &[u8]) -> Key {
    inspect(file).expect("a sound file").signer
}

fn load_probe() -> Image<dyn Probe> {
    let trust = TrustedKeys::from_iter([signer(probe())]);
    load(probe(), &trust, &LinuxImages).expect("a sound file")
}

#[test]
fn test_a_loaded_domain_computes() {
    let image = load_probe();
    // SAFETY: once; the host's table is static and the image outlives the object.
    let mut object = unsafe { image.enter(&HOST) };
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    for value in 0..1000 {
        let sum = expected.entry(value % 16).or_default();
        *sum += value;
        assert_eq!(object.count(value), *sum);
    }
    assert_eq!(object.calls(), 1001);
    let text: String = expected
        .iter()
        .map(|(group, sum)| format!("{group}: {sum} (many) "))
        .collect();
    assert_eq!(object.text(), text.len());
    for len in (0..=130).chain([255, 1000, 4097]) {
        for by in [1, 2, 3, 7, 8, 15, 16, 31, 33, 64, 200] {
            assert!(object.shift(len, by), "{len} bytes by {by}");
        }
        for value in [0, 1, 0x7f, 0xff] {
            assert!(object.fill(len, value), "{len} bytes of {value}");
        }
    }
    drop(object);
}

#[test]
fn test_failures_reach_the_host() {
    let image = load_probe();
    let (cause, message) = crash(|| {
        // SAFETY: as above, in the child.
        let object = unsafe { image.enter(&HOST) };
        object.panic(4711);
    });
    assert_eq!(cause, CAUSE_PANIC);
    assert!(
        message.starts_with("asked to panic with 4711 at "),
        "{message}"
    );
    assert!(message.contains("probe/src/lib.rs:"), "{message}");
    assert!(!message.contains(env!("CARGO_MANIFEST_DIR")), "{message}");

    let (cause, _) = crash(|| {
        // SAFETY: as above, in the child.
        let object = unsafe { image.enter(&HOST) };
        object.devour();
    });
    assert_eq!(cause, CAUSE_OUT_OF_MEMORY);
}

#[test]
fn test_images_are_apart_and_protected() {
    let (one, two) = (load_probe(), load_probe());
    assert!(one.range().end <= two.range().start || two.range().end <= one.range().start);
    assert!(one.range().start <= one.code().start && one.code().end <= one.range().end);
    let maps = fs::read_to_string("/proc/self/maps").expect("the process's mappings");
    let mut seen = Vec::new();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').expect("a line of /proc/self/maps");
        let (start, _) = range.split_once('-').expect("a range");
        let start = usize::from_str_radix(start, 16).expect("an address");
        if one.range().contains(&start) {
            seen.push(&rest[..4]);
        }
    }
    // Headers and constants, code, what relocation wrote, variables.
    assert_eq!(seen, ["r--p", "r-xp", "r--p", "rw-p"]);
    let file = inspect(probe()).expect("a sound file");
    let writable = file
        .plan
        .segments()
        .iter()
        .filter(|s| s.access == Access::Write);
    assert_eq!(writable.count(), 2);
}

#[test]
fn test_a_built_file_is_refused_without_trust() {
    let refused = load::<dyn Probe>(probe(), &TrustedKeys::new(), &LinuxImages).err();
    let signer = signer(probe());
    assert_eq!(refused, Some(LoadError::Untrusted { signer }));
}
