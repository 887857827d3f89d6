//! Signed envelopes: compact JWS (RFC 7515), `EdDSA` only, strict `typ` and `kid`.
//!
//! Time is judged by the receiver of the claims, against its own injected clock; this module judges signature, type
//! and that the key belongs to the issuer the claims name.

use crate::keys::{KeyId, PublicKey, SigningKey};
use crate::{MemberId, encoding::sha256};
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Serialize, de::DeserializeOwned};

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
    #[error("could not be signed")]
    Signing,
}

/// Signs `claims` with `key`.
///
/// # Errors
/// [`JwsError::Signing`] if the claims do not serialise or the library refuses the key.
pub fn sign<T: Envelope>(key: &SigningKey, claims: &T) -> Result<String, JwsError> {
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(T::TYP.to_owned());
    header.kid = Some(key.id().0.clone());
    jsonwebtoken::encode(&header, claims, key.encoding()).map_err(|_| JwsError::Signing)
}

/// Verifies `token` and gives its claims. `key` finds the owner and public key of a key id valid now.
///
/// # Errors
/// Every [`JwsError`] but `Signing`.
pub fn verify<T: Envelope>(
    token: &str,
    key: impl FnOnce(&KeyId) -> Option<(MemberId, PublicKey)>,
) -> Result<T, JwsError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| JwsError::Malformed)?;
    if header.typ.as_deref() != Some(T::TYP) || header.alg != Algorithm::EdDSA {
        return Err(JwsError::WrongKind);
    }
    let kid = KeyId(header.kid.ok_or(JwsError::WrongKind)?);
    let (owner, public) = key(&kid).ok_or(JwsError::UnknownKey)?;
    let claims: T = jsonwebtoken::decode(token, &public.decoding(), &signature_only()).map_err(|e| refusal(&e))?.claims;
    if claims.issuer() == &owner { Ok(claims) } else { Err(JwsError::WrongIssuer) }
}

/// SHA-256 (32 bytes) of a compact JWS, by which an answer binds its request.
#[must_use]
pub fn digest(token: &str) -> [u8; 32] {
    sha256(&[token.as_bytes()])
}

/// Claims are judged by their reader with an injected clock, so the library checks the signature alone.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn refusal(error: &jsonwebtoken::errors::Error) -> JwsError {
    match error.kind() {
        jsonwebtoken::errors::ErrorKind::InvalidSignature => JwsError::BadSignature,
        _ => JwsError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

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
        assert_eq!(refused(&unsigned, "mops", &key(1)), JwsError::Malformed);
        let mut broken = token.into_bytes();
        let middle = broken.iter().position(|b| *b == b'.').unwrap() + 5;
        broken[middle] ^= 1;
        let broken = String::from_utf8(broken).unwrap();
        assert!(verify::<Note>(&broken, |_| Some(owner("mops", &key(1)))).is_err());
    }
}
