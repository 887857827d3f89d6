//! By whose keys a log or an export is verified: those it came with, which anybody who makes a directory can make up,
//! one that was typed, or those of the federation's manifest.

use crate::exit::{Failure, chain};
use crate::files::read_json;
use crate::output::utc;
use audit::{Against, Checkpoint, Vkey};
use protocol::manifest::{KeyUse, MemberKey};
use protocol::{Manifest, MemberId, SignedManifest};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// How old the newest cosignature may be beside entries behind it: members cosign every 15 seconds.
const FRESH_SECONDS: i64 = 60 * 60;

/// A manifest as its officers signed it, with the fingerprint that people compare.
pub(crate) struct Federation {
    pub(crate) manifest: Manifest,
    pub(crate) fingerprint: String,
}

impl Federation {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let signed: SignedManifest = read_json(path)?;
        Ok(Federation { manifest: signed.accept_held()?, fingerprint: signed.fingerprint() })
    }

    /// Whether it is an earlier one of the federation of `later`.
    pub(crate) fn precedes(&self, later: &Manifest) -> bool {
        self.manifest.realm == later.realm && self.manifest.version < later.version
    }

    /// What a document says of the manifest it went by.
    pub(crate) fn named(&self) -> Value {
        json!({ "version": self.manifest.version, "fingerprint": self.fingerprint })
    }

    /// The same for people.
    pub(crate) fn words(&self) -> String {
        format!("by the manifest of version {}, fingerprint {}", self.manifest.version, self.fingerprint)
    }
}

pub(crate) fn unverified(error: &audit::Fault) -> Failure {
    Failure::new("verification_failed", chain(error))
}

/// The keys that count.
#[derive(Debug, Default)]
pub(crate) struct Pinned {
    log: Option<Vkey>,
    /// The other members' witnesses, and from how many of these members a checkpoint has to have a cosignature.
    witnesses: Option<(Vec<Vkey>, usize)>,
}

impl Pinned {
    /// The keys for the log in `dir`: its own as typed, and what the manifest lists.
    pub(crate) fn of(dir: &Path, vkey: Option<&str>, federation: Option<&Federation>) -> Result<Self, Failure> {
        let typed = vkey.map(Vkey::parse).transpose().map_err(|e| Failure::new("value", chain(&e)))?;
        let Some(Federation { manifest, .. }) = federation else { return Ok(Pinned { log: typed, witnesses: None }) };
        let own = audit::identity(dir).map_err(|e| unverified(&e))?;
        let owner = owner(&own, manifest)?;
        let listed = keys(manifest, &owner, KeyUse::Log)
            .filter_map(|key| witness::log_key(own.name(), &key.key).ok())
            .any(|key| key == own);
        if !listed {
            let why = format!("{own} is no key that the manifest lists for the log of {owner}");
            return Err(Failure::new("verification_failed", why));
        }
        let others: Vec<&MemberId> = manifest.members.iter().map(|m| &m.id).filter(|id| **id != owner).collect();
        let of = |id: &MemberId| {
            let key = |key: &MemberKey| witness::witness_key(&manifest.realm, id, &key.key).ok();
            keys(manifest, id, KeyUse::Cosign).filter_map(key).collect::<Vec<_>>()
        };
        let needed = witness::NEEDED.min(others.len());
        let witnesses = others.into_iter().flat_map(of).collect();
        Ok(Pinned { log: Some(typed.unwrap_or(own)), witnesses: Some((witnesses, needed)) })
    }

    /// The same, for verifying, with checkpoints that others kept.
    pub(crate) fn against<'a>(&'a self, known: &'a [Checkpoint]) -> Against<'a> {
        Against { log: self.log.as_ref(), witnesses: self.witnesses.as_ref().map(|(keys, _)| keys.as_slice()), known }
    }

    /// The log's key, where it is known.
    pub(crate) fn log(&self) -> Option<&Vkey> {
        self.log.as_ref()
    }

    /// Who of the manifest's members cosigned a checkpoint that somebody kept.
    pub(crate) fn cosigners<'a>(&'a self, known: &'a Checkpoint) -> impl Iterator<Item = &'a str> {
        let keys = self.witnesses.iter().flat_map(|(keys, _)| keys);
        keys.filter(|key| known.cosigned_by(key).is_ok()).map(Vkey::name)
    }

    /// Whether the witnesses' keys are the manifest's.
    pub(crate) fn knows_witnesses(&self) -> bool {
        self.witnesses.is_some()
    }

    /// Refuses a cosigned checkpoint that too few members vouch for.
    pub(crate) fn enough(&self, cosigned: u64, witnesses: &[(Vkey, u64)]) -> Result<(), Failure> {
        let Some((_, needed)) = &self.witnesses else { return Ok(()) };
        let names: BTreeSet<&str> = witnesses.iter().map(|(key, _)| key.name()).collect();
        if cosigned == 0 || names.len() >= *needed {
            return Ok(());
        }
        let why = format!("{} of the manifest's members cosigned the checkpoint, {needed} have to", names.len());
        Err(Failure::new("verification_failed", why))
    }

    /// Refuses a log of `entries` that nobody of the manifest's members vouches for, or has not for an hour at `at`: its
    /// owner may have rewritten what they did not cosign.
    pub(crate) fn covered(
        &self,
        entries: u64,
        cosigned: u64,
        witnesses: &[(Vkey, u64)],
        at: i64,
    ) -> Result<(), Failure> {
        if self.witnesses.is_none() || cosigned >= entries {
            return Ok(());
        }
        let newest = witnesses.iter().map(|(_, time)| i64::try_from(*time).unwrap_or(i64::MAX)).max();
        let why = match newest {
            None => "none of the manifest's members cosigned any of it".to_owned(),
            Some(newest) if at - newest <= FRESH_SECONDS => return Ok(()),
            Some(newest) => {
                format!("the members cosigned {cosigned} of {entries} entries, at {}, and nothing since", utc(newest))
            }
        };
        let next = "if that is known and the rest is enough, say --uncosigned";
        Err(Failure::new("verification_failed", format!("{why}: {next}")))
    }

    /// What that says of cosignatures, for people.
    pub(crate) fn words(&self) -> &'static str {
        if self.knows_witnesses() {
            "cosignatures are checked under the manifest's keys"
        } else {
            "cosignatures are unchecked: their keys are those it came with; give --manifest"
        }
    }
}

/// Whose log it is: `REALM/MEMBER`, with more behind it once it went on or for an instance.
fn owner(log: &Vkey, manifest: &Manifest) -> Result<MemberId, Failure> {
    let other = || Failure::new("verification_failed", format!("{} is no log of {}", log.name(), manifest.realm));
    let rest = log.name().strip_prefix(manifest.realm.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let id = rest.and_then(|rest| rest.split('/').next()).and_then(|id| id.parse().ok()).ok_or_else(other)?;
    manifest.member(&id).map(|member| member.id.clone()).ok_or_else(other)
}

/// Keys of a member, past ones too: what they signed was signed. Not those taken back: whoever has one may sign anything.
fn keys<'a>(manifest: &'a Manifest, id: &MemberId, usage: KeyUse) -> impl Iterator<Item = &'a MemberKey> {
    manifest
        .member(id)
        .into_iter()
        .flat_map(|member| &member.keys)
        .filter(move |key| key.usage == usage && key.revoked_at.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_members_have_long_not_cosigned_is_not_covered() {
        let witness = |time| vec![(Vkey::witness("r.pl/pup/witness", [1; 32]).unwrap(), time)];
        let known = Pinned { log: None, witnesses: Some((Vec::new(), 1)) };
        let refused = |pinned: &Pinned, cosigned, times: &[(Vkey, u64)], at| {
            pinned.covered(10, cosigned, times, at).err().map(|failure| failure.code)
        };
        let verification = Some("verification_failed".to_owned());
        assert_eq!(refused(&known, 10, &witness(1_000), 1_000_000), None, "all of it");
        assert_eq!(refused(&known, 9, &witness(1_000), 1_000 + FRESH_SECONDS), None, "seconds are always behind");
        assert_eq!(refused(&known, 9, &witness(1_000), 1_001 + FRESH_SECONDS), verification);
        assert_eq!(refused(&known, 0, &[], 1_000), verification);
        assert_eq!(refused(&Pinned::default(), 0, &[], 1_000), None, "no manifest says that there are members");
    }
}
