//! What the log costs, each held against the least it could cost, in interleaved rounds of one run. Nothing is asserted
//! about time. `cargo bench -p audit`; with a number behind `--`, or in `OGNIWO_LOG_ENTRIES`, that many entries to search
//! in (default 100 000; `./check long` takes a million). What appends are held against writes to a file that was filled
//! with zeros ahead, as the log's own are: the harder baseline, since there `fdatasync` commits no new length. What a
//! growing file costs is printed beside it.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on stops")]

use std::{
    fs::{self, File},
    hint::black_box,
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

use audit::{Config, Filter, Log, verify_dir};
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

const ROUNDS: usize = 7;
const WRITERS: usize = 64;

fn main() {
    let mut arguments = std::env::args();
    if let Some(dir) = arguments.find(|argument| argument == VERIFY).and_then(|_| arguments.next()) {
        return verify_alone(Path::new(&dir));
    }
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut wanted = std::env::args().chain(std::env::var("OGNIWO_LOG_ENTRIES"));
    let entries = wanted.find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    alone();
    together();
    let (short, long) = (many(entries / 10), many(entries));
    println!("  RATIO most memory of verify, ten times the log {:>8.2}", long / short);
}

/// Makes this program verify the log in the directory that follows, and print the most memory that took.
const VERIFY: &str = "--verify";

fn verify_alone(dir: &Path) {
    verify_dir(dir, None, None, |_| ()).expect("verified");
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!("{}", peak.and_then(|peak| peak.split_whitespace().next()).expect("a peak"));
}

/// The most memory that verifying the log in `dir` takes, in KiB: of a process that does nothing else.
fn peak_of_verifying(dir: &Path) -> f64 {
    let program = std::env::current_exe().expect("this program");
    let ran = std::process::Command::new(program).arg(VERIFY).arg(dir).output().expect("it runs");
    String::from_utf8_lossy(&ran.stdout).trim().parse().expect("a number")
}

fn open(dir: &Path) -> Log {
    let begun = Instant::now();
    let now = Box::new(move || i64::try_from(begun.elapsed().as_secs()).unwrap_or_default());
    let (signing_key, payload_key) = (&[1; 32], &[2; 32]);
    Log::open(Config { dir, origin: "bench.example/log", signing_key, payload_key, now }).expect("a log")
}

/// As long as an answered query's.
fn entry(number: usize) -> Value {
    json!({
        "event": "query.answered", "time": 1_795_262_400, "file": format!("{:022}", number % 100_000), "asker": "mops",
        "holder": "pup", "user": "0".repeat(43), "role": "caseworker", "query": "q02", "purpose": "PUP-STATUS",
        "basis": "consent:AAAAAAAAAAAAAAAAAAAAAA recorded by mops on instead-of-certificate@1.0", "case": "0".repeat(43),
        "agreement": "mops-pup@1", "library": "0".repeat(43), "decision": "permit", "request": "0".repeat(43),
        "fields_requested": ["pup.dereg_reason", "pup.registered_from", "pup.registered_to", "pup.status"],
        "fields_returned": ["pup.registered_from", "pup.status"], "epoch": 1,
        "replay": { "jti": "AAAAAAAAAAAAAAAAAAAAAA", "until": 1_795_262_490 },
        "peer_log": { "origin": "mops/log", "index": 1_000, "entry": "0".repeat(43) },
    })
}

/// Bytes on the disk of one such entry: header, nonce, salt, payload, tag, check.
fn record() -> usize {
    48 + 12 + 32 + entry(0).to_string().len() + 16 + 16
}

/// One writer: what it waits for one entry, against one write of the same bytes and `fdatasync`.
fn alone() {
    println!("one writer, {ROUNDS} rounds of 200 entries: p50 in microseconds, median (least–greatest)");
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir().expect("a directory");
        let log = open(dir.path());
        let bytes = vec![7; record()];
        let entry = entry(0);
        let ours = p50(|_| drop(log.append_blocking(&entry).expect("a receipt")));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let task = p50(|_| drop(runtime.block_on(log.append(&entry)).expect("a receipt")));
        let question = p50(|_| {
            for _ in 0..2 {
                drop(runtime.block_on(log.append(&entry)).expect("a receipt"));
            }
        });
        let growing = Bare::growing(dir.path());
        let bare = p50(|number| growing.write(&bytes, number));
        let ahead = Bare::ahead(dir.path(), 200 * bytes.len());
        let fixed = p50(|number| ahead.write(&bytes, number));
        rounds.push([ours, task, question, bare, fixed]);
    }
    print("the log, a thread", &rounds, |r| r[0]);
    print("the log, an async task", &rounds, |r| r[1]);
    print("the two entries of a question asked", &rounds, |r| r[2]);
    print("bare write + fdatasync, file written ahead", &rounds, |r| r[4]);
    print("the same on a growing file", &rounds, |r| r[3]);
    print("RATIO thread / bare", &rounds, |r| r[0] / r[4]);
    print("RATIO task / bare", &rounds, |r| r[1] / r[4]);
    print("RATIO question asked / bare", &rounds, |r| r[2] / r[4]);
}

fn p50(mut append: impl FnMut(usize)) -> f64 {
    let mut times: Vec<Duration> = (0..200)
        .map(|number| {
            let start = Instant::now();
            append(number);
            start.elapsed()
        })
        .collect();
    times.sort();
    times.get(100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

/// 64 writers, against a bare group commit by the same threads: one writes and syncs for all who wait.
fn together() {
    const EACH: usize = 200;
    println!("\n{WRITERS} writers, {ROUNDS} rounds of {} entries: entries per second", WRITERS * EACH);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir().expect("a directory");
        let log = open(dir.path());
        let entry = entry(0);
        let ours = rate(EACH, |_| drop(log.append_blocking(&entry).expect("a receipt")));
        let tasks = tasks(&log, EACH);
        drop(log);
        let bytes = vec![7; record()];
        let growing = GroupCommit::new(Bare::growing(dir.path()));
        let bare = rate(EACH, |_| growing.append(&bytes));
        let ahead = GroupCommit::new(Bare::ahead(dir.path(), WRITERS * EACH * bytes.len()));
        let fixed = rate(EACH, |_| ahead.append(&bytes));
        rounds.push([ours, tasks, bare, fixed]);
    }
    print("the log, threads", &rounds, |r| r[0]);
    print("the log, async tasks", &rounds, |r| r[1]);
    print("bare group commit, file written ahead", &rounds, |r| r[3]);
    print("the same on a growing file", &rounds, |r| r[2]);
    print("RATIO threads / bare", &rounds, |r| r[0] / r[3]);
    print("RATIO tasks / bare", &rounds, |r| r[1] / r[3]);
}

fn rate(each: usize, append: impl Fn(usize) + Sync) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| (0..each).for_each(&append));
        }
    });
    count(WRITERS * each) / start.elapsed().as_secs_f64()
}

fn tasks(log: &Log, each: usize) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let start = Instant::now();
    runtime.block_on(async {
        let append = |log: Log| async move {
            let entry = entry(0);
            for _ in 0..each {
                drop(log.append(&entry).await.expect("a receipt"));
            }
        };
        let tasks: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(append(log.clone()))).collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
    count(WRITERS * each) / start.elapsed().as_secs_f64()
}

/// A file, and nothing else.
struct Bare(File);

impl Bare {
    fn growing(dir: &Path) -> Self {
        Self(File::create(dir.join("growing")).expect("a file"))
    }

    fn ahead(dir: &Path, bytes: usize) -> Self {
        let file = File::create(dir.join("ahead")).expect("a file");
        file.write_all_at(&vec![0; bytes], 0).and_then(|()| file.sync_all()).expect("zeros");
        Self(file)
    }

    fn write(&self, bytes: &[u8], number: usize) {
        let at = u64::try_from(number * bytes.len()).unwrap_or_default();
        self.0.write_all_at(bytes, at).and_then(|()| self.0.sync_data()).expect("a write");
    }
}

/// The textbook's: a lock, a condition, a batch.
struct GroupCommit {
    file: Bare,
    state: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    at: u64,
    taken: u64,
    batch: u64,
    done: u64,
    busy: bool,
}

impl GroupCommit {
    fn new(file: Bare) -> Self {
        Self { file, state: Mutex::default(), changed: Condvar::new() }
    }

    fn append(&self, bytes: &[u8]) {
        let mut state = self.state.lock().expect("no panic");
        state.bytes.extend(bytes);
        let mine = state.batch;
        while state.done <= mine {
            if state.busy {
                state = self.changed.wait(state).expect("no panic");
                continue;
            }
            state.busy = true;
            state.batch += 1;
            let (batch, at) = (std::mem::take(&mut state.bytes), state.at);
            state.at += u64::try_from(batch.len()).unwrap_or_default();
            state.taken = state.batch;
            drop(state);
            self.file.0.write_all_at(&batch, at).and_then(|()| self.file.0.sync_data()).expect("a write");
            state = self.state.lock().expect("no panic");
            state.done = state.taken;
            state.busy = false;
            self.changed.notify_all();
        }
    }
}

/// A long log: verifying it against a SHA-256 over the same bytes, and finding one resident in it; the most memory of
/// verifying, KiB.
fn many(entries: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for first in 0..WRITERS {
            let log = &log;
            let append = move |number| drop(log.append_blocking(&entry(number)).expect("a receipt"));
            scope.spawn(move || (first..entries).step_by(WRITERS).for_each(append));
        }
    });
    println!("\n{entries} entries, written in {:.1} s", start.elapsed().as_secs_f64());
    let file = |number: usize| Filter { file: Some(format!("{number:022}")), ..Filter::default() };
    // Indexes what the log has not got round to.
    drop(log.search(&file(entries), 0, 1));
    let mut searches = Vec::new();
    for round in 0..5 * ROUNDS {
        let start = Instant::now();
        let page = log.search(&file(round * 97), 0, 100).expect("a page");
        searches.push([start.elapsed().as_secs_f64() * 1e3, count(page.entries.len())]);
    }
    print("entries of one resident", &searches, |r| r[1]);
    print("finding them, ms", &searches, |r| r[0]);
    drop(log);

    let mut rounds = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let bytes = hash(&dir.path().join("records"));
        let bare = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let report = verify_dir(dir.path(), None, None, |_| ()).expect("verified");
        let ours = start.elapsed().as_secs_f64();
        rounds.push([count(bytes) / ours / 1e6, count(bytes) / bare / 1e6]);
        black_box(report);
    }
    print("verify, MB/s", &rounds, |r| r[0]);
    print("bare SHA-256 of the records, MB/s", &rounds, |r| r[1]);
    print("RATIO verify / bare", &rounds, |r| r[0] / r[1]);
    let peak = peak_of_verifying(dir.path());
    print("most memory of verify, KiB, whatever the length", &[[peak]], |r| r[0]);
    peak
}

fn hash(records: &Path) -> usize {
    let (mut context, mut bytes, mut buffer) = (Context::new(&SHA256), 0, vec![0; 1 << 16]);
    for file in fs::read_dir(records).expect("records").flatten() {
        let mut file = File::open(file.path()).expect("a file");
        loop {
            let read = file.read(&mut buffer).expect("bytes");
            if read == 0 {
                break;
            }
            context.update(buffer.get(..read).unwrap_or_default());
            bytes += read;
        }
    }
    black_box(context.finish());
    bytes
}

#[expect(clippy::cast_precision_loss, reason = "counts of entries and bytes")]
fn count(number: usize) -> f64 {
    number as f64
}

fn print<const N: usize>(what: &str, rounds: &[[f64; N]], of: impl Fn(&[f64; N]) -> f64) {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    println!("  {what:<44} {:>10.2} ({:.2}–{:.2})", at(values.len() / 2), at(0), at(values.len().saturating_sub(1)));
}
