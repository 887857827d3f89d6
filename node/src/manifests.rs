//! The manifest this node goes by: kept, replaced only by a rightful successor, never by an older one. A node that was
//! away accepts every manifest it missed, in order: those who sign may have changed twice.

use crate::events::{Event, Happened, fingerprint};
use crate::node::{Node, NodeError};
use crate::store::{StoreError, Table};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use protocol::encoding::{b64, unb64};
use protocol::manifest::{KeyEpoch, KeyUse, ManifestError, ManifestRef, MemberKey, NEXT_HEADER, TIME_HEADER};
use protocol::registry::INDEX_HEADER;
use protocol::{Epoch, KeyId, Manifest, MemberId, Reason, SignedManifest, SpiffeId, Timestamp};
use pseudonym::PublicKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use transport::CallError;

/// Key in `state`.
const STATE_KEY: &[u8] = b"manifest";
const CRL_KEY: &[u8] = b"crl-number";
/// Key in `state` of what the registry said last of its index: see [`INDEX_HEADER`].
const INDEX_KEY: &[u8] = b"index-generation";
/// The registry's member id, before a manifest names it.
pub const REGISTRY: &str = "registry";
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two attempts at a manifest.
const REFRESH: Duration = Duration::from_secs(10);
/// After the first failed attempt at the first manifest; each further one doubles it, up to [`JOINING_MOST`].
const JOINING: Duration = Duration::from_millis(500);
const JOINING_MOST: Duration = Duration::from_secs(30);

/// A manifest accepted, with what is computed from it once.
pub(crate) struct Held {
    pub(crate) manifest: Manifest,
    pub(crate) signed: SignedManifest,
    pub(crate) hash: [u8; 32],
    keys: BTreeMap<Epoch, PublicKey>,
    /// Members' keys for messages by name: a name is a hash, and every message names its key.
    signers: BTreeMap<KeyId, Vec<(MemberId, MemberKey)>>,
}

impl Held {
    pub(crate) fn new(signed: SignedManifest, manifest: Manifest) -> Result<Self, ManifestError> {
        let keys = manifest
            .epochs
            .iter()
            .map(|epoch| Ok((epoch.epoch, public_key(epoch).ok_or(ManifestError::Inconsistent)?)))
            .collect::<Result<_, ManifestError>>()?;
        let mut signers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for member in &manifest.members {
            for key in member.keys.iter().filter(|key| key.usage == KeyUse::Message) {
                signers.entry(key.key.id()).or_default().push((member.id.clone(), key.clone()));
            }
        }
        Ok(Held { hash: signed.hash(), keys, signers, manifest, signed })
    }

    /// Who signs messages with the key named `kid` at `at`, and the key.
    pub(crate) fn signer(&self, kid: &KeyId, at: Timestamp) -> Option<(MemberId, protocol::PublicKey)> {
        let (member, key) = self.signers.get(kid)?.iter().find(|(_, key)| key.valid_at(at))?;
        Some((member.clone(), key.key))
    }

    /// How messages cite it.
    pub(crate) fn reference(&self) -> ManifestRef {
        ManifestRef { version: self.manifest.version, hash: self.hash.as_slice().into() }
    }

    /// The epoch to use now, with its public key.
    pub(crate) fn epoch(&self, now: Timestamp) -> Option<(&KeyEpoch, &PublicKey)> {
        self.key(self.manifest.current_epoch(now)?.epoch)
    }

    /// An epoch the manifest lists, in use or not, with its public key.
    pub(crate) fn key(&self, epoch: Epoch) -> Option<(&KeyEpoch, &PublicKey)> {
        Some((self.manifest.epoch(epoch)?, self.keys.get(&epoch)?))
    }
}

/// The public half of a key as the manifest has it.
pub(crate) fn public_key(epoch: &KeyEpoch) -> Option<PublicKey> {
    let shares = epoch
        .holders
        .iter()
        .map(|holder| Some((holder.id, holder.public_share.0.as_slice().try_into().ok()?)))
        .collect::<Option<_>>()?;
    PublicKey::new(epoch.threshold, epoch.group_key.0.as_slice().try_into().ok()?, &shares).ok()
}

/// Why a manifest could not be obtained.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The registry does not answer.
    #[error("the registry cannot be reached at {url}: {source}")]
    Unreachable {
        /// Where it was tried.
        url: String,
        /// Why.
        source: CallError,
    },
    /// No address is known.
    #[error("no address of the registry is known: set `registry` in the configuration")]
    NoAddress,
    /// No fingerprint pins the first manifest.
    #[error("the first manifest is not pinned: set `manifest_fingerprint` to what the officers read out")]
    NotPinned,
    /// What it gave is refused.
    #[error(transparent)]
    Refused(#[from] ManifestError),
    /// It could not be kept.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl RefreshError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            RefreshError::Unreachable { .. } | RefreshError::NoAddress => "registry_unavailable",
            RefreshError::NotPinned => "manifest_not_pinned",
            RefreshError::Refused(_) => "manifest_refused",
            RefreshError::Node(error) => error.code(),
        }
    }
}

/// Why the last attempt at a manifest failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrefreshed {
    /// Stable code of the [`RefreshError`].
    pub code: String,
    /// Its words.
    pub message: String,
    /// How many attempts failed one after another.
    pub attempts: u32,
}

/// The pause after the `attempts`th failed attempt at the first manifest.
fn joining(attempts: u32) -> Duration {
    JOINING.saturating_mul(1 << attempts.saturating_sub(1).min(6)).min(JOINING_MOST)
}

impl Node {
    /// What keeps the node closed, if it is that no manifest was accepted yet.
    pub(crate) fn why_closed(&self) -> Option<String> {
        if self.held.load().is_some() {
            return None;
        }
        let why = self.unrefreshed.load().as_ref().map_or_else(
            || "the registry is being asked for it".to_owned(),
            |last| format!("{} [{}]", last.message, last.code),
        );
        Some(format!("no manifest is accepted yet: {why}; `ogniwo node refresh` tries again at once"))
    }

    /// How long to wait before the registry is asked again.
    pub(crate) fn until_refresh(&self) -> Duration {
        if self.held.load().is_some() {
            return REFRESH;
        }
        joining(self.unrefreshed.load().as_ref().map_or(0, |last| last.attempts))
    }

    /// The manifest to act on now.
    pub(crate) fn manifest(&self) -> Result<std::sync::Arc<Held>, Reason> {
        let held = self.held.load_full().ok_or(Reason::NodeClosed)?;
        let now = self.now()?;
        if now > held.manifest.expires { Err(Reason::ManifestExpired) } else { Ok(held) }
    }

    /// Reads back the manifest accepted before.
    pub(crate) fn load_manifest(&self) -> Result<(), NodeError> {
        let Some(signed) = self.store.read()?.get::<SignedManifest>(Table::STATE, STATE_KEY)? else { return Ok(()) };
        let manifest = signed.accept_held().map_err(NodeError::Manifest)?;
        self.circle.follow(&manifest);
        self.held.store(Some(std::sync::Arc::new(Held::new(signed, manifest).map_err(NodeError::Manifest)?)));
        Ok(())
    }

    /// Accepts `signed` if it is the pinned first one or a rightful successor; whether it is new.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn accept_manifest(&self, signed: SignedManifest) -> Result<bool, RefreshError> {
        let _one_at_a_time = self.accepting.lock().await;
        let manifest = match self.held.load_full() {
            Some(held) if held.signed.manifest == signed.manifest => return Ok(false),
            Some(held) => signed.accept_after(&held.signed)?,
            None => signed.accept_first(&self.config.manifest_fingerprint.ok_or(RefreshError::NotPinned)?)?,
        };
        if manifest.realm != self.config.realm {
            return Err(ManifestError::OtherRealm.into());
        }
        self.now().map_err(|_| NodeError::Clock)?;
        if manifest.library != self.engine.library().pin() {
            tracing::warn!("the manifest names another policy library than this program's: queries will be refused");
        }
        let held = Held::new(signed, manifest)?;
        let mut event = Event::new(Happened::ManifestAccepted, &self.clock);
        event.detail = Some(fingerprint(&held.hash));
        let _recorded =
            self.log.append(&event.counting([("version", held.manifest.version)])).await.map_err(NodeError::from)?;
        self.store
            .write(|w| w.put(Table::STATE, STATE_KEY, &held.signed))
            .map_err(|e: StoreError| NodeError::from(e))?;
        self.circle.follow(&held.manifest);
        self.held.store(Some(std::sync::Arc::new(held)));
        Ok(true)
    }

    /// Asks the registry for its CRL and manifest; remembers whether it is away. Whether a manifest is new.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn refresh(&self) -> Result<bool, RefreshError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let fetched = self.fetch().await;
        let away = matches!(fetched, Err(RefreshError::Unreachable { .. }));
        self.registry_away.store(away, Ordering::Relaxed);
        let outcome = match fetched {
            Ok((url, newest)) => self.walk(&url, newest).await,
            Err(error) => Err(error),
        };
        self.note_refresh(outcome.as_ref().err());
        outcome
    }

    /// Remembers why the last attempt failed; says so once until the cause is another.
    fn note_refresh(&self, error: Option<&RefreshError>) {
        let before = self.unrefreshed.load_full();
        let now = error.map(|error| Unrefreshed {
            code: error.code().to_owned(),
            message: error.to_string(),
            attempts: before.as_ref().map_or(0, |last| last.attempts).saturating_add(1),
        });
        if let (Some(error), Some(now)) = (error, &now)
            && before.is_none_or(|last| last.message != now.message)
        {
            match error {
                RefreshError::Unreachable { .. } if self.held.load().is_some() => {
                    tracing::warn!(%error, "going on with the manifest held");
                }
                _ => tracing::error!(%error, "no new manifest"),
            }
        }
        self.unrefreshed.store(now.map(std::sync::Arc::new));
    }

    /// Accepts what came after the manifest held, or the one pinned, up to `newest`. A registry that knows less than we do
    /// is given ours.
    async fn walk(&self, url: &str, newest: SignedManifest) -> Result<bool, RefreshError> {
        let mut which = match self.held.load_full() {
            Some(held) if held.signed.manifest == newest.manifest => return Ok(false),
            Some(held) if newest.read()?.version < held.manifest.version => {
                self.bring_manifest(url, &held).await?;
                return Ok(false);
            }
            Some(held) => held.signed.fingerprint(),
            None => b64(&self.config.manifest_fingerprint.ok_or(RefreshError::NotPinned)?),
        };
        let mut changed = false;
        loop {
            let (headers, signed) = match self.fetch_manifest(url, &format!("/v1/manifest/{which}")).await {
                // Brought to the registry while ours was not: a successor all the same, or refused as none.
                Err(RefreshError::Unreachable { source: CallError::Problem(problem), .. })
                    if problem.code == "manifest_unknown" =>
                {
                    return self.accept_manifest(newest).await;
                }
                fetched => fetched?,
            };
            changed |= self.accept_manifest(signed).await?;
            let next = headers.get(NEXT_HEADER).and_then(|next| next.to_str().ok()?.parse::<u64>().ok());
            let Some(next) = next else { return Ok(changed) };
            which = next.to_string();
        }
    }

    /// Gives the registry the manifest held: it is behind, or was restored from a backup.
    pub(crate) async fn bring_manifest(&self, url: &str, held: &Held) -> Result<(), RefreshError> {
        let unreachable = |source| RefreshError::Unreachable { url: url.to_owned(), source };
        let body = serde_json::to_vec(&held.signed).map_err(|_| ManifestError::Malformed)?;
        let request =
            http::Request::put("/v1/manifest").header(CONTENT_TYPE, "application/json").body(Bytes::from(body));
        let request = request.map_err(|_| unreachable(CallError::BadUrl))?;
        self.client.call(&self.registry_id(), url, request, DEADLINE).await.map_err(unreachable)?;
        tracing::warn!(version = held.manifest.version, "the registry was behind and was given our manifest");
        Ok(())
    }

    /// The registry's newest manifest, and where it was got.
    async fn fetch(&self) -> Result<(String, SignedManifest), RefreshError> {
        let mut last = RefreshError::NoAddress;
        for url in self.registry_urls() {
            match self.fetch_from(&url).await {
                Ok(signed) => return Ok((url, signed)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn fetch_from(&self, url: &str) -> Result<SignedManifest, RefreshError> {
        let unreachable = |source| RefreshError::Unreachable { url: url.to_owned(), source };
        let crl = self.client.fetch_crl(&self.registry_id(), url, "/v1/crl", DEADLINE).await.map_err(unreachable)?;
        self.take_crl(&crl);
        let (headers, signed) = self.fetch_manifest(url, "/v1/manifest").await?;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(theirs) = text(TIME_HEADER).and_then(|time| time.parse().ok()) {
            self.compare_clock(Timestamp(theirs));
        }
        if let Some(index) = text(INDEX_HEADER).and_then(unb64::<16>) {
            self.keep_index(index).map_err(NodeError::from)?;
        }
        Ok(signed)
    }

    async fn fetch_manifest(&self, url: &str, path: &str) -> Result<(HeaderMap, SignedManifest), RefreshError> {
        let unreachable = |source| RefreshError::Unreachable { url: url.to_owned(), source };
        let request = http::Request::get(path).body(Bytes::new()).map_err(|_| unreachable(CallError::BadUrl))?;
        let answer = self.client.call(&self.registry_id(), url, request, DEADLINE).await.map_err(unreachable)?;
        let (head, body) = answer.into_parts();
        Ok((head.headers, serde_json::from_slice(&body).map_err(|_| ManifestError::Malformed)?))
    }

    /// Remembers which index the registry has; with another one, what was published before counts no more.
    fn keep_index(&self, index: [u8; 16]) -> Result<(), StoreError> {
        match self.index_generation()? {
            Some(known) if known == index => return Ok(()),
            Some(_) => tracing::warn!("the registry's index came from a backup: everybody is published again"),
            None => {}
        }
        self.store.write(|w| w.put(Table::STATE, INDEX_KEY, &index))
    }

    /// Which index the registry said it has, if it ever did.
    pub(crate) fn index_generation(&self) -> Result<Option<[u8; 16]>, StoreError> {
        self.store.read()?.get(Table::STATE, INDEX_KEY)
    }

    /// Takes the registry's CRL; an older one is not taken and not an error.
    fn take_crl(&self, pem: &str) {
        match self.trust.update_crl(pem) {
            Ok(true) => {
                self.keep_crl_number();
                if let Err(error) = keyring::write_atomically(&self.config.peers.crl, pem.as_bytes()) {
                    tracing::error!(%error, "the new CRL could not be kept");
                }
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(code = error.code(), "the registry's CRL is not taken"),
        }
    }

    /// Remembers the highest CRL number seen, so that a restart cannot bring back an older list.
    fn keep_crl_number(&self) {
        let Some(number) = self.trust.crl_number() else { return };
        let kept: Result<(), StoreError> = self.store.write(|w| w.put(Table::STATE, CRL_KEY, &number));
        if let Err(error) = kept {
            tracing::error!(%error, "the revocation list's number is not kept");
        }
    }

    /// Refuses revocation lists older than the highest seen before.
    pub(crate) fn require_crl(&self) -> Result<(), NodeError> {
        if let Some(number) = self.store.read()?.get::<u64>(Table::STATE, CRL_KEY)? {
            self.trust.require_crl(number);
        }
        self.keep_crl_number();
        Ok(())
    }

    /// Where the registry is, the manifest's word before the configuration's.
    pub(crate) fn registry_urls(&self) -> Vec<String> {
        let held = self.held.load();
        let listed = held.as_ref().and_then(|h| h.manifest.registry()).map(|r| r.endpoints.clone()).unwrap_or_default();
        listed.into_iter().chain(self.config.registry.clone()).collect()
    }

    /// Who the registry is.
    pub(crate) fn registry_id(&self) -> SpiffeId {
        let held = self.held.load();
        let named = held.as_ref().and_then(|h| h.manifest.registry()).map(|r| r.id.clone());
        let id = named.or_else(|| REGISTRY.parse::<MemberId>().ok()).unwrap_or_else(|| self.config.member.clone());
        SpiffeId::new(self.config.realm.clone(), id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_manifest_asks_less_and_less_often() {
        let pauses: Vec<u64> = (0..=9).map(|attempts| u64::try_from(joining(attempts).as_millis()).unwrap()).collect();
        assert_eq!(pauses, [500, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(joining(u32::MAX), JOINING_MOST);
    }
}
