//! Extracts through the real import: what is refused and where, what a second import changes, enrolment in steps.

use node::{ImportMode, ImportRequest, ImportSummary, OutcomeKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tests::{Harness, Resident, UNITS, lock, member, read_log, status, write_extracts};

/// The benefits centre may ask under its mandate.
const FAMILY_BENEFITS: &str = "social-security-management";

const fn resident(pesel: &'static str, units: &'static str) -> Resident {
    Resident { pesel, units, sealed: false }
}

const ANNA: Resident = resident("80010300035", "mops+pup");
const BOHDAN: Resident = resident("80010700071", "mops+pup");
const CELINA: Resident = resident("80010100017", "mops");

/// Ten digits with their control digit.
pub(crate) fn pesel(ten: &str) -> String {
    let weighted =
        ten.bytes().zip([1, 3, 7, 9].into_iter().cycle()).map(|(digit, weight)| u32::from(digit - b'0') * weight);
    format!("{ten}{}", (10 - weighted.sum::<u32>() % 10) % 10)
}

/// A row of the welfare centre's export.
fn mops_row(number: &str, pesel: &str) -> String {
    format!(
        "{number};{pesel};Testowa;Anna;;Prosta;5/2;90-001;01.02.2024;;zdrowie;zasilek;01.01.2026;30.06.2026;100,50;700,00;2;;N\n"
    )
}

/// The extract of `unit` with its header and these rows, under `name`.
fn extract(harness: &Harness, unit: &str, name: &str, rows: &[Vec<u8>]) -> PathBuf {
    let dir = harness.extracts();
    write_extracts(&dir, &[]);
    let mut bytes = std::fs::read(dir.join(format!("{unit}.csv"))).expect("a header");
    bytes.extend(rows.concat());
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("an extract");
    path
}

/// The extract of `unit` with exactly these residents.
fn extract_of(harness: &Harness, unit: &str, residents: &[Resident]) -> PathBuf {
    let dir = harness.extracts();
    write_extracts(&dir, residents);
    dir.join(format!("{unit}.csv"))
}

/// Imports, after a dry run that says the same.
async fn import(harness: &Harness, unit: &str, residents: &[Resident], mode: ImportMode) -> ImportSummary {
    let extract = extract_of(harness, unit, residents);
    let request = dry_run(unit, extract.clone(), mode);
    let tried = harness.federation.admin(&member(unit)).run("/import", &request, &|_| {}).await;
    let tried: ImportSummary = tried.expect("a dry run");
    let imported = harness.import(unit, &extract, mode).await.expect("an import");
    assert_eq!(tried, imported);
    imported
}

fn dry_run(unit: &str, extract: PathBuf, mode: ImportMode) -> ImportRequest {
    ImportRequest { mapping: mapping(unit), extract, rejects: None, mode, dry_run: true, remove_many: true }
}

async fn shared(harness: &Harness, unit: &str, with: &str) -> u64 {
    let summary = harness.federation.shared(&member(unit), false).await.expect("shared");
    summary.with.get(&member(with)).copied().unwrap_or_default()
}

fn mapping(unit: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/mappings/{unit}.toml"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_dirty_row_is_refused_with_its_place() {
    let harness = Harness::new().await;
    let good = pesel("8505050001");
    let wrong_digit = format!("{}{}", &good[..10], (good.as_bytes()[10] - b'0' + 1) % 10);
    let rows = [
        (good.clone(), None),
        (wrong_digit.clone(), Some("pesel_checksum")),
        (good[..10].to_owned(), Some("pesel_length")),
        (String::new(), Some("pesel_empty")),
        (good.replacen('0', "O", 1), Some("pesel_bad_character")),
        (pesel("8502300001"), Some("pesel_date")),
        // Born tomorrow, by the federation's clock; born today is a client.
        (pesel("2631220001"), Some("pesel_future_birth")),
        (pesel("2631210001"), None),
        // Mended: a third client.
        (format!(" {} {} ", &pesel("8606060001")[..6], &pesel("8606060001")[6..]), None),
        // A second row of the first client.
        (good.clone(), None),
    ];
    let mut bytes: Vec<Vec<u8>> = Vec::new();
    let mut expected = String::from("line,column,reason\n");
    for (n, (pesel, reason)) in rows.iter().enumerate() {
        bytes.push(mops_row(&format!("M/{n}"), pesel).into_bytes());
        if let Some(reason) = reason {
            expected.push_str(&format!("{},PESEL,{reason}\n", n + 2));
        }
    }
    // What Windows-1250 has no letter for, a day no month has, and a row cut short.
    bytes.push(mops_row("M/u", &pesel("8707070001")).replace("Prosta", "Pr\u{1}sta").into_bytes());
    if let Some(row) = bytes.last_mut() {
        row.iter_mut().filter(|byte| **byte == 1).for_each(|byte| *byte = 0x81);
    }
    expected.push_str("12,ulica,undecodable\n");
    bytes.push(mops_row("M/d", &pesel("8707070001")).replace("30.06.2026", "31.06.2026").into_bytes());
    expected.push_str("13,decyzja do,bad_date\n");
    bytes.push(format!("M/s;{good};Testowa\n").into_bytes());
    expected.push_str("14,-,too_few_columns\n");

    let path = extract(&harness, "mops", "dirty.csv", &bytes);
    let summary = harness.import("mops", &path, ImportMode::Update).await.expect("refused rows stop nothing");
    assert_eq!((summary.rows, summary.rejected), (13, 9));
    assert_eq!((summary.residents, summary.new, summary.removed, summary.clients), (3, 3, 0, 3));
    assert_eq!(summary.reasons.values().sum::<u64>(), 9);
    assert_eq!(summary.reasons["pesel_checksum"], 1);
    // The whole file, so that no value can stand in it.
    let rejects = summary.rejects.expect("a list of refused rows");
    assert_eq!(std::fs::read_to_string(&rejects).expect("the list"), expected);

    // A dry run lists them where it is told to and nowhere else; an import that refuses nothing leaves no old list.
    let clean = extract(&harness, "mops", "dirty.csv", &[mops_row("M/1", &good).into_bytes()]);
    let bad = extract(&harness, "mops", "bad.csv", &[mops_row("M/1", &wrong_digit).into_bytes()]);
    let dry = dry_run("mops", clean.clone(), ImportMode::Update);
    let named = harness.extracts().join("named.csv");
    let admin = harness.federation.admin(&member("mops"));
    for (extract, list) in [(&clean, None), (&bad, None), (&bad, Some(named.clone()))] {
        let request = ImportRequest { extract: extract.clone(), rejects: list.clone(), ..dry.clone() };
        let tried: ImportSummary = admin.run("/import", &request, &|_| {}).await.expect("a dry run");
        assert_eq!((tried.rejected, &tried.rejects), (u64::from(*extract == bad), &list));
    }
    assert_eq!(std::fs::read_to_string(&named).expect("the list"), "line,column,reason\n2,PESEL,pesel_checksum\n");
    assert_eq!(std::fs::read_to_string(&rejects).expect("the list"), expected);
    assert!(!rejects.with_file_name("bad.rejects.csv").exists());
    // One that is asked for is written though nothing is refused; what is no list stays, the extract above all.
    let request = ImportRequest { extract: clean.clone(), rejects: Some(named.clone()), ..dry.clone() };
    let tried: ImportSummary = admin.run("/import", &request, &|_| {}).await.expect("a dry run");
    assert_eq!((tried.rejected, tried.rejects), (0, None));
    assert_eq!(std::fs::read_to_string(&named).expect("the list"), "line,column,reason\n");
    let text = std::fs::read(&clean).expect("the extract");
    for dry_run in [true, false] {
        let request = ImportRequest { extract: clean.clone(), rejects: Some(clean.clone()), dry_run, ..dry.clone() };
        let refused: Result<ImportSummary, _> = admin.run("/import", &request, &|_| {}).await;
        assert_eq!(refused.expect_err("no list").code, "rejects_unwritable");
        assert_eq!(std::fs::read(&clean).expect("the extract"), text);
    }
    let summary = harness.import("mops", &clean, ImportMode::Update).await.expect("nothing is refused");
    assert!(summary.rejects.is_none() && !rejects.exists());

    // Bytes that are no UTF-8, in an export that is UTF-8.
    let row = format!("7,{good},Anna,Test\u{1}wa,,bezrobotny,2026-01-02,,,true,2026-01-10,1200.50,1,,,112233\n");
    let row: Vec<u8> = row.bytes().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
    let path = extract(&harness, "pup", "bytes.csv", &[row]);
    let summary = harness.import("pup", &path, ImportMode::Update).await.expect("an import");
    assert_eq!((summary.rows, summary.rejected, summary.clients), (1, 1, 0));
    let rejects = std::fs::read_to_string(summary.rejects.expect("a list")).expect("the list");
    assert_eq!(rejects, "line,column,reason\n2,nazwisko,undecodable\n");

    // Nothing of any of them is found by what was refused, and the mended one is.
    for (asked, known) in [(pesel("8606060001"), true), (pesel("8707070001"), false)] {
        let result = harness.try_ask("mops", "pup", "q02", json!({ "pesel": asked }), json!({ "kind": "none" })).await;
        let outcome = &result.expect("an outcome").outcomes[0];
        assert_eq!(outcome.reason.as_deref(), Some("not_served"), "known and not enrolled, or unknown: {known}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_import_updates_adds_or_removes_as_it_is_told() {
    let harness = Harness::new().await;
    import(&harness, "mops", &[ANNA, BOHDAN, CELINA], ImportMode::Update).await;
    import(&harness, "pup", &[ANNA, BOHDAN], ImportMode::Update).await;
    for unit in ["mops", "pup"] {
        harness.enrol(unit).await.expect("an enrolment");
    }
    assert_eq!(shared(&harness, "pup", "mops").await, 2);

    // A dry run, as the command line asks for it.
    let before = status(&harness, "mops").await;
    let request = dry_run("mops", extract_of(&harness, "mops", &[ANNA]), ImportMode::Full);
    let admin = harness.federation.admin(&member("mops"));
    let tried: ImportSummary = admin.run("/import", &request, &|_| {}).await.expect("a dry run");
    assert_eq!((tried.rows, tried.rejected, tried.residents), (1, 0, 1));
    assert_eq!((tried.new, tried.removed, tried.clients), (0, 2, 1), "as it would be");
    let cut: Result<ImportSummary, _> =
        admin.run("/import", &ImportRequest { remove_many: false, ..request }, &|_| {}).await;
    assert_eq!(cut.expect_err("an import would be refused").code, "extract_refused");
    let after = status(&harness, "mops").await;
    assert_eq!(after.clients, before.clients, "a dry run changes nothing");
    assert_eq!(after.log_entries, before.log_entries + 2, "but that it was asked for is on record");

    // The same residents again: nobody new, nobody gone.
    let again = import(&harness, "mops", &[ANNA, BOHDAN, CELINA], ImportMode::Update).await;
    assert_eq!((again.residents, again.new, again.removed, again.clients), (3, 0, 0, 3));
    // An update does not remove who is not in it.
    let fewer = import(&harness, "mops", &[ANNA], ImportMode::Update).await;
    assert_eq!((fewer.residents, fewer.new, fewer.removed, fewer.clients), (1, 0, 0, 3));

    // The whole truth: who vanished is gone here at once, and from the registry with the next enrolment.
    let full = import(&harness, "mops", &[ANNA, CELINA], ImportMode::Full).await;
    assert_eq!((full.residents, full.new, full.removed, full.clients), (2, 0, 1, 2));
    assert_eq!(harness.enrol("mops").await.expect("an enrolment").removed, 1);
    assert_eq!(shared(&harness, "pup", "mops").await, 1, "the peer locates who vanished no longer");

    // Additions only.
    let delta = import(&harness, "mops", &[BOHDAN], ImportMode::Delta).await;
    assert_eq!((delta.residents, delta.new, delta.removed, delta.clients), (1, 1, 0, 3));
    assert_eq!(harness.enrol("mops").await.expect("an enrolment").published, 1);
    assert_eq!(shared(&harness, "pup", "mops").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_fails_midway_says_in_the_log_what_it_did() {
    let mut harness = Harness::new().await;
    import(&harness, "mops", &[BOHDAN, CELINA], ImportMode::Update).await;
    let request = dry_run("mops", extract_of(&harness, "mops", &[ANNA]), ImportMode::Full);
    let request = ImportRequest { dry_run: false, remove_many: false, ..request };
    let admin = harness.federation.admin(&member("mops"));
    let refused: Result<ImportSummary, _> = admin.run("/import", &request, &|_| {}).await;
    assert_eq!(refused.expect_err("two of three vanished").code, "extract_refused");
    harness.federation.nodes.get_mut(&member("mops")).expect("mops").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let ends: Vec<_> = log.iter().filter(|entry| entry["event"] == "import.finished").collect();
    assert_eq!((ends.len(), ends[0].get("detail")), (2, None));
    assert_eq!(ends[1]["detail"], "extract_refused");
    let counts = json!({ "run": 2, "rows": 1, "rejected": 0, "residents": 1, "new": 1, "removed": 0, "clients": 3 });
    assert_eq!(ends[1]["counts"], counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_replaces_values_and_a_delta_adds_rows() {
    let harness = Harness::new().await;
    for unit in ["mops", "pup"] {
        import(&harness, unit, &[ANNA], ImportMode::Update).await;
        harness.enrol(unit).await.expect("an enrolment");
    }
    let mandate = || json!({ "kind": "mandate", "id": "ups-105" });
    let asked = async || {
        let outcome = harness.ask("mops", "pup", "q02", json!({ "pesel": ANNA.pesel }), mandate()).await;
        assert_eq!(outcome.outcome, OutcomeKind::Answered, "{:?}", outcome.reason);
        outcome.fields[&"pup.status".parse().expect("a field")].clone()
    };
    assert_eq!(asked().await, json!(["bezrobotny"]));
    let path = extract_of(&harness, "pup", &[ANNA]);
    let text = std::fs::read_to_string(&path).expect("an extract");
    let changed = harness.extracts().join("changed.csv");
    std::fs::write(&changed, text.replace("bezrobotny", "poszukujacy")).expect("an extract");

    harness.import("pup", &changed, ImportMode::Update).await.expect("an import");
    assert_eq!(asked().await, json!(["poszukujacy"]), "the new row stands for the old one");
    for _ in 0..2 {
        harness.import("pup", &path, ImportMode::Delta).await.expect("an import");
        assert_eq!(asked().await, json!(["poszukujacy", "bezrobotny"]), "both stand, each once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_do_not_touch_each_other_and_a_shared_number_is_ambiguous() {
    let harness = Harness::new().await;
    let second = harness.extracts().join("second.toml");
    let text = std::fs::read_to_string(mapping("mops")).expect("a mapping");
    std::fs::write(&second, text.replace("\"pomost\"", "\"second\"")).expect("a mapping");
    let from_second = async |residents: &[Resident], mode| {
        let path = extract_of(&harness, "mops", residents);
        harness.federation.import(&member("mops"), second.clone(), path, mode, &|_| {}).await.expect("an import")
    };
    let asked = async |number: &str| {
        let resident = json!({ "local_number": number });
        let result = harness.try_ask("mops", "pup", "q02", resident, json!({ "kind": "none" })).await;
        result.map(|result| result.outcomes[0].reason.clone().unwrap_or_default()).map_err(|failure| failure.code)
    };
    // Numbers go by the place in the extract: M/0 and M/1 in both sources.
    import(&harness, "mops", &[ANNA, BOHDAN], ImportMode::Update).await;
    assert_eq!(asked("M/1").await, Ok("not_served".to_owned()), "one resident, not enrolled");
    assert_eq!(from_second(&[BOHDAN, CELINA], ImportMode::Update).await.clients, 3);
    for number in ["M/0", "M/1"] {
        assert_eq!(asked(number).await, Err("resident_ambiguous".to_owned()), "two residents share {number}");
    }
    // The status is 409, and the number is not repeated.
    let token = harness.federation.token(&member("mops"), "caseworker", &["caseworker"]).expect("a token");
    let body = json!({
        "resident": { "local_number": "M/1" }, "asks": [{ "query": "q02" }], "purpose": tests::PURPOSE,
        "basis": { "kind": "none" }, "reason": "test",
    });
    let api = harness.federation.local(&member("mops")).expect("a local API");
    let (status, problem) = api.send(http::Method::POST, "/v1/queries", Some(&token), Some(&body)).await.expect("sent");
    assert_eq!((status, problem["code"].as_str()), (409, Some("resident_ambiguous")));
    assert!(!problem.to_string().contains("M/1"));

    // The first source's whole truth takes its own rows only.
    let full = import(&harness, "mops", &[ANNA], ImportMode::Full).await;
    assert_eq!((full.removed, full.clients), (0, 3), "the second source still knows him");
    assert_eq!(asked("M/1").await, Ok("not_served".to_owned()), "his number of the first source went with its row");
    let full = from_second(&[CELINA], ImportMode::Full).await;
    assert_eq!((full.removed, full.clients), (1, 2), "nobody knows him now");
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolment_goes_on_where_it_stopped() {
    let mut harness = Harness::new().await;
    import(&harness, "pup", &[ANNA, BOHDAN], ImportMode::Update).await;
    harness.enrol("pup").await.expect("an enrolment");
    import(&harness, "mops", &[ANNA, CELINA], ImportMode::Update).await;
    let first = harness.enrol("mops").await.expect("an enrolment");
    assert_eq!((first.clients, first.pseudonymised, first.published, first.removed), (2, 2, 2, 0));
    let second = harness.enrol("mops").await.expect("an enrolment");
    assert_eq!((second.clients, second.pseudonymised, second.published, second.removed), (2, 0, 0, 0));

    import(&harness, "mops", &[ANNA, BOHDAN], ImportMode::Full).await;
    harness.federation.registry.stop().await.expect("it stops");
    for _ in 0..2 {
        assert_eq!(harness.enrol("mops").await.expect_err("no registry").code, "registry_unavailable");
    }
    let shared_failure = harness.federation.shared(&member("mops"), false).await.expect_err("no registry");
    assert_eq!(shared_failure.code, "registry_unavailable");
    harness.federation.registry.restart().await.expect("it starts");
    let third = harness.enrol("mops").await.expect("an enrolment");
    assert_eq!((third.clients, third.published, third.removed), (2, 1, 1), "what was begun is completed");
    assert_eq!(shared(&harness, "pup", "mops").await, 2);
    assert_eq!(harness.enrol("mops").await.expect("an enrolment").published, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_cut_gives_its_truth() {
    let harness = Harness::new().await;
    let cut = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo");
    let truth: Value =
        serde_json::from_slice(&std::fs::read(cut.join("truth.json")).expect("the truth")).expect("JSON");
    for (unit, _) in UNITS {
        let path = cut.join(format!("{unit}.csv"));
        let summary = harness.import(unit, &path, ImportMode::Update).await.expect("an import");
        let told = (summary.rows, summary.rejected, summary.clients);
        let number = |what: &str| truth[what][unit].as_u64().expect("a number");
        assert_eq!(told, (number("rows"), number("rejected"), number("clients")), "{unit}");
        harness.enrol(unit).await.expect("an enrolment");
    }
    let expected: BTreeMap<String, u64> = serde_json::from_value(truth["shared"].clone()).expect("numbers");
    assert_eq!(expected.len(), 11, "six pairs, four triples, all four");
    for (unit, _) in UNITS {
        let learnt = harness.federation.shared(&member(unit), false).await.expect("shared").at_least;
        let others = |units: &str| units.split('+').filter(|u| *u != unit).collect::<Vec<_>>().join("+");
        let of_unit = expected.iter().filter(|(units, _)| units.split('+').any(|u| u == unit));
        let of_unit: BTreeMap<String, u64> = of_unit.map(|(units, count)| (others(units), *count)).collect();
        assert_eq!(learnt, of_unit, "what {unit} learns");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_field_changes_nothing_a_peer_can_see() {
    let harness = Harness::new().await;
    let open = Resident { pesel: ANNA.pesel, units: "mops+pup+css", sealed: false };
    let sealed = Resident { pesel: BOHDAN.pesel, units: "mops+pup+css", sealed: true };
    let residents = [open, sealed];
    for unit in ["mops", "pup", "css"] {
        import(&harness, unit, &residents, ImportMode::Update).await;
        harness.enrol(unit).await.expect("an enrolment");
    }
    let ask = async |asker: &str, query: &str, fields: &[&str], basis: Value, pesel: &str| -> Value {
        let purpose = if asker == "css" { FAMILY_BENEFITS } else { "public-service-provision" };
        let body = json!({
            "resident": { "pesel": pesel }, "asks": [{ "query": query, "holder": "mops", "fields": fields }],
            "purpose": purpose, "basis": basis, "case_ref": "C/1", "reason": "test",
        });
        let result: node::QueryResult =
            harness.post(asker, "caseworker", "/v1/queries", &body).await.expect("a result");
        serde_json::to_value(result.outcomes).expect("JSON")
    };
    let mandate = |id: &str| json!({ "kind": "mandate", "id": id });
    let bases = [("css", mandate("usr-23")), ("pup", mandate("urp-2025")), ("css", json!({ "kind": "none" }))];
    let mut answered = 0;
    for by_name in [false, true] {
        let fields: &[&[&str]] = if by_name {
            &[&["mops.nk"], &["mops.benefit.type", "mops.nk"]]
        } else {
            &[&[], &["mops.benefit.type"], &["mops.nothing"]]
        };
        for (asker, basis) in &bases {
            for query in ["q01", "q06", "q07"] {
                for fields in fields {
                    let [of_open, of_sealed] = [
                        ask(asker, query, fields, basis.clone(), open.pesel).await,
                        ask(asker, query, fields, basis.clone(), sealed.pesel).await,
                    ];
                    // Their records are alike but for the seal, so the whole outcome must be, values included.
                    assert_eq!(of_open, of_sealed, "{asker} {query} {fields:?} {basis}");
                    assert!(!of_sealed.to_string().contains("mops.nk"), "{of_sealed}");
                    answered += u64::from(of_sealed[0]["outcome"] == "answered");
                }
            }
        }
        if !by_name {
            let messages = String::from_utf8_lossy(&tests::unwrapped(&lock(&harness.messages))).into_owned();
            assert!(messages.contains("mops.benefit.type") && !messages.contains("mops.nk"), "in a message");
        }
    }
    assert!(answered > 0, "some of these questions are answered");

    // Asked for alone, it is refused as a field is that does not exist, or that no basis covers.
    let reasons =
        async |field: &str| ask("css", "q07", &[field], mandate("usr-23"), sealed.pesel).await[0]["reason"].clone();
    let told = reasons("mops.nk").await;
    assert_eq!(told, json!("no_fields"));
    assert_eq!((&told, &told), (&reasons("mops.nothing").await, &reasons("mops.case.from").await));

    // Located alike: the same units for both.
    for unit in ["pup", "css", "mops"] {
        let summary = harness.federation.shared(&member(unit), true).await.expect("shared");
        assert_eq!(summary.clients.len(), 2);
        assert_eq!(summary.clients[0].units, summary.clients[1].units);
    }
}
