//! The loader against every kind of wrong file: refused with its reason, and nothing reserved.
// UNSAFETY: pages that a test hands to the loader promise what their trait says.
#![expect(unsafe_code)]

mod image;
mod memory;
mod refused;
mod signed;

use ed25519_dalek::SigningKey;
use image::{FINGERPRINT, Image, LAYOUT, NAME};
use memory::{BASE, Counting};
use sumac_domain::abi::COMPILER;
use sumac_runtime::load::memory::{Access, MemoryError};
use sumac_runtime::load::{Expected, Key, LoadError, TrustedKeys, inspect, place};

const DESCRIPTION: &str = "interface Root\n  first(u64) -> u64\n  second()\n";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

fn trust() -> TrustedKeys {
    TrustedKeys::from_iter([Key(key().verifying_key().to_bytes())])
}

fn expected() -> Expected<'static> {
    Expected {
        compiler: COMPILER,
        layout: LAYOUT,
        root_name: NAME,
        root_fingerprint: FINGERPRINT,
        description: DESCRIPTION,
    }
}

/// Loads, and checks that nothing was reserved if that was refused.
fn refused(file: &[u8]) -> LoadError {
    let memory = Counting::default();
    let error = place(file, &trust(), &expected(), &memory)
        .map(|placed| format!("{placed:?}"))
        .expect_err("the file is wrong");
    assert_eq!(memory.reserved.get(), 0, "memory was reserved for: {error}");
    error
}

#[test]
fn test_a_sound_file_is_placed() {
    let memory = Counting::default();
    let file = Image::sound().signed(&key(), DESCRIPTION);
    let placed = place(&file, &trust(), &expected(), &memory).expect("a sound file");
    assert_eq!(memory.reserved.get(), 1);
    assert_eq!(placed.range(), BASE..BASE + 4 * 4096);
    assert_eq!(placed.code(), BASE + 0x1370..BASE + 0x1380);
    assert_eq!(placed.signer().0, key().verifying_key().to_bytes());
    let seen = memory.last.take().expect("a reservation");
    {
        let seen = seen.lock().expect("one thread");
        let rights = [Access::Read, Access::Execute, Access::Read, Access::Write];
        assert_eq!(seen.access, rights.map(Some));
        let eight = |at: usize| u64::from_le_bytes(seen.bytes[at..at + 8].try_into().expect("8"));
        assert_eq!(eight(0x2440), BASE as u64 + 0x1370);
        assert_eq!(eight(0x3448), BASE as u64 + 0x330);
        assert_eq!(seen.bytes[0x1370..0x1372], [0x0f, 0x0b]);
        // What the file does not have is zero: after the data, before the code.
        assert!(seen.bytes[0x3450..].iter().all(|byte| *byte == 0));
        assert!(seen.bytes[0x1000..0x1370].iter().all(|byte| *byte == 0));
        assert!(!seen.gone);
    }
    drop(placed);
    assert!(seen.lock().expect("one thread").gone);
}

#[test]
fn test_inspection_tells_what_a_file_offers() {
    let file = Image::sound().signed(&key(), DESCRIPTION);
    let inspected = inspect(&file).expect("a sound file");
    assert_eq!(inspected.signer.0, key().verifying_key().to_bytes());
    assert_eq!(inspected.note.root_name, NAME);
    assert_eq!(inspected.note.root_fingerprint, FINGERPRINT);
    assert_eq!(inspected.description, DESCRIPTION);
    assert_eq!(inspected.plan.relocations().count(), 2);
    assert_eq!(inspected.plan.entry(), 0x1370);
}

#[test]
fn test_pages_go_back_when_the_host_refuses_rights() {
    let file = Image::sound().signed(&key(), DESCRIPTION);
    // Four segments and relro.
    for step in 0..5 {
        let memory = Counting::default();
        memory.fail_protect.set(Some(step));
        let error = place(&file, &trust(), &expected(), &memory).map(drop);
        assert!(
            matches!(
                error,
                Err(LoadError::Memory(MemoryError::Protect { code: 13, .. }))
            ),
            "{error:?}"
        );
        let seen = memory.last.take().expect("a reservation");
        assert!(seen.lock().expect("one thread").gone);
    }
}

/// The seed of the fuzz target is this image, but for the hash of the compiler that built the test.
#[test]
fn test_the_fuzz_seed_is_the_sound_image() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/seeds/domain_file/sound"
    );
    let mut seed = std::fs::read(path).expect("the seed");
    let sound = Image::sound().0;
    let compiler = image::NOTE + 32..image::NOTE + 40;
    seed[compiler.clone()].copy_from_slice(&sound[compiler]);
    assert!(seed == sound, "write Image::sound() to {path}");
}
