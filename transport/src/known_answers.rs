//! Known answers, each printed in the document named beside it.

use crate::crypto::CryptoError;
use data_encoding::HEXLOWER;

/// RFC 8037 appendix A.1: the seed of RFC 8032 §7.1 test 1, as PKCS#8 (RFC 8410 §7).
const ED25519_PKCS8: &str =
    "302e020100300506032b6570042204209d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const ED25519_PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
/// RFC 8037 appendix A.4.
const JWS_INPUT: &[u8] = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
const JWS_SIGNATURE: &str = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap_or_default()
}

fn jws_signature() -> Vec<u8> {
    data_encoding::BASE64URL_NOPAD.decode(JWS_SIGNATURE.as_bytes()).unwrap_or_default()
}

fn check(holds: bool, name: &'static str) -> Result<(), CryptoError> {
    if holds { Ok(()) } else { Err(CryptoError(name)) }
}

pub(crate) fn ring() -> Result<(), CryptoError> {
    use ring::{aead, digest, hmac, signature};

    // FIPS 180-4 example "abc".
    let sha = digest::digest(&digest::SHA256, b"abc");
    let known = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check(sha.as_ref() == known, "ring SHA-256")?;

    // RFC 4231 §4.3.
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"Jefe"), b"what do ya want for nothing?");
    let known = hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    check(mac.as_ref() == known, "ring HMAC-SHA-256")?;

    // RFC 8439 §2.8.2.
    let key: Vec<u8> = (0x80..=0x9f).collect();
    let nonce = *b"\x07\x00\x00\x00\x40\x41\x42\x43\x44\x45\x46\x47";
    let aad = aead::Aad::from(hex("50515253c0c1c2c3c4c5c6c7"));
    let mut text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                     sunscreen would be it."
        .to_vec();
    let plain = text.clone();
    let failed = |_| CryptoError("ring ChaCha20-Poly1305");
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &key).map_err(failed)?);
    let tag = key
        .seal_in_place_separate_tag(aead::Nonce::assume_unique_for_key(nonce), aad.clone(), &mut text)
        .map_err(failed)?;
    check(tag.as_ref() == hex("1ae10b594f09e26a7e902ecbd0600691"), "ring ChaCha20-Poly1305")?;
    text.extend_from_slice(tag.as_ref());
    let opened = key.open_in_place(aead::Nonce::assume_unique_for_key(nonce), aad, &mut text).map_err(failed)?;
    check(opened == plain, "ring ChaCha20-Poly1305")?;

    let failed = |_| CryptoError("ring Ed25519");
    let pair = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&hex(ED25519_PKCS8)).map_err(failed)?;
    check(pair.sign(JWS_INPUT).as_ref() == jws_signature(), "ring Ed25519")?;
    let public = signature::UnparsedPublicKey::new(&signature::ED25519, hex(ED25519_PUBLIC));
    check(public.verify(JWS_INPUT, &jws_signature()).is_ok(), "ring Ed25519")?;
    check(public.verify(b"other", &jws_signature()).is_err(), "ring Ed25519 refuses")
}

pub(crate) fn aws_lc_rs() -> Result<(), CryptoError> {
    use aws_lc_rs::{digest, signature};
    let sha = digest::digest(&digest::SHA256, b"abc");
    let known = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check(sha.as_ref() == known, "aws-lc-rs SHA-256")?;
    let failed = |_| CryptoError("aws-lc-rs Ed25519");
    let pair = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&hex(ED25519_PKCS8)).map_err(failed)?;
    check(pair.sign(JWS_INPUT).as_ref() == jws_signature(), "aws-lc-rs Ed25519")?;
    let public = signature::UnparsedPublicKey::new(&signature::ED25519, hex(ED25519_PUBLIC));
    check(public.verify(JWS_INPUT, &jws_signature()).is_ok(), "aws-lc-rs Ed25519")?;
    check(public.verify(b"other", &jws_signature()).is_err(), "aws-lc-rs Ed25519 refuses")
}

pub(crate) fn jsonwebtoken() -> Result<(), CryptoError> {
    use jsonwebtoken::{Algorithm::EdDSA, DecodingKey, EncodingKey, crypto};
    let private = EncodingKey::from_ed_der(&hex(ED25519_PKCS8));
    let public = DecodingKey::from_ed_der(&hex(ED25519_PUBLIC));
    check(crypto::sign(JWS_INPUT, &private, EdDSA).is_ok_and(|s| s == JWS_SIGNATURE), "jsonwebtoken EdDSA")?;
    let verify = |input: &[u8]| crypto::verify(JWS_SIGNATURE, input, &public, EdDSA);
    check(verify(JWS_INPUT).is_ok_and(|valid| valid), "jsonwebtoken EdDSA")?;
    check(verify(b"other").is_ok_and(|valid| !valid), "jsonwebtoken EdDSA refuses")
}
