//! What a pseudonym costs, against what it must cost at least, in interleaved rounds of one run. Nothing is asserted
//! about time.
//!
//! The least cost is the sum of RFC 9497's own steps with additive blinding, written out plainly on `curve25519-dalek`
//! in [`floor`], each measured by itself. The whole path goes through the crate: framing, blinding, t holders, t
//! verifications, unblinding, names, a sealed entry.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

mod floor;

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use getrandom::SysRng;
use pseudonym::dkg::{Addressed, round1, round2, round3};
use pseudonym::{Answer, Blinded, ENTRY_BYTES, Input, KeyShare, Kind, Output, PublicKey, SEALED_BYTES, frame};
use rand_core::{Rng as _, UnwrapErr};

const ROUNDS: usize = 9;
/// Residents in one batch, as a node enrols them.
const BATCH: usize = 1_000;
const REALM: &str = "lodz";
const MEMBER: &str = "mops";

fn main() {
    // `cargo test --all-targets` only wants to see the program start.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    for (threshold, holders) in [(2, 3), (3, 5)] {
        let key = Key::born(threshold, holders);
        enrol(&key);
    }
    let key = Key::born(2, 3);
    serve(&key);
    lanes(&key);
    memory(&key);
}

/// A key with all its shares: here one process is every holder.
struct Key {
    public: PublicKey,
    shares: BTreeMap<u16, KeyShare>,
    quorum: Vec<u16>,
}

impl Key {
    fn born(threshold: u16, holders: u16) -> Self {
        let begun: Vec<_> =
            (1..=holders).map(|id| (id, round1(id, holders, threshold, &mut rng()).expect("round 1"))).collect();
        let published: BTreeMap<u16, Vec<u8>> = begun.iter().map(|(id, (_, package))| (*id, package.clone())).collect();
        let (mut secrets, mut inboxes) = (BTreeMap::new(), BTreeMap::<u16, Addressed>::new());
        for (id, (secret, _)) in begun {
            let (secret, addressed) = round2(secret, &published).expect("round 2");
            secrets.insert(id, secret);
            for (recipient, package) in addressed {
                inboxes.entry(recipient).or_default().insert(id, package);
            }
        }
        let born = secrets.iter().map(|(id, secret)| round3(secret, &published, &inboxes[id]).expect("round 3"));
        let (publics, shares): (Vec<_>, _) = born.map(|born| (born.public, (born.share.id(), born.share))).unzip();
        Self { public: publics[0].clone(), shares, quorum: (1..=threshold).collect() }
    }

    /// A batch from its identifiers to what is stored of it, by this thread; the processor time of each of [`STAGES`].
    fn enrol(&self, pesels: &[String]) -> [Duration; STAGES.len()] {
        let (blinded, blind) = timed(|| Blinded::new(&self.public, inputs(pesels), &mut rng()).expect("a batch"));
        let (answers, evaluate) =
            timed(|| self.quorum.iter().map(|id| self.evaluate(*id, &blinded)).collect::<Vec<_>>());
        let (verified, verify) = timed(|| {
            let answers = self.quorum.iter().zip(&answers);
            answers
                .map(|(id, answer)| blinded.verify_answer(&self.quorum, *id, answer).expect("a proof that holds"))
                .collect::<Vec<_>>()
        });
        let (outputs, finish) = timed(|| blinded.finish(&self.quorum, &verified).expect("outputs"));
        let (_, names) = timed(|| black_box(outputs.iter().map(names).collect::<Vec<_>>()));
        [blind, evaluate, verify, finish, names]
    }

    fn indexes(&self, pesels: &[String]) -> Vec<[u8; 32]> {
        let blinded = Blinded::new(&self.public, inputs(pesels), &mut rng()).expect("a batch");
        let answers = self.quorum.iter().map(|id| (*id, self.evaluate(*id, &blinded))).collect();
        let outputs = blinded.verify_and_finish(&self.quorum, &answers).expect("outputs");
        outputs.iter().map(Output::index).collect()
    }

    fn evaluate(&self, holder: u16, blinded: &Blinded) -> Answer {
        self.shares[&holder].evaluate(&self.quorum, blinded.elements(), &mut rng()).expect("an answer")
    }
}

/// The stages of the whole path.
const STAGES: [&str; 5] = [
    "  frame and blind",
    "  evaluate and prove, t holders",
    "  verify, t holders",
    "  unblind",
    "  names and sealed entry",
];

fn names(output: &Output) -> ([u8; 32], [u8; 32], [u8; SEALED_BYTES]) {
    let sealed = output.seal_key().seal(&[7; ENTRY_BYTES], &mut rng());
    (output.index(), output.subject(MEMBER).expect("a member id"), sealed)
}

fn inputs(pesels: &[String]) -> Vec<Input> {
    pesels.iter().map(|pesel| frame(REALM, Kind::Pesel, 1, pesel).expect("a PESEL")).collect()
}

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// Made-up valid numbers of 1950 to 1999, `count` of them from the `from`th on.
fn pesels(from: usize, count: usize) -> Vec<String> {
    let number = |n: usize| {
        let (year, month, day, serial) = (50 + n % 50, 1 + n / 50 % 12, 1 + n / 600 % 28, n / 16_800 % 10_000);
        let ten = format!("{year:02}{month:02}{day:02}{serial:04}");
        let sum: u32 = ten.bytes().zip([1, 3, 7, 9].into_iter().cycle()).map(|(c, w)| u32::from(c - b'0') * w).sum();
        format!("{ten}{}", (10 - sum % 10) % 10)
    };
    (from..from + count).map(number).collect()
}

/// The whole path against the sum of its unavoidable parts.
fn enrol(key: &Key) {
    let pesels = pesels(0, BATCH);
    let shares: Vec<_> = key.quorum.iter().map(|id| &key.shares[id]).collect();
    let floor = floor::Floor::new(&shares, &pesels);
    assert_eq!(key.indexes(&pesels), floor.indexes(), "two ways to one function");
    let mut parts = vec![Vec::new(); floor::PARTS.len()];
    let mut stages = vec![Vec::new(); STAGES.len()];
    let (mut whole, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut sum = 0.0;
        for (part, times) in floor.measure().into_iter().zip(&mut parts) {
            let part = micros(part) / count(BATCH);
            times.push(part);
            sum += part;
        }
        let mut time = 0.0;
        for (stage, times) in key.enrol(&pesels).into_iter().zip(&mut stages) {
            let stage = micros(stage) / count(BATCH);
            times.push(stage);
            time += stage;
        }
        whole.push(time);
        ratios.push(time / sum);
    }
    println!("{} of {} holders: µs of one core a resident, batches of {BATCH}", key.quorum.len(), key.shares.len());
    for (name, times) in floor::PARTS.iter().zip(parts) {
        println!("  {name:<60}{}", Spread::of(times));
    }
    println!("  {:<60}{}", "client and holders together, through the crate", Spread::of(whole));
    for (name, times) in STAGES.iter().zip(stages) {
        println!("  {name:<60}{}", Spread::of(times));
    }
    println!("  {:<60}{}", "RATIO to the sum of the above", Spread::of(ratios));
}

/// A holder against the `voprf` crate's server: elements in, elements and proof out, both as bytes.
fn serve(key: &Key) {
    use voprf::{BlindedElement, Ristretto255, VoprfServer};

    let server = VoprfServer::<Ristretto255>::new_with_key(&key.shares[&1].to_bytes()[4..]).expect("a key");
    println!("a holder's answer with its proof: µs of one core an element");
    for size in [1, 100, BATCH] {
        let blinded = Blinded::new(&key.public, inputs(&pesels(0, size)), &mut rng()).expect("a batch");
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let times = BATCH / size;
            let ((), our) = timed(|| {
                for _ in 0..times {
                    black_box(key.shares[&1].evaluate(&key.quorum, blinded.elements(), &mut rng()).expect("an answer"));
                }
            });
            let ((), their) = timed(|| {
                for _ in 0..times {
                    let decode = |it: &[u8; 32]| BlindedElement::<Ristretto255>::deserialize(it).expect("an element");
                    let elements: Vec<_> = blinded.elements().iter().map(decode).collect();
                    let result = server.batch_blind_evaluate(&mut Rng06, &elements).expect("an answer");
                    let messages: Vec<_> = result.messages.iter().map(voprf::EvaluationElement::serialize).collect();
                    black_box((messages, result.proof.serialize()));
                }
            });
            ours.push(micros(our) / count(times * size));
            theirs.push(micros(their) / count(times * size));
            ratios.push(their.as_secs_f64() / our.as_secs_f64());
        }
        println!("  batches of {size:<6} ours {}  voprf {}", Spread::of(ours), Spread::of(theirs));
        println!("  {:<60}{}", "RATIO voprf / ours", Spread::of(ratios));
    }
}

/// Batches are independent: one lane a core.
fn lanes(key: &Key) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let batch = pesels(0, BATCH);
    let run = |lanes: usize| {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..lanes {
                scope.spawn(|| black_box([0; 4].map(|_| key.enrol(&batch))));
            }
        });
        count(lanes * 4 * BATCH) / began.elapsed().as_secs_f64()
    };
    let (mut one, mut all, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (single, lanes) = (run(1), run(cores));
        one.push(single);
        all.push(lanes);
        ratios.push(lanes / single);
    }
    println!("residents a second, 2 of 3 holders, client and holders on the same cores");
    println!("  {:<60}{:.0}", "one lane", Spread::of(one));
    println!("  {:<60}{:.0}", format!("{cores} lanes"), Spread::of(all));
    println!("  {:<60}{}", "RATIO lanes / one lane", Spread::of(ratios));
}

/// Resident memory while batch follows batch.
fn memory(key: &Key) {
    println!("resident memory, KiB");
    let mut first = None;
    for batch in 0..100 {
        black_box(key.enrol(&pesels(batch * BATCH, BATCH)));
        if batch == 9 || batch == 99 {
            let now = resident_kib();
            println!("  {:<60}{now}", format!("after {} residents", (batch + 1) * BATCH));
            let before = *first.get_or_insert(now);
            if batch == 99 {
                println!("  {:<60}{:.3}", "RATIO", now / before);
            }
        }
    }
}

fn resident_kib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

/// A result and this thread's processor time for it.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = thread_time();
    let result = work();
    (result, thread_time().saturating_sub(before))
}

fn thread_time() -> Duration {
    // The kernel counts a running thread when it stops, or at the next tick.
    std::thread::sleep(Duration::from_micros(1));
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("procfs");
    Duration::from_nanos(text.split(' ').next().and_then(|used| used.parse().ok()).expect("a number"))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts of residents")]
fn count(number: usize) -> f64 {
    number as f64
}

/// The median of several rounds with the least and the greatest.
struct Spread([f64; 3]);

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self([values[values.len() / 2], values[0], values[values.len() - 1]])
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([median, least, greatest], digits) = (self.0, f.precision().unwrap_or(2));
        write!(f, "{median:.digits$} ({least:.digits$}–{greatest:.digits$})")
    }
}

/// The operating system's generator behind the interface the `voprf` crate takes.
struct Rng06;

impl frost_ristretto255::rand_core::RngCore for Rng06 {
    fn next_u32(&mut self) -> u32 {
        rng().next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        rng().next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        rng().fill_bytes(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), frost_ristretto255::rand_core::Error> {
        rng().fill_bytes(dest);
        Ok(())
    }
}

impl frost_ristretto255::rand_core::CryptoRng for Rng06 {}
