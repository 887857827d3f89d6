//! Residents without a PESEL: met by their document, kept without either, followed when they get a PESEL or another one;
//! and what a unit learns of changes among its shared clients.

use crate::imports::pesel;
use node::{ImportMode, ImportRequest, ImportSummary, OutcomeKind, SharedSummary, WithdrawalReceipt};
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
    let imported = file(harness, unit, rows).await;
    harness.enrol(unit).await.expect("an enrolment");
    imported
}

/// Imports, after a dry run that says the same, and enrols nobody.
async fn file(harness: &Harness, unit: &str, rows: &[&str]) -> ImportSummary {
    let dir = harness.extracts();
    let (mapping, extract) = (dir.join("documents.toml"), dir.join("documents.csv"));
    std::fs::write(&mapping, MAPPING).expect("a mapping");
    std::fs::write(&extract, format!("nr,pesel,poprzedni,typ,kraj,numer,status\n{}\n", rows.join("\n")))
        .expect("an extract");
    let mode = ImportMode::Update;
    let (mapping_too, extract_too) = (mapping.clone(), extract.clone());
    let request = ImportRequest { mapping, extract, rejects: None, mode, dry_run: true, remove_many: false };
    let tried = harness.federation.admin(&member(unit)).run("/import", &request, &|_| {}).await;
    let tried: ImportSummary = tried.expect("a dry run");
    let imported = harness.federation.import(&member(unit), mapping_too, extract_too, mode, &|_| {}).await;
    let imported = imported.expect("an import");
    assert_eq!(tried, ImportSummary { rejects: None, ..imported.clone() });
    imported
}

/// At a unit that has numbers on file and no names of them yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_means_the_resident_by_every_number_known() {
    let harness = Harness::new().await;
    let (old, new) = (pesel("7901030003"), pesel("7901070007"));
    for unit in ["mops", "css"] {
        import(&harness, unit, &[&format!("1,{old},,,,,")]).await;
    }
    import(&harness, "pup", &[&format!("1,{old},,,,,bezrobotny")]).await;
    file(&harness, "zlm", &[&format!("1,{new},{old},,,,")]).await;
    let of = |pesel: &str| json!({ "pesel": pesel });
    let consent = harness.consent("css", "mops", of(&old)).await.expect("a consent");
    let basis = || json!({ "kind": "consent", "id": consent.id });
    assert_eq!(harness.ask("mops", "pup", "q02", of(&old), basis()).await.outcome, OutcomeKind::Answered);
    // Nobody else has heard of the new number, under which the file is named here.
    let body = json!({ "resident": of(&new), "consent": consent.id });
    let taken: WithdrawalReceipt = harness.post("zlm", "front-desk", "/v1/withdrawals", &body).await.expect("taken");
    assert_eq!((taken.confirmed_by, taken.refused_by.len()), ([member("css"), member("pup")].into(), 0));
    let refused = harness.ask("mops", "pup", "q02", of(&old), basis()).await;
    assert_eq!(refused.reason.as_deref(), Some("consent_withdrawn"));
}

async fn shared(harness: &Harness) -> SharedSummary {
    shared_of(harness, "mops").await
}

async fn shared_of(harness: &Harness, unit: &str) -> SharedSummary {
    harness
        .federation
        .admin(&member(unit))
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

    // Both get a PESEL for her: the same files, under a second name; whoever has the passport alone still meets her.
    import(&harness, "mops", &["M1,80010300035,,PASSPORT,UKR,FA123456,", "M2,,,PASSPORT,GEO,12AB34567,"]).await;
    let between = shared(&harness).await;
    assert!(between.changes.is_empty() && between.with[&member("pup")] == 1, "{between:?}");
    assert_eq!(status_at_pup(&harness, json!({ "pesel": "80010300035" })).await, (OutcomeKind::Answered, None));
    import(&harness, "pup", &["P1,80010300035,,PASSPORT,UKR,FA123456,bezrobotny"]).await;
    let both = shared(&harness).await;
    assert!(both.changes.is_empty() && both.with[&member("pup")] == 1, "{both:?}");
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

#[tokio::test(flavor = "multi_thread")]
async fn who_got_another_pesel_is_met_by_both_numbers() {
    let harness = Harness::new().await;
    let (old, new) = (pesel("7901030003"), pesel("7901070007"));
    // mops has never had the old number on file; pup has nothing else, css only the new one.
    let first = import(&harness, "mops", &[&format!("M1,{new},{old},,,,")]).await;
    assert_eq!((first.new, first.rejected), (1, 0));
    import(&harness, "pup", &[&format!("P1,{old},,,,,bezrobotny")]).await;
    import(&harness, "css", &[&format!("C1,{new},,,,,")]).await;
    let here = shared(&harness).await;
    assert_eq!((here.enrolled, here.exactly.get("css+pup")), (1, Some(&1)), "one client, who is two to the registry");
    assert_eq!(here.changes, []);
    for unit in ["pup", "css"] {
        let there = shared_of(&harness, unit).await;
        assert_eq!(there.exactly.keys().collect::<Vec<_>>(), ["mops"], "{unit}: nobody else learns that both are one");
    }
    let both = [&old, &new];
    for pesel in both {
        assert_eq!(status_at_pup(&harness, json!({ "pesel": pesel })).await, (OutcomeKind::Answered, None));
    }

    // A source that has not heard of it changes nothing, and there is nothing to do.
    import(&harness, "mops", &[&format!("M1,{old},,,,,")]).await;
    let idle = harness.enrol("mops").await.expect("enrolled");
    assert_eq!((idle.clients, idle.pseudonymised, idle.published, idle.removed), (1, 0, 0, 0));
    // pup hears of it: its entry under the old number stays, one under the new joins it.
    import(&harness, "pup", &[&format!("P1,{new},{old},,,,bezrobotny")]).await;
    let again = harness.enrol("pup").await.expect("enrolled");
    assert_eq!((again.clients, again.pseudonymised, again.published, again.removed), (1, 0, 0, 0));
    assert_eq!(shared_of(&harness, "pup").await.exactly.keys().collect::<Vec<_>>(), ["css+mops"]);
    for pesel in both {
        assert_eq!(status_at_pup(&harness, json!({ "pesel": pesel })).await, (OutcomeKind::Answered, None));
    }

    // Whoever leaves leaves under both.
    let flag = json!({ "resident": { "pesel": old }, "set": ["unlisted"], "clear": [], "reason": "on request" });
    let _flags: node::FlagList = harness.post("mops", "dpo", "/v1/flags", &flag).await.expect("flagged");
    harness.enrol("mops").await.expect("enrolled");
    for unit in ["pup", "css"] {
        assert!(!shared_of(&harness, unit).await.with.contains_key(&member("mops")), "{unit}");
    }

    // Two files are not made one by a row: it is refused, and says why.
    import(&harness, "zlm", &[&format!("Z1,{old},,,,,"), &format!("Z2,{new},,,,,")]).await;
    let refused = import(&harness, "zlm", &[&format!("Z2,{new},{old},,,,")]).await;
    assert_eq!((refused.rejected, refused.reasons.get("two_files"), refused.clients), (1, Some(&1), 2));
}
