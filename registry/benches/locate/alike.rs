//! Whether time tells apart what is answered alike: an index nobody knows, one whose own entry has lapsed, one that only
//! others know, one that the officers planted.
//!
//! They take turns, one index a request, each index once. What differs is looked for as `dudect` does (Reparaz, Balasch,
//! Verbauwhede, 2017): the slowest tenth, which is the disk's, is cut off, and the rest compared by Welch's t, beyond 4.5 of
//! which chance is no explanation. So that a silence means something, one kind is a twentieth slower on purpose and must
//! show.

use crate::federation::{DAY, Federation, member};
use protocol::registry::SEALED_BYTES;
use protocol::{Epoch, Index};
use registry::{Blind, Content, Row, RowKey, State};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Beyond it a difference is not chance.
const TELLING: f64 = 4.5;
/// For what a request leaves behind, such as the officers' news, before the next one is measured.
const PAUSE: Duration = Duration::from_millis(3);
/// Not counted.
const WARMING: usize = 50;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Lapsed,
    Forbidden,
    Planted,
    Delayed,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Unknown, "unknown"),
    (Kind::Lapsed, "own entry lapsed"),
    (Kind::Forbidden, "others' entry only"),
    (Kind::Planted, "planted by the officers"),
    (Kind::Delayed, "unknown, delayed"),
];

/// The rows that [`compare`] needs.
pub(crate) fn rows(federation: &Federation, blind: &Blind, rounds: usize) -> Vec<(RowKey, Row)> {
    let kinds = |round| KINDS.map(|(kind, _)| row(federation, blind, kind, round));
    (0..WARMING + rounds).flat_map(kinds).flatten().collect()
}

pub(crate) async fn compare(federation: &Federation, rounds: usize) {
    let mut warming = Vec::new();
    for round in 0..WARMING {
        warming.push(ask(federation, Kind::Unknown, round, Duration::ZERO).await);
    }
    let delay = quantile(&mut warming, 50).div_f64(20.0);
    let mut times: [Vec<Duration>; KINDS.len()] = Default::default();
    for round in WARMING..WARMING + rounds {
        // Another one is first each time.
        for place in (0..KINDS.len()).map(|n| (n + round) % KINDS.len()) {
            times[place].push(ask(federation, KINDS[place].0, round, delay).await);
        }
    }
    let mut all: Vec<Duration> = times.concat();
    let longest = quantile(&mut all, 90);
    let cut: Vec<Vec<f64>> = times
        .iter()
        .map(|times| times.iter().filter(|time| **time <= longest).map(|time| time.as_secs_f64() * 1e6).collect())
        .collect();
    println!("  one index a request, {rounds} rounds; the last one is {:.1} µs slower on purpose", micros(delay));
    println!("  {:<26} {:>10} {:>10} {:>10}", "", "p50 µs", "p99 µs", "Welch t");
    for (place, (kind, name)) in KINDS.iter().enumerate() {
        let t = welch(&cut[0], &cut[place]);
        let (median, late) = (quantile(&mut times[place], 50), quantile(&mut times[place], 99));
        let told = match (t.abs() > TELLING, *kind == Kind::Delayed) {
            (true, _) => "  can be told apart",
            (false, true) => "  does not show: NOTHING WAS MEASURED, the machine has too much else to do",
            (false, false) => "",
        };
        println!("  {name:<26} {:>10.1} {:>10.1} {t:>10.2}{told}", micros(median), micros(late));
    }
}

/// What stands in the index for one of a kind.
fn row(federation: &Federation, blind: &Blind, kind: Kind, round: usize) -> Option<(RowKey, Row)> {
    let (now, everybody, index) = (federation.clock.now(), ["css", "mops", "pup", "zlm"], index(kind, round));
    let audience: BTreeSet<_> = everybody.iter().map(|name| member(name)).collect();
    let (key, expires, state) = match kind {
        Kind::Unknown | Kind::Delayed => return None,
        Kind::Lapsed => (blind.row_key(Epoch(1), &index, &member("mops")), now + -1, State::Live),
        Kind::Forbidden => (blind.row_key(Epoch(1), &index, &member("pup")), now + 300 * DAY, State::Live),
        Kind::Planted => (blind.honeypot_key(Epoch(1), &index), now + 300 * DAY, State::Honeypot),
    };
    let content = Content { expires, since: now + -DAY, state, audience: &audience, sealed: &[7; SEALED_BYTES] };
    Some((key, blind.seal(&key, &content).unwrap()))
}

fn index(kind: Kind, round: usize) -> Index {
    Index(protocol::encoding::sha256(&[b"alike", &[kind as u8], &round.to_be_bytes()]))
}

async fn ask(federation: &Federation, kind: Kind, round: usize, delay: Duration) -> Duration {
    let mut request = federation.locate_request("mops", &[]);
    request.indexes = vec![index(kind, round)];
    let began = Instant::now();
    let reply = federation.send("POST", "/v1/locate", &request).await;
    if kind == Kind::Delayed {
        let asleep = Instant::now();
        while asleep.elapsed() < delay {
            std::hint::spin_loop();
        }
    }
    let took = began.elapsed();
    assert_eq!(reply.body, br#"{"found":[{"entries":[]}]}"#, "{}", String::from_utf8_lossy(&reply.body));
    tokio::time::sleep(PAUSE).await;
    took
}

fn quantile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Welch's t of two samples.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let moments = |sample: &[f64]| {
        let n = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / n;
        let variance = sample.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    };
    let ((one, its), (other, others)) = (moments(one), moments(other));
    (other - one) / (its + others).sqrt()
}
