//! Names of things. Text ids are checked when made; names of residents have no `Display` and a redacting `Debug`.

use crate::encoding::byte_id;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

byte_id!(
    /// Address of a resident in the registry, 32 bytes derived from the pseudonym (docs/PROTOCOL.md). Leaves a node only
    /// towards the registry; it is a name of a person, so it is never shown.
    Index, 32, debug = hidden
);
byte_id!(
    /// The name by which others mean a resident to one institution, 32 bytes (docs/PROTOCOL.md).
    SubjectId, 32, debug = hidden
);
byte_id!(
    /// Random 16-byte handle of a resident's file inside one node; the only way a log entry means a resident.
    FileId, 16, debug = shown
);
byte_id!(
    /// Random 16-byte id of one recorded consent.
    ConsentId, 16, debug = shown
);

/// An id that breaks its rule. Says the rule, never the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct BadId {
    what: &'static str,
    rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok($name(text.to_owned()))
                } else {
                    Err(BadId { what: stringify!($name), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

fn is_slug(text: &str, longest: usize, extra: &[u8]) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || extra.contains(&b))
}

text_id!(
    /// A member institution, or the registry: `[a-z0-9-]{1,32}`.
    MemberId, "1 to 32 of a-z 0-9 -", |t| is_slug(t, 32, b"-")
);
text_id!(
    /// The federation's name, a SPIFFE trust domain: `[a-z0-9.-]{1,64}`.
    Realm, "1 to 64 of a-z 0-9 . -", |t| is_slug(t, 64, b".-")
);
text_id!(
    /// What sort of institution a member is (`mops`, `pup`, `css`, `hou`, `registry`, …), as mandates and query types name it.
    MemberKind, "1 to 32 of a-z 0-9 -", |t| is_slug(t, 32, b"-")
);
text_id!(
    /// A query type of the catalogue, as `q02`.
    QueryType, "1 to 32 of a-z 0-9 -", |t| is_slug(t, 32, b"-")
);
text_id!(
    /// A field of the catalogue, as `pup.status`.
    FieldId, "1 to 64 of a-z 0-9 . _", |t| is_slug(t, 64, b"._")
);
text_id!(
    /// A purpose of the catalogue (a DPV term in short form), as `social-welfare-eligibility-assessment`.
    Purpose, "1 to 64 of a-z 0-9 -", |t| is_slug(t, 64, b"-")
);
text_id!(
    /// A user's role at its institution, as `caseworker`.
    Role, "1 to 32 of a-z 0-9 -", |t| is_slug(t, 32, b"-")
);

text_id!(
    /// A word of an institution's identity provider: an application (`client_id`), a level of authentication (`acr`).
    ProviderWord, "1 to 128 visible ASCII characters", |t| (1..=128).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic())
);

/// A generation of the pseudonym key. A new key is a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

/// `spiffe://REALM/member/ID`, the one URI SAN of a member's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    realm: Realm,
    member: MemberId,
}

impl SpiffeId {
    /// The SPIFFE id of `member` in `realm`.
    #[must_use]
    pub fn new(realm: Realm, member: MemberId) -> Self {
        SpiffeId { realm, member }
    }

    /// The trust domain.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// The member named.
    #[must_use]
    pub fn member(&self) -> &MemberId {
        &self.member
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/member/{}", self.realm, self.member)
    }
}

impl FromStr for SpiffeId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = BadId { what: "SPIFFE id", rule: "spiffe://REALM/member/ID" };
        let (realm, member) = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once("/member/")).ok_or(bad)?;
        Ok(SpiffeId { realm: realm.parse().map_err(|_| bad)?, member: member.parse().map_err(|_| bad)? })
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_follow_the_pin() {
        for good in ["mops", "pup-lodz", "a", "0"] {
            assert_eq!(good.parse::<MemberId>().unwrap().as_str(), good);
        }
        for bad in ["", "MOPS", "a_b", "ą", "a b", &"x".repeat(33)] {
            assert!(bad.parse::<MemberId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spiffe_ids_round_trip_and_refuse_other_paths() {
        let id: SpiffeId = "spiffe://lodz.example/member/mops".parse().unwrap();
        assert_eq!((id.realm().as_str(), id.member().as_str()), ("lodz.example", "mops"));
        assert_eq!(id.to_string(), "spiffe://lodz.example/member/mops");
        for bad in ["spiffe://lodz.example/mops", "https://lodz.example/member/mops", "spiffe:///member/x"] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_residents_do_not_print() {
        assert_eq!(format!("{:?} {:?}", Index([7; 32]), SubjectId([8; 32])), "Index(…) SubjectId(…)");
    }
}
