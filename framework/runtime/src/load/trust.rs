//! Whose signatures count.
//!
//! Invariant: signatures are verified strictly: one signature fits one key and one message, and keys of
//! small order fit none.

use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use sumac_domain::file::{KEY, Parts};

use super::LoadError;

/// The public key of a signer. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; KEY]);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Key {
    /// The key of 64 hexadecimal digits; white space around them is skipped.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.trim().as_bytes();
        let mut key = [0; KEY];
        if text.len() != 2 * KEY {
            return None;
        }
        for (byte, digits) in key.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(Self(key))
    }
}

/// The keys whose signatures count.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<Key>);

impl TrustedKeys {
    /// None yet: nothing loads.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts one more.
    pub fn add(&mut self, key: Key) {
        if !self.contains(key) {
            self.0.push(key);
        }
    }

    /// Whether a key is trusted.
    pub fn contains(&self, key: Key) -> bool {
        self.0.contains(&key)
    }
}

impl FromIterator<Key> for TrustedKeys {
    fn from_iter<T: IntoIterator<Item = Key>>(keys: T) -> Self {
        let mut trusted = Self::new();
        keys.into_iter().for_each(|key| trusted.add(key));
        trusted
    }
}

/// Verifies the signature, by a trusted key if it is given which those are.
pub(super) fn verify(parts: &Parts<'_>, trust: Option<&TrustedKeys>) -> Result<Key, LoadError> {
    let key = Key(*parts.key);
    if trust.is_some_and(|trust| !trust.contains(key)) {
        return Err(LoadError::Untrusted { signer: key });
    }
    let verifying =
        VerifyingKey::from_bytes(&key.0).map_err(|_| LoadError::BadSignature { signer: key })?;
    verifying
        .verify_strict(parts.signed, &Signature::from_bytes(parts.signature))
        .map_err(|_| LoadError::BadSignature { signer: key })?;
    Ok(key)
}
