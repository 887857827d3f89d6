//! What a certificate request may ask for: the member's name, and nothing that could become a power.

use crate::AuthorityError;
use protocol::SpiffeId;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData, SanType,
};

/// Length of an uncompressed P-256 point (SEC 1 §2.3.3).
const P256_POINT: usize = 65;

/// Verifies the signature of `csr_pem` (PKCS#10, RFC 2986: possession of the key), holds what it asks for against a
/// certificate for `expected`, and returns its public key, which is all that is taken from it.
pub(crate) fn public_key(csr_pem: &str, expected: &SpiffeId) -> Result<PublicKey, AuthorityError> {
    let CertificateSigningRequestParams { params, public_key } = CertificateSigningRequestParams::from_pem(csr_pem)
        .map_err(|error| AuthorityError::BadRequest(reason(&error).to_owned()))?;
    if *public_key.algorithm() != PKCS_ECDSA_P256_SHA256 || public_key.der_bytes().len() != P256_POINT {
        return Err(AuthorityError::BadRequest("the key must be P-256, signing with SHA-256".to_owned()));
    }
    let uri = expected.to_string();
    let named = match params.subject_alt_names.as_slice() {
        [SanType::URI(name)] => name.as_str() == uri,
        _ => false,
    };
    if !named {
        return Err(AuthorityError::WrongName { expected: expected.clone() });
    }
    if matches!(params.is_ca, IsCa::Ca(_)) {
        return Err(AuthorityError::AsksTooMuch("authority over others (CA:TRUE)"));
    }
    if params.key_usages.iter().any(|usage| *usage != KeyUsagePurpose::DigitalSignature) {
        return Err(AuthorityError::AsksTooMuch("a key usage other than digitalSignature"));
    }
    let tls = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if params.extended_key_usages.iter().any(|usage| !tls.contains(usage)) {
        return Err(AuthorityError::AsksTooMuch("a purpose other than TLS server and client"));
    }
    Ok(public_key)
}

fn reason(error: &rcgen::Error) -> &'static str {
    match error {
        rcgen::Error::InvalidCertificationRequestSignature => "its signature does not match its key",
        rcgen::Error::UnsupportedExtension => "it asks for an extension a member's certificate never has",
        rcgen::Error::UnsupportedSignatureAlgorithm => "the key must be P-256, signing with SHA-256",
        _ => "not a PEM certificate request",
    }
}
