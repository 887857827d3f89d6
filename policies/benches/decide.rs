//! A whole decision as a ratio to one bare Cedar evaluation of the same question, by the same policies and entities.
//!
//! `cargo bench -p policies`. The bare evaluation has its request ready; the decision builds its own, finds its parties and
//! agreement among those of a city, checks everything else and says what it rests on.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on stops")]

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityUid, PolicySet, Request, RestrictedExpression,
    Schema,
};
use policies::{Engine, Examples, Facts, Library, Scenario};
use protocol::manifest::Member;
use protocol::{FieldId, Manifest, MemberId};
use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 31;
const PER_ROUND: u32 = 2_000;

/// A city: so many members besides the two, each with agreements with a few others.
const OTHER_MEMBERS: usize = 20;
const OTHER_AGREEMENTS: usize = 50;

/// An institution's own policies, such as a data-protection officer writes.
const LOCAL: &str = r#"
@id("no-pup-without-case") forbid (principal, action, resource) when { context.asker_kind == Kind::"pup" && !context.case };
@id("no-schools") forbid (principal, action == Action::"share", resource) when { context.asker_kind == Kind::"edu" };
@id("no-income") forbid (principal, action == Action::"share", resource) when { context.values.contains(Field::"mops.income") };
@id("no-debts") forbid (principal, action, resource == Query::"q17") unless { context.role == Role::"coordinator" };
@id("no-interviews") forbid (principal, action, resource == Query::"q16") when { context.basis == Basis::"mandate" };
@id("no-contracts") forbid (principal, action, resource == Query::"q06") unless { context.case };
@id("no-supervisors") forbid (principal, action == Action::"share", resource) when { context.role == Role::"supervisor" };
@id("not-zlm") forbid (principal == Member::"zlm", action, resource == Query::"q07");
"#;

const BY_MANDATE: &str = r#"
at = 2026-11-21T12:00:00+01:00
[[example]]
name = "by mandate"
asker = "mops"
holder = "pup"
role = "caseworker"
query = "q02"
purpose = "social-welfare-eligibility-assessment"
mandate = "ups-105"
case = true
fields = ["pup.status", "pup.registered_from", "pup.registered_to", "pup.dereg_reason"]
"#;

fn main() {
    for local in ["", LOCAL] {
        let own = [("own.cedar".to_owned(), local.to_owned())];
        let library = Library::builtin().expect("the library");
        let bare = Bare::new(&library, local);
        let engine = Engine::new(library, if local.is_empty() { &[] } else { &own }).expect("policies");
        for (basis, examples) in [("mandate", BY_MANDATE.to_owned()), ("consent", by_consent())] {
            let examples = Examples::parse(&examples).expect("examples");
            let (example, at) = (examples.iter().next().expect("one"), examples.at());
            let scenario = Scenario::of(engine.library(), example, at).expect("a scenario");
            let request = bare.request(basis, &example.fields);
            let city = city(scenario.facts().manifest);
            let facts = || Facts { manifest: &city, ..scenario.facts() };
            // Alternating, so that both see the same machine.
            let (mut decisions, mut evaluations) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                decisions.push(time(|| engine.decide(&facts(), at).is_ok()));
                evaluations.push(time(|| bare.allows(&request)));
            }
            let (decision, evaluation) = (median(decisions), median(evaluations));
            println!(
                "decide, {} policies, by {basis}: {:.2} x one Cedar evaluation ({:.2} us against {:.2} us)",
                bare.policies.policies().count(),
                decision.as_secs_f64() / evaluation.as_secs_f64(),
                decision.as_secs_f64() * 1e6,
                evaluation.as_secs_f64() * 1e6,
            );
        }
    }
}

/// The same manifest in a city: the members and the agreement in question come last.
fn city(manifest: &Manifest) -> Manifest {
    let mut city = manifest.clone();
    let (member, agreement) = (manifest.members.first().expect("a member"), manifest.agreements.first().expect("one"));
    let id = |n: usize| format!("unit-{:02}", n % OTHER_MEMBERS).parse::<MemberId>().expect("an id");
    let members = (0..OTHER_MEMBERS).map(|n| Member { id: id(n), ..member.clone() });
    city.members.splice(0..0, members);
    let agreements = (0..OTHER_AGREEMENTS).map(|n| {
        let mut agreement = agreement.clone();
        let terms = &mut agreement.terms;
        terms.id = format!("agreement-{n:02}");
        // Every tenth is the asker's with somebody else, every tenth somebody else's with the holder.
        match n % 10 {
            0 => terms.holder = id(n),
            1 => terms.asker = id(n),
            _ => (terms.asker, terms.holder) = (id(n), id(n + 7)),
        }
        agreement
    });
    city.agreements.splice(0..0, agreements);
    city
}

fn by_consent() -> String {
    let consent = r#"consent = { id = "instead-of-certificate", version = "1.0" }"#;
    BY_MANDATE.replace(r#"mandate = "ups-105""#, consent).replace("case = true\n", "")
}

/// One call of `work`, over a round.
fn time(work: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    for _ in 0..PER_ROUND {
        assert!(black_box(work()), "it is permitted");
    }
    start.elapsed() / PER_ROUND
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    *times.get(times.len() / 2).expect("some rounds")
}

/// Cedar alone.
struct Bare {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
}

impl Bare {
    fn new(library: &Library, local: &str) -> Self {
        let [schema, federation] = library.cedar();
        let (schema, _) = Schema::from_cedarschema_str(schema).expect("a schema");
        let catalogue = library.catalogue();
        let sealed: Vec<_> = catalogue.fields.iter().filter(|(_, f)| f.sealed).map(|(id, _)| id).collect();
        let emergency: Vec<_> = catalogue.emergencies.values().flat_map(|e| &e.fields).collect();
        let queries = catalogue.queries.iter().map(|(id, query)| {
            let attributes = HashMap::from([
                ("tier".to_owned(), one("Tier", query.tier.as_str())),
                ("fields".to_owned(), set(&query.fields)),
                ("sealed".to_owned(), set(sealed.iter().copied())),
                ("emergency".to_owned(), set(emergency.iter().copied())),
            ]);
            Entity::new(uid("Query", id.as_str()), attributes, HashSet::new()).expect("an entity")
        });
        Bare {
            authorizer: Authorizer::new(),
            policies: format!("{federation}\n{local}").parse().expect("policies"),
            entities: Entities::from_entities(queries, Some(&schema)).expect("entities"),
        }
    }

    fn request<'a>(&self, basis: &str, fields: impl IntoIterator<Item = &'a FieldId> + Copy) -> Request {
        let context = Context::from_pairs([
            ("asker_kind".to_owned(), one("Kind", "mops")),
            ("role".to_owned(), one("Role", "caseworker")),
            ("purpose".to_owned(), one("Purpose", "social-welfare-eligibility-assessment")),
            ("basis".to_owned(), one("Basis", basis)),
            ("case".to_owned(), RestrictedExpression::new_bool(basis == "mandate")),
            ("fields".to_owned(), set(fields)),
            ("values".to_owned(), set(fields)),
        ]);
        let (asker, action, query) = (uid("Member", "asker"), uid("Action", "share"), uid("Query", "q02"));
        let request = Request::new(asker, action, query, context.expect("a context"), None).expect("a request");
        assert!(self.allows(&request), "it is permitted");
        request
    }

    fn allows(&self, request: &Request) -> bool {
        self.authorizer.is_authorized(request, &self.policies, &self.entities).decision() == Decision::Allow
    }
}

fn one(of: &str, id: &str) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(uid(of, id))
}

fn set<'a>(fields: impl IntoIterator<Item = &'a FieldId>) -> RestrictedExpression {
    RestrictedExpression::new_set(fields.into_iter().map(|id| one("Field", id.as_str())))
}

fn uid(of: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.parse().expect("a type"), EntityId::new(id))
}
