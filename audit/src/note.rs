//! C2SP `signed-note` and `tlog-checkpoint`: the public key line, the signature line, and what a log signs of itself.
//!
//! ```text
//! mops.lodz.pl/log            origin, also the name of the key
//! 1234                        entries
//! kjZ2…=                      root, 32 bytes in base64
//!
//! — mops.lodz.pl/log x08g…=   base64 of key hash (4 bytes) ‖ Ed25519 signature (64 bytes) of all before the empty line
//! ```
//!
//! Signature lines of other keys (cosignatures) may follow: they are passed over here, as `signed-note` asks.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::tree::{Hash, sha256};

/// The signature type byte of Ed25519 in `signed-note`.
const ALGORITHM: u8 = 1;

/// Why a key, note or checkpoint was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A key's name is empty or holds `+`, a space or a control character.
    #[error("not a key name: it must be non-empty, without '+', spaces and control characters")]
    Name,
    /// Not of the form NAME+KEYHASH+BASE64, or the key hash does not fit.
    #[error("not a signed-note Ed25519 key, or its key hash does not fit")]
    Key,
    /// The note has no text, or a signature line out of form.
    #[error("not a signed note")]
    Form,
    /// No signature line of the wanted key, or a wrong one.
    #[error("no valid signature of the log's key")]
    Signature,
    /// The signed text is not a checkpoint of this origin.
    #[error("the signed text is not a checkpoint of this log")]
    Checkpoint,
}

/// A public key: the `vkey` of C2SP `signed-note`, `NAME+HEX(key hash)+BASE64(0x01 ‖ public key)`; `Display` writes
/// it so. The key hash is the first 4 bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vkey {
    name: String,
    key: [u8; 32],
}

impl Vkey {
    /// Takes a name and a 32-byte Ed25519 public key.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, NoteError> {
        let fits = |c: char| c != '+' && !c.is_whitespace() && !c.is_control();
        if name.is_empty() || !name.chars().all(fits) {
            return Err(NoteError::Name);
        }
        Ok(Self { name: name.to_owned(), key })
    }

    /// Parses the text form, without line end.
    ///
    /// # Errors
    /// [`NoteError::Key`] or [`NoteError::Name`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (name, key) = (parts.next().ok_or(NoteError::Key)?, parts.nth(1).ok_or(NoteError::Key)?);
        let key = BASE64.decode(key.as_bytes()).map_err(|_| NoteError::Key)?;
        let (&[ALGORITHM], key) = key.split_first_chunk().ok_or(NoteError::Key)? else { return Err(NoteError::Key) };
        let vkey = Self::new(name, key.try_into().map_err(|_| NoteError::Key)?)?;
        if vkey.to_string() == text { Ok(vkey) } else { Err(NoteError::Key) }
    }

    /// The key's name: for a log its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 4-byte key hash.
    fn hash(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = sha256(&[self.name.as_bytes(), &[b'\n', ALGORITHM], &self.key].concat());
        [a, b, c, d]
    }

    /// The text of `note`, its last line end included, once this key's signature on it is verified.
    ///
    /// # Errors
    /// [`NoteError::Form`] or [`NoteError::Signature`].
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        let text = note.get(..=text.len()).ok_or(NoteError::Form)?;
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Form)?;
        let mut signed = false;
        for line in signatures.split('\n') {
            let (name, blob) = line.strip_prefix("— ").and_then(|line| line.split_once(' ')).ok_or(NoteError::Form)?;
            let blob = BASE64.decode(blob.as_bytes()).map_err(|_| NoteError::Form)?;
            let (hash, signature) = blob.split_first_chunk::<4>().ok_or(NoteError::Form)?;
            if name == self.name && *hash == self.hash() {
                UnparsedPublicKey::new(&ED25519, self.key)
                    .verify(text.as_bytes(), signature)
                    .map_err(|_| NoteError::Signature)?;
                signed = true;
            }
        }
        if signed { Ok(text) } else { Err(NoteError::Signature) }
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ALGORITHM][..], &self.key].concat();
        write!(f, "{}+{}+{}", self.name, HEXLOWER.encode(&self.hash()), BASE64.encode(&key))
    }
}

/// A log's signing key.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    vkey: Vkey,
}

impl Signer {
    /// From a 32-byte Ed25519 seed (RFC 8032 §5.1.5).
    pub(crate) fn new(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::Key)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key)?;
        Ok(Self { pair, vkey: Vkey::new(name, key)? })
    }

    pub(crate) fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    /// The signed note over `text`, which ends with a line end.
    fn sign(&self, text: &str) -> String {
        let blob = [&self.vkey.hash()[..], self.pair.sign(text.as_bytes()).as_ref()].concat();
        format!("{text}\n— {} {}\n", self.vkey.name, BASE64.encode(&blob))
    }
}

/// What a log has signed of itself: its first `size` entries have this `root`. Made by a log, or out of a note that
/// verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    size: u64,
    root: Hash,
    note: String,
}

impl Checkpoint {
    pub(crate) fn sign(signer: &Signer, size: u64, root: Hash) -> Self {
        let text = format!("{}\n{size}\n{}\n", signer.vkey.name, BASE64.encode(&root));
        Self { size, root, note: signer.sign(&text) }
    }

    /// Verifies a note under `vkey`, whose name must be the origin line, and reads it. Extension lines are passed over.
    ///
    /// # Errors
    /// Any [`NoteError`] but those of keys.
    pub fn open(note: &str, vkey: &Vkey) -> Result<Self, NoteError> {
        let mut lines = vkey.open(note)?.split_terminator('\n');
        let mut line = || lines.next().ok_or(NoteError::Checkpoint);
        let (origin, digits, root) = (line()?, line()?, line()?);
        let size: u64 = digits.parse().map_err(|_| NoteError::Checkpoint)?;
        let root = BASE64.decode(root.as_bytes()).map_err(|_| NoteError::Checkpoint)?;
        let root = root.try_into().map_err(|_| NoteError::Checkpoint)?;
        if origin != vkey.name || size.to_string() != digits || lines.any(str::is_empty) {
            return Err(NoteError::Checkpoint);
        }
        Ok(Self { size, root, note: note.to_owned() })
    }

    /// The number of entries it covers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over them (RFC 6962 §2.1).
    #[must_use]
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The signed note, as others verify it.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of Go's `golang.org/x/mod/sumdb/note`, whose format C2SP took over.
    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SEED: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const TEXT: &str =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const SIGNATURE: &str =
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn peter() -> Signer {
        let key = BASE64.decode(SEED.as_bytes()).unwrap();
        Signer::new("PeterNeumann", key[1..].try_into().unwrap()).unwrap()
    }

    #[test]
    fn agrees_with_the_reference_byte_for_byte() {
        let note = format!("{TEXT}\n{SIGNATURE}");
        assert_eq!(peter().vkey().to_string(), VKEY);
        assert_eq!(peter().sign(TEXT), note);
        assert_eq!(Vkey::parse(VKEY).unwrap().open(&note), Ok(TEXT));
    }

    #[test]
    fn a_key_out_of_form_is_refused() {
        for wrong in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a3",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T=",
            "PeterNeumann+c74f20a3+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert_eq!(Vkey::parse(wrong), Err(NoteError::Key), "{wrong}");
        }
        for name in ["", "a b", "a+b", "a\nb", "a\u{a0}b"] {
            assert_eq!(Vkey::new(name, [0; 32]), Err(NoteError::Name), "{name:?}");
        }
    }

    #[test]
    fn a_checkpoint_reads_back_and_no_flipped_bit_passes() {
        let made = Checkpoint::sign(&peter(), 1234, [9; 32]);
        assert!(made.note().starts_with("PeterNeumann\n1234\nCQkJ"), "{}", made.note());
        assert_eq!(Checkpoint::open(made.note(), peter().vkey()), Ok(made.clone()));
        for bit in 0..made.note().len() * 8 {
            let mut bytes = made.note().as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(note) = String::from_utf8(bytes) {
                assert!(Checkpoint::open(&note, peter().vkey()).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn cosignatures_and_extensions_are_passed_over() {
        let other = Signer::new("witness.example/w", &[3; 32]).unwrap();
        let note = peter().sign("PeterNeumann\n7\nCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=\nextension\n");
        let cosigned = note.clone() + other.sign("x\n").split_once("\n\n").unwrap().1;
        assert_eq!(Checkpoint::open(&cosigned, peter().vkey()).unwrap().size(), 7);
        assert_eq!(Checkpoint::open(&note, other.vkey()), Err(NoteError::Signature));
    }

    #[test]
    fn signed_text_that_is_no_checkpoint_is_refused() {
        let root = BASE64.encode(&[9; 32]);
        for text in [
            format!("Other\n7\n{root}\n"),
            format!("PeterNeumann\n07\n{root}\n"),
            format!("PeterNeumann\n+7\n{root}\n"),
            "PeterNeumann\n7\nCQk=\n".to_owned(),
            "PeterNeumann\n7\n".to_owned(),
        ] {
            assert_eq!(Checkpoint::open(&peter().sign(&text), peter().vkey()), Err(NoteError::Checkpoint), "{text}");
        }
    }
}
