//! The configuration file, from text to checked values.
//!
//! Unknown keys are errors, units stand in names, relative paths are relative to the file's own directory.

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
/// listen = "0.0.0.0:7443"
/// realm = "lodz.example"
/// # The registry's id in the manifest and in its certificate. Default "registry".
/// id = "registry"
/// # Key ring, index, manifest and log. Made by `ogniwo registry init`.
/// data_dir = "data"
/// # Default data_dir/log.
/// log_dir = "/var/log/ogniwo-registry"
/// # 64 hexadecimal digits, mode 0600; or: storage_key = "passphrase"
/// storage_key = { credential = "credentials/storage.key" }
/// # 64 hexadecimal digits, mode 0600, on another machine's backup than the index.
/// pepper = { credential = "credentials/pepper.key" }
/// # SHA-256 of the first manifest, compared with the officers out of band: 43 characters of base64url.
/// manifest_fingerprint = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
/// # Memory for pages of the index. Default 256.
/// index_cache_mib = 256
///
/// [tls]
/// cert = "tls/registry.pem"
/// key = "tls/registry.key"
/// root = "tls/root.pem"
/// crl = "tls/crl.pem"
/// # How often these files are looked at again. Default 10.
/// reload_seconds = 10
///
/// # All optional; these are the defaults.
/// [limits]
/// max_connections = 1024
/// max_requests = 256
/// max_body_bytes = 1048576
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the mutual-TLS listener binds; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The federation.
    pub realm: Realm,
    /// The registry's id.
    pub id: MemberId,
    /// Key ring, index and manifest.
    pub data_dir: PathBuf,
    /// The registry's own audit log.
    pub log_dir: PathBuf,
    /// Where the storage key comes from.
    pub storage_key: KeySource,
    /// Where the pepper comes from.
    pub pepper: KeySource,
    /// SHA-256 of the first manifest accepted; without one none is.
    pub manifest_fingerprint: Option<[u8; 32]>,
    /// Memory for pages of the index, in bytes.
    pub index_cache_bytes: usize,
    /// Certificates and revocation list.
    pub tls: TlsFiles,
    /// What one listener gives.
    pub limits: Limits,
}

/// Where certificates are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The registry's chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The realm's root certificates, PEM.
    pub root: PathBuf,
    /// The authority's revocation list, PEM.
    pub crl: PathBuf,
    /// How often these files are read again.
    pub reload: Duration,
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
        let data_dir = base.join(raw.data_dir);
        let fingerprint = |text: String| {
            unb64(&text)
                .ok_or(wrong("manifest_fingerprint", "43 characters of base64url, as the officers compared them"))
        };
        let limits = raw.limits.unwrap_or_default();
        Ok(Config {
            listen: raw.listen,
            realm: raw.realm,
            id: match raw.id {
                Some(id) => id,
                None => "registry".parse().map_err(|_| wrong("id", "a member id"))?,
            },
            log_dir: raw.log_dir.map_or_else(|| data_dir.join("log"), |dir| base.join(dir)),
            storage_key: match raw.storage_key {
                RawStorageKey::Credential(path) => KeySource::credential(base, &path),
                RawStorageKey::Passphrase => KeySource::Passphrase { salt: data_dir.join("storage.salt") },
            },
            pepper: KeySource::credential(base, &raw.pepper.credential),
            manifest_fingerprint: raw.manifest_fingerprint.map(fingerprint).transpose()?,
            index_cache_bytes: positive(raw.index_cache_mib, 256, "index_cache_mib")?.saturating_mul(1 << 20),
            tls: TlsFiles {
                cert: base.join(raw.tls.cert),
                key: base.join(raw.tls.key),
                root: base.join(raw.tls.root),
                crl: base.join(raw.tls.crl),
                reload: match raw.tls.reload_seconds {
                    Some(0) => return Err(wrong("tls.reload_seconds", "at least 1")),
                    seconds => Duration::from_secs(seconds.unwrap_or(10)),
                },
            },
            limits: Limits {
                max_connections: positive(limits.max_connections, 1024, "limits.max_connections")?,
                max_requests: positive(limits.max_requests, 256, "limits.max_requests")?,
                max_body: positive(limits.max_body_bytes, 1 << 20, "limits.max_body_bytes")?,
                ..Limits::default()
            },
            data_dir,
        })
    }

    /// The sealed ring of signing keys.
    #[must_use]
    pub fn key_ring(&self) -> PathBuf {
        self.data_dir.join("keys.sealed")
    }

    /// The embedded index.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.data_dir.join("index.redb")
    }

    /// The sealed manifest.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.data_dir.join("manifest.sealed")
    }

    /// By which a wrong pepper is noticed.
    #[must_use]
    pub fn pepper_check(&self) -> PathBuf {
        self.data_dir.join("pepper.check")
    }

    /// The highest number of a revocation list seen.
    #[must_use]
    pub fn crl_number(&self) -> PathBuf {
        self.data_dir.join("crl.highest")
    }

    /// The name of the registry's log, `REALM/ID`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}/{}", self.realm, self.id)
    }

    /// Who the registry's certificate must name.
    #[must_use]
    pub fn spiffe(&self) -> SpiffeId {
        SpiffeId::new(self.realm.clone(), self.id.clone())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: SocketAddr,
    realm: Realm,
    id: Option<MemberId>,
    data_dir: PathBuf,
    log_dir: Option<PathBuf>,
    storage_key: RawStorageKey,
    pepper: RawPepper,
    manifest_fingerprint: Option<String>,
    index_cache_mib: Option<usize>,
    tls: RawTls,
    limits: Option<RawLimits>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawStorageKey {
    Credential(PathBuf),
    Passphrase,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPepper {
    credential: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    cert: PathBuf,
    key: PathBuf,
    root: PathBuf,
    crl: PathBuf,
    reload_seconds: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the keys of the file")]
struct RawLimits {
    max_connections: Option<usize>,
    max_requests: Option<usize>,
    max_body_bytes: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of [`Config`]'s documentation.
    fn example() -> String {
        let source = include_str!("config.rs");
        let lines =
            source.lines().skip_while(|line| *line != "/// ```toml").skip(1).take_while(|line| *line != "/// ```");
        lines.map(|line| line.trim_start_matches("///").trim_start().to_owned() + "\n").collect()
    }

    #[test]
    fn the_documented_example_is_valid() {
        let config = Config::parse(&example(), Path::new("/etc/ogniwo")).unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/ogniwo/data"));
        assert_eq!(config.log_dir, Path::new("/var/log/ogniwo-registry"));
        assert_eq!(config.pepper, KeySource::Credential("/etc/ogniwo/credentials/pepper.key".into()));
        assert_eq!(config.origin(), "lodz.example/registry");
        assert_eq!(config.manifest_fingerprint, Some(protocol::encoding::sha256(&[])));
        let documented = config.limits.clone();
        let without = example().split("[limits]").next().unwrap().to_owned();
        assert_eq!(Config::parse(&without, Path::new("/")).unwrap().limits, documented);
    }

    #[test]
    fn a_wrong_key_is_named_with_what_it_expects() {
        let refused = |from: &str, to: &str| {
            let text = example().replace(from, to);
            assert_ne!(text, example(), "{from}");
            Config::parse(&text, Path::new("/")).unwrap_err().to_string()
        };
        assert!(refused("data_dir", "data_dri").contains("data_dri"));
        assert!(refused("\"lodz.example\"", "\"Łódź\"").contains("1 to 64 of a-z 0-9 . -"));
        assert!(refused("47DEQ", "47").contains("manifest_fingerprint must be 43 characters"));
        assert!(refused("max_requests = 256", "max_requests = 0").contains("limits.max_requests must be at least 1"));
        assert!(refused("reload_seconds = 10", "reload_seconds = 0").contains("tls.reload_seconds"));
        assert!(refused("{ credential = \"credentials/storage.key\" }", "\"guess\"").contains("passphrase"));
        assert!(refused("listen = \"0.0.0.0:7443\"", "listen = \"here\"").contains("listen"));
    }

    #[test]
    fn a_passphrase_keeps_its_salt_in_the_data_directory() {
        let text = example().replace("{ credential = \"credentials/storage.key\" }", "\"passphrase\"");
        let config = Config::parse(&text, Path::new("/r")).unwrap();
        assert_eq!(config.storage_key, KeySource::Passphrase { salt: "/r/data/storage.salt".into() });
    }
}
