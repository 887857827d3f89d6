//! A realm's root, issuing authority, members and CRLs.

use protocol::{MemberId, Realm, SpiffeId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use transport::{Client, Clock, IdentityStore, ServerTls, Trust};

/// 2027-01-15T08:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(crate) const HOUR: i64 = 3600;
/// A CRL's life.
pub(crate) const DAY: i64 = 86_400;

pub(crate) fn spiffe(member: &str) -> SpiffeId {
    SpiffeId::new(realm(), member.parse::<MemberId>().unwrap())
}

pub(crate) fn realm() -> Realm {
    "lodz.example".parse().unwrap()
}

pub(crate) struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
    issuing: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self::named("lodz")
    }

    /// Authorities under a name of their own.
    pub(crate) fn named(name: &str) -> Self {
        transport::install().unwrap();
        let root = CertifiedIssuer::self_signed(ca(&format!("{name} root"), 1), KeyPair::generate().unwrap()).unwrap();
        let issuing =
            CertifiedIssuer::signed_by(ca(&format!("{name} issuing"), 0), KeyPair::generate().unwrap(), &root).unwrap();
        Pki { root, issuing }
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// CRL `number` issued at `NOW`, good for a day, revoking these serials.
    pub(crate) fn crl(&self, number: u64, revoked: &[u64]) -> String {
        let epoch = date_time_ymd(1970, 1, 1);
        let now = epoch + Duration::from_secs(NOW.0.unsigned_abs());
        let crl = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::from_secs(DAY.unsigned_abs()),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: now,
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.issuing.pem() + &crl.signed_by(&self.issuing).unwrap().pem().unwrap()
    }

    /// A certificate chain and key for `member` under `serial`, changed by `edit` before signing.
    pub(crate) fn mint(
        &self,
        member: &str,
        serial: u64,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name.push(DnType::CommonName, member);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri(&spiffe(member).to_string())];
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuing).unwrap();
        (leaf.pem() + &self.issuing.pem(), key.serialize_pem())
    }

    /// A member with its own clock, trust (CRL 1, nobody revoked) and files.
    pub(crate) fn member(&self, member: &str, serial: u64) -> Member {
        self.member_with(self.mint(member, serial, |_| ()))
    }

    pub(crate) fn member_with(&self, (cert, key): (String, String)) -> Member {
        let clock = Clock::manual(NOW);
        let trust = Trust::load(&self.root_pem(), Some(&self.crl(1, &[])), realm(), clock.clone()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        write(&dir, &cert, &key);
        let identity =
            Arc::new(IdentityStore::load(&dir.path().join("cert.pem"), &dir.path().join("key.pem")).unwrap());
        Member { dir, clock, trust: Arc::new(trust), identity }
    }
}

pub(crate) struct Member {
    dir: TempDir,
    pub(crate) clock: Clock,
    pub(crate) trust: Arc<Trust>,
    pub(crate) identity: Arc<IdentityStore>,
}

impl Member {
    pub(crate) fn tls(&self) -> ServerTls {
        ServerTls::mutual(self.trust.clone(), self.identity.clone()).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.identity.clone(), self.trust.clone(), self.clock.clone())
    }

    /// Puts a new certificate and key into the files; nobody is told.
    pub(crate) fn replace_files(&self, (cert, key): (String, String)) {
        write(&self.dir, &cert, &key);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn write(dir: &TempDir, cert: &str, key: &str) {
    std::fs::write(dir.path().join("cert.pem"), cert).unwrap();
    std::fs::write(dir.path().join("key.pem"), key).unwrap();
}

fn ca(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
