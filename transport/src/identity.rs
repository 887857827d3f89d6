//! This node's own certificate and key.

use crate::{PeerIdentity, TrustError, crypto};
use protocol::{SpiffeId, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Why a certificate and key cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No certificates in the certificate file.
    #[error("the certificate file holds no PEM certificates")]
    NoCertificate,
    /// No private key in the key file.
    #[error("the key file holds no PEM private key")]
    NoKey,
    /// The key is of an unknown kind or belongs to another certificate.
    #[error("the key cannot be used with the certificate")]
    Key(#[source] rustls::Error),
    /// The certificate names no member.
    #[error("the certificate names no member")]
    Certificate(#[source] TrustError),
    /// A renewed certificate names somebody else.
    #[error("the new certificate belongs to {found}, this node is {expected}")]
    OtherMember {
        /// Who this node is.
        expected: SpiffeId,
        /// Whom the new certificate names.
        found: SpiffeId,
    },
    /// No key or request could be generated.
    #[error("cannot generate a key and request")]
    Generate(#[source] rcgen::Error),
    /// TLS cannot be configured with them.
    #[error("TLS cannot be configured")]
    Tls(#[source] rustls::Error),
}

impl IdentityError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            IdentityError::Read { .. } => "identity_unreadable",
            IdentityError::NoCertificate => "identity_no_certificate",
            IdentityError::NoKey => "identity_no_key",
            IdentityError::Key(_) => "identity_key_mismatch",
            IdentityError::Certificate(_) => "identity_certificate_invalid",
            IdentityError::OtherMember { .. } => "identity_other_member",
            IdentityError::Generate(_) => "identity_generate",
            IdentityError::Tls(_) => "identity_tls",
        }
    }
}

/// A certificate chain (leaf, then issuing authority) with its private key.
#[derive(Debug)]
pub struct Identity {
    pub(crate) key: Arc<CertifiedKey>,
    leaf: PeerIdentity,
}

impl Identity {
    /// Reads `cert_path` (PEM, leaf first, then the issuing authority) and `key_path` (PEM, PKCS#8).
    ///
    /// # Errors
    /// A file that cannot be read or parsed, a key of another certificate, a certificate that names no member. Dates
    /// are not looked at: peers refuse an expired one.
    pub fn load(cert_path: &Path, key_path: &Path) -> Result<Self, IdentityError> {
        Identity::from_pem(&read(cert_path)?, &read(key_path)?)
    }

    /// The same from the files' contents.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_pem(cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, IdentityError> {
        let key = certified_key(cert_pem, key_pem)?;
        let leaf = key.end_entity_cert().map_err(IdentityError::Key)?;
        let leaf = PeerIdentity::from_certificate(leaf).map_err(IdentityError::Certificate)?;
        Ok(Identity { key, leaf })
    }

    /// Who this node is.
    #[must_use]
    pub fn spiffe(&self) -> &SpiffeId {
        &self.leaf.spiffe
    }

    /// SHA-256 of the leaf's DER, the `x5t#S256` peers see (RFC 8705 §3.1).
    #[must_use]
    pub fn cert_sha256(&self) -> [u8; 32] {
        self.leaf.cert_sha256
    }

    /// The last second the leaf is valid.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.leaf.not_after
    }
}

/// Makes a P-256 key and a certificate request for it with `spiffe` as its one URI name: (PKCS#8 PEM, PKCS#10 PEM).
/// The key never leaves the member; the request goes to `certs::Authority::sign`.
///
/// # Errors
/// [`IdentityError::Generate`] if the system gives no randomness.
pub fn new_key_and_csr(spiffe: &SpiffeId) -> Result<(Zeroizing<String>, String), IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Generate)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, spiffe.member().as_str());
    let uri = spiffe.to_string().try_into().map_err(IdentityError::Generate)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    let request = params.serialize_request(&key).and_then(|request| request.pem());
    Ok((Zeroizing::new(key.serialize_pem()), request.map_err(IdentityError::Generate)?))
}

pub(crate) fn certified_key(cert_pem: &[u8], key_pem: &[u8]) -> Result<Arc<CertifiedKey>, IdentityError> {
    let chain = CertificateDer::pem_slice_iter(cert_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| IdentityError::NoCertificate)?;
    if chain.is_empty() {
        return Err(IdentityError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| IdentityError::NoKey)?;
    CertifiedKey::from_der(chain, key, &crypto::provider()).map(Arc::new).map_err(IdentityError::Key)
}

/// Reads a file that may hold a key.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(source) => Err(IdentityError::Read { path: path.to_owned(), source }),
    }
}
