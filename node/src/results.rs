//! Outcomes kept for the user who asked, so that an application may fetch them again, the values of each for a day after
//! they came, or until they must be deleted if that is sooner; and the questions among them that wait for a person at
//! their holder, until that person must have decided.

use crate::ask::{self, AskError, Asked, Outcome, OutcomeKind, PendingAsk, Put, QueryBody, QueryResult};
use crate::grants::GrantError;
use crate::node::Node;
use crate::store::{StoreError, Table};
use crate::tokens::Caller;
use crate::trace::Trace;
use keyring::random;
use protocol::encoding::{b64, unb64};
use protocol::jws;
use protocol::notice::Decided;
use protocol::time::DAY_SECONDS;
use protocol::{MemberId, Reason, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Released values are kept no longer than this.
const KEEP_SECONDS: i64 = DAY_SECONDS;

/// Queries being put: who comes with the same id waits for the first.
#[derive(Default)]
pub(crate) struct InProgress(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

/// A turn to put a query; the next one comes when it is dropped.
pub(crate) struct Turn(#[expect(dead_code, reason = "held, not read")] tokio::sync::OwnedMutexGuard<()>);

impl InProgress {
    /// Waits for the turn to put query `id`.
    pub(crate) async fn begin(&self, id: &str) -> Turn {
        let lock = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those nobody holds or waits for are over.
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
            all.entry(id.to_owned()).or_default().clone()
        };
        Turn(lock.lock_owned().await)
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    until: Timestamp,
    user: [u8; 32],
    /// Digest of what was asked, so that a key used again for another question is noticed.
    asked: [u8; 32],
    result: QueryResult,
    /// Until when the values of each outcome are kept, in their order.
    #[serde(default)]
    values_until: Vec<Timestamp>,
    /// What waits, and what is needed to put it again; sealed like all of this table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waits: Option<Waits>,
}

impl Kept {
    /// Takes out values whose time is over; whether there were any.
    fn forget(&mut self, now: Timestamp) -> bool {
        let mut forgot = false;
        for (outcome, until) in self.result.outcomes.iter_mut().zip(&self.values_until) {
            let Outcome { present, fields, matches, .. } = outcome;
            let holds = present.is_some() || !fields.is_empty() || !matches.is_empty();
            if holds && *until < now {
                (*present, *fields, *matches) = (None, BTreeMap::new(), BTreeMap::new());
                forgot = true;
            }
        }
        forgot
    }

    /// Until when the values at `place` are kept, if they came before.
    fn answered_until(&self, place: usize) -> Option<Timestamp> {
        let answered = self.result.outcomes.get(place)?.outcome == OutcomeKind::Answered;
        self.values_until.get(place).copied().filter(|_| answered)
    }
}

/// Until when the values of an outcome that comes `now` are kept.
fn values_until(outcome: &Outcome, now: Timestamp) -> Timestamp {
    let day = now + KEEP_SECONDS;
    outcome.obligations.as_ref().map_or(day, |duties| day.min(Timestamp(duties.delete_after)))
}

#[derive(Serialize, Deserialize)]
struct Waits {
    body: QueryBody,
    pending: Vec<PendingAsk>,
    /// When it was put last.
    put: Timestamp,
}

/// A question of ours that waits, as its holder knows it.
#[derive(Serialize, Deserialize)]
struct Notice {
    holder: MemberId,
    decided: bool,
    until: Timestamp,
}

/// Without a word of the holder, a waiting question is not put again sooner than this.
const POLL_SECONDS: i64 = 60;

/// The id of a new query, or the one a caller's idempotency key stands for.
pub(crate) fn query_id(node: &Node, caller: &Caller, key: Option<&str>) -> std::io::Result<String> {
    let id = match key {
        None => random()?,
        Some(key) => {
            let mac = node.macs.staff.mac(&[b"idempotency\0", caller.staff.as_bytes(), &[0], key.as_bytes()]);
            let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = mac;
            id
        }
    };
    Ok(b64(&id))
}

/// Keeps a result for its asker, with what of it waits.
pub(crate) fn keep(
    node: &Node,
    caller: &Caller,
    digest: [u8; 32],
    body: QueryBody,
    asked: &Asked,
) -> Result<(), StoreError> {
    let Some(key) = unb64::<16>(&asked.result.id) else { return Ok(()) };
    let now = node.clock.now();
    let waits_until = asked.pending.iter().map(|pending| pending.until).max();
    let until = waits_until.map_or(now, |until| until.max(now)) + KEEP_SECONDS;
    let waits = (!asked.pending.is_empty()).then(|| Waits { body, pending: asked.pending.clone(), put: now });
    let result = asked.result.clone();
    node.store.write(|write| {
        let before = write.get::<Kept>(Table::RESULTS, &key)?.filter(|before| now <= before.until);
        let values_until = result.outcomes.iter().enumerate().map(|(place, outcome)| {
            let earlier = before.as_ref().and_then(|before| before.answered_until(place));
            earlier.unwrap_or_else(|| values_until(outcome, now))
        });
        let values_until = values_until.collect();
        let kept = Kept { until, user: user(node, caller), asked: digest, result, values_until, waits };
        for PendingAsk { ask, request, until, .. } in &asked.pending {
            let Some(holder) = ask.holder.clone() else { continue };
            write.put(Table::WAITING, request, &Notice { holder, decided: false, until: *until })?;
        }
        write.put(Table::RESULTS, &key, &kept)
    })
}

/// What came of an earlier query; what waited is fetched if its holder decided, or was not asked for a while.
pub(crate) async fn collect(node: &Arc<Node>, caller: &Caller, id: &str) -> Result<Option<QueryResult>, AskError> {
    let _turn = node.asking.begin(id).await;
    let now = node.clock.now();
    let Some(Kept { asked, mut result, waits, .. }) = kept(node, caller, id, now)? else { return Ok(None) };
    let Some(Waits { mut body, pending, put }) = waits else { return Ok(Some(result)) };
    let Sorted { due, waiting, lapsed } = due(node, pending, put, now)?;
    for pending in &lapsed {
        if let Some(place) = result.outcomes.get_mut(pending.place) {
            *place = ask::lapsed(&pending.ask);
        }
    }
    if due.is_empty() {
        return Ok(Some(result));
    }
    body.asks = due.iter().map(|pending| pending.ask.clone()).collect();
    let again = ask::ask(node, caller, &body, id.to_owned(), Put::Again, Trace::new()?).await?;
    // Each was put to one holder: one outcome each, in their order; what got none stays as it was.
    let mut still = waiting;
    if again.result.outcomes.len() == due.len() {
        for (pending, outcome) in due.iter().zip(again.result.outcomes) {
            // A holder out of reach has not decided.
            if outcome.outcome == OutcomeKind::Unavailable && now <= pending.until {
                still.push(pending.clone());
            } else if let Some(place) = result.outcomes.get_mut(pending.place) {
                *place = outcome;
            }
        }
        let places = again.pending.into_iter().filter_map(|p| Some(PendingAsk { place: due.get(p.place)?.place, ..p }));
        still.extend(places);
    } else {
        still.extend(due);
    }
    keep(node, caller, asked, body, &Asked { result: result.clone(), pending: still })?;
    Ok(Some(result))
}

/// Waiting questions, sorted.
#[derive(Default)]
struct Sorted {
    /// To be put again.
    due: Vec<PendingAsk>,
    /// Not yet.
    waiting: Vec<PendingAsk>,
    /// Nobody decided in time.
    lapsed: Vec<PendingAsk>,
}

fn due(node: &Node, pending: Vec<PendingAsk>, put: Timestamp, now: Timestamp) -> Result<Sorted, StoreError> {
    let read = node.store.read()?;
    let mut out = Sorted::default();
    for pending in pending {
        let notice: Option<Notice> = read.get(Table::WAITING, &pending.request)?;
        let into = if notice.is_some_and(|notice| notice.decided) {
            &mut out.due
        } else if now > pending.until {
            &mut out.lapsed
        } else if now - put >= POLL_SECONDS {
            &mut out.due
        } else {
            &mut out.waiting
        };
        into.push(pending);
    }
    Ok(out)
}

/// Takes a holder's word that somebody decided a question of ours.
pub(crate) fn take_decided(node: &Node, peer: &MemberId, token: &str) -> Result<(), GrantError> {
    let held = node.manifest().map_err(GrantError::Closed)?;
    let now = node.now().map_err(GrantError::Closed)?;
    let decided: Decided =
        jws::verify(token, |kid| held.signer(kid, now)).map_err(|_| GrantError::Refused(Reason::SignatureInvalid))?;
    if &decided.iss != peer || decided.aud != node.config.member {
        return Err(GrantError::Refused(Reason::AudienceWrong));
    }
    node.store.write(|write| {
        let notice: Option<Notice> = write.get(Table::WAITING, &decided.request.0)?;
        // What nobody waits for is not kept.
        let Some(notice) = notice.filter(|notice| &notice.holder == peer) else { return Ok(()) };
        Ok(write.put(Table::WAITING, &decided.request.0, &Notice { decided: true, ..notice })?)
    })
}

/// A result kept for this caller, with the digest of what was asked.
pub(crate) fn find(node: &Node, caller: &Caller, id: &str) -> Result<Option<([u8; 32], QueryResult)>, StoreError> {
    Ok(kept(node, caller, id, node.clock.now())?.map(|kept| (kept.asked, kept.result)))
}

/// What is kept of a result for this caller.
fn kept(node: &Node, caller: &Caller, id: &str, now: Timestamp) -> Result<Option<Kept>, StoreError> {
    let Some(key) = unb64::<16>(id) else { return Ok(None) };
    let kept: Option<Kept> = node.store.read()?.get(Table::RESULTS, &key)?;
    let mut kept = kept.filter(|kept| now <= kept.until && kept.user == user(node, caller));
    if let Some(kept) = &mut kept {
        kept.forget(now);
    }
    Ok(kept)
}

/// Forgets what is past its time.
pub(crate) fn sweep(node: &Node) -> Result<(), StoreError> {
    let now = node.clock.now();
    let (old, lighter) = {
        let read = node.store.read()?;
        let (mut old, mut lighter) = (Vec::new(), Vec::new());
        for row in read.each::<Kept>(Table::RESULTS)? {
            let (key, mut kept) = row?;
            if kept.until < now {
                old.push((Table::RESULTS, key));
            } else if kept.forget(now) {
                lighter.push(key);
            }
        }
        for row in read.each::<Notice>(Table::WAITING)? {
            let (key, notice) = row?;
            if notice.until + KEEP_SECONDS < now {
                old.push((Table::WAITING, key));
            }
        }
        (old, lighter)
    };
    if old.is_empty() && lighter.is_empty() {
        return Ok(());
    }
    node.store.write(|write| {
        for key in &lighter {
            // More may have come since.
            if let Some(mut kept) = write.get::<Kept>(Table::RESULTS, key)? {
                kept.forget(now);
                write.put(Table::RESULTS, key, &kept)?;
            }
        }
        old.iter().try_for_each(|(table, key)| write.remove(*table, key).map(drop))
    })
}

fn user(node: &Node, caller: &Caller) -> [u8; 32] {
    node.macs.staff.mac(&[caller.staff.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_795_262_400);

    fn outcome(of: serde_json::Value) -> Outcome {
        serde_json::from_value(of).unwrap()
    }

    #[test]
    fn values_go_each_at_its_own_time() {
        let soon = json!({ "delete_after": NOW.0 + 60, "onward_transfer": false });
        let late = json!({ "delete_after": NOW.0 + 30 * KEEP_SECONDS, "onward_transfer": false });
        let outcomes = vec![
            outcome(json!({ "query": "q01", "outcome": "answered", "present": true, "obligations": soon })),
            outcome(
                json!({ "query": "q02", "outcome": "answered", "fields": { "pup.status": ["x"] }, "obligations": late }),
            ),
            outcome(json!({ "query": "q09", "outcome": "answered", "matches": { "person.surname": "match" } })),
            outcome(json!({ "query": "q11", "outcome": "pending" })),
        ];
        let mut kept = Kept {
            until: NOW + 8 * KEEP_SECONDS,
            user: [0; 32],
            asked: [0; 32],
            values_until: outcomes.iter().map(|outcome| values_until(outcome, NOW)).collect(),
            result: QueryResult { id: String::new(), outcomes },
            waits: None,
        };
        let held = |kept: &Kept| {
            let holds = |o: &Outcome| o.present.is_some() || !o.fields.is_empty() || !o.matches.is_empty();
            kept.result.outcomes.iter().map(holds).collect::<Vec<_>>()
        };
        for (after, forgot, holds) in [
            (60, false, [true, true, true, false]),
            (61, true, [false, true, true, false]),
            (KEEP_SECONDS, false, [false, true, true, false]),
            (KEEP_SECONDS + 1, true, [false; 4]),
        ] {
            assert_eq!((kept.forget(NOW + after), held(&kept)), (forgot, holds.to_vec()), "{after} s");
        }
        assert!(kept.result.outcomes.iter().take(3).all(|outcome| outcome.outcome == OutcomeKind::Answered));
        assert_eq!((kept.answered_until(0), kept.answered_until(3)), (Some(NOW + 60), None));
    }
}
