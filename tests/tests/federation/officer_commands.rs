//! The officer's commands as real processes against real nodes: what is typed reaches no output and no log.

use crate::ran::{Ran, ogniwo_typing};
use node::OutcomeKind;
use serde_json::{Value, json};
use std::path::PathBuf;
use tests::{Harness, Options, leaks, member, pesel_of};

/// The officer of one unit at its command line.
struct Desk {
    config: String,
    api: String,
    token: PathBuf,
}

impl Desk {
    fn of(harness: &Harness, unit: &str, role: &str) -> Self {
        let unit = member(unit);
        let token = harness.extracts().join(format!("{unit}-{role}.token"));
        std::fs::write(&token, harness.federation.token(&unit, "iod", &[role]).expect("a token")).expect("written");
        let address = harness.federation.nodes[&unit].listening().local.expect("a local API");
        let config = harness.federation.founded.node_config(&unit).to_str().expect("UTF-8").to_owned();
        Desk { config, api: format!("https://localhost:{}", address.port()), token }
    }

    /// Runs a command with the PESEL of `units` typed, if it asks for one.
    fn run(&self, units: &str, command: &[&str]) -> Ran {
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
    officer.run("css", &["audit", "search", "--resident"]).failed(10, "No such resident");
    caseworker.run("", &["audit", "search"]).failed(10, "data-protection officer");
    officer.run("", &["audit", "search", "--from", "yesterday"]).failed(3, "yesterday");

    let into = harness.extracts().join("bundle").to_str().expect("UTF-8").to_owned();
    let exported = officer.json("mops+pup", &["audit", "export", "--resident", "--into", &into, "--reason", "wniosek"]);
    assert!(exported["exported"].as_u64().is_some_and(|entries| entries >= 3), "{exported}");
    officer.run("", &["audit", "export", "--into", &into]).failed(12, "already there");
    // It verifies anywhere, without the node.
    let verified = ogniwo_typing("", &["audit", "verify", &into, "--json"]).succeeded();
    assert_eq!(serde_json::from_str::<Value>(&verified).expect("JSON")["verified"], true);

    let list = officer.run("mops+pup", &["audit", "report", "R2", "--resident"]).succeeded();
    assert!(list.contains("Kto sprawdzał moje dane"), "{list}");
    let package = officer.json("mops+pup", &["audit", "report", "R1", "--resident"]);
    let titles: Vec<&str> =
        package["sections"].as_array().expect("sections").iter().filter_map(|s| s["table"]["title"].as_str()).collect();
    assert_eq!(titles, ["Dane w aktach tej instytucji", "Odbiorcy danych", "Kto sprawdzał dane"]);
    officer.run("", &["audit", "report", "R9", "--staff", "iod"]).failed(10, "second officer");

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

fn comparing_and_reviewing(harness: &Harness) {
    let officer = Desk::of(harness, "mops", "dpo");
    let at =
        |seconds: i64| jiff::Timestamp::from_second(harness.clock.now().0 + seconds).expect("a moment").to_string();
    let (from, until) = (at(-3_600), at(60));
    let period = ["--from", &from, "--until", &until];
    let same = officer.json("", &[&["audit", "reconcile", "--peer", "pup"] as &[&str], &period].concat());
    assert_eq!((&same["matched"], &same["findings"]), (&json!(2), &json!([])));
    officer.run("", &["audit", "reconcile", "--peer", "nobody"]).failed(9, "peer");

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
    assert_eq!((&reviewed[0]["state"], &reviewed[0]["note"]), (&json!("explained"), &json!("nowa sprawa")));
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
