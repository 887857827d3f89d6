//! An identity provider for the demo and the tests: a real key pair, a real key set, tokens of minutes.

use crate::exit::Failure;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use protocol::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::path::Path;

/// Issues tokens of one institution's users.
pub struct IdentityProvider {
    issuer: String,
    key: EncodingKey,
    kid: String,
    public: String,
}

/// The audience of every node's local API in a founded federation.
pub const AUDIENCE: &str = "ogniwo";
const TOKEN_SECONDS: i64 = 15 * 60;
const KEY_FILE: &str = "signing-key.der";

impl IdentityProvider {
    /// Makes a provider in `dir`: its key (mode 0600) and `jwks.json` for the node.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(dir: &Path, issuer: &str) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| Failure::new("system", "no key pair could be made"))?;
        keyring::create_private(&dir.join(KEY_FILE), document.as_ref())?;
        let provider = Self::open(dir, issuer)?;
        std::fs::write(dir.join("jwks.json"), provider.jwks().to_string())?;
        Ok(provider)
    }

    /// Opens a provider made before.
    ///
    /// # Errors
    /// The file system's, or if the key is damaged.
    pub fn open(dir: &Path, issuer: &str) -> Result<Self, Failure> {
        let document = zeroize::Zeroizing::new(std::fs::read(dir.join(KEY_FILE))?);
        let pair = Ed25519KeyPair::from_pkcs8(&document)
            .map_err(|_| Failure::new("keys", "the identity provider's key is damaged"))?;
        let public = pair.public_key().as_ref();
        Ok(IdentityProvider {
            issuer: issuer.to_owned(),
            key: EncodingKey::from_ed_der(&document),
            kid: protocol::encoding::b64(&protocol::encoding::sha256(&[public])),
            public: protocol::encoding::b64(public),
        })
    }

    /// Its key set (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": self.public,
        }] })
    }

    /// A token for `user` in `roles`, valid a quarter of an hour.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn token(&self, user: &str, roles: &[&str], now: Timestamp) -> Result<String, Failure> {
        self.sign(&json!({
            "iss": self.issuer, "aud": AUDIENCE, "sub": user, "roles": roles,
            "iat": now.0, "exp": now.0 + TOKEN_SECONDS,
        }))
    }

    /// A token of any claims.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn sign(&self, claims: &Value) -> Result<String, Failure> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|e| Failure::new("internal", e))
    }
}
