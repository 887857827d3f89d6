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
use protocol::{Problem, ProviderWord, Reason, Role, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Between two readings of the key set for the sake of an unknown key.
const RELOAD_SECONDS: i64 = 10;
/// A key set that can be read is at most this old: a key that the provider withdrew is trusted no longer than that.
const RENEW_SECONDS: i64 = 5 * 60;
/// How long the keys read last serve while the set cannot be read: a provider that is restarted or replaced shuts nobody
/// out, and whoever keeps the set from being read does not keep a stolen key in use.
const STALE_SECONDS: i64 = 60 * 60;

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
    /// Every error.
    pub const ALL: &'static [TokenError] = &[
        TokenError::Missing,
        TokenError::Malformed,
        TokenError::ClaimMissing,
        TokenError::UnknownKey,
        TokenError::Signature,
        TokenError::Issuer,
        TokenError::Audience,
        TokenError::Expired,
        TokenError::NotYetValid,
    ];

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
    /// The provider's name for who acts: `act.sub` of a delegated token (RFC 8693), `sub` of any other; stays in the node.
    pub(crate) staff: String,
    /// Who the user is as a resident, where the provider is asked for it; a delegated token need not say it of who acts.
    pub(crate) person: Option<Claimed>,
    /// The one the user acts for: `sub` of a delegated token.
    pub(crate) behalf: Option<Principal>,
    /// The federation's roles of the token.
    pub(crate) roles: BTreeSet<Role>,
    /// The application: `azp` (`OpenID` Connect Core §2), or `client_id` (RFC 9068).
    pub(crate) system: Option<ProviderWord>,
    /// How surely the provider knew the user: `acr`.
    pub(crate) auth: Option<ProviderWord>,
    /// The terminal's name, where the provider is asked for it; stays in the node.
    pub(crate) terminal: Option<String>,
}

/// The one a user acts for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The provider's name; stays in the node.
    pub(crate) staff: String,
    /// As of the user.
    pub(crate) person: Claimed,
}

impl Caller {
    /// Whether the user has one of `roles`.
    pub(crate) fn has(&self, roles: &[&str]) -> bool {
        self.roles.iter().any(|role| roles.contains(&role.as_str()))
    }

    /// The provider's names of who acts and, if there is one, of whom it is done for: whoever does something and whoever
    /// must be another than that have none in common.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        [self.staff.as_str()].into_iter().chain(self.behalf.as_ref().map(|principal| principal.staff.as_str()))
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<i64>,
    nbf: Option<i64>,
    act: Option<Map<String, Value>>,
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
    /// When it was read last with success.
    good_at: AtomicI64,
}

impl Tokens {
    /// Reads the key set; one behind an address is read when first needed, so that the node starts without it.
    pub(crate) fn load(config: &TokenConfig, now: Timestamp) -> Result<Self, TokensError> {
        let keys = match &config.jwks {
            JwksSource::File(_) => parse(&jwks::read(&config.jwks)?, &jwks::name(&config.jwks))?,
            JwksSource::Url { .. } => HashMap::new(),
        };
        let (renewed_at, read_at) = (AtomicI64::new(i64::MIN), AtomicI64::new(i64::MIN));
        let good_at = AtomicI64::new(now.0);
        Ok(Tokens { config: config.clone(), keys: ArcSwap::from_pointee(keys), renewed_at, read_at, good_at })
    }

    /// Who presents `authorization`, the header's value.
    pub(crate) async fn caller(&self, authorization: Option<&str>, now: Timestamp) -> Result<Caller, TokenError> {
        let token = authorization.and_then(bearer).ok_or(TokenError::Missing)?;
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        let kid = header.kid.ok_or(TokenError::UnknownKey)?;
        let renewed = self.reload(&self.renewed_at, RENEW_SECONDS, now).await;
        let (algorithm, key) = if let Some(found) = self.key(&kid, now) {
            found
        } else {
            if !renewed {
                self.reload(&self.read_at, RELOAD_SECONDS, now).await;
            }
            self.key(&kid, now).ok_or(TokenError::UnknownKey)?
        };
        if algorithm != header.alg {
            return Err(TokenError::UnknownKey);
        }
        let claims: Claims =
            jsonwebtoken::decode(token, &key, &self.validation(algorithm)).map_err(|e| refusal(&e))?.claims;
        if now.0 >= claims.exp.ok_or(TokenError::ClaimMissing)? {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now.0 + MAX_SKEW_SECONDS < nbf) {
            return Err(TokenError::NotYetValid);
        }
        self.read(claims)
    }

    /// Who calls, for whom, by what and from where, as a token says it that was verified.
    fn read(&self, claims: Claims) -> Result<Caller, TokenError> {
        let sub = claims.sub.ok_or(TokenError::ClaimMissing)?;
        let person = self.config.person.read(&claims.rest);
        let (staff, person, behalf) = match claims.act {
            None => (sub, Some(person), None),
            Some(actor) => {
                let (staff, of_actor) = self.actor(&actor)?;
                (staff, of_actor, Some(Principal { staff: sub, person }))
            }
        };
        let word = |claim: &str| claims.rest.get(claim)?.as_str()?.parse().ok();
        let terminal = self.config.terminal.as_ref().and_then(|claim| claims.rest.get(claim)?.as_str());
        Ok(Caller {
            staff,
            person,
            behalf,
            roles: self.roles(&claims.rest),
            system: word("azp").or_else(|| word("client_id")),
            auth: word("acr"),
            terminal: terminal.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned),
        })
    }

    /// Who acts, of a delegated token's `act` (RFC 8693 §4.1); earlier actors in it are none. Names are the issuer's own.
    fn actor(&self, act: &Map<String, Value>) -> Result<(String, Option<Claimed>), TokenError> {
        let staff = act.get("sub").and_then(Value::as_str).filter(|name| !name.is_empty());
        let staff = staff.ok_or(TokenError::Malformed)?.to_owned();
        if act.get("iss").is_some_and(|issuer| issuer.as_str() != Some(&self.config.issuer)) {
            return Err(TokenError::Issuer);
        }
        Ok((staff, Some(self.config.person.read(act)).filter(|person| *person != Claimed::default())))
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

    /// A key of the set, unless it was read too long ago.
    fn key(&self, kid: &str, now: Timestamp) -> Option<(Algorithm, DecodingKey)> {
        let serves = now.0.saturating_sub(self.good_at.load(Ordering::Relaxed)) <= STALE_SECONDS;
        self.keys.load().get(kid).filter(|_| serves).cloned()
    }

    /// Reads the key set again, unless that was done within `seconds` of what `at` says; whether it tried. What cannot be
    /// read now leaves the keys as they were, for [`STALE_SECONDS`].
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
            Ok(keys) => {
                self.keys.store(Arc::new(keys));
                self.good_at.store(now.0, Ordering::Relaxed);
            }
            Err(error) => tracing::error!(%error, "the identity provider's keys are not renewed"),
        }
        true
    }
}

/// The token of an `Authorization` header; its scheme is of any case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim_start_matches(' '))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use serde_json::json;
    use std::path::Path;

    /// What the example's node makes of a verified token's claims.
    fn read(claims: Value) -> Result<Caller, TokenError> {
        let config = Config::parse(Config::EXAMPLE, Path::new("/")).unwrap().local.unwrap().tokens;
        let never = || AtomicI64::new(i64::MIN);
        let (renewed_at, read_at, good_at) = (never(), never(), never());
        let tokens = Tokens { config, keys: ArcSwap::default(), renewed_at, read_at, good_at };
        tokens.read(serde_json::from_value(claims).unwrap())
    }

    fn word(text: &str) -> Option<ProviderWord> {
        let word = text.parse();
        assert!(word.is_ok(), "{text} is a word");
        word.ok()
    }

    #[test]
    fn the_scheme_is_of_any_case() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c"] {
            assert_eq!(bearer(value), Some("a.b.c"), "{value}");
        }
        for value in ["", "a.b.c", "Bearer", "Basic a.b.c", "Bearera.b.c"] {
            assert_eq!(bearer(value), None, "{value}");
        }
    }

    #[test]
    fn a_token_says_by_what_how_surely_and_from_where() {
        let caller = read(json!({
            "sub": "jan", "roles": ["pracownik-socjalny"], "azp": "pomost", "client_id": "other", "acr": "urn:two-factors",
            "terminal": " p12-kowalska ", "family_name": "Nowak",
        }));
        let caller = caller.ok().unwrap();
        assert_eq!((caller.staff.as_str(), caller.behalf.is_none()), ("jan", true));
        assert_eq!((caller.system, caller.auth), (word("pomost"), word("urn:two-factors")));
        assert_eq!(caller.terminal.as_deref(), Some("p12-kowalska"));
        assert!(caller.person.is_some_and(|person| person != Claimed::default()));
        // An access token (RFC 9068) names its application otherwise.
        let caller = read(json!({ "sub": "jan", "client_id": "pomost" })).ok().unwrap();
        assert_eq!((caller.system, caller.auth, caller.terminal), (word("pomost"), None, None));
        // What is no word is not taken over.
        let long = "x".repeat(129);
        for wrong in [json!("two words"), json!(""), json!("ą"), json!(2), json!(["pomost"]), json!(long)] {
            let caller = read(json!({ "sub": "jan", "azp": wrong, "acr": wrong, "terminal": " " })).ok().unwrap();
            assert_eq!((caller.system, caller.auth, caller.terminal), (None, None, None), "{wrong}");
        }
    }

    #[test]
    fn of_a_delegated_token_the_user_is_who_acts_and_the_subject_is_acted_for() {
        let of = |act: Value| read(json!({ "sub": "jan", "family_name": "Nowak", "act": act }));
        let caller = of(json!({ "sub": "anna", "act": { "sub": "somebody-before" } })).ok().unwrap();
        assert_eq!(caller.staff, "anna");
        assert!(caller.person.is_none(), "the token says who jan is, not who anna is");
        let behalf = caller.behalf.clone().unwrap();
        assert_eq!((behalf.staff.as_str(), behalf.person == Claimed::default()), ("jan", false));
        assert_eq!(caller.names().collect::<Vec<_>>(), ["anna", "jan"]);
        let caller = of(json!({ "sub": "anna", "family_name": "Lis", "iss": "https://login.mops.lodz.example" }));
        assert!(caller.ok().unwrap().person.is_some());
        // Whoever cannot be told is nobody.
        for nobody in [json!({}), json!({ "sub": "" }), json!({ "sub": 7 })] {
            assert_eq!(of(nobody.clone()).err(), Some(TokenError::Malformed), "{nobody}");
        }
        let foreign = json!({ "sub": "anna", "iss": "https://login.pup.lodz.example" });
        assert_eq!(of(foreign).err(), Some(TokenError::Issuer));
    }
}
