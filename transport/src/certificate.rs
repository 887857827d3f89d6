//! What a member's certificate says about its holder.

use crate::TrustError;
use protocol::{SpiffeId, Timestamp};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A member as its certificate names it. The server puts it into the extensions of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The one URI name of the certificate.
    pub spiffe: SpiffeId,
    /// SHA-256 of the certificate's DER, the `x5t#S256` of RFC 8705 §3.1.
    pub cert_sha256: [u8; 32],
    /// Serial number, the content octets of the DER INTEGER (big endian).
    pub serial: Vec<u8>,
    /// The last second the certificate is valid.
    pub not_after: Timestamp,
}

impl PeerIdentity {
    /// Reads a leaf certificate. Verifies its shape, not its signature: webpki lets a missing purpose pass.
    ///
    /// # Errors
    /// [`TrustError::Certificate`] if it cannot be parsed, is not for TLS servers and clients (RFC 5280 §4.2.1.12), or
    /// has not exactly one URI name that is a SPIFFE id.
    pub(crate) fn from_certificate(der: &CertificateDer<'_>) -> Result<Self, TrustError> {
        let bad = TrustError::Certificate;
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| bad("not an X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(bad("bytes follow the certificate"));
        }
        let purposes = parsed.extended_key_usage().map_err(|_| bad("bad extended key usage"))?;
        if !purposes.is_some_and(|purposes| purposes.value.server_auth && purposes.value.client_auth) {
            return Err(bad("not for TLS servers and clients"));
        }
        let names = parsed.subject_alternative_name().map_err(|_| bad("bad subject alternative name"))?;
        let mut uris = names.iter().flat_map(|san| &san.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(bad("not exactly one URI name"));
        };
        Ok(PeerIdentity {
            spiffe: uri.parse().map_err(|_| bad("the URI name is no SPIFFE id of a member"))?,
            cert_sha256: sha256(der),
            serial: parsed.raw_serial().to_vec(),
            not_after: Timestamp(parsed.validity().not_after.timestamp()),
        })
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
