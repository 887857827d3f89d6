//! What is proved of the shipped policies.

use cedar_policy::PolicySet;
use policies::{Engine, Library, Released};
use proofs::{Counterexample, ProofError, Prover};
use std::path::Path;
use std::sync::LazyLock;

static LIBRARY: LazyLock<Library> = LazyLock::new(|| Library::builtin().unwrap());

fn prover() -> Prover {
    Prover::new(LIBRARY.cedar()[0]).unwrap()
}

fn federation() -> PolicySet {
    parsed(LIBRARY.cedar()[1])
}

fn parsed(text: &str) -> PolicySet {
    text.parse().unwrap()
}

/// Nothing that `condition` describes is permitted by `policies`.
fn never(policies: &PolicySet, head: &str, condition: &str) -> Option<Counterexample> {
    let such = parsed(&format!("permit ({head}) when {{ {condition} }};"));
    answered(prover().permitted_by_both(policies, &such))
}

fn answered(found: Result<Option<Counterexample>, ProofError>) -> Option<Counterexample> {
    found.unwrap_or_else(|why| panic!("{why}"))
}

fn beyond(narrow: &PolicySet, wide: &PolicySet) -> Option<Counterexample> {
    answered(prover().permitted_beyond(narrow, wide))
}

const ANY: &str = "principal, action, resource";
const WITHOUT_VALUES: &str = r#"principal, action in [Action::"presence", Action::"verify"], resource"#;

fn assert_none(found: Option<Counterexample>) {
    if let Some(found) = found {
        panic!("permitted: {found}");
    }
}

#[test]
fn no_request_reads_a_sealed_field() {
    assert_none(never(&federation(), ANY, "context.fields.containsAny(resource.sealed)"));
    assert_none(never(&federation(), ANY, "context.values.containsAny(resource.sealed)"));
    let sealed: Vec<_> = LIBRARY.catalogue().fields.iter().filter(|(_, f)| f.sealed).map(|(id, _)| id).collect();
    assert!(!sealed.is_empty());
    for field in sealed {
        let touched = format!(
            r#"resource.sealed.contains(Field::"{field}")
               && (context.fields.contains(Field::"{field}") || context.values.contains(Field::"{field}"))"#
        );
        assert_none(never(&federation(), ANY, &touched));
    }
}

#[test]
fn presence_and_verify_never_yield_values() {
    assert_none(never(&federation(), WITHOUT_VALUES, "!context.values.isEmpty()"));
    assert_none(never(&federation(), WITHOUT_VALUES, r#"context.values.contains(Field::"pup.status")"#));
    let presence = r#"principal, action == Action::"presence", resource"#;
    assert_none(never(&federation(), presence, "!context.fields.isEmpty()"));
}

#[test]
fn nothing_leaves_that_the_query_type_does_not_list() {
    assert_none(never(&federation(), ANY, "!resource.fields.containsAll(context.values)"));
    assert_none(never(&federation(), ANY, "!context.fields.containsAll(context.values)"));
    let tiers = [("presence", "share"), ("verify", "share"), ("share", "verify"), ("verify", "presence")];
    for (action, tier) in tiers {
        let head = format!(r#"principal, action == Action::"{action}", resource"#);
        assert_none(never(&federation(), &head, &format!(r#"resource.tier == Tier::"{tier}""#)));
    }
}

#[test]
fn danger_opens_its_own_fields_alone() {
    let beyond = r#"context.basis == Basis::"emergency" && !resource.emergency.containsAll(context.fields)"#;
    assert_none(never(&federation(), ANY, beyond));
}

/// What an institution adds narrows: nothing is permitted with it that the federation alone does not permit. That holds
/// of forbids, and the engine takes nothing else.
#[test]
fn local_policies_never_widen() {
    let local = r#"
        @id("no-pup") forbid (principal, action == Action::"share", resource)
        when { context.asker_kind == Kind::"pup" && !context.case };
        @id("few") forbid (principal, action, resource == Query::"q07")
        when { context.fields.contains(Field::"css.amount") };
    "#;
    Engine::new(Library::builtin().unwrap(), &[("own.cedar".into(), local.into())]).unwrap();
    let both = parsed(&format!("{}\n{local}", LIBRARY.cedar()[1]));
    assert_none(beyond(&both, &federation()));
    assert!(beyond(&federation(), &both).is_some(), "and it does narrow");
    let permit = r#"@id("yes") permit (principal, action, resource);"#;
    let wider = parsed(&format!("{}\n{permit}", LIBRARY.cedar()[1]));
    assert!(beyond(&wider, &federation()).is_some(), "a permit would widen");
    assert!(Engine::new(Library::builtin().unwrap(), &[("own.cedar".into(), permit.into())]).is_err());
}

/// `released/` is the library released last. What the next permits beyond it is either meant, and then its entry in
/// `bundle.toml` says so, or a mistake. Of the data that is compared, of the policies it is proved.
#[test]
fn the_next_version_permits_no_more_unless_it_says_so() {
    let released = Released::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/released"))).unwrap();
    LIBRARY.may_follow(&released).unwrap_or_else(|unfit| panic!("{unfit}"));
    let policies = parsed(include_str!("../../released/federation.cedar"));
    let meant =
        LIBRARY.bundle().changes.iter().any(|change| change.version > released.version() && change.permits_more);
    assert_eq!(unsaid(&federation(), &policies, meant), None);
}

/// What `next` permits beyond `released`, if that is not `meant`.
fn unsaid(next: &PolicySet, released: &PolicySet, meant: bool) -> Option<String> {
    beyond(next, released).filter(|_| !meant).map(|more| more.to_string())
}

#[test]
fn a_policy_that_permits_more_is_found_unless_it_is_meant() {
    let wider = LIBRARY.cedar()[1].replace("unless { context.values.isEmpty() };", "when { false };");
    let more = unsaid(&parsed(&wider), &federation(), false).expect("a counterexample");
    assert!(more.contains("front-desk") || more.contains("values"), "{more}");
    assert_eq!(unsaid(&parsed(&wider), &federation(), true), None);
}

#[test]
fn no_shipped_policy_can_fail_to_evaluate() {
    assert_none(answered(prover().erring(&federation())));
}

/// Each question has an answer that differs when the thing it asks about is broken.
#[test]
fn every_proof_can_fail() {
    let text = LIBRARY.cedar()[1];
    let without = |id: &str| {
        let (before, rest) = text.split_once(&format!("@id(\"{id}\")")).unwrap();
        parsed(&format!("{before}{}", rest.split_once(';').unwrap().1))
    };
    let sealed = never(&without("sealed-fields-stay"), ANY, "context.fields.containsAny(resource.sealed)");
    assert!(sealed.unwrap().to_string().contains("sealed"));
    assert!(never(&without("only-share-yields-values"), WITHOUT_VALUES, "!context.values.isEmpty()").is_some());
    let danger = r#"context.basis == Basis::"emergency" && !resource.emergency.containsAll(context.fields)"#;
    assert!(never(&without("emergency-has-its-own-fields"), ANY, danger).is_some());
    let overflow = parsed(
        "forbid (principal, action, resource) when { (if context.case then 1 else 2) * 9223372036854775807 == 0 };",
    );
    assert!(answered(prover().erring(&overflow)).is_some());
}
