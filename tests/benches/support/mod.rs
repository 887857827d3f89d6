//! What the benchmarks share: processor time, medians with their spread, residents, a bare echo server.
#![expect(dead_code, reason = "each benchmark uses its part")]

pub(crate) mod echo;

use cli::federation::{Federation, Part};
use protocol::MemberId;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tests::Resident;

/// Whether cargo asks for measurements; `cargo test --all-targets` only wants to see the program start.
pub(crate) fn measuring() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// The median of several rounds with the least and the greatest.
pub(crate) struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        Spread { median: at(sorted.len() / 2), least: at(0), greatest: at(sorted.len().saturating_sub(1)) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let text =
            format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.least, self.greatest, digits = digits);
        // Not `pad`, which would cut the text to the precision.
        write!(f, "{text:>width$}", width = f.width().unwrap_or(0))
    }
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests and residents")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}

/// Processor time of this thread so far.
pub(crate) fn thread_time() -> Duration {
    // The kernel counts a running thread when it stops, or at the next tick.
    std::thread::sleep(Duration::from_micros(1));
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|used| used.parse().ok()).unwrap_or(0))
}

/// Processor time of one call of `work`, from `times` of them.
pub(crate) fn each<T>(times: u32, mut work: impl FnMut() -> T) -> Duration {
    let before = thread_time();
    for _ in 0..times {
        std::hint::black_box(work());
    }
    thread_time().saturating_sub(before) / times
}

/// Processor time of another process, to the nanosecond: the kernel's `sum_exec_runtime` of each of its threads, which
/// is what `getrusage` rounds to user and system time.
pub(crate) struct ProcessTime {
    pid: u32,
    threads: BTreeMap<String, u64>,
}

impl ProcessTime {
    pub(crate) fn of(pid: u32) -> Self {
        ProcessTime { pid, threads: BTreeMap::new() }
    }

    /// So far. A thread that ended since the last look counts as it was then.
    pub(crate) fn now(&mut self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).expect("a running process");
        for thread in threads.flatten() {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            if let Some(used) = text.split(' ').next().and_then(|used| used.parse().ok()) {
                self.threads.insert(thread.file_name().to_string_lossy().into_owned(), used);
            }
        }
        Duration::from_nanos(self.threads.values().sum())
    }

    /// So far, as `getrusage` has it: user and system time in hundredths of a second.
    pub(crate) fn ticks(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("a running process");
        // The name, in parentheses, may hold spaces; utime and stime are the 14th and 15th field.
        let fields = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The process of a unit.
pub(crate) fn process(part: &Part) -> &cli::process::Process {
    match part {
        Part::Process(process) => process,
        Part::Inside(_) => panic!("not a process"),
    }
}

/// The process id of a part.
pub(crate) fn pid(part: &Part) -> u32 {
    process(part).pid().expect("a running process")
}

/// The process of `unit`.
pub(crate) fn node<'a>(federation: &'a Federation, unit: &MemberId) -> &'a Part {
    federation.nodes.get(unit).expect("a node")
}

/// Residents known to `units`, with made-up valid PESELs of 1950–1999.
pub(crate) fn residents(count: usize, units: &'static str) -> Vec<Resident> {
    (0..count)
        .map(|n| {
            let (year, month, day, serial) = (50 + n % 50, 1 + n / 50 % 12, 1 + n / 600 % 28, n / 16_800);
            let mut pesel = format!("{year:02}{month:02}{day:02}{serial:04}");
            let sum: u32 = pesel.bytes().zip([1, 3, 7, 9].iter().cycle()).map(|(c, w)| u32::from(c - b'0') * w).sum();
            let _ = write!(pesel, "{}", (10 - sum % 10) % 10);
            Resident { pesel: pesel.leak(), units, sealed: false }
        })
        .collect()
}

/// Where a part keeps its certificates.
pub(crate) fn tls(federation: &Federation, part: &str) -> PathBuf {
    federation.founded.dir.join(part).join("tls")
}

/// Runs the echo server instead of the benchmark if this process was started to be it.
pub(crate) fn become_echo() -> bool {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(echo::ARGUMENT) {
        return false;
    }
    let (Some(tls), Some(length)) = (arguments.next(), arguments.next()) else { return false };
    echo::serve(Path::new(&tls), length.parse().expect("a length"));
    true
}
