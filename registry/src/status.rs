//! `GET /v1/status`: what the operator wants to know of a running registry. Asked with the registry's own certificate.

use crate::errors::Refusal;
use crate::meters::Tally;
use crate::server::Registry;
use axum::Json;
use axum::extract::State;
use protocol::manifest::{Duty, KeyEpoch, Quotas};
use protocol::{MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use transport::Peer;

/// Valid PESEL numbers there are, about: one for every date of birth and serial number whose checksum holds, over the
/// years in which people now alive were born.
const VALID_PESELS: u64 = 390_000_000;
const DAYS: u64 = 365;

/// The state of a registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Rows of the index: entries, traces of removed ones, planted ones. Of a large database about as many.
    pub rows: u64,
    /// Where they are kept: `embedded` or `postgres`.
    pub engine: String,
    /// What of the engine's setting up could be safer.
    pub warnings: Vec<String>,
    /// Why the registry would not answer members now, as a code.
    pub closed: Option<String>,
    /// The manifest's version.
    pub manifest: u64,
    /// Until when it holds.
    pub expires: Timestamp,
    /// The number of the revocation list held.
    pub crl: Option<u64>,
    /// Entries of the registry's own log.
    pub log: u64,
    /// How many of them others vouch for.
    pub cosigned: witness::Coverage,
    /// Every institution.
    pub members: Vec<MemberStatus>,
}

/// One institution, as the registry has seen it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its id.
    pub id: MemberId,
    /// Evaluations a day at each key holder.
    pub evaluations_per_day: u64,
    /// Evaluations a holder answers at once.
    pub evaluations_burst: u64,
    /// Further evaluations of a first enrolment that has not ended.
    pub first_enrolment: u64,
    /// Identifiers it could turn into pseudonyms in a year by spending all that at every holder under every key, and using
    /// a share of its own without counting.
    pub identifiers_per_year: u64,
    /// The same as a share of all valid PESEL numbers, per cent.
    pub pesel_percent_per_year: f64,
    /// Indexes located today without an own entry.
    pub misses_today: u64,
    /// New entries in this period of 30 days, first enrolment included.
    pub posted: u64,
    /// Of those after it, entries that met another member's.
    pub met: u64,
}

pub(crate) async fn serve(State(registry): State<Arc<Registry>>, Peer(peer): Peer) -> Result<Json<Status>, Refusal> {
    if peer.spiffe != registry.config.spiffe() {
        return Err(Refusal::NotOurselves);
    }
    registry.status().await.map(Json)
}

impl Registry {
    /// The state of this registry.
    ///
    /// # Errors
    /// There is no manifest, or the index cannot be read.
    pub async fn status(&self) -> Result<Status, Refusal> {
        let held = self.manifests.held().ok_or(Refusal::ManifestMissing)?;
        let (manifest, now) = (&held.manifest, self.clock.now());
        let tallies = self.tallies_now(manifest, now).await?;
        let member = |(id, tally): (MemberId, Tally)| {
            let member = manifest.member(&id).filter(|member| !member.roles.contains(&Duty::Registry))?;
            let first_enrolment = member
                .quotas
                .first_enrolment
                .as_ref()
                .filter(|raised| now <= raised.until)
                .map_or(0, |r| r.evaluations);
            let evaluations = yearly(&member.quotas, first_enrolment);
            let identifiers_per_year = dictionary_rate(&manifest.epochs, &id, evaluations, now);
            Some(MemberStatus {
                id,
                evaluations_per_day: member.quotas.evaluations_per_day,
                evaluations_burst: member.quotas.evaluations_burst,
                first_enrolment,
                identifiers_per_year,
                pesel_percent_per_year: percent(identifiers_per_year),
                misses_today: tally.misses_today,
                posted: tally.posted,
                met: tally.met,
            })
        };
        Ok(Status {
            rows: self.store.size().await?,
            engine: match self.config.engine {
                crate::Engine::Embedded => "embedded",
                crate::Engine::Postgres => "postgres",
            }
            .to_owned(),
            warnings: self.store.ready().await?,
            closed: self.ready().await.err().map(|refusal| refusal.problem().code),
            manifest: manifest.version,
            expires: manifest.expires,
            crl: self.crl_number(),
            log: self.log().size(),
            cosigned: self.circle.coverage(),
            members: tallies.into_iter().filter_map(member).collect(),
        })
    }
}

/// Evaluations at each holder in a year.
fn yearly(quotas: &Quotas, first_enrolment: u64) -> u64 {
    let daily = quotas.evaluations_per_day.saturating_mul(DAYS);
    daily.saturating_add(quotas.evaluations_burst).saturating_add(first_enrolment)
}

/// Identifiers that `evaluations` at each holder are good for at most.
///
/// An identifier costs an evaluation at t holders; every one of n has a quota of its own, so that a member that spreads its
/// requests over all quorums gets n/t times one holder's. One that holds a share need not count its own: it asks t−1 of the
/// n−1 others. Holders count by key, so that the rates of all keys that still answer add up.
fn dictionary_rate(epochs: &[KeyEpoch], member: &MemberId, evaluations: u64, now: Timestamp) -> u64 {
    let live = epochs.iter().filter(|epoch| !epoch.is_over(now));
    let rate = |epoch: &KeyEpoch| {
        let own = usize::from(epoch.holders.iter().any(|holder| &holder.member == member));
        let others = u64::try_from(epoch.holders.len() - own).unwrap_or(u64::MAX);
        match usize::from(epoch.threshold).saturating_sub(own) {
            // Whoever holds a whole key asks nobody.
            0 => u64::MAX,
            asked => evaluations.saturating_mul(others) / u64::try_from(asked).unwrap_or(u64::MAX),
        }
    };
    live.map(rate).fold(0, u64::saturating_add)
}

#[expect(clippy::cast_precision_loss, reason = "a rough share")]
fn percent(identifiers: u64) -> f64 {
    identifiers.min(VALID_PESELS) as f64 * 100.0 / VALID_PESELS as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::manifest::KeyHolder;
    use protocol::{Bytes, Epoch};
    use std::collections::BTreeMap;

    #[test]
    fn the_dictionary_rate_counts_every_quota_and_quorum() {
        let quotas = Quotas { evaluations_burst: 1_000, evaluations_per_day: 2_000, first_enrolment: None };
        assert_eq!(yearly(&quotas, 0), 731_000);
        assert_eq!(yearly(&quotas, 22_000), 753_000);
        assert!((percent(731_000 * 3 / 2) - 0.281).abs() < 0.001);
        assert!((percent(u64::MAX) - 100.0).abs() < f64::EPSILON);

        let [mops, pup, css, zlm]: [MemberId; 4] = ["mops", "pup", "css", "zlm"].map(|id| id.parse().unwrap());
        let holder =
            |(member, id): (&MemberId, u16)| KeyHolder { id, member: member.clone(), public_share: Bytes(vec![]) };
        let epoch = |number, threshold, holders: &[&MemberId], destroy_at: Option<i64>| KeyEpoch {
            epoch: Epoch(number),
            generation: 1,
            threshold,
            group_key: Bytes(vec![]),
            holders: holders.iter().copied().zip(1..).map(holder).collect(),
            transcript: Bytes(vec![]),
            not_before: Timestamp(0),
            destroy_at: destroy_at.map(Timestamp),
            signatures: BTreeMap::new(),
        };
        let one = [epoch(1, 2, &[&mops, &pup, &css], None)];
        let rate = |epochs: &[KeyEpoch], member, now| dictionary_rate(epochs, member, 1_000, Timestamp(now));
        assert_eq!(rate(&one, &zlm, 0), 1_500, "two of three: half as many again");
        assert_eq!(rate(&one, &mops, 0), 2_000, "its own share needs one other, of two");
        let two = [epoch(1, 2, &[&mops, &pup, &css], Some(50)), epoch(2, 3, &[&mops, &pup, &css, &zlm], None)];
        assert_eq!(rate(&two, &css, 49), 2_000 + 1_500, "each key has meters of its own");
        assert_eq!(rate(&two, &css, 50), 1_500, "a key that is over answers nobody");
        let whole = [epoch(1, 1, &[&mops, &pup], None)];
        assert_eq!(rate(&whole, &mops, 0), u64::MAX, "whoever has the whole key asks nobody");
    }
}
