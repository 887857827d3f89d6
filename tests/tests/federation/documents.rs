//! Residents without a PESEL: met by their document, kept without either, followed when they get a PESEL or another one;
//! and what a unit learns of changes among its shared clients.

use node::{ImportMode, ImportSummary, OutcomeKind, SharedSummary};
use serde_json::{Value, json};
use tests::{Harness, member};

const MAPPING: &str = r#"source = "dokumenty"
delimiter = ","
encoding = "utf-8"
without_identifier = "keep"
[columns]
"nr" = { local_number = true }
"pesel" = { pesel = true }
"poprzedni" = { former_pesel = true }
"typ" = { document = "type" }
"kraj" = { document = "country" }
"numer" = { document = "number" }
"status" = { field = "pup.status" }
"#;

async fn import(harness: &Harness, unit: &str, rows: &[&str]) -> ImportSummary {
    let dir = harness.extracts();
    let (mapping, extract) = (dir.join("documents.toml"), dir.join("documents.csv"));
    std::fs::write(&mapping, MAPPING).expect("a mapping");
    std::fs::write(&extract, format!("nr,pesel,poprzedni,typ,kraj,numer,status\n{}\n", rows.join("\n")))
        .expect("an extract");
    let imported = harness.federation.import(&member(unit), mapping, extract, ImportMode::Update, &|_| {}).await;
    let imported = imported.expect("an import");
    harness.enrol(unit).await.expect("an enrolment");
    imported
}

async fn shared(harness: &Harness) -> SharedSummary {
    harness
        .federation
        .admin(&member("mops"))
        .run("/shared?list=true&diff=true", &json!({}), &|_| {})
        .await
        .expect("shared")
}

async fn status_at_pup(harness: &Harness, resident: Value) -> (OutcomeKind, Option<String>) {
    let outcome = harness.ask("mops", "pup", "q02", resident, json!({ "kind": "mandate", "id": "ups-105" })).await;
    (outcome.outcome, outcome.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_an_identifier_as_good_as_a_pesel() {
    let harness = Harness::new().await;
    let at_mops = import(
        &harness,
        "mops",
        &[
            "M1,,,passport,ukr,fa 123-456,",
            "M2,,,PASSPORT,GEO,12AB34567,",
            "M3,,,,,,",
            "M4,,,PASSPORT,XXX,1,",
            "M5,,,paszport,UKR,1,",
        ],
    )
    .await;
    assert_eq!((at_mops.new, at_mops.unlinked, at_mops.rejected), (3, 1, 2), "{at_mops:?}");
    assert_eq!(at_mops.reasons.keys().map(String::as_str).collect::<Vec<_>>(), ["document_country", "document_type"]);
    import(&harness, "pup", &["P1,,,PASSPORT,UKR,FA123456,bezrobotny"]).await;

    let first = shared(&harness).await;
    assert_eq!((first.enrolled, first.with.get(&member("pup"))), (2, Some(&1)), "the unlinked one is not enrolled");
    assert!(first.clients[0].local_numbers.contains("M1") && first.changes.is_empty());
    let passport = || json!({ "document": { "type": "Passport", "country": "UKR", "number": "FA 123456" } });
    assert_eq!(status_at_pup(&harness, passport()).await, (OutcomeKind::Answered, None));
    let misspelt = json!({ "document": { "type": "PASSPORT", "country": "UA", "number": "FA123456" } });
    let failure =
        harness.try_ask("mops", "pup", "q02", misspelt, json!({ "kind": "none" })).await.expect_err("refused");
    assert_eq!(failure.code, "document_country");

    // Both get a PESEL for her: the same files, under new names; the passport still finds her here.
    import(&harness, "mops", &["M1,80010300035,,PASSPORT,UKR,FA123456,", "M2,,,PASSPORT,GEO,12AB34567,"]).await;
    let between = shared(&harness).await;
    assert_eq!(between.changes.len(), 1, "{between:?}");
    assert_eq!(
        (between.changes[0].gone.len(), between.changes[0].new.len()),
        (1, 0),
        "pup knows her by passport alone"
    );
    import(&harness, "pup", &["P1,80010300035,,PASSPORT,UKR,FA123456,bezrobotny"]).await;
    let both = shared(&harness).await;
    assert_eq!((both.changes[0].gone.len(), both.changes[0].new.len(), both.with[&member("pup")]), (0, 1, 1));
    for resident in [passport(), json!({ "pesel": "80010300035" }), json!({ "local_number": "M1" })] {
        assert_eq!(status_at_pup(&harness, resident).await, (OutcomeKind::Answered, None));
    }

    // Another PESEL: one file again.
    let changed = import(&harness, "mops", &["M1,80010700071,80010300035,,,,"]).await;
    assert_eq!((changed.new, changed.residents), (0, 1));
    import(&harness, "pup", &["P1,80010700071,80010300035,,,,bezrobotny"]).await;
    for pesel in ["80010700071", "80010300035"] {
        assert_eq!(status_at_pup(&harness, json!({ "pesel": pesel })).await, (OutcomeKind::Answered, None), "{pesel}");
    }
}
