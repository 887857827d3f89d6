//! The manifests the registry holds: accepted, recorded, kept, served.
//!
//! **Kept** in a directory, one file a version, under the storage key, so that whoever can write the disk cannot slip in a
//! manifest of their own. The highest version is in force; the others are for members that pinned an older one and walk
//! forward. **An update** is written beside its name and renamed. **A crash** leaves the old manifest or the new one in
//! force; the log may already name the new one, which is then published again.

use crate::admit::{compute, whole};
use crate::errors::Refusal;
use crate::events::Event;
use crate::server::{OpenError, Registry};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path as UrlPath, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::IntoResponse;
use keyring::{KeyRing, Sealer, StorageKey, write_atomically};
use protocol::encoding::{b64, unb64};
use protocol::manifest::{KeyUse, ManifestError, ManifestRef, NEXT_HEADER, SignedManifest, TIME_HEADER};
use protocol::registry::INDEX_HEADER;
use protocol::{Bytes as Base64, Manifest, MemberId};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use transport::Peer;

const AAD: &[u8] = b"ogniwo/v1/registry-manifest";
/// For what another process may have written of the index.
const READING: Duration = Duration::from_secs(2);

/// A manifest accepted.
pub(crate) struct Held {
    pub(crate) manifest: Manifest,
    signed: SignedManifest,
    /// Its version and hash.
    reference: ManifestRef,
    /// `signed` as JSON, as it is served.
    json: Bytes,
}

impl Held {
    fn new(manifest: Manifest, signed: SignedManifest) -> Result<Self, ManifestError> {
        let reference = ManifestRef { version: manifest.version, hash: Base64(signed.hash().to_vec()) };
        let json = serde_json::to_vec(&signed).map_err(|_| ManifestError::Malformed)?.into();
        Ok(Held { manifest, signed, reference, json })
    }

    /// Whether a message was written under this very manifest.
    pub(crate) fn agrees(&self, other: &ManifestRef) -> Result<(), Refusal> {
        match other.version.cmp(&self.reference.version) {
            std::cmp::Ordering::Less => Err(Refusal::ManifestBehind),
            std::cmp::Ordering::Greater => Err(Refusal::ManifestUnknown),
            std::cmp::Ordering::Equal if other.hash != self.reference.hash => {
                tracing::error!(version = other.version, "a member holds another manifest under this version");
                Err(Refusal::ManifestMismatch)
            }
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}

/// The manifest in force and its file.
pub(crate) struct Manifests {
    dir: PathBuf,
    sealer: Sealer,
    held: RwLock<Option<Arc<Held>>>,
    /// Publications happen one after the other.
    publishing: tokio::sync::Mutex<()>,
}

impl Manifests {
    pub(crate) fn open(dir: PathBuf, storage: &StorageKey) -> Result<Self, OpenError> {
        let sealer = storage.sealer("manifest").map_err(|_| OpenError::damaged(&dir))?;
        let mut manifests =
            Manifests { dir, sealer, held: RwLock::default(), publishing: tokio::sync::Mutex::default() };
        let newest = manifests.versions().map_err(|source| OpenError::Read { path: manifests.dir.clone(), source })?;
        if let Some(version) = newest.last() {
            let held = manifests.version(*version)?;
            manifests.held = RwLock::new(Some(Arc::new(held)));
        }
        Ok(manifests)
    }

    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, held: Held) -> Result<(), Refusal> {
        match std::fs::DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        write_atomically(&self.file(held.reference.version), &self.sealer.seal(AAD, &held.json)?)?;
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(held));
        Ok(())
    }

    /// The versions kept, in order.
    fn versions(&self) -> std::io::Result<Vec<u64>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut versions = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            versions.extend(name.to_str().and_then(|name| name.strip_suffix(".sealed")?.parse::<u64>().ok()));
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// The manifest `version`, as it was accepted.
    fn version(&self, version: u64) -> Result<Held, OpenError> {
        let path = self.file(version);
        let damaged = || OpenError::damaged(&path);
        let file = std::fs::read(&path).map_err(|source| OpenError::Read { path: path.clone(), source })?;
        let json = self.sealer.open(AAD, &file).map_err(|_| damaged())?;
        let signed: SignedManifest = serde_json::from_slice(&json).map_err(|_| damaged())?;
        let manifest = signed.accept_held().map_err(|_| damaged())?;
        let held = Held::new(manifest, signed).map_err(|_| damaged())?;
        if held.reference.version == version { Ok(held) } else { Err(damaged()) }
    }

    /// The manifest of that version or fingerprint, and the version accepted after it.
    fn find(&self, which: &Which) -> Result<Option<(Held, Option<u64>)>, OpenError> {
        let versions = self.versions().map_err(|source| OpenError::Read { path: self.dir.clone(), source })?;
        for (place, version) in versions.iter().enumerate() {
            if matches!(which, Which::Version(wanted) if wanted != version) {
                continue;
            }
            let held = self.version(*version)?;
            if matches!(which, Which::Fingerprint(wanted) if *wanted != held.reference.hash.0) {
                continue;
            }
            return Ok(Some((held, versions.get(place + 1).copied())));
        }
        Ok(None)
    }

    fn file(&self, version: u64) -> PathBuf {
        self.dir.join(format!("{version}.sealed"))
    }
}

enum Which {
    Version(u64),
    Fingerprint(Vec<u8>),
}

impl Which {
    fn parse(text: &str) -> Option<Self> {
        let fingerprint = || unb64::<32>(text).map(|hash| Which::Fingerprint(hash.to_vec()));
        text.parse().map(Which::Version).ok().or_else(fingerprint)
    }
}

impl Registry {
    /// Publishes a manifest: the first must be the one pinned in the configuration, every later one a successor of the
    /// one held. Publishing the one held again changes nothing. Returns its version.
    ///
    /// # Errors
    /// [`Refusal`]: not accepted, not about this registry, expired, or not to be recorded or kept.
    pub async fn publish(&self, offered: SignedManifest) -> Result<u64, Refusal> {
        let _turn = self.manifests.publishing.lock().await;
        let now = self.clock.now();
        let accepted = match self.manifests.held() {
            Some(held) if held.signed.manifest == offered.manifest => return Ok(held.manifest.version),
            Some(held) => offered.accept_after(&held.signed),
            None => offered.accept_first(&self.config.manifest_fingerprint.ok_or(Refusal::ManifestNotPinned)?),
        };
        let manifest = accepted.map_err(Refusal::ManifestRefused)?;
        if manifest.realm != self.config.realm {
            return Err(Refusal::ManifestRefused(ManifestError::OtherRealm));
        }
        if !names(&manifest, &self.config.member, &self.keys) {
            return Err(Refusal::ManifestNotOurs);
        }
        if !manifest.issued.not_ahead_of(now) {
            return Err(Refusal::ClockWrong);
        }
        if now > manifest.expires {
            return Err(Refusal::ManifestRefused(ManifestError::Expired));
        }
        let held = Held::new(manifest, offered).map_err(Refusal::ManifestRefused)?;
        let version = held.manifest.version;
        let _recorded = self.journal.append(Event::Manifest { manifest: held.reference.clone() }).await?;
        self.circle.follow(&held.manifest);
        self.manifests.keep(held)?;
        tracing::info!(version, "a manifest came into force");
        Ok(version)
    }
}

/// Whether the manifest gives the registry `id` our keys: with others, nobody could verify what we sign.
fn names(manifest: &Manifest, id: &MemberId, keys: &KeyRing) -> bool {
    let lists = |usage| {
        let ours = keys.key(usage).public();
        manifest.registry().is_some_and(|m| &m.id == id && m.keys.iter().any(|k| k.usage == usage && k.key == ours))
    };
    lists(KeyUse::Message) && lists(KeyUse::Log)
}

/// `GET /v1/manifest`: for every certificate of the realm, since whoever joins is not in it yet.
pub(crate) async fn serve(State(registry): State<Arc<Registry>>, _: Peer) -> Result<impl IntoResponse, Refusal> {
    let held = registry.manifests.held().ok_or(Refusal::ManifestMissing)?;
    // Members hold their clocks against ours, and their entries against our index.
    let time = (HeaderName::from_static(TIME_HEADER), registry.clock.now().0.to_string());
    let reading = tokio::time::timeout(READING, registry.generation.read(&*registry.store, &registry.blind));
    // Without its database the registry still brings members their manifest.
    let generation = reading.await.ok().and_then(Result::ok).unwrap_or_else(|| registry.generation.last());
    let index = (HeaderName::from_static(INDEX_HEADER), b64(&generation));
    Ok(([(CONTENT_TYPE, "application/json".to_owned()), time, index], held.json.clone()))
}

/// `GET /v1/manifest/{which}`: an older one by version or fingerprint, with the version that followed it.
pub(crate) async fn serve_older(
    State(registry): State<Arc<Registry>>,
    _: Peer,
    UrlPath(which): UrlPath<String>,
) -> Result<impl IntoResponse, Refusal> {
    let which = Which::parse(&which).ok_or(Refusal::Malformed("which"))?;
    let found = compute(move || {
        registry.manifests.find(&which).map_err(|error| {
            tracing::error!(reason = error.to_string(), "an old manifest cannot be read");
            Refusal::Internal("an old manifest cannot be read")
        })
    });
    let (held, next) = found.await?.ok_or(Refusal::VersionUnknown)?;
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    headers.extend(next.map(|next| (HeaderName::from_static(NEXT_HEADER), HeaderValue::from(next))));
    Ok((headers, held.json))
}

/// `PUT /v1/manifest`: anybody of the realm may bring one; the officers' signatures decide.
pub(crate) async fn offer(
    State(registry): State<Arc<Registry>>,
    _: Peer,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ManifestRef>, Refusal> {
    let body = whole(body)?;
    let offered = compute(move || serde_json::from_slice(&body).map_err(|_| Refusal::Malformed("body"))).await?;
    registry.publish(offered).await?;
    let held = registry.manifests.held().ok_or(Refusal::ManifestMissing)?;
    Ok(Json(held.reference.clone()))
}
