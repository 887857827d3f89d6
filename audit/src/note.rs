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
//! Signature lines of other keys may follow: those of unknown ones are passed over, as `signed-note` asks. A witness's
//! line is a *cosignature* (C2SP `tlog-cosignature`, `cosignature/v1`): base64 of key hash (4 bytes) ‖ time (8 bytes,
//! big-endian, seconds since 1970) ‖ Ed25519 signature (64 bytes) of `cosignature/v1\ntime TIME\n` and the text.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::tree::{Hash, sha256};

/// The signature type bytes of `signed-note`: Ed25519 and the timestamped Ed25519 of a witness.
const ED25519_NOTE: u8 = 1;
const COSIGNATURE: u8 = 4;

/// The most signature lines a note may have.
const MAX_SIGNATURES: usize = 64;

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
    /// No cosignature of the wanted witness, or a wrong one.
    #[error("no valid cosignature of this witness")]
    Cosignature,
    /// Cosignatures, but none under a key that is trusted.
    #[error("cosigned, but by none of the witnesses that are trusted")]
    Strangers,
    /// The signed text is not a checkpoint of this origin.
    #[error("the signed text is not a checkpoint of this log")]
    Checkpoint,
}

/// A public key: the `vkey` of C2SP `signed-note`, `NAME+HEX(key hash)+BASE64(TYPE ‖ public key)`; `Display` writes it
/// so. The key hash is the first 4 bytes of SHA-256(name ‖ 0x0A ‖ TYPE ‖ public key). TYPE is 0x01 for a log's key and
/// 0x04 for a witness's, so that neither can be taken for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vkey {
    name: String,
    kind: u8,
    key: [u8; 32],
}

impl Vkey {
    /// A log's key: takes a name and a 32-byte Ed25519 public key.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, NoteError> {
        Self::of(name, ED25519_NOTE, key)
    }

    /// A witness's key: takes a name and a 32-byte Ed25519 public key.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn witness(name: &str, key: [u8; 32]) -> Result<Self, NoteError> {
        Self::of(name, COSIGNATURE, key)
    }

    fn of(name: &str, kind: u8, key: [u8; 32]) -> Result<Self, NoteError> {
        let fits = |c: char| c != '+' && !c.is_whitespace() && !c.is_control();
        if name.is_empty() || !name.chars().all(fits) {
            return Err(NoteError::Name);
        }
        Ok(Self { name: name.to_owned(), kind, key })
    }

    /// Parses the text form, without line end.
    ///
    /// # Errors
    /// [`NoteError::Key`] or [`NoteError::Name`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (name, key) = (parts.next().ok_or(NoteError::Key)?, parts.nth(1).ok_or(NoteError::Key)?);
        let key = BASE64.decode(key.as_bytes()).map_err(|_| NoteError::Key)?;
        let (&[kind @ (ED25519_NOTE | COSIGNATURE)], key) = key.split_first_chunk().ok_or(NoteError::Key)? else {
            return Err(NoteError::Key);
        };
        let vkey = Self::of(name, kind, key.try_into().map_err(|_| NoteError::Key)?)?;
        if vkey.to_string() == text { Ok(vkey) } else { Err(NoteError::Key) }
    }

    /// The key's name: for a log its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is a witness's key.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.kind == COSIGNATURE
    }

    /// The 4-byte key hash.
    fn hash(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = sha256(&[self.name.as_bytes(), &[b'\n', self.kind], &self.key].concat());
        [a, b, c, d]
    }

    fn made(&self, line: &Line<'_>) -> bool {
        line.name == self.name && line.hash == self.hash()
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.key).verify(message, signature).is_ok()
    }

    /// The text of `note`, its last line end included, once this key's signature on it is verified. For a log's key;
    /// a witness signs more than the text.
    ///
    /// # Errors
    /// [`NoteError::Form`] or [`NoteError::Signature`].
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, lines) = split(note)?;
        let mut own = lines.iter().filter(|line| self.kind == ED25519_NOTE && self.made(line)).peekable();
        let signed = own.peek().is_some() && own.all(|line| self.verifies(text.as_bytes(), &line.signature));
        if signed { Ok(text) } else { Err(NoteError::Signature) }
    }
}

/// A signature line.
struct Line<'a> {
    whole: &'a str,
    name: &'a str,
    hash: [u8; 4],
    signature: Vec<u8>,
}

/// The notes of a text that holds some, one after the other, empty lines between them or not: each ends with its signature
/// lines.
#[must_use]
pub fn notes(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut ended = true;
    for line in text.split_inclusive('\n') {
        let signature = line.starts_with("— ");
        if ended && !signature && !line.trim_end().is_empty() {
            all.push(String::new());
            ended = false;
        }
        ended |= signature;
        if let Some(note) = all.last_mut().filter(|_| !ended || signature) {
            note.push_str(line);
        }
    }
    all
}

/// A note's text, last line end included, and its signature lines.
fn split(note: &str) -> Result<(&str, Vec<Line<'_>>), NoteError> {
    let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
    Ok((note.get(..=text.len()).ok_or(NoteError::Form)?, signature_lines(lines)?))
}

fn signature_lines(lines: &str) -> Result<Vec<Line<'_>>, NoteError> {
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Form)?.split('\n');
    let lines: Vec<_> = lines.map(Line::parse).collect::<Option<_>>().ok_or(NoteError::Form)?;
    if lines.len() > MAX_SIGNATURES { Err(NoteError::Form) } else { Ok(lines) }
}

impl<'a> Line<'a> {
    fn parse(whole: &'a str) -> Option<Self> {
        let (name, blob) = whole.strip_prefix("— ")?.split_once(' ')?;
        let blob = BASE64.decode(blob.as_bytes()).ok()?;
        let (hash, signature) = blob.split_first_chunk()?;
        Some(Self { whole, name, hash: *hash, signature: signature.to_vec() })
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.kind][..], &self.key].concat();
        write!(f, "{}+{}+{}", self.name, HEXLOWER.encode(&self.hash()), BASE64.encode(&key))
    }
}

/// A signing key, a log's or a witness's.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    vkey: Vkey,
}

impl Signer {
    /// A log's, from a 32-byte Ed25519 seed (RFC 8032 §5.1.5).
    pub(crate) fn new(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        Self::of(name, ED25519_NOTE, seed)
    }

    /// A witness's, from a 32-byte Ed25519 seed.
    pub(crate) fn witness(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        Self::of(name, COSIGNATURE, seed)
    }

    fn of(name: &str, kind: u8, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::Key)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key)?;
        Ok(Self { pair, vkey: Vkey::of(name, kind, key)? })
    }

    pub(crate) fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    /// The signed note over `text`, which ends with a line end.
    pub(crate) fn sign(&self, text: &str) -> String {
        format!("{text}\n{}", self.line(&[], text.as_bytes()))
    }

    /// The cosignature line over `checkpoint`, line end included.
    pub(crate) fn cosign(&self, checkpoint: &Checkpoint, time: u64) -> String {
        self.line(&time.to_be_bytes(), &cosigned(time, checkpoint.text()))
    }

    fn line(&self, front: &[u8], message: &[u8]) -> String {
        let blob = [&self.vkey.hash()[..], front, self.pair.sign(message).as_ref()].concat();
        format!("— {} {}\n", self.vkey.name, BASE64.encode(&blob))
    }
}

/// What a witness signs.
fn cosigned(time: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
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
        vkey.open(note)?;
        Self::read(note, vkey.name())
    }

    /// Reads a note of `origin` whose signature is verified otherwise.
    pub(crate) fn read(note: &str, origin: &str) -> Result<Self, NoteError> {
        let (text, _) = split(note)?;
        let mut lines = text.split_terminator('\n');
        let mut line = || lines.next().ok_or(NoteError::Checkpoint);
        let (named, digits, root) = (line()?, line()?, line()?);
        let size: u64 = digits.parse().map_err(|_| NoteError::Checkpoint)?;
        let root = BASE64.decode(root.as_bytes()).map_err(|_| NoteError::Checkpoint)?;
        let root = root.try_into().map_err(|_| NoteError::Checkpoint)?;
        if named != origin || size.to_string() != digits || lines.any(str::is_empty) {
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

    fn text(&self) -> &str {
        self.note.rsplit_once("\n\n").and_then(|(text, _)| self.note.get(..=text.len())).unwrap_or_default()
    }

    /// When `witness` cosigned this checkpoint, in seconds since 1970, by its own clock.
    ///
    /// # Errors
    /// [`NoteError::Cosignature`]: it did not, or the signature is wrong.
    pub fn cosigned_by(&self, witness: &Vkey) -> Result<u64, NoteError> {
        let (text, lines) = split(&self.note)?;
        lines.iter().find_map(|line| cosignature(line, text, witness)).ok_or(NoteError::Cosignature)
    }

    /// Adds `witness`'s cosignature out of `lines`, a witness's answer; those of others in it are passed over. Returns
    /// its time.
    ///
    /// # Errors
    /// [`NoteError::Form`], or [`NoteError::Cosignature`] when none of the witness's verifies.
    pub fn add_cosignature(&mut self, lines: &str, witness: &Vkey) -> Result<u64, NoteError> {
        let parsed = signature_lines(lines)?;
        let find = |line: &Line<'_>| Some((cosignature(line, self.text(), witness)?, line.whole.to_owned()));
        let (time, line) = parsed.iter().find_map(find).ok_or(NoteError::Cosignature)?;
        if self.cosigned_by(witness).is_err() {
            self.note = format!("{}{line}\n", self.note);
        }
        Ok(time)
    }

    /// The same under the log's signature alone.
    pub(crate) fn alone(&self, log: &Vkey) -> Result<Self, NoteError> {
        let (text, lines) = split(&self.note)?;
        let own = |line: &&Line<'_>| log.made(line) && log.verifies(text.as_bytes(), &line.signature);
        let line = lines.iter().find(own).ok_or(NoteError::Signature)?;
        Ok(Self { note: format!("{text}\n{}\n", line.whole), ..self.clone() })
    }

    /// How many signature lines there are besides the log's: the cosignatures, valid or not.
    pub(crate) fn others(&self, log: &Vkey) -> usize {
        split(&self.note).map_or(0, |(_, lines)| lines.iter().filter(|line| !log.made(line)).count())
    }
}

/// The time of a line that is `witness`'s valid cosignature of `text`.
fn cosignature(line: &Line<'_>, text: &str, witness: &Vkey) -> Option<u64> {
    let (time, signature) = line.signature.split_first_chunk()?;
    let time = u64::from_be_bytes(*time);
    let valid = witness.is_witness() && witness.made(line) && witness.verifies(&cosigned(time, text), signature);
    valid.then_some(time)
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
    fn several_notes_in_one_text_are_told_apart() {
        let (one, other) = (peter().sign(TEXT), peter().sign("b\n\n7\n"));
        let twice = format!("{one}{SIGNATURE}");
        assert_eq!(notes(&one), [one.as_str()]);
        assert_eq!(notes(&format!("{twice}\n{other}\n\n{one}")), [twice.as_str(), other.as_str(), one.as_str()]);
        assert_eq!(notes(&format!("{twice}{other}")), [twice.as_str(), other.as_str()]);
        assert_eq!(notes(""), Vec::<String>::new());
        assert_eq!(notes("no note"), ["no note"]);
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
    fn a_cosignature_is_added_once_and_binds_witness_time_and_text() {
        let witness = Signer::witness("witness.example/w", &[3; 32]).unwrap();
        assert_eq!(Vkey::parse(&witness.vkey().to_string()).unwrap(), *witness.vkey());
        let mut made = Checkpoint::sign(&peter(), 1234, [9; 32]);
        let line = witness.cosign(&made, 1_679_315_147);
        assert_eq!(made.cosigned_by(witness.vkey()), Err(NoteError::Cosignature));
        let stranger = Signer::witness("witness.example/v", &[3; 32]).unwrap();
        assert_eq!(made.add_cosignature(&line, stranger.vkey()), Err(NoteError::Cosignature));
        for _ in 0..2 {
            let answer = stranger.cosign(&made, 5) + &line;
            assert_eq!(made.add_cosignature(&answer, witness.vkey()), Ok(1_679_315_147));
            assert_eq!(made.others(peter().vkey()), 1);
        }
        assert_eq!(made.cosigned_by(witness.vkey()), Ok(1_679_315_147));
        assert_eq!(Checkpoint::open(made.note(), peter().vkey()), Ok(made.clone()));
        let mut other = Checkpoint::sign(&peter(), 1235, [9; 32]);
        assert_eq!(other.add_cosignature(&line, witness.vkey()), Err(NoteError::Cosignature));
        let plain = Signer::new("witness.example/w", &[3; 32]).unwrap();
        assert_eq!(made.cosigned_by(plain.vkey()), Err(NoteError::Cosignature));
        assert_eq!(witness.vkey().open(made.note()), Err(NoteError::Signature));
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
