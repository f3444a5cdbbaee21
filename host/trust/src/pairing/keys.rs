//! The keys that follow from a shared secret, and what is done with them.

use super::PairingError;
use aes_gcm::{AeadInPlace, Aes256Gcm, KeyInit, Nonce, Tag};
use bip39::Language;
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

const SALT: &[u8] = b"sleap-rtc pairing 1";
const CONFIRMATION_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const WORDS: usize = 6;
const BITS_PER_WORD: usize = 11;

/// Whose message it is. Each has keys of its own, so that a message cannot be sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    Joiner,
    Worker,
}

impl Party {
    fn confirmation_label(self) -> &'static [u8] {
        match self {
            Self::Joiner => b"joiner confirms",
            Self::Worker => b"worker confirms",
        }
    }

    fn sealing_label(self) -> &'static [u8] {
        match self {
            Self::Joiner => b"joiner seals",
            Self::Worker => b"worker seals",
        }
    }
}

/// What both sides derive from the result of SPAKE2.
pub(crate) struct Keys(Hkdf<Sha256>);

impl Keys {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(Hkdf::new(Some(SALT), secret))
    }

    fn derive<const N: usize>(&self, label: &[u8]) -> [u8; N] {
        let mut key = [0; N];
        // Fails for more than 8160 bytes only.
        let _ = self.0.expand(label, &mut key);
        key
    }

    /// A message of `side`: the proof that it knows the key, and the sealed `payload`.
    pub(crate) fn seal(&self, side: Party, payload: &[u8]) -> Result<Vec<u8>, PairingError> {
        let mut sealed = payload.to_vec();
        let tag = self.cipher(side).encrypt_in_place_detached(
            &Nonce::default(),
            side.sealing_label(),
            &mut sealed,
        );
        let tag = tag.map_err(|_| PairingError::Malformed)?;
        let confirmation = self.derive::<CONFIRMATION_BYTES>(side.confirmation_label());
        Ok([&confirmation[..], &sealed, &tag].concat())
    }

    /// Checks a message of `side` and opens it.
    pub(crate) fn open(&self, side: Party, message: &[u8]) -> Result<Vec<u8>, PairingError> {
        let (shown, sealed) =
            message.split_at_checked(CONFIRMATION_BYTES).ok_or(PairingError::Malformed)?;
        let confirmation = self.derive::<CONFIRMATION_BYTES>(side.confirmation_label());
        if !bool::from(confirmation.ct_eq(shown)) {
            return Err(PairingError::NotConfirmed);
        }
        let (text, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(PairingError::Malformed)?;
        let mut text = text.to_vec();
        let (nonce, label) = (Nonce::default(), side.sealing_label());
        let opened =
            self.cipher(side).decrypt_in_place_detached(&nonce, label, &mut text, &Tag::from(*tag));
        opened.map_err(|_| PairingError::NotConfirmed)?;
        Ok(text)
    }

    /// The cipher of one side. It seals one message, so its nonce is always zero.
    fn cipher(&self, side: Party) -> Aes256Gcm {
        Aes256Gcm::new(&self.derive::<32>(side.sealing_label()).into())
    }

    pub(crate) fn words(&self) -> VerificationWords {
        VerificationWords::new(self.derive(b"words"))
    }
}

/// Six words that are the same on both devices if, and only if, nobody is in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationWords([&'static str; WORDS]);

impl VerificationWords {
    /// Eleven bits for each word, the first bit being the highest of the first byte.
    fn new(bytes: [u8; (WORDS * BITS_PER_WORD).div_ceil(8)]) -> Self {
        let bit = |at: usize| usize::from(bytes[at / 8] >> (7 - at % 8) & 1);
        let number = |word: usize| {
            let bits = word * BITS_PER_WORD..(word + 1) * BITS_PER_WORD;
            bits.fold(0, |number, at| number << 1 | bit(at))
        };
        let list = Language::English.word_list();
        Self(std::array::from_fn(|word| list[number(word)]))
    }
}

impl fmt::Display for VerificationWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}
