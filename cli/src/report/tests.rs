use super::exchange::{audit_events, bundle, usage};
use super::*;
use policies::Library;
use protocol::Manifest;
use serde_json::json;

/// 2026-11-21 12:00 in Warsaw, a Saturday.
const SATURDAY: i64 = 1_795_258_800;
const HOUR: i64 = 3_600;

fn words(lang: Lang) -> Words {
    Words::new(lang, Library::builtin().unwrap(), None)
}

fn exported() -> Exported {
    Exported {
        read: 10,
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
    made(kind, entries, &Asked::default(), held)
}

fn made(kind: Kind, entries: &[Value], asked: &Asked, held: Option<&ResidentData>) -> Document {
    made_against(kind, entries, asked, held, None)
}

fn made_against(
    kind: Kind,
    entries: &[Value],
    asked: &Asked,
    held: Option<&ResidentData>,
    before: Option<&Manifest>,
) -> Document {
    let (words, exported) = (words(Lang::Pl), exported());
    let mut report = begin(kind, asked.clone());
    for (index, entry) in (0..).zip(entries) {
        let mut entry = entry.clone();
        asked.narrow(&mut entry);
        report.take(index, &entry, &words);
    }
    let manifest = manifest();
    let context = Context {
        words: &words,
        exported: &exported,
        witnesses_checked: false,
        manifest: Some(&manifest),
        fingerprint: Some("FINGERPRINT"),
        against: before.map(|before| (before, "EARLIER")),
        held,
    };
    finish(kind, report, &context)
}

/// Three members, and two agreements: mops asks pup, pup asks zlm on Mondays only.
fn manifest() -> Manifest {
    let member = |id: &str, kind: &str| {
        json!({
            "id": id, "name": id, "kind": kind, "endpoints": [], "roles": [], "operator": "x", "keys": [],
            "quotas": { "evaluations_burst": 1, "evaluations_per_day": 1 },
        })
    };
    let agreement = |asker: &str, holder: &str, fields: &[&str], hours: Value| {
        json!({
            "terms": {
                "id": format!("{asker}-{holder}"), "version": 1, "asker": asker, "holder": holder,
                "queries": ["q01", "q02"], "fields": fields,
                "purposes": ["social-welfare-eligibility-assessment", "social-welfare-provision"],
                "queries_per_day": 50, "hours": hours, "valid_from": 0, "valid_to": SATURDAY,
            },
            "assents": {},
        })
    };
    let mondays = json!([{ "day": "monday", "from_minute": 0, "to_minute": 1440 }]);
    let manifest = json!({
        "realm": "lodz.example", "version": 1, "issued": 0, "expires": SATURDAY,
        "officers": { "threshold": 1, "keys": [] },
        "members": [member("mops", "mops"), member("pup", "pup"), member("zlm", "hou")],
        "epochs": [], "library": { "version": 1, "digest": "" },
        "agreements": [
            agreement("mops", "pup", &["pup.status", "pup.benefit_right.amount"], json!([])),
            agreement("pup", "zlm", &["hou.eviction"], mondays),
        ],
    });
    serde_json::from_value(manifest).unwrap()
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
    assert_eq!(list[1][4], "ustawa z 12.03.2004 o pomocy społecznej, art. 105");
    assert_eq!(list[2][2], "czy jest znana lub znany w tej jednostce (źródło: zlm)");
    let package = of(Kind::R1, &entries);
    assert!(text(&package).contains("Prezesa Urzędu Ochrony Danych Osobowych"));
    assert!(text(&package).contains("wydawane osobno"), "an export has no data");
}

#[test]
fn a_resident_is_told_what_the_officer_saw_and_of_consents_no_basis() {
    let about = |event: &str, time: i64| json!({ "event": event, "time": time, "file": "F", "asker": "pup" });
    let entries = [
        about("resident.shown", SATURDAY),
        about("dpo.searched", SATURDAY + 24 * HOUR),
        about("consent.withdrawn", SATURDAY + 48 * HOUR),
    ];
    let list = rows(&of(Kind::R2, &entries), "Kto sprawdzał dane");
    let told: Vec<[&str; 3]> = list.iter().map(|row| [&*row[1], &*row[2], &*row[4]]).collect();
    let officer = "inspektor ochrony danych";
    assert_eq!(
        told,
        [[officer, "dane w aktach", ""], [officer, "zapisy w dzienniku", ""], ["pup", "wycofano zgodę", ""]]
    );
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
    assert_eq!(rows(&scope, "Kanały: nasze dane u innych"), [["mops", "pup", "3"]]);
    assert!(rows(&scope, "Klucze i certyfikaty").is_empty(), "entries of before say nothing of keys");
    assert_eq!(rows(&scope, PERSONS).len(), 2);
    let mut presence = answered(SATURDAY, "F");
    (presence["query"], presence["fields_returned"]) = (json!("q01"), json!([]));
    assert_eq!(rows(&of(Kind::R4, &[presence]), PERSONS), [["F", "1", "czy jest znana lub znany w tej jednostce"]]);
}

const PERSONS: &str = "Osoby, według numeru akt w dzienniku: nasze dane u innych";

fn facts(document: &Document) -> BTreeMap<String, String> {
    let facts = |section: &Section| match section {
        Section::Facts(facts) => facts.clone(),
        _ => Vec::new(),
    };
    document.sections.iter().flat_map(facts).collect()
}

#[test]
fn a_breach_at_one_peer_is_about_that_peer_alone_and_each_direction_apart() {
    let got = json!({
        "event": "query.outcome", "time": SATURDAY, "asker": "pup", "file": "H",
        "outcomes": [
            { "holder": "mops", "query": "q02", "outcome": "answered", "fields": ["mops.case.status"] },
            { "holder": "css", "query": "q07", "outcome": "answered", "fields": ["css.amount"] },
        ],
    });
    let approved = json!({ "event": "approval.granted", "time": SATURDAY, "asker": "mops", "file": "I", "user": "U" });
    let asked = Asked { peer: Some("mops".into()), ..Asked::default() };
    let entries = [got, approved, answered(SATURDAY + HOUR, "F")];
    let scope = made(Kind::R4, &entries, &asked, None);
    let from = "dane otrzymane od innych";
    assert_eq!(rows(&scope, "Kanały: nasze dane u innych"), [["mops", "pup", "1"]]);
    assert_eq!(rows(&scope, &format!("Kanały: {from}")), [["pup", "mops", "1"]]);
    let status = words(Lang::Pl).field("mops.case.status");
    assert_eq!(rows(&scope, &format!("Kategorie danych: {from}")), [[&*status, "", "wydano", "1"]]);
    assert_eq!(facts(&scope)["Liczba osób"], "2");
    let all = of(Kind::R4, &entries);
    assert_eq!(rows(&all, &format!("Kanały: {from}")), [["pup", "css", "1"], ["pup", "mops", "1"]]);
    assert_eq!(facts(&all)["Liczba osób"], "3");
    // By this institution itself everything is meant.
    let mut own = entries[0].clone();
    Asked { peer: Some("pup".into()), ..Asked::default() }.narrow(&mut own);
    assert_eq!(own, entries[0]);
}

#[test]
fn the_scope_has_what_officers_and_approvers_saw_and_the_authoritys_clock() {
    let saw = |event: &str, file: Value| json!({ "event": event, "time": SATURDAY, "user": "O", "file": file });
    let entries = [
        saw("resident.shown", json!("F")),
        saw("dpo.reported", json!("F")),
        saw("dpo.exported", json!("G")),
        saw("approval.refused", json!("H")),
        // About nobody in particular.
        saw("dpo.reported", Value::Null),
        saw("dpo.resolved", json!("I")),
    ];
    let aware = |aware: i64| Asked { aware: Some(aware), ..Asked::default() };
    let scope = made(Kind::R4, &entries, &aware(SATURDAY), None);
    assert_eq!(
        rows(&scope, "Osoby, których dane oglądano w tej instytucji: inspektorzy i zatwierdzający"),
        [
            ["F", "2", "dane w aktach; zapisy w dzienniku"],
            ["G", "1", "zapisy w dzienniku"],
            ["H", "1", "pytanie do decyzji"]
        ]
    );
    let all = facts(&scope);
    assert_eq!((&*all["Liczba osób"], &*all["Pierwszy dostęp"]), ("3", "2026-11-21 12:00:00"));
    // The log was exported 100 hours later.
    assert_eq!(all["Stwierdzenie naruszenia"], "2026-11-21 12:00:00");
    assert_eq!(all["Termin zgłoszenia do UODO"], "2026-11-24 12:00:00 (minął)");
    let empty = facts(&made(Kind::R4, &[], &aware(SATURDAY + 28 * HOUR), None));
    assert_eq!((&*empty["Pierwszy dostęp"], &*empty["Ostatni dostęp"]), ("–", "–"));
    assert_eq!(empty["Termin zgłoszenia do UODO"], "2026-11-25 16:00:00");
    let blank = empty.iter().filter(|(_, value)| value.starts_with("____")).count();
    assert_eq!(blank, 3, "contact, consequences, measures");
}

#[test]
fn what_was_compared_is_told_apart_from_presence_and_from_nothing() {
    let words = words(Lang::Pl);
    let compared = |time: i64| {
        let mut entry = answered(time, "F");
        (entry["query"], entry["fields_returned"]) = (json!("q08"), json!([]));
        entry["fields_requested"] = json!(["pup.benefit_right.amount"]);
        entry
    };
    let mut nothing = answered(SATURDAY + 24 * HOUR, "F");
    nothing["fields_returned"] = json!([]);
    let amount = words.field("pup.benefit_right.amount");
    let said = format!("porównano: {amount}");
    let list = rows(&of(Kind::R2, &[compared(SATURDAY), nothing]), "Kto sprawdzał dane");
    assert_eq!(list.iter().map(|row| &*row[2]).collect::<Vec<_>>(), [&*said, "nic do wydania"]);
    let both = of(Kind::R1, &[compared(SATURDAY), answered(SATURDAY, "F")]);
    let status = words.field("pup.status");
    assert_eq!(rows(&both, "Odbiorcy danych")[0][1], format!("{status}; {said}"));
    let scope = of(Kind::R4, &[compared(SATURDAY)]);
    assert_eq!(rows(&scope, "Kategorie danych: nasze dane u innych"), [[&*amount, "", "porównano", "1"]]);
    // The asker's entry has the fields of all its questions together.
    let asked = json!({
        "event": "query.outcome", "time": SATURDAY, "asker": "pup", "file": "F",
        "fields_requested": ["mops.case.status", "mops.income"],
        "outcomes": [{ "holder": "mops", "query": "q08", "outcome": "answered", "fields": [] }],
    });
    let list = rows(&of(Kind::R2, &[asked]), "Kto sprawdzał dane");
    assert_eq!(list[0][2], format!("porównano: {} (źródło: mops)", words.field("mops.income")));
    // What was compared was used.
    let used = of(Kind::R11, &[answered(SATURDAY, "F"), compared(SATURDAY)]);
    assert_eq!(rows(&used, "Porozumienia")[0][7], "");
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
            json!({ "event": "query.outcome", "time": monday, "outcomes": [
                { "holder": "zlm", "outcome": "denied", "peer_log": { "index": 1 } },
                { "holder": "css", "outcome": "answered" },
                // Refused by our own node: nobody was asked.
                { "holder": null, "outcome": "denied" }, { "holder": "zlm", "outcome": "denied" } ] }),
        ],
    );
    assert_eq!(rows(&report, "Miesiące"), [["2026-11", "2", "1", "1", "1", "50%", "50%", "1", "caseworker 2"]]);
    let page = html(&report);
    assert!(!page.contains("SECRET") && !page.contains("FILE"));
    assert_eq!(page.matches("<svg").count(), 3);
}

#[test]
fn a_question_that_waited_counts_once_and_months_without_any_stay() {
    const DAY: i64 = 24 * HOUR;
    let asking = |time: i64, holder: &str| {
        json!({ "event": "query.asking", "time": time, "user": "U", "file": "F", "search_key": "pesel",
            "outcomes": [{ "holder": holder, "query": "q16", "outcome": "asking" }] })
    };
    let came = |time: i64, outcome: &str| {
        json!({ "event": "query.outcome", "time": time, "user": "U", "file": "F",
            "outcomes": [{ "holder": "mops", "query": "q16", "outcome": outcome }] })
    };
    let before = SATURDAY - 61 * DAY;
    let report = of(
        Kind::R8,
        &[
            asking(before, "mops"),
            came(before, "answered"),
            // Whom to ask is found out; then it waits, is asked about twice, and is answered.
            asking(SATURDAY, ""),
            came(SATURDAY, "pending"),
            asking(SATURDAY + HOUR, "mops"),
            came(SATURDAY + HOUR, "pending"),
            asking(SATURDAY + 2 * HOUR, "mops"),
            came(SATURDAY + 2 * HOUR, "answered"),
            // The same, later, is another.
            asking(SATURDAY + 3 * HOUR, "mops"),
            came(SATURDAY + 3 * HOUR, "answered"),
            json!({ "event": "node.started", "time": SATURDAY + 20 * DAY }),
        ],
    );
    let asked: Vec<[String; 2]> =
        rows(&report, "Miesiące").into_iter().map(|row| [row[0].clone(), row[1].clone()]).collect();
    assert_eq!(asked, [["2026-09", "1"], ["2026-10", "0"], ["2026-11", "2"], ["2026-12", "0"]]);
    let plotted = report.sections.iter().find_map(|section| match section {
        Section::Series { points, .. } => Some(points.iter().map(|(_, value)| *value).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(plotted, Some(vec![1, 0, 2, 0]));
}

#[test]
fn emergencies_are_overdue_by_the_librarys_days_and_say_why_and_what_was_seen() {
    const DAY: i64 = 24 * HOUR;
    // The log is exported 100 hours after Saturday noon.
    let now = exported().exported_at;
    let at_holder = |id: &str, time: i64| {
        let mut entry = answered(time, "F");
        (entry["basis"], entry["emergency"]) = (json!("emergency:vital-interest@2"), json!(id));
        entry
    };
    // As the node writes it: the outcome is the detail, the user who reviewed.
    let reviewed = |id: &str, time: i64| {
        json!({ "event": "emergency.reviewed", "time": time, "emergency": id, "detail": "unjustified",
            "basis": "emergency:life", "user": "R", "reason_text": "nikogo nie ratowano" })
    };
    let notice = |id: &str, detail: &str| json!({ "event": "emergency.notice", "time": now, "emergency": id, "detail": detail, "reason_text": "groziłoby mu" });
    let of_ours = |event: &str, id: &str, time: i64| {
        json!({ "event": event, "time": time, "emergency": id, "basis": "emergency:life", "user": "U", "asker": "pup",
            "reason_text": "nieprzytomny" })
    };
    let seen = json!({
        "event": "query.outcome", "time": now, "emergency": "d", "basis": "emergency:life", "asker": "pup",
        "outcomes": [
            { "holder": "mops", "query": "q18", "outcome": "answered", "fields": ["mops.duty.phone"] },
            { "holder": "css", "query": "q18", "outcome": "denied" },
        ],
    });
    let mut with_reason = at_holder("c", now - 7 * DAY);
    with_reason["detail"] = json!("health");
    with_reason["obligations"] = json!({ "delete_after": now, "review_by": now - 1 });
    let entries = [
        at_holder("a", now - 9 * DAY),
        at_holder("b", now - 9 * DAY),
        with_reason,
        of_ours("emergency.declared", "d", now - 7 * DAY - 1),
        of_ours("emergency.opened", "d", now - 7 * DAY + 1),
        of_ours("emergency.opened", "e", now - 7 * DAY),
        of_ours("emergency.opened", "f", now - 9 * DAY),
        seen,
        reviewed("a", now - 9 * DAY + HOUR),
        notice("a", "not_informed"),
        reviewed("f", now),
        notice("f", "letter"),
        notice("f", "printed"),
    ];
    let list = rows(&of(Kind::R7, &entries), "Dostępy");
    let column = |number: usize| list.iter().map(|row| row[number].as_str()).collect::<Vec<_>>();
    assert_eq!(column(9), ["nie: groziłoby mu", "", "", "", "", "pismem"]);
    // A holder waits a day longer: it may only not have heard of the review.
    assert_eq!(
        column(6),
        [
            "2026-11-16 17:00:00 nieuzasadniony",
            "po terminie",
            "czeka",
            "po terminie",
            "czeka",
            "2026-11-25 16:00:00 nieuzasadniony, po terminie"
        ]
    );
    assert_eq!(list[0][7..9], ["R", "nikogo nie ratowano"]);
    assert_eq!(column(3)[1..4], ["Ochrona życia lub zdrowia", "zagrożenie zdrowia", "zagrożenie życia: nieprzytomny"]);
    let phone = words(Lang::Pl).field("mops.duty.phone");
    assert_eq!(column(4)[3..5], [&*format!("mops: {phone}"), ""]);
    assert_eq!(column(5)[4], "2026-11-25 16:00:00");
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
            // At the recipient: two of three holders answered on it.
            json!({ "event": "query.outcome", "time": SATURDAY, "basis": format!("consent:D ({current})"), "outcomes": [
                { "holder": "pup", "outcome": "answered" }, { "holder": "zlm", "outcome": "answered" },
                { "holder": "css", "outcome": "denied" } ] }),
        ],
    );
    assert_eq!(
        rows(&consents, "Wzory"),
        [["instead-of-certificate@0", "nie", "1", "0", "1", "0"], [current.as_str(), "tak", "1", "1", "0", "1"],]
    );
    assert_eq!(
        rows(&consents, "Zgody"),
        [
            [
                "C",
                "F",
                "instead-of-certificate@0",
                "wycofana",
                "2026-11-21 12:00:00",
                "",
                "2026-11-21 13:00:00",
                "",
                "0"
            ],
            ["D", "", current.as_str(), "w mocy", "2026-11-21 12:00:00", "", "", "", "3"],
            ["E", "", current.as_str(), "odmowa", "", "", "", "", "0"],
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
    assert_eq!(values, ["zgodne", "2", "1", "1", "niesprawdzone: klucze z samego eksportu"]);
}

/// The same in every form.
fn forms(document: &Document) -> [String; 4] {
    [text(document), serde_json::to_string_pretty(document).unwrap(), csv(document, ';'), html(document)]
}

#[test]
fn consents_that_expired_their_evidence_and_who_acknowledged_a_withdrawal() {
    let given = |id: &str, until: i64| {
        json!({ "event": "consent.recorded", "time": SATURDAY, "consent": id, "file": "F", "valid_until": until,
            "evidence": format!("SHA-{id}"), "detail": "instead-of-certificate@0" })
    };
    let taken = |holder: &str, after: i64| json!({ "event": "consent.withdrawal_taken", "time": SATURDAY + after, "consent": "C", "holder": holder });
    let report = of(
        Kind::R10,
        &[
            given("A", SATURDAY + 100 * HOUR),
            given("B", SATURDAY + 101 * HOUR),
            given("C", SATURDAY + 1),
            json!({ "event": "consent.withdrawn", "time": SATURDAY + 10, "consent": "C", "counts": { "holders": 4 } }),
            taken("css", 11),
            taken("pup", 12),
            // Delivered twice, as after a crash: the first counts.
            taken("pup", 500),
            taken("zlm", 3_610),
            // Replaced by a newer one; this institution's own grant went with it.
            given("D", SATURDAY + 100 * HOUR),
            json!({ "event": "consent.superseded", "time": SATURDAY + 10, "consent": "D", "counts": { "holders": 1 } }),
            json!({ "event": "consent.withdrawal_received", "time": SATURDAY + 11, "consent": "D" }),
        ],
    );
    let consents = rows(&report, "Zgody");
    let states: Vec<[&str; 3]> = consents.iter().map(|row| [&*row[0], &*row[3], &*row[7]]).collect();
    assert_eq!(
        states,
        [["A", "wygasła", "SHA-A"], ["B", "w mocy", "SHA-B"], ["C", "wycofana", "SHA-C"], ["D", "zastąpiona", "SHA-D"]]
    );
    let Section::Facts(facts) = &report.sections[1] else { panic!("{report:?}") };
    let number = |of: &str| facts.iter().find(|(name, _)| name == of).map(|(_, value)| value.as_str());
    assert_eq!(["Zastąpione nowszymi", "Wycofane u innych"].map(number), [Some("1"), Some("0")]);
    let at = "2026-11-21 12:00:10";
    assert_eq!(
        rows(&report, "Potwierdzenia wycofań"),
        [
            ["C", at, "css", "2026-11-21 12:00:11", "1 s"],
            ["C", at, "pup", "2026-11-21 12:00:12", "2 s"],
            ["C", at, "zlm", "2026-11-21 13:00:10", "3600 s"],
            ["C", at, "× 1", "jeszcze nie", ""],
            ["D", at, "× 1", "jeszcze nie", ""],
        ]
    );
    let Section::Facts(facts) = &report.sections[1] else { panic!("{report:?}") };
    let fact = |name: &str| facts.iter().find(|(found, _)| found == name).unwrap().1.clone();
    assert_eq!((fact("Wygasłe"), fact("Bez dowodu")), ("1".to_owned(), "0".to_owned()));
    assert_eq!(fact("Mediana czasu do potwierdzenia wycofania"), "2 s");
    for form in forms(&report) {
        for said in ["wygasła", "SHA-A", "2026-11-21 12:00:12", "jeszcze nie", "3600 s"] {
            assert!(form.contains(said), "{said}: {form}");
        }
    }
}

#[test]
fn accounts_nobody_used_are_counted_and_not_named() {
    const DAY: i64 = 24 * HOUR;
    let now = exported().exported_at;
    let left = |event: &str, user: &str, days: i64| json!({ "event": event, "time": now - days * DAY, "user": user });
    let report = of(
        Kind::R8,
        &[
            left("query.asking", "NEVER-SHOWN-1", 200),
            left("consent.recorded", "NEVER-SHOWN-2", 89),
            left("query.asking", "NEVER-SHOWN-3", 300),
            left("finding.reviewed", "NEVER-SHOWN-3", 1),
            // A peer's user is no account of ours.
            left("query.answered", "NEVER-SHOWN-4", 365),
        ],
    );
    assert_eq!(rows(&report, "Konta nieużywane"), [["30", "2", "3"], ["90", "1", "3"], ["180", "1", "3"]]);
    for form in forms(&report) {
        assert!(form.contains("Konta nieużywane") && !form.contains("NEVER-SHOWN"), "{form}");
    }
}

#[test]
fn integrity_counts_by_peer_what_has_no_other_side() {
    let outcome = |holder: &str, peer_log: Value| json!({ "holder": holder, "outcome": "answered", "request": "Q", "peer_log": peer_log });
    let asked = json!({
        "event": "query.outcome", "time": SATURDAY, "asker": "pup",
        "outcomes": [outcome("zlm", json!({ "index": 1 })), outcome("zlm", Value::Null), outcome("css", json!({ "index": 2 }))],
    });
    let compared = json!({
        "event": "log.reconciled", "time": SATURDAY, "holder": "zlm", "counts": { "matched": 7, "findings": 1 },
    });
    let report = of(Kind::R14, &[asked, answered(SATURDAY, "F"), compared]);
    assert_eq!(
        rows(&report, "Pary wpisów z innymi"),
        [
            ["css", "1", "0", "0", "nigdy", "", ""],
            ["mops", "0", "0", "1", "nigdy", "", ""],
            ["zlm", "1", "1", "0", "2026-11-21 12:00:00", "7", "1"],
        ]
    );
}

#[test]
fn the_record_of_processing_has_agreements_statutes_and_templates() {
    let register = of(Kind::R3, &[]);
    let names = |title: &str| rows(&register, title).into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(names("Czynności"), ["mops-pup@1", "pup-zlm@1"]);
    let statutes = rows(&register, "Przepisy");
    let welfare = statutes.iter().find(|row| row[0].starts_with("ups-105@")).expect("the labour office has to answer");
    assert_eq!(welfare[1..3], ["ustawa z 12.03.2004 o pomocy społecznej, art. 105", "odpowiada"]);
    // By which manifest, every report says that has one.
    assert_eq!(facts(&register)["Manifest (odcisk)"], "lodz.example, wersja 1, FINGERPRINT");
    assert!(names("Wzory zgód").iter().any(|name| name.starts_with("instead-of-certificate@")));
}

#[test]
fn the_record_of_processing_says_what_came_and_went_since_an_earlier_manifest() {
    let mut before = manifest();
    before.version = 0;
    // Another version of one, one of others, and one that is new since.
    before.agreements[0].terms.version = 0;
    before.agreements.remove(1);
    let mut others = before.agreements[0].clone();
    others.terms.asker = "css".parse().unwrap();
    others.terms.holder = "zlm".parse().unwrap();
    before.agreements.push(others);
    let register = made_against(Kind::R3, &[], &Asked::default(), None, Some(&before));
    let changes = rows(&register, "Zmiany od manifestu w wersji 0");
    let changes: Vec<_> = changes.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    assert_eq!(changes, [("ubyło", "mops-pup@0"), ("przybyło", "mops-pup@1"), ("przybyło", "pup-zlm@1")]);
    assert_eq!(facts(&register)["Porównany z manifestem"], "lodz.example, wersja 0, EARLIER");
    let same = made_against(Kind::R3, &[], &Asked::default(), None, Some(&manifest()));
    assert!(rows(&same, "Zmiany od manifestu w wersji 1").is_empty());
}

#[test]
fn the_record_of_processing_counts_entries_by_activity() {
    let entries = [answered(SATURDAY, "F"), answered(SATURDAY, "G"), json!({ "event": "consent.recorded" })];
    let rows = rows(&of(Kind::R3, &entries), "Czynności według dziennika");
    let counts: Vec<_> = rows.iter().map(|row| (row[0].as_str(), row[2].as_str())).collect();
    let expected = [("operation@1", "0"), ("records@1", "0"), ("pseudonyms@1", "0"), ("exchange@1", "2")];
    assert_eq!(counts[..4], expected);
    assert_eq!(counts[4..], [("consents@1", "1"), ("rights@1", "0"), ("oversight@1", "0")]);
}

#[test]
fn what_a_resident_is_told_is_what_the_catalogue_says() {
    let words = words(Lang::Pl);
    for event in audit::EventKind::ALL {
        let entry = json!({
            "event": event.name(), "time": SATURDAY, "file": "F", "asker": "pup", "purpose": "x", "basis": "none",
            "outcomes": [{ "holder": "zlm", "query": "q02", "outcome": "answered", "fields": [] }],
        });
        let told = !disclosures::lines(&entry, &words).is_empty();
        assert_eq!(told, event.visibility() == audit::Visibility::Resident, "{event:?}");
    }
}

#[test]
fn single_persons_use_is_a_line_for_each_access() {
    let asking = json!({
        "event": "query.asking", "time": SATURDAY, "asker": "pup", "user": "U", "file": "F", "reason_text": "rozmowa",
        "purpose": "social-welfare-provision", "basis": "none", "outcomes": [{ "holder": "zlm", "query": "q01" }],
    });
    let list = rows(&of(Kind::R9, &[asking, json!({ "event": "node.started", "time": SATURDAY })]), "Dostępy");
    assert_eq!(list.len(), 1, "what the machine does is no use by a person");
    assert_eq!(list[0][..6], ["0", "2026-11-21 12:00:00", "query.asking", "pup", "U", "F"]);
    assert_eq!(list[0][8..], ["brak", "rozmowa"]);
}

#[test]
fn agreements_are_held_against_their_use_on_both_sides() {
    let words = words(Lang::Pl);
    let asked = |time: i64, agreement: &str, outcome: &str| {
        json!({
            "event": "query.outcome", "time": time, "asker": "pup", "purpose": "social-welfare-provision",
            "outcomes": [{ "holder": "zlm", "query": "q02", "outcome": outcome, "reason": "not_available",
                "agreement": agreement, "fields": ["hou.eviction"], "peer_log": { "index": 1 } }],
        })
    };
    let own = json!({
        "event": "query.outcome", "time": SATURDAY, "asker": "pup",
        "outcomes": [{ "holder": null, "query": "q02", "outcome": "denied", "reason": "no_holder" }],
    });
    let monday = SATURDAY + 46 * HOUR;
    let entries = [
        answered(SATURDAY, "F"),
        answered(SATURDAY, "G"),
        asked(SATURDAY, "pup-zlm@1", "answered"),
        asked(monday, "pup-zlm@1", "answered"),
        // Under a version that is none any more: not once more under this.
        asked(monday, "pup-zlm@0", "answered"),
        asked(monday, "pup-zlm@1", "denied"),
        own,
    ];
    let report = of(Kind::R11, &entries);
    let right = words.field("pup.benefit_right.amount");
    let provision = words.purpose("social-welfare-provision");
    let assessment = words.purpose("social-welfare-eligibility-assessment");
    assert_eq!(
        rows(&report, "Porozumienia"),
        [
            ["mops-pup@1", "mops", "pup", "2", "2 / 50", "0", "q01", &right, &provision],
            ["pup-zlm@1", "pup", "zlm", "2", "1 / 50", "1", "q01", "", &assessment],
            ["pup-zlm@0", "", "", "1", "", "", "", "", ""],
        ]
    );
    let question = words.query("q02");
    assert_eq!(
        rows(&report, "Odmowy"),
        [["pup", "ten węzeł", &question, "no_holder", "1"], ["pup", "zlm", &question, "not_available", "1"]]
    );
}

#[test]
fn a_residents_list_in_the_estonian_form_names_who_received() {
    let entry = answered(SATURDAY, "F");
    let used = usage(&entry, &words(Lang::Pl), "lodz.example/pup");
    assert_eq!((&used[0]["receiverCode"], &used[0]["logtime"]), (&json!("mops"), &json!("2026-11-21T11:00:00Z")));
    assert_eq!(used[0]["receiverSystem"], "ogniwo");
    let mut entry = entry;
    (entry["system"], entry["ms"]) = (json!("pomost"), json!(41));
    let used = usage(&entry, &words(Lang::Pl), "lodz.example/pup");
    assert_eq!(
        (&used[0]["receiverSystem"], &used[0]["logtime"]),
        (&json!("pomost"), &json!("2026-11-21T11:00:00.041Z"))
    );
    let looked = json!({ "event": "dpo.searched", "time": SATURDAY });
    assert_eq!(usage(&looked, &words(Lang::Pl), "lodz.example/pup")[0]["receiverCode"], "pup", "the officer's own");
}

/// What IHE BALP's profiles of a privacy disclosure want of an event, at the source or the recipient.
fn is_a_disclosure(event: &Value, side: &str) {
    let coded = |coding: &Value, code: &str| coding["code"] == code;
    let profile =
        format!("https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PrivacyDisclosure.{side}");
    assert_eq!(event["meta"]["profile"], json!([profile]));
    let (code, action, me) = if side == "Source" { ("110106", "R", "110153") } else { ("110107", "C", "110152") };
    assert_eq!((&event["type"]["code"], &event["action"]), (&json!(code), &json!(action)));
    let subtypes = event["subtype"].as_array().unwrap();
    assert!(subtypes.iter().any(|subtype| coded(subtype, "disclose")
        && subtype["system"] == "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"));
    assert!(event["recorded"].is_string() && event["outcome"] == "0");
    let agents = event["agent"].as_array().unwrap();
    for party in ["110153", "110152"] {
        let of_type: Vec<&Value> = agents.iter().filter(|agent| coded(&agent["type"]["coding"][0], party)).collect();
        assert_eq!(of_type.len(), 1, "{party}: {agents:?}");
        assert!(of_type[0]["who"].is_object() && of_type[0]["network"].is_object());
        // The source of the record is the agent itself.
        assert_eq!(party == me, of_type[0]["who"] == event["source"]["observer"], "{event}");
    }
    let entities = event["entity"].as_array().unwrap();
    let patients: Vec<&Value> = entities.iter().filter(|entity| coded(&entity["role"], "1")).collect();
    assert_eq!(patients.len(), 1);
    assert!(coded(&patients[0]["type"], "1") && patients[0]["what"]["type"] == "Patient");
    assert!(entities.iter().any(|entity| coded(&entity["role"], "3")), "no data: {entities:?}");
}

#[test]
fn releases_are_privacy_disclosures_at_both_ends() {
    let mut given = answered(SATURDAY, "F");
    given["basis"] = json!("consent:CCCC (instead-of-certificate@1.0)");
    given["system"] = json!("pomost");
    let source = audit_events(3, &given, "lodz.example/pup");
    assert_eq!(source.len(), 1);
    is_a_disclosure(&source[0], "Source");
    let by = |agent: &Value| agent["who"]["identifier"] == json!({ "system": "urn:ogniwo:system", "value": "pomost" });
    let applications = source[0]["agent"].as_array().unwrap().iter().filter(|agent| by(agent));
    assert_eq!(applications.map(|agent| &agent["requestor"]).collect::<Vec<_>>(), [&json!(false)]);
    let identifier = |event: &Value, system: &str| -> Vec<String> {
        let entities = event["entity"].as_array().unwrap().iter().map(|entity| &entity["what"]["identifier"]);
        let found = entities.filter(|identifier| identifier["system"] == system);
        found.map(|identifier| identifier["value"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(identifier(&source[0], "urn:ogniwo:consent"), ["CCCC"]);
    assert_eq!(identifier(&source[0], "urn:ogniwo:request"), ["Q"]);

    let got = json!({
        "event": "query.outcome", "time": SATURDAY, "asker": "mops", "user": "U", "file": "G", "basis": "none", "purpose": "x",
        "outcomes": [
            { "holder": "pup", "query": "q02", "outcome": "answered", "fields": ["pup.status"], "request": "Q" },
            { "holder": "css", "query": "q01", "outcome": "denied", "request": "P" },
            { "holder": null, "query": "q01", "outcome": "denied" },
        ],
    });
    let events = audit_events(4, &got, "lodz.example/mops");
    assert_eq!(events.len(), 2, "an event for each holder, and none without");
    is_a_disclosure(&events[0], "Recipient");
    assert_eq!(identifier(&events[0], "urn:ogniwo:request"), identifier(&source[0], "urn:ogniwo:request"));
    assert_eq!((&events[1]["type"]["code"], &events[1]["outcome"]), (&json!("110112"), &json!("4")));
    assert!(events[1].get("meta").is_none(), "nothing was disclosed");
    assert_eq!(bundle(events)["entry"].as_array().map(Vec::len), Some(2));
    let unknown =
        json!({ "event": "query.no_match", "time": SATURDAY, "asker": "mops", "holder": "pup", "query": "q02" });
    let events = audit_events(5, &unknown, "lodz.example/pup");
    assert_eq!(events.len(), 1);
    assert!(["entity", "purposeOfEvent"].iter().all(|empty| events[0].get(empty).is_none()), "{}", events[0]);
    assert!(audit_events(0, &json!({ "event": "node.started", "time": 1 }), "o").is_empty());
}
