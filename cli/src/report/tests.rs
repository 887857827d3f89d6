use super::exchange::{audit_event, usage};
use super::*;
use policies::Library;
use serde_json::json;

/// 2026-11-21 12:00 in Warsaw, a Saturday.
const SATURDAY: i64 = 1_795_258_800;
const HOUR: i64 = 3_600;

fn words(lang: Lang) -> Words {
    Words::new(lang, Library::builtin().unwrap(), None)
}

fn exported() -> Exported {
    Exported {
        vkey: audit::Vkey::new("lodz.example/pup", [7; 32]).unwrap(),
        size: 10,
        root: [0; 32],
        entries: 4,
        exported_at: SATURDAY + 100 * HOUR,
        cosigned: 8,
        witnesses: vec![],
    }
}

fn answered(time: i64, file: &str) -> Value {
    json!({
        "event": "query.answered", "time": time, "file": file, "asker": "mops", "holder": "pup", "user": "U",
        "role": "caseworker", "query": "q02", "purpose": "social-welfare-eligibility-assessment",
        "basis": "mandate:ups-105@1", "fields_returned": ["pup.status"], "decision": "permit",
        "agreement": "mops-pup@1", "request": "Q",
    })
}

fn of(kind: Kind, entries: &[Value]) -> Document {
    with_data(kind, entries, None)
}

fn with_data(kind: Kind, entries: &[Value], held: Option<&ResidentData>) -> Document {
    let (words, exported) = (words(Lang::Pl), exported());
    let mut report = begin(kind);
    for (index, entry) in (0..).zip(entries) {
        report.take(index, entry, &words);
    }
    finish(kind, report, &Context { words: &words, exported: &exported, manifest: None, held })
}

fn rows(document: &Document, title: &str) -> Vec<Vec<String>> {
    let table = document.sections.iter().find_map(|section| match section {
        Section::Table { title: found, rows, .. } if found == title => Some(rows.clone()),
        _ => None,
    });
    table.unwrap_or_else(|| panic!("no table {title}: {document:?}"))
}

#[test]
fn a_residents_list_is_in_plain_words_with_repeats_folded() {
    let denied = json!({ "event": "query.denied", "time": SATURDAY, "asker": "css", "purpose": "x", "basis": "none" });
    let outcome = json!({
        "event": "query.outcome", "time": SATURDAY + 24 * HOUR, "asker": "pup", "basis": "consent:abc",
        "purpose": "social-welfare-provision",
        "outcomes": [{ "holder": "zlm", "outcome": "answered", "fields": [] }, { "holder": "css", "outcome": "denied" }],
    });
    let entries = [answered(SATURDAY, "F"), answered(SATURDAY + HOUR, "F"), denied, outcome];
    let list = rows(&of(Kind::R2, &entries), "Kto sprawdzał dane");
    assert_eq!(list.len(), 3, "{list:?}");
    assert_eq!(list[0][1..3], ["css", "nic: odmówiono"]);
    assert_eq!((list[1][1].as_str(), list[1][3].as_str()), ("mops", "ustalenie prawa do pomocy społecznej"));
    assert_eq!(list[1][5], "2");
    assert!(list[1][4].contains("105"), "{list:?}");
    assert_eq!(list[2][2], "czy jest znana lub znany w tej jednostce (źródło: zlm)");
    let package = of(Kind::R1, &entries);
    assert!(text(&package).contains("Prezesa Urzędu Ochrony Danych Osobowych"));
    assert!(text(&package).contains("wydawane osobno"), "an export has no data");
}

#[test]
fn the_access_package_has_the_data_on_file_and_who_got_some() {
    let data: ResidentData = serde_json::from_value(json!({
        "file": "F", "sealed": true,
        "rows": [{ "source": "syriusz", "local_number": "17", "kept_until": "2031-11-21", "fields": { "pup.status": "bezrobotny", "pup.benefit_right": true } }],
    }))
    .unwrap();
    let mut later = answered(SATURDAY + 48 * HOUR, "F");
    later["fields_returned"] = json!(["pup.benefit_right"]);
    let got = json!({
        "event": "query.outcome", "time": SATURDAY, "asker": "pup", "basis": "none", "purpose": "x",
        "outcomes": [{ "holder": "zlm", "outcome": "answered", "fields": ["hou.eviction"] }],
    });
    let package = with_data(Kind::R1, &[answered(SATURDAY, "F"), later, got], Some(&data));
    let words = words(Lang::Pl);
    let (status, right) = (words.field("pup.status"), words.field("pup.benefit_right"));
    assert_eq!(
        rows(&package, "Dane w aktach tej instytucji"),
        [["syriusz", "17", &right, "true", "2031-11-21"], ["syriusz", "17", &status, "bezrobotny", "2031-11-21"],]
    );
    let both = format!("{right}, {status}");
    assert_eq!(rows(&package, "Odbiorcy danych"), [["mops", &both, "2026-11-21", "2026-11-23", "2"]]);
    let text = text(&package);
    assert!(text.contains("pola chronione") && !text.contains("wydawane osobno"), "{text}");
}

#[test]
fn the_scope_of_a_breach_counts_persons_and_special_categories() {
    let words = words(Lang::Pl);
    let special = words.library.catalogue().fields.keys().find(|id| words.special(id.as_str())).unwrap().to_string();
    let mut sensitive = answered(SATURDAY, "G");
    sensitive["fields_returned"] = json!([special]);
    let scope = of(Kind::R4, &[answered(SATURDAY, "F"), answered(SATURDAY + HOUR, "F"), sensitive]);
    let Section::Facts(facts) = &scope.sections[1] else { panic!("{scope:?}") };
    assert_eq!((facts[0].1.as_str(), facts[1].1.as_str()), ("2", "1"));
    assert_eq!(rows(&scope, "Kanały"), [["mops", "pup", "3"]]);
    assert!(rows(&scope, "Klucze i certyfikaty").is_empty(), "entries of before say nothing of keys");
    assert_eq!(rows(&scope, "Osoby, według numeru akt w dzienniku").len(), 2);
}

#[test]
fn the_scope_says_under_which_keys_data_left() {
    let under = |key: &str, certificate: &str| {
        let mut entry = answered(SATURDAY, "F");
        (entry["key"], entry["certificate"]) = (json!(key), json!(certificate));
        entry
    };
    let entries = [under("K1", "C1"), under("K1", "C1"), under("K1", "C2"), under("K2", "C2")];
    let scope = of(Kind::R4, &entries);
    assert_eq!(
        rows(&scope, "Klucze i certyfikaty"),
        [["mops", "K1", "C1", "2"], ["mops", "K1", "C2", "1"], ["mops", "K2", "C2", "1"]]
    );
    let matching = |key: &str| {
        let filter = audit::Filter { key: Some(key.to_owned()), ..audit::Filter::default() };
        entries.iter().filter(|entry| filter.matches(entry.to_string().as_bytes())).count()
    };
    assert_eq!((matching("K1"), matching("C2"), matching("K3")), (3, 2, 0));
}

#[test]
fn the_monthly_report_names_nobody() {
    let asking = |time: i64, key: &str| json!({ "event": "query.asking", "time": time, "user": "SECRET", "file": "FILE", "search_key": key });
    let monday = SATURDAY + 46 * HOUR;
    let report = of(
        Kind::R8,
        &[
            asking(SATURDAY, "pesel"),
            asking(monday, "local_number"),
            answered(monday, "FILE"),
            json!({ "event": "query.denied", "time": monday, "role": "caseworker" }),
        ],
    );
    assert_eq!(rows(&report, "Miesiące"), [["2026-11", "2", "1", "1", "50%", "50%", "1", "caseworker 2"]]);
    let page = html(&report);
    assert!(!page.contains("SECRET") && !page.contains("FILE"));
    assert_eq!(page.matches("<svg").count(), 3);
}

#[test]
fn unreviewed_emergencies_are_overdue_after_three_days() {
    let emergency = |id: &str, time: i64| {
        let mut entry = answered(time, "F");
        entry["basis"] = json!("emergency:life-at-risk");
        entry["emergency"] = json!(id);
        entry
    };
    let reviewed =
        json!({ "event": "emergency.reviewed", "time": SATURDAY + HOUR, "emergency": "a", "decision": "permit" });
    let entries = [emergency("a", SATURDAY), emergency("b", SATURDAY), emergency("c", SATURDAY + 90 * HOUR), reviewed];
    let list = rows(&of(Kind::R7, &entries), "Dostępy");
    let states: Vec<&str> = list.iter().map(|row| row[5].as_str()).collect();
    assert!(states[0].ends_with("permit"), "{states:?}");
    assert_eq!(states[1..], ["po terminie", "czeka"]);
}

#[test]
fn consents_and_integrity_say_what_is_missing() {
    let words = words(Lang::Pl);
    let newest = words.library.catalogue().templates["instead-of-certificate"].last().unwrap().version.clone();
    let current = format!("instead-of-certificate@{newest}");
    let consents = of(
        Kind::R10,
        &[
            json!({ "event": "consent.recorded", "time": SATURDAY, "consent": "C", "file": "F",
                "detail": "instead-of-certificate@0" }),
            json!({ "event": "consent.withdrawn", "time": SATURDAY + HOUR, "consent": "C",
                "detail": "instead-of-certificate@0" }),
            json!({ "event": "consent.granted", "time": SATURDAY, "consent": "D", "detail": format!("recorded by css ({current})") }),
            json!({ "event": "query.answered", "time": SATURDAY, "basis": format!("consent:D ({current})") }),
            json!({ "event": "consent.refused", "time": SATURDAY, "consent": "E", "detail": current }),
        ],
    );
    assert_eq!(
        rows(&consents, "Wzory"),
        [["instead-of-certificate@0", "nie", "1", "0", "1", "0"], [current.as_str(), "tak", "1", "1", "0", "1"],]
    );
    assert_eq!(
        rows(&consents, "Zgody"),
        [
            ["C", "F", "instead-of-certificate@0", "2026-11-21 12:00:00", "2026-11-21 13:00:00", "0"],
            ["D", "", current.as_str(), "2026-11-21 12:00:00", "", "1"],
            ["E", "", current.as_str(), "", "", "0"],
        ]
    );
    let integrity = of(
        Kind::R14,
        &[
            json!({ "event": "query.asking", "time": SATURDAY }),
            json!({ "event": "witness.alarm", "time": SATURDAY - 1, "detail": "two trees", "origin": "a/b" }),
        ],
    );
    assert_eq!(rows(&integrity, "Zdarzenia").len(), 1);
    let Section::Facts(facts) = &integrity.sections[1] else { panic!("{integrity:?}") };
    let values: Vec<&str> = facts.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["zgodne", "2", "1", "1"]);
}

#[test]
fn others_forms_hold_the_same() {
    let entry = answered(SATURDAY, "F");
    let used = usage(&entry, &words(Lang::Pl));
    assert_eq!((&used[0]["receiverCode"], &used[0]["logtime"]), (&json!("mops"), &json!("2026-11-21T11:00:00Z")));
    let event = audit_event(3, &entry, "lodz.example/pup").unwrap();
    assert_eq!(
        (&event["resourceType"], &event["type"]["code"], &event["outcome"]),
        (&json!("AuditEvent"), &json!("110106"), &json!("0"))
    );
    assert_eq!(event["entity"][1]["what"]["identifier"]["value"], "Q");
    assert!(audit_event(0, &json!({ "event": "node.started", "time": 1 }), "o").is_none());
}
