//! The registry as one thing: what it is made of, how it opens, what it serves.

use crate::admit::compute;
use crate::blind::Blind;
use crate::config::Config;
use crate::engine::{self, Generation};
use crate::errors::Refusal;
use crate::events::{CrlCounts, Event, Journal};
use crate::fair::{self, Fair};
use crate::init::Secrets;
use crate::manifest::Manifests;
use crate::recovery::Recovery;
use crate::store::{IndexStore, StoreError};
use crate::{continuation, cosigning, entries, honeypots, locate, manifest, migrate, review, status, sweep};
use audit::{AppendError, Log};
use axum::extract::{DefaultBodyLimit, State};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use axum::{Router, middleware};
use keyring::{KeyRing, RingError, StorageKeyError, write_atomically};
use protocol::SpiffeId;
use protocol::encoding::b64;
use protocol::manifest::KeyUse;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transport::{Client, Clock, IdentityError, IdentityStore, Peer, ServerTls, Trust, TrustError};
use witness::Circle;
use zeroize::Zeroizing;

/// A registry, open. Everything a handler may touch hangs here; `main` and tests build the same one.
pub struct Registry {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    /// Signs tickets; its log key signs the log.
    pub(crate) keys: KeyRing,
    /// Turns entries into rows and back.
    pub(crate) blind: Arc<Blind>,
    /// Rows, durable.
    pub(crate) store: Arc<dyn IndexStore>,
    /// What changes when the index was restored from a backup.
    pub(crate) generation: Generation,
    /// What members take.
    pub(crate) fair: Fair,
    /// Whether this is a restored registry that has not been confirmed.
    pub(crate) recovery: Recovery,
    /// The manifest in force, if one was published.
    pub(crate) manifests: Manifests,
    /// The registry's own audit log.
    pub(crate) journal: Journal,
    /// Whom TLS believes; holds the CRL that is served.
    trust: Arc<Trust>,
    /// This log among the others'.
    pub(crate) circle: Arc<Circle>,
    /// Alarms on their way.
    pub(crate) alarms: TaskTracker,
    client: Client,
    /// The number of the newest revocation list that a restart will still know of.
    crl_kept: AtomicU64,
    /// The number of the last list that stands in the log.
    crl_noted: AtomicU64,
    identity: Arc<IdentityStore>,
    tls: ServerTls,
}

/// Why the registry does not open. Nothing is changed by failing.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `init` was run here before.
    #[error("{} holds a registry already", .0.display())]
    Initialised(PathBuf),
    /// Storage key or pepper cannot be had.
    #[error("a secret of the registry cannot be had")]
    Secrets(#[from] StorageKeyError),
    /// The key ring is missing, or does not open under this storage key.
    #[error("the signing keys cannot be used (was `ogniwo registry init` run here?)")]
    Keys(#[from] RingError),
    /// The pepper is not the one the data directory was made with.
    #[error("the pepper is not the one this registry was made with")]
    WrongPepper,
    /// The engine is the target of a migration that has not ended.
    #[error("{} is of a migration into this index that has not ended: finish it first", .0.display())]
    HalfMigrated(PathBuf),
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A sealed file was altered, or belongs to another storage key.
    #[error("{} is damaged, or sealed under another storage key", .0.display())]
    Damaged(PathBuf),
    /// The index.
    #[error("{engine} cannot be used")]
    Index {
        /// The file or the database, without its password.
        engine: String,
        /// Why.
        source: StoreError,
    },
    /// The audit log.
    #[error("the audit log in {} cannot be used", path.display())]
    Log {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        source: audit::Fault,
    },
    /// Certificate or key.
    #[error("the TLS certificate cannot be used")]
    Identity(#[from] IdentityError),
    /// Root certificates or CRL.
    #[error("root certificate or revocation list cannot be used")]
    Trust(#[from] TrustError),
    /// The certificate is another member's.
    #[error("the certificate names {found}, the configuration {expected}")]
    OtherMember {
        /// Whom the configuration names.
        expected: SpiffeId,
        /// Whom the certificate names.
        found: SpiffeId,
    },
}

impl OpenError {
    pub(crate) fn damaged(path: &Path) -> Self {
        OpenError::Damaged(path.to_owned())
    }
}

impl Registry {
    /// Opens what [`crate::init()`] made; `passphrase` is asked only if the storage key needs one. Blocks for as long as it
    /// reads the log through and, after an unclean end, the index.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        config: Config,
        clock: Clock,
        passphrase: impl FnOnce() -> io::Result<Zeroizing<String>>,
    ) -> Result<Self, OpenError> {
        let secrets = Secrets::obtain(&config, passphrase)?;
        let keys = KeyRing::open(&config.key_ring(), &secrets.storage)?;
        secrets.check_pepper(&config.pepper_check())?;
        let identity = Arc::new(IdentityStore::load(&config.peers.certificate, &config.peers.key)?);
        let (expected, found) = (config.spiffe(), identity.current().spiffe().clone());
        if expected != found {
            return Err(OpenError::OtherMember { expected, found });
        }
        let (root, crl) = (read(&config.peers.root)?, read(&config.peers.crl)?);
        let trust = Arc::new(Trust::load(&root, Some(&crl), config.realm.clone(), clock.clone())?);
        let crl_kept = highest_crl_number(&config.crl_number())?;
        trust.require_crl(crl_kept);
        let recovery = Recovery::open(config.restored())?;
        if migrate::is_half_done(&config)? {
            return Err(OpenError::HalfMigrated(config.migration()));
        }
        let blind = Arc::new(Blind::new(&secrets.storage, &secrets.pepper));
        let store = engine::open(&config, config.engine, true).await?;
        let times = (recovery.to_renew(), clock.now());
        let generation = Generation::open(&config, &*store, &blind, times).await?;
        recovery.renewed().map_err(|source| OpenError::Write { path: config.restored(), source })?;
        let journal = open_journal(&config, &secrets, &keys, clock.clone())
            .map_err(|source| OpenError::Log { path: config.log.clone(), source })?;
        let circle = open_circle(&config, &keys, &journal, clock.clone())
            .map_err(|source| OpenError::Log { path: config.witness(), source })?;
        let registry = Registry {
            alarms: TaskTracker::new(),
            client: Client::new(identity.clone(), trust.clone(), clock.clone()),
            circle: Arc::new(circle),
            manifests: Manifests::open(config.manifests(), &secrets.storage)?,
            fair: Fair::new(config.shares.clone()),
            tls: ServerTls::mutual(trust.clone(), identity.clone())?,
            crl_kept: AtomicU64::new(crl_kept),
            crl_noted: AtomicU64::new(crl_kept),
            blind,
            store,
            generation,
            recovery,
            keys,
            journal,
            trust,
            identity,
            clock,
            config,
        };
        let path = registry.config.crl_number();
        registry.keep_crl_number().map_err(|source| OpenError::Write { path, source })?;
        Ok(registry)
    }

    /// Serves on `listener` until `shutdown`; reads changed certificates and revocation lists; sweeps. When it returns,
    /// no task of it is left.
    ///
    /// # Errors
    /// The socket is not listening.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        self.recall_log().await;
        if self.config.migration().exists() {
            tracing::warn!("a migration of this index was begun: what was copied is void, empty its target first");
            migrate::forget(&self.config)?;
        }
        // The helpers end with the listener, whatever ended it.
        let stop = shutdown.child_token();
        let (crl, reload) = (Some(self.config.peers.crl.clone()), self.config.peers.reload);
        let watching = transport::watch(self.identity.clone(), self.trust.clone(), crl, reload, stop.clone());
        let sweeping = sweep::run(self.clone(), stop.clone());
        let keeping = follow_files(self.clone(), stop.clone());
        let limits = self.config.limits.clone();
        let serving = async {
            let router = self.clone().router();
            let ended = transport::serve(listener, self.tls.clone(), router, limits, shutdown).await;
            stop.cancel();
            ended
        };
        let cosigning = cosigning::run(self.clone(), stop.clone());
        let ((), (), (), (), ended) = tokio::join!(watching, sweeping, keeping, cosigning, serving);
        self.alarms.close();
        self.alarms.wait().await;
        ended
    }

    /// The routes, for [`transport::serve`] and for tests that put a [`transport::PeerIdentity`] into the extensions.
    pub fn router(self: Arc<Self>) -> Router {
        let limit = DefaultBodyLimit::max(self.config.limits.max_body);
        Router::new()
            .route("/v1/entries", put(entries::change).delete(entries::change))
            .route("/v1/locate", post(locate::locate))
            .route("/v1/review", post(review::read))
            .route("/v1/manifest", get(manifest::serve).put(manifest::offer))
            .route("/v1/manifest/{which}", get(manifest::serve_older))
            .route("/v1/honeypots", put(honeypots::plant))
            .route("/v1/status", get(status::serve))
            .route("/v1/crl", get(crl))
            .route("/health/live", get(async || "live"))
            .route("/health/ready", get(ready))
            .layer(limit)
            .layer(middleware::from_fn_with_state(self.clone(), fair::gate))
            .with_state(self.clone())
            .merge(self.circle.clone().router())
    }

    /// Whether the registry would answer members now.
    ///
    /// # Errors
    /// The first of what closes it: revocation list, manifest, clock, a restored past, log, index.
    pub async fn ready(&self) -> Result<(), Refusal> {
        self.trust.crl_number().ok_or(Refusal::CrlMissing)?;
        self.open_house(self.clock.now())?;
        if self.recovery.closed() {
            return Err(Refusal::Restored);
        }
        self.journal.health()?;
        self.store.ready().await?;
        Ok(())
    }

    /// Remembers the number of the revocation list held, if it is new, so that no restart can bring back an older one.
    pub(crate) fn keep_crl_number(&self) -> io::Result<()> {
        let Some(number) = self.trust.crl_number() else { return Ok(()) };
        if number > self.crl_kept.load(Ordering::Acquire) {
            write_atomically(&self.config.crl_number(), number.to_string().as_bytes())?;
            self.crl_kept.fetch_max(number, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Records a revocation list that came into force, and a certificate in place of `before`.
    async fn note_files(&self, before: &mut [u8; 32]) -> Result<(), AppendError> {
        if let Some((number, revoked)) = self.trust.crl_counts()
            && number > self.crl_noted.load(Ordering::Acquire)
        {
            let counts = CrlCounts { number, revoked };
            let _recorded = self.journal.append(Event::Crl { counts }).await?;
            self.crl_noted.fetch_max(number, Ordering::AcqRel);
        }
        let used = self.identity.current().cert_sha256();
        if used != *before {
            let _recorded = self.journal.append(Event::Certificate { certificate: b64(&used) }).await?;
            *before = used;
        }
        Ok(())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The number of the revocation list held.
    pub(crate) fn crl_number(&self) -> Option<u64> {
        self.trust.crl_number()
    }

    /// How many hold on to it, or to its log: one once a stopped registry has nothing left to do.
    #[must_use]
    pub fn handles(self: &Arc<Self>) -> usize {
        Arc::strong_count(self).max(Arc::strong_count(&self.circle))
    }

    /// The registry's own log, for reading, checkpoints and witnesses.
    #[must_use]
    pub fn log(&self) -> &Log {
        self.journal.log()
    }
}

fn read(path: &Path) -> Result<String, OpenError> {
    std::fs::read_to_string(path).map_err(|source| OpenError::Read { path: path.to_owned(), source })
}

/// Keeps the number of every list that is taken up from its file, and records it and every new certificate, as soon as
/// they are.
async fn follow_files(registry: Arc<Registry>, shutdown: CancellationToken) {
    let mut certificate = registry.identity.current().cert_sha256();
    while shutdown.run_until_cancelled(tokio::time::sleep(registry.config.peers.reload)).await.is_some() {
        let keeping = registry.clone();
        if let Err(error) = compute(move || Ok(keeping.keep_crl_number()?)).await {
            tracing::warn!(reason = error.to_string(), "the revocation list's number was not kept");
        }
        if let Err(error) = registry.note_files(&mut certificate).await {
            tracing::error!(%error, "a new revocation list or certificate is not recorded yet");
        }
    }
}

/// The number kept by [`Registry::keep_crl_number`]; 0 before the first.
fn highest_crl_number(path: &Path) -> Result<u64, OpenError> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_| OpenError::damaged(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(OpenError::Read { path: path.to_owned(), source }),
    }
}

pub(crate) fn open_journal(
    config: &Config,
    secrets: &Secrets,
    keys: &KeyRing,
    clock: Clock,
) -> Result<Journal, audit::Fault> {
    let place = continuation::place(config)?;
    let now = clock.clone();
    let log = Log::open(audit::Config {
        dir: &place.dir(),
        origin: &place.origin(),
        signing_key: keys.log.seed(),
        payload_key: &secrets.storage.derive("log-payload"),
        now: Box::new(move || now.now().0),
    })?;
    Journal::resume(log, secrets.storage.mac("log-index"), clock)
}

fn open_circle(config: &Config, keys: &KeyRing, journal: &Journal, clock: Clock) -> Result<Circle, audit::Fault> {
    let seed = keys.key(KeyUse::Cosign).seed();
    Circle::open(&config.witness(), (&config.realm, &config.member), seed, journal.log().clone(), clock)
}

/// `GET /v1/crl`: the revocation list held, PEM. Its number is on the disk before anybody relies on it.
async fn crl(State(registry): State<Arc<Registry>>, _: Peer) -> Result<String, Refusal> {
    compute(move || {
        let crl = registry.trust.crl_pem().ok_or(Refusal::CrlMissing)?;
        registry.keep_crl_number()?;
        Ok(crl)
    })
    .await
}

async fn ready(State(registry): State<Arc<Registry>>) -> Result<impl IntoResponse, Refusal> {
    registry.ready().await.map(|()| "ready")
}
