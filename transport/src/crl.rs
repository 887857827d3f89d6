//! A certificate revocation list (RFC 5280 §5), verified before it is believed.

use crate::TrustError;
use protocol::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

/// One CRL whose signature was verified up to a root.
#[derive(Debug)]
pub(crate) struct Crl {
    pem: String,
    der: CertificateRevocationListDer<'static>,
    list: CertRevocationList<'static>,
    number: u64,
    revoked: usize,
    next_update: Timestamp,
}

impl Crl {
    /// Reads `pem`, the certificate of the issuing authority beside one CRL, and verifies both under `roots` at `now`.
    pub(crate) fn verify(pem: &str, roots: &[CertificateDer<'_>], now: Timestamp) -> Result<Self, TrustError> {
        let bad = TrustError::Crl;
        let mut lists = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes());
        let (Some(Ok(der)), None) = (lists.next(), lists.next()) else {
            return Err(bad("not PEM with exactly one X509 CRL"));
        };
        let authorities = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| bad("a certificate beside it is not PEM"))?;
        let (_, parsed) = CertificateRevocationList::from_der(&der).map_err(|_| bad("not a CRL"))?;
        let signed = |authority: &CertificateDer<'_>| signed_by(&parsed, authority, roots, now);
        if !authorities.iter().any(signed) {
            return Err(bad(
                "not signed by an issuing authority under our root (its certificate must stand beside it)",
            ));
        }
        let number = parsed
            .crl_number()
            .and_then(|number| u64::try_from(number).ok())
            .ok_or(bad("no CRL number, or one above 64 bits"))?;
        let next_update = parsed.next_update().ok_or(bad("no next update"))?.timestamp();
        // webpki is stricter about extensions, and is what handshakes ask.
        let list = OwnedCertRevocationList::from_der(&der).map_err(|_| bad("unsupported extensions"))?;
        Ok(Crl {
            pem: pem.to_owned(),
            list: list.into(),
            number,
            revoked: parsed.iter_revoked_certificates().count(),
            next_update: Timestamp(next_update),
            der: der.clone(),
        })
    }

    pub(crate) fn revokes(&self, serial: &[u8]) -> bool {
        // An entry that cannot be read may be the one looked for.
        !matches!(self.list.find_serial(serial), Ok(None))
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// How many certificates it revokes.
    pub(crate) fn revoked(&self) -> usize {
        self.revoked
    }

    /// From this second on the list says nothing any more.
    pub(crate) fn next_update(&self) -> Timestamp {
        self.next_update
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn list(&self) -> &CertRevocationList<'static> {
        &self.list
    }
}

fn signed_by(
    crl: &CertificateRevocationList<'_>,
    authority: &CertificateDer<'_>,
    roots: &[CertificateDer<'_>],
    now: Timestamp,
) -> bool {
    let Ok((_, issuer)) = X509Certificate::from_der(authority) else { return false };
    issuer.subject() == crl.issuer()
        && may_sign_crls(&issuer, now)
        && crl.verify_signature(issuer.public_key()).is_ok()
        && roots.iter().any(|root| {
            X509Certificate::from_der(root).is_ok_and(|(_, root)| {
                issuer.issuer() == root.subject() && issuer.verify_signature(Some(root.public_key())).is_ok()
            })
        })
}

fn may_sign_crls(issuer: &X509Certificate<'_>, now: Timestamp) -> bool {
    issuer.is_ca()
        && issuer.key_usage().is_ok_and(|usage| usage.is_some_and(|usage| usage.value.crl_sign()))
        && ASN1Time::from_timestamp(now.0).is_ok_and(|now| issuer.validity().is_valid_at(now))
}
