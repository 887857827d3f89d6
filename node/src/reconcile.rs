//! Both sides of every question, compared: each member gives a peer the entries that peer took part in, and what stands on
//! one side only, or otherwise on each, becomes a finding for the officer.
//!
//! What crosses is what the peer knows anyway: the request's digest, who asked whom, what came of it, when, names of
//! fields, and where it stands in our log. No resident, no user, no words.
//!
//! Each entry comes with the proof that it stands in the giver's tree, under a checkpoint that its log signed, and the
//! checkpoint with the proof that the tree grew from what the taker cosigned of it: what is handed over cannot be made up
//! for the occasion. Where a signed answer cited the giver's entry, it must be that one.
//!
//! An entry erased at a resident's demand or after its time says nothing any more, and its other side stands alone. It names
//! the erased one, whose leaf is still in the tree: that is no disagreement, but is counted.

use crate::bulk::blocking;
use crate::node::Node;
use audit::tree::{leaf_hash, verify_inclusion};
use audit::{Checkpoint, Filter, Hash, Log, Page};
use bytes::Bytes;
use protocol::encoding::Bytes as Bytes32;
use protocol::query::LogPosition;
use protocol::{MemberId, SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use transport::CallError;

/// Entries looked at for one page.
const PAGE: usize = 1_000;
const DEADLINE: Duration = Duration::from_secs(30);
/// Both sides write within a request's life and the skew of two clocks.
const LATE_SECONDS: i64 = 120;
/// Of one period; a peer that gives more pages than this is not believed.
const MAX_PAGES: usize = 10_000;

/// One question as one side has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Side {
    asker: MemberId,
    holder: MemberId,
    /// SHA-256 of the request, base64url.
    request: String,
    /// Whether values or presence were released.
    answered: bool,
    fields: BTreeSet<String>,
    time: i64,
    /// Where it stands in this side's log.
    index: u64,
    entry: Bytes32,
    /// That it does (RFC 6962 §2.1.1), lowest first, under the page's checkpoint.
    #[serde(default)]
    proof: Vec<Bytes32>,
    /// The other side's entry that this one rests on: the question's, at the asker the answer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rests_on: Option<LogPosition>,
}

/// An entry whose payload was erased.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Erased {
    index: u64,
    entry: Bytes32,
    /// That it stands in the tree, as a side's.
    proof: Vec<Bytes32>,
}

/// What a peer is given at once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Handed {
    /// The signed note under which the sides are proved.
    checkpoint: String,
    /// That its tree grew from the one the peer cosigned (RFC 6962 §2.1.2).
    consistency: Vec<Bytes32>,
    sides: Vec<Side>,
    next: Option<u64>,
    /// Of the entries asked about, those that were erased.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    erased: Vec<Erased>,
}

impl Handed {
    /// How many sides there are.
    pub(crate) fn count(&self) -> u64 {
        self.sides.len() as u64
    }
}

/// The period and page asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) from: i64,
    pub(crate) until: i64,
    #[serde(default)]
    pub(crate) start: u64,
    /// What the peer cosigned of our logs, by origin: sizes.
    #[serde(default)]
    pub(crate) known: BTreeMap<String, u64>,
    /// Whether these entries were erased is asked, and nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    erased: Vec<LogPosition>,
}

/// What the two logs disagree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disagreement {
    /// Only our log has it.
    OnlyHere,
    /// Only the peer's log has it.
    OnlyThere,
    /// Answered by one, not answered by the other, or with other fields.
    Contradicting,
    /// Recorded too far apart.
    Late,
    /// The peer gave an entry and could not show that it stands in its log.
    NotInTree,
    /// The peer has given nothing to be compared for two days.
    NotGiven,
}

/// A question the two logs disagree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) kind: Disagreement,
    pub(crate) request: String,
    /// The entry here, or else there.
    pub(crate) index: u64,
    pub(crate) time: i64,
    /// The other side's entry that it rests on.
    rests_on: Option<LogPosition>,
}

impl Difference {
    fn of(kind: Disagreement, side: &Side) -> Self {
        let Side { request, index, time, rests_on, .. } = side.clone();
        Difference { kind, request, index, time, rests_on }
    }
}

/// What an entry says of questions between us and `peer`.
fn sides(payload: &Value, peer: &str, index: u64, entry: &[u8]) -> Vec<Side> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let names = |value: &Value, key: &str| -> BTreeSet<String> {
        let all = value.get(key).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let time = payload.get("time").and_then(Value::as_i64).unwrap_or_default();
    let side = |of: &Value, holder: &str, answered: bool, fields| {
        let (asker, holder) = (text(payload, "asker").parse().ok()?, holder.parse().ok()?);
        let (request, entry, proof) = (text(of, "request"), Bytes32::from(entry), Vec::new());
        let rests_on = of.get("peer_log").and_then(|position| serde_json::from_value(position.clone()).ok());
        let side = Side { asker, holder, request, answered, fields, time, index, entry, proof, rests_on };
        (!side.request.is_empty()).then_some(side)
    };
    match text(payload, "event").as_str() {
        happened @ ("query.answered" | "query.denied" | "query.no_match" | "approval.waiting")
            if text(payload, "asker") == peer =>
        {
            let answered = happened == "query.answered";
            let fields = if answered { names(payload, "fields_returned") } else { BTreeSet::new() };
            side(payload, &text(payload, "holder"), answered, fields).into_iter().collect()
        }
        "query.outcome" => {
            let outcomes = payload.get("outcomes").and_then(Value::as_array).into_iter().flatten();
            // An answer that never came is no side: whether the holder gave one, only the holder knows.
            outcomes
                .filter(|outcome| {
                    text(outcome, "holder") == peer && !outcome.get("peer_log").is_none_or(Value::is_null)
                })
                .filter_map(|outcome| {
                    let answered = text(outcome, "outcome") == "answered";
                    side(outcome, peer, answered, names(outcome, "fields"))
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// A page of our log as `peer` may have it, proved under `checkpoint`, a fresh one. Blocks.
pub(crate) fn page(
    node: &Node,
    peer: &MemberId,
    asked: &Asked,
    checkpoint: &Checkpoint,
) -> Result<Handed, audit::Fault> {
    let size = checkpoint.size();
    let bytes = |proof: Option<Vec<Hash>>| proof.into_iter().flatten().map(|hash| Bytes32::from(hash.as_slice()));
    let prove = |index| Ok::<_, audit::Fault>(bytes(node.log.prove_inclusion(index, size)?).collect());
    let (mut sides, next) = if asked.erased.is_empty() { read(node, peer, asked)? } else { (Vec::new(), None) };
    // What was appended since is not signed yet: it is for another time.
    sides.retain(|side| side.index < size);
    for side in &mut sides {
        side.proof = prove(side.index)?;
    }
    let mut erased = Vec::new();
    for LogPosition { entry, index, .. } in erased_among(&node.log, asked.erased.iter().take(PAGE))? {
        erased.push(Erased { index: *index, entry: entry.clone(), proof: prove(*index)? });
    }
    let known = asked.known.get(node.log.origin());
    let consistency = known.map_or(Ok(None), |known| node.log.prove_consistency(*known, size))?;
    let consistency = bytes(consistency).collect();
    Ok(Handed { checkpoint: checkpoint.note().to_owned(), consistency, sides, next, erased })
}

/// Those of `positions` at which `log` has the entry named, erased. Blocks.
fn erased_among<'p>(
    log: &Log,
    positions: impl IntoIterator<Item = &'p LogPosition>,
) -> Result<Vec<&'p LogPosition>, audit::Fault> {
    let mut out = Vec::new();
    for position in positions.into_iter().filter(|position| position.origin == log.origin()) {
        let erased = |entry: &audit::Entry| entry.payload.is_none() && entry.hash.as_slice() == position.entry.0;
        if log.read(position.index)?.as_ref().is_some_and(erased) {
            out.push(position);
        }
    }
    Ok(out)
}

/// Our sides of the questions between us and `peer`, a page of them. Blocks.
fn read(node: &Node, peer: &MemberId, asked: &Asked) -> Result<(Vec<Side>, Option<u64>), audit::Fault> {
    let (from, until) = (Some(asked.from), Some(asked.until));
    let filter = Filter { peer: Some(peer.to_string()), from, until, ..Filter::default() };
    let Page { entries, next } = node.log.search(&filter, asked.start, PAGE)?;
    let of = |entry: &audit::Entry| {
        let payload = entry.payload.as_ref()?;
        Some(sides(payload, peer.as_str(), entry.index, &entry.hash))
    };
    Ok((entries.iter().filter_map(of).flatten().collect(), next))
}

/// Proof hashes as `audit` has them; `None` for what is none.
fn hashes(proof: &[Bytes32]) -> Option<Vec<Hash>> {
    proof.iter().map(|hash| hash.0.as_slice().try_into().ok()).collect()
}

/// Whether entry `index` of the tree of `checkpoint` is `entry`.
fn proved((index, entry, proof): (u64, &Bytes32, &[Bytes32]), checkpoint: &Checkpoint) -> bool {
    hashes(proof).is_some_and(|proof| {
        verify_inclusion(index, checkpoint.size(), leaf_hash(&entry.0), &proof, &checkpoint.root())
    })
}

/// Where `me`'s log and another disagree. Questions in `unheard`, whose answer never came to us, may stand there alone.
fn compare(me: &MemberId, here: &[Side], there: &[Side], unheard: &BTreeSet<String>) -> Vec<Difference> {
    let by_request = |sides: &[Side]| -> BTreeMap<String, Side> {
        sides.iter().map(|side| (side.request.clone(), side.clone())).collect()
    };
    let (ours, theirs) = (by_request(here), by_request(there));
    let mut out = Vec::new();
    for (request, side) in &ours {
        let kind = match theirs.get(request) {
            None => Disagreement::OnlyHere,
            Some(other) if (&other.asker, &other.holder) != (&side.asker, &side.holder) => Disagreement::Contradicting,
            Some(other) if other.answered != side.answered || other.fields != side.fields => {
                Disagreement::Contradicting
            }
            // The answer cited another entry than the one given now.
            Some(other)
                if &side.asker == me
                    && side
                        .rests_on
                        .as_ref()
                        .is_some_and(|on| (on.index, &on.entry) != (other.index, &other.entry)) =>
            {
                Disagreement::Contradicting
            }
            Some(other) if (other.time - side.time).abs() > LATE_SECONDS => Disagreement::Late,
            Some(_) => continue,
        };
        out.push(Difference::of(kind, side));
    }
    let alone = |(request, _): &(&String, &Side)| !ours.contains_key(*request) && !unheard.contains(*request);
    out.extend(theirs.iter().filter(alone).map(|(_, side)| Difference::of(Disagreement::OnlyThere, side)));
    out
}

/// Why two logs were not compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("no such member, or none that can be reached")]
    Unknown,
    #[error("the peer does not give its entries: {0}")]
    Call(#[from] CallError),
    #[error("the peer's answer cannot be read")]
    Malformed,
    #[error(transparent)]
    Log(#[from] audit::Fault),
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// What a comparison came to.
pub(crate) struct Compared {
    pub(crate) matched: u64,
    /// Questions of which one side's entry was erased.
    pub(crate) erased: u64,
    pub(crate) differences: Vec<Difference>,
}

/// Compares our log with `peer`'s over a period.
pub(crate) async fn reconcile(
    node: &Arc<Node>,
    peer: &MemberId,
    from: Timestamp,
    until: Timestamp,
) -> Result<Compared, ReconcileError> {
    let held = node.held.load_full().ok_or(ReconcileError::Unknown)?;
    let other = held.manifest.member(peer).filter(|_| peer != &node.config.member);
    let url = other.and_then(|member| member.endpoints.first()).ok_or(ReconcileError::Unknown)?;
    node.circle.follow(&held.manifest);
    let (circle, of) = (node.circle.clone(), peer.clone());
    let cosigned = blocking(move || circle.cosigned_of(&of)).await??;
    let there = Peer { node, id: peer, to: held.manifest.spiffe(peer), url, cosigned };
    // An entry at the period's edge has its other side within the skew: the edges are looked at on both sides, and only
    // what lies inside is judged.
    let wide = Asked {
        from: from.0 - LATE_SECONDS,
        until: until.0 + LATE_SECONDS,
        start: 0,
        known: there.cosigned.iter().map(|(origin, seen)| (origin.clone(), seen.size())).collect(),
        erased: Vec::new(),
    };
    let (theirs, unproved) = there.sides(&wide).await?;
    let (reader, with, period) = (node.clone(), peer.clone(), wide.clone());
    let read = blocking(move || {
        let (mut ours, mut start) = (Vec::new(), Some(0));
        while let Some(at) = start {
            let (sides, next) = read(&reader, &with, &Asked { start: at, ..period.clone() })?;
            ours.extend(sides);
            start = next;
        }
        let unheard = unheard(&reader, &with, &period)?;
        Ok::<_, audit::Fault>((ours, unheard))
    });
    let (ours, unheard) = read.await??;
    let inside = |time: i64| (from.0..until.0).contains(&time);
    let not_in_tree = unproved.iter().map(|side| Difference::of(Disagreement::NotInTree, side));
    let differences: Vec<Difference> = compare(&node.config.member, &ours, &theirs, &unheard)
        .into_iter()
        .chain(not_in_tree)
        .filter(|difference| inside(difference.time))
        .collect();
    // A question put again has several entries here.
    let here: BTreeSet<&str> = ours.iter().filter(|side| inside(side.time)).map(|side| side.request.as_str()).collect();
    let odd: BTreeSet<&str> = differences.iter().map(|difference| difference.request.as_str()).collect();
    let matched = here.difference(&odd).count() as u64;
    let (differences, erased) = there.without_erased(&wide, differences).await?;
    Ok(Compared { matched, erased, differences })
}

/// Whom our log is compared with.
struct Peer<'a> {
    node: &'a Arc<Node>,
    id: &'a MemberId,
    to: SpiffeId,
    url: &'a str,
    /// What we cosigned of its logs.
    cosigned: BTreeMap<String, Checkpoint>,
}

impl Peer<'_> {
    /// What it gives, and the checkpoint it is under, if that can be believed.
    async fn ask(&self, asked: &Asked) -> Result<(Handed, Option<Checkpoint>), ReconcileError> {
        let body = serde_json::to_vec(asked).map_err(|_| ReconcileError::Malformed)?;
        let request = http::Request::post("/v1/log/sides")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(body))
            .map_err(|_| CallError::BadUrl)?;
        let answer = self.node.client.call(&self.to, self.url, request, DEADLINE).await?;
        let handed: Handed = serde_json::from_slice(answer.body()).map_err(|_| ReconcileError::Malformed)?;
        let grown = hashes(&handed.consistency).unwrap_or_default();
        let checkpoint = self.node.circle.believe(self.id, &handed.checkpoint, &grown, &self.cosigned);
        Ok((handed, checkpoint))
    }

    /// Its sides of a period: those that stand in its log, and those it cannot show to.
    async fn sides(&self, period: &Asked) -> Result<(Vec<Side>, Vec<Side>), ReconcileError> {
        let (mut theirs, mut unproved, mut start, mut pages) = (Vec::new(), Vec::new(), Some(0), 0);
        while let Some(at) = start {
            pages += 1;
            let (page, checkpoint) = self.ask(&Asked { start: at, ..period.clone() }).await?;
            start = page.next.filter(|next| *next > at);
            if page.next.is_some() && start.is_none() || pages > MAX_PAGES {
                return Err(ReconcileError::Malformed);
            }
            let stands = |side: &Side| {
                checkpoint.as_ref().is_some_and(|under| proved((side.index, &side.entry, &side.proof), under))
            };
            let (good, bad): (Vec<Side>, Vec<Side>) = page.sides.into_iter().partition(stands);
            theirs.extend(good);
            unproved.extend(bad);
        }
        Ok((theirs, unproved))
    }

    /// Those of `differences` that are not explained by an erased entry, and how many are.
    async fn without_erased(
        &self,
        period: &Asked,
        differences: Vec<Difference>,
    ) -> Result<(Vec<Difference>, u64), ReconcileError> {
        let alone = |kind: Disagreement| {
            let of_kind = differences.iter().filter(move |difference| difference.kind == kind);
            of_kind.filter_map(|difference| difference.rests_on.clone()).collect::<Vec<_>>()
        };
        let (ours, log) = (alone(Disagreement::OnlyThere), self.node.clone());
        let ours = blocking(move || {
            Ok::<_, audit::Fault>(erased_among(&log.log, &ours)?.into_iter().cloned().collect::<Vec<_>>())
        });
        let mut erased = ours.await??;
        for some in alone(Disagreement::OnlyHere).chunks(PAGE) {
            let (handed, checkpoint) = self.ask(&Asked { erased: some.to_vec(), ..period.clone() }).await?;
            let shown = |position: &&LogPosition| {
                handed.erased.iter().any(|Erased { index, entry, proof }| {
                    (*index, entry) == (position.index, &position.entry)
                        && checkpoint.as_ref().is_some_and(|under| proved((*index, entry, proof), under))
                })
            };
            erased.extend(some.iter().filter(shown).cloned());
        }
        let found = differences.len();
        let explained = |difference: &Difference| {
            matches!(difference.kind, Disagreement::OnlyHere | Disagreement::OnlyThere)
                && difference.rests_on.as_ref().is_some_and(|position| erased.contains(position))
        };
        let left: Vec<Difference> = differences.into_iter().filter(|difference| !explained(difference)).collect();
        let explained = found - left.len();
        Ok((left, explained as u64))
    }
}

/// Our questions to `peer` that we have no answer of.
fn unheard(node: &Node, peer: &MemberId, asked: &Asked) -> Result<BTreeSet<String>, audit::Fault> {
    let (from, until) = (Some(asked.from), Some(asked.until));
    let event = Some("query.outcome".to_owned());
    let filter = Filter { event, peer: Some(peer.to_string()), from, until, ..Filter::default() };
    let mut out = BTreeSet::new();
    node.log.search_each(&filter, |entry| {
        let payload = entry.payload.unwrap_or_default();
        let outcomes = payload.get("outcomes").and_then(Value::as_array).into_iter().flatten();
        let open = outcomes.filter(|outcome| outcome.get("peer_log").is_none_or(Value::is_null));
        out.extend(open.filter_map(|outcome| Some(outcome.get("request")?.as_str()?.to_owned())));
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn side(request: &str, answered: bool, time: i64) -> Side {
        let fields = if answered { ["pup.status".to_owned()].into() } else { BTreeSet::new() };
        let (asker, holder) = ("mops".parse().unwrap(), "pup".parse().unwrap());
        let (entry, proof, rests_on) = (Bytes32(vec![1; 32]), Vec::new(), None);
        Side { asker, holder, request: request.into(), answered, fields, time, index: 1, entry, proof, rests_on }
    }

    #[test]
    fn every_way_to_disagree_is_seen() {
        let mut narrowed = side("narrowed", true, 0);
        narrowed.fields.clear();
        let here =
            [side("same", true, 0), side("here", true, 0), side("other", true, 0), side("slow", true, 0), narrowed];
        let there = [
            side("same", true, LATE_SECONDS),
            side("there", true, 0),
            side("other", false, 0),
            side("slow", true, LATE_SECONDS + 1),
            side("narrowed", true, 0),
            side("lost", true, 0),
        ];
        let found = compare(&"mops".parse().unwrap(), &here, &there, &["lost".to_owned()].into());
        let found: Vec<_> = found.iter().map(|d| (d.request.as_str(), d.kind)).collect();
        assert_eq!(
            found,
            [
                ("here", Disagreement::OnlyHere),
                ("narrowed", Disagreement::Contradicting),
                ("other", Disagreement::Contradicting),
                ("slow", Disagreement::Late),
                ("there", Disagreement::OnlyThere),
            ]
        );
    }

    #[test]
    fn an_answer_cites_the_entry_that_must_be_given() {
        let there = side("q", true, 0);
        let citing = |index: u64, byte: u8| {
            let on = LogPosition { entry: Bytes32(vec![byte; 32]), index, origin: "r.pl/pup".into() };
            Side { rests_on: Some(on), ..side("q", true, 0) }
        };
        let kinds = |me: &str, here: Side| -> Vec<Disagreement> {
            let found = compare(&me.parse().unwrap(), &[here], std::slice::from_ref(&there), &BTreeSet::new());
            found.iter().map(|difference| difference.kind).collect()
        };
        assert_eq!(kinds("mops", citing(1, 1)), []);
        assert_eq!(kinds("mops", citing(2, 1)), [Disagreement::Contradicting]);
        assert_eq!(kinds("mops", citing(1, 2)), [Disagreement::Contradicting]);
        // A holder's rests on the question, which is another entry than the outcome.
        assert_eq!(kinds("pup", citing(2, 1)), []);
    }

    #[test]
    fn what_is_not_in_the_tree_is_not_proved() {
        let dir = tempfile::tempdir().unwrap();
        let config = audit::Config {
            dir: dir.path(),
            origin: "r.pl/pup",
            signing_key: &[1; 32],
            payload_key: &[2; 32],
            now: Box::new(|| 1),
        };
        let log = audit::Log::open(config).unwrap();
        let receipts: Vec<_> = (0..5).map(|n| log.append_blocking(&json!({ "n": n })).unwrap()).collect();
        let checkpoint = log.checkpoint_blocking().unwrap();
        for receipt in &receipts {
            let proof = log.prove_inclusion(receipt.index(), checkpoint.size()).unwrap().unwrap();
            let proof: Vec<Bytes32> = proof.iter().map(|hash| Bytes32::from(hash.as_slice())).collect();
            let entry = Bytes32::from(receipt.entry_hash().as_slice());
            let true_side = Side { index: receipt.index(), entry, proof, ..side("q", true, 0) };
            let proved = |side: &Side| proved((side.index, &side.entry, &side.proof), &checkpoint);
            assert!(proved(&true_side));
            let changed = [
                Side { entry: Bytes32(vec![9; 32]), ..true_side.clone() },
                Side { index: (true_side.index + 1) % 5, ..true_side.clone() },
                Side { proof: true_side.proof.iter().skip(1).cloned().collect(), ..true_side.clone() },
                Side { proof: vec![Bytes32(vec![0; 31])], ..true_side.clone() },
            ];
            assert!(!changed.iter().any(proved));
        }
    }

    #[test]
    fn a_peer_gets_its_own_questions_without_residents_users_or_words() {
        let held = json!({
            "event": "query.answered", "asker": "mops", "holder": "pup", "request": "R", "fields_returned": ["pup.status"],
            "time": 7, "file": "FILE", "user": "USER", "case": "CASE",
        });
        let waiting =
            json!({ "event": "approval.waiting", "asker": "mops", "holder": "pup", "request": "W", "time": 7 });
        let asked = json!({
            "event": "query.outcome", "asker": "pup", "time": 8, "file": "FILE", "reason_text": "WORDS",
            "outcomes": [
                { "holder": "mops", "outcome": "answered", "request": "S", "fields": [], "peer_log": { "index": 1 } },
                { "holder": "css", "outcome": "answered", "request": "T", "fields": [], "peer_log": { "index": 1 } },
                { "holder": "mops", "outcome": "unavailable", "request": "U" },
            ],
        });
        let requests = |payload: &Value, peer| -> Vec<String> {
            let found = sides(payload, peer, 1, &[1; 32]);
            let text = serde_json::to_string(&found).unwrap();
            assert!(!["FILE", "USER", "CASE", "WORDS"].iter().any(|word| text.contains(word)), "{text}");
            found.into_iter().map(|side| side.request).collect()
        };
        assert_eq!(requests(&held, "mops"), ["R"]);
        assert_eq!(requests(&held, "css"), Vec::<String>::new());
        assert_eq!(requests(&waiting, "mops"), ["W"]);
        assert_eq!(requests(&asked, "mops"), ["S"]);
        assert_eq!(requests(&asked, "css"), ["T"]);
        assert_eq!(requests(&json!({ "event": "node.started" }), "mops"), Vec::<String>::new());
    }
}
