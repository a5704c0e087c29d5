//! The end of a domain file: who signed it.
//!
//! A domain file is an ELF image, then the root interface in words (for telling two versions apart), then
//! this trailer of fixed size. The signature covers everything before it, the signer's key included.

/// What the trailer begins with.
pub const MAGIC: [u8; 8] = *b"SUMACSIG";
/// The version of this format.
pub const VERSION: u32 = 1;
/// Bytes of an ed25519 public key.
pub const KEY: usize = 32;
/// Bytes of an ed25519 signature.
pub const SIGNATURE: usize = 64;
/// Bytes of the trailer.
pub const TRAILER: usize = 8 + 4 + 4 + KEY + SIGNATURE;

/// The parts of a domain file. Only told apart: nothing is verified.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The ELF image.
    pub image: &'a [u8],
    /// The root interface in words.
    pub description: &'a [u8],
    /// What the signature covers.
    pub signed: &'a [u8],
    /// Who claims to have signed it.
    pub key: &'a [u8; KEY],
    /// The signature.
    pub signature: &'a [u8; SIGNATURE],
}

/// Why a file has no trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTrailer {
    /// It does not end in one: the file is unsigned, or cut short.
    Missing,
    /// It ends in one of this version, which this build does not know.
    Version(u32),
    /// It tells of more words than the file has bytes.
    Description(u32),
}

/// Tells the parts of a domain file apart.
///
/// # Errors
/// [`NoTrailer`] where the file does not end as it should.
pub fn split(file: &[u8]) -> Result<Parts<'_>, NoTrailer> {
    let start = file.len().checked_sub(TRAILER).ok_or(NoTrailer::Missing)?;
    let (body, trailer) = file.split_at(start);
    let (magic, rest) = trailer.split_first_chunk().ok_or(NoTrailer::Missing)?;
    let (version, rest) = rest.split_first_chunk().ok_or(NoTrailer::Missing)?;
    let (words, rest) = rest.split_first_chunk().ok_or(NoTrailer::Missing)?;
    let (key, rest) = rest.split_first_chunk().ok_or(NoTrailer::Missing)?;
    let signature = rest.try_into().map_err(|_| NoTrailer::Missing)?;
    if *magic != MAGIC {
        return Err(NoTrailer::Missing);
    }
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(NoTrailer::Version(version));
    }
    let words = u32::from_le_bytes(*words);
    let image = usize::try_from(words)
        .ok()
        .and_then(|words| body.len().checked_sub(words))
        .ok_or(NoTrailer::Description(words))?;
    let (image, description) = body.split_at(image);
    Ok(Parts {
        image,
        description,
        signed: file.get(..file.len() - SIGNATURE).unwrap_or_default(),
        key,
        signature,
    })
}

/// The trailer up to the signature: what is signed comes before it and ends with it.
pub fn unsigned_trailer(description_len: u32, key: &[u8; KEY]) -> [u8; TRAILER - SIGNATURE] {
    let mut trailer = [0; TRAILER - SIGNATURE];
    trailer[..8].copy_from_slice(&MAGIC);
    trailer[8..12].copy_from_slice(&VERSION.to_le_bytes());
    trailer[12..16].copy_from_slice(&description_len.to_le_bytes());
    trailer[16..].copy_from_slice(key);
    trailer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> [u8; 10 + TRAILER] {
        let mut file = [7; 10 + TRAILER];
        file[..10].copy_from_slice(b"imagewords");
        file[10..10 + TRAILER - SIGNATURE].copy_from_slice(&unsigned_trailer(5, &[9; KEY]));
        file
    }

    #[test]
    fn test_parts_are_told_apart() {
        let file = file();
        let parts = split(&file).expect("a trailer");
        assert_eq!(
            (parts.image, parts.description),
            (&b"image"[..], &b"words"[..])
        );
        assert_eq!(parts.signed.len(), file.len() - SIGNATURE);
        assert_eq!((parts.key, parts.signature), (&[9; KEY], &[7; SIGNATURE]));
    }

    #[test]
    fn test_wrong_ends_are_refused() {
        let whole = file();
        for len in 0..whole.len() {
            assert_eq!(
                split(&whole[..len]).err(),
                Some(NoTrailer::Missing),
                "{len}"
            );
        }
        let mut newer = whole;
        newer[10 + 8] = 2;
        assert_eq!(split(&newer).err(), Some(NoTrailer::Version(2)));
        let mut wordy = whole;
        wordy[10 + 12] = 11;
        assert_eq!(split(&wordy).err(), Some(NoTrailer::Description(11)));
    }
}
