//! Requests to sign, and readers for the answers.

use certs::Authority;
use protocol::{MemberId, Realm, Timestamp};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use std::path::PathBuf;
use tempfile::TempDir;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

/// 2027-01-15T08:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(crate) const DAY: i64 = 86_400;

pub(crate) fn member(id: &str) -> MemberId {
    id.parse().unwrap()
}

pub(crate) fn realm() -> Realm {
    "lodz.example".parse().unwrap()
}

/// A founded authority; the directory lives as long as the first value.
pub(crate) fn founded() -> (TempDir, PathBuf, Authority) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("ca");
    let authority = Authority::init(&dir, realm(), NOW).unwrap();
    (temp, dir, authority)
}

pub(crate) fn uri(member: &str) -> SanType {
    SanType::URI(format!("spiffe://lodz.example/member/{member}").try_into().unwrap())
}

/// A request for `member`, changed by `edit` before signing.
pub(crate) fn csr_with(member: &str, edit: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "whatever the request says");
    params.subject_alt_names = vec![uri(member)];
    edit(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

pub(crate) fn csr(member: &str) -> String {
    csr_with(member, |_| ())
}

/// The certificates of a PEM text.
pub(crate) fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    X509Certificate::from_der(der).unwrap().1
}

pub(crate) fn serial_of(chain_pem: &str) -> Vec<u8> {
    parse(&chain(chain_pem)[0]).raw_serial().to_vec()
}

/// What a CRL says.
#[derive(Debug, PartialEq)]
pub(crate) struct Crl {
    pub(crate) number: u64,
    pub(crate) next_update: i64,
    pub(crate) revoked: Vec<Vec<u8>>,
}

/// Reads `pem` and verifies its signature by the certificate beside it.
pub(crate) fn read_crl(pem: &str) -> Crl {
    let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap();
    let crl = CertificateRevocationList::from_der(&der).unwrap().1;
    crl.verify_signature(parse(&chain(pem)[0]).public_key()).unwrap();
    Crl {
        number: u64::try_from(crl.crl_number().unwrap()).unwrap(),
        next_update: crl.next_update().unwrap().timestamp(),
        revoked: crl.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()).collect(),
    }
}
