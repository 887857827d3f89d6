//! The legal basis of a request: what is claimed, and which fields it covers.

use crate::asked::Asked;
use crate::catalogue::{BasisKind, Emergency, Evidence, Mandate, Query};
use crate::engine::Engine;
use crate::permit::{BasisRef, Denial, Step};
use crate::template::Permission;
use protocol::consent::{ConsentRef, Grant};
use protocol::query::{Basis, EmergencyClaim};
use protocol::{FieldId, Reason, Timestamp};

/// Length of a SHA-256 or HMAC-SHA-256, in bytes.
pub(crate) const HASH_BYTES: usize = 32;

/// A basis that may carry the query, as far as that does not depend on the resident.
pub(crate) enum Ground<'a> {
    Mandate { id: &'a str, mandate: &'a Mandate },
    Consent(&'a ConsentRef),
    Emergency { id: &'a str, emergency: &'a Emergency },
}

impl Ground<'_> {
    pub(crate) fn kind(&self) -> BasisKind {
        match self {
            Ground::Mandate { .. } => BasisKind::Mandate,
            Ground::Consent(_) => BasisKind::Consent,
            Ground::Emergency { .. } => BasisKind::Emergency,
        }
    }

    /// Whether `field` may leave on it; of a consent that is known only with the resident.
    pub(crate) fn may_cover(&self, field: &FieldId) -> bool {
        match self {
            Ground::Mandate { mandate, .. } => mandate.fields.contains(field),
            Ground::Emergency { emergency, .. } => emergency.fields.contains(field),
            Ground::Consent(_) => true,
        }
    }

    /// Whether the resident's objection has a person decide.
    pub(crate) fn may_be_objected_to(&self) -> bool {
        matches!(self, Ground::Mandate { mandate, .. } if mandate.may_be_objected_to())
    }

    /// When the recipient's review of it is due.
    pub(crate) fn review_by(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Ground::Emergency { emergency, .. } => Some(emergency.review_by(now)),
            Ground::Mandate { .. } | Ground::Consent(_) => None,
        }
    }
}

/// A basis that holds for this resident.
pub(crate) enum Cover<'a> {
    Mandate { id: &'a str, mandate: &'a Mandate },
    Consent(Given<'a>),
    Emergency { id: &'a str, emergency: &'a Emergency },
}

/// A consent that stands, with what is left of it for one query.
pub(crate) struct Given<'a> {
    pub(crate) grant: &'a Grant,
    pub(crate) permissions: Vec<&'a Permission>,
    /// Fields the resident refused, more specifically or later.
    pub(crate) refused: Vec<&'a FieldId>,
}

impl Cover<'_> {
    /// Whether `field` may leave on it: for a consent, only what the grant says and a module given permits.
    pub(crate) fn contains(&self, field: &FieldId) -> bool {
        match self {
            Cover::Mandate { mandate, .. } => mandate.fields.contains(field),
            Cover::Emergency { emergency, .. } => emergency.fields.contains(field),
            Cover::Consent(Given { grant, permissions, refused }) => {
                grant.fields.contains(field)
                    && permissions.iter().any(|permission| permission.fields.contains(field))
                    && !refused.contains(&field)
            }
        }
    }

    pub(crate) fn reference(&self) -> BasisRef {
        match self {
            Cover::Mandate { id, mandate } => BasisRef::Mandate { id: (*id).to_owned(), version: mandate.version },
            Cover::Emergency { id, emergency } => {
                BasisRef::Emergency { id: (*id).to_owned(), version: emergency.version }
            }
            Cover::Consent(Given { grant, .. }) => {
                BasisRef::Consent { id: grant.consent, recorder: grant.iss.clone(), template: grant.template.clone() }
            }
        }
    }
}

impl Engine {
    /// The basis claimed, if it may carry `query` between these institutions.
    pub(crate) fn ground<'a>(&'a self, asked: &Asked<'a>, query: &Query, now: Timestamp) -> Result<Ground<'a>, Denial> {
        let ground = match asked.basis {
            Basis::None => return Err(deny(Reason::BasisMissing, "none given")),
            Basis::Consent(reference) => Ground::Consent(reference),
            Basis::Mandate { id } => {
                let mandate = self.mandate(id).filter(|mandate| {
                    mandate.asker_kinds.contains(&asked.asker.kind)
                        && mandate.holder_kinds.contains(&asked.holder.kind)
                        && mandate.purposes.contains(asked.purpose)
                        && mandate.valid_from <= now
                        && mandate.valid_to.is_none_or(|end| now <= end)
                });
                let detail = "no such mandate in force for these institutions and this purpose";
                Ground::Mandate { id, mandate: mandate.ok_or_else(|| deny(Reason::MandateUnknown, detail))? }
            }
            Basis::Emergency(claim) => {
                let found = self.library.catalogue.emergency_for(&claim.reason).filter(|(_, emergency)| {
                    emergency.asker_kinds.contains(&asked.asker.kind)
                        && emergency.holder_kinds.contains(&asked.holder.kind)
                        && emergency.purposes.contains(asked.purpose)
                });
                let detail = "no such reason for these institutions and this purpose";
                let (id, emergency) = found.ok_or_else(|| deny(Reason::EmergencyReason, detail))?;
                Ground::Emergency { id, emergency }
            }
        };
        if !query.bases.contains(&ground.kind()) {
            return Err(deny(Reason::BasisNotAllowed, "this query may not rest on it"));
        }
        match (&ground, asked.basis) {
            (Ground::Mandate { mandate, .. }, _) if query.tier > mandate.max_tier => {
                return Err(deny(Reason::BasisNotAllowed, "the mandate does not carry as much as this query says"));
            }
            (Ground::Mandate { mandate, .. }, _) => evidence(mandate, asked)?,
            (Ground::Emergency { emergency, .. }, Basis::Emergency(claim)) => open(emergency, claim, now)?,
            _ => {}
        }
        Ok(ground)
    }
}

fn evidence(mandate: &Mandate, asked: &Asked<'_>) -> Result<(), Denial> {
    let case_cited = asked.case.is_some_and(|case| case.0.len() == HASH_BYTES);
    if mandate.requires.contains(&Evidence::Case) && !case_cited {
        return Err(deny(Reason::CaseMissing, "the mandate needs an open case"));
    }
    Ok(())
}

/// Whether the glass was broken properly and not too long ago.
fn open(emergency: &Emergency, claim: &EmergencyClaim, now: Timestamp) -> Result<(), Denial> {
    if claim.note.0.len() != HASH_BYTES {
        return Err(deny(Reason::EmergencyReason, "nothing was written about it"));
    }
    if claim.confirmed <= claim.opened || !claim.confirmed.not_ahead_of(now) {
        return Err(deny(Reason::EmergencyUnconfirmed, "not confirmed a second time, after it was opened"));
    }
    let open_seconds = i64::from(emergency.minutes).saturating_mul(60);
    if !claim.opened.not_ahead_of(now) || now - claim.opened > open_seconds {
        return Err(deny(Reason::EmergencyExpired, "opened too long ago"));
    }
    Ok(())
}

fn deny(reason: Reason, detail: &'static str) -> Denial {
    Denial::new(Step::Basis, reason, detail)
}
