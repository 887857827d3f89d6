//! Asking the others: to cosign our newest checkpoint, and what they cosigned before.

use crate::{Circle, witness_key};
use audit::{Checkpoint, Fault, Step, Submission, SubmitError, Vkey};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request};
use protocol::manifest::{KeyUse, Member};
use protocol::{Manifest, MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use transport::{CallError, Client};

/// Cosignatures of other members that a checkpoint needs before it counts (docs/AUDIT.md); fewer where there are fewer.
pub const NEEDED: usize = 2;
/// For one call.
const DEADLINE: Duration = Duration::from_secs(3);

/// How much of the log others vouch for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Entries under a checkpoint that enough others cosigned.
    pub entries: u64,
    /// How long some entry has waited for that, in seconds; `None` before the first time.
    pub age_seconds: Option<i64>,
}

/// Another member as a witness.
struct Other<'m> {
    member: &'m Member,
    url: &'m str,
    keys: Vec<Vkey>,
}

impl Circle {
    /// How much others vouch for now.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let (now, size, published) = (self.clock.now(), self.log.size(), self.log.published_checkpoint());
        let newest = self.log.newest_checkpoint();
        let covered_at = self.standing().covered_at;
        // Before the first cosigned one, what is published is cosigned by nobody.
        let cosigned = if published.note() == newest.note() { 0 } else { published.size() };
        let age = covered_at.map(|at| if cosigned >= size { 0 } else { now - at });
        Coverage { entries: covered_at.map_or(0, |_| cosigned), age_seconds: age }
    }

    /// Asks every other member to cosign our newest checkpoint, and keeps it with their cosignatures once there are
    /// enough. One that has cosigned more than we have, or another tree, is believed as far as it can show it.
    ///
    /// # Errors
    /// [`Fault::Shorter`] or [`Fault::Rewritten`]: our log is not what was cosigned, and takes nothing any more. Others
    /// when files cannot be read or written.
    pub async fn gather(self: &Arc<Self>, client: &Client, manifest: &Manifest) -> Result<(), Fault> {
        let _alone = self.gathering.lock().await;
        self.follow(manifest);
        let (now, others) = (self.clock.now(), self.others(manifest));
        let newest = self.log.newest_checkpoint();
        if newest.size() == 0 || others.is_empty() {
            return Ok(());
        }
        let needed = NEEDED.min(others.len());
        let published = self.log.published_checkpoint();
        if let Some(before) = self.cosigned_at(&published, &others, needed) {
            if published.size() >= newest.size() {
                self.standing().covered_at = Some(now);
                return Ok(());
            }
            self.standing().covered_at.get_or_insert(before);
        }
        let answers = join_all(others.iter().map(|other| self.submit(client, manifest, other, &newest))).await;
        let (mut cosigned, mut witnesses) = (newest, Vec::new());
        for (other, answer) in others.iter().zip(answers) {
            match answer {
                Ok(lines) => {
                    let by = other.keys.iter().find(|key| cosigned.add_cosignature(&lines, key).is_ok());
                    witnesses.extend(by.cloned());
                }
                Err(Unanswered::Refuted(fault)) => return Err(fault),
                Err(Unanswered::Not(why)) => {
                    tracing::warn!(witness = %other.member.id, why, "no cosignature");
                }
            }
        }
        if witnesses.len() < needed {
            tracing::warn!(found = witnesses.len(), needed, "the newest checkpoint is not cosigned by enough members");
            return Ok(());
        }
        let circle = self.clone();
        blocking(move || circle.log.keep_cosigned(&cosigned, &witnesses)).await?;
        self.standing().covered_at = Some(now);
        Ok(())
    }

    /// Holds our log against what the others cosigned of it: to be called at the start, before anything is appended.
    /// Whoever does not answer within `deadline` is passed over. How many answered.
    ///
    /// # Errors
    /// [`Fault::Shorter`] or [`Fault::Rewritten`]: the log was restored from a backup, or rewritten.
    pub async fn recall(
        self: &Arc<Self>,
        client: &Client,
        manifest: &Manifest,
        deadline: Duration,
    ) -> Result<usize, Fault> {
        self.follow(manifest);
        let others = self.others(manifest);
        let told = join_all(others.iter().map(|other| self.newest_at(client, manifest, other, deadline))).await;
        let mut answered = 0;
        for known in told {
            let Ok(known) = known else { continue };
            answered += 1;
            let circle = self.clone();
            if let Some(known) = known {
                blocking(move || circle.log.hold_against(&known)).await?;
            }
        }
        Ok(answered)
    }

    fn others<'m>(&self, manifest: &'m Manifest) -> Vec<Other<'m>> {
        let now = self.clock.now();
        let other = |member: &'m Member| {
            let keys = manifest.keys_of(&member.id, KeyUse::Cosign, now);
            let keys: Vec<Vkey> = keys.filter_map(|key| witness_key(&self.realm, &member.id, &key).ok()).collect();
            let url = member.endpoints.first().filter(|_| !keys.is_empty())?;
            Some(Other { member, url, keys })
        };
        manifest.members.iter().filter(|member| member.id != self.me).filter_map(other).collect()
    }

    /// When the `needed`th of the others cosigned.
    fn cosigned_at(&self, checkpoint: &Checkpoint, others: &[Other<'_>], needed: usize) -> Option<Timestamp> {
        let by = |other: &Other<'_>| other.keys.iter().find_map(|key| checkpoint.cosigned_by(key).ok());
        let mut times: Vec<u64> = others.iter().filter_map(by).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let time = times.get(needed.checked_sub(1)?)?;
        Some(Timestamp(i64::try_from(*time).unwrap_or(i64::MAX)).min(self.clock.now()))
    }

    /// One witness's signature lines.
    async fn submit(
        self: &Arc<Self>,
        client: &Client,
        manifest: &Manifest,
        other: &Other<'_>,
        newest: &Checkpoint,
    ) -> Result<String, Unanswered> {
        let id = &other.member.id;
        let old = self.standing().known.get(id).copied().unwrap_or_default();
        // Under a rotated key the first that verifies.
        let key = other.keys.first().ok_or(Unanswered::Not("has no key".to_owned()))?;
        let mut submission = Submission::new(newest.clone(), key.clone(), old);
        loop {
            let (circle, sending) = (self.clone(), submission.clone());
            let body = blocking(move || sending.body(&circle.log)).await.map_err(Unanswered::unread)?;
            let sent = send(client, manifest, id, other.url, Method::POST, "/add-checkpoint", body, DEADLINE).await;
            let (status, answer) = sent.map_err(|error| Unanswered::Not(error.to_string()))?;
            match submission.answer(status, &answer) {
                Ok(Step::Again) => {}
                Ok(Step::Cosigned { lines, .. }) => {
                    self.standing().known.insert(id.clone(), newest.size());
                    return Ok(lines);
                }
                Err(SubmitError::Ahead { .. } | SubmitError::Fork) => {
                    return Err(self.refuted_by(client, manifest, other).await);
                }
                Err(error) => return Err(Unanswered::Not(error.to_string())),
            }
        }
    }

    /// A witness says that it cosigned more than we have, or another tree: it is to show that, under our signature.
    async fn refuted_by(self: &Arc<Self>, client: &Client, manifest: &Manifest, other: &Other<'_>) -> Unanswered {
        match self.newest_at(client, manifest, other, DEADLINE).await {
            Ok(Some(known)) => {
                let circle = self.clone();
                match blocking(move || circle.log.hold_against(&known)).await {
                    Err(fault @ (Fault::Shorter { .. } | Fault::Rewritten { .. })) => Unanswered::Refuted(fault),
                    _ => Unanswered::Not("says that it cosigned another log and shows this one".to_owned()),
                }
            }
            _ => Unanswered::Not("says that it cosigned another log and cannot show it".to_owned()),
        }
    }

    /// The newest checkpoint of ours that another member cosigned, if it ever did: under our own signature.
    async fn newest_at(
        &self,
        client: &Client,
        manifest: &Manifest,
        other: &Other<'_>,
        deadline: Duration,
    ) -> Result<Option<Checkpoint>, ()> {
        let path = format!("/witnessed/{}", self.log.origin());
        let sent = send(client, manifest, &other.member.id, other.url, Method::GET, &path, Vec::new(), deadline).await;
        match sent.map_err(drop)? {
            (200, note) => {
                let note = str::from_utf8(&note).map_err(drop)?;
                Checkpoint::open(note, self.log.vkey()).map(Some).map_err(drop)
            }
            (404, _) => Ok(None),
            _ => Err(()),
        }
    }
}

/// Why a witness gave no cosignature.
enum Unanswered {
    /// It shows that our log is not what it was.
    Refuted(Fault),
    /// Anything else.
    Not(String),
}

impl Unanswered {
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    fn unread(fault: Fault) -> Self {
        Unanswered::Not(fault.to_string())
    }
}

#[expect(clippy::too_many_arguments, reason = "one call, spelled out")]
async fn send(
    client: &Client,
    manifest: &Manifest,
    to: &MemberId,
    url: &str,
    method: Method,
    path: &str,
    body: Vec<u8>,
    deadline: Duration,
) -> Result<(u16, Bytes), CallError> {
    let request = Request::builder().method(method).uri(path).body(Bytes::from(body));
    let request = request.map_err(|_| CallError::BadUrl)?;
    let answer = client.exchange(&manifest.spiffe(to), url, request, deadline).await?;
    Ok((answer.status().as_u16(), answer.into_body()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(Fault::Io { path: "log".into(), source: std::io::Error::other(error) }))
}
