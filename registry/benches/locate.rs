//! Locating, against bare reads of exactly the same row keys in the same batches: the embedded engine and PostgreSQL.
//!
//! `cargo bench -p registry --bench locate`. `OGNIWO_BENCH_ENTRIES` sets how many rows there are (default 1000000),
//! `OGNIWO_BENCH_BATCHES` how many batches of 1000 indexes are located in a round (default 20), `OGNIWO_BENCH_ENGINE` which
//! engine alone is tried (`embedded`, `postgres`). A request goes through the
//! registry's router: signature, own entry, every member of the audience, nobody's place, log entry on the disk, answer.
//! Rounds of the two take turns, so that whatever else the machine does falls on both; the ratio is of their medians. The
//! bare reader reads as many parts of a batch at once as the registry does.
//!
//! Then it is asked whether time tells apart what is answered alike, in `OGNIWO_BENCH_TIMINGS` rounds (default 2000).

#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]
#![expect(clippy::cast_precision_loss, reason = "rates are rough")]

#[path = "locate/alike.rs"]
mod alike;
#[path = "../tests/it/federation.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod federation;

use federation::{DAY, Federation, agreement, institution, member, no_passphrase};
use keyring::StorageKey;
use protocol::registry::{LocateRequest, SEALED_BYTES};
use protocol::{Epoch, Index};
use redb::{Database, DatabaseError, ReadableDatabase as _, TableDefinition};
use registry::{
    Blind, Cluster, Content, Embedded, Engine, IndexStore, Ledger, Postgres, PostgresConfig, ROW_BYTES, RowKey, State,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Beside the asker.
const PARTNERS: [&str; 7] = ["css", "pup", "zlm", "sp1", "sp2", "zoz", "gops"];
/// Rows of one resident.
const ROWS_EACH: usize = 3;
const BATCH: usize = 1000;
/// Parts of a batch that the registry works on at once, and the bare reader too.
const LANES: usize = 4;
const ROUNDS: usize = 5;

fn main() {
    let (entries, batches) = (number("OGNIWO_BENCH_ENTRIES", 1_000_000), number("OGNIWO_BENCH_BATCHES", 20));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("locating in {entries} rows, {batches} batches of {BATCH} indexes a round, {ROUNDS} rounds");
        println!("one index is {} rows: own, {} members, nobody's", PARTNERS.len() + 2, PARTNERS.len());
        println!(
            "{:<12} {:>10} {:>14} {:>14} {:>8} {:>12} {:>12}",
            "engine", "in flight", "locate/s", "bare/s", "ratio", "p50 ms", "p99 ms"
        );
        let wanted = std::env::var("OGNIWO_BENCH_ENGINE").ok();
        for engine in [Engine::Embedded, Engine::Postgres] {
            if wanted.as_deref().is_none_or(|wanted| wanted == name(engine)) {
                run(engine, entries, batches).await;
            }
        }
    });
}

async fn run(engine: Engine, entries: usize, batches: usize) {
    let cluster = (engine == Engine::Postgres)
        .then(|| Cluster::start(&["shared_buffers=1GB", "max_wal_size=8GB", "maintenance_work_mem=256MB"]).unwrap());
    let mut federation = Federation::unpublished().await;
    federation.config.engine = engine;
    federation.config.cache_bytes = 1 << 30;
    federation.config.shares.indexes_per_second = usize::MAX >> 20;
    federation.config.shares.misses_per_day = u64::MAX >> 1;
    federation.config.postgres = cluster.as_ref().map(|cluster| cluster.settings("postgres"));
    federation.restart().await;
    federation.registry().publish(federation.manifest.clone()).await.unwrap();
    federation
        .amend(|manifest| {
            for name in PARTNERS.iter().skip(3) {
                manifest.members.push(institution(name));
                manifest.agreements.push(agreement("mops", name));
            }
        })
        .await;
    let blind = secrets(&federation);
    federation.stop();
    fill(&federation, engine, &blind, entries).await;
    federation.restart().await;

    for flights in [1, 4] {
        let (mut located, mut bare, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let work: Vec<LocateRequest> = (0..batches)
                .map(|batch| {
                    let seed = (round * batches + batch) * BATCH;
                    let residents = entries / ROWS_EACH;
                    let mut request = federation.locate_request("mops", &[]);
                    request.indexes = (seed..seed + BATCH).map(|n| index(n.wrapping_mul(7919) % residents)).collect();
                    request
                })
                .collect();
            let keys: Vec<Vec<RowKey>> = work.iter().flat_map(|request| probes(&blind, request)).collect();
            let began = Instant::now();
            times.extend(locate(&federation, &work, flights).await);
            located.push(began.elapsed());
            bare.push(if let Some(cluster) = &cluster {
                read_postgres(&cluster.settings("postgres"), keys, flights).await
            } else {
                federation.stop();
                let took = read_redb(&federation, &keys, flights);
                federation.restart().await;
                took
            });
        }
        times.sort_unstable();
        let speed = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            (batches * BATCH) as f64 / times[times.len() / 2].as_secs_f64()
        };
        let (located, bare) = (speed(&mut located), speed(&mut bare));
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        println!(
            "{:<12} {flights:>10} {located:>14.0} {bare:>14.0} {:>8.2} {:>12.1} {:>12.1}",
            name(engine),
            located / bare,
            at(50),
            at(99)
        );
    }
    alike::compare(&federation, number("OGNIWO_BENCH_TIMINGS", 2_000)).await;
}

fn name(engine: Engine) -> String {
    format!("{engine:?}").to_lowercase()
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn index(n: usize) -> Index {
    Index(protocol::encoding::sha256(&[b"resident", &n.to_be_bytes()]))
}

fn secrets(federation: &Federation) -> Blind {
    let secret = |source| StorageKey::obtain(source, no_passphrase).unwrap();
    Blind::new(&secret(&federation.config.storage_key), &secret(&federation.config.pepper))
}

/// Every resident is the asker's client and that of two of its partners.
async fn fill(federation: &Federation, engine: Engine, blind: &Blind, entries: usize) {
    let store: Arc<dyn IndexStore> = match &federation.config.postgres {
        Some(settings) if engine == Engine::Postgres => Arc::new(Postgres::open(settings).await.unwrap()),
        _ => Arc::new(Embedded::open(&federation.config.index(), federation.config.cache_bytes).unwrap()),
    };
    let everybody = PARTNERS.iter().chain(&["mops"]).map(|name| member(name)).collect();
    let (now, sealed) = (federation.clock.now(), [7; SEALED_BYTES]);
    let content =
        Content { expires: now + 300 * DAY, since: now, state: State::Live, audience: &everybody, sealed: &sealed };
    let residents: Vec<usize> = (0..entries / ROWS_EACH).collect();
    for chunk in residents.chunks(10_000) {
        let seal = |part: &[usize]| -> Vec<_> {
            let writers = |n: usize| ["mops", PARTNERS[n % PARTNERS.len()], PARTNERS[(n + 1) % PARTNERS.len()]];
            let rows = part.iter().flat_map(|n| writers(*n).map(|name| (index(*n), member(name))));
            let key = |(index, name)| blind.row_key(Epoch(1), &index, &name);
            rows.map(key).map(|key| (key, blind.seal(&key, &content).unwrap())).collect()
        };
        let (left, right) = chunk.split_at(chunk.len() / 2);
        let mut rows = std::thread::scope(|scope| {
            let other = scope.spawn(|| seal(right));
            let mut rows = seal(left);
            rows.extend(other.join().unwrap());
            rows
        });
        rows.sort_unstable_by_key(|(key, _)| *key);
        store.load(rows, vec![], Ledger::default()).await.unwrap();
    }
    let rows = alike::rows(federation, blind, number("OGNIWO_BENCH_TIMINGS", 2_000));
    store.load(rows, vec![], Ledger::default()).await.unwrap();
}

/// The keys that locating `request` reads, in [`LANES`] parts, each in the order of keys, as the engine reads them.
fn probes(blind: &Blind, request: &LocateRequest) -> Vec<Vec<RowKey>> {
    let members: Vec<_> = std::iter::once("mops").chain(PARTNERS).map(member).collect();
    let of = |index: &Index| {
        let mut keys: Vec<_> = members.iter().map(|member| blind.row_key(request.epoch, index, member)).collect();
        keys.push(blind.honeypot_key(request.epoch, index));
        keys
    };
    let part = |indexes: &[Index]| {
        let mut keys: Vec<RowKey> = indexes.iter().flat_map(of).collect();
        keys.sort_unstable();
        keys
    };
    request.indexes.chunks(BATCH / LANES).map(part).collect()
}

async fn locate(federation: &Federation, work: &[LocateRequest], flights: usize) -> Vec<Duration> {
    let lane = async |lane: usize| {
        let mut times = Vec::new();
        for request in work.iter().skip(lane).step_by(flights) {
            let began = Instant::now();
            let reply = federation.send("POST", "/v1/locate", request).await;
            assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
            times.push(began.elapsed());
        }
        times
    };
    futures_util::future::join_all((0..flights).map(lane)).await.concat()
}

fn read_redb(federation: &Federation, work: &[Vec<RowKey>], flights: usize) -> Duration {
    let open = || Database::builder().set_cache_size(federation.config.cache_bytes).open(federation.config.index());
    // The registry's last handle may be let go a moment after it was stopped.
    let waited = Instant::now();
    let db = loop {
        match open() {
            Err(DatabaseError::DatabaseAlreadyOpen) if waited.elapsed() < Duration::from_mins(1) => {
                std::thread::sleep(Duration::from_millis(50));
            }
            opened => break opened.unwrap(),
        }
    };
    let (db, lanes) = (&db, flights * LANES);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for lane in 0..lanes {
            scope.spawn(move || {
                for keys in work.iter().skip(lane).step_by(lanes) {
                    let rows = TableDefinition::<&[u8; 32], &[u8; ROW_BYTES]>::new("rows");
                    let table = db.begin_read().unwrap().open_table(rows).unwrap();
                    let read = |key: &RowKey| table.get(&key.0).unwrap().map(|row| Box::new(*row.value()));
                    std::hint::black_box(keys.iter().map(read).collect::<Vec<_>>());
                }
            });
        }
    });
    began.elapsed()
}

async fn read_postgres(settings: &PostgresConfig, work: Vec<Vec<RowKey>>, flights: usize) -> Duration {
    let (mut lanes, connections) = (Vec::new(), flights * LANES);
    for lane in 0..connections {
        let (client, connection) = tokio_postgres::connect(&settings.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
        let statement = client.prepare("SELECT key, row FROM entries WHERE key = ANY($1)").await.unwrap();
        let mine: Vec<_> = work.iter().skip(lane).step_by(connections).cloned().collect();
        lanes.push((client, statement, mine));
    }
    let began = Instant::now();
    let lane =
        async |(client, statement, work): (tokio_postgres::Client, tokio_postgres::Statement, Vec<Vec<RowKey>>)| {
            for keys in work {
                let keys: Vec<&[u8]> = keys.iter().map(|key| key.0.as_slice()).collect();
                let rows = client.query(&statement, &[&keys]).await.unwrap();
                let row =
                    |row: &tokio_postgres::Row| Box::new(<[u8; ROW_BYTES]>::try_from(row.get::<_, &[u8]>(1)).unwrap());
                std::hint::black_box(rows.iter().map(row).collect::<Vec<_>>());
            }
        };
    let tasks: Vec<_> = lanes.into_iter().map(|work| tokio::spawn(lane(work))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    began.elapsed()
}
