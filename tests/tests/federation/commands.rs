//! What a front desk, a caseworker, a supervisor and the data-protection officer do from the command line.

use crate::ran::{Ran, ogniwo, ogniwo_typing};
use cli::wire::local_url;
use protocol::MemberId;
use serde_json::{Value, json};
use std::path::PathBuf;
use tests::{CANARY_SURNAME, Harness, PURPOSE, RESIDENTS, leaks, member, pesel_of};

/// Somebody at a unit, with the program.
struct Desk<'h> {
    harness: &'h Harness,
    unit: MemberId,
    token: PathBuf,
}

impl<'h> Desk<'h> {
    fn of(harness: &'h Harness, unit: &str, role: &str) -> Self {
        let unit = member(unit);
        let token = harness.extracts().join(format!("{unit}-{role}.token"));
        std::fs::write(&token, harness.federation.token(&unit, role, &[role]).expect("a token")).expect("written");
        Desk { harness, unit, token }
    }

    /// Runs `command` with `typed` on standard input; no identifier is in what it prints.
    fn types(&self, typed: &str, command: &[&str]) -> Ran {
        let config = self.harness.federation.founded.node_config(&self.unit);
        let local = self.harness.federation.nodes[&self.unit].listening().local.expect("a local API");
        let (config, api) = (config.to_str().expect("UTF-8"), local_url(local));
        let token = self.token.to_str().expect("UTF-8");
        let whole = [command, &["--config", config, "--api", &api, "--token-file", token]].concat();
        let ran = ogniwo_typing(&format!("{typed}\n"), &whole);
        assert!(
            leaks(ran.stderr.as_bytes()).is_empty() && !ran.stdout.contains(typed) || typed.is_empty(),
            "{command:?}"
        );
        ran
    }

    fn runs(&self, command: &[&str]) -> Ran {
        self.types("", command)
    }

    /// The JSON document `command` prints.
    #[track_caller]
    fn json(&self, typed: &str, command: &[&str]) -> Value {
        let printed = self.types(typed, &[command, &["--json"]].concat()).succeeded();
        serde_json::from_str(&printed).expect("one JSON document")
    }
}

fn id(of: &Value) -> &str {
    of["id"].as_str().expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_desk_leads_a_consent_through_its_life() {
    let harness = Harness::filled().await;
    let (desk, pesel) = (Desk::of(&harness, "css", "front-desk"), pesel_of("mops+pup+css+zlm"));
    let scan = harness.extracts().join("scan.pdf");
    std::fs::write(&scan, "signed").expect("written");
    let scan = scan.to_str().expect("UTF-8");
    let about = ["--template", "instead-of-certificate", "--recipient", "mops", "--purpose", PURPOSE, "--days", "30"];

    let asked = desk.json(pesel, &[["consent", "request"].as_slice(), &about].concat());
    assert_eq!(asked["state"], "requested");
    let answer = ["consent", "answer", id(&asked), "--module", "labour-status,labour-benefit", "--evidence", scan];
    let given = desk.json("", &answer);
    assert_eq!((&given["state"], &given["id"]), (&json!("given"), &asked["id"]));
    desk.runs(&answer).failed(3, "");

    let asking = Desk::of(&harness, "mops", "caseworker");
    let ask = |consent: &str, query: &str| {
        let question = ["node", "ask", "--query", query, "--holder", "pup", "--purpose", PURPOSE, "--reason", "test"];
        asking.types(pesel, &[question.as_slice(), &["--case", "1", "--consent", consent, "--json"]].concat())
    };
    assert_eq!(ask(id(&given), "q02").code, Some(0));
    let part = desk.json("", &["consent", "withdraw", id(&given), "--module", "labour-status"]);
    assert_eq!(part["state"], "given");
    let refused = ask(id(&given), "q02");
    assert_eq!(refused.code, Some(10), "{}", refused.stderr);
    assert!(refused.stdout.contains("consent_withdrawn"), "{}", refused.stdout);
    assert_eq!(ask(id(&given), "q03").code, Some(0), "the rest stands");

    for (language, heading) in [("pl", "Potwierdzenie zgody"), ("en", "Receipt of consent"), ("uk", "Підтвердження")]
    {
        let printed = desk.runs(&["consent", "receipt", id(&given), "--language", language]).succeeded();
        assert!(printed.starts_with(heading), "{printed}");
    }
    let page = desk.runs(&["consent", "receipt", id(&given), "--html"]).succeeded();
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    let exported: Value =
        serde_json::from_str(&desk.runs(&["consent", "export", id(&given)]).succeeded()).expect("JSON-LD");
    assert_eq!(exported["dpv:hasConsentStatus"], "dpv:ConsentGiven");

    // At any member.
    let elsewhere = Desk::of(&harness, "zlm", "front-desk");
    let taken = elsewhere.json(pesel, &["consent", "withdraw", id(&given), "--elsewhere"]);
    assert!(taken["told"].as_array().is_some_and(|told| told.contains(&json!("pup"))), "{taken}");
    assert_eq!(ask(id(&given), "q03").code, Some(10));
    assert_eq!(desk.json("", &["consent", "show", id(&given)])["state"], "withdrawn");
    let renewed = desk.json("", &["consent", "renew", id(&given), "--module", "labour-status", "--evidence", scan]);
    assert_eq!((&renewed["state"], &renewed["renews"]), (&json!("renewed"), &given["id"]));
    assert_eq!(ask(id(&renewed), "q02").code, Some(0));
    desk.runs(&["consent", "show", "AAAAAAAAAAAAAAAAAAAAAA"]).failed(10, "");
    desk.runs(&["consent", "withdraw", "AAAAAAAAAAAAAAAAAAAAAA"]).failed(10, "--elsewhere");
    let nobodys = ["consent", "withdraw", "AAAAAAAAAAAAAAAAAAAAAA", "--elsewhere"];
    elsewhere.types(pesel, &nobodys).failed(10, "no member knows");
    let listed = desk.json(pesel, &["consent", "list"]);
    assert_eq!(listed["consents"].as_array().map(Vec::len), Some(2), "{listed}");
    let over = ["consent", "revoke", id(&renewed), "--cause", "court", "--text", "III RNs 7/26"];
    assert_eq!(desk.json("", &over)["state"], "revoked");
}

/// Shared clients as the caseworkers' system takes them: by the unit's own client numbers, and no other.
fn shared_clients_are_exported(harness: &Harness) {
    let (config, file) =
        (harness.federation.founded.node_config(&member("mops")), harness.extracts().join("shared.csv"));
    let exported = |more: &[&str]| {
        let arguments = ["node", "shared", "--config", config.to_str().expect("UTF-8"), "--csv"];
        ogniwo(&[arguments.as_slice(), &[file.to_str().expect("UTF-8")], more].concat()).succeeded();
        std::fs::read_to_string(&file).expect("a file")
    };
    let text = exported(&[]);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("client_number,units"));
    let (mut numbers, mut units) = (std::collections::BTreeSet::new(), Vec::new());
    for line in lines {
        let (number, with) = line.split_once(',').expect("two columns");
        assert!(number.starts_with("\"M/") && numbers.insert(number), "{line}");
        units.push(with);
    }
    units.sort_unstable();
    let others = |units: &str| -> String {
        let mut others: Vec<&str> = units.split('+').filter(|unit| *unit != "mops").collect();
        others.sort_unstable();
        others.join("+")
    };
    let known = RESIDENTS.iter().filter(|resident| resident.at("mops")).map(|resident| others(resident.units));
    let mut expected: Vec<String> = known.filter(|others| !others.is_empty()).collect();
    expected.sort_unstable();
    assert_eq!(units, expected);
    assert_eq!(exported(&["--diff"]), "client_number,new,gone\n", "nothing has changed since");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_decide_at_their_desks() {
    let harness = Harness::filled().await;
    tokio::task::block_in_place(|| shared_clients_are_exported(&harness));
    let (officer, pesel) = (Desk::of(&harness, "pup", "dpo"), pesel_of("mops+pup"));

    // A flag.
    let flagged = officer.json(pesel, &["flag", "set", "restricted", "--reason", "art. 18"]);
    assert!(flagged["flags"].get("restricted").is_some(), "{flagged}");
    assert!(officer.types(pesel, &["flag", "show"]).succeeded().contains("restricted"));
    let caseworker = Desk::of(&harness, "mops", "caseworker");
    let about = ["--purpose", PURPOSE, "--case", "1", "--reason", "test", "--mandate", "ups-105", "--json"];
    let ask = |whom: &str, query: &str, holder: &str| {
        caseworker.types(whom, &[["node", "ask", "--query", query, "--holder", holder].as_slice(), &about].concat())
    };
    let refused = ask(pesel, "q02", "pup");
    assert!(refused.code == Some(10) && refused.stdout.contains("not_available"), "{}", refused.stdout);
    Desk::of(&harness, "pup", "caseworker")
        .types(pesel, &["flag", "clear", "objected", "--reason", "x"])
        .failed(10, "");
    let lifted_otherwise = officer.types(pesel, &["flag", "clear", "restricted", "--reason", "over"]);
    assert_eq!(lifted_otherwise.code, Some(2), "usage");
    let lift = ["node", "resident", "restrict", "--lift", "--resident-informed", "--reason", "over"];
    officer.types(pesel, &lift).succeeded();
    assert_eq!(ask(pesel, "q02", "pup").code, Some(0));

    // A question that a person decides.
    let evicted = pesel_of("mops+zlm");
    let pending = ask(evicted, "q11", "zlm");
    assert!(pending.stdout.contains("\"pending\""), "{} {}", pending.stdout, pending.stderr);
    assert_eq!(pending.code, Some(15), "{}", pending.stderr);
    let asked: Value = serde_json::from_str(&pending.stdout).expect("one JSON document");
    assert_eq!(caseworker.runs(&["node", "answer", id(&asked)]).code, Some(15));
    let supervisor = Desk::of(&harness, "zlm", "supervisor");
    let list = supervisor.json("", &["approve", "list"]);
    let waiting = list["approvals"].as_array().and_then(|all| all.first()).expect("one waits").clone();
    let shown = supervisor.runs(&["approve", "show", id(&waiting)]).succeeded();
    assert!(shown.contains("mops") && shown.contains("wyrok eksmisyjny / eviction judgment"), "{shown}");
    Desk::of(&harness, "zlm", "front-desk").runs(&["approve", "grant", id(&waiting)]).failed(10, "");
    let granted = supervisor.json("", &["approve", "grant", id(&waiting), "--fields", "hou.eviction"]);
    assert_eq!(granted["state"], "granted");
    // As soon as the notice has come; by itself within a minute.
    harness.clock.advance(60);
    assert_eq!(caseworker.json("", &["node", "answer", id(&asked)])["outcomes"][0]["outcome"], "answered");
    supervisor.runs(&["approve", "refuse", id(&waiting), "--reason", "late"]).failed(10, "");

    // An emergency.
    let taker = Desk::of(&harness, "pup", "caseworker");
    let opened = taker.json(pesel, &["emergency", "open", "--reason", "life", "--text", "found unconscious"]);
    harness.clock.advance(2);
    assert_eq!(taker.json("", &["emergency", "confirm", id(&opened)])["confirmed"], true);
    let question = ["node", "ask", "--query", "q18", "--holder", "mops", "--purpose", "public-service-provision"];
    let more = ["--emergency", id(&opened), "--reason", "test", "--json"];
    assert_eq!(taker.types(pesel, &[question.as_slice(), &more].concat()).code, Some(0));
    assert_eq!(officer.json("", &["emergency", "list"])["emergencies"][0]["id"], opened["id"]);
    let review = ["emergency", "review", id(&opened), "--outcome", "justified", "--text", "an ambulance came"];
    let review = [review.as_slice(), &["--informed", "in_person"]].concat();
    assert!(officer.json("", &review)["overdue"] == false);
    let letter = officer.runs(&["emergency", "letter", id(&opened), "--language", "uk"]).succeeded();
    assert!(letter.contains("Повідомлення про доступ"), "{letter}");

    // Why something was answered or not, and all of it once more by the rules as they are.
    let recorded = officer.runs(&["policy", "recorded"]).succeeded();
    assert_eq!(recorded.lines().count(), 2, "{recorded}");
    let decisions = harness.extracts().join("decisions.jsonl");
    std::fs::write(&decisions, &recorded).expect("written");
    let library = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../policies/library");
    let simulated = officer_free(&["policy", "simulate", "--draft", path(&library), path(&decisions), "--json"]);
    assert_eq!((&simulated["decisions"], &simulated["unchanged"]), (&json!(2), &json!(2)), "{simulated}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_compared_are_typed_and_printed_by_nobody() {
    let harness = Harness::filled().await;
    let caseworker = Desk::of(&harness, "mops", "caseworker");
    let about = ["--purpose", PURPOSE, "--case", "1", "--reason", "test", "--mandate", "ups-105", "--json"];
    let question =
        ["node", "ask", "--query", "q09", "--holder", "pup", "--expect", "person.surname,person.given_names"];
    // A line each, in the order of the fields.
    let typed = format!("{}\n{}\nEwa", pesel_of("mops+pup"), CANARY_SURNAME.to_lowercase());
    let ran = caseworker.types(&typed, &[question.as_slice(), &about].concat());
    let all = ran.stdout.clone() + &ran.stderr;
    assert!(!all.to_lowercase().contains(&CANARY_SURNAME.to_lowercase()), "{all}");
    let result: Value = serde_json::from_str(&ran.succeeded()).expect("one JSON document");
    let matches = &result["outcomes"][0]["matches"];
    assert_eq!(*matches, json!({ "person.surname": "match", "person.given_names": "mismatch" }), "{result}");
}

fn path(of: &std::path::Path) -> &str {
    of.to_str().expect("UTF-8")
}

/// A command that needs no node.
fn officer_free(command: &[&str]) -> Value {
    serde_json::from_str(&ogniwo_typing("", command).succeeded()).expect("one JSON document")
}
