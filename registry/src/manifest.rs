//! The manifest the registry holds: accepted, recorded, kept, served.
//!
//! **Kept** in one file, `manifest.sealed`, under the storage key, so that whoever can write the disk cannot slip in a
//! manifest of their own. **An update** is written beside it and renamed over it. **A crash** leaves the old manifest or
//! the new one; the log may already name the new one, which is then published again.

use crate::admit::{compute, whole};
use crate::errors::Refusal;
use crate::events::Event;
use crate::server::{OpenError, Registry};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use keyring::{KeyRing, Sealer, StorageKey, write_atomically};
use protocol::manifest::{KeyUse, ManifestError, ManifestRef, SignedManifest, TIME_HEADER};
use protocol::{Bytes as Base64, Manifest, MemberId};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use transport::Peer;

const AAD: &[u8] = b"ogniwo/v1/registry-manifest";

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
    path: PathBuf,
    sealer: Sealer,
    held: RwLock<Option<Arc<Held>>>,
    /// Publications happen one after the other.
    publishing: tokio::sync::Mutex<()>,
}

impl Manifests {
    pub(crate) fn open(path: PathBuf, storage: &StorageKey) -> Result<Self, OpenError> {
        let sealer = storage.sealer("manifest").map_err(|_| OpenError::damaged(&path))?;
        let held = read(&path, &sealer)?.map(Arc::new);
        Ok(Manifests { path, sealer, held: RwLock::new(held), publishing: tokio::sync::Mutex::default() })
    }

    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, held: Held) -> Result<(), Refusal> {
        write_atomically(&self.path, &self.sealer.seal(AAD, &held.json)?)?;
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(held));
        Ok(())
    }
}

fn read(path: &Path, sealer: &Sealer) -> Result<Option<Held>, OpenError> {
    let file = match std::fs::read(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Read { path: path.to_owned(), source }),
    };
    let json = sealer.open(AAD, &file).map_err(|_| OpenError::damaged(path))?;
    let signed: SignedManifest = serde_json::from_slice(&json).map_err(|_| OpenError::damaged(path))?;
    let manifest = signed.accept_held().map_err(|_| OpenError::damaged(path))?;
    Held::new(manifest, signed).map(Some).map_err(|_| OpenError::damaged(path))
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
        if !names(&manifest, &self.config.id, &self.keys) {
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
        let _recorded = self.journal.append(now, Event::Manifest { manifest: held.reference.clone() }).await?;
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
    // Members hold their clocks against ours.
    let time = (HeaderName::from_static(TIME_HEADER), registry.clock.now().0.to_string());
    Ok(([(CONTENT_TYPE, "application/json".to_owned()), time], held.json.clone()))
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
