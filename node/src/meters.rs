//! What peers' questions are counted by: agreements, users, compared values, emergencies. All of it is durable.
//!
//! A question is counted when it comes, whatever is decided then: guessing is metered like asking. A compared value is
//! counted when the comparison is permitted, before it is made.

use crate::emergencies;
use crate::guard::GuardError;
use crate::node::{Node, NodeError};
use policies::{Engine, Permit, Tier, Used};
use protocol::encoding::b64;
use protocol::query::{Basis, EmergencyClaim, Match, QueryRequest};
use protocol::{FieldId, Manifest, MemberId, Purpose, QueryType, Reason, Timestamp, Told};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Mismatches of one user, and of one member, in a day; past them comparing ends until the next.
const MISMATCHES_BY_USER: u64 = 20;
const MISMATCHES_BY_MEMBER: u64 = 200;

/// What was used of an agreement today.
#[derive(Debug, Serialize, Deserialize)]
pub struct AgreementUse {
    /// Id and version.
    pub agreement: String,
    /// Who asks.
    pub asker: MemberId,
    /// Questions today.
    pub today: u64,
    /// Questions it allows a day.
    pub per_day: u64,
    /// Of the asker's questions under all agreements today, those refused.
    pub denied: u64,
    /// Of these, those about residents who are not known here or may not be answered on.
    pub not_available: u64,
    /// Values the asker compared today that did not match.
    pub mismatches: u64,
}

impl Node {
    /// Counts `request` and says what was used before it.
    pub(crate) fn count(&self, manifest: &Manifest, request: &QueryRequest, now: Timestamp) -> Result<Used, NodeError> {
        let mut used = Used::default();
        let (asker, user) = (request.iss.as_str(), b64(&request.user.id.0));
        let holder = &self.config.member;
        let (revoked, query, purpose) = (self.revoked.get(), &request.query, &request.purpose);
        let agreed = Engine::agreement_for(manifest, &revoked, &request.iss, holder, query, purpose, now);
        if let Basis::Emergency(claim) = &request.basis {
            used.emergencies_today = self.count_emergency(asker, claim, now)?;
            used.review_overdue = emergencies::overdue(self, &request.iss, &request.user.id, now)?;
        } else if let Ok(agreement) = agreed {
            let id = agreement.id.as_str();
            used.today = self.guard.count_today(&of_agreement(id, asker), agreement.queries_per_day, now)?;
            if let Some(most) = agreement.queries_per_user_per_day {
                used.today_by_user = self.guard.count_today(&of_user(id, asker, &user), most, now)?;
            }
        }
        if !request.expected.is_empty() {
            used.guesses = self.guesses(request, asker, &user, now)?;
        }
        Ok(used)
    }

    /// An emergency is counted once, however often it is used.
    fn count_emergency(&self, asker: &str, claim: &EmergencyClaim, now: Timestamp) -> Result<u32, GuardError> {
        let limit = self.engine.library().catalogue().emergency_for(&claim.reason);
        let limit = limit.map_or(0, |(_, emergency)| u64::from(emergency.per_member_per_day));
        let (note, opened) = (b64(&claim.note.0), claim.opened.0.to_string());
        let this = ["emergency", asker, &note, &opened];
        if self.guard.counted_today(&this, now)? > 0 {
            return Ok(0);
        }
        let before = self.guard.count_today(&["emergencies", asker], limit, now)?;
        if before < limit {
            self.guard.tally_today(&this, 1, now)?;
        }
        Ok(u32::try_from(before).unwrap_or(u32::MAX))
    }

    fn guesses(&self, request: &QueryRequest, asker: &str, user: &str, now: Timestamp) -> Result<u32, GuardError> {
        let series = self.guard.is_used_up(&["mismatches", asker], MISMATCHES_BY_MEMBER, now)?
            || self.guard.is_used_up(&["mismatches", asker, user], MISMATCHES_BY_USER, now)?;
        if series {
            return Ok(u32::MAX);
        }
        let mut most = 0;
        for field in request.expected.keys() {
            most = most.max(self.guard.guesses(&guess(request, &subject(request), field), now)?);
        }
        Ok(most)
    }

    /// Records the values that `permit` lets be compared; `false` if one of them was compared too often already.
    pub(crate) fn record_guesses(
        &self,
        permit: &Permit,
        request: &QueryRequest,
        now: Timestamp,
    ) -> Result<bool, GuardError> {
        let most = self.engine.query(permit.query()).and_then(|query| query.guesses).unwrap_or(0);
        for field in permit.compared() {
            if !self.guard.guess(&guess(request, &subject(request), field), most, now)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Counts what comparing found.
    pub(crate) fn count_matches(
        &self,
        request: &QueryRequest,
        matches: &BTreeMap<FieldId, Match>,
        now: Timestamp,
    ) -> Result<(), GuardError> {
        let (asker, user) = (request.iss.as_str(), b64(&request.user.id.0));
        for _ in matches.values().filter(|found| **found == Match::Mismatch) {
            self.guard.tally_today(&["mismatches", asker], u64::MAX, now)?;
            self.guard.tally_today(&["mismatches", asker, &user], u64::MAX, now)?;
        }
        Ok(())
    }

    /// Counts a refusal.
    pub(crate) fn count_refusal(&self, asker: &MemberId, reason: Reason, now: Timestamp) -> Result<(), GuardError> {
        self.guard.tally_today(&["denied", asker.as_str()], u64::MAX, now)?;
        if reason.told() == Told::NotAvailable {
            self.guard.tally_today(&["not-available", asker.as_str()], u64::MAX, now)?;
        }
        Ok(())
    }

    /// What others used of their agreements with us today.
    pub(crate) fn usage(&self, manifest: &Manifest, now: Timestamp) -> Result<Vec<AgreementUse>, GuardError> {
        let ours = manifest.agreements.iter().filter(|agreement| agreement.terms.holder == self.config.member);
        ours.filter(|agreement| agreement.in_force(now))
            .map(|agreement| {
                let terms = &agreement.terms;
                let asker = terms.asker.as_str();
                let today = |name: &[&str]| self.guard.counted_today(name, now);
                Ok(AgreementUse {
                    agreement: terms.reference().to_string(),
                    asker: terms.asker.clone(),
                    today: today(&of_agreement(terms.id.as_str(), asker))?,
                    per_day: terms.queries_per_day,
                    denied: today(&["denied", asker])?,
                    not_available: today(&["not-available", asker])?,
                    mismatches: today(&["mismatches", asker])?,
                })
            })
            .collect()
    }
}

/// What questions under one agreement are counted under.
fn of_agreement<'r>(id: &'r str, asker: &'r str) -> [&'r str; 3] {
    ["agreement", id, asker]
}

/// What one user's are.
fn of_user<'r>(id: &'r str, asker: &'r str, user: &'r str) -> [&'r str; 4] {
    ["agreement-user", id, asker, user]
}

/// What the log says was asked today, for the meters of a start: questions by asker, query type, purpose and user.
#[derive(Default)]
pub(crate) struct Asked(BTreeMap<(MemberId, QueryType, Purpose, String), u64>);

impl Asked {
    /// Takes in one entry of the log.
    pub(crate) fn count(&mut self, payload: &Value, today: Timestamp) {
        let text = |key: &str| payload.get(key).and_then(Value::as_str).unwrap_or_default();
        let time = payload.get("time").and_then(Value::as_i64).unwrap_or(i64::MAX);
        let ours = ["query.answered", "query.denied", "approval.waiting"].contains(&text("event"));
        // An emergency has a meter of its own; what no agreement covered was counted under none.
        if text("reason").starts_with("agreement_")
            || !ours
            || Timestamp(time).day() != today.day()
            || text("basis").starts_with("emergency:")
        {
            return;
        }
        let (Ok(asker), Ok(query), Ok(purpose)) =
            (text("asker").parse(), text("query").parse(), text("purpose").parse())
        else {
            return;
        };
        *self.0.entry((asker, query, purpose, text("user").to_owned())).or_default() += 1;
    }

    /// Raises the meters to it.
    pub(crate) fn make_good(self, node: &Node) -> Result<(), NodeError> {
        let Some(held) = node.held.load_full() else { return Ok(()) };
        let (revoked, holder, now) = (node.revoked.get(), &node.config.member, node.started);
        let (mut agreements, mut users) = (BTreeMap::new(), BTreeMap::new());
        for ((asker, query, purpose, user), count) in self.0 {
            let agreed = Engine::agreement_for(&held.manifest, &revoked, &asker, holder, &query, &purpose, now);
            let Ok(agreement) = agreed else { continue };
            *agreements.entry((agreement.id.clone(), asker.clone())).or_default() += count;
            *users.entry((agreement.id.clone(), asker, user)).or_default() += count;
        }
        for ((id, asker), count) in agreements {
            node.guard.make_good(&of_agreement(&id, asker.as_str()), count, false, now)?;
        }
        for ((id, asker, user), count) in users {
            node.guard.make_good(&of_user(&id, asker.as_str(), &user), count, false, now)?;
        }
        Ok(())
    }
}

fn subject(request: &QueryRequest) -> String {
    b64(request.sub.as_bytes())
}

/// What guesses of one field are counted under. A member's users share its guesses, so that they cannot take turns.
fn guess<'r>(request: &'r QueryRequest, subject: &'r str, field: &'r FieldId) -> [&'r str; 4] {
    ["guess", request.iss.as_str(), subject, field.as_str()]
}

/// Whether a permit compares.
pub(crate) fn compares(permit: &Permit) -> bool {
    permit.tier() == Tier::Verify
}
