//! The configuration file, from text to checked values.
//!
//! Unknown keys are errors, units stand in names, relative paths are relative to the file's own directory. Keys that a
//! node's configuration has too are named as there.

use keyring::KeySource;
use protocol::encoding::unb64;
use protocol::{MemberId, Realm, SpiffeId};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use transport::Limits;

/// A checked configuration. Holds paths of secrets, no secrets.
///
/// ```toml
/// realm = "lodz.example"
/// # The registry's id in the manifest and in its certificate. Default "registry".
/// member = "registry"
/// # Where several processes serve one database: this one's name, which its log's origin ends with.
/// instance = "a"
/// # Key ring, embedded index, manifests. Made by `ogniwo registry init`.
/// data = "data"
/// # The registry's own audit log. Default data/log.
/// log = "/var/log/ogniwo-registry"
/// # SHA-256 of the first manifest, compared with the officers out of band: 43 characters of base64url.
/// manifest_fingerprint = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
///
/// # A file of 64 hexadecimal digits, mode 0600, outside `data`; or: passphrase = true
/// [storage_key]
/// credential = "credentials/storage.key"
///
/// # As the storage key, and on another machine's backup than the index.
/// [pepper]
/// credential = "credentials/pepper.key"
///
/// # Members, over mutual TLS.
/// [peers]
/// listen = "0.0.0.0:7443"
/// certificate = "tls/registry.pem"
/// key = "tls/registry.key"
/// root = "tls/root.pem"
/// crl = "tls/crl.pem"
/// # How often these files are looked at again. Default 10.
/// reload_seconds = 10
///
/// # Where entries are kept: "embedded" (default) or "postgres".
/// [index]
/// engine = "postgres"
///
/// [index.embedded]
/// # Memory for pages of the index. Default 256.
/// cache_mib = 256
///
/// [index.postgres]
/// # Without a password. Several hosts with target_session_attrs=read-write follow a failover.
/// url = "postgresql://registry@db1.lodz.example,db2.lodz.example/registry?target_session_attrs=read-write"
/// # A file with the password, mode 0600.
/// password = "credentials/database.password"
/// # The certificates the database's must come from. Only a Unix socket goes without.
/// root = "tls/database-root.pem"
/// # Connections at most. Default 16.
/// connections = 16
/// # Refuse a database that acknowledges without a standby. Default false: it is only warned of.
/// require_standby = true
///
/// # All optional; these are the defaults.
/// [limits]
/// max_connections = 1024
/// max_requests = 256
/// max_requests_per_member = 32
/// max_body_bytes = 1048576
/// # Entries and indexes a member may send on average; it may save up for ten seconds.
/// indexes_per_second = 20000
/// # Indexes a member may locate in a day without serving the resident.
/// misses_per_day = 1000
/// # Provisional entries a user of a member may make in a day.
/// provisional_per_user_per_day = 5
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The federation.
    pub realm: Realm,
    /// The registry's id.
    pub member: MemberId,
    /// This process's name among several over one database.
    pub instance: Option<MemberId>,
    /// Key ring, embedded index and manifests.
    pub data: PathBuf,
    /// The registry's own audit log.
    pub log: PathBuf,
    /// SHA-256 of the first manifest accepted; without one none is.
    pub manifest_fingerprint: Option<[u8; 32]>,
    /// Where the storage key comes from.
    pub storage_key: KeySource,
    /// Where the pepper comes from.
    pub pepper: KeySource,
    /// The listener for members.
    pub peers: PeerConfig,
    /// Where entries are kept.
    pub engine: Engine,
    /// Memory for pages of the embedded index, in bytes.
    pub cache_bytes: usize,
    /// The database, if one is configured.
    pub postgres: Option<PostgresConfig>,
    /// What one listener gives.
    pub limits: Limits,
    /// What one member gets.
    pub shares: Shares,
}

/// Mutual TLS towards members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The registry's chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The realm's root certificates, PEM.
    pub root: PathBuf,
    /// The authority's revocation list, PEM.
    pub crl: PathBuf,
    /// How often these files are read again.
    pub reload: Duration,
}

/// Which engine keeps the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// A file of this machine.
    #[default]
    Embedded,
    /// A PostgreSQL database.
    Postgres,
}

/// How the database is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// `postgresql://…` or `key=value …`, without a password.
    pub url: String,
    /// A file with the password.
    pub password: Option<PathBuf>,
    /// Root certificates of the database's, PEM. Needed over TCP.
    pub root: Option<PathBuf>,
    /// Connections at most.
    pub connections: usize,
    /// Whether a database without a synchronous standby is refused.
    pub require_standby: bool,
}

/// What one member gets, so that none takes all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Requests running at once.
    pub requests: usize,
    /// Entries and indexes a second, on average.
    pub indexes_per_second: usize,
    /// Indexes located in a day without an own entry.
    pub misses_per_day: u64,
    /// Provisional entries of one user in a day.
    pub provisional_per_user_per_day: u64,
}

/// Why a configuration is refused. Says which key and what it expects.
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
    /// Not TOML, an unknown or missing key, or a value of the wrong kind. The text names key and line.
    #[error("the configuration is not valid: {0}")]
    Invalid(String),
    /// A value out of range.
    #[error("the configuration is not valid: {key} must be {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it expects.
        expected: &'static str,
    },
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let path = std::path::absolute(path).map_err(unreadable)?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("/")))
    }

    /// Reads `text`, whose relative paths start at `base`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text).map_err(|e| ConfigError::Invalid(e.to_string().trim_end().to_owned()))?;
        let wrong = |key, expected| ConfigError::Value { key, expected };
        let positive = |value: Option<usize>, default: usize, key| match value {
            Some(0) => Err(wrong(key, "at least 1")),
            other => Ok(other.unwrap_or(default)),
        };
        let data = base.join(raw.data);
        let fingerprint = |text: String| {
            unb64(&text)
                .ok_or(wrong("manifest_fingerprint", "43 characters of base64url, as the officers compared them"))
        };
        let postgres = raw.index.postgres.map(|raw| raw.resolve(base)).transpose()?;
        if raw.index.engine == Engine::Postgres && postgres.is_none() {
            return Err(wrong("index.postgres.url", "set, since index.engine is \"postgres\""));
        }
        let limits = raw.limits.unwrap_or_default();
        Ok(Config {
            realm: raw.realm,
            member: match raw.member {
                Some(member) => member,
                None => "registry".parse().map_err(|_| wrong("member", "an id"))?,
            },
            instance: raw.instance,
            log: raw.log.map_or_else(|| data.join("log"), |log| base.join(log)),
            manifest_fingerprint: raw.manifest_fingerprint.map(fingerprint).transpose()?,
            storage_key: match (raw.storage_key.credential, raw.storage_key.passphrase) {
                (Some(path), None | Some(false)) => KeySource::credential(base, &path),
                (None, Some(true)) => KeySource::Passphrase { salt: data.join("storage.salt") },
                _ => return Err(wrong("storage_key", "either a credential file or passphrase = true")),
            },
            pepper: KeySource::credential(base, &raw.pepper.credential),
            peers: PeerConfig {
                listen: raw.peers.listen,
                certificate: base.join(raw.peers.certificate),
                key: base.join(raw.peers.key),
                root: base.join(raw.peers.root),
                crl: base.join(raw.peers.crl),
                reload: match raw.peers.reload_seconds {
                    Some(0) => return Err(wrong("peers.reload_seconds", "at least 1")),
                    seconds => Duration::from_secs(seconds.unwrap_or(10)),
                },
            },
            engine: raw.index.engine,
            cache_bytes: positive(raw.index.embedded.cache_mib, 256, "index.embedded.cache_mib")?
                .saturating_mul(1 << 20),
            postgres,
            limits: Limits {
                max_connections: positive(limits.max_connections, 1024, "limits.max_connections")?,
                max_requests: positive(limits.max_requests, 256, "limits.max_requests")?,
                max_body: positive(limits.max_body_bytes, 1 << 20, "limits.max_body_bytes")?,
                ..Limits::default()
            },
            shares: Shares {
                requests: positive(limits.max_requests_per_member, 32, "limits.max_requests_per_member")?,
                indexes_per_second: positive(limits.indexes_per_second, 20_000, "limits.indexes_per_second")?,
                misses_per_day: limits.misses_per_day.unwrap_or(1000),
                provisional_per_user_per_day: limits.provisional_per_user_per_day.unwrap_or(5),
            },
            data,
        })
    }

    /// The sealed ring of signing keys.
    #[must_use]
    pub fn key_ring(&self) -> PathBuf {
        self.data.join("keys.sealed")
    }

    /// The embedded index.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.data.join("index.redb")
    }

    /// The sealed manifests, one file a version.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.data.join("manifests")
    }

    /// Says that the data directory came from a backup, and since when.
    #[must_use]
    pub fn restored(&self) -> PathBuf {
        self.data.join("restored")
    }

    /// How far a migration to another engine has come.
    #[must_use]
    pub fn migration(&self) -> PathBuf {
        self.data.join("migration.json")
    }

    /// What is cosigned of others' logs.
    #[must_use]
    pub fn witness(&self) -> PathBuf {
        self.data.join("witness")
    }

    /// By which a wrong pepper is noticed.
    #[must_use]
    pub fn pepper_check(&self) -> PathBuf {
        self.data.join("pepper.check")
    }

    /// The highest number of a revocation list seen.
    #[must_use]
    pub fn crl_number(&self) -> PathBuf {
        self.data.join("crl.highest")
    }

    /// The name of the registry's log, `REALM/ID` or `REALM/ID/INSTANCE`.
    #[must_use]
    pub fn origin(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}/{}/{instance}", self.realm, self.member),
            None => format!("{}/{}", self.realm, self.member),
        }
    }

    /// Who the registry's certificate must name.
    #[must_use]
    pub fn spiffe(&self) -> SpiffeId {
        SpiffeId::new(self.realm.clone(), self.member.clone())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    realm: Realm,
    member: Option<MemberId>,
    instance: Option<MemberId>,
    data: PathBuf,
    log: Option<PathBuf>,
    manifest_fingerprint: Option<String>,
    storage_key: RawStorageKey,
    pepper: RawPepper,
    peers: RawPeers,
    #[serde(default)]
    index: RawIndex,
    limits: Option<RawLimits>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStorageKey {
    credential: Option<PathBuf>,
    passphrase: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPepper {
    credential: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeers {
    listen: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
    root: PathBuf,
    crl: PathBuf,
    reload_seconds: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIndex {
    #[serde(default)]
    engine: Engine,
    #[serde(default)]
    embedded: RawEmbedded,
    postgres: Option<RawPostgres>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEmbedded {
    cache_mib: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPostgres {
    url: String,
    password: Option<PathBuf>,
    root: Option<PathBuf>,
    connections: Option<usize>,
    require_standby: Option<bool>,
}

impl RawPostgres {
    fn resolve(self, base: &Path) -> Result<PostgresConfig, ConfigError> {
        let wrong = |key, expected| ConfigError::Value { key, expected };
        let parsed: tokio_postgres::Config = self
            .url
            .parse()
            .map_err(|_| wrong("index.postgres.url", "postgresql://USER@HOST/DATABASE or key=value pairs"))?;
        if parsed.get_password().is_some() {
            return Err(wrong("index.postgres.url", "without a password: name a file in index.postgres.password"));
        }
        let tcp = parsed.get_hosts().iter().any(|host| matches!(host, tokio_postgres::config::Host::Tcp(_)));
        match (tcp, &self.root) {
            (true, None) => {
                return Err(wrong("index.postgres.root", "set, since the database is reached over the network"));
            }
            (false, Some(_)) => return Err(wrong("index.postgres.root", "absent: a Unix socket has no TLS")),
            _ => {}
        }
        Ok(PostgresConfig {
            url: self.url,
            password: self.password.map(|path| base.join(path)),
            root: self.root.map(|path| base.join(path)),
            connections: match self.connections {
                Some(0) => return Err(wrong("index.postgres.connections", "at least 1")),
                connections => connections.unwrap_or(16),
            },
            require_standby: self.require_standby.unwrap_or(false),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    max_connections: Option<usize>,
    max_requests: Option<usize>,
    max_requests_per_member: Option<usize>,
    max_body_bytes: Option<usize>,
    indexes_per_second: Option<usize>,
    misses_per_day: Option<u64>,
    provisional_per_user_per_day: Option<u64>,
}

#[cfg(test)]
mod tests;
