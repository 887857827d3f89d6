//! The federation harness: a founded federation, in process or as real processes, behind one API; a fault proxy before
//! every listener if wanted; canaries.
//!
//! Dropped without a panic, a [`Harness`] stops everything and asserts what every scenario must keep: each log
//! verifies, and no planted identifier appears in a plaintext message between members, or in any file.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    reason = "a harness fails by panicking, with a message"
)]

mod leaks;
mod logs;
mod member;
mod program;
mod proxy;
mod residents;

pub use leaks::{leaks, leaks_below, unwrapped};
pub use logs::{Logged, answers_agree, log_of};
pub use member::{Member, pesel_of, read_log, refusals};
pub use program::program;
pub use proxy::{Fault, Proxy};
pub use residents::{CANARY_SURNAME, RESIDENTS, Resident, write_extracts};

use cli::exit::Failure;
use cli::federation::{Federation, Launcher};
use cli::found::{Plan, Unit};
use node::{ConsentReceipt, EnrolSummary, ImportMode, ImportSummary, Outcome, QueryResult, Surroundings};
use protocol::{MemberId, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use transport::Clock;

/// The purpose most scenarios ask for.
pub const PURPOSE: &str = "social-welfare-eligibility-assessment";
/// Whom to call at mops in an emergency.
pub const DUTY_DESK: &str = "dyżur MOPS, wejście od podwórza";
/// The units, with the kind of institution each is.
pub const UNITS: [(&str, &str); 4] = [("mops", "mops"), ("pup", "pup"), ("css", "css"), ("zlm", "hou")];
/// When a federation with its own clock begins: 2026-11-21T12:00:00Z.
pub const NOON: Timestamp = Timestamp(1_795_262_400);

/// How a federation is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Real processes instead of in-process parts.
    pub processes: bool,
    /// A fault proxy before every listener for members.
    pub proxied: bool,
    /// Queries a day under each agreement.
    pub queries_per_day: u64,
    /// Evaluations for a first enrolment.
    pub first_enrolment: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { processes: false, proxied: false, queries_per_day: 1_000, first_enrolment: 10_000 }
    }
}

/// A running federation of four units (mops, pup and css hold 2-of-3 shares and have an officer each).
pub struct Harness {
    /// The federation.
    pub federation: Federation,
    /// The clock of everything that runs in process; the system's with processes.
    pub clock: Clock,
    /// The proxies, by part (`registry`, `mops`, …), if there are any.
    pub proxies: BTreeMap<String, Arc<Proxy>>,
    /// Plaintext of every message between members (in process only).
    pub messages: Arc<Mutex<Vec<u8>>>,
    dir: TempDir,
    stopped: bool,
}

impl Harness {
    /// An in-process federation, nothing imported.
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// An in-process federation with every resident of [`RESIDENTS`] imported and enrolled.
    pub async fn filled() -> Self {
        let harness = Self::new().await;
        harness.fill().await;
        harness
    }

    /// A federation set up as `options` say.
    pub async fn with(options: Options) -> Self {
        transport::install().expect("cryptography works");
        let dir = tempfile::Builder::new().prefix("ogniwo-test-").tempdir().expect("a directory");
        let messages = Arc::new(Mutex::new(Vec::new()));
        let (launcher, clock) = if options.processes {
            (Launcher::Processes(program()), Clock::system())
        } else {
            let (clock, tapped) = (Clock::manual(NOON), messages.clone());
            let tap = move |bytes: &[u8]| lock(&tapped).extend_from_slice(bytes);
            let surroundings = Surroundings { clock: clock.clone(), tap: Some(Arc::new(tap)) };
            (Launcher::Inside(surroundings), clock)
        };
        let proxies = Arc::new(Mutex::new(BTreeMap::new()));
        let made = proxies.clone();
        let detour = move |name: &str, real| {
            if !options.proxied {
                return real;
            }
            let proxy = Arc::new(Proxy::before(real));
            let address = proxy.address();
            lock(&made).insert(name.to_owned(), proxy);
            address
        };
        let home = dir.path().join("federation");
        let plan = Plan { address: own_address(), ..plan(&options) };
        let federation = Federation::start(&launcher, &home, plan, 2, &detour).await.expect("a federation");
        let proxies = std::mem::take(&mut *lock(&proxies));
        Harness { federation, clock, proxies, messages, dir, stopped: false }
    }

    /// Imports every unit's residents and enrols them.
    pub async fn fill(&self) {
        let extracts = self.extracts();
        write_extracts(&extracts, RESIDENTS);
        for (unit, _) in UNITS {
            self.import(unit, &extracts.join(format!("{unit}.csv")), ImportMode::Update).await.expect("an import");
            self.enrol(unit).await.expect("an enrolment");
        }
    }

    /// Where test extracts may be written: not searched for identifiers.
    #[must_use]
    pub fn extracts(&self) -> PathBuf {
        let path = self.dir.path().join("extracts");
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// The federation's directory: searched for identifiers at the end.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.federation.founded.dir
    }

    /// Imports an extract with the unit's shipped mapping.
    pub async fn import(&self, unit: &str, extract: &Path, mode: ImportMode) -> Result<ImportSummary, Failure> {
        let mapping = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/mappings/{unit}.toml"));
        self.federation.import(&member(unit), mapping, extract.to_owned(), mode, &|_| {}).await
    }

    /// Enrols a unit's clients.
    pub async fn enrol(&self, unit: &str) -> Result<EnrolSummary, Failure> {
        self.federation.enrol(&member(unit), &|_| {}).await
    }

    /// Puts one question as a caseworker of `asker`: `query` about the resident to `holder`, on `basis`.
    pub async fn ask(&self, asker: &str, holder: &str, query: &str, resident: Value, basis: Value) -> Outcome {
        let result = self.try_ask(asker, holder, query, resident, basis).await.expect("an outcome");
        result.outcomes.into_iter().next().expect("one outcome")
    }

    /// As [`Harness::ask`], with the node's own refusal as a failure.
    pub async fn try_ask(
        &self,
        asker: &str,
        holder: &str,
        query: &str,
        resident: Value,
        basis: Value,
    ) -> Result<QueryResult, Failure> {
        let body = json!({
            "resident": resident, "asks": [{ "query": query, "holder": holder }], "purpose": PURPOSE, "basis": basis,
            "case_ref": "MOPS/2026/1", "reason": "test",
        });
        self.post(asker, "caseworker", "/v1/queries", &body).await
    }

    /// Calls a unit's local API as a user in `role` (the user's name is the role's).
    pub async fn post<T: serde::de::DeserializeOwned>(
        &self,
        unit: &str,
        role: &str,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        let unit = member(unit);
        let token = self.federation.token(&unit, role, &[role])?;
        self.federation.local(&unit)?.call(http::Method::POST, path, &token, Some(body)).await
    }

    /// The front desk of `recorder` records a consent for `recipient` to the labour status and arrears modules.
    pub async fn consent(&self, recorder: &str, recipient: &str, resident: Value) -> Result<ConsentReceipt, Failure> {
        let body = json!({
            "resident": resident, "template": "instead-of-certificate", "modules": { "labour-status": "given" },
            "recipient": recipient, "purposes": [PURPOSE], "days": 30, "evidence_sha256": cli::found::evidence()?,
        });
        self.post(recorder, "front-desk", "/v1/consents", &body).await
    }

    /// The front desk of `recorder` withdraws a consent.
    pub async fn withdraw(&self, recorder: &str, consent: &ConsentReceipt) -> Result<ConsentReceipt, Failure> {
        self.post(recorder, "front-desk", &format!("/v1/consents/{}/withdraw", consent.id), &json!({})).await
    }

    /// Stops everything and checks what every scenario must keep.
    pub async fn finish(mut self) {
        self.stop().await;
        self.check();
    }

    async fn stop(&mut self) {
        self.stopped = true;
        self.federation.stop().await.expect("everything stops in order");
    }

    /// Asserts that every log verifies and that no planted identifier stands anywhere it must not.
    pub fn check(&self) {
        for part in UNITS.iter().map(|(unit, _)| *unit).chain(["registry"]) {
            let log = self.home().join(part).join("data/log");
            audit::verify_dir(&log, None, None, |_| {}).unwrap_or_else(|e| panic!("the log of {part}: {e}"));
        }
        // Most of them are signed: what they say stands in base64url.
        let messages = unwrapped(&lock(&self.messages));
        assert_eq!(leaks(&messages), Vec::<String>::new(), "in messages between members");
        let found = leaks_below(self.home());
        assert!(found.is_empty(), "identifiers in files: {found:?}");
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if std::thread::panicking() || self.stopped {
            return;
        }
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.stop()));
        self.check();
    }
}

/// A member's id.
#[must_use]
pub fn member(name: &str) -> MemberId {
    name.parse().expect("a member id")
}

/// What a node says of itself.
///
/// # Panics
/// If it does not answer.
pub async fn status(harness: &Harness, unit: &str) -> node::NodeStatus {
    harness.federation.admin(&member(unit)).get("/status").await.expect("a status")
}

/// Waits for what happens by itself, two minutes at most.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), waiting).await.unwrap_or_else(|_| panic!("{what} does not happen"));
}

/// Locks even if a test panicked meanwhile.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A loopback address that no other federation has. An outgoing connection takes any free port of 127.0.0.1, at times that
/// of a part which is being started again; here it cannot.
fn own_address() -> IpAddr {
    static FOUNDED: AtomicU16 = AtomicU16::new(1);
    let [third, fourth] = FOUNDED.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let second = u8::try_from(std::process::id() % 254).expect("below 254") + 1;
    Ipv4Addr::new(127, second, third, fourth).into()
}

/// The plan of the federation that `options` describe, at 127.0.0.1.
#[must_use]
pub fn plan(options: &Options) -> Plan {
    let unit = |(id, kind): (&str, &str)| Unit {
        id: member(id),
        name: id.to_uppercase(),
        kind: kind.parse().expect("a kind"),
        key_holder: id != "zlm",
        officer: id != "zlm",
        first_enrolment: options.first_enrolment,
        duty_desk: (id == "mops").then(|| DUTY_DESK.to_owned()),
    };
    Plan {
        realm: "test.ogniwo.example".parse().expect("a realm"),
        units: UNITS.into_iter().map(unit).collect(),
        officer_threshold: 2,
        queries_per_day: options.queries_per_day,
        address: Ipv4Addr::LOCALHOST.into(),
    }
}
