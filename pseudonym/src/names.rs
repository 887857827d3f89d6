//! The secret output of the function and the names derived from it.

use std::fmt;

use ring::hkdf;
use zeroize::Zeroizing;

use crate::SealKey;

/// P, the 64-byte pseudorandom value of one identifier. Never stored, logged or sent: it lives for one request or one
/// batch. Wiped on drop; redacting `Debug`.
pub struct Output(Zeroizing<[u8; 64]>);

/// A text that is not `[a-z0-9-]{1,32}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be 1 to 32 characters of a-z, 0-9 and '-'")]
pub struct LabelError {
    /// What the text was meant to be.
    pub what: &'static str,
}

impl Output {
    pub(crate) fn new(bytes: Zeroizing<[u8; 64]>) -> Self {
        Self(bytes)
    }

    /// The address of this resident in the registry, 32 bytes: HKDF-Expand with info `ogniwo/v1/index`.
    #[must_use]
    pub fn index(&self) -> [u8; 32] {
        *self.expand(&[b"ogniwo/v1/index"])
    }

    /// The key of this resident's registry values: HKDF-Expand with info `ogniwo/v1/seal`.
    #[must_use]
    pub fn seal_key(&self) -> SealKey {
        SealKey::from_bytes(&self.expand(&[b"ogniwo/v1/seal"]))
    }

    /// The name by which others mean this resident to `member` (a member id, `[a-z0-9-]{1,32}`), 32 bytes: HKDF-Expand
    /// with info `ogniwo/v1/subject` ‖ len8 ‖ member.
    ///
    /// # Errors
    /// [`LabelError`] if `member` is not a member id: a name under a mistyped one would match nothing, silently.
    pub fn subject(&self, member: &str) -> Result<[u8; 32], LabelError> {
        let length = label_length(member, "a member id")?;
        Ok(*self.expand(&[b"ogniwo/v1/subject", &[length], member.as_bytes()]))
    }

    fn expand(&self, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        expand(self.0.as_ref(), info)
    }
}

/// HKDF-Expand-SHA-512 (RFC 5869 §2.3) to 32 bytes, under a key that is uniform already, so that there is no Extract.
pub(crate) fn expand(key: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let mut name = Zeroizing::new([0; 32]);
    let key = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA512, key);
    #[expect(clippy::expect_used, reason = "fails only above 255 · 64 bytes or on a length other than the asked one")]
    key.expand(info, Length).and_then(|okm| okm.fill(name.as_mut())).expect("HKDF to 32 bytes");
    name
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output(redacted)")
    }
}

/// The length of a member id or purpose, `[a-z0-9-]{1,32}`.
pub(crate) fn label_length(text: &str, what: &'static str) -> Result<u8, LabelError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match u8::try_from(text.len()) {
        Ok(length @ 1..=32) if text.bytes().all(allowed) => Ok(length),
        _ => Err(LabelError { what }),
    }
}

#[cfg(test)]
impl Output {
    pub(crate) fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use ring::hmac;

    use super::*;

    fn output() -> Output {
        Output::new(Zeroizing::new([7; 64]))
    }

    /// One block of HKDF-Expand written out from the RFC: the first 32 bytes of HMAC(P, info | 01).
    fn hmac_block(info: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA512, &[7; 64]);
        hmac::sign(&key, &[info, &[1]].concat()).as_ref()[..32].to_vec()
    }

    #[test]
    fn names_are_the_published_expansions() {
        assert_eq!(output().index().as_slice(), hmac_block(b"ogniwo/v1/index"));
        assert_eq!(output().seal_key().to_bytes().as_slice(), hmac_block(b"ogniwo/v1/seal"));
        assert_eq!(output().subject("mops").unwrap().as_slice(), hmac_block(b"ogniwo/v1/subject\x04mops"));
    }

    #[test]
    fn members_know_a_resident_by_different_names() {
        assert_ne!(output().subject("mops"), output().subject("pup"));
    }

    #[test]
    fn a_name_is_derived_for_member_ids_only() {
        for bad in ["", "MOPS", "mops ", "łódź", &"a".repeat(33)] {
            assert_eq!(output().subject(bad), Err(LabelError { what: "a member id" }));
        }
        assert!(output().subject(&"a".repeat(32)).is_ok());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?} {:?}", output(), output().seal_key()), "Output(redacted) SealKey(redacted)");
    }
}
