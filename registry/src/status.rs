//! `GET /v1/status`: what the operator wants to know of a running registry. Asked with the registry's own certificate.

use crate::errors::Refusal;
use crate::meters::Tally;
use crate::server::Registry;
use axum::Json;
use axum::extract::State;
use protocol::manifest::{Duty, Manifest, Quotas};
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
    /// Identifiers it could turn into pseudonyms in a year by spending all that at every holder.
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
        let (numerator, denominator) = quorum_splitting(manifest);
        let member = |(id, tally): (MemberId, Tally)| {
            let member = manifest.member(&id).filter(|member| !member.roles.contains(&Duty::Registry))?;
            let first_enrolment = member
                .quotas
                .first_enrolment
                .as_ref()
                .filter(|raised| now <= raised.until)
                .map_or(0, |r| r.evaluations);
            let identifiers_per_year =
                yearly(&member.quotas, first_enrolment).saturating_mul(numerator) / denominator.max(1);
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

/// An identifier costs an evaluation at t holders; every one of n has a quota of its own, so that a member that spreads its
/// requests over all quorums gets n/t times one holder's. The worst of the epochs in the manifest, as n and t.
fn quorum_splitting(manifest: &Manifest) -> (u64, u64) {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let ratio = |epoch: &protocol::manifest::KeyEpoch| (count(epoch.holders.len()), u64::from(epoch.threshold));
    manifest.epochs.iter().map(ratio).max_by(|(n, t), (m, s)| (n * s).cmp(&(m * t))).unwrap_or((0, 1))
}

#[expect(clippy::cast_precision_loss, reason = "a rough share")]
fn percent(identifiers: u64) -> f64 {
    identifiers.min(VALID_PESELS) as f64 * 100.0 / VALID_PESELS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_rate_counts_every_quota_and_quorum() {
        let quotas = Quotas { evaluations_burst: 1_000, evaluations_per_day: 2_000, first_enrolment: None };
        assert_eq!(yearly(&quotas, 0), 731_000);
        assert_eq!(yearly(&quotas, 22_000), 753_000);
        // Two of three: half as many again.
        assert!((percent(731_000 * 3 / 2) - 0.281).abs() < 0.001);
        assert!((percent(u64::MAX) - 100.0).abs() < f64::EPSILON);
    }
}
