//! What the demo tells, asserted.

use node::OutcomeKind;
use serde_json::json;
use tests::{Harness, Options, RESIDENTS, lock};

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
    let hash = protocol::encoding::sha256(&[pesel.as_bytes()]);
    for (leak, where_it_stands) in [
        (pesel.to_owned(), "as it is"),
        (protocol::encoding::b64(&hash), "hashed without a key"),
        (format!("żółw {}", tests::CANARY_SURNAME), "a name"),
    ] {
        let file = harness.home().join("mops/mops.log");
        std::fs::write(&file, format!("asked about {leak}")).expect("a planted leak");
        assert!(fails(&harness), "in a file, {where_it_stands}");
        std::fs::remove_file(file).expect("removed");
        // Inside a signed message, as most of them are.
        let before = lock(&harness.messages).len();
        let claims = protocol::encoding::b64(format!("{{\"sub\":\"{leak}\"}}").as_bytes());
        lock(&harness.messages).extend_from_slice(format!("e30.{claims}.c2ln").as_bytes());
        assert!(fails(&harness), "in a message, {where_it_stands}");
        lock(&harness.messages).truncate(before);
    }
    assert!(!fails(&harness), "nothing is left of them");
}

/// Whether what every scenario must keep is not kept.
fn fails(harness: &Harness) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| harness.check())).is_err()
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
