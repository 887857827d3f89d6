//! The legal basis of a request: what is claimed, and which fields it covers.

use crate::catalogue::{BasisKind, Catalogue, Mandate, Query, Template};
use crate::decide::DAY_SECONDS;
use crate::engine::Engine;
use crate::facts::ConsentFact;
use crate::permit::{BasisRef, Denial, Step};
use protocol::consent::{ConsentRef, Grant, STATUS_MAX_AGE_SECONDS};
use protocol::manifest::Member;
use protocol::query::{Basis, QueryRequest};
use protocol::{FieldId, MemberKind, QueryType, Reason, Timestamp};

/// Length of a SHA-256 or HMAC-SHA-256, in bytes.
const HASH_BYTES: usize = 32;

/// A basis that may carry the query, as far as that does not depend on the resident.
pub(crate) enum Ground<'a> {
    Mandate { id: &'a str, mandate: &'a Mandate },
    Consent(&'a ConsentRef),
}

impl Ground<'_> {
    pub(crate) fn kind(&self) -> BasisKind {
        match self {
            Ground::Mandate { .. } => BasisKind::Mandate,
            Ground::Consent(_) => BasisKind::Consent,
        }
    }
}

/// A basis that holds for this resident.
pub(crate) enum Cover<'a> {
    Mandate { id: &'a str, mandate: &'a Mandate },
    Consent { grant: &'a Grant, template: &'a Template, query: &'a QueryType, holder: &'a MemberKind },
}

impl Cover<'_> {
    /// Whether `field` may leave on it: for a consent, only what the grant says and its template permits.
    pub(crate) fn contains(&self, field: &FieldId) -> bool {
        match self {
            Cover::Mandate { mandate, .. } => mandate.fields.contains(field),
            Cover::Consent { grant, template, query, holder } => {
                grant.fields.contains(field)
                    && template.all_permissions().any(|permission| {
                        &permission.query == *query
                            && &permission.holder_kind == *holder
                            && permission.fields.contains(field)
                    })
            }
        }
    }

    pub(crate) fn reference(&self) -> BasisRef {
        match self {
            Cover::Mandate { id, mandate } => BasisRef::Mandate { id: (*id).to_owned(), version: mandate.version },
            Cover::Consent { grant, .. } => {
                BasisRef::Consent { id: grant.consent, recorder: grant.iss.clone(), template: grant.template.clone() }
            }
        }
    }
}

impl Engine {
    /// The basis claimed, if it may carry `query` between these institutions.
    pub(crate) fn ground<'a>(
        &'a self,
        request: &'a QueryRequest,
        query: &Query,
        asker: &Member,
        holder: &Member,
        now: Timestamp,
    ) -> Result<Ground<'a>, Denial> {
        let deny = |reason, detail: &'static str| Denial::new(Step::Basis, reason, detail);
        let ground = match &request.basis {
            Basis::None => return Err(deny(Reason::BasisMissing, "none given")),
            Basis::Consent(reference) => Ground::Consent(reference),
            Basis::Mandate { id } => {
                let mandate = self.mandate(id).filter(|mandate| {
                    mandate.asker_kinds.contains(&asker.kind)
                        && mandate.holder_kinds.contains(&holder.kind)
                        && mandate.purposes.contains(&request.purpose)
                        && mandate.valid_from <= now
                        && mandate.valid_to.is_none_or(|end| now <= end)
                });
                let detail = "no such mandate in force for these institutions and this purpose";
                Ground::Mandate { id, mandate: mandate.ok_or_else(|| deny(Reason::MandateUnknown, detail))? }
            }
        };
        if !query.bases.contains(&ground.kind()) {
            return Err(deny(Reason::BasisNotAllowed, "this query may not rest on it"));
        }
        let case_cited = request.case.as_ref().is_some_and(|case| case.0.len() == HASH_BYTES);
        if matches!(&ground, Ground::Mandate { mandate, .. } if mandate.requires_case && !case_cited) {
            return Err(deny(Reason::CaseMissing, "the mandate needs an open case"));
        }
        Ok(ground)
    }

    /// What `ground` covers; a consent is judged here.
    pub(crate) fn cover<'a>(
        &'a self,
        ground: &Ground<'a>,
        held: Option<&ConsentFact<'a>>,
        request: &'a QueryRequest,
        holder: &'a Member,
        now: Timestamp,
    ) -> Result<Cover<'a>, Denial> {
        let deny = |reason, detail: &'static str| Denial::new(Step::Consent, reason, detail);
        let reference = match *ground {
            Ground::Mandate { id, mandate } => return Ok(Cover::Mandate { id, mandate }),
            Ground::Consent(reference) => reference,
        };
        let held = held.filter(|held| names(held.grant, reference, request, holder));
        let held = held.ok_or_else(|| deny(Reason::ConsentUnknown, "no such grant for this resident here"))?;
        let grant = held.grant;
        let template = template_for(&self.library.catalogue, grant, &request.query, &holder.kind);
        let template =
            template.ok_or_else(|| deny(Reason::BasisNotAllowed, "its template does not permit this query"))?;

        if grant.recipient != request.iss {
            return Err(deny(Reason::ConsentOtherRecipient, "given for another recipient"));
        }
        if !grant.purposes.contains(&request.purpose) || !template.purposes.contains(&request.purpose) {
            return Err(deny(Reason::ConsentOtherPurpose, "given for another purpose"));
        }
        let longest = grant.valid_from + i64::from(template.max_days).saturating_mul(DAY_SECONDS);
        if !grant.iat.not_ahead_of(now) || now < grant.valid_from || now > grant.valid_to.min(longest) {
            return Err(deny(Reason::ConsentExpired, "outside its period, or longer than its template allows"));
        }
        if held.withdrawn || held.status.is_some_and(|status| status.withdrawn) {
            return Err(deny(Reason::ConsentWithdrawn, "withdrawn"));
        }
        let fresh = held
            .status
            .is_some_and(|status| status.as_of.not_ahead_of(now) && now - status.as_of <= STATUS_MAX_AGE_SECONDS);
        if !fresh {
            return Err(deny(Reason::ConsentStatusStale, "the recorder's status list is too old"));
        }
        // A grant proves only that its recorder says so: a recorder must not be able to grant itself in one hand.
        if grant.evidence.0.len() != HASH_BYTES {
            return Err(deny(Reason::ConsentUnknown, "no evidence digest"));
        }
        if grant.iss == request.iss && (grant.collected_by.0.is_empty() || grant.collected_by == request.user.id) {
            return Err(deny(Reason::ConsentSameUser, "the asking user took the consent"));
        }
        Ok(Cover::Consent { grant, template, query: &request.query, holder: &holder.kind })
    }
}

/// Whether `grant` is the one cited, for this resident, at this holder.
fn names(grant: &Grant, reference: &ConsentRef, request: &QueryRequest, holder: &Member) -> bool {
    grant.consent == reference.id && grant.aud == holder.id && grant.sub == request.sub && grant.epoch == request.epoch
}

fn template_for<'a>(
    catalogue: &'a Catalogue,
    grant: &Grant,
    query: &QueryType,
    holder: &MemberKind,
) -> Option<&'a Template> {
    catalogue.template(&grant.template).filter(|template| {
        template.all_permissions().any(|permission| &permission.query == query && &permission.holder_kind == holder)
    })
}
