//! What the log of a stopped node says, and whether two sides' logs agree.

use keyring::{KeyRing, StorageKey};
use serde_json::Value;
use std::path::Path;

/// One entry.
#[derive(Clone, Debug)]
pub struct Logged {
    /// SHA-256 of salt and payload, base64url.
    pub entry: String,
    /// What happened, with everything recorded of it; `null` once it is erased.
    pub payload: Value,
}

impl Logged {
    /// What happened.
    #[must_use]
    pub fn event(&self) -> &str {
        self.payload["event"].as_str().unwrap_or_default()
    }
}

/// Every entry of the log of a node that is stopped, by its configuration.
///
/// # Panics
/// If the log does not open: then something else has it open, or it is damaged.
#[must_use]
pub fn log_of(config: &Path) -> Vec<Logged> {
    let config = node::Config::load(config).expect("a configuration");
    let nobody = || Err(std::io::Error::other("this key comes from a credential file"));
    let storage = StorageKey::obtain(&config.storage_key, nobody).expect("a storage key");
    let ring = KeyRing::open(&config.data.join("keys.sealed"), &storage).expect("keys");
    // One that went on for another lies beside it.
    let next = config.data.join("log.2");
    let dir = if next.exists() { next } else { config.data.join("log") };
    let log = audit::Log::open(audit::Config {
        dir: &dir,
        origin: audit::identity(&dir).expect("a log").name(),
        signing_key: ring.log.seed(),
        payload_key: &storage.derive("log"),
        now: Box::new(|| 0),
    });
    let log = log.expect("a log");
    log.iter(0)
        .map(|entry| {
            let entry = entry.expect("an entry");
            Logged { entry: protocol::encoding::b64(&entry.hash), payload: entry.payload.unwrap_or_default() }
        })
        .collect()
}

/// Asserts that every answer `asker` recorded stands in the holder's log where the answer said, and that this entry
/// names an entry of the asker's in turn. Returns how many there are.
///
/// # Panics
/// If one does not.
#[must_use]
pub fn answers_agree(asker: &[Logged], holder_name: &str, holder: &[Logged]) -> usize {
    let mut agreed = 0;
    let outcomes = asker.iter().filter(|logged| logged.event() == "query.outcome");
    for line in outcomes.flat_map(|logged| logged.payload["outcomes"].as_array().cloned().unwrap_or_default()) {
        if line["holder"] != holder_name || line["peer_log"].is_null() {
            continue;
        }
        let place =
            |position: &Value| usize::try_from(position["index"].as_u64().expect("an index")).expect("an index");
        let theirs = holder.get(place(&line["peer_log"])).unwrap_or_else(|| panic!("not in the holder's log: {line}"));
        assert_eq!(line["peer_log"]["entry"], theirs.entry.as_str(), "another entry stands there: {line}");
        assert_eq!(line["request"], theirs.payload["request"], "it is about another request: {line}");
        let answered = line["outcome"] == "answered";
        let refused = ["query.denied", "query.no_match"].contains(&theirs.event());
        assert!(if answered { theirs.event() == "query.answered" } else { refused }, "{line}");
        assert_eq!(line["response"], theirs.payload["response"], "it is about another answer: {line}");
        let cited = &theirs.payload["peer_log"];
        let ours = asker.get(place(cited)).unwrap_or_else(|| panic!("not in the asker's log: {cited}"));
        assert_eq!((ours.event(), &cited["entry"]), ("query.asking", &Value::from(ours.entry.as_str())));
        agreed += 1;
    }
    agreed
}
