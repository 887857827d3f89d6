//! Founding, signing, revoking.

use crate::files::{self, Lock, PUBLIC, SECRET};
use crate::register::{Issued, Reason, Register, Status};
use crate::{AuthorityError, mint, request};
use data_encoding::HEXLOWER;
use protocol::{MemberId, Realm, SpiffeId, Timestamp};
use rcgen::{Issuer, KeyPair};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// Which certificates to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All of a member.
    Member(MemberId),
    /// The one with this serial number (hexadecimal).
    Serial(String),
}

/// An open certificate authority. Holds its directory's lock until dropped; never reads a clock.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    register: Register,
    root_pem: String,
    issuing_pem: String,
    issuing_not_after: Timestamp,
    issuer: Issuer<'static, KeyPair>,
    _lock: Lock,
}

impl Authority {
    /// Founds an authority for `realm` in `dir`, new or empty: root (10 years), issuing authority (5 years), an empty
    /// register and CRL number 1. Carry `root/` offline afterwards.
    ///
    /// # Errors
    /// [`AuthorityError::NotEmpty`]; a failure to write or to generate keys, after which `dir` is to be removed.
    pub fn init(dir: &Path, realm: Realm, now: Timestamp) -> Result<Self, AuthorityError> {
        files::new_directory(dir)?;
        let lock = files::lock(&dir.join("lock"))?;
        let root = mint::root(&realm, now)?;
        let issuing = mint::issuing(&realm, &root, now)?;
        for (name, key) in [("root", root.key()), ("issuing", issuing.key())] {
            files::new_directory(&dir.join(name))?;
            files::create(&dir.join(name).join("key.pem"), &Zeroizing::new(key.serialize_pem()), SECRET)?;
        }
        files::create(&dir.join("root.pem"), &root.pem(), PUBLIC)?;
        files::create(&dir.join("issuing/cert.pem"), &issuing.pem(), PUBLIC)?;
        Register { realm, crl_number: 0, certificates: Vec::new() }.save(&dir.join("issued.json"))?;
        let mut authority = Authority::load(dir, lock)?;
        authority.crl(now)?;
        Ok(authority)
    }

    /// Opens the authority in `dir`. Needs neither `root/` nor its key.
    ///
    /// # Errors
    /// [`AuthorityError::InUse`], or a file that is missing or damaged.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        // Only an authority gets a lock file.
        files::read(&dir.join("issued.json"))?;
        let lock = files::lock(&dir.join("lock"))?;
        Authority::load(dir, lock)
    }

    fn load(dir: &Path, lock: Lock) -> Result<Self, AuthorityError> {
        let (cert_path, key_path) = (dir.join("issuing/cert.pem"), dir.join("issuing/key.pem"));
        let issuing_pem = files::read(&cert_path)?.to_string();
        let key =
            KeyPair::from_pem(&files::read(&key_path)?).map_err(|error| AuthorityError::damaged(&key_path, &error))?;
        let der = CertificateDer::from_pem_slice(issuing_pem.as_bytes())
            .map_err(|error| AuthorityError::damaged(&cert_path, &error))?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|error| AuthorityError::damaged(&cert_path, &error))?;
        if parsed.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(AuthorityError::damaged(&key_path, &"it belongs to another certificate"));
        }
        Ok(Authority {
            register: Register::load(&dir.join("issued.json"))?,
            root_pem: files::read(&dir.join("root.pem"))?.to_string(),
            issuing_not_after: Timestamp(parsed.validity().not_after.timestamp()),
            issuer: Issuer::from_ca_cert_der(&der, key).map_err(|error| AuthorityError::damaged(&cert_path, &error))?,
            issuing_pem,
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// Signs `csr_pem` for `member`: 90 days, TLS server and client, its SPIFFE id as the one URI name. Returns the
    /// chain as PEM, leaf first, then the issuing authority. Whoever calls has made sure that the request is the
    /// member's.
    ///
    /// # Errors
    /// A request that is not signed by its own key, names anything but the member, or asks for more.
    pub fn sign(&mut self, csr_pem: &str, member: &MemberId, now: Timestamp) -> Result<String, AuthorityError> {
        let spiffe = SpiffeId::new(self.register.realm.clone(), member.clone());
        let key = request::public_key(csr_pem, &spiffe)?;
        let (issued, leaf) = mint::member(&spiffe, &key, &self.issuer, self.issuing_not_after, now)?;
        self.register.certificates.push(issued);
        self.save()?;
        Ok(leaf + &self.issuing_pem)
    }

    /// Signs `csr_pem` for a member that has a certificate in force.
    ///
    /// # Errors
    /// [`AuthorityError::NothingToRenew`] if all are revoked or expired, and as [`sign`](Self::sign).
    pub fn renew(&mut self, csr_pem: &str, member: &MemberId, now: Timestamp) -> Result<String, AuthorityError> {
        let mut known = self.register.certificates.iter();
        if !known.any(|issued| issued.spiffe.member() == member && issued.status(now) == Status::Valid) {
            return Err(AuthorityError::NothingToRenew(member.clone()));
        }
        self.sign(csr_pem, member, now)
    }

    /// Revokes what `target` names and returns the new CRL. What is revoked already keeps its date and reason.
    ///
    /// # Errors
    /// [`AuthorityError::UnknownCertificate`], and as [`crl`](Self::crl).
    pub fn revoke(&mut self, target: &Target, reason: Reason, now: Timestamp) -> Result<String, AuthorityError> {
        let mut matched = false;
        for issued in &mut self.register.certificates {
            let meant = match target {
                Target::Member(member) => issued.spiffe.member() == member,
                Target::Serial(serial) => issued.serial.eq_ignore_ascii_case(serial),
            };
            matched |= meant;
            if meant && issued.revoked_at.is_none() {
                (issued.revoked_at, issued.reason) = (Some(now), Some(reason));
            }
        }
        if matched { self.crl(now) } else { Err(AuthorityError::UnknownCertificate) }
    }

    /// Issues the CRL anew under the next number, good for 24 h, writes `crl.pem` and returns it: the issuing
    /// authority's certificate, then the CRL, as `transport::Trust` takes it.
    ///
    /// # Errors
    /// A file that cannot be written. The number is spent all the same.
    pub fn crl(&mut self, now: Timestamp) -> Result<String, AuthorityError> {
        self.register.crl_number += 1;
        let crl = mint::crl(&self.register, &self.issuer, now)?;
        // Revocations first: a CRL that is out must never be forgotten.
        self.save()?;
        let pem = format!("{}{crl}", self.issuing_pem);
        files::replace(&self.dir.join("crl.pem"), &pem)?;
        Ok(pem)
    }

    /// Everything issued, oldest first; see [`Issued::status`].
    #[must_use]
    pub fn show(&self) -> &[Issued] {
        &self.register.certificates
    }

    /// The realm whose members it signs.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.register.realm
    }

    /// The number of the newest CRL.
    #[must_use]
    pub fn crl_number(&self) -> u64 {
        self.register.crl_number
    }

    /// The root certificate.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The issuing authority's certificate.
    #[must_use]
    pub fn issuing_pem(&self) -> &str {
        &self.issuing_pem
    }

    /// SHA-256 of the root certificate's DER as 64 hexadecimal digits, to be compared out of band.
    ///
    /// # Errors
    /// [`AuthorityError::Damaged`] if `root.pem` is no PEM.
    pub fn root_fingerprint(&self) -> Result<String, AuthorityError> {
        let der = CertificateDer::from_pem_slice(self.root_pem.as_bytes())
            .map_err(|error| AuthorityError::damaged(&self.dir.join("root.pem"), &error))?;
        Ok(HEXLOWER.encode(digest(&SHA256, &der).as_ref()))
    }

    fn save(&self) -> Result<(), AuthorityError> {
        self.register.save(&self.dir.join("issued.json"))
    }
}
