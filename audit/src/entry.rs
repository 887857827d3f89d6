//! An entry before and after the disk: salted, hashed, sealed, opened again.
//!
//! entry = SHA-256(salt ‖ canonical JSON); sealed = nonce (12) ‖ ChaCha20-Poly1305(salt (32) ‖ canonical JSON) ‖ tag
//! (16), with origin ‖ 0x00 ‖ entry as additional data. The nonce is random: an index can come twice (a failed append,
//! a restored backup), and a nonce made from it would then be used twice under one key. All of this is done by whoever
//! appends, before its turn comes.

use std::{fmt, io, sync::Arc};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::Context,
    error::Unspecified,
    rand::{SecureRandom, SystemRandom},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::{
    fault::{AppendError, Fault},
    record,
    tree::{Hash, sha256},
};

/// The longest canonical JSON of a payload, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The length of a salt.
pub(crate) const SALT: usize = 32;

/// The longest sealed payload, in bytes.
pub(crate) const MAX_SEALED: usize = NONCE_LEN + SALT + MAX_PAYLOAD + 16;

/// The largest integer a double holds exactly together with its neighbours: beyond it RFC 8785 would change the number.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// An entry on its way to the disk.
pub(crate) struct Draft {
    /// The entry hash.
    pub(crate) entry: Hash,
    /// Salt and payload, sealed.
    pub(crate) sealed: Vec<u8>,
    /// Its record's check, as far as that is known.
    pub(crate) begun: Context,
}

impl Draft {
    pub(crate) fn new(payload: &impl Serialize, sealer: &Sealer, random: &SystemRandom) -> Result<Self, AppendError> {
        let json = canonical_json(payload)?;
        if json.len() > MAX_PAYLOAD {
            return Err(AppendError::TooLarge { bytes: json.len() });
        }
        let mut fresh = [0; NONCE_LEN + SALT];
        random.fill(&mut fresh).map_err(|_| AppendError::Random)?;
        let (nonce, salt) = fresh.split_at(NONCE_LEN);
        let mut sealed = Vec::with_capacity(NONCE_LEN + SALT + json.len() + 16);
        sealed.extend(nonce);
        sealed.extend(salt);
        sealed.extend(&json);
        let entry = sha256(sealed.get(NONCE_LEN..).unwrap_or_default());
        sealer.close(&mut sealed, &sealer.entry_aad(&entry)).map_err(|_| AppendError::Random)?;
        let begun = record::begin(&sealed);
        Ok(Self { entry, sealed, begun })
    }
}

/// Canonical JSON (RFC 8785). What `serde_json` writes is already that for a payload with its keys in order, ASCII keys
/// and no floats, as every entry of ours; then looking is three times as fast as sorting. A test holds the two together.
pub(crate) fn canonical_json(payload: &impl Serialize) -> Result<Vec<u8>, AppendError> {
    let json = serde_json::to_vec(payload).map_err(|_| AppendError::Payload)?;
    if serde_json::from_slice::<Plain>(&json).is_ok() {
        return Ok(json);
    }
    let value: Value = serde_json::from_slice(&json).map_err(|_| AppendError::Payload)?;
    if !exact(&value) {
        return Err(AppendError::Payload);
    }
    serde_json_canonicalizer::to_vec(&value).map_err(|_| AppendError::Payload)
}

/// JSON text in which RFC 8785 would change nothing: it reads as nothing else.
struct Plain;

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        text.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("canonical JSON without floats")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self, E> {
        if number <= MAX_SAFE_INTEGER { Ok(self) } else { Err(E::custom("too large")) }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self, E> {
        self.visit_u64(number.unsigned_abs())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut last = None;
        // A key that holds an escape is not borrowed, and so not read here.
        while let Some(key) = members.next_key::<&str>()? {
            if !key.is_ascii() || last.is_some_and(|last| last >= key) {
                return Err(de::Error::custom("not in order"));
            }
            last = Some(key);
            members.next_value::<Self>()?;
        }
        Ok(self)
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

    fn entry_aad(&self, entry: &Hash) -> Vec<u8> {
        [self.origin.as_bytes(), &[0], entry].concat()
    }

    /// The additional data of a column of the index, which no entry has.
    pub(crate) fn column_aad(&self, segment: u64, column: u8) -> Vec<u8> {
        [self.origin.as_bytes(), &[1], &segment.to_be_bytes(), &[column]].concat()
    }

    /// Seals nonce (12 bytes) ‖ text in place, and appends the tag.
    pub(crate) fn close(&self, text: &mut Vec<u8>, aad: &[u8]) -> io::Result<()> {
        let (nonce, inner) = text.split_first_chunk_mut().ok_or_else(|| io::Error::other("no nonce"))?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(aad), inner).map_err(unspecified)?;
        text.extend(tag.as_ref());
        Ok(())
    }

    /// Opens nonce ‖ text ‖ tag in place.
    pub(crate) fn disclose<'a>(&self, sealed: &'a mut [u8], aad: &[u8]) -> Option<&'a [u8]> {
        let (nonce, text) = sealed.split_first_chunk_mut()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.key.open_in_place(nonce, Aad::from(aad), text).ok().map(|text| &*text)
    }

    /// Salt and canonical JSON of entry `index`, whose hash is `entry`; `None` once they are erased.
    pub(crate) fn open(&self, index: u64, entry: &Hash, sealed: &[u8]) -> Result<Option<Opened>, Fault> {
        if sealed.is_empty() {
            return Ok(None);
        }
        let opened = || {
            let mut sealed = sealed.to_vec();
            let plain = self.disclose(&mut sealed, &self.entry_aad(entry))?;
            (plain.len() >= SALT && sha256(plain) == *entry).then(|| Opened(plain.to_vec()))
        };
        opened().map(Some).ok_or(Fault::Payload { index })
    }
}

/// Salt ‖ canonical JSON of an entry, held against its hash.
pub(crate) struct Opened(Vec<u8>);

impl Opened {
    /// 32 bytes.
    pub(crate) fn salt(&self) -> &[u8] {
        self.0.get(..SALT).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> &[u8] {
        self.0.get(SALT..).unwrap_or_default()
    }

    /// `index` names the entry should it be no JSON.
    pub(crate) fn value(&self, index: u64) -> Result<Value, Fault> {
        serde_json::from_slice(self.json()).map_err(|_| Fault::Payload { index })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn draft_of(payload: &Value) -> Result<Draft, AppendError> {
        Draft::new(payload, &Sealer::new("a.pl/log", &[1; 32]).unwrap(), &SystemRandom::new())
    }

    fn draft(payload: &Value) -> Draft {
        draft_of(payload).unwrap()
    }

    #[test]
    fn opens_only_in_its_place_under_its_key_and_hash() {
        let (payload, key) = (json!({"b": 1, "a": ["ż", null, 2.5]}), Sealer::new("a.pl/log", &[1; 32]).unwrap());
        let Draft { entry, sealed, .. } = draft(&payload);
        let opened = key.open(7, &entry, &sealed).unwrap().unwrap();
        assert_eq!(opened.json(), r#"{"a":["ż",null,2.5],"b":1}"#.as_bytes());
        assert_eq!(sha256(&[opened.salt(), opened.json()].concat()), entry);
        assert_eq!(opened.value(7).unwrap(), payload);
        assert!(key.open(7, &entry, &[]).unwrap().is_none());
        let refused = |key: &Sealer, entry, sealed: &[u8]| {
            assert!(matches!(key.open(7, &entry, sealed), Err(Fault::Payload { index: 7 })));
        };
        refused(&key, [0; 32], &sealed);
        refused(&key, draft(&payload).entry, &sealed);
        refused(&key, entry, &sealed[..20]);
        refused(&key, entry, &sealed[..4]);
        refused(&Sealer::new("b.pl/log", &[1; 32]).unwrap(), entry, &sealed);
        refused(&Sealer::new("a.pl/log", &[2; 32]).unwrap(), entry, &sealed);
    }

    #[test]
    fn equal_payloads_have_unlike_entries() {
        assert_ne!(draft(&json!({})).entry, draft(&json!({})).entry);
    }

    #[test]
    fn numbers_canonical_json_would_change_are_refused() {
        let check = |payload: Value, fits: bool| {
            assert_eq!(draft_of(&payload).is_ok(), fits, "{payload}");
        };
        check(json!([9_007_199_254_740_991_u64, -9_007_199_254_740_991_i64, 1.5e300]), true);
        check(json!({"a": [9_007_199_254_740_992_u64]}), false);
        check(json!(-9_007_199_254_740_992_i64), false);
        check(json!(u64::MAX), false);
    }

    #[test]
    fn a_payload_too_long_is_refused() {
        let of = |length: usize| draft_of(&"x".repeat(length).into()).map(|draft| draft.sealed.len());
        assert_eq!(of(MAX_PAYLOAD - 2), Ok(MAX_SEALED));
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
            prop_assert_eq!(canonical_json(&value).unwrap(), serde_json_canonicalizer::to_vec(&value).unwrap());
        }
    }

    #[test]
    fn what_is_out_of_order_is_put_in_order() {
        #[derive(Serialize)]
        struct Payload {
            b: u8,
            a: u8,
        }
        assert_eq!(canonical_json(&Payload { b: 1, a: 2 }).unwrap(), br#"{"a":2,"b":1}"#);
        assert!(serde_json::from_str::<Plain>(r#"{"a":[1,"x",null,{"b":true}],"b":{}}"#).is_ok());
        for other in [r#"{"b":1,"a":1}"#, r#"{"a":1,"a":1}"#, r#"{"ą":1}"#, "[1.5]", "9007199254740992", r#"{"\n":1}"#]
        {
            assert!(serde_json::from_str::<Plain>(other).is_err(), "{other}");
        }
    }
}
