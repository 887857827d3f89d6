//! What a library's examples must show: every part of it at work. A part nobody tried is a part nobody knows.

use crate::engine::Engine;
use crate::example::Example;
use crate::permit::{Denial, Permit};
use protocol::{MemberKind, QueryType, Role};
use std::collections::BTreeSet;
use std::fmt;

/// Parts of a library that no example has shown yet.
pub(crate) struct Uncovered(BTreeSet<Part>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Query {
        id: QueryType,
        answered: bool,
    },
    Mandate(String),
    /// What the newest version of a template permits.
    Permission {
        template: String,
        module: String,
        query: QueryType,
        holder: MemberKind,
    },
    Danger(String),
    Agreement(String),
    Role(Role),
    Forbid(String),
}

impl Uncovered {
    pub(crate) fn new(engine: &Engine) -> Self {
        let catalogue = engine.library().catalogue();
        let query = |id: &QueryType, answered| Part::Query { id: id.clone(), answered };
        let queries = catalogue.queries.keys().flat_map(|id| [query(id, true), query(id, false)]);
        let newest = catalogue.templates.iter().filter_map(|(id, versions)| Some((id, versions.last()?)));
        let modules = newest.flat_map(|(id, template)| template.modules.iter().map(move |(name, it)| (id, name, it)));
        let permissions = modules.flat_map(|(template, name, module)| {
            module.permissions.iter().map(|permission| Part::Permission {
                template: template.clone(),
                module: name.clone(),
                query: permission.query.clone(),
                holder: permission.holder_kind.clone(),
            })
        });
        let reasons = catalogue.emergencies.values().flat_map(|emergency| emergency.reasons.keys());
        let forbids = engine.guard.forbids().filter_map(|id| id.rsplit('#').next().map(str::to_owned));
        let all = queries
            .chain(catalogue.mandates.keys().cloned().map(Part::Mandate))
            .chain(permissions)
            .chain(reasons.cloned().map(Part::Danger))
            .chain(catalogue.agreements.keys().cloned().map(Part::Agreement))
            .chain(catalogue.roles.keys().cloned().map(Part::Role))
            .chain(forbids.map(Part::Forbid));
        Uncovered(all.collect())
    }

    /// Strikes out what `example` shows by having `outcome`.
    pub(crate) fn shown(&mut self, engine: &Engine, example: &Example, outcome: &Result<Permit, Denial>) {
        self.0.remove(&Part::Query { id: example.query.clone(), answered: outcome.is_ok() });
        self.0.remove(&Part::Role(example.role.clone()));
        let Ok(permit) = outcome else { return };
        let named = [&example.mandate, &example.emergency, &example.agreement].map(Clone::clone);
        let [mandate, danger, agreement] = named.map(Option::unwrap_or_default);
        for part in [Part::Mandate(mandate), Part::Danger(danger), Part::Agreement(agreement)] {
            self.0.remove(&part);
        }
        let Some(consent) = &example.consent else { return };
        let versions = engine.library().catalogue().templates.get(&consent.id);
        let Some(template) = versions.and_then(|all| all.last()).filter(|newest| newest.version == consent.version)
        else {
            return;
        };
        let given = |name: &String| example.modules.as_ref().is_none_or(|given| given.contains(name));
        for (name, module) in template.modules.iter().filter(|(name, _)| given(name)) {
            // A field at least that it permits was answered on.
            let at_work = |fields: &BTreeSet<_>| fields.is_empty() || !fields.is_disjoint(&permit.fields);
            let permissions = module.permissions.iter().filter(|permission| at_work(&permission.fields));
            for of in permissions.filter(|of| of.query == example.query && of.holder_kind == example.holder) {
                self.0.remove(&Part::Permission {
                    template: consent.id.clone(),
                    module: name.clone(),
                    query: of.query.clone(),
                    holder: of.holder_kind.clone(),
                });
            }
        }
    }

    /// Strikes out the forbid `id`.
    pub(crate) fn forbidden(&mut self, id: &str) {
        self.0.remove(&Part::Forbid(id.to_owned()));
    }

    pub(crate) fn first(&self) -> Option<&Part> {
        self.0.first()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Query { id, answered: true } => write!(f, "{id} has no example that is answered"),
            Part::Query { id, answered: false } => write!(f, "{id} has no example that is refused"),
            Part::Mandate(id) => write!(f, "no example is answered on the mandate {id}"),
            Part::Permission { template, module, query, holder } => {
                write!(f, "no example is answered on {template}, {module}: {query} at {holder}")
            }
            Part::Danger(reason) => write!(f, "no example is answered in an emergency for {reason}"),
            Part::Agreement(id) => write!(f, "no example is answered under the agreement template {id}"),
            Part::Role(id) => write!(f, "no example asks in the role {id}"),
            Part::Forbid(id) => write!(f, "no example runs into the forbid {id}"),
        }
    }
}
