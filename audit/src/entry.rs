//! An entry before and after the disk: salted, hashed, sealed, opened again.
//!
//! entry = SHA-256(salt ‖ canonical JSON); sealed = nonce (12) ‖ ChaCha20-Poly1305(salt (32) ‖ canonical JSON) ‖ tag
//! (16), with origin ‖ index (8 bytes, big-endian) as additional data. The nonce is random: an index can come twice
//! (a failed append, a restored backup), and a nonce made from it would then be used twice under one key.

use std::{
    io,
    sync::{Arc, LazyLock},
};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    rand::{SecureRandom, SystemRandom},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    fault::{AppendError, Fault},
    tree::{Hash, sha256},
};

/// The longest canonical JSON of a payload, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

const SALT: usize = 32;

/// The longest sealed payload, in bytes.
pub(crate) const MAX_SEALED: usize = NONCE_LEN + SALT + MAX_PAYLOAD + 16;

/// The largest integer a double holds exactly together with its neighbours: beyond it RFC 8785 would change the number.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// An entry on its way to the writer; it has no index yet, so it is not sealed yet.
pub(crate) struct Draft {
    /// The entry hash.
    pub(crate) entry: Hash,
    nonce: [u8; NONCE_LEN],
    plain: Vec<u8>,
}

impl Draft {
    pub(crate) fn new(payload: &impl Serialize, random: &SystemRandom) -> Result<Self, AppendError> {
        let payload = serde_json::to_value(payload).map_err(|_| AppendError::Payload)?;
        if !exact(&payload) {
            return Err(AppendError::Payload);
        }
        let json = canonical(&payload)?;
        if json.len() > MAX_PAYLOAD {
            return Err(AppendError::TooLarge { bytes: json.len() });
        }
        let (mut salt, mut nonce) = ([0; SALT], [0; NONCE_LEN]);
        random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(|_| AppendError::Random)?;
        let plain = [&salt[..], &json].concat();
        Ok(Self { entry: sha256(&plain), nonce, plain })
    }
}

/// Canonical JSON (RFC 8785). What has no floats and ASCII keys alone, as every entry of ours, `serde_json` writes so by
/// itself, three times as fast; a test holds the two together.
fn canonical(payload: &Value) -> Result<Vec<u8>, AppendError> {
    static SORTS: LazyLock<bool> = LazyLock::new(|| {
        // Another crate may switch `serde_json` to keeping the order of insertion.
        serde_json::from_str::<Value>(r#"{"b":1,"a":2}"#).is_ok_and(|value| value.to_string().starts_with(r#"{"a""#))
    });
    if *SORTS && plain(payload) {
        serde_json::to_vec(payload).map_err(|_| AppendError::Payload)
    } else {
        serde_json_canonicalizer::to_vec(payload).map_err(|_| AppendError::Payload)
    }
}

/// Whether there is nothing in which RFC 8785 differs from sorted `serde_json`.
fn plain(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(items) => items.iter().all(plain),
        Value::Object(members) => members.iter().all(|(key, member)| key.is_ascii() && plain(member)),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// Whether canonical JSON keeps every number as it is.
fn exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_f64() || number.as_i64().is_some_and(|integer| integer.unsigned_abs() <= MAX_SAFE_INTEGER)
        }
        Value::Array(items) => items.iter().all(exact),
        Value::Object(members) => members.values().all(exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// `ring` gives no reasons.
fn unspecified(_: Unspecified) -> io::Error {
    io::Error::other("the payload cannot be sealed")
}

/// The payload key of one log.
pub(crate) struct Sealer {
    key: LessSafeKey,
    origin: Arc<str>,
}

impl Sealer {
    pub(crate) fn new(origin: &str, key: &[u8; 32]) -> io::Result<Self> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(unspecified)?;
        Ok(Self { key: LessSafeKey::new(key), origin: origin.into() })
    }

    /// The log's origin.
    pub(crate) fn origin(&self) -> &Arc<str> {
        &self.origin
    }

    fn aad(&self, index: u64) -> Aad<Vec<u8>> {
        Aad::from([self.origin.as_bytes(), &index.to_be_bytes()].concat())
    }

    pub(crate) fn seal(&self, index: u64, draft: &Draft) -> io::Result<Vec<u8>> {
        let mut text = draft.plain.clone();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(draft.nonce), self.aad(index), &mut text)
            .map_err(unspecified)?;
        Ok([&draft.nonce[..], &text].concat())
    }

    /// The payload of entry `index`, whose hash is `entry`; `None` once it is erased.
    pub(crate) fn open(&self, index: u64, entry: &Hash, sealed: &[u8]) -> Result<Option<Value>, Fault> {
        if sealed.is_empty() {
            return Ok(None);
        }
        self.payload(index, entry, sealed).map(Some).ok_or(Fault::Payload { index })
    }

    fn payload(&self, index: u64, entry: &Hash, sealed: &[u8]) -> Option<Value> {
        let (nonce, text) = sealed.split_first_chunk()?;
        let mut text = text.to_vec();
        let plain = self.key.open_in_place(Nonce::assume_unique_for_key(*nonce), self.aad(index), &mut text).ok()?;
        let (_, json) = plain.split_first_chunk::<SALT>()?;
        if sha256(plain) == *entry { serde_json::from_slice(json).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn draft(payload: &Value) -> Draft {
        Draft::new(payload, &SystemRandom::new()).unwrap()
    }

    #[test]
    fn opens_only_in_its_place_under_its_key_and_hash() {
        let (payload, key) = (json!({"b": 1, "a": ["ż", null, 2.5]}), Sealer::new("a.pl/log", &[1; 32]).unwrap());
        let draft = draft(&payload);
        assert!(draft.plain.ends_with(r#"{"a":["ż",null,2.5],"b":1}"#.as_bytes()));
        let sealed = key.seal(7, &draft).unwrap();
        assert_eq!(key.open(7, &draft.entry, &sealed).unwrap(), Some(payload));
        assert_eq!(key.open(7, &draft.entry, &[]).unwrap(), None);
        let refused = |key: &Sealer, index, entry, sealed: &[u8]| {
            assert!(matches!(key.open(index, &entry, sealed), Err(Fault::Payload { .. })));
        };
        refused(&key, 8, draft.entry, &sealed);
        refused(&key, 7, [0; 32], &sealed);
        refused(&key, 7, draft.entry, &sealed[..20]);
        refused(&Sealer::new("b.pl/log", &[1; 32]).unwrap(), 7, draft.entry, &sealed);
        refused(&Sealer::new("a.pl/log", &[2; 32]).unwrap(), 7, draft.entry, &sealed);
    }

    #[test]
    fn equal_payloads_have_unlike_entries() {
        assert_ne!(draft(&json!({})).entry, draft(&json!({})).entry);
    }

    #[test]
    fn numbers_canonical_json_would_change_are_refused() {
        let check = |payload: Value, fits: bool| {
            assert_eq!(Draft::new(&payload, &SystemRandom::new()).is_ok(), fits, "{payload}");
        };
        check(json!([9_007_199_254_740_991_u64, -9_007_199_254_740_991_i64, 1.5e300]), true);
        check(json!({"a": [9_007_199_254_740_992_u64]}), false);
        check(json!(-9_007_199_254_740_992_i64), false);
        check(json!(u64::MAX), false);
    }

    #[test]
    fn a_payload_too_long_is_refused() {
        let of = |length: usize| Draft::new(&"x".repeat(length), &SystemRandom::new()).map(|draft| draft.plain.len());
        assert_eq!(of(MAX_PAYLOAD - 2), Ok(SALT + MAX_PAYLOAD));
        assert_eq!(of(MAX_PAYLOAD - 1), Err(AppendError::TooLarge { bytes: MAX_PAYLOAD + 1 }));
    }
}

#[cfg(test)]
mod canonical_tests {
    use super::*;
    use proptest::prelude::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_short_way_writes_what_the_canonicaliser_writes(value in json()) {
            prop_assert_eq!(canonical(&value).unwrap(), serde_json_canonicalizer::to_vec(&value).unwrap());
        }
    }
}
