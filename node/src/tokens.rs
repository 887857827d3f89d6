//! Tokens of the institution's identity provider: who calls the local API, in which roles.
//!
//! `EdDSA`, ES256 and RS256 against a configured key set; `iss`, `aud`, `exp` and `sub` are required; nothing unsigned is
//! ever taken. Time is judged by the node's clock, not the library's.

use crate::config::{JwksSource, TokenConfig};
use crate::jwks;
use crate::kin::Claimed;
use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use protocol::time::MAX_SKEW_SECONDS;
use protocol::{Problem, Reason, Role, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Between two readings of the key set for the sake of an unknown key.
const RELOAD_SECONDS: i64 = 10;
/// A key set is at most this old: a key that the provider withdrew is trusted no longer than that.
const RENEW_SECONDS: i64 = 5 * 60;

/// Why the key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("the identity provider's keys cannot be read from {from}: {why}")]
    Unreadable {
        /// From where.
        from: String,
        /// Why.
        why: String,
    },
    /// It holds no key of a permitted kind.
    #[error("the identity provider's key set {0} has no EdDSA, ES256 or RS256 key with a `kid`")]
    NoKeys(String),
}

/// Why a caller's token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No bearer token came.
    #[error("a bearer token is required")]
    Missing,
    /// It is not a token.
    #[error("the token is malformed")]
    Malformed,
    /// It lacks a required claim.
    #[error("the token lacks one of iss, aud, exp, sub")]
    ClaimMissing,
    /// Its key is not in the key set, or is of another kind than it says.
    #[error("the token's key is not one of the identity provider's")]
    UnknownKey,
    /// Its signature does not verify.
    #[error("the token's signature does not verify")]
    Signature,
    /// Another issuer's.
    #[error("the token is of another issuer")]
    Issuer,
    /// For another audience.
    #[error("the token is for another audience")]
    Audience,
    /// Expired.
    #[error("the token has expired")]
    Expired,
    /// Not valid yet.
    #[error("the token is not valid yet")]
    NotYetValid,
}

impl TokenError {
    /// Stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            TokenError::Missing => "token_missing",
            TokenError::Malformed => "token_malformed",
            TokenError::ClaimMissing => "token_claim_missing",
            TokenError::UnknownKey => "token_key_unknown",
            TokenError::Signature => "token_signature_invalid",
            TokenError::Issuer => "token_issuer_wrong",
            TokenError::Audience => "token_audience_wrong",
            TokenError::Expired => "token_expired",
            TokenError::NotYetValid => "token_not_yet_valid",
        }
    }

    /// What the caller is told.
    #[must_use]
    pub fn problem(self) -> Problem {
        let words = Problem::because(401, Reason::TokenInvalid);
        Problem { message: words.message, detail: words.detail, ..Problem::new(401, self.code(), &self.to_string()) }
    }
}

/// A user of the institution, as its identity provider vouches.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The provider's name for the user; stays in the node.
    pub(crate) staff: String,
    /// The federation's roles the user has.
    pub(crate) roles: BTreeSet<Role>,
    /// Who the user is as a resident, where the provider is asked for it.
    pub(crate) person: Claimed,
}

impl Caller {
    /// Whether the user has one of `roles`.
    pub(crate) fn has(&self, roles: &[&str]) -> bool {
        self.roles.iter().any(|role| roles.contains(&role.as_str()))
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<i64>,
    nbf: Option<i64>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The identity provider's keys and what its tokens must say.
pub(crate) struct Tokens {
    config: TokenConfig,
    keys: ArcSwap<HashMap<String, (Algorithm, DecodingKey)>>,
    /// When the set was read last for being old, and when for the sake of an unknown key: neither puts the other off.
    renewed_at: AtomicI64,
    read_at: AtomicI64,
}

impl Tokens {
    /// Reads the key set; one behind an address is read when first needed, so that the node starts without it.
    pub(crate) fn load(config: &TokenConfig) -> Result<Self, TokensError> {
        let keys = match &config.jwks {
            JwksSource::File(_) => parse(&jwks::read(&config.jwks)?, &jwks::name(&config.jwks))?,
            JwksSource::Url { .. } => HashMap::new(),
        };
        let (renewed_at, read_at) = (AtomicI64::new(i64::MIN), AtomicI64::new(i64::MIN));
        Ok(Tokens { config: config.clone(), keys: ArcSwap::from_pointee(keys), renewed_at, read_at })
    }

    /// Who presents `authorization`, the header's value.
    pub(crate) async fn caller(&self, authorization: Option<&str>, now: Timestamp) -> Result<Caller, TokenError> {
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).ok_or(TokenError::Missing)?;
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        let kid = header.kid.ok_or(TokenError::UnknownKey)?;
        let renewed = self.reload(&self.renewed_at, RENEW_SECONDS, now).await;
        let (algorithm, key) = if let Some(found) = self.key(&kid) {
            found
        } else {
            if !renewed {
                self.reload(&self.read_at, RELOAD_SECONDS, now).await;
            }
            self.key(&kid).ok_or(TokenError::UnknownKey)?
        };
        if algorithm != header.alg {
            return Err(TokenError::UnknownKey);
        }
        let claims: Claims =
            jsonwebtoken::decode(token, &key, &self.validation(algorithm)).map_err(|e| refusal(&e))?.claims;
        let too_early = claims.nbf.is_some_and(|nbf| now.0 + MAX_SKEW_SECONDS < nbf);
        let (Some(staff), Some(exp)) = (claims.sub, claims.exp) else { return Err(TokenError::ClaimMissing) };
        if now.0 >= exp {
            return Err(TokenError::Expired);
        }
        if too_early {
            return Err(TokenError::NotYetValid);
        }
        Ok(Caller { roles: self.roles(&claims.rest), person: self.config.person.read(&claims.rest), staff })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        // Judged by the node's clock instead.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    }

    fn roles(&self, claims: &Map<String, Value>) -> BTreeSet<Role> {
        let words: Vec<&str> = match claims.get(&self.config.roles_claim) {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => text.split_whitespace().collect(),
            _ => Vec::new(),
        };
        words.iter().filter_map(|word| self.config.roles.get(*word).cloned()).collect()
    }

    fn key(&self, kid: &str) -> Option<(Algorithm, DecodingKey)> {
        self.keys.load().get(kid).cloned()
    }

    /// Reads the key set again, unless that was done within `seconds` of what `at` says; whether it tried. What cannot be
    /// read now leaves the keys as they were.
    async fn reload(&self, at: &AtomicI64, seconds: i64, now: Timestamp) -> bool {
        let last = at.load(Ordering::Relaxed);
        let due = now.0.saturating_sub(last) >= seconds;
        // Whoever moves the time reads; attempts in between must not put the next reading off.
        let ours = due && at.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !ours {
            return false;
        }
        let read = match &self.config.jwks {
            JwksSource::File(_) => jwks::read(&self.config.jwks),
            JwksSource::Url { url, ca } => jwks::fetch(url, ca.as_deref()).await,
        };
        match read.and_then(|text| parse(&text, &jwks::name(&self.config.jwks))) {
            Ok(keys) => self.keys.store(Arc::new(keys)),
            Err(error) => tracing::error!(%error, "the identity provider's keys are not renewed"),
        }
        true
    }
}

fn parse(text: &str, name: &str) -> Result<HashMap<String, (Algorithm, DecodingKey)>, TokensError> {
    let set: JwkSet = serde_json::from_str(text)
        .map_err(|e| TokensError::Unreadable { from: name.to_owned(), why: format!("not a JWK set: {e}") })?;
    let keys: HashMap<_, _> = set
        .keys
        .iter()
        .filter_map(|jwk| {
            let algorithm = match &jwk.algorithm {
                AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
                AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => Algorithm::ES256,
                AlgorithmParameters::RSA(_) => Algorithm::RS256,
                _ => return None,
            };
            Some((jwk.common.key_id.clone()?, (algorithm, DecodingKey::from_jwk(jwk).ok()?)))
        })
        .collect();
    if keys.is_empty() { Err(TokensError::NoKeys(name.to_owned())) } else { Ok(keys) }
}

fn refusal(error: &jsonwebtoken::errors::Error) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(_) => TokenError::ClaimMissing,
        _ => TokenError::Malformed,
    }
}
