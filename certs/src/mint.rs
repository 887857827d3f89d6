//! The shapes of certificates and CRLs (RFC 5280 §4 and §5).

use crate::AuthorityError;
use crate::register::{Issued, Reason, Register};
use data_encoding::HEXLOWER;
use protocol::{Realm, SpiffeId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKey,
    RevocationReason, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};
use std::ops::Add;
use std::time::Duration;

const DAY: i64 = 86_400;
const ROOT_DAYS: i64 = 3653;
const ISSUING_DAYS: i64 = 1826;
const MEMBER_DAYS: i64 = 90;
/// A CRL says nothing any more after this many seconds.
const CRL_SECONDS: i64 = DAY;
/// Validity begins this many seconds early: members' clocks differ.
const BACKDATED_SECONDS: i64 = 300;
/// The first second of the year 9950, so that no validity runs past 9999.
const LAST: i64 = 251_824_464_000;

/// A self-signed root for one level of issuing authorities.
pub(crate) fn root(realm: &Realm, now: Timestamp) -> Result<CertifiedIssuer<'static, KeyPair>, AuthorityError> {
    let params = authority(&format!("{realm} root"), 1, now, ROOT_DAYS)?;
    Ok(CertifiedIssuer::self_signed(params, p256()?)?)
}

/// An issuing authority that can sign members only.
pub(crate) fn issuing(
    realm: &Realm,
    root: &Issuer<'_, KeyPair>,
    now: Timestamp,
) -> Result<CertifiedIssuer<'static, KeyPair>, AuthorityError> {
    let mut params = authority(&format!("{realm} issuing"), 0, now, ISSUING_DAYS)?;
    params.use_authority_key_identifier_extension = true;
    Ok(CertifiedIssuer::signed_by(params, p256()?, root)?)
}

/// A member's certificate for `key`, not outliving `latest`: the register's line and the certificate as PEM.
pub(crate) fn member(
    spiffe: &SpiffeId,
    key: &PublicKey,
    issuer: &Issuer<'_, KeyPair>,
    latest: Timestamp,
    now: Timestamp,
) -> Result<(Issued, String), AuthorityError> {
    let serial = serial()?;
    let not_after = latest.min(now + MEMBER_DAYS * DAY);
    let mut params = template(spiffe.member().as_str(), &serial, now, not_after)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI(spiffe.to_string().try_into()?)];
    params.use_authority_key_identifier_extension = true;
    let pem = params.signed_by(key, issuer)?.pem();
    let entry = Issued {
        serial: HEXLOWER.encode(&serial),
        spiffe: spiffe.clone(),
        not_before: now + -BACKDATED_SECONDS,
        not_after,
        revoked_at: None,
        reason: None,
    };
    Ok((entry, pem))
}

/// The CRL of `register` under the number it holds. Certificates expired for a day are left out (RFC 5280 §3.3).
pub(crate) fn crl(register: &Register, issuer: &Issuer<'_, KeyPair>, now: Timestamp) -> Result<String, AuthorityError> {
    let epoch = date_time_ymd(1970, 1, 1);
    let mut revoked_certs = Vec::new();
    for issued in register.certificates.iter().filter(|issued| issued.not_after + DAY >= now) {
        if let Some(revoked_at) = issued.revoked_at {
            let serial =
                HEXLOWER.decode(issued.serial.as_bytes()).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
            revoked_certs.push(RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date(epoch, revoked_at)?,
                reason_code: issued.reason.map(code),
                invalidity_date: None,
            });
        }
    }
    let params = CertificateRevocationListParams {
        this_update: date(epoch, now)?,
        next_update: date(epoch, now + CRL_SECONDS)?,
        crl_number: SerialNumber::from(register.crl_number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(issuer)?.pem()?)
}

fn authority(name: &str, below: u8, now: Timestamp, days: i64) -> Result<CertificateParams, AuthorityError> {
    let mut params = template(name, &serial()?, now, now + days * DAY)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn template(
    name: &str,
    serial: &[u8],
    now: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date(epoch, now + -BACKDATED_SECONDS)?;
    params.not_after = date(epoch, not_after)?;
    Ok(params)
}

/// `seconds` after `epoch`, whose type rcgen takes but does not export.
fn date<T: Add<Duration, Output = T>>(epoch: T, time: Timestamp) -> Result<T, AuthorityError> {
    match u64::try_from(time.0) {
        Ok(seconds) if time.0 < LAST => Ok(epoch + Duration::from_secs(seconds)),
        _ => Err(AuthorityError::Time),
    }
}

fn p256() -> Result<KeyPair, AuthorityError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

/// 126 random bits in 16 bytes whose first is 0x40 to 0x7f: positive, without a leading zero (RFC 5280 §4.1.2.2).
fn serial() -> Result<[u8; 16], AuthorityError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    let [first, ..] = &mut serial;
    *first = (*first & 0x7f) | 0x40;
    Ok(serial)
}

fn code(reason: Reason) -> RevocationReason {
    match reason {
        Reason::Unspecified => RevocationReason::Unspecified,
        Reason::KeyCompromise => RevocationReason::KeyCompromise,
        Reason::AffiliationChanged => RevocationReason::AffiliationChanged,
        Reason::Superseded => RevocationReason::Superseded,
        Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
        Reason::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
    }
}
