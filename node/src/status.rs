//! Status lists: our own, signed when asked for, and those of the recorders whose grants we hold.
//!
//! **After a backup was restored** our own list may lack withdrawals, and places taken since. Until everybody we have an
//! agreement with has said what it holds of the list, nobody gets it: followers' copies grow old, and its grants deny.

use crate::manifests::Held;
use crate::node::{Node, NodeError};
use crate::store::{StoreError, Table, Write};
use bytes::Bytes;
use policies::StatusFact;
use protocol::consent::{CompressedBits, Grant, STATUS_MAX_AGE_SECONDS, StatusBits, StatusCopy, StatusList};
use protocol::jws::{self, JwsError};
use protocol::{MemberId, Reason, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Key in `state` of our own list.
const OWN: &[u8] = b"status-list";
/// Key in `state` of the loss after which our own list was made whole last.
const WHOLE_SINCE: &[u8] = b"status-whole-since";
/// Places by which our own list grows: it is not written anew for each consent, nor does its length say how many there are.
const ROOM: u32 = 1 << 10;
/// A sequence number that no list reaches in earnest.
const MAX_SEQ: u64 = 1 << 48;
const DEADLINE: Duration = Duration::from_secs(2);
/// A list this old is fetched again before a decision.
const FETCH_AFTER_SECONDS: i64 = STATUS_MAX_AGE_SECONDS / 2;
/// A recorder that did not answer is not asked again for this long.
const PAUSE_SECONDS: i64 = 5;

/// Our own withdrawn consents.
#[derive(Default, Serialize, Deserialize)]
struct Own {
    seq: u64,
    next: u32,
    /// Places there are in `bits`.
    #[serde(default)]
    room: u32,
    bits: Option<CompressedBits>,
}

/// A list as kept: who follows must never go back.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    as_of: Timestamp,
    seq: u64,
    bits: CompressedBits,
}

/// A recorder's list, expanded.
#[derive(Clone)]
pub(crate) struct Status {
    as_of: Timestamp,
    seq: u64,
    bits: Arc<StatusBits>,
}

impl Status {
    /// What it says of one consent.
    pub(crate) fn fact(&self, position: u32) -> StatusFact {
        StatusFact { as_of: self.as_of, withdrawn: self.bits.is_set(position) }
    }
}

/// The lists followed.
#[derive(Default)]
pub(crate) struct Followed(Mutex<BTreeMap<MemberId, Follow>>);

#[derive(Default)]
struct Follow {
    status: Option<Status>,
    tried: Option<Timestamp>,
}

impl Write<'_> {
    /// Takes the next free position in our own list, which has room for [`ROOM`] more whenever it is full.
    pub(crate) fn next_status(&self) -> Result<u32, StoreError> {
        let mut own: Own = self.get(Table::STATE, OWN)?.unwrap_or_default();
        let position = own.next;
        own.next += 1;
        if position >= own.room {
            let mut bits = expand(own.bits.as_ref())?;
            own.room = position + ROOM;
            bits.set(own.room - 1, false);
            own.bits = Some(bits.compress()?);
        }
        own.seq += 1;
        self.put(Table::STATE, OWN, &own)?;
        Ok(position)
    }

    /// Sets a position of our own list.
    pub(crate) fn withdraw_status(&self, position: u32) -> Result<(), StoreError> {
        let mut own: Own = self.get(Table::STATE, OWN)?.unwrap_or_default();
        let mut bits = expand(own.bits.as_ref())?;
        bits.set(position, true);
        own.bits = Some(bits.compress()?);
        own.seq += 1;
        self.put(Table::STATE, OWN, &own)
    }
}

fn expand(bits: Option<&CompressedBits>) -> Result<StatusBits, StoreError> {
    bits.map_or_else(|| Ok(StatusBits::default()), |bits| bits.expand().ok_or(StoreError::Shape("state")))
}

impl Node {
    /// Our own list, signed now.
    pub(crate) fn own_status(&self) -> Result<String, NodeError> {
        if !self.list_is_whole()? {
            return Err(NodeError::System(std::io::Error::other("our status list is not whole yet")));
        }
        let own: Own = self.store.read()?.get(Table::STATE, OWN)?.unwrap_or_default();
        let held = self.manifest().map_err(|reason| NodeError::System(std::io::Error::other(reason.code())))?;
        let endpoint = held.manifest.member(&self.config.member).and_then(|me| me.endpoints.first());
        let list = StatusList {
            iss: self.config.member.clone(),
            sub: format!("{}/v1/status", endpoint.map_or("", |url| url.trim_end_matches('/'))),
            ttl: STATUS_MAX_AGE_SECONDS,
            iat: self.clock.now(),
            seq: own.seq,
            status_list: own.bits.map_or_else(|| StatusBits::default().compress(), Ok)?,
        };
        jws::sign(&self.keys.message, &list).map_err(|e| NodeError::System(std::io::Error::other(e)))
    }

    /// Whether our own list has what it had before a backup was restored, if one ever was.
    pub(crate) fn list_is_whole(&self) -> Result<bool, StoreError> {
        let Some(lost_at) = self.guard.lost_at() else { return Ok(true) };
        let since: Option<Timestamp> = self.store.read()?.get(Table::STATE, WHOLE_SINCE)?;
        Ok(since.is_some_and(|since| since >= lost_at))
    }

    /// What we hold of a recorder's list, for a recorder that lost it.
    pub(crate) fn copy_of(&self, recorder: &MemberId) -> Result<StatusCopy, StoreError> {
        let kept: Option<Kept> = self.store.read()?.get(Table::STATUSES, recorder.as_str().as_bytes())?;
        let empty = || StatusBits::default().compress().map(|status_list| StatusCopy { seq: 0, status_list });
        kept.map_or_else(|| Ok(empty()?), |kept| Ok(StatusCopy { seq: kept.seq, status_list: kept.bits }))
    }

    /// Makes our own list whole from what others hold of it, if it came from a backup; whether it is whole.
    pub(crate) async fn recall_status(&self) -> Result<bool, NodeError> {
        let Some(lost_at) = self.guard.lost_at() else { return Ok(true) };
        if self.list_is_whole()? {
            return Ok(true);
        }
        let (Ok(held), Ok(now)) = (self.manifest(), self.now()) else { return Ok(false) };
        let mut copies = Vec::new();
        for peer in held.manifest.audience(&self.config.member, now) {
            let Some(copy) = self.fetch_copy(&held, &peer).await else {
                tracing::warn!(%peer, "our status list stays closed until this member says what it holds of it");
                return Ok(false);
            };
            copies.push(copy);
        }
        self.store.write(|write| {
            let mut own: Own = write.get(Table::STATE, OWN)?.unwrap_or_default();
            let mut bits = expand(own.bits.as_ref())?;
            for (seq, copy) in &copies {
                own.seq = own.seq.max(*seq);
                own.next = own.next.max(bits.join(copy));
            }
            own.room = own.next;
            own.bits = Some(bits.compress()?);
            own.seq += 1;
            write.put(Table::STATE, OWN, &own)?;
            write.put(Table::STATE, WHOLE_SINCE, &lost_at)
        })?;
        tracing::warn!(copies = copies.len(), "our status list is whole again");
        Ok(true)
    }

    /// What `peer` holds of our list, if it says something that can be.
    async fn fetch_copy(&self, held: &Held, peer: &MemberId) -> Option<(u64, StatusBits)> {
        let url = held.manifest.member(peer).and_then(|m| m.endpoints.first())?;
        let request = http::Request::get("/v1/status/copy").body(Bytes::new()).ok()?;
        let answer = self.client.call(&held.manifest.spiffe(peer), url, request, DEADLINE).await.ok()?;
        let StatusCopy { seq, status_list } = serde_json::from_slice(answer.body()).ok()?;
        Some((seq, status_list.expand()?)).filter(|_| seq < MAX_SEQ)
    }

    /// Takes a recorder's list in; `false` if it is older than one held.
    pub(crate) fn take_status(&self, token: &str, from: &MemberId) -> Result<bool, Reason> {
        let held = self.manifest()?;
        let now = self.now()?;
        let list: StatusList =
            jws::verify(token, |kid| held.signer(kid, now)).map_err(|_: JwsError| Reason::SignatureInvalid)?;
        let bits = list.status_list.expand().ok_or(Reason::RequestMalformed)?;
        if &list.iss != from || !list.iat.not_ahead_of(now) || list.ttl > STATUS_MAX_AGE_SECONDS {
            return Err(Reason::RequestMalformed);
        }
        let mut followed = self.followed.0.lock().unwrap_or_else(PoisonError::into_inner);
        let follow = followed.entry(list.iss.clone()).or_default();
        let older = follow.status.as_ref().is_some_and(|s| list.seq < s.seq || list.iat < s.as_of);
        if older {
            return Ok(false);
        }
        let advanced = follow.status.as_ref().is_none_or(|s| s.seq < list.seq);
        if advanced {
            let kept = Kept { as_of: list.iat, seq: list.seq, bits: list.status_list };
            let put = self.store.write(|w| w.put(Table::STATUSES, list.iss.as_str().as_bytes(), &kept));
            put.map_err(|_: StoreError| Reason::NodeClosed)?;
        }
        follow.status = Some(Status { as_of: list.iat, seq: list.seq, bits: Arc::new(bits) });
        Ok(true)
    }

    /// What `recorder`'s list says, fetched again if it is getting old; nothing if there is none to be had.
    pub(crate) async fn status_of(&self, recorder: &MemberId, held: &Held) -> Option<Status> {
        let now = self.clock.now();
        if recorder == &self.config.member {
            if !self.list_is_whole().ok()? {
                return None;
            }
            let own: Own = self.store.read().ok()?.get(Table::STATE, OWN).ok()?.unwrap_or_default();
            let mut followed = self.followed.0.lock().unwrap_or_else(PoisonError::into_inner);
            let follow = followed.entry(recorder.clone()).or_default();
            // Every change has a number of its own: the same one needs no expanding again.
            let known = follow.status.take().filter(|status| status.seq == own.seq).map(|status| status.bits);
            let bits = match known {
                Some(bits) => bits,
                None => Arc::new(expand(own.bits.as_ref()).ok()?),
            };
            follow.status = Some(Status { as_of: now, seq: own.seq, bits });
            return follow.status.clone();
        }
        let due = {
            let mut followed = self.followed.0.lock().unwrap_or_else(PoisonError::into_inner);
            let follow = followed.entry(recorder.clone()).or_default();
            let old = follow.status.as_ref().is_none_or(|s| now - s.as_of > FETCH_AFTER_SECONDS);
            let due = old && follow.tried.is_none_or(|tried| now - tried > PAUSE_SECONDS);
            if due {
                follow.tried = Some(now);
            }
            due
        };
        if due {
            self.fetch_status(recorder, held).await;
        }
        self.followed.0.lock().unwrap_or_else(PoisonError::into_inner).get(recorder)?.status.clone()
    }

    /// Fetches `recorder`'s list now.
    pub(crate) async fn fetch_status(&self, recorder: &MemberId, held: &Held) {
        let url = held.manifest.member(recorder).and_then(|m| m.endpoints.first());
        let request = http::Request::get("/v1/status").body(Bytes::new());
        let (Some(url), Ok(request)) = (url, request) else { return };
        match self.client.call(&held.manifest.spiffe(recorder), url, request, DEADLINE).await {
            Ok(answer) => {
                let token = std::str::from_utf8(answer.body()).unwrap_or_default();
                if let Err(reason) = self.take_status(token, recorder) {
                    tracing::warn!(%recorder, reason = reason.code(), "a recorder's status list is not taken");
                }
            }
            Err(error) => tracing::warn!(%recorder, %error, "a recorder's status list cannot be fetched"),
        }
    }

    /// Sends our own list to those who follow it; who misses it polls.
    pub(crate) async fn push_status(&self, followers: impl Iterator<Item = &MemberId>) {
        let (Ok(held), Ok(list)) = (self.manifest(), self.own_status()) else { return };
        let complete = |to: &&MemberId| *to != &self.config.member && !self.owes_withdrawals(to);
        let pushes = followers.filter(complete).map(|to| {
            let (held, list) = (&held, Bytes::from(list.clone()));
            async move {
                let url = held.manifest.member(to).and_then(|m| m.endpoints.first());
                let request = http::Request::post("/v1/status").body(list);
                let (Some(url), Ok(request)) = (url, request) else { return };
                if let Err(error) = self.client.call(&held.manifest.spiffe(to), url, request, DEADLINE).await {
                    tracing::info!(%to, %error, "the status list was not pushed; it will be polled");
                }
            }
        });
        futures_util::future::join_all(pushes).await;
    }

    /// Everyone whose grants we hold, with the lists kept from before.
    pub(crate) fn load_followed(&self) -> Result<(), StoreError> {
        let read = self.store.read()?;
        let mut recorders = BTreeSet::new();
        for key in read.keys_with(Table::GRANTS, &[])? {
            recorders.extend(read.get::<Grant>(Table::GRANTS, &key)?.map(|grant| grant.iss));
        }
        let mut followed = self.followed.0.lock().unwrap_or_else(PoisonError::into_inner);
        for recorder in recorders {
            let kept: Option<Kept> = read.get(Table::STATUSES, recorder.as_str().as_bytes())?;
            let status = kept.map(|kept| {
                Ok::<_, StoreError>(Status {
                    as_of: kept.as_of,
                    seq: kept.seq,
                    bits: Arc::new(expand(Some(&kept.bits))?),
                })
            });
            followed.insert(recorder, Follow { status: status.transpose()?, tried: None });
        }
        Ok(())
    }

    /// Begins to follow a recorder.
    pub(crate) fn follow(&self, recorder: &MemberId) {
        self.followed.0.lock().unwrap_or_else(PoisonError::into_inner).entry(recorder.clone()).or_default();
    }

    /// Polls every recorder followed once.
    pub(crate) async fn poll_statuses(&self) {
        let Ok(held) = self.manifest() else { return };
        let recorders: Vec<MemberId> =
            self.followed.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let others = recorders.iter().filter(|r| *r != &self.config.member);
        futures_util::future::join_all(others.map(|recorder| self.fetch_status(recorder, &held))).await;
    }
}
