//! The decision (ADR 0008): one function, one order, closed at the first doubt.
//!
//! What does not depend on the resident is judged first, quota included. Whoever fails there learns nothing of the
//! resident; whoever passes is a member the registry shows this institution to if the resident is listed here. Only
//! then come the resident's own steps, of which the first tells `not_available` for unknown, restricted and unlisted
//! alike, before a consent is looked at.

use crate::asked::{Asked, Terms};
use crate::basis::Ground;
use crate::catalogue::{Query, Tier};
use crate::engine::Engine;
use crate::explain::{Explanation, Observer, Seen};
use crate::facts::{ApprovalFact, Facts, Flags, TicketFact};
use crate::guard::Question;
use crate::hours;
use crate::permit::{Denial, Permit, Proposal, Step};
use protocol::agreement::{Agreement, AnswerMode};
use protocol::jws::JwsError;
use protocol::manifest::Member;
use protocol::query::{MAX_LIFE_SECONDS, Obligations, PENDING_SECONDS, QueryRequest};
use protocol::registry::{OLD_TICKET_SECONDS, TICKET_SECONDS, Ticket};
use protocol::time::DAY_SECONDS;
use protocol::{FieldId, Reason, Timestamp};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Lengths of a request's `jti` and a ticket's nonce, in bytes.
const JTI_BYTES: usize = 16;
const NONCE_BYTES: usize = 16;

impl Engine {
    /// Whether `facts` permit an answer at `now`.
    ///
    /// # Errors
    /// The first step that fails. Where a person must decide and has not, the denial's reason is
    /// [`Reason::ApprovalPending`] and [`Denial::proposal`] says what there is to decide.
    pub fn decide(&self, facts: &Facts<'_>, now: Timestamp) -> Result<Permit, Denial> {
        self.judge(facts, now, &mut ())
    }

    /// The same decision, with the steps passed and what each saw.
    pub fn decide_watched(&self, facts: &Facts<'_>, now: Timestamp) -> (Result<Permit, Denial>, Vec<Seen>) {
        let mut seen = Vec::<Seen>::new();
        let outcome = self.judge(facts, now, &mut seen);
        (outcome, seen)
    }

    /// The same decision, explained.
    #[must_use]
    pub fn explain(&self, facts: &Facts<'_>, now: Timestamp) -> Explanation {
        let (outcome, seen) = self.decide_watched(facts, now);
        Explanation::new(seen, &outcome)
    }

    fn judge(&self, facts: &Facts<'_>, now: Timestamp, to: &mut impl Observer) -> Result<Permit, Denial> {
        let holder = self.own_state(facts, now)?;
        to.passed(Step::Node, || format!("manifest {} pins library {}", facts.manifest.version, self.library.version));
        let asker = peer(facts)?;
        to.passed(Step::Peer, || format!("{}, kind {}", asker.id, asker.kind));
        let request = request(facts, now)?;
        to.passed(Step::Request, || "signed by the peer, for this member, fresh, first use".to_owned());
        let (ticket, used_old_ticket) = ticket(facts, request)?;
        to.passed(Step::Ticket, || if used_old_ticket { "old, the registry is away" } else { "in time" }.to_owned());
        let asked = Asked::by(request, asker, holder);
        let Terms { agreement, query, ground } = self.terms(&asked, facts.manifest, facts.revoked, now, to)?;
        meters(facts, agreement, query, &ground, now)?;
        to.passed(Step::Quota, || format!("{} of {} queries used today", facts.used.today, agreement.queries_per_day));
        let flags = subject(facts, ticket, &ground)?;
        to.passed(Step::Subject, || "known here, the ticket's, may be answered on".to_owned());
        let cover = self.cover(&ground, facts, request, holder, now)?;
        to.passed(Step::Consent, || cover.reference().to_string());

        let allowed = |field: &&FieldId| {
            query.fields.contains(*field) && agreement.fields.contains(*field) && cover.contains(field)
        };
        let mut fields: BTreeSet<_> = request.fields.iter().filter(allowed).cloned().collect();
        let policies =
            self.policies(request, query, asker, &ground, &fields).map_err(|denial| alike(denial, &ground))?;
        to.passed(Step::Policy, || policies.join(", "));
        fields.retain(|id| self.field(id).is_some_and(|field| !field.sealed));
        some_left(query, &fields).map_err(|denial| alike(denial, &ground))?;
        to.passed(Step::Fields, || list(&fields));
        let life = i64::from(query.delete_after_days).saturating_mul(DAY_SECONDS);
        let mut permit = Permit {
            query: request.query.clone(),
            tier: query.tier,
            fields,
            obligations: Obligations {
                delete_after: now + life,
                onward_transfer: false,
                do_not_contact: flags.do_not_contact,
                review_by: ground.review_by(now),
            },
            agreement: agreement.reference(),
            basis: cover.reference(),
            used_old_ticket,
            policies,
        };
        let mode = mode(query, agreement, &ground, flags);
        approved(facts, request, query, mode, &mut permit, now)?;
        to.passed(Step::Mode, || format!("{mode:?}: {}", list(&permit.fields)));
        Ok(permit)
    }

    /// This node's own entry in a manifest that is in force and pins the library in use.
    fn own_state<'a>(&self, facts: &Facts<'a>, now: Timestamp) -> Result<&'a Member, Denial> {
        let deny = |reason, detail: &'static str| Denial::new(Step::Node, reason, detail);
        if now > facts.manifest.expires {
            return Err(deny(Reason::ManifestExpired, "the manifest has expired"));
        }
        if facts.manifest.library.version != self.library.version
            || facts.manifest.library.digest.0 != self.library.digest
        {
            return Err(deny(Reason::NodeClosed, "the library is not the one the manifest pins"));
        }
        facts.manifest.member(facts.me).ok_or_else(|| deny(Reason::NodeClosed, "this node is not in its manifest"))
    }

    fn policies(
        &self,
        request: &QueryRequest,
        query: &Query,
        asker: &Member,
        ground: &Ground<'_>,
        fields: &BTreeSet<FieldId>,
    ) -> Result<Vec<String>, Denial> {
        let question = Question {
            asker: &asker.id,
            asker_kind: &asker.kind,
            role: &request.user.role,
            purpose: &request.purpose,
            basis: ground.kind(),
            case: request.case.is_some(),
            query: &request.query,
            tier: query.tier,
            fields,
        };
        self.guard.evaluate(&question).map_err(|(reason, why)| Denial::new(Step::Policy, reason, why))
    }
}

fn peer<'a>(facts: &Facts<'a>) -> Result<&'a Member, Denial> {
    let deny = |detail: &'static str| Denial::new(Step::Peer, Reason::PeerUnknown, detail);
    // So whoever approves here, signed in as this institution's own, is never the user who asks.
    if facts.peer.member == facts.me {
        return Err(deny("an institution does not ask itself"));
    }
    if !facts.peer.active {
        return Err(deny("the peer's certificate or membership is not valid now"));
    }
    facts.manifest.member(facts.peer.member).ok_or_else(|| deny("the peer is not in the manifest"))
}

fn request<'a>(facts: &Facts<'a>, now: Timestamp) -> Result<&'a QueryRequest, Denial> {
    let deny = |reason, detail: &'static str| Err(Denial::new(Step::Request, reason, detail));
    let request = facts.request.map_err(unverified)?;
    if &request.iss != facts.peer.member {
        return deny(Reason::CertificateMismatch, "signed by another member than the one connected");
    }
    if request.cnf.x5t_s256.0 != facts.peer.certificate_sha256 {
        return deny(Reason::CertificateMismatch, "bound to another certificate than the one presented");
    }
    if request.jti.0.len() != JTI_BYTES {
        return deny(Reason::RequestMalformed, "its jti is not 16 bytes");
    }
    if &request.aud != facts.me {
        return deny(Reason::AudienceWrong, "addressed to another member");
    }
    let life = request.exp - request.iat;
    let arrived = facts.received;
    if !request.iat.not_ahead_of(arrived) || !(0..=MAX_LIFE_SECONDS).contains(&life) || request.exp < arrived {
        return deny(Reason::RequestStale, "from the future, past its time, or meant to live too long");
    }
    if !(0..=PENDING_SECONDS).contains(&(now - arrived)) {
        return deny(Reason::RequestStale, "arrived too long ago");
    }
    let other_hash = request.manifest.hash.0 != facts.manifest_hash;
    if request.manifest.version == facts.manifest.version && other_hash {
        return deny(Reason::ManifestMismatch, "written under another manifest of the same version");
    }
    if !facts.first_use {
        return deny(Reason::RequestReplayed, "its jti was seen before, or the replay guard is in doubt");
    }
    let epoch = facts.manifest.epoch(request.epoch);
    if epoch.is_none_or(|epoch| epoch.not_before > now) {
        return deny(Reason::EpochUnknown, "its epoch is not in use");
    }
    Ok(request)
}

fn unverified(error: JwsError) -> Denial {
    let reason = match error {
        JwsError::Malformed | JwsError::WrongKind => Reason::RequestMalformed,
        JwsError::UnknownKey | JwsError::BadSignature | JwsError::WrongIssuer | JwsError::Signing => {
            Reason::SignatureInvalid
        }
    };
    Denial::new(Step::Request, reason, error.to_string())
}

/// The ticket, and whether it is past its time.
fn ticket<'a>(facts: &Facts<'a>, request: &QueryRequest) -> Result<(&'a Ticket, bool), Denial> {
    let deny = |reason, detail: &'static str| Err(Denial::new(Step::Ticket, reason, detail));
    let ticket = match facts.ticket {
        TicketFact::Missing => return deny(Reason::TicketMissing, "no ticket"),
        TicketFact::Invalid => return deny(Reason::TicketInvalid, "not a signed ticket"),
        TicketFact::Read(ticket) => ticket,
    };
    // Every member's message key signs envelopes; only the registry's makes a ticket.
    if facts.manifest.registry().is_none_or(|registry| registry.id != ticket.iss) {
        return deny(Reason::TicketInvalid, "not signed by the registry");
    }
    if ticket.nonce.0.len() != NONCE_BYTES || ticket.epoch != request.epoch {
        return deny(Reason::TicketInvalid, "of another epoch, or its nonce is not 16 bytes");
    }
    let (life, arrived) = (ticket.exp - ticket.iat, facts.received);
    if !ticket.iat.not_ahead_of(arrived) || !(0..=TICKET_SECONDS).contains(&life) {
        return deny(Reason::TicketInvalid, "from the future, or meant to live too long");
    }
    let used_old_ticket = ticket.exp < arrived;
    if used_old_ticket && !(facts.registry_away && arrived - ticket.iat <= OLD_TICKET_SECONDS) {
        return deny(Reason::TicketExpired, "past its time");
    }
    if ticket.sub != request.iss {
        return deny(Reason::TicketWrongAsker, "given to another member");
    }
    Ok((ticket, used_old_ticket))
}

/// What was counted, and the hour. Danger waits for neither quota nor hours, but is counted by itself.
fn meters(
    facts: &Facts<'_>,
    agreement: &Agreement,
    query: &Query,
    ground: &Ground<'_>,
    now: Timestamp,
) -> Result<(), Denial> {
    let used = facts.used;
    let deny = |reason, detail: String| Err(Denial::new(Step::Quota, reason, Cow::Owned(detail)));
    if let Ground::Emergency { emergency, .. } = ground {
        if used.review_overdue {
            return deny(Reason::EmergencyReviewOverdue, "of this user".to_owned());
        }
        if used.emergencies_today >= emergency.per_member_per_day {
            return deny(Reason::EmergencyLimit, format!("{} today", used.emergencies_today));
        }
        return Ok(());
    }
    if used.today >= agreement.queries_per_day {
        return deny(Reason::QuotaExceeded, format!("{} of {} used today", used.today, agreement.queries_per_day));
    }
    if agreement.queries_per_user_per_day.is_some_and(|most| used.today_by_user >= most) {
        return deny(Reason::UserQuotaExceeded, format!("{} used today", used.today_by_user));
    }
    if query.guesses.is_some_and(|most| used.guesses >= most) {
        return deny(Reason::GuessLimit, format!("{} values compared in 30 days", used.guesses));
    }
    if !hours::open(&agreement.hours, now) {
        return deny(Reason::OutsideHours, "not an hour of the agreement".to_owned());
    }
    Ok(())
}

fn subject(facts: &Facts<'_>, ticket: &Ticket, ground: &Ground<'_>) -> Result<Flags, Denial> {
    let deny = |reason, detail: &'static str| Err(Denial::new(Step::Subject, reason, detail));
    let Some(subject) = facts.subject else {
        return deny(Reason::SubjectUnknown, "not known here");
    };
    let flags = subject.flags;
    if !ticket.is_for(subject.index) {
        return deny(Reason::TicketWrongSubject, "the ticket is for another resident");
    }
    if flags.unlisted {
        return deny(Reason::SubjectUnlisted, "flagged unlisted");
    }
    if flags.deceased {
        return deny(Reason::SubjectDeceased, "flagged deceased");
    }
    if flags.restricted {
        return deny(Reason::SubjectRestricted, "flagged restricted");
    }
    // An objection beats a consent; what the law demands it does not touch.
    if flags.objected && matches!(ground, Ground::Consent(_)) {
        return deny(Reason::SubjectObjected, "flagged as objecting");
    }
    Ok(flags)
}

pub(crate) fn some_left(query: &Query, fields: &BTreeSet<FieldId>) -> Result<(), Denial> {
    if query.tier != Tier::Presence && fields.is_empty() {
        let detail = "no field was asked, agreed and covered by the basis";
        return Err(Denial::new(Step::Fields, Reason::NoFields, detail));
    }
    Ok(())
}

/// In an emergency, what is sealed and somebody who is not known are refused alike.
fn alike(denial: Denial, ground: &Ground<'_>) -> Denial {
    match ground {
        Ground::Emergency { .. } => Denial::new(
            denial.step(),
            Reason::EmergencyClosed,
            format!("{}: {}", denial.reason().code(), denial.detail()),
        ),
        Ground::Mandate { .. } | Ground::Consent(_) => denial,
    }
}

/// Who decides: the strictest of query type, agreement and objection. Danger does not wait for anybody.
fn mode(query: &Query, agreement: &Agreement, ground: &Ground<'_>, flags: Flags) -> AnswerMode {
    if matches!(ground, Ground::Emergency { .. }) {
        return AnswerMode::Automatic;
    }
    let objected = flags.objected && ground.may_be_objected_to();
    query.mode.max(agreement.mode).max(if objected { AnswerMode::Human } else { AnswerMode::Automatic })
}

/// Narrows `permit` to what a person approved, where one must.
fn approved(
    facts: &Facts<'_>,
    request: &QueryRequest,
    query: &Query,
    mode: AnswerMode,
    permit: &mut Permit,
    now: Timestamp,
) -> Result<(), Denial> {
    let deny = |reason, detail: &'static str| Err(Denial::new(Step::Mode, reason, detail));
    if mode == AnswerMode::Automatic {
        if facts.received == now {
            return Ok(());
        }
        return deny(Reason::RequestStale, "nobody has to decide, so it is answered when it arrives or never");
    }
    let approval = match facts.approval {
        ApprovalFact::Awaited => {
            let proposal = Proposal { permit: permit.clone(), until: facts.received + PENDING_SECONDS };
            return Err(Denial::pending(proposal));
        }
        ApprovalFact::Refused => return deny(Reason::ApprovalRefused, "a person here refused"),
        ApprovalFact::Lapsed => return deny(Reason::ApprovalExpired, "nobody decided in time"),
        ApprovalFact::Given(approval) => approval,
    };
    let same_question = request.question().is_ok_and(|question| &question == approval.question);
    if !same_question || approval.by.0.is_empty() {
        return deny(Reason::ApprovalInvalid, "of another question, or by nobody");
    }
    if now > approval.until {
        return deny(Reason::ApprovalExpired, "not collected in time");
    }
    permit.fields.retain(|field| approval.fields.contains(field));
    some_left(query, &permit.fields)
}

fn list(fields: &BTreeSet<FieldId>) -> String {
    let names: Vec<_> = fields.iter().map(FieldId::as_str).collect();
    if names.is_empty() { "no field".to_owned() } else { names.join(", ") }
}
