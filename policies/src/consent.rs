//! The resident's consent to one query: who gave it to whom, for what, when, and what of it still stands.
//!
//! A template's version is what the resident read: another never widens it. What was not given is refused. What the
//! resident refused more specifically, or later, stands against it.

use crate::basis::{Cover, Given, Ground, HASH_BYTES};
use crate::engine::Engine;
use crate::facts::{ConsentFact, Facts, Flags, Refusal};
use crate::permit::{Denial, Step};
use crate::template::Template;
use protocol::consent::{Acting, ConsentRef, Grant, STATUS_MAX_AGE_SECONDS};
use protocol::manifest::Member;
use protocol::query::QueryRequest;
use protocol::time::DAY_SECONDS;
use protocol::{FieldId, Reason, Timestamp};

impl Engine {
    /// What `ground` covers; a consent is judged here.
    pub(crate) fn cover<'a>(
        &'a self,
        ground: &Ground<'a>,
        facts: &Facts<'a>,
        request: &'a QueryRequest,
        holder: &'a Member,
        now: Timestamp,
    ) -> Result<Cover<'a>, Denial> {
        let reference = match *ground {
            Ground::Mandate { id, mandate } => return Ok(Cover::Mandate { id, mandate }),
            Ground::Emergency { id, emergency } => return Ok(Cover::Emergency { id, emergency }),
            Ground::Consent(reference) => reference,
        };
        let held = held(facts, reference, request, holder)?;
        let grant = held.grant;
        let template = self.library.catalogue.template(&grant.template);
        let template = template.ok_or_else(|| deny(Reason::BasisNotAllowed, "its template is not of this library"))?;

        names_this(grant, template, request)?;
        in_time(grant, template, now)?;
        stands(&held, now)?;
        let standing = |module: &&String| !held.withdrawn_modules.contains(*module);
        let permissions: Vec<_> = grant
            .modules
            .iter()
            .filter(standing)
            .filter_map(|module| template.modules.get(module))
            .flat_map(|module| &module.permissions)
            .filter(|permission| permission.query == request.query && permission.holder_kind == holder.kind)
            .collect();
        if permissions.is_empty() {
            return Err(not_covered(grant, template, request, holder));
        }
        accountable(grant, request)?;
        let (flags, refusals) = facts.subject.map_or((Flags::default(), &[][..]), |s| (s.flags, s.refusals));
        by_the_right_hand(grant, flags)?;
        let refused = refused(grant, refusals, request)?;
        Ok(Cover::Consent(Given { grant, permissions, refused }))
    }
}

/// The grant cited, if it is of this resident, at this holder.
fn held<'a>(
    facts: &Facts<'a>,
    reference: &ConsentRef,
    request: &QueryRequest,
    holder: &Member,
) -> Result<ConsentFact<'a>, Denial> {
    let held = facts.consent.filter(|held| held.grant.consent == reference.id && held.grant.aud == holder.id);
    let held = held.ok_or_else(|| deny(Reason::ConsentUnknown, "no such grant here"))?;
    if held.grant.sub != request.sub || held.grant.epoch != request.epoch {
        return Err(deny(Reason::ConsentOtherSubject, "the grant is another resident's"));
    }
    Ok(held)
}

fn names_this(grant: &Grant, template: &Template, request: &QueryRequest) -> Result<(), Denial> {
    if grant.recipient != request.iss {
        return Err(deny(Reason::ConsentOtherRecipient, "given for another recipient"));
    }
    if !grant.purposes.contains(&request.purpose) || !template.purposes.contains(&request.purpose) {
        return Err(deny(Reason::ConsentOtherPurpose, "given for another purpose"));
    }
    Ok(())
}

fn in_time(grant: &Grant, template: &Template, now: Timestamp) -> Result<(), Denial> {
    let longest = grant.valid_from + i64::from(template.max_days).saturating_mul(DAY_SECONDS);
    if !grant.iat.not_ahead_of(now) || now < grant.valid_from || now > grant.valid_to.min(longest) {
        return Err(deny(Reason::ConsentExpired, "outside its period, or longer than its template allows"));
    }
    if template.valid_to.is_some_and(|end| now > end) {
        return Err(deny(Reason::ConsentTemplateExpired, "its template is no longer in force"));
    }
    Ok(())
}

fn stands(held: &ConsentFact<'_>, now: Timestamp) -> Result<(), Denial> {
    if held.withdrawn || held.status.is_some_and(|status| status.withdrawn) {
        return Err(deny(Reason::ConsentWithdrawn, "withdrawn"));
    }
    let fresh = held
        .status
        .is_some_and(|status| status.as_of.not_ahead_of(now) && now - status.as_of <= STATUS_MAX_AGE_SECONDS);
    if fresh { Ok(()) } else { Err(deny(Reason::ConsentStatusStale, "the recorder's status list is too old")) }
}

/// Why no module given and standing permits the query.
fn not_covered(grant: &Grant, template: &Template, request: &QueryRequest, holder: &Member) -> Denial {
    let given = template
        .permissions(&grant.modules)
        .any(|permission| permission.query == request.query && permission.holder_kind == holder.kind);
    if given {
        deny(Reason::ConsentWithdrawn, "the module was withdrawn")
    } else {
        deny(Reason::ConsentOtherQuery, "no module that was given permits this query")
    }
}

/// A grant proves only that its recorder says so: a recorder must not be able to grant itself in one hand.
fn accountable(grant: &Grant, request: &QueryRequest) -> Result<(), Denial> {
    if grant.evidence.0.len() != HASH_BYTES {
        return Err(deny(Reason::ConsentUnknown, "no evidence digest"));
    }
    if grant.iss == request.iss && (grant.collected_by.0.is_empty() || grant.collected_by == request.user.id) {
        return Err(deny(Reason::ConsentSameUser, "the asking user took the consent"));
    }
    Ok(())
}

/// A minor's consent is a guardian's, and a guardian's ends with minority.
fn by_the_right_hand(grant: &Grant, flags: Flags) -> Result<(), Denial> {
    if flags.minor == (grant.acting == Acting::Guardian) {
        Ok(())
    } else {
        Err(deny(Reason::ConsentRepresentative, "not given by whoever may give it for this resident now"))
    }
}

/// The fields refused in spite of `grant`.
///
/// A refusal of fewer fields than the grant names is more specific and stands whenever it was said. One as wide as the
/// grant, or wider, stands unless the grant was given later.
fn refused<'a>(grant: &Grant, refusals: &'a [Refusal], request: &QueryRequest) -> Result<Vec<&'a FieldId>, Denial> {
    let mut out = Vec::new();
    let about_this = |refusal: &&Refusal| {
        refusal.recipient.as_ref().is_none_or(|who| who == &request.iss)
            && refusal.purpose.as_ref().is_none_or(|purpose| purpose == &request.purpose)
    };
    for refusal in refusals.iter().filter(about_this) {
        match &refusal.fields {
            Some(fields) if !grant.fields.is_subset(fields) => out.extend(fields),
            _ if grant.iat <= refusal.at => return Err(deny(Reason::ConsentRefused, "refused since")),
            _ => {}
        }
    }
    Ok(out)
}

fn deny(reason: Reason, detail: &'static str) -> Denial {
    Denial::new(Step::Consent, reason, detail)
}
