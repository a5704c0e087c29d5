//! What the signature and the ABI note keep out.

use ed25519_dalek::SigningKey;
use sumac_domain::abi::{COMPILER, Note};
use sumac_domain::file::{SIGNATURE, TRAILER};
use sumac_runtime::load::{Key, LoadError};

use crate::image::{END, FINGERPRINT, Image, LAYOUT, NAME, NOTE};
use crate::{DESCRIPTION, key, refused};

fn sound() -> Vec<u8> {
    Image::sound().signed(&key(), DESCRIPTION)
}

#[test]
fn test_unsigned() {
    assert_eq!(refused(&Image::sound().0), LoadError::Unsigned);
    assert_eq!(refused(&[]), LoadError::Unsigned);
    let file = sound();
    assert_eq!(refused(&file[..file.len() - TRAILER]), LoadError::Unsigned);
}

#[test]
fn test_cut_short_at_every_length() {
    let file = sound();
    for len in 0..file.len() {
        assert_eq!(refused(&file[..len]), LoadError::Unsigned, "{len} bytes");
    }
    // Cut in the middle, with the end kept.
    for gone in 1..=END {
        let cut = [&file[..END - gone], &file[END..]].concat();
        let error = refused(&cut);
        assert!(
            matches!(error, LoadError::BadSignature { .. }),
            "{gone} bytes: {error}"
        );
    }
}

#[test]
fn test_every_flipped_bit_is_noticed() {
    let file = sound();
    let trailer = file.len() - TRAILER;
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << bit;
            let error = refused(&flipped);
            let fits = match at.checked_sub(trailer) {
                Some(0..8) => error == LoadError::Unsigned,
                Some(8..12) => matches!(error, LoadError::SignatureVersion(_)),
                Some(12..16) => matches!(
                    error,
                    LoadError::DescriptionLength(_) | LoadError::BadSignature { .. }
                ),
                Some(16..48) => matches!(error, LoadError::Untrusted { .. }),
                _ => matches!(error, LoadError::BadSignature { .. }),
            };
            assert!(fits, "byte {at}, bit {bit}: {error}");
        }
    }
}

#[test]
fn test_wrong_key() {
    let other = SigningKey::from_bytes(&[43; 32]);
    let signer = Key(other.verifying_key().to_bytes());
    let file = Image::sound().signed(&other, DESCRIPTION);
    let error = refused(&file);
    assert_eq!(error, LoadError::Untrusted { signer });
    assert!(error.to_string().contains(&signer.to_string()), "{error}");

    // The other's signature under a trusted name.
    let mut renamed = file.clone();
    let at = file.len() - SIGNATURE - 32;
    renamed[at..at + 32].copy_from_slice(key().verifying_key().as_bytes());
    assert!(matches!(refused(&renamed), LoadError::BadSignature { .. }));
}

#[test]
fn test_a_longer_description_is_not_the_images_end() {
    // The same bytes told apart elsewhere: the signature covers the length.
    let mut file = sound();
    let at = file.len() - TRAILER + 12;
    let longer = u32::try_from(DESCRIPTION.len() + 1).expect("short");
    file[at..at + 4].copy_from_slice(&longer.to_le_bytes());
    assert!(matches!(refused(&file), LoadError::BadSignature { .. }));
}

/// The sound image with another note, signed.
fn with_note(change: impl FnOnce(&mut Note)) -> Vec<u8> {
    let mut note = Note::new(LAYOUT, NAME, FINGERPRINT);
    change(&mut note);
    let mut image = Image::sound();
    image.note(&note);
    image.signed(&key(), DESCRIPTION)
}

#[test]
fn test_wrong_compiler_and_layout() {
    let error = refused(&with_note(|note| note.compiler[1] ^= 0x8000_0000));
    let domain = COMPILER ^ (1 << 63);
    assert_eq!(
        error,
        LoadError::Compiler {
            host: COMPILER,
            domain
        }
    );
    let text = error.to_string();
    assert!(text.contains(&format!("{COMPILER:016x}")), "{text}");
    assert!(text.contains(&format!("{domain:016x}")), "{text}");

    let error = refused(&with_note(|note| note.layout[0] ^= 1));
    let (host, domain) = (LAYOUT, LAYOUT ^ 1);
    assert_eq!(error, LoadError::Layout { host, domain });
    let error = refused(&with_note(|note| note.version = 2));
    assert_eq!(error, LoadError::Version { host: 1, domain: 2 });
}

#[test]
fn test_changed_interface_names_the_first_difference() {
    let mut image = Image::sound();
    image.note(&Note::new(LAYOUT, NAME, FINGERPRINT ^ 1));
    for (description, difference) in [
        (
            "interface Root\n  first(u32) -> u64\n  second()\n",
            "in Root the host has `first(u64) -> u64`, the domain `first(u32) -> u64`",
        ),
        (
            "interface Root\n  first(u64) -> u64\n",
            "in Root the host has `second()`, the domain `nothing`",
        ),
        (
            "interface Root\n  first(u64) -> u64\n  second()\n  third()\n",
            "in Root the host has `nothing`, the domain `third()`",
        ),
        (DESCRIPTION, "their descriptions are the same"),
    ] {
        let error = refused(&image.signed(&key(), description));
        let LoadError::Interface { host, domain, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((host, domain), (FINGERPRINT, FINGERPRINT ^ 1));
        assert!(error.to_string().ends_with(difference), "{error}");
    }
    let long = format!(
        "interface Root\n  first({}u64) -> u32{}\n",
        "u64, ".repeat(100),
        " ".repeat(100) + "!"
    );
    let error = refused(&image.signed(&key(), &long)).to_string();
    let named = "the host has `first(u64) -> u64`, the domain `first(u64, u64";
    assert!(error.contains(named) && error.len() < 200, "{error}");
    let mut image = Image::sound();
    image.note(&Note::new(LAYOUT, "Other", FINGERPRINT));
    let error = refused(&image.signed(&key(), DESCRIPTION));
    let (host, domain) = (NAME.to_owned(), "Other".to_owned());
    assert_eq!(error, LoadError::Root { host, domain });
}

#[test]
fn test_malformed_notes() {
    // The lengths, the type, the owner, the magic: every byte that says that this is the note.
    for at in 0..28 {
        let mut image = Image::sound();
        image.0[NOTE + at] ^= 0x40;
        let error = refused(&image.signed(&key(), DESCRIPTION));
        let form = (4..8).contains(&at);
        let expected = if form {
            LoadError::NoteForm
        } else {
            LoadError::NoNote
        };
        assert_eq!(error, expected, "byte {at}");
    }
    let error = refused(&with_note(|note| note.root_name[1] = 0xff));
    assert_eq!(error, LoadError::NoteForm);
    let file = {
        let key = key();
        let image = Image::sound();
        let public = key.verifying_key().to_bytes();
        let mut file = [&image.0, &[0xff, 0xfe][..]].concat();
        file.extend_from_slice(&sumac_domain::file::unsigned_trailer(2, &public));
        let signature = ed25519_dalek::Signer::sign(&key, &file).to_bytes();
        file.extend_from_slice(&signature);
        file
    };
    assert_eq!(refused(&file), LoadError::DescriptionText);
}
