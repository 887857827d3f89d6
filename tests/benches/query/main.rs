//! What a query costs the holder: checked, decided, read, signed, on the disk's log before it is answered — by the
//! release program as a process of its own, against, in the same rounds of the same run,
//!
//! * the **echo**: hyper over rustls alone, the same mutual TLS, HTTP/2 and message sizes, in a process of its own;
//! * the **sum**: three Ed25519 verifications (request, ticket, grant), one signature, one Cedar evaluation, and the
//!   echo's processor time;
//! * the **disk**: one write of a log record's length and one `fdatasync`, on the disk the holder's log is on, into a file
//!   that was filled ahead as the log's own are. What a query takes longer than the echo, less the processor time it takes
//!   more, is what it waits for.
//!
//! Requests are signed before the clock starts. Product and echo take turns, so that what else the machine does meets
//! both. Nothing is asserted about time: the ratios are printed.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

mod asker;
mod sum;
#[path = "../support/mod.rs"]
mod support;

use asker::{Asker, Known};
use bytes::Bytes;
use http::Request;
use protocol::consent::{Grant, TemplateRef};
use protocol::manifest::KeyUse;
use protocol::query::AnswerMessage;
use protocol::{ConsentId, MemberId, Timestamp};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use sum::{Cedar, Cost, Parts, Signed};
use support::echo::Echo;
use support::{ProcessTime, Spread, count, micros, node, pid, residents, tls};
use tests::{Harness, Options, member, write_extracts};
use transport::Client;

/// Rounds for each number of callers, and how many requests each of them makes of either server.
const ROUNDS: usize = 7;
const LOADS: [(usize, usize); 3] = [(1, 300), (8, 1_200), (32, 2_400)];
const RESIDENTS: usize = 2_000;
/// Residents asked about.
const ASKED: usize = 16;
/// Length of the record of an answered query in the log, near enough, bytes.
const RECORD: usize = 1_600;
/// Times each part of the sum is done in a round.
const TIMES: u32 = 300;
const DEADLINE: Duration = Duration::from_secs(30);

fn main() {
    if support::become_echo() || !support::measuring() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let options = Options { processes: true, queries_per_day: 10_000_000, ..Options::default() };
    let harness = Harness::with(options).await;
    let stage = Stage::set(&harness).await;
    println!(
        "{} residents at each of mops and pup; request {} B, answer {} B, ticket {} B, grant {} B",
        RESIDENTS,
        stage.question(0).len(),
        stage.answer,
        stage.tickets.first().map_or(0, String::len),
        stage.grant,
    );
    let mut holder = ProcessTime::of(stage.holder.pid);
    let mut echo = ProcessTime::of(stage.echo.pid);
    let mut tables: Vec<(usize, Vec<Round>)> = LOADS.iter().map(|(callers, _)| (*callers, Vec::new())).collect();
    let (mut asked, ticks) = (0, holder.ticks());
    let started = holder.now();
    // The first round of all warms both up and is not counted.
    for round in 0..=ROUNDS {
        let tickets = stage.asker.tickets(&stage.known).await;
        for ((callers, rounds), (_, requests)) in tables.iter_mut().zip(LOADS) {
            let bodies = stage.bodies(&tickets, requests);
            let product = stage.holder.load(&stage.asker, &bodies, *callers, &mut holder).await;
            let echo = stage.echo.load(&stage.asker, &bodies, *callers, &mut echo).await;
            let (cost, disk) = (stage.parts.measure(TIMES), stage.disk.p50());
            asked += requests;
            if round > 0 {
                rounds.push(Round { product, echo, cost, disk });
            }
        }
    }
    let (by_threads, by_ticks) = (holder.now().saturating_sub(started), holder.ticks().saturating_sub(ticks));
    for (callers, rounds) in &tables {
        print(*callers, rounds);
    }
    print_parts(&tables);
    println!(
        "all {asked} queries together: {:.0} µs each by schedstat, {:.0} µs by getrusage's user and system time",
        micros(by_threads) / count(asked),
        micros(by_ticks) / count(asked)
    );
    harness.finish().await;
}

/// Product and echo once each, and the parts of the sum.
struct Round {
    product: Load,
    echo: Load,
    cost: Cost,
    /// One write and `fdatasync`, µs.
    disk: f64,
}

/// What a server did with one load.
struct Load {
    cpu: Duration,
    per_second: f64,
    /// Ascending.
    latencies: Vec<Duration>,
}

impl Load {
    fn quantile(&self, part: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
        let place = (count(self.latencies.len()) * part) as usize;
        self.latencies.get(place).map_or(f64::NAN, |latency| micros(*latency))
    }
}

impl Round {
    fn sum(&self) -> f64 {
        micros(self.cost.sum() + self.echo.cpu)
    }

    /// What a query takes longer than the echo, µs.
    fn added(&self) -> f64 {
        self.product.quantile(0.5) - self.echo.quantile(0.5)
    }

    /// The same without what is computed meanwhile.
    fn waited(&self) -> f64 {
        self.added() - (micros(self.product.cpu) - micros(self.echo.cpu))
    }
}

fn print(callers: usize, rounds: &[Round]) {
    let spread = |of: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
    println!("\n{callers} at once, {} rounds: median (least–greatest)      product | echo", rounds.len());
    let pair = |name: &str, of: &dyn Fn(&Load) -> f64| {
        let (product, echo) = (spread(&|round| of(&round.product)), spread(&|round| of(&round.echo)));
        println!("  {name:<34} {product:>26.0} | {echo:>26.0}");
    };
    pair("server CPU per request, µs", &|load| micros(load.cpu));
    pair("requests per second", &|load| load.per_second);
    pair("latency p50, µs", &|load| load.quantile(0.5));
    pair("latency p99, µs", &|load| load.quantile(0.99));
    println!("  {:<34} {:>26.0}", "the sum, µs", spread(&Round::sum));
    let ratio = |name: &str, of: &dyn Fn(&Round) -> f64| println!("  {name:<34} {:>26.2}", spread(of));
    ratio("RATIO product CPU / sum (≤ 2)", &|round| micros(round.product.cpu) / round.sum());
    ratio("RATIO product CPU / echo CPU", &|round| micros(round.product.cpu) / micros(round.echo.cpu));
    ratio("RATIO product req/s / echo req/s", &|round| round.product.per_second / round.echo.per_second);
    ratio("RATIO product p99 / echo p99", &|round| round.product.quantile(0.99) / round.echo.quantile(0.99));
    if callers == 1 {
        println!("  {:<34} {:>26.0}", "one bare write + fdatasync p50, µs", spread(&|round| round.disk));
        println!("  {:<34} {:>26.0}", "added p50 per query, µs", spread(&Round::added));
        println!("  {:<34} {:>26.0}", "of it waited, µs", spread(&Round::waited));
        ratio("RATIO added / fdatasync", &|round| round.added() / round.disk);
        ratio("RATIO waited / fdatasync (≤ 2)", &|round| round.waited() / round.disk);
    }
}

fn print_parts(tables: &[(usize, Vec<Round>)]) {
    let costs: Vec<Cost> = tables.iter().flat_map(|(_, rounds)| rounds).map(|round| round.cost).collect();
    let spread = |of: &dyn Fn(&Cost) -> Duration| Spread::of(costs.iter().map(|cost| micros(of(cost))));
    println!("\nparts of the sum, CPU µs");
    let line = |name: &str, of: &dyn Fn(&Cost) -> Duration| println!("  {name:<52} {:>20.1}", spread(of));
    line("verify the request (aws-lc-rs)", &|cost| cost.verify[0]);
    line("verify the ticket (aws-lc-rs)", &|cost| cost.verify[1]);
    line("verify the grant (aws-lc-rs)", &|cost| cost.verify[2]);
    line("the three by ring", &|cost| cost.verify_ring.iter().sum());
    line("sign the answer (aws-lc-rs)", &|cost| cost.sign);
    line("sign it by ring", &|cost| cost.sign_ring);
    line("one Cedar evaluation", &|cost| cost.cedar);
    line("  not in the sum: with the request built for it", &|cost| cost.cedar_with_request);
    line("all but the echo", &Cost::sum);
}

/// A file on the disk of the holder's log, written ahead.
struct Disk {
    file: File,
    record: Vec<u8>,
}

impl Disk {
    /// Writes measured at once.
    const WRITES: usize = 200;

    /// Beside the holder's log, for records of `length` bytes.
    fn beside(log: &Path, length: usize) -> Self {
        let file = File::create(log.join("bare")).expect("a file");
        file.write_all_at(&vec![0; Self::WRITES * length], 0).and_then(|()| file.sync_all()).expect("zeros");
        Disk { file, record: vec![7; length] }
    }

    /// What one write and one `fdatasync` take, µs.
    fn p50(&self) -> f64 {
        let mut times: Vec<Duration> = (0..Self::WRITES)
            .map(|number| {
                let (start, at) = (Instant::now(), number * self.record.len());
                let at = u64::try_from(at).expect("a place");
                self.file.write_all_at(&self.record, at).and_then(|()| self.file.sync_data()).expect("a write");
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        times.get(Self::WRITES / 2).map_or(f64::NAN, |time| micros(*time))
    }
}

/// A server under load.
struct Server {
    pid: u32,
    url: String,
    path: &'static str,
    id: MemberId,
    /// What an answer that is not wanted ends with.
    bad: &'static [u8],
}

impl Server {
    /// Puts all `bodies` with `callers` at once.
    async fn load(&self, asker: &Asker, bodies: &Arc<[Bytes]>, callers: usize, time: &mut ProcessTime) -> Load {
        let (next, before, start) = (Arc::new(AtomicUsize::new(0)), time.now(), Instant::now());
        let mut calling = tokio::task::JoinSet::new();
        for _ in 0..callers {
            let caller = Caller {
                client: asker.client.clone(),
                to: asker.spiffe(&self.id),
                url: self.url.clone(),
                path: self.path,
                bad: self.bad,
            };
            calling.spawn(caller.call(bodies.clone(), next.clone()));
        }
        let mut latencies: Vec<Duration> = calling.join_all().await.into_iter().flatten().collect();
        let (wall, cpu) = (start.elapsed(), time.now().saturating_sub(before));
        latencies.sort_unstable();
        let requests = count(bodies.len());
        Load { cpu: cpu.div_f64(requests), per_second: requests / wall.as_secs_f64(), latencies }
    }
}

/// One of those who call at once.
struct Caller {
    client: Arc<Client>,
    to: protocol::SpiffeId,
    url: String,
    path: &'static str,
    bad: &'static [u8],
}

impl Caller {
    /// Takes bodies until none is left.
    async fn call(self, bodies: Arc<[Bytes]>, next: Arc<AtomicUsize>) -> Vec<Duration> {
        let mut latencies = Vec::with_capacity(bodies.len());
        while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
            let request = Request::post(self.path).body(body.clone()).expect("a request");
            let start = Instant::now();
            let answer = self.client.call(&self.to, &self.url, request, DEADLINE).await.expect("an answer");
            latencies.push(start.elapsed());
            assert!(!answer.body().ends_with(self.bad), "a query was refused: see the holder's log");
        }
        latencies
    }
}

/// A filled federation, a member that knows some of its residents and has their consent, and the echo.
struct Stage {
    asker: Asker,
    known: Vec<Known>,
    tickets: Vec<String>,
    consents: Vec<ConsentId>,
    holder: Server,
    echo: Server,
    parts: Parts,
    disk: Disk,
    answer: usize,
    grant: usize,
    _echo: Echo,
}

impl Stage {
    async fn set(harness: &Harness) -> Self {
        let residents = residents(RESIDENTS, "mops+pup");
        let extracts = harness.extracts();
        write_extracts(&extracts, &residents);
        for unit in ["mops", "pup"] {
            let extract = extracts.join(format!("{unit}.csv"));
            harness.import(unit, &extract, node::ImportMode::Update).await.expect("an import");
            harness.enrol(unit).await.expect("an enrolment");
        }
        let pesels: Vec<&str> = residents.iter().step_by(RESIDENTS / ASKED).map(|resident| resident.pesel).collect();
        let mut consents = Vec::new();
        for pesel in &pesels {
            consents.push(harness.consent("mops", "mops", json!({ "pesel": pesel })).await.expect("a consent").id);
        }
        let (asker, pup) = (Asker::open(&harness.federation, "mops"), member("pup"));
        let known = asker.meet(&pesels, &pup).await;
        let tickets = asker.tickets(&known).await;
        let part = node(&harness.federation, &pup);
        let url = format!("https://{}", part.listening().peers);
        let holder = Server { pid: pid(part), url, path: "/v1/query", id: pup, bad: b"\"disclosures\":[]}" };

        let (first, ticket) = (known.first().expect("somebody"), tickets.first().expect("a ticket"));
        let question = asker.question(&holder.id, first, ticket, *consents.first().expect("a consent"));
        let request = Request::post(holder.path).body(Bytes::from(question.clone())).expect("a request");
        let answer = asker.client.call(&asker.spiffe(&holder.id), &holder.url, request, DEADLINE).await;
        let answer = answer.expect("an answer").into_body();
        let message: AnswerMessage = serde_json::from_slice(&answer).expect("an answer");
        let grant = asker.sign(&grant(&asker, first, *consents.first().expect("a consent")));

        let key = |owner: &MemberId| {
            let mut keys = asker.manifest.keys_of(owner, KeyUse::Message, asker.now());
            keys.next().expect("a key").0
        };
        let registry = &asker.manifest.registry().expect("a registry").id;
        let fields = question_fields();
        let parts = Parts {
            request: Signed::of(&question, key(&asker.me)),
            ticket: Signed::of(ticket, key(registry)),
            grant: Signed::of(&grant, key(&asker.me)),
            answer: message.answer.rsplit_once('.').expect("a JWS").0.as_bytes().to_vec(),
            cedar: Cedar::new(&fields, &sealed_fields()),
        };
        let running = Echo::start(&tls(&harness.federation, "pup"), answer.len());
        let echo = Server {
            pid: running.pid(),
            url: format!("https://{}", running.address),
            path: "/v1/query",
            id: holder.id.clone(),
            bad: b"-",
        };
        Stage {
            asker,
            known,
            tickets,
            consents,
            holder,
            echo,
            parts,
            disk: Disk::beside(&harness.home().join("pup/data"), RECORD),
            answer: answer.len(),
            grant: grant.len(),
            _echo: running,
        }
    }

    fn question(&self, n: usize) -> String {
        self.question_with(&self.tickets, n)
    }

    fn question_with(&self, tickets: &[String], n: usize) -> String {
        let who = n % self.known.len();
        let (known, ticket) = (self.known.get(who).expect("somebody"), tickets.get(who).expect("a ticket"));
        self.asker.question(&self.holder.id, known, ticket, *self.consents.get(who).expect("a consent"))
    }

    /// Questions signed now.
    fn bodies(&self, tickets: &[String], number: usize) -> Arc<[Bytes]> {
        (0..number).map(|n| Bytes::from(self.question_with(tickets, n))).collect()
    }
}

fn question_fields() -> Vec<String> {
    let library = policies::Library::builtin().expect("the library");
    let query = "q02".parse().expect("a query");
    let query = library.catalogue().queries.get(&query).expect("q02");
    query.fields.iter().map(ToString::to_string).collect()
}

fn sealed_fields() -> Vec<String> {
    let library = policies::Library::builtin().expect("the library");
    let fields = library.catalogue().fields.iter();
    fields.filter(|(_, field)| field.sealed).map(|(id, _)| id.to_string()).collect()
}

/// A grant such as the recorder delivered to the holder.
fn grant(asker: &Asker, known: &Known, consent: ConsentId) -> Grant {
    let now: Timestamp = asker.now();
    Grant {
        iss: asker.me.clone(),
        aud: member("pup"),
        iat: now,
        consent,
        sub: known.subject,
        epoch: protocol::Epoch(1),
        recipient: asker.me.clone(),
        purposes: [tests::PURPOSE.parse().expect("a purpose")].into(),
        fields: question_fields().iter().map(|id| id.parse().expect("a field")).collect(),
        modules: ["labour-status".to_owned()].into(),
        acting: protocol::consent::Acting::Resident,
        valid_from: now,
        valid_to: now + 30 * 86_400,
        template: TemplateRef { id: "instead-of-certificate".into(), version: "1.0".into() },
        evidence: protocol::Bytes(vec![1; 32]),
        collected_by: protocol::Bytes(vec![2; 32]),
        status: 0,
    }
}
