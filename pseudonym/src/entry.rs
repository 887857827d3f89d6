//! The plaintext of a registry value: who knows this resident, since when, until when, signed by them.

use std::fmt;

use crate::names::{LabelError, label_length};

/// Length of an encoded entry; padded so that no entry differs from another by its size.
pub const ENTRY_BYTES: usize = 256;

const VERSION: u8 = 1;
const SIGNED: usize = 150;
const SIGNATURE: usize = 64;

/// One member's statement that it knows one resident. `Debug` shows the epoch alone.
///
/// Layout, 256 bytes, integers big-endian; labels are zero-padded on the right:
///
/// | offset | length | field |
/// |---|---|---|
/// | 0 | 1 | version, 1 |
/// | 1 | 4 | epoch |
/// | 5 | 32 | index |
/// | 37 | 32 | member |
/// | 69 | 8 | issued |
/// | 77 | 8 | expires |
/// | 85 | 32 | purpose |
/// | 117 | 32 | HMAC of the case reference |
/// | 149 | 1 | zero, reserved |
/// | 150 | 64 | Ed25519 signature over `"ogniwo/v1/entry"` ‖ len8 realm ‖ realm ‖ bytes 0 to 149 |
/// | 214 | 42 | zeros |
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key epoch of `index`.
    pub epoch: u32,
    /// The resident's registry address, from [`Output::index`](crate::Output::index). Whoever opens an entry compares it
    /// with the index asked for: the seal does not bind it.
    pub index: [u8; 32],
    /// Who knows the resident: a member id, `[a-z0-9-]{1,32}`.
    pub member: String,
    /// When the entry was signed, Unix seconds.
    pub issued: i64,
    /// When it ends, Unix seconds, after `issued`.
    pub expires: i64,
    /// The purpose it was posted for: a code of the catalogue, `[a-z0-9-]{1,32}`.
    pub purpose: String,
    /// HMAC-SHA-256 of the case reference under the member's own key: the member can prove the case, others learn nothing.
    pub case_mac: [u8; 32],
}

/// Why an entry is not encoded or not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The realm is not 1 to 255 bytes.
    #[error("the realm must be 1 to 255 bytes")]
    Realm,
    /// A version this code does not know.
    #[error("unknown entry version {found}")]
    Version {
        /// The version byte.
        found: u8,
    },
    /// Member or purpose is no label.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The entry ends before it begins.
    #[error("the entry expires before it is issued")]
    Period,
    /// A byte that must be zero is not.
    #[error("the entry's padding is not zero")]
    Padding,
    /// The member's signature does not hold.
    #[error("the entry's signature does not hold")]
    Signature,
}

impl Entry {
    /// Encodes and signs: `sign` gets the message to sign (with the domain and the realm, see the layout) and returns the
    /// member's Ed25519 signature.
    ///
    /// # Errors
    /// [`EntryError`] if a field or the realm is malformed; `sign` is then not called.
    pub fn encode(
        &self,
        realm: &str,
        sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE],
    ) -> Result<[u8; ENTRY_BYTES], EntryError> {
        let body = self.to_signed_bytes()?;
        let signature = sign(&message(realm, &body)?);
        let mut bytes = [0; ENTRY_BYTES];
        for (to, from) in bytes.iter_mut().zip(body.into_iter().chain(signature)) {
            *to = from;
        }
        Ok(bytes)
    }

    /// Decodes strictly: known version, canonical labels, zero padding, `issued < expires`, and a signature that
    /// `verify(member, message, signature)` accepts under that member's key. Expiry is the caller's to judge.
    ///
    /// # Errors
    /// [`EntryError`], by the first rule broken.
    pub fn decode(
        bytes: &[u8; ENTRY_BYTES],
        realm: &str,
        verify: impl FnOnce(&str, &[u8], &[u8; SIGNATURE]) -> bool,
    ) -> Result<Self, EntryError> {
        let mut reader = Reader(bytes);
        let [found] = reader.take()?;
        if found != VERSION {
            return Err(EntryError::Version { found });
        }
        let entry = Self {
            epoch: u32::from_be_bytes(reader.take()?),
            index: reader.take()?,
            member: parse_label(reader.take()?, "the entry's member")?,
            issued: i64::from_be_bytes(reader.take()?),
            expires: i64::from_be_bytes(reader.take()?),
            purpose: parse_label(reader.take()?, "the entry's purpose")?,
            case_mac: reader.take()?,
        };
        let reserved: [u8; 1] = reader.take()?;
        let signature = reader.take()?;
        if reserved != [0] || reader.0.iter().any(|&byte| byte != 0) {
            return Err(EntryError::Padding);
        }
        // Re-encoding checks the period; the signed bytes are these and no others, for every field has one encoding.
        let body = entry.to_signed_bytes()?;
        if verify(&entry.member, &message(realm, &body)?, &signature) { Ok(entry) } else { Err(EntryError::Signature) }
    }

    fn to_signed_bytes(&self) -> Result<[u8; SIGNED], EntryError> {
        if self.issued >= self.expires {
            return Err(EntryError::Period);
        }
        let mut body = [0; SIGNED];
        let fields: [&[u8]; 8] = [
            &[VERSION],
            &self.epoch.to_be_bytes(),
            &self.index,
            &pad_label(&self.member, "the entry's member")?,
            &self.issued.to_be_bytes(),
            &self.expires.to_be_bytes(),
            &pad_label(&self.purpose, "the entry's purpose")?,
            &self.case_mac,
        ];
        for (to, from) in body.iter_mut().zip(fields.concat()) {
            *to = from;
        }
        Ok(body)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

fn message(realm: &str, body: &[u8; SIGNED]) -> Result<Vec<u8>, EntryError> {
    match u8::try_from(realm.len()) {
        Ok(length @ 1..) => Ok([b"ogniwo/v1/entry", [length].as_slice(), realm.as_bytes(), body].concat()),
        _ => Err(EntryError::Realm),
    }
}

fn pad_label(text: &str, what: &'static str) -> Result<[u8; 32], LabelError> {
    label_length(text, what)?;
    let mut padded = [0; 32];
    for (to, from) in padded.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    Ok(padded)
}

fn parse_label(padded: [u8; 32], what: &'static str) -> Result<String, EntryError> {
    // Zeros elsewhere than at the end stay in the text, and no label contains one.
    let text = str::from_utf8(&padded).map_err(|_| LabelError { what })?.trim_end_matches('\0');
    label_length(text, what)?;
    Ok(text.to_owned())
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        // Cannot fail: the fields add up to less than 256 bytes.
        let (field, rest) = self.0.split_first_chunk().ok_or(EntryError::Padding)?;
        self.0 = rest;
        Ok(*field)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

    use super::*;

    const REALM: &str = "lodz";

    fn signer() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap()
    }

    fn entry() -> Entry {
        Entry {
            epoch: 3,
            index: [0xaa; 32],
            member: "mops".into(),
            issued: 1_795_000_000,
            expires: 1_826_000_000,
            purpose: "social-welfare".into(),
            case_mac: [0xcc; 32],
        }
    }

    fn encode(entry: &Entry) -> Result<[u8; 256], EntryError> {
        entry.encode(REALM, |message| signer().sign(message).as_ref().try_into().unwrap())
    }

    fn decode(bytes: &[u8; 256], realm: &str) -> Result<Entry, EntryError> {
        Entry::decode(bytes, realm, |member, message, signature| {
            let key = UnparsedPublicKey::new(&ED25519, signer().public_key().as_ref().to_vec());
            member == "mops" && key.verify(message, signature).is_ok()
        })
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = encode(&entry()).unwrap();
        assert_eq!(bytes[..5], [1, 0, 0, 0, 3]);
        assert_eq!(bytes[5..37], [0xaa; 32]);
        assert_eq!(&bytes[37..42], b"mops\0");
        assert_eq!(bytes[69..77], 1_795_000_000_i64.to_be_bytes());
        assert_eq!(bytes[77..85], 1_826_000_000_i64.to_be_bytes());
        assert_eq!(&bytes[85..100], b"social-welfare\0");
        assert_eq!(bytes[117..150], [[0xcc; 32].as_slice(), &[0]].concat());
        assert_eq!(bytes[214..], [0; 42]);
        let message = [b"ogniwo/v1/entry\x04lodz", &bytes[..150]].concat();
        assert_eq!(&bytes[150..214], signer().sign(&message).as_ref());
    }

    #[test]
    fn round_trips_and_binds_the_realm() {
        let bytes = encode(&entry()).unwrap();
        assert_eq!(decode(&bytes, REALM), Ok(entry()));
        assert_eq!(decode(&bytes, "krakow"), Err(EntryError::Signature));
        assert_eq!(decode(&bytes, ""), Err(EntryError::Realm));
    }

    #[test]
    fn refuses_by_name() {
        let changed = |position: usize, value| {
            let mut bytes = encode(&entry()).unwrap();
            bytes[position] = value;
            decode(&bytes, REALM).unwrap_err()
        };
        assert_eq!(changed(0, 2), EntryError::Version { found: 2 });
        assert_eq!(changed(37, b'M'), EntryError::Label(LabelError { what: "the entry's member" }));
        assert_eq!(changed(50, b'x'), EntryError::Label(LabelError { what: "the entry's member" }));
        assert_eq!(changed(116, 0xff), EntryError::Label(LabelError { what: "the entry's purpose" }));
        assert_eq!(changed(149, 1), EntryError::Padding);
        assert_eq!(changed(214, 1), EntryError::Padding);
        assert_eq!(changed(255, 1), EntryError::Padding);
        assert_eq!(changed(77, 0x80), EntryError::Period);
        assert_eq!(changed(200, 0x55), EntryError::Signature);
    }

    #[test]
    fn does_not_encode_what_it_would_not_decode() {
        let label = |what| Err(EntryError::Label(LabelError { what }));
        assert_eq!(encode(&Entry { member: String::new(), ..entry() }), label("the entry's member"));
        assert_eq!(encode(&Entry { member: "a".repeat(33), ..entry() }), label("the entry's member"));
        assert_eq!(encode(&Entry { purpose: "A purpose".into(), ..entry() }), label("the entry's purpose"));
        assert_eq!(encode(&Entry { expires: entry().issued, ..entry() }), Err(EntryError::Period));
        assert_eq!(entry().encode(&"x".repeat(256), |_| unreachable!()), Err(EntryError::Realm));
    }

    proptest! {
        #[test]
        fn every_entry_round_trips(
            (epoch, index, case_mac) in any::<(u32, [u8; 32], [u8; 32])>(),
            (issued, length) in (any::<i32>(), 1..i64::from(i32::MAX)),
            purpose in "[a-z0-9-]{1,32}",
        ) {
            let issued = i64::from(issued);
            let entry = Entry { epoch, index, case_mac, issued, expires: issued + length, purpose, ..entry() };
            prop_assert_eq!(decode(&encode(&entry).unwrap(), REALM), Ok(entry));
        }

        #[test]
        fn any_changed_byte_is_refused(position in 0_usize..256, change in 1_u8..) {
            let mut bytes = encode(&entry()).unwrap();
            bytes[position] ^= change;
            prop_assert!(decode(&bytes, REALM).is_err());
        }
    }
}
