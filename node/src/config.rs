//! `node.toml`: raw as written, then resolved. Unknown keys are errors; nothing insecure is a default.
//!
//! ```
//! let config = node::Config::parse(node::Config::EXAMPLE, std::path::Path::new("/etc/ogniwo")).unwrap();
//! assert_eq!(config.member.as_str(), "mops");
//! ```

use crate::dpo::AnomalyParameters;
use crate::kin::PersonClaims;
use crate::limits::{self, RoleLimit};
use crate::retention::Category as RetentionCategory;
use keyring::KeySource;
use protocol::encoding::unb64;
use protocol::{MemberId, Realm, Role};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use transport::Limits;

/// A node's settings, checked and with every path absolute or relative to the working directory.
#[derive(Clone, Debug)]
pub struct Config {
    /// The federation.
    pub realm: Realm,
    /// This institution.
    pub member: MemberId,
    /// Where everything the node keeps lies.
    pub data: PathBuf,
    /// Where the storage key comes from.
    pub storage_key: KeySource,
    /// Fingerprint of the first manifest to accept, compared out of band; 32 bytes.
    pub manifest_fingerprint: Option<[u8; 32]>,
    /// Where the first manifest is fetched from.
    pub registry: Option<String>,
    /// The listener for other members.
    pub peers: PeerConfig,
    /// The listener for the institution's own applications.
    pub local: Option<LocalConfig>,
    /// The policy library the officers released; the program's own, if not said.
    pub library: Option<PathBuf>,
    /// The institution's own forbidding policies.
    pub policies: Option<PathBuf>,
    /// How long one peer may take to answer.
    pub peer_deadline: Duration,
    /// What each listener gives to whom.
    pub limits: Limits,
    /// What the daily look for accesses without explanation goes by.
    pub anomalies: AnomalyParameters,
    /// Days after which entries of the log lose their payloads.
    pub log_retention_days: u32,
    /// How long imported records stay, by archive category; without one until an import removes them.
    pub retention: BTreeMap<String, RetentionCategory>,
}

/// Mutual TLS towards other members.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Address; port 0 takes a free one, which is reported.
    pub listen: SocketAddr,
    /// Own certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The federation's root, PEM.
    pub root: PathBuf,
    /// The revocation list, PEM; renewed from the registry.
    pub crl: PathBuf,
}

/// TLS and tokens towards the institution's own applications.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Address; port 0 takes a free one, which is reported.
    pub listen: SocketAddr,
    /// Server certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Whom tokens must come from and be for.
    pub tokens: TokenConfig,
    /// What each user may ask in a role; whatever agreements let them, if the role is not here.
    pub limits: BTreeMap<Role, RoleLimit>,
}

/// The institution's identity provider.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Required `iss`.
    pub issuer: String,
    /// Required `aud`.
    pub audience: String,
    /// Where its keys are.
    pub jwks: JwksSource,
    /// Claim that lists the user's roles.
    pub roles_claim: String,
    /// The provider's word for a role → the federation's.
    pub roles: BTreeMap<String, Role>,
    /// Claims that say who the user is as a resident.
    pub person: PersonClaims,
    /// Claim with the name of the terminal the user sits at.
    pub terminal: Option<String>,
}

/// Where the identity provider's key set is read from.
#[derive(Clone, Debug)]
pub enum JwksSource {
    /// A file.
    File(PathBuf),
    /// An `https` address, with the CA file to trust for it or the system's.
    Url {
        /// The address.
        url: String,
        /// CA certificates, PEM.
        ca: Option<PathBuf>,
    },
}

/// What is wrong with a configuration, by key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of another kind.
    #[error("the configuration does not parse: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A value is not acceptable.
    #[error("`{key}` must be {expected}")]
    Value {
        /// The key.
        key: Cow<'static, str>,
        /// What it expects.
        expected: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    realm: Realm,
    member: MemberId,
    data: PathBuf,
    storage_key: RawKey,
    manifest_fingerprint: Option<String>,
    registry: Option<String>,
    peers: RawPeers,
    local: Option<RawLocal>,
    library: Option<PathBuf>,
    policies: Option<PathBuf>,
    #[serde(default = "five_seconds")]
    peer_deadline_seconds: u64,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    anomalies: AnomalyParameters,
    #[serde(default = "five_years")]
    log_retention_days: u32,
    #[serde(default)]
    retention: BTreeMap<String, RetentionCategory>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    credential: Option<PathBuf>,
    #[serde(default)]
    passphrase: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeers {
    listen: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
    root: PathBuf,
    crl: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLocal {
    listen: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
    tokens: RawTokens,
    #[serde(default)]
    limits: BTreeMap<Role, RoleLimit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTokens {
    issuer: String,
    audience: String,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    jwks_ca: Option<PathBuf>,
    #[serde(default = "roles_claim")]
    roles_claim: String,
    roles: BTreeMap<String, Role>,
    #[serde(default)]
    person: PersonClaims,
    terminal: Option<String>,
}

/// In days: what the peers' own systems keep of accesses.
fn five_years() -> u32 {
    1_825
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "as they stand in the file")]
struct RawLimits {
    max_connections: Option<usize>,
    max_connections_per_member: Option<usize>,
    max_requests: Option<usize>,
    max_requests_per_member: Option<usize>,
    max_body_bytes: Option<usize>,
}

fn five_seconds() -> u64 {
    5
}

fn roles_claim() -> String {
    "roles".to_owned()
}

impl Config {
    /// A complete example, held against the parser by a test.
    pub const EXAMPLE: &'static str = include_str!("../../deploy/node.toml");

    /// Reads a configuration; relative paths count from its directory.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")))
    }

    /// Parses a configuration whose relative paths count from `base`.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text)?;
        let at = |path: PathBuf| base.join(path);
        let data = at(raw.data);
        Ok(Config {
            realm: raw.realm,
            member: raw.member,
            storage_key: raw.storage_key.resolve(base, &data)?,
            manifest_fingerprint: raw.manifest_fingerprint.map(|t| fingerprint(&t)).transpose()?,
            registry: raw.registry.map(|url| https("registry", url)).transpose()?,
            peers: PeerConfig {
                listen: raw.peers.listen,
                certificate: at(raw.peers.certificate),
                key: at(raw.peers.key),
                root: at(raw.peers.root),
                crl: at(raw.peers.crl),
            },
            local: raw.local.map(|local| local.resolve(base)).transpose()?,
            library: raw.library.map(at),
            policies: raw.policies.map(at),
            peer_deadline: seconds("peer_deadline_seconds", raw.peer_deadline_seconds)?,
            limits: raw.limits.resolve()?,
            anomalies: raw.anomalies.checked()?,
            log_retention_days: days("log_retention_days", raw.log_retention_days)?,
            retention: raw.retention,
            data,
        })
    }
}

impl RawKey {
    fn resolve(self, base: &Path, data: &Path) -> Result<KeySource, ConfigError> {
        let expected = "either `credential = \"FILE\"` or `passphrase = true`";
        match (self.credential, self.passphrase) {
            (Some(path), false) => Ok(KeySource::credential(base, &path)),
            (None, true) => Ok(KeySource::Passphrase { salt: data.join("passphrase.json") }),
            _ => Err(ConfigError::Value { key: "storage_key".into(), expected }),
        }
    }
}

impl RawLimits {
    fn resolve(self) -> Result<Limits, ConfigError> {
        let positive = |key: &'static str, value: Option<usize>, default| match value {
            Some(0) => Err(ConfigError::Value { key: key.into(), expected: "at least 1" }),
            value => Ok(value.unwrap_or(default)),
        };
        let default = Limits::default();
        let per_member = (self.max_connections_per_member, self.max_requests_per_member);
        Ok(Limits {
            max_connections: positive("limits.max_connections", self.max_connections, default.max_connections)?,
            max_connections_per_peer: positive(
                "limits.max_connections_per_member",
                per_member.0,
                default.max_connections_per_peer,
            )?,
            max_requests: positive("limits.max_requests", self.max_requests, default.max_requests)?,
            max_requests_per_peer: positive(
                "limits.max_requests_per_member",
                per_member.1,
                default.max_requests_per_peer,
            )?,
            max_body: positive("limits.max_body_bytes", self.max_body_bytes, default.max_body)?,
            ..default
        })
    }
}

impl RawLocal {
    fn resolve(self, base: &Path) -> Result<LocalConfig, ConfigError> {
        let tokens = self.tokens;
        let jwks = match (tokens.jwks_file, tokens.jwks_url) {
            (Some(file), None) => JwksSource::File(base.join(file)),
            (None, Some(url)) => JwksSource::Url {
                url: https("local.tokens.jwks_url", url)?,
                ca: tokens.jwks_ca.map(|path| base.join(path)),
            },
            _ => {
                let expected = "exactly one of `jwks_file` and `jwks_url`";
                return Err(ConfigError::Value { key: "local.tokens".into(), expected });
            }
        };
        Ok(LocalConfig {
            listen: self.listen,
            certificate: base.join(self.certificate),
            key: base.join(self.key),
            limits: limits::checked(self.limits, &tokens.roles)?,
            tokens: TokenConfig {
                issuer: tokens.issuer,
                audience: tokens.audience,
                jwks,
                roles_claim: tokens.roles_claim,
                roles: tokens.roles,
                person: tokens.person,
                terminal: tokens.terminal,
            },
        })
    }
}

fn fingerprint(text: &str) -> Result<[u8; 32], ConfigError> {
    let expected = "the 43 characters `ogniwo registry manifest show` prints as fingerprint";
    unb64(text).ok_or(ConfigError::Value { key: "manifest_fingerprint".into(), expected })
}

fn https(key: &'static str, url: String) -> Result<String, ConfigError> {
    let good = url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty());
    if good {
        Ok(url)
    } else {
        Err(ConfigError::Value { key: key.into(), expected: "an address like https://host:port" })
    }
}

fn days(key: &'static str, value: u32) -> Result<u32, ConfigError> {
    if (1..=36_500).contains(&value) {
        Ok(value)
    } else {
        Err(ConfigError::Value { key: key.into(), expected: "between 1 and 36500" })
    }
}

fn seconds(key: &'static str, value: u64) -> Result<Duration, ConfigError> {
    if (1..=300).contains(&value) {
        Ok(Duration::from_secs(value))
    } else {
        Err(ConfigError::Value { key: key.into(), expected: "between 1 and 300" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/ogniwo"))
    }

    #[test]
    fn the_example_parses_and_paths_count_from_its_directory() {
        let config = parse(Config::EXAMPLE).unwrap();
        assert!(config.peers.certificate.starts_with("/etc/ogniwo"));
        assert_eq!(config.peer_deadline, Duration::from_secs(5));
        assert_eq!(config.limits, Limits::default(), "the example shows the defaults");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |text: String| parse(&text).unwrap_err().to_string();
        let example = Config::EXAMPLE;
        assert!(refused(format!("surprise = 1\n{example}")).contains("surprise"));
        assert!(refused(example.replace("credential = ", "passphrase = true\ncredential = ")).contains("storage_key"));
        assert!(refused(format!("peer_deadline_seconds = 0\n{example}")).contains("peer_deadline_seconds"));
        assert!(refused(format!("log_retention_days = 0\n{example}")).contains("log_retention_days"));
        let requests = example.replace("max_requests_per_member = 128", "max_requests_per_member = 0");
        assert!(refused(requests).contains("limits.max_requests_per_member"));
        let days = example.replace("look_back_days = 90", "look_back_days = 0");
        assert!(refused(days).contains("anomalies.look_back_days"));
        for (was, wrong, key) in [
            ("limits.caseworker", "limits.casewroker", "`local.limits.casewroker`"),
            ("queries_per_day = 200", "queries_per_day = 0", "`local.limits.caseworker.queries_per_day`"),
            ("from_minute = 420", "from_minute = 1080", "`local.limits.caseworker.hours`"),
            ("queries_per_day = 200", "queries_a_day = 200", "queries_a_day"),
        ] {
            assert!(refused(example.replacen(was, wrong, 1)).contains(key), "{wrong}");
        }
        assert!(refused(format!("{example}\nsurprise = 1")).contains("surprise"));
        assert!(refused(example.replace("realm = \"lodz.example\"", "")).contains("realm"));
        assert!(refused(example.replace("jwks_file = ", "jwks_url = \"http://x\"\n#")).contains("jwks_url"));
        assert!(refused(example.replace("member = \"mops\"", "member = \"MOPS\"")).contains("a-z"));
    }
}
