//! What must stand nowhere: identifiers in messages, at the registry, in answers and in logs.

use crate::local_api::request;
use keyring::{KeySource, StorageKey};
use protocol::encoding::{b64, unb64};
use pseudonym::{Blinded, KeyShare, Kind, PublicKey};
use rand_core::UnwrapErr;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tests::{CANARY_SURNAME, Harness, Options, RESIDENTS, leaks, lock, unwrapped};

/// Every file below `dir`.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            out.extend(files(&entry.path()));
        } else if kind.is_file() {
            out.push((entry.path(), std::fs::read(entry.path()).expect("a file")));
        }
    }
    out
}

/// Where `needle` stands in `bytes`.
pub(crate) fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// The storage key of `part`.
pub(crate) fn storage(harness: &Harness, part: &str) -> StorageKey {
    let path = harness.home().join(part).join("credentials/storage.key");
    StorageKey::obtain(&KeySource::Credential(path), || Err(std::io::Error::other("no passphrase"))).expect("a key")
}

/// Path of the share of epoch 1 that `unit` holds.
pub(crate) fn share_file(harness: &Harness, unit: &str) -> PathBuf {
    harness.home().join(unit).join("data/1-1.share")
}

/// The share of epoch 1 that `unit` holds.
pub(crate) fn share(harness: &Harness, unit: &str) -> KeyShare {
    let sealed = std::fs::read(share_file(harness, unit)).expect("a share");
    let sealer = storage(harness, unit).sealer("shares").expect("a sealer");
    let bytes = sealer.open(b"share/1/1", &sealed).expect("it opens");
    KeyShare::from_bytes(bytes.as_slice().try_into().expect("36 bytes")).expect("a share")
}

/// The registry's addresses of these residents, computed from two stolen shares.
fn indexes(harness: &Harness, pesels: &[&str]) -> Vec<[u8; 32]> {
    let manifest = harness.federation.founded.manifest.read().expect("a manifest");
    let epoch = &manifest.epochs[0];
    let array = |bytes: &protocol::Bytes| -> [u8; 32] { bytes.0.as_slice().try_into().expect("32 bytes") };
    let public: BTreeMap<u16, [u8; 32]> = epoch.holders.iter().map(|h| (h.id, array(&h.public_share))).collect();
    let key = PublicKey::new(epoch.threshold, array(&epoch.group_key), &public).expect("a key");
    let framed = pesels.iter().map(|p| pseudonym::frame(manifest.realm.as_str(), Kind::Pesel, 1, p).expect("framed"));
    let mut rng = UnwrapErr(getrandom::SysRng);
    let blinded = Blinded::new(&key, framed.collect(), &mut rng).expect("blinded");
    let shares = [share(harness, "mops"), share(harness, "css")];
    let quorum: Vec<u16> = shares.iter().map(KeyShare::id).collect();
    let answers = shares.iter().map(|share| {
        (share.id(), share.evaluate(&quorum, blinded.elements(), &mut UnwrapErr(getrandom::SysRng)).expect("evaluated"))
    });
    let outputs = blinded.verify_and_finish(&quorum, &answers.collect()).expect("pseudonyms");
    outputs.iter().map(pseudonym::Output::index).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_keeps_nothing_about_anybody() {
    let mut harness = Harness::filled().await;
    let pesels: Vec<&str> = RESIDENTS.iter().map(|resident| resident.pesel).collect();
    let indexes = indexes(&harness, &pesels);
    // These are the indexes indeed: members send them to the registry, wrapped in signatures.
    let messages = unwrapped(&lock(&harness.messages));
    assert!(indexes.iter().all(|index| holds(&messages, b64(index).as_bytes())), "the computed indexes are in use");

    harness.federation.registry.stop().await.expect("it stops");
    let data = harness.home().join("registry/data");
    let mut needles: Vec<(String, Vec<u8>)> = Vec::new();
    // Shorter names would turn up in ciphertext by chance.
    for name in ["mops", "\"pup\"", "\"css\"", "\"zlm\"", "\u{3}pup", "\u{3}css", "\u{3}zlm"] {
        needles.push((format!("member {name:?}"), name.as_bytes().to_vec()));
    }
    for (n, index) in indexes.iter().enumerate() {
        let hex: String = index.iter().map(|byte| format!("{byte:02x}")).collect();
        needles.push((format!("index {n}"), index.to_vec()));
        needles.push((format!("index {n}, hexadecimal"), hex.into_bytes()));
        needles.push((format!("index {n}, base64url"), b64(index).into_bytes()));
    }
    let files = files(&data);
    assert!(files.iter().any(|(path, _)| path.ends_with("index.redb")), "{files:?}");
    for (path, bytes) in &files {
        // Whose logs it witnesses is no secret and says nothing about rows.
        let witness = path.starts_with(data.join("witness"));
        let looked_for = needles.iter().filter(|(name, _)| !(witness && name.starts_with("member")));
        let found: Vec<&String> = looked_for.filter(|(_, n)| holds(bytes, n)).map(|(name, _)| name).collect();
        assert!(found.is_empty(), "{}: {found:?}", path.display());
        assert_eq!(leaks(bytes), Vec::<String>::new(), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_says_who_it_is_about() {
    let harness = Harness::filled().await;
    let resident = || json!({ "pesel": "80010300035" });
    let consent = harness.consent("mops", "mops", resident()).await.expect("a consent");
    let basis = json!({ "kind": "consent", "id": consent.id });
    let answered = harness.ask("mops", "pup", "q02", resident(), basis).await;
    assert_eq!(answered.outcome, node::OutcomeKind::Answered);
    harness.withdraw("mops", &consent).await.expect("a withdrawal");
    harness.ask("mops", "pup", "q02", resident(), json!({ "kind": "none" })).await;

    let messages = unwrapped(&lock(&harness.messages));
    assert!(holds(&messages, b"pup.status"), "signed messages are read");
    assert!(holds(&messages, b"bezrobotny"), "and the values beside them");
    assert_eq!(leaks(&messages), Vec::<String>::new());
    assert!(!holds(&messages, b"MOPS/2026/1"), "the case's reference crosses as a MAC only");
}

#[test]
fn a_leak_inside_a_signature_is_seen() {
    let pesel = RESIDENTS[0].pesel;
    let message = |inner: &str| format!("{}.{}.c2ln", b64(b"{\"typ\":\"ogniwo\"}"), b64(inner.as_bytes()));
    let told = message(&format!(
        "{{\"ticket\":\"{}\"}}",
        message(&format!("{{\"name\":\"{CANARY_SURNAME}\",\"id\":\"{pesel}\"}}"))
    ));
    assert_eq!(leaks(told.as_bytes()), Vec::<String>::new(), "a plain search is blind to it");
    assert_eq!(leaks(&unwrapped(told.as_bytes())).len(), 2);
    assert!(unb64::<32>(&b64(&[7; 32])).is_some());
}

/// Bodies that are refused, each with what must not come back.
fn refused_bodies() -> Vec<(serde_json::Value, &'static str)> {
    let body = |resident: serde_json::Value| {
        json!({
            "resident": resident, "asks": [{ "query": "q02" }], "purpose": tests::PURPOSE,
            "basis": { "kind": "none" }, "reason": "test",
        })
    };
    let with = |key: &str, value: serde_json::Value| {
        let mut body = body(json!({ "pesel": "80010100017" }));
        body[key] = value;
        body
    };
    vec![
        (body(json!({ "pesel": "80010100018" })), "80010100018"),
        (body(json!({ "pesel": "8001010001" })), "8001010001"),
        (body(json!({ "pesel": "8OO1O1OOO17" })), "8OO1O1OOO17"),
        (body(json!({ "pesel": "80023000019" })), "80023000019"),
        (body(json!({ "pesel": "Kanarkowska Anna" })), "Kanarkowska"),
        (body(json!({ "pesel": 80_010_100_017_u64 })), "80010100017"),
        (body(json!({ "pesel": ["80010100017"] })), "80010100017"),
        (body(json!({ "80010100017": "pesel" })), "80010100017"),
        (body(json!("80010100017")), "80010100017"),
        (body(json!({ "pesel": "80010100017", "local_number": "80010100017" })), "80010100017"),
        (with("80010100017", json!(true)), "80010100017"),
        (with("basis", json!({ "kind": "80010100017" })), "80010100017"),
        (with("basis", json!({ "kind": "consent", "id": "80010100017" })), "80010100017"),
        (with("purpose", json!("Kanarkowska 80010100017")), "80010100017"),
        (with("asks", json!([{ "query": "80010100017 Kanarkowska" }])), "80010100017"),
        (with("asks", json!("80010100017")), "80010100017"),
        (with("asks", json!("expected 80010100017, expected Kanarkowska")), "80010100017"),
        (body(json!({ "document": "x, expected 80010100017" })), "80010100017"),
        (with("reason", json!(80_010_100_017_u64)), "80010100017"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_never_repeats_what_was_sent() {
    let harness = Harness::new().await;
    let mut repeated = Vec::new();
    for path in ["/v1/queries", "/v1/consents"] {
        for (body, secret) in refused_bodies() {
            let answer = request(&harness, "mops", "POST", path).json(&body).send().await;
            assert!((400..500).contains(&answer.status), "{path} {body}: {}", answer.status);
            assert_eq!(answer.media, "application/problem+json");
            if answer.text.contains(secret) {
                repeated.push(format!("{path} {body}: {}", answer.text));
            }
        }
    }
    let answer =
        request(&harness, "mops", "POST", "/v1/queries").body("{\"resident\":{\"pesel\":80010100017}").send().await;
    assert_eq!(answer.status, 422);
    assert!(!answer.text.contains("80010100017"), "{}", answer.text);
    let mut long = json!({ "resident": { "pesel": "80010100017" } });
    long["reason"] = json!("80010100017".repeat(1 << 20));
    let answer = request(&harness, "mops", "POST", "/v1/queries").json(&long).send().await;
    assert_eq!(answer.status, 413);
    assert!(!answer.text.contains("80010100017"), "{}", answer.text);
    // Not even where a name belongs.
    for path in ["/v1/queries/80010100017", "/v1/consents/80010100017", "/80010100017"] {
        let answer = request(&harness, "mops", "GET", path).send().await;
        assert_eq!(answer.status, 404);
        assert!(!answer.text.contains("80010100017"), "{}", answer.text);
    }
    assert_eq!(repeated, Vec::<String>::new(), "problems that repeat what was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_process_keeps_what_was_sent() {
    let harness = Harness::with(Options { processes: true, ..Options::default() }).await;
    harness.fill().await;
    for (body, _) in refused_bodies() {
        let answer = request(&harness, "mops", "POST", "/v1/queries").json(&body).send().await;
        assert_eq!(answer.status, 422);
    }
    let answered =
        harness.ask("mops", "pup", "q02", json!({ "pesel": "80010300035" }), json!({ "kind": "none" })).await;
    assert_eq!(answered.reason.as_deref(), Some("basis_missing"));
    let files = files(harness.home());
    assert!(files.iter().any(|(path, bytes)| path.ends_with("mops.log") && !bytes.is_empty()), "the node writes a log");
    for (path, bytes) in files {
        for (_, secret) in refused_bodies() {
            assert!(!holds(&bytes, secret.as_bytes()), "{secret} in {}", path.display());
        }
    }
}
