//! `kill -9` of each kind of process, at random moments of what it does: nothing acknowledged is lost.
//!
//! The moments follow from a seed, printed at the start; `OGNIWO_TEST_SEED` sets it. `OGNIWO_TEST_ROUNDS` sets how often
//! each is killed.

use cli::federation::Part;
use node::{ConsentReceipt, ConsentState, ImportMode, ImportSummary, OutcomeKind, SharedSummary};
use protocol::registry::MAX_BATCH;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::{Harness, Options, RESIDENTS, Resident, answers_agree, log_of, member, status, write_extracts};
use tokio::sync::mpsc;

const ROUNDS: usize = 25;
const LONG_ROUNDS: usize = 100;

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn rounds(usual: usize) -> usize {
    number("OGNIWO_TEST_ROUNDS").map_or(usual, |rounds| usize::try_from(rounds).expect("a count"))
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn new(test: &str) -> Self {
        let seed = number("OGNIWO_TEST_SEED").unwrap_or_else(|| getrandom::u64().expect("randomness"));
        // The one line that makes a failure repeatable.
        println!("{test}: OGNIWO_TEST_SEED={seed}");
        Random(seed | 1)
    }

    /// A duration below `most`.
    fn below(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let part = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        Duration::from_micros((u64::try_from(most.as_micros()).expect("a short time") * part) >> 32)
    }
}

/// Residents number `range` of many: with valid numbers, none of them in [`RESIDENTS`].
pub(crate) fn crowd(range: Range<usize>, units: impl Fn(usize) -> &'static str) -> Vec<Resident> {
    range
        .map(|n| {
            let mut digits = format!("{:02}{:02}{:02}{:04}", 50 + n / 10_000, 1 + n % 12, 1 + n / 12 % 28, n % 10_000);
            let weighted = digits.bytes().zip([1, 3, 7, 9, 1, 3, 7, 9, 1, 3]).map(|(d, w)| u32::from(d - b'0') * w);
            let control = (10 - weighted.sum::<u32>() % 10) % 10;
            write!(digits, "{control}").expect("text");
            Resident { pesel: digits.leak(), units: units(n), sealed: false }
        })
        .collect()
}

/// A federation of processes with quotas that many rounds do not use up.
pub(crate) async fn federation() -> Harness {
    let options =
        Options { processes: true, queries_per_day: 1_000_000, first_enrolment: 10_000_000, ..Options::default() };
    Harness::with(options).await
}

fn part<'a>(harness: &'a mut Harness, name: &str) -> &'a mut Part {
    if name == node::REGISTRY {
        &mut harness.federation.registry
    } else {
        harness.federation.nodes.get_mut(&member(name)).expect("a node")
    }
}

/// Kills a part after `delay`, holds its log against its checkpoint, and starts it again.
async fn kill(harness: &mut Harness, name: &str, delay: Duration) {
    tokio::time::sleep(delay).await;
    let Part::Process(process) = part(harness, name) else { panic!("processes are killed") };
    process.kill().await.expect("killed");
    let log = harness.home().join(name).join("data/log");
    audit::verify_dir(&log, None, None, |_| {}).unwrap_or_else(|fault| panic!("the log of {name}: {fault}"));
}

async fn revive(harness: &mut Harness, name: &str) {
    part(harness, name).restart().await.unwrap_or_else(|failure| panic!("{name} does not start again: {failure}"));
}

pub(crate) fn mapping(unit: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/mappings/{unit}.toml"))
}

/// Imports of mops, alternately of two sets of residents that overlap by half, cut off and repeated.
async fn killed_while_importing(rounds: usize, half: usize) {
    let mut random = Random::new("killed_while_importing");
    let mut harness = federation().await;
    let extract = |n: usize| {
        let residents = crowd(n * half..(n + 2) * half, |_| "mops");
        let dir = harness.extracts().join(format!("{n}"));
        std::fs::create_dir_all(&dir).expect("a directory");
        write_extracts(&dir, &residents);
        dir.join("mops.csv")
    };
    let extracts = [extract(0), extract(1)];
    let (one, three) = (half as u64, 3 * half as u64);
    let begun = Instant::now();
    harness.import("mops", &extracts[0], ImportMode::Full).await.expect("imported");
    let usual = begun.elapsed();
    let mut interrupted = 0;
    for round in 1..=rounds {
        let extract = extracts[round % 2].clone();
        let admin = harness.federation.admin(&member("mops"));
        let request = json!({
            "mapping": mapping("mops"), "extract": extract, "rejects": null, "mode": "full", "dry_run": false, "remove_many": true,
        });
        let work = tokio::spawn(async move { admin.run::<ImportSummary>("/import", &request, &|_| {}).await });
        let delay = random.below(usual * 3 / 2);
        kill(&mut harness, "mops", delay).await;
        let outcome = work.await.expect("an outcome");
        revive(&mut harness, "mops").await;
        let clients = status(&harness, "mops").await.clients;
        match outcome {
            Ok(summary) => {
                assert_eq!((summary.residents, summary.clients), (2 * one, 2 * one), "round {round}");
                assert_eq!(clients, summary.clients, "round {round}: acknowledged, then lost");
            }
            Err(failure) => {
                assert_eq!(failure.code, "not_running", "round {round}: {failure}");
                interrupted += 1;
                // What the import before acknowledged goes only when the new one has everybody of its own.
                assert!((2 * one..=three).contains(&clients), "round {round}: {clients} clients");
                let again = harness.import("mops", &extract, ImportMode::Full).await.expect("imported");
                assert_eq!((again.rows, again.rejected), (2 * one, 0), "round {round}");
                assert_eq!((again.residents, again.clients), (2 * one, 2 * one), "round {round}");
            }
        }
    }
    // It is the residents of the last extract who are there, and nobody was filed twice.
    let last = harness.import("mops", &extracts[rounds % 2], ImportMode::Update).await.expect("imported");
    assert_eq!((last.new, last.clients), (0, 2 * one));
    assert!(interrupted > 0, "no import was interrupted: nothing was tested");
}

/// Enrolments at mops while `victim` is killed; pup knows every other resident.
async fn killed_while_enrolling(test: &str, victim: &str, rounds: usize, step: usize) {
    let mut random = Random::new(test);
    let mut harness = federation().await;
    let extract = |harness: &Harness, range: Range<usize>| {
        write_extracts(&harness.extracts(), &crowd(range, |n| if n % 2 == 0 { "mops+pup" } else { "mops" }));
        harness.extracts()
    };
    let all = extract(&harness, 0..(rounds + 1) * step);
    harness.import("pup", &all.join("pup.csv"), ImportMode::Delta).await.expect("imported");
    harness.enrol("pup").await.expect("enrolled");
    let mut interrupted = 0;
    let mut usual = Duration::from_secs(1);
    for round in 0..=rounds {
        let dir = extract(&harness, round * step..(round + 1) * step);
        harness.import("mops", &dir.join("mops.csv"), ImportMode::Delta).await.expect("imported");
        let enrolled = ((round + 1) * step) as u64;
        if round == 0 {
            let begun = Instant::now();
            harness.enrol("mops").await.expect("enrolled");
            usual = begun.elapsed();
            continue;
        }
        let admin = harness.federation.admin(&member("mops"));
        let work = tokio::spawn(async move { admin.run::<node::EnrolSummary>("/enrol", &json!({}), &|_| {}).await });
        let delay = random.below(usual * 3 / 2);
        kill(&mut harness, victim, delay).await;
        let outcome = work.await.expect("an outcome");
        revive(&mut harness, victim).await;
        assert_eq!(status(&harness, "mops").await.clients, enrolled, "round {round}");
        if let Err(failure) = &outcome {
            interrupted += 1;
            // The first attempt may find the dead process's connection.
            let mut again = harness.enrol("mops").await;
            for _ in 0..5 {
                if again.is_err() {
                    again = harness.enrol("mops").await;
                }
            }
            let again = again.unwrap_or_else(|e| panic!("round {round}: after {failure}: {e}"));
            assert_eq!(again.clients, enrolled, "round {round}");
        }
        if outcome.is_ok() || round % 5 == 0 || round == rounds {
            let shared = harness.federation.shared(&member("mops"), false).await.expect("shared");
            assert_eq!(shared.enrolled, enrolled, "round {round}: acknowledged as published");
            assert_eq!(shared.with[&member("pup")], enrolled.div_ceil(2), "round {round}: and can be located");
        }
    }
    let seen = harness.federation.shared(&member("pup"), false).await.expect("shared");
    assert_eq!(seen.with[&member("mops")], (((rounds + 1) * step) as u64).div_ceil(2), "pup sees the same");
    println!("{test}: {interrupted} of {rounds} were interrupted");
    // Without a holder another answers; without the other two nothing goes on.
    assert!(interrupted > 0 || !["mops", node::REGISTRY].contains(&victim), "nothing was interrupted");
}

/// What was acknowledged while questions were put and consents taken.
#[derive(Default)]
pub(crate) struct Acknowledged {
    pub(crate) answers: usize,
    pub(crate) given: Vec<ConsentReceipt>,
    pub(crate) withdrawn: Vec<ConsentReceipt>,
}

/// One caseworker and one front desk at mops at work, for as long as what was acknowledged `goes_on`.
pub(crate) async fn work_at_mops(harness: &Harness, goes_on: impl Fn(&Acknowledged) -> bool) -> Acknowledged {
    let resident = || json!({ "pesel": RESIDENTS.iter().find(|r| r.units == "mops+pup").expect("planted").pesel });
    let mandate = json!({ "kind": "mandate", "id": "ups-105" });
    let mut done = Acknowledged::default();
    let mut keep = false;
    while goes_on(&done) {
        if let Ok(result) = harness.try_ask("mops", "pup", "q02", resident(), mandate.clone()).await {
            done.answers += result.outcomes.iter().filter(|o| o.outcome == OutcomeKind::Answered).count();
        }
        let Ok(consent) = harness.consent("mops", "mops", resident()).await else { continue };
        keep = !keep;
        if keep {
            done.given.push(consent);
            continue;
        }
        if let Ok(withdrawn) = harness.withdraw("mops", &consent).await {
            assert_eq!(withdrawn.state, ConsentState::Withdrawn);
            done.withdrawn.push(withdrawn);
        }
    }
    done
}

async fn killed_while_answering(test: &str, victim: &str, rounds: usize) {
    let mut random = Random::new(test);
    let mut harness = federation().await;
    harness.fill().await;
    let begun = Instant::now();
    let first = work_at_mops(&harness, |done| done.withdrawn.is_empty()).await;
    let usual = begun.elapsed();
    let mut answers = first.answers;
    let (mut given, mut withdrawn) = (first.given.last().cloned(), first.withdrawn.last().cloned());
    for round in 1..=rounds {
        let stop = AtomicBool::new(false);
        let delay = random.below(usual * 2);
        // The victim is killed by its number, for the harness is at work meanwhile.
        let Part::Process(process) = part(&mut harness, victim) else { panic!("processes are killed") };
        let pid = process.pid().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.expect("it runs");
        let killing = async {
            tokio::time::sleep(delay).await;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
            stop.store(true, Ordering::SeqCst);
        };
        let (done, ()) = tokio::join!(work_at_mops(&harness, |_| !stop.load(Ordering::SeqCst)), killing);
        kill(&mut harness, victim, Duration::ZERO).await;
        revive(&mut harness, victim).await;
        answers += done.answers;
        let token = harness.federation.token(&member("mops"), "front-desk", &["front-desk"]).expect("a token");
        let shown = async |id: &protocol::ConsentId| -> ConsentState {
            let id = serde_json::to_value(id).expect("JSON");
            let path = format!("/v1/consents/{}", id.as_str().expect("text"));
            let local = harness.federation.local(&member("mops")).expect("a local API");
            let receipt: ConsentReceipt =
                local.call(http::Method::GET, &path, &token, None).await.expect("acknowledged, then lost");
            receipt.state
        };
        for consent in &done.given {
            assert_eq!(shown(&consent.id).await, ConsentState::Given, "round {round}");
        }
        for consent in &done.withdrawn {
            assert_eq!(shown(&consent.id).await, ConsentState::Withdrawn, "round {round}");
        }
        given = done.given.last().cloned().or(given);
        withdrawn = done.withdrawn.last().cloned().or(withdrawn);
    }
    let (given, withdrawn) = given.zip(withdrawn).expect("both, from the first work on");
    let resident = || json!({ "pesel": RESIDENTS.iter().find(|r| r.units == "mops+pup").expect("planted").pesel });
    let on = async |consent: &ConsentReceipt| -> (OutcomeKind, Option<String>) {
        let basis: Value = json!({ "kind": "consent", "id": consent.id });
        let outcome = harness.ask("mops", "pup", "q02", resident(), basis).await;
        (outcome.outcome, outcome.reason)
    };
    // Whatever was on its way when somebody died is delivered again.
    while status(&harness, "mops").await.outbox > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(on(&given).await, (OutcomeKind::Answered, None));
    assert_eq!(on(&withdrawn).await, (OutcomeKind::Denied, Some("consent_withdrawn".to_owned())));
    for unit in ["mops", "pup"] {
        part(&mut harness, unit).stop().await.expect("stopped");
    }
    let log = |unit| log_of(&harness.federation.founded.node_config(&member(unit)));
    let agreed = answers_agree(&log("mops"), "pup", &log("pup"));
    assert!(agreed > answers, "{answers} answers were acknowledged, {agreed} are in both logs");
    println!("{test}: {answers} answers in {rounds} rounds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_importing() {
    killed_while_importing(rounds(ROUNDS), 1_100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_enrolling() {
    killed_while_enrolling("a_node_killed_while_enrolling", "mops", rounds(ROUNDS), 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_holder_killed_while_evaluating() {
    killed_while_enrolling("a_key_holder_killed_while_evaluating", "pup", rounds(ROUNDS), 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_killed_while_taking_entries() {
    killed_while_enrolling("a_registry_killed_while_taking_entries", node::REGISTRY, rounds(ROUNDS), 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_counting_shared_clients_goes_on_behind_the_pages_it_has() {
    const CLIENTS: usize = 2 * MAX_BATCH + 500;
    let mut harness = federation().await;
    let dir = harness.extracts();
    write_extracts(&dir, &crowd(0..CLIENTS, |n| if n % 2 == 0 { "mops+pup" } else { "mops" }));
    for unit in ["mops", "pup"] {
        let extract = dir.join(format!("{unit}.csv"));
        harness.import(unit, &extract, ImportMode::Update).await.expect("imported");
        harness.enrol(unit).await.expect("enrolled");
    }
    let count = |harness: &Harness, done: mpsc::UnboundedSender<u64>| {
        let admin = harness.federation.admin(&member("mops"));
        tokio::spawn(async move {
            admin
                .run::<SharedSummary>("/shared", &json!({}), &|progress| {
                    let _ = done.send(progress.done);
                })
                .await
        })
    };
    let (done, mut pages) = mpsc::unbounded_channel();
    let work = count(&harness, done);
    let first = pages.recv().await.expect("a page");
    kill(&mut harness, "mops", Duration::ZERO).await;
    assert_eq!(work.await.expect("an outcome").expect_err("cut off").code, "not_running");
    revive(&mut harness, "mops").await;

    let (done, mut pages) = mpsc::unbounded_channel();
    let summary = count(&harness, done).await.expect("an outcome").expect("shared");
    let next = pages.recv().await.expect("a page");
    assert!(next > first, "it began anew: {next} after {first}");
    let clients = CLIENTS as u64;
    assert_eq!((summary.enrolled, summary.with[&member("pup")]), (clients, clients / 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_answering() {
    killed_while_answering("a_node_killed_while_answering", "pup", rounds(ROUNDS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_while_asking() {
    killed_while_answering("a_node_killed_while_asking", "mops", rounds(ROUNDS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_killed_while_locating() {
    killed_while_answering("a_registry_killed_while_locating", node::REGISTRY, rounds(ROUNDS)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: ./check long"]
async fn long_a_node_killed_while_importing() {
    killed_while_importing(rounds(LONG_ROUNDS), 3_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: ./check long"]
async fn long_everybody_killed_while_enrolling() {
    for victim in ["mops", "pup", "css", node::REGISTRY] {
        killed_while_enrolling("long_everybody_killed_while_enrolling", victim, rounds(LONG_ROUNDS), 500).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: ./check long"]
async fn long_everybody_killed_while_answering() {
    for victim in ["mops", "pup", "css", node::REGISTRY] {
        killed_while_answering("long_everybody_killed_while_answering", victim, rounds(LONG_ROUNDS)).await;
    }
}
