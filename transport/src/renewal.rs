//! Renewal without a restart: the certificate in use, replaced when its files change.

use crate::certificate::sha256;
use crate::identity::{Identity, IdentityError, read};
use crate::trust::Trust;
use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// The identity in use. Each new handshake, as server or client, takes the current one; a client also dials anew.
#[derive(Debug)]
pub struct IdentityStore {
    cert_path: PathBuf,
    key_path: PathBuf,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    identity: Arc<Identity>,
    /// SHA-256 of both files, to see whether they changed.
    files: [u8; 32],
}

impl IdentityStore {
    /// Loads the identity from its files (see [`Identity::load`]).
    ///
    /// # Errors
    /// As [`Identity::load`].
    pub fn load(cert_path: &Path, key_path: &Path) -> Result<Self, IdentityError> {
        let loaded = Loaded::read(cert_path, key_path)?;
        Ok(IdentityStore {
            cert_path: cert_path.to_owned(),
            key_path: key_path.to_owned(),
            current: ArcSwap::from_pointee(loaded),
        })
    }

    /// The identity in use now.
    #[must_use]
    pub fn current(&self) -> Arc<Identity> {
        self.current.load().identity.clone()
    }

    /// Reads the files again; returns whether they hold another certificate or key than before.
    ///
    /// # Errors
    /// As [`Identity::load`], or [`IdentityError::OtherMember`]. The identity in use stays.
    pub fn reload(&self) -> Result<bool, IdentityError> {
        let loaded = Loaded::read(&self.cert_path, &self.key_path)?;
        let held = self.current.load();
        if loaded.files == held.files {
            return Ok(false);
        }
        let (expected, found) = (held.identity.spiffe(), loaded.identity.spiffe());
        if expected != found {
            return Err(IdentityError::OtherMember { expected: expected.clone(), found: found.clone() });
        }
        self.current.store(Arc::new(loaded));
        Ok(true)
    }
}

impl Loaded {
    fn read(cert_path: &Path, key_path: &Path) -> Result<Self, IdentityError> {
        let (cert, key) = (read(cert_path)?, read(key_path)?);
        let identity = Arc::new(Identity::from_pem(&cert, &key)?);
        let both = Zeroizing::new([cert.as_slice(), key.as_slice()].concat());
        Ok(Loaded { identity, files: sha256(&both) })
    }
}

impl ResolvesServerCert for IdentityStore {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key.clone())
    }
}

impl ResolvesClientCert for IdentityStore {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Reads the identity's files, and the CRL file if there is one, every `interval` until `shutdown`, and takes what is
/// new. What cannot be taken is logged once and tried again at each round: a pair of files is not replaced in one go.
pub async fn watch(
    identity: Arc<IdentityStore>,
    trust: Arc<Trust>,
    crl_path: Option<PathBuf>,
    interval: Duration,
    shutdown: CancellationToken,
) {
    let mut reported = Reported::default();
    while shutdown.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        let (store, trust, path) = (identity.clone(), trust.clone(), crl_path.clone());
        let round = tokio::task::spawn_blocking(move || (reload(&store), path.map(|path| reload_crl(&trust, &path))));
        let Ok((certificate, crl)) = round.await else { continue };
        reported.certificate(certificate);
        reported.crl(crl.unwrap_or(Ok(false)));
    }
}

type Round = Result<bool, (&'static str, String)>;

fn reload(store: &IdentityStore) -> Round {
    store.reload().map_err(|error| (error.code(), error.to_string()))
}

fn reload_crl(trust: &Trust, path: &Path) -> Round {
    let pem = std::fs::read_to_string(path).map_err(|error| ("crl_unreadable", error.to_string()))?;
    trust.update_crl(&pem).map_err(|error| (error.code(), error.to_string()))
}

/// The last failure of each, so that the same one is not logged at every round.
#[derive(Default)]
struct Reported {
    certificate: Option<String>,
    crl: Option<String>,
}

impl Reported {
    fn certificate(&mut self, round: Round) {
        match report(&mut self.certificate, round) {
            Some(Ok(())) => tracing::info!("the certificate was renewed"),
            Some(Err((code, error))) => tracing::error!(code, error, "the new certificate is not used"),
            None => {}
        }
    }

    fn crl(&mut self, round: Round) {
        match report(&mut self.crl, round) {
            Some(Ok(())) => tracing::info!("a newer CRL was taken"),
            Some(Err((code, error))) => tracing::error!(code, error, "the CRL file is not used"),
            None => {}
        }
    }
}

/// What of `round` is news.
fn report(last: &mut Option<String>, round: Round) -> Option<Result<(), (&'static str, String)>> {
    match round {
        Ok(changed) => {
            *last = None;
            changed.then_some(Ok(()))
        }
        Err((code, error)) => (last.replace(error.clone()).as_ref() != Some(&error)).then_some(Err((code, error))),
    }
}
