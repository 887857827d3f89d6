//! [`Trust`] as rustls asks for it, for either side of a handshake.

use crate::crypto;
use crate::trust::{Freshness, Trust, TrustError};
use protocol::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use webpki::KeyUsage;

/// Verifies peers by [`Trust`]. A client names the member it expects, a server takes any member of the realm.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) trust: Arc<Trust>,
    pub(crate) expected: Option<SpiffeId>,
    pub(crate) freshness: Freshness,
}

impl Verifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let peer = self.trust.verify(leaf, intermediates, now, usage, self.freshness).map_err(to_rustls)?;
        match &self.expected {
            Some(expected) if *expected != peer.spiffe => Err(to_rustls(TrustError::WrongMember)),
            _ => Ok(()),
        }
    }

    fn verify_signature(
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = crypto::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn schemes() -> Vec<SignatureScheme> {
        crypto::provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    /// Ignores `server_name`: a member is its SPIFFE id, wherever its DNS name points.
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, intermediates, now, KeyUsage::server_auth()).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, intermediates, now, KeyUsage::client_auth()).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

fn tls12() -> Error {
    Error::General("TLS 1.3 is required".into())
}

/// The rustls error whose alert tells the peer most, from which [`from_rustls`] gets the reason back.
fn to_rustls(error: TrustError) -> Error {
    Error::InvalidCertificate(match error {
        TrustError::Expired => CertificateError::Expired,
        TrustError::Revoked => CertificateError::Revoked,
        TrustError::UnknownIssuer => CertificateError::UnknownIssuer,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

/// Why we refused the peer, if that is what `error` says.
pub(crate) fn from_rustls(error: &Error) -> Option<TrustError> {
    match error {
        Error::NoCertificatesPresented => Some(TrustError::Certificate("none was presented")),
        Error::InvalidCertificate(CertificateError::Expired) => Some(TrustError::Expired),
        Error::InvalidCertificate(CertificateError::Revoked) => Some(TrustError::Revoked),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => Some(TrustError::UnknownIssuer),
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => other.downcast_ref().cloned(),
        Error::InvalidCertificate(other) => Some(TrustError::Path(other.to_string())),
        _ => None,
    }
}
