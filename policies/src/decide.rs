//! The decision (design §5): one function, one order, closed at the first doubt.
//!
//! What does not depend on the resident is judged first, quota included. Whoever fails there learns nothing of the
//! resident; whoever passes is a member the registry shows this institution to if the resident is listed here. Only
//! then come the resident's own steps, of which the first tells `not_available` for unknown, restricted and unlisted
//! alike, before a consent is looked at.

use crate::basis::Ground;
use crate::catalogue::{Query, Tier};
use crate::engine::Engine;
use crate::facts::{Facts, TicketFact};
use crate::guard::Question;
use crate::permit::{AgreementRef, Denial, Permit, Step};
use protocol::jws::JwsError;
use protocol::manifest::{Agreement, Member};
use protocol::query::{MAX_LIFE_SECONDS, Obligations, QueryRequest};
use protocol::registry::{OLD_TICKET_SECONDS, TICKET_SECONDS, Ticket};
use protocol::{FieldId, Reason, Timestamp};
use std::borrow::Cow;
use std::collections::BTreeSet;

pub(crate) const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Lengths of a request's `jti` and a ticket's nonce, in bytes.
const JTI_BYTES: usize = 16;
const NONCE_BYTES: usize = 16;

impl Engine {
    /// Whether `facts` permit an answer at `now`.
    ///
    /// # Errors
    /// The first step that fails.
    pub fn decide(&self, facts: &Facts<'_>, now: Timestamp) -> Result<Permit, Denial> {
        let holder = self.own_state(facts, now)?;
        let asker = peer(facts)?;
        let request = request(facts, now)?;
        let (ticket, used_old_ticket) = ticket(facts, request, now)?;
        let agreement = agreement(facts, request, now)?;
        let query = self.askable_here(request, asker, holder)?;
        let ground = self.ground(request, query, asker, holder, now)?;
        quota(facts, agreement)?;
        subject(facts, ticket)?;
        let cover = self.cover(&ground, facts.consent.as_ref(), request, holder, now)?;

        let allowed = |field: &&FieldId| {
            query.fields.contains(*field) && agreement.fields.contains(*field) && cover.contains(field)
        };
        let mut fields: BTreeSet<_> = request.fields.iter().filter(allowed).cloned().collect();
        let policies = self.policies(request, query, asker, &ground, &fields)?;
        fields.retain(|id| self.field(id).is_some_and(|field| !field.sealed));
        if query.tier != Tier::Presence && fields.is_empty() {
            return Err(Denial::new(
                Step::Fields,
                Reason::NoFields,
                "no field was asked, agreed and covered by the basis",
            ));
        }
        let life = i64::from(query.delete_after_days).saturating_mul(DAY_SECONDS);
        Ok(Permit {
            query: request.query.clone(),
            tier: query.tier,
            fields,
            obligations: Obligations { delete_after: now + life, onward_transfer: false },
            agreement: AgreementRef { id: agreement.id.clone(), version: agreement.version },
            basis: cover.reference(),
            used_old_ticket,
            policies,
        })
    }

    /// This node's own entry in a manifest that is in force and pins the library in use.
    fn own_state<'a>(&self, facts: &Facts<'a>, now: Timestamp) -> Result<&'a Member, Denial> {
        let deny = |reason, detail: &'static str| Denial::new(Step::Node, reason, detail);
        if now > facts.manifest.expires {
            return Err(deny(Reason::ManifestExpired, "the manifest has expired"));
        }
        if facts.manifest.library.0 != self.library.digest {
            return Err(deny(Reason::NodeClosed, "the library is not the one the manifest pins"));
        }
        facts.manifest.member(facts.me).ok_or_else(|| deny(Reason::NodeClosed, "this node is not in its manifest"))
    }

    fn askable_here(&self, request: &QueryRequest, asker: &Member, holder: &Member) -> Result<&Query, Denial> {
        let query = self.askable(&request.query, &asker.kind, &request.user.role);
        let query = query.map_err(|reason| Denial::new(Step::Query, reason, "not for this asker or role"))?;
        if query.holder_kinds.contains(&holder.kind) {
            Ok(query)
        } else {
            Err(Denial::new(Step::Query, Reason::QueryUnknown, "not a query type this holder answers"))
        }
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
    // No tier that compares values is answered yet, so values to compare have no business here.
    if request.jti.0.len() != JTI_BYTES || !request.expected.is_empty() {
        return deny(Reason::RequestMalformed, "jti is not 16 bytes, or values came that no query compares");
    }
    if &request.aud != facts.me {
        return deny(Reason::AudienceWrong, "addressed to another member");
    }
    let life = request.exp - request.iat;
    if !request.iat.not_ahead_of(now) || !(0..=MAX_LIFE_SECONDS).contains(&life) || request.exp < now {
        return deny(Reason::RequestStale, "from the future, past its time, or meant to live too long");
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
fn ticket<'a>(facts: &Facts<'a>, request: &QueryRequest, now: Timestamp) -> Result<(&'a Ticket, bool), Denial> {
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
    let life = ticket.exp - ticket.iat;
    if !ticket.iat.not_ahead_of(now) || !(0..=TICKET_SECONDS).contains(&life) {
        return deny(Reason::TicketInvalid, "from the future, or meant to live too long");
    }
    let used_old_ticket = ticket.exp < now;
    if used_old_ticket && !(facts.registry_away && now - ticket.iat <= OLD_TICKET_SECONDS) {
        return deny(Reason::TicketExpired, "past its time");
    }
    if ticket.sub != request.iss {
        return deny(Reason::TicketWrongAsker, "given to another member");
    }
    Ok((ticket, used_old_ticket))
}

fn agreement<'a>(facts: &Facts<'a>, request: &QueryRequest, now: Timestamp) -> Result<&'a Agreement, Denial> {
    Engine::agreement_for(facts.manifest, &request.iss, facts.me, &request.query, &request.purpose, now)
        .map_err(|reason| Denial::new(Step::Agreement, reason, "for this asker, query and purpose"))
}

fn quota(facts: &Facts<'_>, agreement: &Agreement) -> Result<(), Denial> {
    if facts.used_today < agreement.queries_per_day {
        return Ok(());
    }
    let detail = format!("{} of {} queries used today", facts.used_today, agreement.queries_per_day);
    Err(Denial::new(Step::Quota, Reason::QuotaExceeded, Cow::Owned(detail)))
}

fn subject(facts: &Facts<'_>, ticket: &Ticket) -> Result<(), Denial> {
    let deny = |reason, detail: &'static str| Err(Denial::new(Step::Subject, reason, detail));
    let Some(subject) = facts.subject else {
        return deny(Reason::SubjectUnknown, "not known here");
    };
    if !ticket.is_for(subject.index) {
        return deny(Reason::TicketWrongSubject, "the ticket is for another resident");
    }
    if subject.flags.unlisted {
        return deny(Reason::SubjectUnlisted, "flagged unlisted");
    }
    if subject.flags.restricted {
        return deny(Reason::SubjectRestricted, "flagged restricted");
    }
    Ok(())
}
