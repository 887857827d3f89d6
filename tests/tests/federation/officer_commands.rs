//! The officer's commands as real processes against real nodes: what is typed reaches no output and no log.

use crate::ran::{Ran, ogniwo_typing};
use cli::wire::local_url;
use node::OutcomeKind;
use serde_json::{Value, json};
use std::path::PathBuf;
use tests::{Harness, Options, leaks, member, pesel_of, status, until};

/// The officer of one unit at its command line.
pub(crate) struct Desk {
    config: String,
    api: String,
    token: PathBuf,
}

impl Desk {
    pub(crate) fn of(harness: &Harness, unit: &str, role: &str) -> Self {
        let unit = member(unit);
        let token = harness.extracts().join(format!("{unit}-{role}.token"));
        std::fs::write(&token, harness.federation.token(&unit, "iod", &[role]).expect("a token")).expect("written");
        let address = harness.federation.nodes[&unit].listening().local.expect("a local API");
        let config = harness.federation.founded.node_config(&unit).to_str().expect("UTF-8").to_owned();
        Desk { config, api: local_url(address), token }
    }

    /// Runs a command with the PESEL of `units` typed, if it asks for one.
    pub(crate) fn run(&self, units: &str, command: &[&str]) -> Ran {
        let reach = ["--config", &self.config, "--api", &self.api, "--token-file", self.token.to_str().expect("UTF-8")];
        let pesel = if units.is_empty() { String::new() } else { format!("{}\n", pesel_of(units)) };
        let ran = ogniwo_typing(&pesel, &[command, &reach].concat());
        for said in [&ran.stdout, &ran.stderr] {
            let leaked: Vec<String> =
                leaks(said.as_bytes()).into_iter().filter(|leak| leak != "surname" || !shows(command)).collect();
            assert_eq!(leaked, Vec::<String>::new(), "{command:?}: {said}");
        }
        ran
    }

    fn json(&self, units: &str, command: &[&str]) -> Value {
        let out = self.run(units, &[command, &["--json"]].concat()).succeeded();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{command:?}: {e}: {out}"))
    }
}

/// Whether a command is there to show the resident's data, the name among them.
fn shows(command: &[&str]) -> bool {
    command.contains(&"show") || command.contains(&"R1")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_officers_runs_as_a_process() {
    let harness = Harness::with(Options { processes: true, ..Options::default() }).await;
    harness.fill().await;
    let basis = || json!({ "kind": "mandate", "id": "ups-105" });
    for units in ["mops+pup", "mops+pup+css"] {
        let outcome = harness.ask("mops", "pup", "q02", json!({ "pesel": pesel_of(units) }), basis()).await;
        assert_eq!(outcome.outcome, OutcomeKind::Answered);
    }
    // Blocking, as processes are waited for; the federation's are others.
    // An export carries what others cosigned.
    until("the others' cosignatures", async || status(&harness, "mops").await.cosigned.entries > 0).await;
    tokio::task::block_in_place(|| {
        searching_and_reporting(&harness);
        comparing_and_reviewing(&harness);
        one_resident(&harness);
    });
    // Nor in a trace, log or store of a node: the harness searches every file.
    harness.finish().await;
}

fn searching_and_reporting(harness: &Harness) {
    let (officer, caseworker) = (Desk::of(harness, "mops", "dpo"), Desk::of(harness, "mops", "caseworker"));
    let found = officer.json("mops+pup", &["audit", "search", "--resident"]);
    let events = |found: &Value| -> Vec<String> {
        let entries = found["entries"].as_array().expect("entries").iter();
        entries.map(|entry| entry["payload"]["event"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(events(&found), ["query.asking", "query.outcome"]);
    let text = officer.run("", &["audit", "search", "--event", "query.outcome", "--peer", "pup"]).succeeded();
    assert!(text.ends_with("2 entries\n"), "{text}");
    assert!(text.contains("pup q02: answered  user "), "{text}");
    narrowed(&officer, &found);
    officer.run("css", &["audit", "search", "--resident"]).failed(10, "No such resident");
    caseworker.run("", &["audit", "search"]).failed(10, "data-protection officer");
    officer.run("", &["audit", "search", "--from", "yesterday"]).failed(3, "yesterday");
    officer.run("", &["audit", "search", "--event", "query.denid"]).failed(3, "query.denied");
    officer.run("", &["audit", "search", "--decision", "foo"]).failed(3, "foo");
    // What to do next follows from what went wrong.
    let unknown = officer.run("css", &["audit", "search", "--resident"]);
    assert!(unknown.stderr.contains("next: check the number"), "{}", unknown.stderr);

    let into = harness.extracts().join("bundle").to_str().expect("UTF-8").to_owned();
    let exported = officer.json("mops+pup", &["audit", "export", "--resident", "--into", &into, "--reason", "wniosek"]);
    assert!(exported["exported"] == 5, "asked, answered, searched for twice, exported: {exported}");
    officer.run("", &["audit", "export", "--into", &into]).failed(12, "already there");
    // It verifies anywhere, without the node.
    let verified = ogniwo_typing("", &["audit", "verify", &into, "--json"]).succeeded();
    assert_eq!(serde_json::from_str::<Value>(&verified).expect("JSON")["verified"], true);
    held_against_the_manifest(harness, &into);

    let list = officer.run("mops+pup", &["audit", "report", "R2", "--resident"]).succeeded();
    assert!(list.contains("Kto sprawdzał moje dane"), "{list}");
    let package = officer.json("mops+pup", &["audit", "report", "R1", "--resident"]);
    let titles: Vec<&str> =
        package["sections"].as_array().expect("sections").iter().filter_map(|s| s["table"]["title"].as_str()).collect();
    assert_eq!(titles, ["Dane w aktach tej instytucji", "Odbiorcy danych", "Kto sprawdzał dane"]);
    officer.run("", &["audit", "report", "R9", "--staff", "iod"]).failed(10, "second officer");
    confirmed(harness, &officer);

    // Whose data left under which key: by what the holder's entries say.
    let holder = Desk::of(harness, "pup", "dpo");
    let answered = holder.json("", &["audit", "search", "--event", "query.answered"]);
    let certificate = answered["entries"][0]["payload"]["certificate"].as_str().expect("a certificate").to_owned();
    let key = answered["entries"][0]["payload"]["key"].as_str().expect("a key").to_owned();
    for (key, persons) in [(certificate.as_str(), "2"), (&key, "2"), ("none", "0")] {
        let scope = holder.json("", &["audit", "report", "R4", "--key", key]);
        assert_eq!(scope["sections"][1]["facts"][0][1], persons, "{scope}");
    }
}

/// By one member of staff: a reason, which another officer is told, or that officer's confirmation, and nothing is to be
/// reviewed.
fn confirmed(harness: &Harness, officer: &Desk) {
    let other = harness.extracts().join("other.token");
    let token = harness.federation.token(&member("mops"), "zastepca", &["dpo"]).expect("a token");
    std::fs::write(&other, token).expect("written");
    let (other, own) = (other.to_str().expect("UTF-8"), officer.token.to_str().expect("UTF-8"));
    let by_staff = ["audit", "search", "--staff", "caseworker", "--event", "query.asking"];
    let confirmed_by = |token| [&by_staff as &[&str], &["--confirm-token-file", token]].concat();
    officer.run("", &by_staff).failed(3, "A reason is missing");
    officer.run("", &confirmed_by(own)).failed(3, "A reason is missing");
    let told = || officer.run("", &["audit", "review"]).succeeded().matches("staff_looked_through").count();
    assert_eq!(officer.json("", &confirmed_by(other))["entries"].as_array().map(Vec::len), Some(2));
    let into = harness.extracts().join("by-staff").to_str().expect("UTF-8").to_owned();
    let export = ["audit", "export", "--staff", "caseworker", "--into", &into, "--confirm-token-file", other];
    officer.json("", &export);
    officer.run("", &["audit", "report", "R9", "--staff", "caseworker", "--confirm-token-file", other]).succeeded();
    assert_eq!(told(), 0, "two looked");
    officer.run("", &[&by_staff as &[&str], &["--reason", "skarga"]].concat()).succeeded();
    assert_eq!(told(), 1, "one looked alone");
}

/// Criteria that are no question to the node's own store.
fn narrowed(officer: &Desk, found: &Value) {
    let (first, outcome) = (&found["entries"][0], &found["entries"][1]);
    let file = first["payload"]["file"].as_str().expect("a file");
    let indexes = |found: &Value| -> Vec<u64> {
        let entries = found["entries"].as_array().expect("entries").iter();
        entries.map(|entry| entry["index"].as_u64().expect("an index")).collect()
    };
    let by_file = officer.json("", &["audit", "search", "--file", file, "--event", "query.asking"]);
    assert_eq!(indexes(&by_file), indexes(&json!({ "entries": [first] })));
    let request = outcome["payload"]["outcomes"][0]["request"].as_str().expect("a digest");
    let by_request = officer.json("", &["audit", "search", "--request", request, "--event", "query.outcome"]);
    assert_eq!(indexes(&by_request), indexes(&json!({ "entries": [outcome] })));
    // The entry a finding names.
    let start = outcome["index"].to_string();
    let alone = officer.json("", &["audit", "search", "--start", &start, "--limit", "1"]);
    assert_eq!(alone["entries"], json!([outcome]));
    for (stream, user) in [("operations", false), ("siem", true)] {
        let seen = officer.json("", &["audit", "search", "--start", &start, "--limit", "1", "--stream", stream]);
        let seen = &seen["entries"][0]["payload"];
        assert_eq!((seen["event_id"].as_u64(), seen.get("user").is_some()), (Some(402), user), "{seen}");
        assert!(seen.get("file").is_none() && seen.get("purpose").is_some() == user, "{seen}");
    }
    // A document nobody has brings nobody's entries, and not everybody's.
    let typed = ogniwo_typing(
        "XX0000000\n",
        &[
            "audit",
            "search",
            "--document",
            "PASSPORT,UKR",
            "--config",
            &officer.config,
            "--api",
            &officer.api,
            "--token-file",
            officer.token.to_str().expect("UTF-8"),
        ],
    );
    typed.failed(10, "No such resident");
}

/// An export by the keys of the manifest; then with witnesses that were made up for it.
fn held_against_the_manifest(harness: &Harness, export: &str) {
    let manifest = harness.home().join("manifest.json").to_str().expect("UTF-8").to_owned();
    let dir = std::path::Path::new(export);
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("a file");
    let verify = |more: &[&str]| ogniwo_typing("", &[&["audit", "verify", export] as &[&str], more].concat());
    let verified = verify(&["--manifest", &manifest]).succeeded();
    assert!(verified.contains("by the manifest of version "), "{verified}");
    let register_of = ["audit", "report", "R3", "--export", export];
    ogniwo_typing("", &register_of).failed(3, "--manifest");
    let register = ogniwo_typing("", &[&register_of as &[&str], &["--manifest", &manifest]].concat()).succeeded();
    let verified: Value =
        serde_json::from_str(&verify(&["--manifest", &manifest, "--json"]).succeeded()).expect("JSON");
    let fingerprint = verified["manifest"]["fingerprint"].as_str().expect("a fingerprint");
    assert!(register.contains(fingerprint), "{register}");
    let same = [&register_of as &[&str], &["--manifest", &manifest, "--against", &manifest]].concat();
    ogniwo_typing("", &same).failed(3, "no earlier manifest");
    // So does a search of it, and each entry says what the catalogue does of its event.
    let search = ["audit", "search", "--export", export, "--event", "query.outcome", "--manifest", &manifest];
    let found = ogniwo_typing("", &[&search as &[&str], &["--json"]].concat()).succeeded();
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!((&found["manifest"]["fingerprint"], &found["witnesses_checked"]), (&json!(fingerprint), &json!(true)));
    let of_event = ["activity", "retention_class", "visibility"].map(|field| &found["entries"][0]["payload"][field]);
    assert_eq!(of_event, [&json!("exchange@1"), &json!("term"), &json!("resident")]);
    assert!(ogniwo_typing("", &search).succeeded().contains(fingerprint));
    // Without the cosignatures its owner may have written all of it anew.
    for name in ["cosigned", "witnesses"] {
        std::fs::remove_file(dir.join(name)).expect("it was cosigned");
    }
    verify(&["--manifest", &manifest]).failed(11, "cosigned any of it");
    verify(&["--manifest", &manifest, "--uncosigned"]).succeeded();

    let log = audit::Vkey::parse(read("vkey").trim()).expect("a key");
    let mut cosigned = audit::Checkpoint::open(&read("checkpoint"), &log).expect("signed");
    let mut keys = String::new();
    for unit in ["pup", "css", "zlm"] {
        let state = harness.extracts().join(format!("made-up-{unit}"));
        let name = format!("test.ogniwo.example/{unit}/witness");
        let witness = audit::Witness::open(&state, &name, &[7; 32]).expect("a witness");
        witness.trust([log.clone()]);
        let note = read("checkpoint");
        let asked = audit::AddCheckpoint { old: 0, proof: Vec::new(), checkpoint: note }.body();
        let line = witness.add_checkpoint(&asked, 1_795_262_400).expect("cosigned");
        let line = String::from_utf8(line).expect("text");
        cosigned.add_cosignature(&line, witness.vkey()).expect("its own");
        keys.push_str(&format!("{}\n", witness.vkey()));
    }
    std::fs::write(dir.join("cosigned"), cosigned.note()).expect("written");
    std::fs::write(dir.join("witnesses"), keys).expect("written");
    let flawless = verify(&[]).succeeded();
    assert!(flawless.contains("cosigned by") && flawless.contains("unchecked"), "{flawless}");
    for command in [
        &["audit", "verify", export, "--manifest", &manifest] as &[&str],
        &["audit", "search", "--export", export, "--manifest", &manifest],
        &["audit", "report", "R14", "--export", export, "--manifest", &manifest],
    ] {
        ogniwo_typing("", command).failed(11, "none of the witnesses");
    }
    let report = ogniwo_typing("", &["audit", "report", "R14", "--export", export]).succeeded();
    assert!(report.contains("niesprawdzone"), "{report}");
    // Offline nobody can be looked for by a case; the hint is not about the configuration.
    let case = ogniwo_typing("", &["audit", "search", "--export", export, "--case", "MOPS/2026/1"]);
    case.failed(3, "live");
    assert!(case.stderr.contains("correct what was given"), "{}", case.stderr);
    ogniwo_typing("", &["audit", "report", "R8", "--export", export, "--form", "find-usage"]).failed(3, "no such form");
    // It is of one resident alone, and says so without being told whose.
    ogniwo_typing("", &["audit", "report", "R2", "--export", export]).succeeded();
}

fn comparing_and_reviewing(harness: &Harness) {
    let officer = Desk::of(harness, "mops", "dpo");
    let at =
        |seconds: i64| jiff::Timestamp::from_second(harness.clock.now().0 + seconds).expect("a moment").to_string();
    let (from, until) = (at(-3_600), at(60));
    let period = ["--from", &from, "--until", &until];
    let same = officer.json("", &[&["audit", "reconcile", "--peer", "pup"] as &[&str], &period].concat());
    assert_eq!((&same["matched"], &same["findings"]), (&json!(2), &json!([])));
    officer.run("", &["audit", "reconcile", "--peer", "nobody"]).failed(3, "peer");

    let found = officer.json("", &[&["audit", "anomalies"] as &[&str], &period].concat());
    assert_eq!(found["examined"], 2, "{found}");
    // By the hour of this run there may be more; that nothing explains them does not depend on it.
    let findings = found["findings"].as_array().expect("findings");
    let unexplained: Vec<&Value> = findings.iter().filter(|finding| finding["kind"] == "unexplained").collect();
    assert_eq!(unexplained.len(), 2, "{found}");
    let text = officer.run("", &[&["audit", "anomalies"] as &[&str], &period].concat()).succeeded();
    assert!(text.starts_with("2 accesses, 0 of them explained"), "{text}");

    let id = unexplained[0]["id"].as_str().expect("an id");
    let reviewed = officer.json("", &["audit", "review", id, "--explained", "--note", "nowa sprawa"]);
    assert_eq!(
        (&reviewed["findings"][0]["state"], &reviewed["findings"][0]["note"]),
        (&json!("explained"), &json!("nowa sprawa"))
    );
    let all = officer.run("", &["audit", "review"]).succeeded();
    assert!(all.contains(id) && all.contains("note: nowa sprawa"), "{all}");
    officer.run("", &["audit", "review", "AAAA", "--confirmed", "--note", "x"]).failed(10, "no such finding");
}

fn one_resident(harness: &Harness) {
    let (officer, steward) = (Desk::of(harness, "mops", "dpo"), Desk::of(harness, "mops", "steward"));
    let resident = |verb: &'static str| -> Vec<&'static str> { vec!["node", "resident", verb, "--reason", "wniosek"] };
    let shown = officer.json("mops+pup", &resident("show"));
    assert_eq!((shown["rows"].as_array().map(Vec::len), &shown["sealed"]), (Some(1), &json!(true)));
    steward.run("mops+pup", &resident("show")).failed(10, "data-protection officer");
    let restricted = officer.json("mops+pup", &resident("restrict"));
    assert_eq!((&restricted["restricted"], &restricted["file"]), (&json!(true), &shown["file"]));
    // The resident is told first.
    let lift = [resident("restrict"), vec!["--lift"]].concat();
    assert_eq!(officer.run("mops+pup", &lift).code, Some(2), "usage");
    let lifted = [lift, vec!["--resident-informed"]].concat();
    let words = officer.run("mops+pup", &lifted).succeeded();
    assert!(words.contains("is not restricted"), "{words}");
    let erase = [resident("erase"), vec!["--no-exception-applies"]].concat();
    let erased = officer.json("mops+pup", &erase);
    assert_eq!((&erased["rows"], &erased["file"]), (&json!(1), &shown["file"]));
    officer.run("mops+pup", &erase).failed(10, "No such resident");
    officer.run("mops+pup", &resident("show")).failed(10, "No such resident");
    // A number that is none is refused by its rule, and not repeated.
    let wrong = ogniwo_typing(
        "80010300036\n",
        &[
            "node",
            "resident",
            "show",
            "--reason",
            "x",
            "--config",
            &officer.config,
            "--api",
            &officer.api,
            "--token-file",
            officer.token.to_str().expect("UTF-8"),
        ],
    );
    wrong.failed(3, "PESEL");
    assert!(!wrong.stderr.contains("80010300036"), "{}", wrong.stderr);
}
