//! Both sides of every question, compared: each member gives a peer the entries that peer took part in, and what stands on
//! one side only, or otherwise on each, becomes a finding for the officer.
//!
//! What crosses is what the peer knows anyway: the request's digest, who asked whom, what came of it, when, names of
//! fields, and where it stands in our log. No resident, no user, no words.
//!
//! Each entry comes with the proof that it stands in the giver's tree, under a checkpoint that its log signed, and the
//! checkpoint with the proof that the tree grew from what the taker cosigned of it: what is handed over cannot be made up
//! for the occasion. Where a signed answer cited the giver's entry, it must be that one.

use crate::node::Node;
use audit::tree::{leaf_hash, verify_inclusion};
use audit::{Checkpoint, Filter, Hash, Page};
use bytes::Bytes;
use protocol::encoding::Bytes as Bytes32;
use protocol::query::LogPosition;
use protocol::{MemberId, Timestamp};
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
    /// The other side's entry that this one cites: the answer's.
    #[serde(skip)]
    cites: Option<(u64, Bytes32)>,
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
}

impl Handed {
    /// How many sides there are.
    pub(crate) fn count(&self) -> u64 {
        self.sides.len() as u64
    }
}

/// The period and page asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) from: i64,
    pub(crate) until: i64,
    #[serde(default)]
    pub(crate) start: u64,
    /// What the peer cosigned of our logs, by origin: sizes.
    #[serde(default)]
    pub(crate) known: BTreeMap<String, u64>,
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
}

/// What an entry says of questions between us and `peer`.
fn sides(payload: &Value, peer: &str, index: u64, entry: &[u8]) -> Vec<Side> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let names = |value: &Value, key: &str| -> BTreeSet<String> {
        let all = value.get(key).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let time = payload.get("time").and_then(Value::as_i64).unwrap_or_default();
    let side = |holder: &str, request: String, answered: bool, fields| {
        let (asker, holder) = (text(payload, "asker").parse().ok()?, holder.parse().ok()?);
        let (entry, proof, cites) = (Bytes32::from(entry), Vec::new(), None);
        let side = Side { asker, holder, request, answered, fields, time, index, entry, proof, cites };
        (!side.request.is_empty()).then_some(side)
    };
    match text(payload, "event").as_str() {
        happened @ ("query.answered" | "query.denied" | "query.no_match") if text(payload, "asker") == peer => {
            let answered = happened == "query.answered";
            let fields = if answered { names(payload, "fields_returned") } else { BTreeSet::new() };
            side(&text(payload, "holder"), text(payload, "request"), answered, fields).into_iter().collect()
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
                    let cited: Option<LogPosition> = serde_json::from_value(outcome.get("peer_log")?.clone()).ok();
                    let cites = cited.map(|cited| (cited.index, cited.entry));
                    let side = side(peer, text(outcome, "request"), answered, names(outcome, "fields"))?;
                    Some(Side { cites, ..side })
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
    let (mut sides, next) = read(node, peer, asked)?;
    // What was appended since is not signed yet: it is for another time.
    sides.retain(|side| side.index < size);
    for side in &mut sides {
        side.proof = bytes(node.log.prove_inclusion(side.index, size)?).collect();
    }
    let known = asked.known.get(node.log.origin());
    let consistency = known.map_or(Ok(None), |known| node.log.prove_consistency(*known, size))?;
    let consistency = bytes(consistency).collect();
    Ok(Handed { checkpoint: checkpoint.note().to_owned(), consistency, sides, next })
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

/// Whether a side stands in the tree of `checkpoint`.
fn proved(side: &Side, checkpoint: &Checkpoint) -> bool {
    hashes(&side.proof).is_some_and(|proof| {
        let leaf = leaf_hash(&side.entry.0);
        verify_inclusion(side.index, checkpoint.size(), leaf, &proof, &checkpoint.root())
    })
}

/// Where two logs disagree. Questions in `unheard`, whose answer never came to us, may stand there alone.
fn compare(here: &[Side], there: &[Side], unheard: &BTreeSet<String>) -> Vec<Difference> {
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
            Some(other) if side.cites.as_ref().is_some_and(|cited| *cited != (other.index, other.entry.clone())) => {
                Disagreement::Contradicting
            }
            Some(other) if (other.time - side.time).abs() > LATE_SECONDS => Disagreement::Late,
            Some(_) => continue,
        };
        out.push(Difference { kind, request: request.clone(), index: side.index, time: side.time });
    }
    for (request, side) in
        theirs.iter().filter(|(request, _)| !ours.contains_key(*request) && !unheard.contains(*request))
    {
        let kind = Disagreement::OnlyThere;
        out.push(Difference { kind, request: request.clone(), index: side.index, time: side.time });
    }
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
    let url = held.manifest.member(peer).and_then(|member| member.endpoints.first()).ok_or(ReconcileError::Unknown)?;
    let to = held.manifest.spiffe(peer);
    // An entry at the period's edge has its other side within the skew: the edges are looked at on both sides, and only
    // what lies inside is judged.
    node.circle.follow(&held.manifest);
    let (circle, of) = (node.circle.clone(), peer.clone());
    let cosigned =
        tokio::task::spawn_blocking(move || circle.cosigned_of(&of)).await.map_err(std::io::Error::other)??;
    let known: BTreeMap<String, u64> = cosigned.iter().map(|(origin, seen)| (origin.clone(), seen.size())).collect();
    let wide =
        move |start| Asked { from: from.0 - LATE_SECONDS, until: until.0 + LATE_SECONDS, start, known: known.clone() };
    let (mut theirs, mut unproved, mut start, mut pages) = (Vec::new(), Vec::new(), Some(0), 0);
    while let Some(at) = start {
        pages += 1;
        let body = serde_json::to_vec(&wide(at)).map_err(|_| ReconcileError::Malformed)?;
        let request = http::Request::post("/v1/log/sides")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(body))
            .map_err(|_| CallError::BadUrl)?;
        let answer = node.client.call(&to, url, request, DEADLINE).await?;
        let page: Handed = serde_json::from_slice(answer.body()).map_err(|_| ReconcileError::Malformed)?;
        start = page.next.filter(|next| *next > at);
        if page.next.is_some() && start.is_none() || pages > MAX_PAGES {
            return Err(ReconcileError::Malformed);
        }
        let grown = hashes(&page.consistency).unwrap_or_default();
        let checkpoint = node.circle.believe(peer, &page.checkpoint, &grown, &cosigned);
        let stands = |side: &Side| checkpoint.as_ref().is_some_and(|checkpoint| proved(side, checkpoint));
        let (good, bad): (Vec<Side>, Vec<Side>) = page.sides.into_iter().partition(stands);
        theirs.extend(good);
        unproved.extend(bad);
    }
    let (reader, with) = (node.clone(), peer.clone());
    let read = tokio::task::spawn_blocking(move || {
        let (mut ours, mut start) = (Vec::new(), Some(0));
        while let Some(at) = start {
            let (sides, next) = read(&reader, &with, &wide(at))?;
            ours.extend(sides);
            start = next;
        }
        let unheard = unheard(&reader, &with, &wide(0))?;
        Ok::<_, audit::Fault>((ours, unheard))
    });
    let (ours, unheard) = read.await.map_err(std::io::Error::other)??;
    let inside = |time: i64| (from.0..until.0).contains(&time);
    let not_in_tree = unproved.into_iter().map(|Side { request, index, time, .. }| Difference {
        kind: Disagreement::NotInTree,
        request,
        index,
        time,
    });
    let differences: Vec<Difference> = compare(&ours, &theirs, &unheard)
        .into_iter()
        .chain(not_in_tree)
        .filter(|difference| inside(difference.time))
        .collect();
    // A question put again has several entries here.
    let here: BTreeSet<&str> = ours.iter().filter(|side| inside(side.time)).map(|side| side.request.as_str()).collect();
    let odd: BTreeSet<&str> = differences.iter().map(|difference| difference.request.as_str()).collect();
    let matched = here.difference(&odd).count() as u64;
    Ok(Compared { matched, differences })
}

/// Our questions to `peer` that we have no answer of.
fn unheard(node: &Node, peer: &MemberId, asked: &Asked) -> Result<BTreeSet<String>, audit::Fault> {
    let (from, until) = (Some(asked.from), Some(asked.until));
    let event = Some("query.outcome".to_owned());
    let filter = Filter { event, peer: Some(peer.to_string()), from, until, ..Filter::default() };
    let (mut out, mut start) = (BTreeSet::new(), Some(0));
    while let Some(at) = start {
        let page = node.log.search(&filter, at, PAGE)?;
        for payload in page.entries.iter().filter_map(|entry| entry.payload.as_ref()) {
            let outcomes = payload.get("outcomes").and_then(Value::as_array).into_iter().flatten();
            let open = outcomes.filter(|outcome| outcome.get("peer_log").is_none_or(Value::is_null));
            out.extend(open.filter_map(|outcome| Some(outcome.get("request")?.as_str()?.to_owned())));
        }
        start = page.next;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn side(request: &str, answered: bool, time: i64) -> Side {
        let fields = if answered { ["pup.status".to_owned()].into() } else { BTreeSet::new() };
        let (asker, holder) = ("mops".parse().unwrap(), "pup".parse().unwrap());
        let (entry, proof, cites) = (Bytes32(vec![1; 32]), Vec::new(), None);
        Side { asker, holder, request: request.into(), answered, fields, time, index: 1, entry, proof, cites }
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
        let found = compare(&here, &there, &["lost".to_owned()].into());
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
        let citing =
            |index: u64, byte: u8| Side { cites: Some((index, Bytes32(vec![byte; 32]))), ..side("q", true, 0) };
        let kinds = |here: Side| -> Vec<Disagreement> {
            compare(&[here], std::slice::from_ref(&there), &BTreeSet::new()).iter().map(|d| d.kind).collect()
        };
        assert_eq!(kinds(citing(1, 1)), []);
        assert_eq!(kinds(citing(2, 1)), [Disagreement::Contradicting]);
        assert_eq!(kinds(citing(1, 2)), [Disagreement::Contradicting]);
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
            assert!(proved(&true_side, &checkpoint));
            let changed = [
                Side { entry: Bytes32(vec![9; 32]), ..true_side.clone() },
                Side { index: (true_side.index + 1) % 5, ..true_side.clone() },
                Side { proof: true_side.proof.iter().skip(1).cloned().collect(), ..true_side.clone() },
                Side { proof: vec![Bytes32(vec![0; 31])], ..true_side.clone() },
            ];
            assert!(changed.iter().all(|side| !proved(side, &checkpoint)));
        }
    }

    #[test]
    fn a_peer_gets_its_own_questions_without_residents_users_or_words() {
        let held = json!({
            "event": "query.answered", "asker": "mops", "holder": "pup", "request": "R", "fields_returned": ["pup.status"],
            "time": 7, "file": "FILE", "user": "USER", "case": "CASE",
        });
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
        assert_eq!(requests(&asked, "mops"), ["S"]);
        assert_eq!(requests(&asked, "css"), ["T"]);
        assert_eq!(requests(&json!({ "event": "node.started" }), "mops"), Vec::<String>::new());
    }
}
