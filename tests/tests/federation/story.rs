//! What the demo tells, asserted.

use node::OutcomeKind;
use serde_json::json;
use tests::{Harness, Options, RESIDENTS, leaks};

async fn told_by(harness: &Harness) {
    let shared = RESIDENTS.iter().find(|r| r.units == "mops+pup").expect("planted");
    let resident = || json!({ "pesel": shared.pesel });

    let refused = harness.ask("mops", "pup", "q02", resident(), json!({ "kind": "none" })).await;
    assert_eq!((refused.outcome, refused.reason.as_deref()), (OutcomeKind::Denied, Some("basis_missing")));

    let consent = harness.consent("mops", "mops", resident()).await.expect("a consent");
    let basis = json!({ "kind": "consent", "id": consent.id });
    let answered = harness.ask("mops", "pup", "q02", resident(), basis.clone()).await;
    assert_eq!((answered.outcome, &answered.reason), (OutcomeKind::Answered, &None));
    assert_eq!(answered.fields[&"pup.status".parse().expect("a field")], json!(["bezrobotny"]));

    harness.withdraw("mops", &consent).await.expect("a withdrawal");
    let withdrawn = harness.ask("mops", "pup", "q02", resident(), basis).await;
    assert_eq!((withdrawn.outcome, withdrawn.reason.as_deref()), (OutcomeKind::Denied, Some("consent_withdrawn")));

    let foreign = harness.ask("zlm", "pup", "q01", resident(), json!({ "kind": "none" })).await;
    assert_eq!((foreign.outcome, foreign.reason.as_deref()), (OutcomeKind::Denied, Some("not_served")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_in_process() {
    let harness = Harness::filled().await;
    told_by(&harness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_as_processes() {
    let harness = Harness::with(Options { processes: true, ..Options::default() }).await;
    harness.fill().await;
    told_by(&harness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leak_is_noticed() {
    let harness = Harness::filled().await;
    let pesel = RESIDENTS[0].pesel;
    assert_eq!(leaks(format!("..{pesel}..").as_bytes()).len(), 1);
    std::fs::write(harness.home().join("mops/mops.log"), format!("asked about {pesel}")).expect("a planted leak");
    let found = tests::leaks_below(harness.home());
    assert_eq!(found.len(), 1, "{found:?}");
    std::fs::remove_file(harness.home().join("mops/mops.log")).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn units_learn_the_same_numbers() {
    let harness = Harness::filled().await;
    let units = ["mops", "pup", "css", "zlm"];
    for unit in units {
        let summary = harness.federation.shared(&tests::member(unit), false).await.expect("shared");
        for other in units.iter().filter(|other| **other != unit) {
            let truth = RESIDENTS.iter().filter(|r| r.at(unit) && r.at(other)).count() as u64;
            assert_eq!(summary.with[&tests::member(other)], truth, "{unit} and {other}");
        }
    }
}
