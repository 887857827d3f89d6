//! Explanations and simulations say what the decision itself says.

use super::{ENGINE, NOW, by_consent, by_mandate, in_danger, with_approval};
use crate::simulate::{Decided, RecordedBasis};
use crate::{Engine, Library, Outcome, Recorded, Step};
use protocol::Reason;
use std::collections::BTreeSet;

#[test]
fn an_explanation_has_every_step_and_the_decisions_own_outcome() {
    for scenario in [by_mandate(), by_consent(), in_danger(), with_approval()] {
        let permit = scenario.decide(&ENGINE).unwrap();
        let explained = ENGINE.explain(&scenario.facts(), NOW);
        let steps: Vec<_> = explained.passed.iter().map(|seen| seen.step).collect();
        assert!(steps.is_sorted() && steps.len() == 13 && steps.last() == Some(&Step::Mode), "{steps:?}");
        let Outcome::Permit { fields, basis, .. } = explained.outcome else { panic!("permitted") };
        assert_eq!((&fields, basis), (permit.fields(), permit.basis().to_string()));
    }
    let mut refused = by_mandate();
    refused.used.today = 100;
    let explained = ENGINE.explain(&refused.facts(), NOW);
    assert_eq!(explained.passed.last().unwrap().step, Step::Basis, "the last step passed");
    let said = serde_json::to_value(&explained.outcome).unwrap();
    assert_eq!((&said["step"], &said["reason"]), (&"quota".into(), &"quota_exceeded".into()));
}

fn recorded(query: &str, fields: &[&str]) -> Recorded {
    Recorded {
        at: NOW,
        asker: "mops".parse().unwrap(),
        holder: "pup".parse().unwrap(),
        role: "caseworker".parse().unwrap(),
        query: query.parse().unwrap(),
        purpose: "social-welfare-eligibility-assessment".parse().unwrap(),
        basis: RecordedBasis::Mandate { id: "ups-105".into() },
        case: true,
        fields: fields.iter().map(|field| field.parse().unwrap()).collect(),
    }
}

#[test]
fn a_simulation_tells_what_a_draft_would_change() {
    let traffic = [
        recorded("q02", &["pup.status", "pup.registered_from"]),
        Recorded { at: NOW + 5, ..recorded("q02", &["pup.status", "pup.registered_from"]) },
        recorded("q04", &["pup.offers.refused_12m"]),
        recorded("q06", &["mops.contract.from"]),
    ];
    let nothing = ENGINE.simulate(&ENGINE, &traffic);
    assert_eq!((nothing.decisions, nothing.unchanged), (4, 4));

    let mut draft = ENGINE.clone();
    let mandate = draft.library.catalogue.mandates.get_mut("ups-105").unwrap();
    assert!(mandate.fields.remove(&"pup.registered_from".parse().unwrap()));
    let local = r#"@id("no") forbid (principal, action, resource == Query::"q04");"#;
    let closed = Engine::new(Library::builtin().unwrap(), &[("own.cedar".into(), local.into())]).unwrap();

    let narrower = ENGINE.simulate(&draft, &traffic).narrower;
    assert_eq!((narrower.len(), narrower[0].times), (1, 2), "two alike are one change");
    assert_eq!(narrower[0].draft, Decided::Answered(BTreeSet::from(["pup.status".parse().unwrap()])));
    assert_eq!(draft.simulate(&ENGINE, &traffic).wider.len(), 1);
    let refused = ENGINE.simulate(&closed, &traffic);
    assert_eq!(refused.narrower[0].draft, Decided::Refused(Reason::PolicyDenied));
    assert_eq!(closed.simulate(&ENGINE, &traffic).wider[0].now, Decided::Refused(Reason::PolicyDenied));
    assert_eq!((refused.unchanged, refused.wider.len(), refused.other.len()), (3, 0, 0));
}

#[test]
fn recorded_decisions_are_json() {
    let line = serde_json::to_string(&recorded("q02", &["pup.status"])).unwrap();
    assert_eq!(serde_json::from_str::<Recorded>(&line).unwrap(), recorded("q02", &["pup.status"]));
    assert!(serde_json::from_str::<Recorded>(&line.replace("\"case\"", "\"pesel\"")).is_err());
}
