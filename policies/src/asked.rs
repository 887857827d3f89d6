//! What of a question depends on no resident: who asks whom, what, what for and on what basis. A holder judges it first
//! ([`Engine::decide`]); the asking side judges the same by itself before anything leaves ([`Engine::answerable`]).

use crate::basis::Ground;
use crate::catalogue::{Query, Tier};
use crate::decide::some_left;
use crate::engine::Engine;
use crate::explain::Observer;
use crate::permit::{Denial, Step};
use protocol::agreement::{Agreement, AgreementRef};
use protocol::encoding::Bytes;
use protocol::manifest::{Manifest, Member};
use protocol::query::{Basis, QueryRequest};
use protocol::{FieldId, Purpose, QueryType, Reason, Role, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A question, without the resident.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub asker: &'a Member,
    /// Who is asked.
    pub holder: &'a Member,
    /// The role in which a user asks.
    pub role: &'a Role,
    /// What.
    pub query: &'a QueryType,
    /// Which fields.
    pub fields: &'a BTreeSet<FieldId>,
    /// Values to compare.
    pub expected: &'a BTreeMap<FieldId, Value>,
    /// What for.
    pub purpose: &'a Purpose,
    /// The legal basis claimed.
    pub basis: &'a Basis,
    /// What stands for the open case.
    pub case: Option<&'a Bytes>,
}

impl<'a> Asked<'a> {
    pub(crate) fn by(request: &'a QueryRequest, asker: &'a Member, holder: &'a Member) -> Self {
        Asked {
            asker,
            holder,
            role: &request.user.role,
            query: &request.query,
            fields: &request.fields,
            expected: &request.expected,
            purpose: &request.purpose,
            basis: &request.basis,
            case: request.case.as_ref(),
        }
    }
}

/// On what a question rests, as far as that depends on no resident.
pub(crate) struct Terms<'a> {
    pub(crate) agreement: &'a Agreement,
    pub(crate) query: &'a Query,
    pub(crate) ground: Ground<'a>,
}

impl Engine {
    /// Whether `asked` may be answered of some resident at `now`, as far as can be known without the holder: the steps
    /// agreement, query and basis, and that a field is left.
    ///
    /// # Errors
    /// The first step that fails.
    pub fn answerable(
        &self,
        asked: &Asked<'_>,
        manifest: &Manifest,
        revoked: &[AgreementRef],
        now: Timestamp,
    ) -> Result<(), Denial> {
        let Terms { agreement, query, ground } = self.terms(asked, manifest, revoked, now, &mut ())?;
        if matches!(ground, Ground::Emergency { .. }) {
            // There every field that does not open is refused alike, by the holder.
            return Ok(());
        }
        let open = |field: &&FieldId| {
            query.fields.contains(*field)
                && agreement.fields.contains(*field)
                && ground.may_cover(field)
                && self.field(field).is_some_and(|known| !known.sealed)
        };
        some_left(query, &asked.fields.iter().filter(open).cloned().collect())
    }

    /// The agreement, the query type and the basis of `asked`.
    pub(crate) fn terms<'a>(
        &'a self,
        asked: &Asked<'a>,
        manifest: &'a Manifest,
        revoked: &[AgreementRef],
        now: Timestamp,
        to: &mut impl Observer,
    ) -> Result<Terms<'a>, Denial> {
        let (me, holder) = (&asked.asker.id, &asked.holder.id);
        let agreement = Engine::agreement_for(manifest, revoked, me, holder, asked.query, asked.purpose, now)
            .map_err(|reason| Denial::new(Step::Agreement, reason, "for this asker, query and purpose"))?;
        to.passed(Step::Agreement, || agreement.reference().to_string());
        let query = self.askable_here(asked)?;
        to.passed(Step::Query, || format!("{}, {}, role {}", asked.query, query.tier.as_str(), asked.role));
        let ground = self.ground(asked, query, now)?;
        to.passed(Step::Basis, || format!("{} for {}", ground.kind().as_str(), asked.purpose));
        Ok(Terms { agreement, query, ground })
    }

    fn askable_here(&self, asked: &Asked<'_>) -> Result<&Query, Denial> {
        let query = self.askable(asked.query, &asked.asker.kind, asked.role);
        let query = query.map_err(|reason| Denial::new(Step::Query, reason, "not for this asker or role"))?;
        if !query.holder_kinds.contains(&asked.holder.kind) {
            return Err(Denial::new(Step::Query, Reason::QueryUnknown, "not a query type this holder answers"));
        }
        // Values come with what they are compared with, and nowhere else.
        let compares = query.tier == Tier::Verify;
        if compares == asked.expected.is_empty() || (compares && !asked.expected.keys().eq(asked.fields)) {
            let detail = "values to compare do not go with the query type and its fields";
            return Err(Denial::new(Step::Query, Reason::RequestMalformed, detail));
        }
        Ok(query)
    }
}
