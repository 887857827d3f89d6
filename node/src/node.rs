//! One institution's node: everything it holds open, built once and shared by every route and task.

use crate::agreements::Revoked;
use crate::bulk::Progress;
use crate::ceremony::Ceremonies;
use crate::config::{Config, ConfigError, LocalConfig};
use crate::continuation;
use crate::events::Replay;
use crate::guard::{Guard, GuardError};
use crate::holder::Used;
use crate::manifests::{Held, Unrefreshed};
use crate::meters::Asked;
use crate::results::InProgress;
use crate::retention;
use crate::shares::{self, Shares};
use crate::staff::Today;
use crate::status::Followed;
use crate::store::{Store, StoreError};
use crate::tokens::{Tokens, TokensError};
use arc_swap::ArcSwapOption;
use audit::{AppendError, Log};
use keyring::{KeyRing, MacKey, RingError, Sealer, StorageKey, StorageKeyError};
use policies::Engine;
use protocol::encoding::{Bytes, sha256};
use protocol::manifest::{KeyUse, ManifestError, MemberKey};
use protocol::time::{DAY_SECONDS, MAX_SKEW_SECONDS};
use protocol::{Epoch, Reason, SpiffeId, Timestamp};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tokio_util::task::TaskTracker;
use transport::{Client, Clock, IdentityError, IdentityStore, Tap, Trust, TrustError};
use witness::Circle;
use zeroize::Zeroizing;

/// Why a node does not open or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No storage key.
    #[error(transparent)]
    StorageKey(#[from] StorageKeyError),
    /// The signing keys.
    #[error(transparent)]
    KeyRing(#[from] RingError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Replay guard and meters.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The log is damaged or in use.
    #[error("the log cannot be used: {0}")]
    Log(#[from] audit::Fault),
    /// An entry could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificate is another member's.
    #[error(
        "the certificate is {found}'s, the configuration is {expected}'s: correct `member` and `realm`, or have the right \
         certificate signed"
    )]
    WrongCertificate {
        /// Who we are.
        expected: SpiffeId,
        /// Who it names.
        found: SpiffeId,
    },
    /// Root or CRL.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The manifest kept is not acceptable.
    #[error("the manifest is refused: {0}")]
    Manifest(#[from] ManifestError),
    /// The policy library or the institution's own policies.
    #[error("the policies are refused: {0}")]
    Policies(String),
    /// The identity provider's keys.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// A file or socket.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The clock is not to be believed.
    #[error("the clock is before the last log entry, or differs from the registry's: correct it (NTP) and start again")]
    Clock,
    /// Randomness, threads.
    #[error("the operating system refused: {0}")]
    System(#[from] io::Error),
}

impl NodeError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            NodeError::Config(_) | NodeError::File { what: "cannot read" | "cannot list", .. } => "config",
            NodeError::StorageKey(StorageKeyError::NoSalt(_)) => "salt_missing",
            NodeError::StorageKey(_) => "storage_key",
            NodeError::KeyRing(RingError::WrongKey(_)) => "wrong_key",
            NodeError::KeyRing(RingError::Io { source, .. }) | NodeError::File { source, .. }
                if source.kind() == io::ErrorKind::AlreadyExists =>
            {
                "exists"
            }
            NodeError::KeyRing(RingError::Io { .. }) => "key_ring",
            NodeError::Store(StoreError::InUse) => "in_use",
            NodeError::Store(_) | NodeError::Guard(_) => "store_failed",
            NodeError::Log(audit::Fault::Shorter { .. } | audit::Fault::Rewritten { .. }) => "log_rolled_back",
            NodeError::Log(_) | NodeError::Append(_) => "log_unavailable",
            NodeError::Identity(_) | NodeError::WrongCertificate { .. } | NodeError::Trust(_) => "certificate",
            NodeError::Manifest(_) => "manifest_refused",
            NodeError::Policies(_) => "policies",
            NodeError::Tokens(_) => "tokens",
            NodeError::File { what: shares::WHAT, .. } => "share_damaged",
            NodeError::File { .. } => "file",
            NodeError::Clock => "clock_wrong",
            NodeError::System(_) => "system",
        }
    }
}

/// Keys for pseudonymous names in messages and logs.
pub(crate) struct Macs {
    /// Case references.
    pub(crate) case: MacKey,
    /// Staff ids.
    pub(crate) staff: MacKey,
    /// Names of terminals.
    pub(crate) terminal: MacKey,
}

impl Macs {
    /// The pseudonymous id of a user, as it stands in logs and messages.
    pub(crate) fn staff_id(&self, staff: &str) -> Bytes {
        Bytes(self.staff.mac(&[staff.as_bytes()]).to_vec())
    }

    /// What stands for a case in logs and messages, if one is named: a blank reference is none.
    pub(crate) fn case_id(&self, reference: Option<&str>) -> Option<Bytes> {
        let reference = reference.map(str::trim).filter(|reference| !reference.is_empty())?;
        Some(Bytes(self.case.mac(&[reference.as_bytes()]).to_vec()))
    }

    /// What stands for a terminal in the log.
    pub(crate) fn terminal_id(&self, name: &str) -> Bytes {
        Bytes(self.terminal.mac(&[name.as_bytes()]).to_vec())
    }
}

/// What a node finds around it.
#[derive(Clone)]
pub struct Surroundings {
    /// Its clock.
    pub clock: Clock,
    /// Sees every plaintext message it sends and gets; nobody does outside tests.
    pub tap: Option<Tap>,
}

impl Surroundings {
    /// The system's clock, and nobody listening.
    #[must_use]
    pub fn system() -> Self {
        Surroundings { clock: Clock::system(), tap: None }
    }
}

/// An institution's node.
pub struct Node {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) keys: KeyRing,
    pub(crate) macs: Macs,
    pub(crate) sealer: Sealer,
    pub(crate) store: Store,
    pub(crate) guard: Guard,
    pub(crate) log: Log,
    pub(crate) trust: Arc<Trust>,
    pub(crate) identity: Arc<IdentityStore>,
    pub(crate) client: Client,
    pub(crate) circle: Arc<Circle>,
    pub(crate) engine: Engine,
    /// Digest of the institution's own policies, if it has any.
    pub(crate) policies: Option<Bytes>,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) known_today: Today,
    pub(crate) held: ArcSwapOption<Held>,
    pub(crate) accepting: tokio::sync::Mutex<()>,
    /// One walk along the registry's manifests at a time.
    pub(crate) refreshing: tokio::sync::Mutex<()>,
    /// Work that is not ended half way when the node stops.
    pub(crate) whole: TaskTracker,
    /// One import or enrolment at a time.
    pub(crate) bulk: tokio::sync::Mutex<()>,
    /// One run over shared clients at a time.
    pub(crate) sharing: tokio::sync::Mutex<()>,
    /// One reading of the review queue at a time.
    pub(crate) reviewing: tokio::sync::Mutex<()>,
    pub(crate) shares: Shares,
    pub(crate) ceremonies: Ceremonies,
    /// How far the names under a new key are.
    pub(crate) re_enrolling: ArcSwapOption<(Epoch, Progress)>,
    pub(crate) registry_away: AtomicBool,
    /// Why the last attempt at a manifest failed, if it did.
    pub(crate) unrefreshed: ArcSwapOption<Unrefreshed>,
    pub(crate) followed: Followed,
    pub(crate) revoked: Revoked,
    pub(crate) delivering: InProgress,
    pub(crate) asking: InProgress,
    /// Requests issued before this are refused: the guard may have forgotten them.
    pub(crate) started: Timestamp,
    floor: AtomicI64,
    clock_ahead: AtomicBool,
    /// When the clock was last held against the registry's; seconds since 1970.
    clock_compared: AtomicI64,
    pub(crate) start_noted: AtomicBool,
}

/// What a new node gives its founders: keys for the manifest and a request for a certificate.
#[derive(Debug)]
pub struct Birth {
    /// Public keys by use.
    pub keys: Vec<MemberKey>,
    /// PKCS#10, PEM; the private key stays.
    pub csr: String,
}

/// Signing keys are renewed with the manifest; they are valid this long.
const KEY_VALIDITY_SECONDS: i64 = 2 * 365 * DAY_SECONDS;
/// How long a comparison of clocks is worth something.
const COMPARED_SECONDS: i64 = 5 * 60;
/// How far back the log is read into the replay guard at start.
const REPLAY_WINDOW_SECONDS: i64 = 4 * protocol::query::MAX_LIFE_SECONDS;

impl Node {
    /// Makes the data directory, the signing keys and the TLS key with its certificate request. Overwrites nothing.
    ///
    /// # Errors
    /// [`NodeError`], also if any of these exists already.
    pub fn init(
        config: &Config,
        passphrase: impl FnOnce() -> io::Result<Zeroizing<String>>,
        now: Timestamp,
    ) -> Result<Birth, NodeError> {
        let path = ring_path(config);
        if path.exists() {
            // Before a lost salt of its passphrase is made anew.
            return Err(RingError::Io { path, source: io::ErrorKind::AlreadyExists.into() }.into());
        }
        create_dir(&config.data)?;
        config.storage_key.prepare()?;
        let storage = StorageKey::obtain(&config.storage_key, passphrase)?;
        let ring = KeyRing::create(&path, &storage)?;
        let spiffe = SpiffeId::new(config.realm.clone(), config.member.clone());
        let (key, csr) = transport::new_key_and_csr(&spiffe)?;
        if let Some(parent) = config.peers.key.parent() {
            create_dir(parent)?;
        }
        keyring::create_private(&config.peers.key, key.as_bytes()).map_err(file("cannot create", &config.peers.key))?;
        Ok(Birth { keys: public_keys(&ring, now), csr })
    }

    /// Opens the node: keys, store, guard, log, certificate, policies, the manifest accepted before.
    ///
    /// # Errors
    /// [`NodeError`], each naming what is wrong; nothing is changed by a failed attempt.
    pub fn open(
        config: Config,
        surroundings: Surroundings,
        passphrase: impl FnOnce() -> io::Result<Zeroizing<String>>,
    ) -> Result<Arc<Self>, NodeError> {
        let Surroundings { clock, tap } = surroundings;
        // Configuration, certificate and tokens are judged before anything is made: the log's origin, for one, is for good.
        let engine = load_engine(&config)?;
        retention::check(&config.retention, |field| retention::is_date(&engine, field))?;
        let policies = config.policies.as_deref().map(policies_digest).transpose()?;
        let tokens = config.local.as_ref().map(|local| load_tokens(local, &engine, clock.now())).transpose()?;
        let storage = StorageKey::obtain(&config.storage_key, passphrase)?;
        let keys = KeyRing::open(&ring_path(&config), &storage)?;
        let identity = Arc::new(IdentityStore::load(&config.peers.certificate, &config.peers.key)?);
        let expected = SpiffeId::new(config.realm.clone(), config.member.clone());
        let found = identity.current().spiffe().clone();
        if found != expected {
            return Err(NodeError::WrongCertificate { expected, found });
        }
        let trust = Arc::new(load_trust(&config, &clock)?);
        let store = Store::open(&config.data.join("node.redb"), &storage)?;
        let log = open_log(&config, &keys, &storage, &clock)?;
        let guard = Guard::open(&config.data.join("guard"), storage.mac("guard"), log.size() > 0, clock.now())?;
        let circle = open_circle(&config, &keys, &log, &clock)?;
        let client = Client::new(identity.clone(), trust.clone(), clock.clone()).tap(tap);
        let sealer = storage.sealer("shares").map_err(|_| StoreError::Sealed("shares"))?;
        let shares = Shares::load(&config.data, &sealer)?;
        let node = Node {
            macs: Macs { case: storage.mac("case"), staff: storage.mac("staff"), terminal: storage.mac("terminal") },
            started: clock.now(),
            floor: AtomicI64::new(i64::MIN),
            config,
            clock,
            keys,
            sealer,
            store,
            guard,
            log,
            trust,
            identity,
            client,
            circle,
            engine,
            policies,
            tokens,
            known_today: Today::default(),
            held: ArcSwapOption::empty(),
            accepting: tokio::sync::Mutex::new(()),
            refreshing: tokio::sync::Mutex::new(()),
            whole: TaskTracker::new(),
            bulk: tokio::sync::Mutex::new(()),
            sharing: tokio::sync::Mutex::new(()),
            reviewing: tokio::sync::Mutex::new(()),
            shares,
            ceremonies: Ceremonies::default(),
            re_enrolling: ArcSwapOption::empty(),
            registry_away: AtomicBool::new(false),
            unrefreshed: ArcSwapOption::empty(),
            followed: Followed::default(),
            revoked: Revoked::default(),
            delivering: InProgress::default(),
            asking: InProgress::default(),
            clock_ahead: AtomicBool::new(false),
            clock_compared: AtomicI64::new(i64::MIN),
            start_noted: AtomicBool::new(false),
        };
        crate::dpo::export::sweep(&node.config.data);
        node.require_crl()?;
        node.load_manifest()?;
        node.load_revoked()?;
        node.read_back()?;
        Ok(Arc::new(node))
    }

    /// The configuration it was opened with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Public keys for the manifest.
    #[must_use]
    pub fn public_keys(&self) -> Vec<MemberKey> {
        public_keys(&self.keys, self.started)
    }

    /// The time, unless it is not to be believed.
    pub(crate) fn now(&self) -> Result<Timestamp, Reason> {
        let now = self.clock.now();
        let issued = self.held.load().as_ref().map_or(i64::MIN, |held| held.manifest.issued.0);
        let floor = self.floor.load(Ordering::Relaxed).max(issued);
        let behind = now.0.saturating_add(MAX_SKEW_SECONDS) < floor;
        if behind || self.clock_ahead.load(Ordering::Relaxed) {
            return Err(Reason::ClockWrong);
        }
        // Only a time that is believed raises the floor.
        self.floor.fetch_max(now.0, Ordering::Relaxed);
        Ok(now)
    }

    /// When this log's first entry was written, if it can be read.
    pub(crate) fn log_begun(&self) -> Option<Timestamp> {
        let first = self.log.read(0).ok()??;
        Some(Timestamp(first.payload?.get("time")?.as_i64()?))
    }

    /// Milliseconds since `start_ms`, of the same clock.
    pub(crate) fn since(&self, start_ms: i64) -> u64 {
        u64::try_from(self.clock.now_ms().saturating_sub(start_ms)).unwrap_or_default()
    }

    /// Closes the node while our clock and the registry's differ by more than clocks may.
    pub(crate) fn compare_clock(&self, theirs: Timestamp) {
        let now = self.clock.now();
        self.clock_compared.store(now.0, Ordering::Relaxed);
        let differs = (now - theirs).abs() > 2 * MAX_SKEW_SECONDS;
        if self.clock_ahead.swap(differs, Ordering::Relaxed) != differs {
            if differs {
                tracing::error!("this clock and the registry's differ: no answers until they agree");
            } else {
                tracing::info!("this clock and the registry's agree again");
            }
        }
    }

    /// What entries say of the clock they are dated by. One that differs from the registry's writes none.
    pub(crate) fn clock_status(&self) -> &'static str {
        let compared = self.clock_compared.load(Ordering::Relaxed);
        let lately = (0..=COMPARED_SECONDS).contains(&self.clock.now().0.saturating_sub(compared));
        if lately { "agrees" } else { "unchecked" }
    }

    /// Whether the node may answer, or why not.
    ///
    /// # Errors
    /// The reason it is closed.
    pub fn ready(&self) -> Result<(), Reason> {
        self.log.health().map_err(|_| Reason::LogUnavailable)?;
        self.manifest()?;
        let now = self.now()?;
        // Without a current revocation list no peer is served.
        if self.trust.crl_next_update().is_none_or(|next| now >= next) {
            return Err(Reason::NodeClosed);
        }
        Ok(())
    }

    /// Takes from the log what a restart must not forget: the time floor and the newest requests.
    fn read_back(&self) -> Result<(), NodeError> {
        let size = self.log.size();
        let Some(last) = size.checked_sub(1) else { return Ok(()) };
        let time = |index| -> Result<Option<i64>, NodeError> {
            let entry = self.log.read(index)?;
            Ok(entry.and_then(|e| e.payload).and_then(|p| p.get("time").and_then(serde_json::Value::as_i64)))
        };
        let floor = time(last)?.unwrap_or(i64::MIN);
        if self.started.0.saturating_add(MAX_SKEW_SECONDS) < floor {
            return Err(NodeError::Clock);
        }
        self.floor.fetch_max(floor, Ordering::Relaxed);
        let recent = self.started.0 - REPLAY_WINDOW_SECONDS;
        let mut used = Used::new(self.started, Timestamp(floor));
        let mut asked = Asked::default();
        for entry in self.log.iter(size.saturating_sub(100_000)) {
            let Some(payload) = entry?.payload else { continue };
            used.count(&payload);
            asked.count(self, &payload);
            let stale = payload.get("time").and_then(serde_json::Value::as_i64).is_none_or(|t| t < recent);
            let Some(replay) = payload.get("replay").filter(|_| !stale) else { continue };
            let asker = payload.get("asker").and_then(serde_json::Value::as_str).unwrap_or_default();
            if let Ok(Replay { jti, until }) = serde_json::from_value(replay.clone()) {
                self.guard.first_time(asker, &jti.0, until)?;
            }
        }
        asked.make_good(self)?;
        used.make_good(self)
    }
}

pub(crate) fn ring_path(config: &Config) -> PathBuf {
    config.data.join("keys.sealed")
}

fn open_log(config: &Config, keys: &KeyRing, storage: &StorageKey, clock: &Clock) -> Result<Log, NodeError> {
    let place = continuation::place(config)?;
    Ok(Log::open(log_config(&place.dir(), &place.origin(), keys, &storage.derive("log"), clock))?)
}

/// What a log of this node is opened with.
fn log_config<'a>(
    dir: &'a Path,
    origin: &'a str,
    keys: &'a KeyRing,
    payload_key: &'a [u8; 32],
    clock: &Clock,
) -> audit::Config<'a> {
    let now = clock.clone();
    audit::Config { dir, origin, signing_key: keys.log.seed(), payload_key, now: Box::new(move || now.now().0) }
}

fn open_circle(config: &Config, keys: &KeyRing, log: &Log, clock: &Clock) -> Result<Arc<Circle>, NodeError> {
    let seed = keys.key(KeyUse::Cosign).seed();
    let me = (&config.realm, &config.member);
    Ok(Arc::new(Circle::open(&config.data.join("witness"), me, seed, log.clone(), clock.clone())?))
}

fn load_trust(config: &Config, clock: &Clock) -> Result<Trust, NodeError> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(file("cannot read", path));
    let crl = config.peers.crl.exists().then(|| read(&config.peers.crl)).transpose()?;
    Ok(Trust::load(&read(&config.peers.root)?, crl.as_deref(), config.realm.clone(), clock.clone())?)
}

/// The identity provider's keys; every role its words are mapped to must be one of the library's.
pub(crate) fn load_tokens(local: &LocalConfig, engine: &Engine, now: Timestamp) -> Result<Tokens, NodeError> {
    let known = &engine.library().catalogue().roles;
    if !local.tokens.roles.values().all(|role| known.contains_key(role)) {
        let wrong = ConfigError::Value { key: "local.tokens.roles".into(), expected: "roles of the policy library" };
        return Err(wrong.into());
    }
    Ok(Tokens::load(&local.tokens, now)?)
}

pub(crate) fn load_engine(config: &Config) -> Result<Engine, NodeError> {
    let library = config.library.as_deref().map_or_else(policies::Library::builtin, policies::Library::load);
    let library = library.map_err(|e| NodeError::Policies(e.to_string()))?;
    let local = config.policies.as_deref().map(local_policies).transpose()?.unwrap_or_default();
    Engine::new(library, &local).map_err(|e| NodeError::Policies(e.to_string()))
}

/// An institution's own policies: every `.cedar` file of a directory, by name with its text.
///
/// # Errors
/// [`NodeError::File`].
pub fn local_policies(directory: &Path) -> Result<Vec<(String, String)>, NodeError> {
    let mut local = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(file("cannot list", directory))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "cedar") {
            let text = std::fs::read_to_string(&path).map_err(file("cannot read", &path))?;
            local.push((path.display().to_string(), text));
        }
    }
    local.sort();
    Ok(local)
}

/// One digest of every policy of the institution's own, by name.
fn policies_digest(directory: &Path) -> Result<Bytes, NodeError> {
    let local = local_policies(directory)?;
    let of = |(path, text): &(String, String)| {
        let name = Path::new(path).file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default();
        [sha256(&[&name]), sha256(&[text.as_bytes()])].concat()
    };
    let all: Vec<u8> = local.iter().flat_map(of).collect();
    Ok(Bytes(sha256(&[&all]).to_vec()))
}

fn public_keys(ring: &KeyRing, now: Timestamp) -> Vec<MemberKey> {
    [KeyUse::Message, KeyUse::Entry, KeyUse::Log, KeyUse::Cosign]
        .into_iter()
        .map(|usage| MemberKey {
            usage,
            key: ring.key(usage).public(),
            valid_from: now + -MAX_SKEW_SECONDS,
            valid_to: now + KEY_VALIDITY_SECONDS,
            revoked_at: None,
        })
        .collect()
}

pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NodeError {
    let path = path.to_owned();
    move |source| NodeError::File { what, path, source }
}

fn create_dir(path: &Path) -> Result<(), NodeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file("cannot create", path))
}
