//! Signed envelopes: compact JWS (RFC 7515), `EdDSA` only, strict `typ` and `kid`.
//!
//! Time is judged by the receiver of the claims, against its own injected clock; this module judges signature, type
//! and that the key belongs to the issuer the claims name.

use crate::MemberId;
use crate::encoding::{b64, sha256};
use crate::keys::{KeyId, PublicKey, SigningKey};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::borrow::Cow;

/// Claims that are sent as a compact JWS of one `typ`.
pub trait Envelope: Serialize + DeserializeOwned {
    /// The `typ` header; another is refused.
    const TYP: &'static str;
    /// The member that signs.
    fn issuer(&self) -> &MemberId;
}

/// Why an envelope was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not a compact JWS, or its claims are not of the expected shape.
    #[error("not a signed message of the expected shape")]
    Malformed,
    /// `typ`, `alg` or another header is not the one required.
    #[error("a signed message of another kind")]
    WrongKind,
    /// No valid key of that name.
    #[error("signed with a key that is not valid in the manifest")]
    UnknownKey,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    BadSignature,
    /// The key is another member's than the issuer named.
    #[error("signed by another member than its issuer")]
    WrongIssuer,
    /// Signing failed.
    #[error("the claims could not be signed")]
    Signing,
}

/// The protected header: exactly these three, so that no `crit`, `jwk` or other parameter can change what is verified.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    typ: Cow<'a, str>,
    alg: Cow<'a, str>,
    kid: Cow<'a, str>,
}

const ALGORITHM: &str = "EdDSA";

/// Signs `claims` with `key`.
///
/// # Errors
/// [`JwsError::Signing`] if the claims do not serialise.
pub fn sign<T: Envelope>(key: &SigningKey, claims: &T) -> Result<String, JwsError> {
    let header = Header { typ: T::TYP.into(), alg: ALGORITHM.into(), kid: key.id().0.as_str().into() };
    let header = serde_json::to_vec(&header).map_err(|_| JwsError::Signing)?;
    let claims = serde_json::to_vec(claims).map_err(|_| JwsError::Signing)?;
    let mut token = b64(&header);
    token.push('.');
    BASE64URL_NOPAD.encode_append(&claims, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    BASE64URL_NOPAD.encode_append(&signature, &mut token);
    Ok(token)
}

/// Verifies `token` and gives its claims. `key` finds the owner and public key of a key id valid now.
///
/// # Errors
/// Every [`JwsError`] but `Signing`.
pub fn verify<T: Envelope>(
    token: &str,
    key: impl FnOnce(&KeyId) -> Option<(MemberId, PublicKey)>,
) -> Result<T, JwsError> {
    let (message, signature) = token.rsplit_once('.').ok_or(JwsError::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(JwsError::Malformed)?;
    let header = unarmoured(header)?;
    let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| JwsError::Malformed)?;
    if header.typ != T::TYP || header.alg != ALGORITHM {
        return Err(JwsError::WrongKind);
    }
    let (owner, public) = key(&KeyId(header.kid.into_owned())).ok_or(JwsError::UnknownKey)?;
    if !public.verifies(message.as_bytes(), &unarmoured(signature)?) {
        return Err(JwsError::BadSignature);
    }
    let claims: T = serde_json::from_slice(&unarmoured(claims)?).map_err(|_| JwsError::Malformed)?;
    if claims.issuer() == &owner { Ok(claims) } else { Err(JwsError::WrongIssuer) }
}

fn unarmoured(text: &str) -> Result<Vec<u8>, JwsError> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| JwsError::Malformed)
}

/// SHA-256 (32 bytes) of a compact JWS, by which an answer binds its request.
#[must_use]
pub fn digest(token: &str) -> [u8; 32] {
    sha256(&[token.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Note {
        iss: MemberId,
        text: String,
    }
    impl Envelope for Note {
        const TYP: &'static str = "note+jwt";
        fn issuer(&self) -> &MemberId {
            &self.iss
        }
    }
    #[derive(Serialize, Deserialize, Debug)]
    struct Other(Note);
    impl Envelope for Other {
        const TYP: &'static str = "other+jwt";
        fn issuer(&self) -> &MemberId {
            &self.0.iss
        }
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }
    fn note() -> Note {
        Note { iss: "mops".parse().unwrap(), text: "ą".into() }
    }
    fn owner(name: &str, key: &SigningKey) -> (MemberId, PublicKey) {
        (name.parse().unwrap(), key.public())
    }

    #[test]
    fn round_trip() {
        let token = sign(&key(1), &note()).unwrap();
        let read: Note = verify(&token, |kid| {
            assert_eq!(kid, key(1).id());
            Some(owner("mops", &key(1)))
        })
        .unwrap();
        assert_eq!(read, note());
    }

    #[test]
    fn refuses_everything_that_is_off() {
        let token = sign(&key(1), &note()).unwrap();
        let refused =
            |token: &str, name: &str, k: &SigningKey| verify::<Note>(token, |_| Some(owner(name, k))).unwrap_err();
        assert_eq!(refused(&token, "mops", &key(2)), JwsError::BadSignature);
        assert_eq!(refused(&token, "pup", &key(1)), JwsError::WrongIssuer);
        assert_eq!(verify::<Note>(&token, |_| None).unwrap_err(), JwsError::UnknownKey);
        assert_eq!(verify::<Other>(&token, |_| Some(owner("mops", &key(1)))).unwrap_err(), JwsError::WrongKind);
        assert_eq!(refused("a.b.c", "mops", &key(1)), JwsError::Malformed);
        let unsigned = format!(
            "{}.{}.",
            crate::encoding::b64(br#"{"alg":"none","typ":"note+jwt","kid":"x"}"#),
            token.split('.').nth(1).unwrap()
        );
        assert_eq!(refused(&unsigned, "mops", &key(1)), JwsError::WrongKind);
        let header = br#"{"alg":"EdDSA","typ":"note+jwt","kid":"x","crit":["b64"]}"#;
        let critical = format!("{}.{}", crate::encoding::b64(header), token.split_once('.').unwrap().1);
        assert_eq!(refused(&critical, "mops", &key(1)), JwsError::Malformed);
        let mut broken = token.into_bytes();
        let middle = broken.iter().position(|b| *b == b'.').unwrap() + 5;
        broken[middle] ^= 1;
        let broken = String::from_utf8(broken).unwrap();
        assert!(verify::<Note>(&broken, |_| Some(owner("mops", &key(1)))).is_err());
    }

    /// jsonwebtoken reads what we sign and we read what it signs.
    #[test]
    fn a_second_implementation_agrees() {
        use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
        let ours = sign(&key(1), &note()).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let public = DecodingKey::from_ed_der(&key(1).public().0);
        assert_eq!(jsonwebtoken::decode::<Note>(&ours, &public, &validation).unwrap().claims, note());

        let mut header = jsonwebtoken::Header::new(Algorithm::EdDSA);
        (header.typ, header.kid) = (Some(Note::TYP.to_owned()), Some(key(1).id().0.clone()));
        // RFC 8410 §7: a fixed header, then the seed.
        let der = [b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".as_slice(), &[1; 32]].concat();
        let theirs = jsonwebtoken::encode(&header, &note(), &EncodingKey::from_ed_der(&der)).unwrap();
        assert_eq!(verify::<Note>(&theirs, |_| Some(owner("mops", &key(1)))).unwrap(), note());
    }
}
