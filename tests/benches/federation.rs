//! What a federation costs besides its queries, each held against the least it could cost, in interleaved rounds of one
//! run: enrolment (`OGNIWO_BENCH_ENROLLED` residents), starting and idling nodes; and how fast a withdrawal is everywhere.
//! Nothing is asserted about time.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[path = "../../pseudonym/benches/pseudonymise/floor.rs"]
#[expect(dead_code, reason = "shared with the benchmark of one pseudonym, which needs more of it")]
#[expect(clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]
mod floor;
#[path = "support/mod.rs"]
mod support;

use curve25519_dalek::Scalar;
use node::ImportMode;
use rand_core::{Rng as _, UnwrapErr};
use registry::IndexStore as _;
use serde_json::json;
use std::time::{Duration, Instant};
use support::echo::Echo;
use support::{ProcessTime, Spread, count, micros, node, pid, resident_memory, residents, thread_time, tls};
use tests::{Harness, Options, PURPOSE, Resident, UNITS, member, write_extracts};

const ROUNDS: usize = 7;
/// Consents withdrawn.
const WITHDRAWALS: usize = 100;
/// Who answers on them, and what.
const HOLDERS: [(&str, &str); 2] = [("pup", "q02"), ("css", "q07")];
/// What a withdrawal must not take longer than.
const LIMIT_MS: f64 = 2_000.0;
/// Residents enrolled, if `OGNIWO_BENCH_ENROLLED` says nothing else; `./check long` takes 700,000.
const ENROLLED: usize = 10_000;
const PARTS: usize = 10;
/// Enrolled before anything is measured.
const WARMING: usize = 1_000;
/// Residents over whom the least is measured: one request's.
const BATCH: usize = 1_000;
/// Rows that share a commit, as they do when a node enrols many.
const GROUP: usize = 4_000;
/// What the registry's engine has for its pages, in bytes.
const ENGINE_CACHE: usize = 256 << 20;
/// Holders that answer.
const THRESHOLD: usize = 2;
/// Those of one pseudonym, and the upsert.
const STEPS: usize = floor::PARTS.len() + 1;
const REALM: &str = "test.ogniwo.example";
const MEMBER: &str = "mops";
const IDLE: Duration = Duration::from_secs(3);

fn main() {
    if support::become_echo() || !support::measuring() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let enrolled = std::env::var("OGNIWO_BENCH_ENROLLED").map_or(ENROLLED, |text| text.parse().expect("a number"));
    // Twice as many evaluations as residents, so that a repeated batch does not end it.
    let first_enrolment = u64::try_from(2 * enrolled).expect("a count").max(100_000);
    let mut harness = Harness::with(Options { processes: true, first_enrolment, ..Options::default() }).await;
    Box::pin(enrol(&harness, &residents(enrolled, "mops"))).await;
    start(&mut harness).await;
    harness.finish().await;
    Box::pin(withdraw()).await;
}

/// Withdraws consents at each of the four members in turn, and watches both holders until each refuses because of it.
async fn withdraw() {
    let queries_per_day = 10_000_000;
    let harness = Harness::with(Options { processes: true, queries_per_day, ..Options::default() }).await;
    harness.fill().await;
    let resident = json!({ "pesel": tests::pesel_of("mops+pup+css+zlm") });
    let ask = async |holder: &str, query: &str, id: &str| {
        let basis = json!({ "kind": "consent", "id": id });
        let outcome = harness.ask("mops", holder, query, resident.clone(), basis).await;
        (outcome.outcome, outcome.reason)
    };
    let mut took = Vec::new();
    for (unit, _) in UNITS.iter().cycle().take(WITHDRAWALS) {
        let body = json!({
            "resident": resident, "template": "instead-of-certificate", "recipient": "mops", "purposes": [PURPOSE],
            "modules": { "labour-status": "given", "benefits": "given" }, "days": 30,
            "evidence_sha256": cli::found::evidence().expect("random"),
        });
        let consent: node::ConsentReceipt =
            harness.post("css", "front-desk", "/v1/consents", &body).await.expect("a consent");
        let id = consent.id.to_string();
        for (holder, query) in HOLDERS {
            assert_eq!(ask(holder, query, &id).await.0, node::OutcomeKind::Answered, "it opens {holder} before");
        }
        let start = Instant::now();
        let body = json!({ "resident": resident, "consent": id });
        let taken = harness.post::<node::WithdrawalReceipt>(unit, "front-desk", "/v1/withdrawals", &body);
        let refused = async |(holder, query): (&str, &str)| {
            loop {
                match ask(holder, query, &id).await {
                    (node::OutcomeKind::Answered, _) => {}
                    (node::OutcomeKind::Denied, Some(reason)) if reason == "consent_withdrawn" => break,
                    other => panic!("{holder}: {other:?}"),
                }
            }
            start.elapsed().as_secs_f64() * 1e3
        };
        let [first, second] = HOLDERS;
        let (taken, first, second) = tokio::join!(taken, refused(first), refused(second));
        assert!(!taken.expect("taken").confirmed_by.is_empty(), "somebody knows it");
        took.push(first.max(second));
    }
    println!("withdrawal at each of four members in turn until the last of two holders refuses, {WITHDRAWALS} rounds");
    took.sort_by(f64::total_cmp);
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a short list")]
        let place = (share * count(took.len())).ceil() as usize;
        took.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    };
    println!("  ms: p50 {:.0}  p90 {:.0}  p99 {:.0}  max {:.0}", at(0.5), at(0.9), at(0.99), at(1.0));
    println!("  above {LIMIT_MS:.0} ms: {} of {WITHDRAWALS}", took.iter().filter(|ms| **ms > LIMIT_MS).count());
    harness.finish().await;
}

/// One part enrolled: imported and enrolled per second, processor time of all processes in µs each, the least it could be.
struct Round {
    imported: f64,
    enrolled: f64,
    cpu: f64,
    least: [f64; STEPS],
}

/// Enrols residents of one unit in ten parts, and measures in between the sum of the steps that nobody can do without.
async fn enrol(harness: &Harness, all: &[Resident]) {
    let parts: Vec<_> = UNITS.iter().map(|(unit, _)| (*unit, pid(node(&harness.federation, &member(unit))))).collect();
    let parts: Vec<_> = parts.into_iter().chain([("registry", pid(&harness.federation.registry))]).collect();
    let mut processes: Vec<ProcessTime> = parts.iter().map(|(_, pid)| ProcessTime::of(*pid)).collect();
    let memory = || parts.iter().map(|(_, pid)| mebibytes(resident_memory(*pid))).collect::<Vec<_>>();
    // Nobody has been asked for anything yet: connections, tables and threads are made here, not in the first part.
    import(harness, &residents(WARMING, "zlm")).await;
    harness.enrol("zlm").await.expect("enrolled");

    let mut least = Least::new();
    let (mut rounds, mut sizes, mut wall) = (Vec::new(), Vec::new(), Duration::ZERO);
    for part in all.chunks(all.len().div_ceil(PARTS)) {
        let (imported, _) = measured(&mut processes, import(harness, part)).await;
        let (enrolled, cpu) = measured(&mut processes, async {
            let enrolled = harness.enrol("mops").await.expect("enrolled");
            assert_eq!(enrolled.pseudonymised, u64::try_from(part.len()).unwrap_or(0), "each of them");
        })
        .await;
        wall += enrolled;
        sizes.push(memory());
        let rate = |wall: Duration| count(part.len()) / wall.as_secs_f64();
        rounds.push(Round {
            imported: rate(imported),
            enrolled: rate(enrolled),
            cpu: micros(cpu) / count(part.len()),
            least: least.measure(part.len()).await,
        });
    }
    let spread = |of: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
    let sum = |round: &Round| round.least.iter().sum::<f64>();
    println!("enrolment of {} residents, 2 of 3 holders, in {PARTS} parts: median (least–greatest)", all.len());
    println!("  imported per second           {:.0}", spread(&|r| r.imported));
    println!("  enrolled per second           {:.0}", spread(&|r| r.enrolled));
    println!("  all of them, minutes          {:.1}", wall.as_secs_f64() / 60.0);
    println!("  CPU of all processes, µs each {:.0}", spread(&|r| r.cpu));
    for (step, name) in floor::PARTS.iter().chain(&["the store's bulk upsert"]).enumerate() {
        println!("    {name}, µs: {:.1}", spread(&|r| r.least.get(step).copied().unwrap_or_default()));
    }
    println!("  their sum, µs                 {:.0}", spread(&sum));
    println!("  RATIO CPU / sum               {:.2}", spread(&|r| r.cpu / sum(r)));
    println!("  resident memory, MiB, with a tenth of the residents and with all");
    let (first, last) = (sizes.first().expect("a part"), sizes.last().expect("a part"));
    for ((name, _), (tenth, whole)) in parts.iter().zip(first.iter().zip(last)) {
        println!("    {name:<10} {tenth:>8.1} {whole:>8.1}  RATIO {:.2}", whole / tenth);
    }
}

/// The least that one resident costs: the steps of `floor`, by holders of made-up shares, and the upsert of its row into an
/// engine that grows as the registry's does.
struct Least {
    steps: floor::Floor,
    engine: registry::Embedded,
    _dir: tempfile::TempDir,
}

impl Least {
    fn new() -> Self {
        let keys = (0..THRESHOLD).map(|_| Scalar::random(&mut rng())).collect();
        let pesels: Vec<String> = residents(BATCH, "mops").iter().map(|resident| resident.pesel.to_owned()).collect();
        let dir = tempfile::tempdir().expect("a directory");
        let engine = registry::Embedded::open(&dir.path().join("index"), ENGINE_CACHE).expect("an engine");
        Least { steps: floor::Floor::of(keys, &pesels), engine, _dir: dir }
    }

    /// Processor time, in µs, of each step for one resident; `enrolled` rows are upserted.
    async fn measure(&mut self, enrolled: usize) -> [f64; STEPS] {
        let mut own = [ProcessTime::of(std::process::id())];
        let mut upsert = Duration::ZERO;
        let mut left = enrolled;
        while left > 0 {
            let rows = left.min(GROUP);
            left -= rows;
            let row = |_| (registry::RowKey(random()), registry::Row(Box::new([7; registry::ROW_BYTES])));
            let mut rows: Vec<_> = (0..rows).map(row).collect();
            rows.sort_unstable_by_key(|(key, _)| *key);
            let load = self.engine.load(rows, vec![], registry::Ledger::default());
            upsert += measured(&mut own, async { load.await.expect("stored") }).await.1;
        }
        let mut steps = [0.0; STEPS];
        let arithmetic = self.steps.measure().into_iter().map(|cost| micros(cost) / count(BATCH));
        for (step, cost) in steps.iter_mut().zip(arithmetic.chain([micros(upsert) / count(enrolled)])) {
            *step = cost;
        }
        steps
    }
}

fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rng().fill_bytes(&mut bytes);
    bytes
}

/// A result and this thread's processor time for it.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = thread_time();
    let result = work();
    (result, thread_time().saturating_sub(before))
}

async fn import(harness: &Harness, batch: &[Resident]) {
    let Some(unit) = batch.first().map(|resident| resident.units) else { return };
    let extracts = harness.extracts();
    write_extracts(&extracts, batch);
    harness.import(unit, &extracts.join(format!("{unit}.csv")), ImportMode::Update).await.expect("an import");
}

/// Wall clock and the processes' processor time.
async fn measured<T>(processes: &mut [ProcessTime], work: impl Future<Output = T>) -> (Duration, Duration) {
    let before: Duration = processes.iter_mut().map(ProcessTime::now).sum();
    let start = Instant::now();
    let _done = work.await;
    let wall = start.elapsed();
    (wall, processes.iter_mut().map(ProcessTime::now).sum::<Duration>().saturating_sub(before))
}

/// Starts nodes again and again, and weighs them when they have nothing to do.
async fn start(harness: &mut Harness) {
    let echo = Echo::start(&tls(&harness.federation, "zlm"), 1);
    for (unit, what) in [("zlm", "empty"), ("mops", "with residents")] {
        let (mut listening, mut ready, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let id = member(unit);
            let part = harness.federation.nodes.get_mut(&id).expect("a node");
            part.stop().await.expect("it stops");
            let start = Instant::now();
            part.restart().await.expect("it starts");
            listening.push(start.elapsed().as_secs_f64() * 1e3);
            let local = harness.federation.local(&id).expect("a local API");
            while local.send(http::Method::GET, "/health/ready", None, None).await.expect("an answer").0 != 200 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            ready.push(start.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(IDLE).await;
            memory.push(mebibytes(resident_memory(pid(node(&harness.federation, &id)))));
        }
        let bare = mebibytes(resident_memory(echo.pid()));
        println!("\na node, {what}, {ROUNDS} starts: median (least–greatest)");
        println!("  start to listening, ms        {:.0}", Spread::of(listening));
        println!("  start to ready, ms            {:.0}", Spread::of(ready));
        println!("  resident after 3 s, MiB       {:.1}", Spread::of(memory.iter().copied()));
        println!("  a bare hyper server, MiB      {bare:.1}");
        println!("  RATIO resident node / bare    {:.2}", Spread::of(memory.iter().map(|m| m / bare)));
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
