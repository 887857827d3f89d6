use super::*;

/// The example of [`Config`]'s documentation.
fn example() -> String {
    let source = include_str!("../config.rs");
    let lines = source.lines().skip_while(|line| *line != "/// ```toml").skip(1).take_while(|line| *line != "/// ```");
    lines.map(|line| line.trim_start_matches("///").trim_start().to_owned() + "\n").collect()
}

#[test]
fn the_documented_example_is_valid() {
    let config = Config::parse(&example(), Path::new("/etc/ogniwo")).unwrap();
    assert_eq!(config.data, Path::new("/etc/ogniwo/data"));
    assert_eq!(config.log, Path::new("/var/log/ogniwo-registry"));
    assert_eq!(config.pepper, KeySource::Credential("/etc/ogniwo/credentials/pepper.key".into()));
    assert_eq!(config.origin(), "lodz.example/registry/a");
    assert_eq!(config.manifest_fingerprint, Some(protocol::encoding::sha256(&[])));
    let documented = (config.limits.clone(), config.shares.clone());
    let without = example().split("[limits]").next().unwrap().to_owned();
    let defaults = Config::parse(&without, Path::new("/")).unwrap();
    assert_eq!((defaults.limits, defaults.shares), documented);
}

#[test]
fn a_wrong_key_is_named_with_what_it_expects() {
    let refused = |from: &str, to: &str| {
        let text = example().replace(from, to);
        assert_ne!(text, example(), "{from}");
        Config::parse(&text, Path::new("/")).unwrap_err().to_string()
    };
    assert!(refused("data = \"data\"", "dta = \"data\"").contains("dta"));
    assert!(refused("\"lodz.example\"", "\"Łódź\"").contains("1 to 64 of a-z 0-9 . -"));
    assert!(refused("47DEQ", "47").contains("manifest_fingerprint must be 43 characters"));
    assert!(refused("max_requests = 256", "max_requests = 0").contains("limits.max_requests must be at least 1"));
    assert!(refused("reload_seconds = 10", "reload_seconds = 0").contains("peers.reload_seconds"));
    assert!(refused("credential = \"credentials/storage.key\"", "passphrase = false").contains("passphrase = true"));
    assert!(refused("credential = \"credentials/storage.key\"", "guess = 1").contains("guess"));
    assert!(refused("engine = \"postgres\"", "engine = \"sqlite\"").contains("sqlite"));
    assert!(refused("registry@db1", "registry:secret@db1").contains("index.postgres.password"));
    assert!(!refused("registry@db1", "registry:secret@db1").contains("secret"));
    assert!(refused("root = \"tls/database-root.pem\"", "").contains("index.postgres.root must be set"));
    assert!(refused("url = \"postgresql://", "url = \"mysql://").contains("index.postgres.url"));
    assert!(refused("connections = 16", "connections = 0").contains("index.postgres.connections"));
    assert!(refused("require_standby", "require_standbys").contains("require_standbys"));
    assert!(refused("listen = \"0.0.0.0:7443\"", "listen = \"here\"").contains("listen"));
}

#[test]
fn a_passphrase_keeps_its_salt_in_the_data_directory() {
    let text = example().replace("credential = \"credentials/storage.key\"", "passphrase = true");
    let config = Config::parse(&text, Path::new("/r")).unwrap();
    assert_eq!(config.storage_key, KeySource::Passphrase { salt: "/r/data/storage.salt".into() });
}

#[test]
fn without_an_index_section_the_index_is_embedded() {
    let text: String = example().split("[index]").next().unwrap().to_owned();
    let config = Config::parse(&text, Path::new("/r")).unwrap();
    assert_eq!((config.engine, config.cache_bytes, config.postgres), (Engine::Embedded, 256 << 20, None));
    let refused = Config::parse(&(text + "[index]\nengine = \"postgres\"\n"), Path::new("/r")).unwrap_err();
    assert!(refused.to_string().contains("index.postgres.url"));
}

#[test]
fn the_sample_that_is_shipped_is_valid() {
    let text = include_str!("../../../deploy/registry.toml");
    let config = Config::parse(text, Path::new("/etc/ogniwo")).unwrap();
    assert_eq!(config.engine, Engine::Embedded);
    // What is commented out there is valid too.
    let setting = |line: &&str| {
        let key = line.split(" = ").next().unwrap_or_default();
        line.starts_with('[') || (line.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let uncommented = |line: &'static str| line.strip_prefix("# ").filter(setting).unwrap_or(line);
    let database: String = text.lines().map(uncommented).flat_map(|line| [line, "\n"]).collect();
    assert!(Config::parse(&database, Path::new("/etc/ogniwo")).unwrap().postgres.unwrap().require_standby);
}
