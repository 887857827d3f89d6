//! The Cedar side of a decision: schema, policies and entities, parsed once; one evaluation a decision.
//!
//! Cedar skips a policy that errors; here any error refuses, so that a broken forbid cannot open a door.

use crate::catalogue::{BasisKind, Catalogue, Tier};
use crate::library::LibraryError;
use cedar_policy::{
    Authorizer, Context, Decision, Effect, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, PolicyId,
    PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use protocol::{FieldId, MemberId, MemberKind, Purpose, QueryType, Reason, Role};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, RwLock};

/// The schema's file in a library.
pub(crate) const SCHEMA: &str = "schema.cedarschema";
/// The permits' file in a library.
pub(crate) const FEDERATION: &str = "federation.cedar";

#[derive(Clone, Debug)]
pub(crate) struct Guard {
    authorizer: Authorizer,
    schema: Schema,
    policies: PolicySet,
    entities: Entities,
    types: Types,
    contexts: Contexts,
}

/// What Cedar is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) asker: &'a MemberId,
    pub(crate) asker_kind: &'a MemberKind,
    pub(crate) role: &'a Role,
    pub(crate) purpose: &'a Purpose,
    pub(crate) basis: BasisKind,
    pub(crate) case: bool,
    pub(crate) query: &'a QueryType,
    pub(crate) tier: Tier,
    /// What the answer would be about. A share query's values leave, no other's.
    pub(crate) fields: &'a BTreeSet<FieldId>,
}

impl Question<'_> {
    fn values(&self) -> impl Iterator<Item = &FieldId> {
        self.fields.iter().filter(|_| self.tier == Tier::Share)
    }

    /// Everything its context is made of. No id has a line break in it.
    fn key(&self) -> String {
        let mut key = String::with_capacity(256);
        let scalars = [self.asker_kind.as_str(), self.role.as_str(), self.purpose.as_str(), self.basis.as_str()];
        let flags = [if self.case { "case" } else { "" }, self.tier.as_str()];
        for part in scalars.into_iter().chain(flags).chain(self.fields.iter().map(FieldId::as_str)) {
            key.push_str(part);
            key.push('\n');
        }
        key
    }
}

impl Guard {
    /// A guard by `schema` and the federation's `policies`, over the entities of `catalogue`.
    pub(crate) fn new(schema: &str, policies: &str, catalogue: &Catalogue) -> Result<Self, LibraryError> {
        let in_schema = |problem: String| LibraryError::new(SCHEMA, problem);
        let (schema, warnings) = Schema::from_cedarschema_str(schema).map_err(|e| in_schema(causes(&e)))?;
        if let Some(warning) = warnings.into_iter().next() {
            return Err(in_schema(causes(&warning)));
        }
        let types = Types::new().map_err(in_schema)?;
        let entities = types.entities(catalogue, &schema).map_err(in_schema)?;
        let guard = Guard {
            authorizer: Authorizer::new(),
            schema,
            policies: PolicySet::new(),
            entities,
            types,
            contexts: Contexts::default(),
        };
        guard.with(FEDERATION, policies, catalogue, None)
    }

    /// This guard with an institution's own policies, which may only forbid.
    pub(crate) fn with_local(self, file: &str, text: &str, catalogue: &Catalogue) -> Result<Self, LibraryError> {
        self.with(file, text, catalogue, Some(Effect::Forbid))
    }

    fn with(
        mut self,
        file: &str,
        text: &str,
        catalogue: &Catalogue,
        only: Option<Effect>,
    ) -> Result<Self, LibraryError> {
        let refuse = |problem: String| LibraryError::new(file, problem);
        let parsed: PolicySet = text.parse().map_err(|e| refuse(causes(&e)))?;
        if parsed.num_of_templates() > 0 {
            return Err(refuse("policy templates are not used".into()));
        }
        for policy in parsed.policies() {
            let name = policy.annotation("id").ok_or_else(|| refuse("a policy has no @id(\"…\")".into()))?;
            if only.is_some_and(|effect| policy.effect() != effect) {
                return Err(refuse(format!("{name} is a permit: an institution's own policies may only forbid")));
            }
            self.types.check_names(policy, catalogue).map_err(|unknown| refuse(format!("{name} names {unknown}")))?;
            let policy = policy.new_id(PolicyId::new(format!("{file}#{name}")));
            self.policies.add(policy).map_err(|e| refuse(causes(&e)))?;
        }
        let validation = Validator::new(self.schema.clone()).validate(&self.policies, ValidationMode::Strict);
        // A warning is a policy that can never apply or does not say what it seems to.
        let error = validation.validation_errors().next().map(|e| causes(e));
        match error.or_else(|| validation.validation_warnings().next().map(|w| causes(w))) {
            Some(problem) => Err(refuse(problem)),
            None => Ok(self),
        }
    }

    /// The ids of the policies that permit `question`; or why it is refused, with the policies that say so.
    pub(crate) fn evaluate(&self, question: &Question<'_>) -> Result<Vec<String>, (Reason, String)> {
        let request = self.request(question, None).map_err(|problem| (Reason::PolicyError, problem))?;
        let response = self.authorizer.is_authorized(&request, &self.policies, &self.entities);
        let ids = response.diagnostics().reason().map(|id| AsRef::<str>::as_ref(id).to_owned());
        if let Some(error) = response.diagnostics().errors().next() {
            return Err((Reason::PolicyError, error.to_string()));
        }
        match response.decision() {
            Decision::Allow => Ok(ids.collect()),
            Decision::Deny => {
                let by: Vec<_> = ids.collect();
                let why = if by.is_empty() { "no policy permits it".into() } else { by.join(", ") };
                Err((Reason::PolicyDenied, why))
            }
        }
    }

    /// The forbids that stop `question` if `values` were to leave, whatever permits it.
    pub(crate) fn forbidding(
        &self,
        question: &Question<'_>,
        values: &BTreeSet<FieldId>,
    ) -> Result<Vec<String>, String> {
        let context = self.types.context(question, values.iter())?;
        let request = self.asked(question, context, Some(&self.schema))?;
        let response = self.authorizer.is_authorized(&request, &self.policies, &self.entities);
        let deciding = response.diagnostics().reason().filter(|id| self.policies.policy(id).is_some_and(forbids));
        Ok(deciding.map(ToString::to_string).collect())
    }

    /// Ids of the policies that forbid.
    pub(crate) fn forbids(&self) -> impl Iterator<Item = String> {
        self.policies.policies().filter(|policy| forbids(policy)).map(|policy| policy.id().to_string())
    }

    /// The Cedar request; checked against `schema` if one is given.
    fn request(&self, question: &Question<'_>, schema: Option<&Schema>) -> Result<Request, String> {
        let context = self.contexts.of(question, || self.types.context(question, question.values()))?;
        self.asked(question, context, schema)
    }

    fn asked(&self, question: &Question<'_>, context: Context, schema: Option<&Schema>) -> Result<Request, String> {
        let types = &self.types;
        Request::new(
            uid(&types.member, question.asker.as_str()),
            uid(&types.action, question.tier.as_str()),
            uid(&types.query, question.query.as_str()),
            context,
            schema,
        )
        .map_err(|e| causes(&e))
    }
}

fn forbids(policy: &Policy) -> bool {
    policy.effect() == Effect::Forbid
}

/// Contexts of questions asked before: building one costs as much as the evaluation. What may be asked is a matter of the
/// catalogue, so there are few; an evaluation is never skipped.
#[derive(Clone, Debug, Default)]
struct Contexts(Arc<RwLock<HashMap<String, Context>>>);

/// Most contexts kept.
const MOST_CONTEXTS: usize = 4096;

impl Contexts {
    fn of(&self, question: &Question<'_>, build: impl FnOnce() -> Result<Context, String>) -> Result<Context, String> {
        let key = question.key();
        if let Some(kept) = self.0.read().ok().and_then(|kept| kept.get(&key).cloned()) {
            return Ok(kept);
        }
        let context = build()?;
        if let Ok(mut kept) = self.0.write() {
            if kept.len() >= MOST_CONTEXTS {
                kept.clear();
            }
            kept.insert(key, context.clone());
        }
        Ok(context)
    }
}

/// The schema's entity types.
#[derive(Clone, Debug)]
struct Types {
    action: EntityTypeName,
    member: EntityTypeName,
    kind: EntityTypeName,
    role: EntityTypeName,
    purpose: EntityTypeName,
    field: EntityTypeName,
    basis: EntityTypeName,
    query: EntityTypeName,
    tier: EntityTypeName,
}

impl Types {
    fn new() -> Result<Self, String> {
        let name = |text: &str| text.parse::<EntityTypeName>().map_err(|e| causes(&e));
        Ok(Types {
            action: name("Action")?,
            member: name("Member")?,
            kind: name("Kind")?,
            role: name("Role")?,
            purpose: name("Purpose")?,
            field: name("Field")?,
            basis: name("Basis")?,
            query: name("Query")?,
            tier: name("Tier")?,
        })
    }

    fn context<'a>(
        &self,
        question: &Question<'_>,
        values: impl IntoIterator<Item = &'a FieldId>,
    ) -> Result<Context, String> {
        let value = |of: &EntityTypeName, id: &str| RestrictedExpression::new_entity_uid(uid(of, id));
        Context::from_pairs([
            ("asker_kind".to_owned(), value(&self.kind, question.asker_kind.as_str())),
            ("role".to_owned(), value(&self.role, question.role.as_str())),
            ("purpose".to_owned(), value(&self.purpose, question.purpose.as_str())),
            ("basis".to_owned(), value(&self.basis, question.basis.as_str())),
            ("case".to_owned(), RestrictedExpression::new_bool(question.case)),
            ("fields".to_owned(), self.set(question.fields)),
            ("values".to_owned(), self.set(values)),
        ])
        .map_err(|e| causes(&e))
    }

    fn set<'a>(&self, fields: impl IntoIterator<Item = &'a FieldId>) -> RestrictedExpression {
        RestrictedExpression::new_set(
            fields.into_iter().map(|id| RestrictedExpression::new_entity_uid(uid(&self.field, id.as_str()))),
        )
    }

    /// One entity a query type; the others have nothing but their names.
    fn entities(&self, catalogue: &Catalogue, schema: &Schema) -> Result<Entities, String> {
        let sealed = || catalogue.fields.iter().filter(|(_, field)| field.sealed).map(|(id, _)| id);
        let emergency = || catalogue.emergencies.values().flat_map(|emergency| &emergency.fields);
        let queries = catalogue.queries.iter().map(|(id, query)| {
            let tier = uid(&self.tier, query.tier.as_str());
            let attributes = HashMap::from([
                ("tier".to_owned(), RestrictedExpression::new_entity_uid(tier)),
                ("fields".to_owned(), self.set(&query.fields)),
                ("sealed".to_owned(), self.set(sealed())),
                ("emergency".to_owned(), self.set(emergency())),
            ]);
            Entity::new(uid(&self.query, id.as_str()), attributes, HashSet::new()).map_err(|e| causes(&e))
        });
        let queries: Vec<_> = queries.collect::<Result<_, _>>()?;
        Entities::from_entities(queries, Some(schema)).map_err(|e| causes(&e))
    }

    /// Refuses a name the library does not have: a forbid with a slip in it would forbid nothing.
    fn check_names(&self, policy: &Policy, catalogue: &Catalogue) -> Result<(), String> {
        let known = |literal: &EntityUid| {
            let id = literal.id().unescaped();
            let of = literal.type_name();
            if of == &self.kind {
                catalogue.kinds.keys().any(|known| known.as_str() == id)
            } else if of == &self.role {
                catalogue.roles.keys().any(|known| known.as_str() == id)
            } else if of == &self.purpose {
                catalogue.purposes.keys().any(|known| known.as_str() == id)
            } else if of == &self.field {
                catalogue.fields.keys().any(|known| known.as_str() == id)
            } else if of == &self.query {
                catalogue.queries.keys().any(|known| known.as_str() == id)
            } else {
                // Members stand in the manifest, not here; actions and bases are the schema's to check.
                true
            }
        };
        match policy.entity_literals().into_iter().find(|literal| !known(literal)) {
            Some(unknown) => Err(format!("{unknown}, which the library does not have")),
            None => Ok(()),
        }
    }
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

/// An error with all its causes: Cedar's outermost sentence seldom says what is wrong.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Library;

    fn question(parts: &Parts, tier: Tier) -> Question<'_> {
        Question {
            asker: &parts.asker,
            asker_kind: &parts.kind,
            role: &parts.role,
            purpose: &parts.purpose,
            basis: BasisKind::Mandate,
            case: true,
            query: &parts.query,
            tier,
            fields: &parts.fields,
        }
    }

    struct Parts {
        asker: MemberId,
        kind: MemberKind,
        role: Role,
        purpose: Purpose,
        query: QueryType,
        fields: BTreeSet<FieldId>,
    }

    fn parts(query: &str, fields: &[&str]) -> Parts {
        Parts {
            asker: "mops-lodz".parse().unwrap(),
            kind: "mops".parse().unwrap(),
            role: "caseworker".parse().unwrap(),
            purpose: "social-welfare-provision".parse().unwrap(),
            query: query.parse().unwrap(),
            fields: fields.iter().map(|id| id.parse().unwrap()).collect(),
        }
    }

    /// Requests are built without the schema, for speed; they must be what the policies were validated against.
    #[test]
    fn requests_conform_to_the_schema() {
        let guard = Library::builtin().unwrap().guard;
        for tier in [Tier::Presence, Tier::Share, Tier::Verify] {
            for fields in [&[][..], &["pup.status", "pup.registered_from"]] {
                let parts = parts("q02", fields);
                assert!(guard.request(&question(&parts, tier), Some(&guard.schema)).is_ok(), "{tier:?}");
            }
        }
    }

    #[test]
    fn the_federations_policies_hold_by_themselves() {
        let guard = Library::builtin().unwrap().guard;
        let permits = |query, fields: &[&str], tier| guard.evaluate(&question(&parts(query, fields), tier)).is_ok();
        assert!(permits("q01", &[], Tier::Presence));
        assert!(!permits("q01", &["pup.status"], Tier::Presence), "presence yields no values");
        assert!(!permits("q02", &[], Tier::Presence), "not what the query type is");
        assert!(permits("q02", &["pup.status"], Tier::Share));
        assert!(!permits("q02", &["pup.almp"], Tier::Share), "not a field of the query");
        assert!(!permits("q02", &["pup.status", "mops.nk"], Tier::Share), "sealed");
        assert!(!permits("q02", &["pup.status"], Tier::Verify) && !permits("q08", &["css.amount"], Tier::Share));
        assert!(permits("q08", &["css.amount"], Tier::Verify) && !permits("q08", &["css.children"], Tier::Verify));
        for (role, tier, allowed) in [
            ("technician", Tier::Share, false),
            ("dpo", Tier::Verify, false),
            ("front-desk", Tier::Share, false),
            ("front-desk", Tier::Verify, true),
        ] {
            let (query, fields) = if tier == Tier::Share { ("q02", "pup.status") } else { ("q08", "css.amount") };
            let mut parts = parts(query, &[fields]);
            parts.role = role.parse().unwrap();
            assert_eq!(guard.evaluate(&question(&parts, tier)).is_ok(), allowed, "{role}");
        }
    }
}
