//! The others vouch for each log: cosignatures, a witness offline or lying, a log restored from a backup, a log rewritten
//! by whoever has its key.

use crate::officer_commands::Desk;
use crate::ran::ogniwo;
use audit::{Against, Checkpoint, Config, Fault, Filter, Log, Vkey, verify_dir, verify_export};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, post};
use cli::federation::Part;
use http::Method;
use keyring::{KeyRing, KeySource, StorageKey};
use node::{ContinueError, Node, OutcomeKind, continue_after_restore};
use protocol::manifest::KeyUse;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tests::{Harness, Member, RESIDENTS, UNITS, member, pesel_of, status, until};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use transport::{IdentityStore, Limits, ServerTls, Trust};

const DAY: i64 = 24 * 60 * 60;

/// The node of `unit`, which runs in this process.
fn node(harness: &Harness, unit: &str) -> Arc<Node> {
    match &harness.federation.nodes[&member(unit)] {
        Part::Inside(inside) => inside.node.clone().expect("it runs"),
        Part::Process(_) => panic!("not in this process"),
    }
}

pub(crate) async fn cosign(harness: &Harness, unit: &str) {
    node(harness, unit).ask_for_cosignatures().await;
}

/// Asks until every entry of the log is cosigned: the node may write one meanwhile.
async fn all_is_cosigned(harness: &Harness, unit: &str) {
    until("all is cosigned", async || {
        cosign(harness, unit).await;
        let status = status(harness, unit).await;
        (status.cosigned.entries, status.cosigned.age_seconds) == (status.log_entries, Some(0))
    })
    .await;
}

/// The newest checkpoint of mops, once it carries the lines of `witnesses` and of nobody else: one that was slow is asked
/// again with the next entry.
async fn cosigned_by(harness: &Harness, witnesses: &[&str]) -> Checkpoint {
    let (css, keys) = (Member::of(harness, "css"), Keys::of(harness));
    let mut found = None;
    until("the others' cosignatures", async || {
        all_is_cosigned(harness, "mops").await;
        let note = css.call("mops", Method::GET, "/checkpoint", "").await.expect("an answer").into_body();
        let checkpoint = keys.opened(&note, "mops");
        if keys.cosigners(&checkpoint) == witnesses {
            found = Some(checkpoint);
        } else {
            ask(harness, "mops").await;
        }
        found.is_some()
    })
    .await;
    found.expect("found")
}

async fn stop(harness: &mut Harness, unit: &str) {
    harness.federation.nodes.get_mut(&member(unit)).expect("a node").stop().await.expect("stopped");
}

async fn restart(harness: &mut Harness, unit: &str) {
    harness.federation.nodes.get_mut(&member(unit)).expect("a node").restart().await.expect("started");
}

fn log_dir(harness: &Harness, unit: &str) -> PathBuf {
    harness.home().join(unit).join("data/log")
}

async fn ask(harness: &Harness, units: &str) -> OutcomeKind {
    let basis = json!({ "kind": "mandate", "id": "ups-105" });
    harness.ask("mops", "pup", "q02", json!({ "pesel": pesel_of(units) }), basis).await.outcome
}

/// The keys by which the manifest knows a log and the witnesses.
struct Keys(protocol::Manifest, protocol::Timestamp);

impl Keys {
    fn of(harness: &Harness) -> Self {
        Keys(harness.federation.founded.manifest.read().expect("a manifest"), harness.clock.now())
    }

    fn log(&self, unit: &str, origin: &str) -> Vkey {
        let key = self.0.keys_of(&member(unit), KeyUse::Log, self.1).next().expect("a key");
        witness::log_key(origin, &key).expect("a key")
    }

    /// The checkpoint in `note`, signed by the log of `unit`.
    fn opened(&self, note: &[u8], unit: &str) -> Checkpoint {
        let key = self.log(unit, &format!("test.ogniwo.example/{unit}"));
        Checkpoint::open(std::str::from_utf8(note).expect("text"), &key).expect("the log's own")
    }

    fn witness(&self, unit: &str) -> Vkey {
        let key = self.0.keys_of(&member(unit), KeyUse::Cosign, self.1).next().expect("a key");
        witness::witness_key(&self.0.realm, &member(unit), &key).expect("a key")
    }

    fn cosigners(&self, checkpoint: &Checkpoint) -> Vec<String> {
        let all = UNITS.iter().map(|(unit, _)| *unit).chain(["registry"]);
        all.filter(|unit| checkpoint.cosigned_by(&self.witness(unit)).is_ok()).map(str::to_owned).collect()
    }
}

/// A directory copied as it is, without sockets.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory").flatten() {
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_log_is_cosigned_by_the_others_and_anybody_of_them_may_check() {
    let harness = Harness::filled().await;
    assert_eq!(ask(&harness, "mops+pup").await, OutcomeKind::Answered);
    all_is_cosigned(&harness, "mops").await;

    let (css, keys) = (Member::of(&harness, "css"), Keys::of(&harness));
    let get = async |path: &str| css.call("mops", Method::GET, path, "").await.expect("an answer").into_body();
    let published = cosigned_by(&harness, &["pup", "css", "zlm", "registry"]).await;
    let bundle = get(&format!("/tile/entries/000.p/{}", published.size())).await;
    assert_eq!(bundle.len() as u64, 34 * published.size());
    let missing = css.call("mops", Method::GET, "/tile/0/007", "").await.expect_err("no such tile");
    assert_eq!(missing.code(), "tile_unknown");
    // What css cosigned, it keeps: for pup to ask. The node's own round may have come between.
    let pup = Member::of(&harness, "pup");
    let path = "/witnessed/test.ogniwo.example/mops";
    let kept = pup.call("css", Method::GET, path, "").await.expect("kept").into_body();
    let kept = keys.opened(&kept, "mops");
    assert!(kept.size() >= published.size(), "{} of {}", kept.size(), published.size());
    assert!(kept.size() > published.size() || kept.root() == published.root());

    // The registry's log too, and with it the manifest in force.
    let Part::Inside(inside) = &harness.federation.registry else { panic!("not in this process") };
    let running = inside.registry.clone().expect("it runs");
    running.ask_for_cosignatures().await;
    let payloads = running.log().iter(0).map(|entry| entry.expect("an entry").payload.expect("a payload"));
    let manifests = (0..).zip(payloads).filter(|(_, payload)| payload["event"] == "manifest");
    let (place, recorded): (u64, Value) = manifests.last().expect("a manifest was accepted");
    drop(running);
    let note = css.call("registry", Method::GET, "/checkpoint", "").await.expect("an answer").into_body();
    let registry = keys.opened(&note, "registry");
    assert!(keys.cosigners(&registry).len() >= 2, "{:?}", keys.cosigners(&registry));
    assert!(place < registry.size(), "the checkpoint they cosigned covers the manifest");
    let in_force = protocol::encoding::b64(&harness.federation.founded.manifest.hash());
    assert_eq!(recorded["manifest"]["hash"], in_force);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_witness_left_nothing_new_counts_until_another_is_back() {
    let mut harness = Harness::filled().await;
    cosign(&harness, "mops").await;
    for unit in ["css", "zlm"] {
        stop(&mut harness, unit).await;
    }
    harness.federation.registry.stop().await.expect("stopped");
    let before = status(&harness, "mops").await.cosigned.entries;
    assert!(before > 0);
    assert_eq!(ask(&harness, "mops+pup").await, OutcomeKind::Unavailable, "nobody locates");
    harness.clock.advance(70);
    cosign(&harness, "mops").await;
    // What is new waits, and says for how long.
    let late = status(&harness, "mops").await;
    assert_eq!(late.cosigned.entries, before, "one cosignature is not enough");
    assert!(late.cosigned.age_seconds.is_some_and(|age| age >= 70), "{:?}", late.cosigned);
    restart(&mut harness, "css").await;
    all_is_cosigned(&harness, "mops").await;
}

/// Stands in for `unit` at its address, with its certificate, and answers as `router` does.
pub(crate) async fn impostor(harness: &Harness, unit: &str, router: Router) -> CancellationToken {
    serve_as(harness, unit, harness.federation.nodes[&member(unit)].listening().peers, router).await.1
}

/// Answers as `router` does with the certificate of `part`; returns where.
pub(crate) async fn serve_as(
    harness: &Harness,
    part: &str,
    address: SocketAddr,
    router: Router,
) -> (SocketAddr, CancellationToken) {
    let tls = harness.home().join(part).join("tls");
    let read = |name: &str| std::fs::read_to_string(tls.join(name)).expect("a file");
    let realm = harness.federation.founded.plan.realm.clone();
    let trust = Trust::load(&read("root.pem"), Some(&read("crl.pem")), realm, harness.clock.clone()).expect("trust");
    let identity = IdentityStore::load(&tls.join("cert.pem"), &tls.join("key.pem")).expect("a certificate");
    let tls = ServerTls::mutual(Arc::new(trust), Arc::new(identity)).expect("TLS");
    let listener = TcpListener::bind(address).await.expect("its address");
    let address = listener.local_addr().expect("its address");
    let stop = CancellationToken::new();
    tokio::spawn(transport::serve(listener, tls, router, Limits::default(), stop.clone()));
    (address, stop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_witness_neither_counts_nor_closes_a_log() {
    let mut harness = Harness::filled().await;
    cosign(&harness, "mops").await;
    let real = {
        let keys = Keys::of(&harness);
        let css = Member::of(&harness, "css");
        let note = css.call("mops", Method::GET, "/checkpoint", "").await.expect("an answer").into_body();
        let note = String::from_utf8(note.to_vec()).expect("text");
        keys.opened(note.as_bytes(), "mops");
        note
    };
    stop(&mut harness, "pup").await;
    // Larger than there is; signed lines of nobody; an old cosignature for a new tree; another log's checkpoint as proof.
    let size = |size: &'static str| {
        Router::new().route("/add-checkpoint", post(move || async move { (StatusCode::CONFLICT, size) }))
    };
    let forged = real.replacen("test.ogniwo.example/mops\n", "test.ogniwo.example/pup\n", 1);
    let old = real.lines().filter(|line| line.starts_with('—')).map(|line| format!("{line}\n")).collect::<String>();
    let liars = [
        size("9999999\n"),
        size("9999999\n").route("/witnessed/{*origin}", any(move || async move { forged })),
        size("-1\n"),
        Router::new().route("/add-checkpoint", post(|| async { "— nobody AAAA\n" })),
        Router::new().route("/add-checkpoint", post(move || async move { old })),
        Router::new().route("/add-checkpoint", post(|| async { StatusCode::IM_A_TEAPOT })),
    ];
    for (number, liar) in liars.into_iter().enumerate() {
        let lying = impostor(&harness, "pup", liar).await;
        // The others are enough.
        ask(&harness, "mops").await;
        cosigned_by(&harness, &["css", "zlm", "registry"]).await;
        let covered = status(&harness, "mops").await;
        assert_eq!(covered.state, "ready", "{number}: a claim that is not shown closes nothing");
        lying.cancel();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_goes_on_only_under_a_new_name_and_on_the_officers_word() {
    let mut harness = Harness::filled().await;
    stop(&mut harness, "mops").await;
    let (log, backup) = (log_dir(&harness, "mops"), harness.extracts().join("backup"));
    copy(&log, &backup);
    restart(&mut harness, "mops").await;
    assert_eq!(ask(&harness, "mops+pup").await, OutcomeKind::Answered);
    all_is_cosigned(&harness, "mops").await;
    let lost = status(&harness, "mops").await.log_entries;
    stop(&mut harness, "mops").await;
    std::fs::remove_dir_all(&log).expect("removed");
    copy(&backup, &log);

    // The others know better: closed, before anything is appended.
    restart(&mut harness, "mops").await;
    let closed = async {
        while status(&harness, "mops").await.state != "log_unavailable" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), closed).await.expect("it closes");
    let refused =
        harness.try_ask("mops", "pup", "q02", json!({ "pesel": pesel_of("mops+pup") }), json!({ "kind": "none" }));
    assert_eq!(refused.await.expect_err("nothing is recorded").code, "log_unavailable");
    stop(&mut harness, "mops").await;
    let failed = harness.federation.nodes.get_mut(&member("mops")).expect("a node").restart().await;
    assert_eq!(failed.expect_err("nor does it open").code, "log_rolled_back");

    let go_on = async |user: &str, role: &str| {
        let config =
            node::Config::load(&harness.federation.founded.node_config(&member("mops"))).expect("a configuration");
        let token = harness.federation.token(&member("mops"), user, &[role]).expect("a token");
        continue_after_restore(config, harness.clock.clone(), &token, || Err(std::io::Error::other("not asked"))).await
    };
    assert!(matches!(go_on("jan", "caseworker").await, Err(ContinueError::Role)));
    let continued = go_on("iod", "dpo").await.expect("a new log");
    assert_eq!((continued.origin.as_str(), continued.cosigned_size), ("test.ogniwo.example/mops/2", lost));
    assert!(continued.previous_size < lost);
    restart(&mut harness, "mops").await;
    // Its share's meters are spent until tomorrow, for itself too; the other holders' are not.
    assert_eq!(ask(&harness, "mops+pup").await, OutcomeKind::Answered);
    all_is_cosigned(&harness, "mops").await;
    assert_eq!(status(&harness, "mops").await.state, "ready");
    stop(&mut harness, "mops").await;
    let first = tests::log_of(&harness.federation.founded.node_config(&member("mops"))).remove(0).payload;
    assert_eq!(first["event"], "log.continued");
    assert_eq!((&first["previous_origin"], &first["lost_until"]), (&json!("test.ogniwo.example/mops"), &json!(lost)));

    // The old one stays as it is, for auditors; it is not what was signed. What is in use verifies.
    assert!(matches!(verify_dir(&log, None, None, |_| {}), Err(Fault::Shorter { .. })));
    std::fs::rename(&log, harness.extracts().join("old")).expect("moved");
    std::fs::rename(log.with_file_name("log.2"), &log).expect("moved");
}

/// The log of a stopped node, opened with its own keys as its administrator could.
fn open(harness: &Harness, unit: &str, dir: &Path) -> Log {
    let config = node::Config::load(&harness.federation.founded.node_config(&member(unit))).expect("a configuration");
    let source: &KeySource = &config.storage_key;
    let storage = StorageKey::obtain(source, || Err(std::io::Error::other("not asked"))).expect("a key");
    let ring = KeyRing::open(&config.data.join("keys.sealed"), &storage).expect("keys");
    let now = harness.clock.clone();
    Log::open(Config {
        dir,
        origin: &format!("{}/{}", config.realm, config.member),
        signing_key: ring.log.seed(),
        payload_key: &storage.derive("log"),
        now: Box::new(move || now.now().0),
    })
    .expect("a log")
}

/// What peers' officers print of what their nodes cosigned: one asks the node for everything, another reads a copy of its
/// data.
fn handed_out(harness: &Harness) -> [(&'static str, String); 2] {
    let kept = harness.extracts().join("css-data");
    copy(&harness.home().join("css/data/witness"), &kept.join("witness"));
    let kept = kept.to_str().expect("UTF-8").to_owned();
    let printed = tokio::task::block_in_place(|| {
        let officer = |role: &str| Desk::of(harness, "pup", role);
        officer("caseworker").run("", &["audit", "witnessed"]).failed(10, "data-protection officer");
        officer("dpo").run("", &["audit", "witnessed", "--log", "nobody"]).failed(10, "nobody");
        let of_css = ogniwo(&["audit", "witnessed", "--dir", &kept, "--log", "mops"]).succeeded();
        [("pup", officer("dpo").run("", &["audit", "witnessed"]).succeeded()), ("css", of_css)]
    });
    let cosigned = printed[0].1.matches("\n— test.ogniwo.example/pup/witness ").count();
    assert_eq!(cosigned, audit::notes(&printed[0].1).len(), "of every log one: {}", printed[0].1);
    assert_eq!(audit::notes(&printed[1].1).len(), 1, "of mops alone");
    printed
}

/// The checkpoints in them, which are those that members are given.
async fn as_over_the_wire(harness: &Harness, printed: &[(&str, String)], origin: &str) -> Vec<Checkpoint> {
    let (keys, zlm) = (Keys::of(harness), Member::of(harness, "zlm"));
    let mut known = Vec::new();
    for (peer, text) in printed {
        let given = zlm.call(peer, Method::GET, &format!("/witnessed/{origin}"), "").await.expect("kept");
        let notes = audit::notes(text);
        let note = notes.iter().find(|note| note.starts_with(&format!("{origin}\n"))).expect("of mops");
        assert_eq!(note.as_bytes(), given.into_body(), "{peer}");
        let checkpoint = Checkpoint::open(note, &keys.log("mops", origin)).expect("mops signed it");
        checkpoint.cosigned_by(&keys.witness(peer)).expect("and the peer cosigned it");
        known.push(checkpoint);
    }
    known
}

/// With the files the peers' commands printed: each alone is enough.
fn as_the_auditor_types_it(harness: &Harness, printed: &[(&str, String)], forged: &Path, honest: &Path) {
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (forged, honest) = (text(forged), text(honest));
    let manifest = text(&harness.home().join("manifest.json"));
    ogniwo(&["audit", "verify", &forged]).succeeded();
    for (peer, notes) in printed {
        let file = harness.extracts().join(format!("cosigned-by-{peer}"));
        std::fs::write(&file, notes).expect("written");
        let against = ["--manifest", &manifest, "--since", &text(&file)];
        let proved = ogniwo(&[&["audit", "verify", &forged] as &[&str], &against].concat());
        proved.failed(11, &format!("given is cosigned by test.ogniwo.example/{peer}/witness"));
        let held = ogniwo(&[&["audit", "verify", &honest] as &[&str], &against].concat()).succeeded();
        assert!(held.contains(&format!("given, cosigned by test.ogniwo.example/{peer}/witness")), "{held}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_proves_that_an_access_was_deleted() {
    let mut harness = Harness::filled().await;
    // A week of ordinary work, and on its fourth day an access nobody should see.
    let shared: Vec<&str> =
        RESIDENTS.iter().map(|r| r.units).filter(|units| units.contains("mops") && units.contains("pup")).collect();
    for day in 0..7 {
        harness.clock.advance(DAY);
        let crl = harness.federation.founded.authority().expect("the authority").crl(harness.clock.now());
        crate::identities::spread(&harness, &crl.expect("a list")).await;
        for units in shared.iter().take(2 + day % 3) {
            assert_eq!(ask(&harness, units).await, OutcomeKind::Answered, "day {day}, {units}");
        }
        if day == 3 {
            let body = json!({
                "resident": { "pesel": pesel_of("mops+pup+zlm") }, "asks": [{ "query": "q02", "holder": "pup" }],
                "purpose": tests::PURPOSE, "basis": { "kind": "mandate", "id": "ups-105" }, "case_ref": "X",
                "reason": "ciekawość",
            });
            let _answer: Value = harness.post("mops", "caseworker", "/v1/queries", &body).await.expect("an answer");
        }
        for unit in ["mops", "pup"] {
            cosign(&harness, unit).await;
        }
    }
    // What the auditor gets of the peers, not of mops: the checkpoint of mops's log that each of them cosigned.
    let origin = "test.ogniwo.example/mops";
    let vkey = Keys::of(&harness).log("mops", origin);
    let printed = handed_out(&harness);
    let known = as_over_the_wire(&harness, &printed, origin).await;

    // The administrator of mops rewrites the log with its own key, without that access, and even one entry longer.
    stop(&mut harness, "mops").await;
    let real = log_dir(&harness, "mops");
    let honest = open(&harness, "mops", &real);
    let entries: Vec<Value> = honest.iter(0).map(|entry| entry.expect("an entry").payload.expect("kept")).collect();
    let exported = harness.extracts().join("honest");
    audit::export(&honest, &exported, &Filter::default(), 0).expect("an export");
    drop(honest);
    let embarrassing = |entry: &&Value| entry["reason_text"] == "ciekawość";
    assert_eq!(entries.iter().filter(embarrassing).count(), 2);
    let (forged_dir, forged_export) = (harness.extracts().join("forged"), harness.extracts().join("forged-export"));
    std::fs::create_dir_all(&forged_dir).expect("a directory");
    let forged = open(&harness, "mops", &forged_dir);
    for entry in entries.iter().filter(|entry| !embarrassing(entry)) {
        let _receipt = forged.append(entry).await.expect("appended");
    }
    while forged.size() <= entries.len() as u64 {
        let _receipt =
            forged.append(&json!({ "event": "node.started", "time": harness.clock.now().0 })).await.expect("appended");
    }
    audit::export(&forged, &forged_export, &Filter::default(), 0).expect("an export");
    drop(forged);

    let verify = |dir: &Path, known: &[Checkpoint]| {
        let mut seen = 0;
        let against = Against { log: Some(&vkey), known, ..Against::default() };
        let verified = verify_export(dir, against, |_, entry| seen += u64::from(embarrassing(&&entry)), |_| {});
        verified.map(|_| seen)
    };
    // By itself the forgery is flawless: right key, right signatures, whole tree. Against one peer's checkpoint it falls.
    assert_eq!(verify(&forged_export, &[]).expect("flawless"), 0);
    for checkpoint in &known {
        let proved = verify(&forged_export, std::slice::from_ref(checkpoint));
        assert!(matches!(proved, Err(Fault::Rewritten { signed }) if signed == checkpoint.size()), "{proved:?}");
    }
    as_the_auditor_types_it(&harness, &printed, &forged_export, &exported);
    // And what was kept of the honest log shows the access.
    assert_eq!(verify(&exported, &known).expect("honest"), 2);

    // Put in place of the real one, it does not get far either: the others do not know it.
    let aside = harness.extracts().join("real");
    std::fs::rename(&real, &aside).expect("moved");
    copy(&forged_dir, &real);
    restart(&mut harness, "mops").await;
    let closed = async {
        while status(&harness, "mops").await.state != "log_unavailable" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), closed).await.expect("it closes");
    stop(&mut harness, "mops").await;
    std::fs::remove_dir_all(&real).expect("removed");
    std::fs::rename(&aside, &real).expect("moved back");
}

/// Stops the registry, or starts it again.
async fn registry(harness: &mut Harness, runs: bool) -> Result<(), cli::exit::Failure> {
    let part = &mut harness.federation.registry;
    if runs { part.restart().await } else { part.stop().await }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_registrys_log_goes_on_only_on_the_officers_word() {
    let mut harness = Harness::filled().await;
    registry(&mut harness, false).await.expect("stopped");
    let (log, backup) = (log_dir(&harness, "registry"), harness.extracts().join("backup"));
    copy(&log, &backup);
    registry(&mut harness, true).await.expect("started");
    assert_eq!(ask(&harness, "mops+pup").await, OutcomeKind::Answered);
    let Part::Inside(inside) = &harness.federation.registry else { panic!("not in this process") };
    inside.registry.clone().expect("it runs").ask_for_cosignatures().await;
    registry(&mut harness, false).await.expect("stopped");
    let config = registry::Config::load(&harness.federation.founded.registry_config()).expect("a configuration");
    let nothing = registry::draft_loss(&config);
    assert!(matches!(nothing, Err(registry::ContinueError::Log(audit::SucceedError::NothingMissing))), "{nothing:?}");
    std::fs::remove_dir_all(&log).expect("removed");
    copy(&backup, &log);

    // Members know better: closed when it meets them, and then it does not open.
    registry(&mut harness, true).await.expect("started");
    let Part::Inside(inside) = &harness.federation.registry else { panic!("not in this process") };
    let running = inside.registry.clone().expect("it runs");
    let closed = async {
        while running.ready().await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), closed).await.expect("it closes");
    drop(running);
    registry(&mut harness, false).await.expect("stopped");
    assert_eq!(registry(&mut harness, true).await.expect_err("it does not open").code, "log_rolled_back");

    let mut loss = registry::draft_loss(&config).expect("something is lost");
    assert_eq!(loss.origin, "test.ogniwo.example/registry");
    let go_on = |loss: &registry::LogLoss| {
        let never = || Err(std::io::Error::other("not asked"));
        let clock = harness.clock.clone();
        tokio::task::block_in_place(|| registry::continue_after_restore(&config, clock, loss, never))
    };
    let officer = |unit: &str| {
        cli::found::open_officer(&harness.home().join(format!("officers/{unit}.key"))).expect("an officer's key")
    };
    loss.sign(&officer("mops"));
    let few = go_on(&loss).expect_err("one officer");
    assert_eq!(few.code(), Some("confirmation_missing"), "{few}");
    // Signed by enough, and about something else.
    let mut other = registry::LogLoss { origin: "test.ogniwo.example/mops".to_owned(), ..loss.clone() };
    for unit in ["mops", "pup"] {
        other.sign(&officer(unit));
    }
    assert!(matches!(go_on(&other), Err(registry::ContinueError::Other)));
    loss.sign(&officer("pup"));
    let continued = go_on(&loss).expect("a new log");
    assert_eq!(continued.origin, "test.ogniwo.example/registry/2");
    assert!(continued.previous_size < continued.cosigned_size);

    registry(&mut harness, true).await.expect("started");
    assert_eq!(ask(&harness, "mops+pup").await, OutcomeKind::Answered);
    let Part::Inside(inside) = &harness.federation.registry else { panic!("not in this process") };
    let running = inside.registry.clone().expect("it runs");
    running.ask_for_cosignatures().await;
    let note = running.log().published_checkpoint();
    drop(running);
    assert_eq!(note.note().lines().next(), Some("test.ogniwo.example/registry/2"));
    assert_eq!(Keys::of(&harness).cosigners(&note), ["mops", "pup", "css", "zlm"]);
    registry(&mut harness, false).await.expect("stopped");

    // The old one stays as it is, for auditors; what is in use verifies.
    assert!(matches!(verify_dir(&log, None, None, |_| {}), Err(Fault::Shorter { .. })));
    std::fs::rename(&log, harness.extracts().join("old")).expect("moved");
    std::fs::rename(log.with_file_name("log.2"), &log).expect("moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_made_up_for_a_comparison_are_found() {
    let mut harness = Harness::filled().await;
    assert_eq!(ask(&harness, "mops+pup").await, OutcomeKind::Answered);
    cosign(&harness, "pup").await;
    let known = status(&harness, "pup").await.cosigned.entries;
    let now = harness.clock.now().0;
    let period = json!({ "peer": "pup", "from": now - 60, "until": now + 60 });
    let honest: Value = harness.post("mops", "dpo", "/v1/audit/reconcile", &period).await.expect("compared");
    assert_eq!((&honest["matched"], &honest["findings"]), (&json!(1), &json!([])));
    let filter = json!({ "filter": { "event": "query.outcome" } });
    let asked: Value = harness.post("mops", "dpo", "/v1/audit/search", &filter).await.expect("found");
    let request = asked["entries"][0]["payload"]["outcomes"][0]["request"].clone();

    // The administrator of pup has its keys, and says that it never answered, out of a log that nobody cosigned.
    stop(&mut harness, "pup").await;
    let made = open(&harness, "pup", &harness.extracts().join("made"));
    let mut receipts = Vec::new();
    for n in 0..=known {
        receipts.push(made.append(&json!({ "n": n })).await.expect("appended"));
    }
    let checkpoint = made.checkpoint().await.expect("signed");
    let text = |proof: Option<Vec<audit::Hash>>| -> Vec<String> {
        proof.expect("a proof").iter().map(|hash| protocol::encoding::b64(hash)).collect()
    };
    let proof = text(made.prove_inclusion(0, checkpoint.size()).expect("read"));
    let consistency = text(made.prove_consistency(known, checkpoint.size()).expect("read"));
    let page = json!({
        "checkpoint": checkpoint.note(), "consistency": consistency, "next": null,
        "sides": [{
            "asker": "mops", "holder": "pup", "request": request, "answered": false, "fields": [], "time": now, "index": 0,
            "entry": protocol::encoding::b64(receipts[0].entry_hash()), "proof": proof,
        }],
    });
    let page = page.to_string();
    let answer = move || async move { ([(axum::http::header::CONTENT_TYPE, "application/json")], page) };
    let lying = impostor(&harness, "pup", Router::new().route("/v1/log/sides", post(answer))).await;
    let found: Value = harness.post("mops", "dpo", "/v1/audit/reconcile", &period).await.expect("compared");
    let kinds: Vec<&Value> = found["findings"].as_array().expect("findings").iter().map(|f| &f["kind"]).collect();
    assert_eq!(kinds, ["only_here", "not_in_tree"], "{found}");
    assert_eq!(found["findings"][1]["request"], request);
    lying.cancel();
}
