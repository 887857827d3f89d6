//! rustls configurations: TLS 1.3 alone, every connection a full handshake.

use crate::identity::certified_key;
use crate::trust::Freshness;
use crate::verifier::Verifier;
use crate::{Clock, IdentityError, IdentityStore, Trust, crypto};
use protocol::SpiffeId;
use rustls::client::Resumption;
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, Error};
use std::sync::Arc;

/// How a listener proves itself and whom it lets in.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    /// Asked again at every request; absent where callers have no certificates.
    pub(crate) trust: Option<Arc<Trust>>,
}

impl ServerTls {
    /// Mutual TLS: a member's certificate is required. Certificate and CRL are looked up at each handshake, so that a
    /// renewed certificate and a newer CRL count from the next connection on.
    ///
    /// # Errors
    /// [`IdentityError::Tls`] if rustls refuses the configuration.
    pub fn mutual(trust: Arc<Trust>, identity: Arc<IdentityStore>) -> Result<Self, IdentityError> {
        let verifier = Verifier { trust: trust.clone(), expected: None, freshness: Freshness::Required };
        let config = ServerConfig::builder_with_details(crypto::provider(), Arc::new(trust.clock().clone()))
            .with_protocol_versions(&[&TLS13])
            .map_err(IdentityError::Tls)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(identity);
        Ok(ServerTls { config: Arc::new(without_resumption(config)), trust: Some(trust) })
    }

    /// One-way TLS for the local API: a server certificate of the institution's own, no client certificates.
    ///
    /// # Errors
    /// A certificate or key that cannot be read or do not belong together.
    pub fn local(cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, IdentityError> {
        let key = certified_key(cert_pem, key_pem)?;
        let config = ServerConfig::builder_with_provider(crypto::provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(IdentityError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        Ok(ServerTls { config: Arc::new(without_resumption(config)), trust: None })
    }
}

/// A resumed session would skip the peer's certificate, and 0-RTT data can be replayed (RFC 8446 §8).
fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// A client that will talk to `expected` and nobody else.
pub(crate) fn client(
    trust: Arc<Trust>,
    identity: Arc<IdentityStore>,
    clock: &Clock,
    expected: SpiffeId,
    freshness: Freshness,
) -> Result<ClientConfig, Error> {
    let verifier = Verifier { trust, expected: Some(expected), freshness };
    let mut config = ClientConfig::builder_with_details(crypto::provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(identity);
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
