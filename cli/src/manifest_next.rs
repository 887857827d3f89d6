//! `ogniwo registry manifest next`: what key holders or officers decided, taken into the manifest that comes next.

use crate::agreement_command::read;
use crate::exit::Failure;
use node::Word;
use policies::Library;
use protocol::agreement::SignedAgreement;
use protocol::encoding::Bytes;
use protocol::manifest::KeyEpoch;
use protocol::{Epoch, Manifest, SignedManifest, Timestamp};
use std::path::{Path, PathBuf};

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// What is to change.
pub(crate) struct Changes<'a> {
    /// Results of ceremonies: new keys, or new shares of those there.
    pub(crate) epochs: &'a [PathBuf],
    /// Epochs to be destroyed, and when.
    pub(crate) destroy: &'a [(Epoch, Timestamp)],
    /// Agreements that both parties signed.
    pub(crate) agreements: &'a [PathBuf],
    /// Parties' words that agreements are over.
    pub(crate) revocations: &'a [PathBuf],
    /// The policy library that members go by.
    pub(crate) library: Option<&'a Path>,
    /// For how many days the manifest holds.
    pub(crate) days: u32,
}

/// The unsigned successor of `held`; it is checked as members will check it, but for the officers' signatures.
pub(crate) fn next(held: &SignedManifest, changes: &Changes<'_>, now: Timestamp) -> Result<SignedManifest, Failure> {
    let mut manifest = held.accept_held()?;
    manifest.version += 1;
    manifest.issued = now;
    manifest.expires = now + i64::from(changes.days) * DAY_SECONDS;
    for path in changes.epochs {
        take(&mut manifest, read::<KeyEpoch>(path)?);
    }
    for (epoch, at) in changes.destroy {
        let known = manifest.epochs.iter_mut().find(|known| known.epoch == *epoch);
        known.ok_or_else(|| Failure::new("value", format!("there is no epoch {}", epoch.0)))?.destroy_at = Some(*at);
    }
    for path in changes.agreements {
        manifest.agreements.push(read::<SignedAgreement>(path)?);
    }
    for path in changes.revocations {
        let Word { agreement, token, .. } = read(path)?;
        let known = manifest.agreements.iter_mut().find(|known| known.terms.reference() == agreement);
        known.ok_or_else(|| Failure::new("value", format!("there is no agreement {agreement}")))?.revocation =
            Some(token);
    }
    if let Some(directory) = changes.library {
        let library = Library::load(directory).map_err(|e| Failure::new("policies", e))?;
        manifest.library = Bytes(library.digest().to_vec());
    }
    manifest.check()?;
    Ok(SignedManifest::draft(&manifest)?)
}

/// Lists a new key, or new shares in the place of the old ones.
pub(crate) fn take(manifest: &mut Manifest, epoch: KeyEpoch) {
    match manifest.epochs.iter_mut().find(|known| known.epoch == epoch.epoch) {
        Some(known) => *known = KeyEpoch { destroy_at: known.destroy_at, ..epoch },
        None => manifest.epochs.push(epoch),
    }
}

/// `EPOCH=DATE`, the date as `2027-01-31`; the day's first moment in UTC.
pub(crate) fn destruction(text: &str) -> Result<(Epoch, Timestamp), String> {
    let (epoch, date) = text.split_once('=').ok_or("expected EPOCH=YYYY-MM-DD")?;
    let epoch = epoch.parse().map_err(|_| "the epoch is a number")?;
    let date: jiff::civil::Date = date.parse().map_err(|e| format!("{e}"))?;
    let at = jiff::tz::Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight()));
    Ok((Epoch(epoch), Timestamp(at.map_err(|e| e.to_string())?.as_second())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_destruction_is_its_first_moment() {
        assert_eq!(destruction("1=1970-01-02"), Ok((Epoch(1), Timestamp(86_400))));
        for wrong in ["1", "1=tomorrow", "x=2027-01-01", "1=2027-02-30"] {
            assert!(destruction(wrong).is_err(), "{wrong}");
        }
    }
}
