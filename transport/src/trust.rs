//! Whom this node believes: the realm's root certificates and the CRL it holds now.

use crate::crl::Crl;
use crate::{Clock, PeerIdentity, crypto};
use arc_swap::ArcSwapOption;
use protocol::saying::{Language, Saying, pick};
use protocol::{Realm, Timestamp};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::sync::{Arc, Mutex, PoisonError};
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
    anchor_from_trusted_cert,
};

/// Why a certificate or a CRL is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The root file holds no usable certificate.
    #[error("no usable root certificate: {0}")]
    Root(&'static str),
    /// The certificate has the wrong shape.
    #[error("the certificate is refused: {0}")]
    Certificate(&'static str),
    /// `webpki` refuses the path for a reason without a variant of its own here.
    #[error("the certificate path is refused: {0}")]
    Path(String),
    /// The path does not end in one of our roots.
    #[error("the certificate's issuer is unknown")]
    UnknownIssuer,
    /// The certificate names a member of another realm.
    #[error("the certificate belongs to another realm")]
    WrongRealm,
    /// The certificate names another member than the one dialled.
    #[error("the certificate belongs to another member")]
    WrongMember,
    /// Past its last second.
    #[error("the certificate has expired")]
    Expired,
    /// On the CRL.
    #[error("the certificate is revoked")]
    Revoked,
    /// There is no CRL, so that nobody's status is known.
    #[error("no CRL is held; fetch one or place it in the configured file")]
    CrlMissing,
    /// The CRL held is past its `nextUpdate`.
    #[error("the CRL held is past its next update; the authority must issue a new one")]
    CrlStale,
    /// A CRL with a number below the highest seen, or another one of the number held (RFC 5280 §5.2.3).
    #[error("CRL number {offered} is not newer than {held}, the highest seen")]
    CrlOlder {
        /// The highest number seen.
        held: u64,
        /// The number refused.
        offered: u64,
    },
    /// The CRL cannot be read, or no authority of ours signed it.
    #[error("the CRL is refused: {0}")]
    Crl(&'static str),
}

impl TrustError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            TrustError::Root(_) => "root_invalid",
            TrustError::Certificate(_) | TrustError::Path(_) => "peer_certificate_invalid",
            TrustError::UnknownIssuer => "peer_issuer_unknown",
            TrustError::WrongRealm => "peer_wrong_realm",
            TrustError::WrongMember => "peer_wrong_member",
            TrustError::Expired => "peer_expired",
            TrustError::Revoked => "peer_revoked",
            TrustError::CrlMissing => "crl_missing",
            TrustError::CrlStale => "crl_stale",
            TrustError::CrlOlder { .. } => "crl_older",
            TrustError::Crl(_) => "crl_invalid",
        }
    }

    /// What a person whose node is refused reads: what was missing and what to do next.
    #[must_use]
    pub fn saying(&self, language: Language) -> Saying {
        let words = match self {
            TrustError::Revoked => [
                "Your institution's certificate is revoked.",
                "Ask your IT: the certificate authority can issue another.",
                "Certyfikat Twojej jednostki jest unieważniony.",
                "Zwróć się do informatyka: urząd certyfikacji może wystawić nowy.",
            ],
            TrustError::Expired => [
                "Your institution's certificate has expired.",
                "Ask your IT to have it renewed.",
                "Certyfikat Twojej jednostki wygasł.",
                "Poproś informatyka o jego odnowienie.",
            ],
            TrustError::WrongRealm => [
                "Your institution's certificate is of another federation.",
                "Ask your IT: the node has the wrong certificate.",
                "Certyfikat Twojej jednostki należy do innej federacji.",
                "Zwróć się do informatyka: węzeł ma niewłaściwy certyfikat.",
            ],
            TrustError::WrongMember => [
                "The certificate is another institution's.",
                "Ask your IT: the node has the wrong certificate.",
                "Certyfikat należy do innej jednostki.",
                "Zwróć się do informatyka: węzeł ma niewłaściwy certyfikat.",
            ],
            TrustError::CrlMissing | TrustError::CrlStale => [
                "The institution asked holds no current revocation list, so it answers nobody.",
                "Try again later; if it lasts, telephone it.",
                "Zapytana jednostka nie ma aktualnej listy unieważnionych certyfikatów, więc nikomu nie odpowiada.",
                "Spróbuj później; jeśli to potrwa, zadzwoń do niej.",
            ],
            TrustError::Root(_)
            | TrustError::Certificate(_)
            | TrustError::Path(_)
            | TrustError::UnknownIssuer
            | TrustError::CrlOlder { .. }
            | TrustError::Crl(_) => [
                "Your institution's certificate is not accepted.",
                "Ask your IT to compare it with what the certificate authority issued.",
                "Certyfikat Twojej jednostki nie jest przyjmowany.",
                "Poproś informatyka o porównanie go z tym, co wystawił urząd certyfikacji.",
            ],
        };
        pick(words, language)
    }

    /// Whether the doubt is ours (no current CRL) rather than about the peer.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, TrustError::CrlMissing | TrustError::CrlStale)
    }
}

/// Whether a peer may be met without a current CRL. Only the fetch of a new CRL may: it is signed itself, and without
/// this a node that slept past `nextUpdate` could never get one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Required,
    ForCrlFetch,
}

/// Root certificates, the current CRL, the realm and the clock. Without a current CRL everyone is refused.
///
/// The CRL covers members' certificates; an issuing authority is withdrawn by a new root, not by a CRL.
#[derive(Debug)]
pub struct Trust {
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    realm: Realm,
    clock: Clock,
    crl: ArcSwapOption<Crl>,
    /// The highest CRL number seen; the lock also orders updates.
    highest: Mutex<u64>,
}

impl Trust {
    /// Trust in the certificates of `root_pem` and the CRL, if there is one already (see [`update_crl`](Self::update_crl)).
    ///
    /// # Errors
    /// [`TrustError::Root`], or what `update_crl` refuses. A CRL that is merely stale is taken: it refuses every peer.
    pub fn load(root_pem: &str, crl_pem: Option<&str>, realm: Realm, clock: Clock) -> Result<Self, TrustError> {
        let roots = CertificateDer::pem_slice_iter(root_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TrustError::Root("not PEM"))?;
        let anchors = roots
            .iter()
            .map(|der| anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TrustError::Root("not an X.509 certificate"))?;
        if anchors.is_empty() {
            return Err(TrustError::Root("the file is empty"));
        }
        let trust = Trust { roots, anchors, realm, clock, crl: ArcSwapOption::empty(), highest: Mutex::new(0) };
        if let Some(pem) = crl_pem {
            trust.update_crl(pem)?;
        }
        Ok(trust)
    }

    /// Takes a newer CRL: PEM with the issuing authority's certificate and one `X509 CRL` signed by it. Returns
    /// whether it changed anything; the CRL held already, byte for byte, does not.
    ///
    /// # Errors
    /// [`TrustError::Crl`] if it is not signed by an authority under our roots, [`TrustError::CrlOlder`] if its number
    /// is below the highest seen, or another CRL of the same number is held. The CRL held stays.
    pub fn update_crl(&self, pem: &str) -> Result<bool, TrustError> {
        let offered = Crl::verify(pem, &self.roots, self.clock.now())?;
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.crl.load();
        if held.as_ref().is_some_and(|held| held.der() == offered.der()) {
            return Ok(false);
        }
        // The floor given by `require_crl` may be met, what is held must be exceeded.
        if offered.number() < *highest || held.as_ref().is_some_and(|held| offered.number() == held.number()) {
            return Err(TrustError::CrlOlder { held: *highest, offered: offered.number() });
        }
        *highest = offered.number();
        self.crl.store(Some(Arc::new(offered)));
        Ok(true)
    }

    /// Says which CRL number was seen before a restart: lower ones are refused from now on and one held is dropped.
    pub fn require_crl(&self, number: u64) {
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        *highest = number.max(*highest);
        if self.crl.load().as_ref().is_some_and(|held| held.number() < number) {
            self.crl.store(None);
        }
    }

    /// Whether `peer`, whose path was verified when its connection began, may be served now.
    ///
    /// # Errors
    /// Another realm, expired, revoked, or no current CRL to tell by.
    pub fn check(&self, peer: &PeerIdentity) -> Result<(), TrustError> {
        let now = self.clock.now();
        self.check_peer(peer)?;
        let crl = self.crl.load();
        let crl = crl.as_ref().ok_or(TrustError::CrlMissing)?;
        if crl.revokes(&peer.serial) {
            return Err(TrustError::Revoked);
        }
        if now >= crl.next_update() { Err(TrustError::CrlStale) } else { Ok(()) }
    }

    fn check_peer(&self, peer: &PeerIdentity) -> Result<(), TrustError> {
        if peer.spiffe.realm() != &self.realm {
            return Err(TrustError::WrongRealm);
        }
        if self.clock.now() > peer.not_after { Err(TrustError::Expired) } else { Ok(()) }
    }

    /// The number of the CRL held.
    #[must_use]
    pub fn crl_number(&self) -> Option<u64> {
        self.crl.load().as_ref().map(|crl| crl.number())
    }

    /// The number of the CRL held, and how many certificates it revokes.
    #[must_use]
    pub fn crl_counts(&self) -> Option<(u64, usize)> {
        self.crl.load().as_ref().map(|crl| (crl.number(), crl.revoked()))
    }

    /// The second from which the CRL held says nothing any more and everyone is refused.
    #[must_use]
    pub fn crl_next_update(&self) -> Option<Timestamp> {
        self.crl.load().as_ref().map(|crl| crl.next_update())
    }

    /// The CRL held, as [`update_crl`](Self::update_crl) takes it.
    #[must_use]
    pub fn crl_pem(&self) -> Option<String> {
        self.crl.load().as_ref().map(|crl| crl.pem().to_owned())
    }

    /// The realm whose members are believed.
    #[must_use]
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Verifies a peer's path for `usage` at `now` and returns who it is.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
        freshness: Freshness,
    ) -> Result<PeerIdentity, TrustError> {
        let held = self.crl.load();
        let crl = held.as_ref().map(|crl| crl.list());
        let expiry = match (&crl, freshness) {
            (None, Freshness::Required) => return Err(TrustError::CrlMissing),
            (_, Freshness::Required) => ExpirationPolicy::Enforce,
            (_, Freshness::ForCrlFetch) => ExpirationPolicy::Ignore,
        };
        let lists = crl.as_slice();
        let revocation = RevocationOptionsBuilder::new(lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::EndEntity)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(expiry)
                .build()
        });
        let algorithms = crypto::provider().signature_verification_algorithms.all;
        EndEntityCert::try_from(leaf)
            .and_then(|cert| {
                cert.verify_for_usage(algorithms, &self.anchors, intermediates, now, usage, revocation, None).map(drop)
            })
            .map_err(|error| path_error(&error))?;
        let peer = PeerIdentity::from_certificate(leaf)?;
        self.check_peer(&peer)?;
        Ok(peer)
    }
}

fn path_error(error: &webpki::Error) -> TrustError {
    match error {
        webpki::Error::CertExpired { .. } => TrustError::Expired,
        webpki::Error::CertRevoked => TrustError::Revoked,
        webpki::Error::CrlExpired { .. } => TrustError::CrlStale,
        webpki::Error::UnknownIssuer => TrustError::UnknownIssuer,
        other => TrustError::Path(other.to_string()),
    }
}
