//! Each failure has a defined, closed behaviour, and its end.

use crate::privacy::share;
use crate::witnesses::{impostor, serve_as};
use axum::Router;
use axum::routing::post;
use cli::exit::Exit;
use cli::federation::{Federation, Part};
use cli::inside::Inside;
use cli::process::Process;
use node::{ImportMode, Outcome, OutcomeKind, QueryResult, Surroundings};
use protocol::SigningKey;
use protocol::evaluation::{EvaluationAnswer, EvaluationRequest};
use protocol::manifest::KeyUse;
use pseudonym::KeyShare;
use rand_core::UnwrapErr;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tests::{
    Fault, Harness, Member, NOON, Options, PURPOSE, RESIDENTS, Resident, answers_agree, log_of, member, read_log,
    status, write_extracts,
};
use transport::Clock;

const HOUR: i64 = 60 * 60;

fn mandate() -> Value {
    json!({ "kind": "mandate", "id": "ups-105" })
}

fn resident(units: &str) -> Value {
    json!({ "pesel": RESIDENTS.iter().find(|r| r.units == units).expect("planted").pesel })
}

/// A resident nobody knew before, at mops.
const NEWCOMER: Resident = Resident { pesel: "80011600165", units: "mops", sealed: false };

async fn proxied() -> Harness {
    let harness = Harness::with(Options { proxied: true, ..Options::default() }).await;
    harness.fill().await;
    harness
}

fn part<'a>(federation: &'a mut Federation, name: &str) -> &'a mut Part {
    if name == node::REGISTRY {
        &mut federation.registry
    } else {
        federation.nodes.get_mut(&member(name)).expect("a node")
    }
}

async fn stop(harness: &mut Harness, unit: &str) {
    part(&mut harness.federation, unit).stop().await.expect("stopped");
}

async fn restart(harness: &mut Harness, unit: &str) {
    part(&mut harness.federation, unit).restart().await.expect("started");
}

/// Lets a node ask the registry for news now; `Err` with the code if that fails.
async fn refresh(harness: &Harness, unit: &str) -> Result<Value, String> {
    let admin = harness.federation.admin(&member(unit));
    admin.run("/refresh", &json!({}), &|_| {}).await.map_err(|failure| failure.code)
}

async fn ask(harness: &Harness, units: &str) -> Outcome {
    harness.ask("mops", "pup", "q02", resident(units), mandate()).await
}

#[track_caller]
fn unavailable(outcome: &Outcome, reason: &str) {
    assert_eq!((outcome.outcome, outcome.reason.as_deref()), (OutcomeKind::Unavailable, Some(reason)));
    assert!(outcome.fields.is_empty() && outcome.next_step.is_some(), "{outcome:?}");
}

#[track_caller]
fn answered(outcome: &Outcome) {
    assert_eq!(outcome.outcome, OutcomeKind::Answered, "{outcome:?}");
}

/// Imports a newcomer at mops, so that there is somebody to enrol.
async fn newcomer(harness: &Harness) {
    write_extracts(&harness.extracts(), &[NEWCOMER]);
    let imported = harness.import("mops", &harness.extracts().join("mops.csv"), ImportMode::Update).await;
    assert_eq!(imported.expect("imported").new, 1);
}

/// Names a first process of the registry in the manifest that refuses everybody for now; returns how often it was asked.
async fn with_a_busy_registry_first(harness: &mut Harness) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let busy = {
        let asked = asked.clone();
        move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let problem = protocol::Problem::new(503, "index_unavailable", "The index cannot be used").retry_after(5);
            std::future::ready(transport::ProblemResponse(problem))
        }
    };
    let anywhere = ([127, 0, 0, 1], 0).into();
    let (address, _) = serve_as(harness, "registry", anywhere, Router::new().fallback(busy)).await;
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |manifest| {
        let registry = manifest.members.iter_mut().find(|unit| unit.id.as_str() == "registry").expect("a registry");
        registry.endpoints.insert(0, format!("https://{address}"));
    });
    harness.federation.publish(&next.expect("a manifest")).await.expect("published");
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_registry_locating_stops_and_recent_tickets_serve() {
    let mut harness = Harness::filled().await;
    let asked = with_a_busy_registry_first(&mut harness).await;
    answered(&ask(&harness, "mops+pup").await);
    let before = asked.load(Ordering::SeqCst);
    harness.federation.shared(&member("mops"), false).await.expect("another process answers");
    assert!(asked.load(Ordering::SeqCst) > before, "the busy one was asked first");
    stop(&mut harness, "registry").await;
    // Past a ticket's ordinary life, within a day.
    harness.clock.advance(20 * HOUR);
    for unit in ["mops", "pup"] {
        assert_eq!(refresh(&harness, unit).await, Err("registry_unavailable".to_owned()));
        assert!(status(&harness, unit).await.registry_away);
    }
    answered(&ask(&harness, "mops+pup").await);
    unavailable(&ask(&harness, "mops+pup+css").await, "registry_unavailable");
    let failed = harness.federation.shared(&member("mops"), false).await.expect_err("no old answer");
    assert_eq!((failed.code.as_str(), failed.exit()), ("registry_unavailable", Exit::Registry));
    newcomer(&harness).await;
    let failed = harness.enrol("mops").await.expect_err("nothing can be published");
    assert_eq!(failed.code, "registry_unavailable");

    restart(&mut harness, "registry").await;
    for unit in ["mops", "pup"] {
        refresh(&harness, unit).await.expect("the registry is back");
        assert!(!status(&harness, unit).await.registry_away);
    }
    answered(&ask(&harness, "mops+pup+css").await);
    assert_eq!(harness.enrol("mops").await.expect("enrolled").published, 1);
    harness.federation.shared(&member("mops"), false).await.expect("shared");

    stop(&mut harness, "pup").await;
    let log = log_of(&harness.federation.founded.node_config(&member("pup")));
    let old: Vec<bool> = log
        .iter()
        .filter(|logged| logged.event() == "query.answered")
        .map(|logged| logged.payload["old_ticket"] == true)
        .collect();
    assert_eq!(old, [false, true, false], "the old ticket is logged as such");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_too_few_key_holders_there_are_no_pseudonyms_until_they_are_back() {
    let mut harness = Harness::filled().await;
    for unit in ["pup", "css"] {
        stop(&mut harness, unit).await;
    }
    newcomer(&harness).await;
    let failed = harness.enrol("mops").await.expect_err("one share is not enough");
    assert_eq!((failed.code.as_str(), failed.exit()), ("key_holders_unavailable", Exit::Unavailable));
    unavailable(&ask(&harness, "mops+pup").await, "key_holders_unavailable");
    let refused = harness.consent("mops", "mops", resident("mops+pup")).await.expect_err("no subject to grant for");
    assert_eq!(refused.code, "key_holders_unavailable");
    // What needs no pseudonym goes on.
    harness.federation.shared(&member("mops"), false).await.expect("shared");

    // One more makes two of three.
    restart(&mut harness, "css").await;
    let enrolled = harness.enrol("mops").await.expect("enrolled");
    assert_eq!((enrolled.pseudonymised, enrolled.published), (1, 1));
    unavailable(&ask(&harness, "mops+pup").await, "peer_unavailable");
    restart(&mut harness, "pup").await;
    answered(&ask(&harness, "mops+pup").await);
}

/// What a holder says that signs its answer and proves another one: twice the batch asked for.
fn swapped(holder: &Member, share: &KeyShare, asker: &str, body: &[u8]) -> Vec<u8> {
    let asker = member(asker);
    let keys = holder.manifest.keys_of(&asker, KeyUse::Entry, holder.now());
    let request = EvaluationRequest::from_bytes(body, &holder.manifest.realm, &asker, &holder.id, keys);
    let request = request.expect("a request to this holder");
    let evaluate = |elements: &[[u8; 32]]| {
        share.evaluate(&request.quorum, elements, &mut UnwrapErr(getrandom::SysRng)).expect("an evaluation")
    };
    let (asked, other) = (evaluate(&request.elements), evaluate(&request.elements.repeat(2)));
    let EvaluationRequest { epoch, generation, request_id, .. } = request;
    EvaluationAnswer { epoch, generation, request_id, elements: asked.elements, proof: other.proof }
        .to_bytes(body, &holder.keys.entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_answers_are_garbled_is_passed_over() {
    let mut harness = proxied().await;
    // mops asks itself and pup first, zlm asks mops and pup first.
    harness.proxies["pup"].set(Fault::Corrupt);
    newcomer(&harness).await;
    assert_eq!(harness.enrol("mops").await.expect("css answers instead").published, 1);
    // Two of three garbled are too many.
    harness.proxies["css"].set(Fault::Corrupt);
    let outcome = harness.ask("mops", "zlm", "q01", resident("mops+zlm"), mandate()).await;
    unavailable(&outcome, "key_holders_unavailable");
    harness.proxies["css"].set(Fault::None);
    harness.proxies["pup"].set(Fault::None);
    answered(&harness.ask("mops", "zlm", "q01", resident("mops+zlm"), mandate()).await);

    // Well signed, and the proof is of something else: the holder is named in the log, and another is asked.
    stop(&mut harness, "pup").await;
    let lie = Arc::new((Member::of(&harness, "pup"), share(&harness, "pup")));
    let evaluate = post(async move |body: axum::body::Bytes| swapped(&lie.0, &lie.1, "mops", &body));
    let lying = impostor(&harness, "pup", Router::new().route("/v1/evaluate", evaluate)).await;
    write_extracts(&harness.extracts(), &[Resident { pesel: "85050500014", ..NEWCOMER }]);
    let imported = harness.import("mops", &harness.extracts().join("mops.csv"), ImportMode::Update).await;
    assert_eq!(imported.expect("imported").new, 1);
    assert_eq!(harness.enrol("mops").await.expect("css answers instead").published, 1);
    lying.cancel();
    stop(&mut harness, "mops").await;
    let log = tokio::task::block_in_place(|| read_log(&harness, "mops"));
    let faults: Vec<&Value> = log.iter().filter(|entry| entry["event"] == "key.holder_fault").collect();
    assert!(!faults.is_empty() && faults.iter().all(|fault| fault["holder"] == "pup"), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_slow_is_not_waited_for() {
    let mut harness = proxied().await;
    write_extracts(&harness.extracts(), &[Resident { units: "mops+zlm", ..NEWCOMER }]);
    for unit in ["mops", "zlm"] {
        let extract = harness.extracts().join(format!("{unit}.csv"));
        harness.import(unit, &extract, ImportMode::Update).await.expect("imported");
    }
    harness.enrol("mops").await.expect("enrolled");
    let with_mops = async |harness: &Harness| {
        harness.federation.shared(&member("zlm"), false).await.expect("shared").with[&member("mops")]
    };
    let before = with_mops(&harness).await;
    // zlm asks mops and pup first; mops answers in ten minutes.
    harness.proxies["mops"].set(Fault::Delay(Duration::from_mins(10)));
    let enrolled = harness.enrol("zlm").await.expect("css is asked beside");
    assert_eq!((enrolled.pseudonymised, enrolled.published), (1, 1));
    assert_eq!(with_mops(&harness).await, before + 1, "whoever evaluates, it is the same pseudonym");
    harness.proxies["mops"].set(Fault::None);
    stop(&mut harness, "css").await;
    let log = log_of(&harness.federation.founded.node_config(&member("css")));
    let for_zlm = log.iter().filter(|logged| logged.event() == "key.evaluated" && logged.payload["asker"] == "zlm");
    assert_eq!(for_zlm.count(), 1, "only in the slow one's place");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_slow_or_gone_is_marked_and_the_others_answer() {
    let mut harness = proxied().await;
    let config = harness.federation.founded.node_config(&member("mops"));
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, format!("peer_deadline_seconds = 1\n{text}")).expect("a configuration");
    stop(&mut harness, "mops").await;
    restart(&mut harness, "mops").await;
    let everyone = async |harness: &Harness| -> Vec<Outcome> {
        let body = json!({
            "resident": resident("mops+pup+css+zlm"), "asks": [{ "query": "q01" }], "purpose": PURPOSE,
            "basis": mandate(), "case_ref": "MOPS/2026/1", "reason": "test",
        });
        let result: QueryResult = harness.post("mops", "caseworker", "/v1/queries", &body).await.expect("outcomes");
        result.outcomes
    };
    let kinds = |outcomes: &[Outcome]| -> Vec<(String, OutcomeKind)> {
        let mut kinds: Vec<_> =
            outcomes.iter().map(|o| (o.holder.as_ref().expect("a holder").to_string(), o.outcome)).collect();
        kinds.sort_by(|a, b| a.0.cmp(&b.0));
        kinds
    };
    let expected = |zlm| {
        let one = |unit: &str, kind| (unit.to_owned(), kind);
        vec![one("css", OutcomeKind::Answered), one("pup", OutcomeKind::Answered), one("zlm", zlm)]
    };
    assert_eq!(kinds(&everyone(&harness).await), expected(OutcomeKind::Answered));
    for fault in [Fault::Swallow, Fault::Delay(Duration::from_mins(10)), Fault::Cut, Fault::Corrupt] {
        harness.proxies["zlm"].set(fault);
        let outcomes = everyone(&harness).await;
        assert_eq!(kinds(&outcomes), expected(OutcomeKind::Unavailable), "{fault:?}");
        let zlm = outcomes.iter().find(|o| o.holder == Some(member("zlm"))).expect("an outcome");
        assert!(zlm.reason.is_some() && zlm.present.is_none() && zlm.next_step.is_some(), "{zlm:?}");
        // A garbled connection may have to be found broken before there is a new one.
        harness.proxies["zlm"].set(Fault::Cut);
        everyone(&harness).await;
        harness.proxies["zlm"].set(Fault::None);
        assert_eq!(kinds(&everyone(&harness).await), expected(OutcomeKind::Answered), "after {fault:?}");
    }
}

/// Runs a node with its log on a file system of its own, in a mount namespace of its own; what is there at the end is
/// put back. `$1` the program, `$2` the log, `$3` a directory outside; the rest are the program's arguments.
const ON_A_SMALL_DISK: &str = r#"
set -e
program=$1 log=$2 kept=$3
shift 3
cp -a "$log" "$kept"
mount -t tmpfs -o size=4m,mode=700 tmpfs "$log"
cp -a "$kept/." "$log/"
status=0
"$program" "$@" || status=$?
rm -rf "$kept"
cp -a "$log" "$kept"
umount "$log"
cp -a "$kept/." "$log/"
exit $status
"#;

/// Starts a stopped node of the harness again, with its log on a small disk; where that disk is seen from here.
async fn on_a_small_disk(harness: &mut Harness, unit: &str) -> PathBuf {
    stop(harness, unit).await;
    let config = harness.federation.founded.node_config(&member(unit));
    let log = harness.federation.founded.node_data(&member(unit)).join("log");
    let (program, kept) = (tests::program(), harness.extracts().join("log-kept"));
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (program, inside, kept, config) = (text(&program), text(&log), text(&kept), text(&config));
    let arguments =
        ["--mount", "sh", "-c", ON_A_SMALL_DISK, "sh", &program, &inside, &kept, "node", "run", "--config", &config];
    let trace = harness.home().join(unit).join("small-disk.log");
    let started = Process::start(unit, Path::new("unshare"), &arguments, &trace).await;
    let process = started.unwrap_or_else(|failure| {
        panic!(
            "a file system of its own in a private mount namespace is needed for this test (util-linux's unshare, and \
             root or CAP_SYS_ADMIN): {failure}"
        )
    });
    let pid = process.pid().expect("it runs");
    *part(&mut harness.federation, unit) = Part::Process(process);
    let seen = PathBuf::from(format!("/proc/{pid}/root{inside}"));
    assert!(seen.join("vkey").exists(), "the log is not seen at {}", seen.display());
    seen
}

/// Writes until there is no room.
fn fill(disk: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(disk.join("filler")).expect("a file");
    for size in [4096, 1] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
}

async fn health(harness: &Harness, unit: &str) -> (u16, Value) {
    let api = harness.federation.local(&member(unit)).expect("a local API");
    api.send(http::Method::GET, "/health/ready", None, None).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_every_release_and_loses_nothing() {
    let mut harness = Harness::with(Options { processes: true, ..Options::default() }).await;
    harness.fill().await;
    let disk = on_a_small_disk(&mut harness, "pup").await;
    let mut released = 0;
    for _ in 0..3 {
        answered(&ask(&harness, "mops+pup").await);
        released += 1;
    }
    assert_eq!(health(&harness, "pup").await.0, 200);
    let consent = harness.consent("mops", "mops", resident("mops+pup")).await.expect("a consent");
    assert!(consent.undelivered.is_empty(), "{consent:?}");

    fill(&disk);
    // What is left of the last page is used up first.
    let refused = loop {
        let outcome = ask(&harness, "mops+pup").await;
        if outcome.outcome != OutcomeKind::Answered {
            break outcome;
        }
        released += 1;
        assert!(released < 1_000, "the disk never got full");
    };
    unavailable(&refused, "closed");
    for units in ["mops+pup", "mops+pup+css", "mops+pup+zlm"] {
        unavailable(&ask(&harness, units).await, "closed");
    }
    assert_eq!(health(&harness, "pup").await.0, 503);
    assert_eq!(status(&harness, "pup").await.state, "log_unavailable");
    // Neither does it ask, record a consent, or evaluate.
    let own = harness.try_ask("pup", "mops", "q01", resident("mops+pup"), mandate()).await.expect_err("not asked");
    assert_eq!(own.code, "log_unavailable");
    harness.consent("pup", "mops", resident("mops+pup")).await.expect_err("not recorded");
    assert_eq!(harness.enrol("pup").await.expect_err("not recorded").code, "log_unavailable");
    // A withdrawal is obeyed even so.
    harness.withdraw("mops", &consent).await.expect("withdrawn");

    std::fs::remove_file(disk.join("filler")).expect("room");
    loop {
        if health(&harness, "pup").await.0 == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    answered(&ask(&harness, "mops+pup").await);
    released += 1;
    let basis = json!({ "kind": "consent", "id": consent.id });
    let withdrawn = harness.ask("mops", "pup", "q02", resident("mops+pup"), basis).await;
    assert_eq!(withdrawn.outcome, OutcomeKind::Denied, "{withdrawn:?}");
    harness.enrol("pup").await.expect("enrolled");

    for unit in ["mops", "pup"] {
        stop(&mut harness, unit).await;
    }
    let log = |unit| log_of(&harness.federation.founded.node_config(&member(unit)));
    let (asker, holder) = (log("mops"), log("pup"));
    assert_eq!(answers_agree(&asker, "pup", &holder), released + 1, "answers, and the refusal at the end");
    let at_pup = holder.iter().filter(|logged| logged.event() == "query.answered").count();
    assert!(at_pup >= released, "{at_pup} answers are logged, {released} were released");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_why_a_node_is_closed() {
    let harness = Harness::filled().await;
    harness.clock.advance(31 * 24 * HOUR);
    let (code, why) = health(&harness, "pup").await;
    assert_eq!((code, &why["code"]), (503, &json!("manifest_expired")), "{why}");
}

/// The file with a node's newest records.
fn records(harness: &Harness, unit: &str) -> PathBuf {
    harness.federation.founded.node_data(&member(unit)).join("log/records/0000000000")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_at_start() {
    let mut harness = Harness::filled().await;
    answered(&ask(&harness, "mops+pup").await);
    stop(&mut harness, "pup").await;
    let (records, config) = (records(&harness, "pup"), harness.federation.founded.node_config(&member("pup")));
    let before = log_of(&config).len();
    let whole = std::fs::read(&records).expect("records");
    // Noise, and the beginning of a record such as a crash leaves; zeros at the end would be the file's own.
    let begun = (59..whole.len()).find(|at| whole[*at] != 0).expect("a byte that is not zero");
    for tail in [b"\0\xffnoise".as_slice(), &whole[..=begun]] {
        let length = std::fs::metadata(&records).expect("records").len();
        let torn: Vec<u8> = std::fs::read(&records).expect("records").into_iter().chain(tail.iter().copied()).collect();
        std::fs::write(&records, torn).expect("written");
        let log = harness.federation.founded.node_data(&member("pup")).join("log");
        let report = audit::verify_dir(&log, None, None, |_| {}).expect("a torn tail is no damage");
        assert_eq!(report.torn_tail_bytes, tail.len() as u64);
        restart(&mut harness, "pup").await;
        stop(&mut harness, "pup").await;
        let report = audit::verify_dir(&log, None, None, |_| {}).expect("verified");
        assert_eq!(report.torn_tail_bytes, 0);
        assert!(std::fs::metadata(&records).expect("records").len() >= length, "nothing recorded is cut");
    }
    restart(&mut harness, "pup").await;
    answered(&ask(&harness, "mops+pup").await);
    for unit in ["mops", "pup"] {
        stop(&mut harness, unit).await;
    }
    let log = log_of(&config);
    assert!(log.len() > before);
    let asker = log_of(&harness.federation.founded.node_config(&member("mops")));
    assert_eq!(answers_agree(&asker, "pup", &log), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_shorter_than_its_checkpoint_does_not_open() {
    let mut harness = Harness::filled().await;
    for name in ["mops", "registry"] {
        let records = harness.home().join(name).join("data/log/records/0000000000");
        stop(&mut harness, name).await;
        let whole = std::fs::read(&records).expect("records");
        let damaged = (&whole[..whole.len() / 2], "log_unavailable", Exit::Storage);
        for (shorter, code, exit) in [damaged, (&[], "log_rolled_back", Exit::Verification)] {
            std::fs::write(&records, shorter).expect("written");
            let failed = part(&mut harness.federation, name).restart().await.expect_err("entries are missing");
            assert_eq!((failed.code.as_str(), failed.exit()), (code, exit), "{name}");
            assert!(failed.message.contains("record"), "{name}: {failed}");
            assert_eq!(std::fs::read(&records).expect("records"), shorter, "{name}: it is left as it was");
        }
        std::fs::write(&records, &whole).expect("written");
        restart(&mut harness, name).await;
    }
    answered(&ask(&harness, "mops+pup").await);
}

/// Gives a node of an in-process federation a clock of its own.
async fn with_own_clock(harness: &mut Harness, unit: &str) -> Clock {
    stop(harness, unit).await;
    let clock = Clock::manual(harness.clock.now());
    let config = harness.federation.founded.node_config(&member(unit));
    let surroundings = Surroundings { clock: clock.clone(), tap: None };
    let inside = Inside::start(unit, &config, &surroundings).await.expect("started");
    *part(&mut harness.federation, unit) = Part::Inside(inside);
    clock
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_behind_the_log_closes_the_node() {
    let mut harness = Harness::filled().await;
    let clock = with_own_clock(&mut harness, "pup").await;
    harness.clock.advance(2 * HOUR);
    clock.advance(2 * HOUR);
    answered(&ask(&harness, "mops+pup").await);

    clock.advance(-HOUR);
    let before = status(&harness, "pup").await;
    assert_eq!(before.state, "clock_wrong");
    unavailable(&ask(&harness, "mops+pup").await, "closed");
    let own = harness.try_ask("pup", "mops", "q01", resident("mops+pup"), mandate()).await.expect_err("closed");
    // Its tokens are of the right time, which is not yet for it: either way nothing is asked.
    assert!(["clock_wrong", "token_invalid", "token_not_yet_valid"].contains(&own.code.as_str()), "{}", own.code);
    assert_eq!(harness.enrol("pup").await.expect_err("closed").code, "clock_wrong");
    let after = status(&harness, "pup").await;
    assert_eq!((after.state.as_str(), after.log_entries), ("clock_wrong", before.log_entries), "nothing is logged");

    stop(&mut harness, "pup").await;
    let failed = part(&mut harness.federation, "pup").restart().await.expect_err("the log is ahead of the clock");
    assert_eq!((failed.code.as_str(), failed.exit()), ("clock_wrong", Exit::Unavailable));
    assert!(failed.message.contains("clock"), "{failed}");
    // Within what clocks may differ by it opens.
    clock.set(harness.clock.now() + -20);
    restart(&mut harness, "pup").await;
    clock.set(harness.clock.now());
    answered(&ask(&harness, "mops+pup").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ahead_of_the_registrys_closes_the_node() {
    let mut harness = Harness::filled().await;
    let clock = with_own_clock(&mut harness, "pup").await;
    answered(&ask(&harness, "mops+pup").await);
    clock.advance(HOUR);
    refresh(&harness, "pup").await.expect("the registry answers");
    let before = status(&harness, "pup").await;
    assert_eq!(before.state, "clock_wrong");
    unavailable(&ask(&harness, "mops+pup").await, "closed");
    assert_eq!(harness.enrol("pup").await.expect_err("closed").code, "clock_wrong");
    assert_eq!(status(&harness, "pup").await.log_entries, before.log_entries, "it closes before it logs");
    // Set right and started again, as docs/OPERATE.md says.
    clock.set(harness.clock.now());
    stop(&mut harness, "pup").await;
    restart(&mut harness, "pup").await;
    answered(&ask(&harness, "mops+pup").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_clock_ahead_does_not_close_the_node_for_good() {
    let mut harness = Harness::filled().await;
    let clock = with_own_clock(&mut harness, "pup").await;
    stop(&mut harness, "pup").await;
    clock.advance(HOUR);
    restart(&mut harness, "pup").await;
    refresh(&harness, "pup").await.expect("the registry answers");
    assert_eq!(status(&harness, "pup").await.state, "clock_wrong");
    clock.set(harness.clock.now());
    stop(&mut harness, "pup").await;
    restart(&mut harness, "pup").await;
    answered(&ask(&harness, "mops+pup").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_expired_closes_everything_until_the_next() {
    let mut harness = Harness::filled().await;
    let now = harness.clock.now();
    let short = harness.federation.founded.next_manifest(now, |next| next.expires = now + 600).expect("a manifest");
    harness.federation.publish(&short).await.expect("published");
    harness.clock.advance(600);
    answered(&ask(&harness, "mops+pup").await);
    harness.clock.advance(1);
    for unit in ["mops", "pup"] {
        assert_eq!(status(&harness, unit).await.state, "manifest_expired");
    }
    let asked = harness.try_ask("mops", "pup", "q02", resident("mops+pup"), mandate()).await.expect_err("closed");
    assert_eq!((asked.code.as_str(), asked.exit()), ("manifest_expired", Exit::Manifest));
    let shared = harness.federation.shared(&member("mops"), false).await.expect_err("closed");
    assert_eq!(shared.exit(), Exit::Manifest);
    harness.consent("mops", "mops", resident("mops+pup")).await.expect_err("closed");
    let next = harness.federation.founded.next_manifest(harness.clock.now(), |_| {}).expect("a manifest");
    harness.federation.publish(&next).await.expect("published");
    answered(&ask(&harness, "mops+pup").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_others_signed_is_refused_and_the_held_one_stays() {
    let harness = Harness::filled().await;
    let held = status(&harness, "mops").await;
    let mut next = harness.federation.founded.manifest.read().expect("a manifest");
    next.version += 1;
    let strangers: Vec<_> = (1..=3).map(|seed| SigningKey::from_seed(&[seed; 32]).expect("a key")).collect();
    let forge = |manifest: &protocol::Manifest| {
        let mut signed = protocol::SignedManifest::draft(manifest).expect("a draft");
        for key in &strangers {
            signed.sign(key);
        }
        signed
    };
    let plain = forge(&next);
    for (officer, key) in next.officers.keys.iter_mut().zip(&strangers) {
        officer.key = key.public();
    }
    // By its own word, the second is signed by all its officers.
    for forged in [plain, forge(&next)] {
        let refused = harness.federation.publish(&forged).await.expect_err("refused");
        assert_eq!(refused.exit(), Exit::Manifest, "{refused}");
        let Part::Inside(inside) = &harness.federation.nodes[&member("mops")] else { panic!("in process") };
        let refused = inside.node.as_ref().expect("it runs").accept_manifest(forged).await.expect_err("refused");
        assert_eq!(refused.code(), "manifest_refused");
        assert!(refused.to_string().contains("signed by 0 of the 2 officers"), "{refused}");
    }
    let after = status(&harness, "mops").await;
    assert_eq!((after.state.as_str(), after.manifest_fingerprint), ("ready", held.manifest_fingerprint));
    answered(&ask(&harness, "mops+pup").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_a_problem_that_names_the_field_and_repeats_nothing() {
    let harness = Harness::filled().await;
    let known = RESIDENTS[2].pesel;
    let query = |change: &dyn Fn(&mut Value)| {
        let mut body = json!({
            "resident": { "pesel": known }, "asks": [{ "query": "q02", "holder": "pup" }], "purpose": PURPOSE,
            "basis": mandate(), "case_ref": "MOPS/2026/1", "reason": "test",
        });
        change(&mut body);
        body
    };
    let wrong_checksum = "80010300036";
    let cases: [(Value, u16, &str); 8] = [
        (query(&|b| b["resident"] = json!({ "pesel": wrong_checksum })), 422, "resident.pesel"),
        (query(&|b| b["resident"] = json!({ "pesel": "8001030003A" })), 422, "resident.pesel"),
        (query(&|b| b["resident"] = json!({ "pesel": 80_010_300_035_u64 })), 422, "resident"),
        (query(&|b| b["asks"] = json!([])), 422, "asks"),
        (query(&|b| b["asks"][0]["query"] = json!({ "pesel": known })), 422, "asks[0].query"),
        (query(&|b| b["reason"] = json!(" ")), 422, "reason"),
        // The key is the caller's own word, so it is not repeated.
        (query(&|b| b["surprise"] = json!(known)), 422, ""),
        (query(&|b| b["basis"] = json!({ "kind": "nonsense" })), 422, "basis"),
    ];
    let api = harness.federation.local(&member("mops")).expect("a local API");
    let token = harness.federation.token(&member("mops"), "caseworker", &["caseworker"]).expect("a token");
    let entries = status(&harness, "mops").await.log_entries;
    for (body, code, field) in cases {
        let sent = api.send(http::Method::POST, "/v1/queries", Some(&token), Some(&body)).await;
        let (status, problem) = sent.expect("an answer");
        assert_eq!(status, code, "{problem}");
        assert!(problem["field"].as_str().unwrap_or_default().contains(field), "{field}: {problem}");
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("urn:ogniwo:problem:")), "{problem}");
        for number in [known, wrong_checksum, "8001030003A"] {
            assert!(!problem.to_string().contains(number), "{problem}");
        }
    }
    assert_eq!(status(&harness, "mops").await.log_entries, entries, "nothing was asked");
    assert_eq!(harness.clock.now(), NOON);
}
