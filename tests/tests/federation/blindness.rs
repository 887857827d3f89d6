//! Blindness of the registry that runs: a thief has its files, both its secrets, and key holders'
//! shares, and tries all PESEL numbers of a birth month (`./check long`: of a year).

#[expect(clippy::unwrap_used, reason = "a test's own program: it fails by panicking")]
#[path = "../../../pseudonym/tests/blindness/guess.rs"]
mod guess;

use crate::key_birth::stop;
use curve25519_dalek::scalar::Scalar;
use guess::{born_in, key_of, recover};
use http::Method;
use keyring::{KeyRing, KeySource, StorageKey};
use protocol::manifest::KeyUse;
use protocol::registry::{LocateRequest, PutEntry, SEALED_BYTES};
use protocol::review::review_handle;
use protocol::{Bytes, Epoch, Index, MemberId};
use pseudonym::KeyShare;
use registry::{Blind, Embedded, IndexStore as _, NoteKey, Row, RowKey};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tests::{Harness, Member, PURPOSE, RESIDENTS, UNITS, member, pesel_of};

const EPOCH: Epoch = Epoch(1);

fn secret(path: &Path) -> StorageKey {
    let nobody = || Err(std::io::Error::other("a credential file"));
    StorageKey::obtain(&KeySource::Credential(path.to_owned()), nobody).expect("stolen")
}

/// What was stolen of the registry.
struct Loot {
    realm: String,
    rows: BTreeMap<RowKey, Row>,
    /// Review notes, opened.
    notes: Vec<Vec<u8>>,
    /// What its log says.
    log: String,
    storage: StorageKey,
    pepper: StorageKey,
    members: Vec<MemberId>,
}

impl Loot {
    async fn of(harness: &Harness) -> Self {
        let home = harness.home().join("registry");
        let store = Embedded::open(&home.join("data/index.redb"), 8 << 20).expect("an index");
        let (mut rows, mut after) = (BTreeMap::new(), None);
        loop {
            let page = store.page(after, 100).await.expect("rows");
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            rows.extend(page);
        }
        let realm = harness.federation.founded.plan.realm.as_str().to_owned();
        let storage = secret(&home.join("credentials/storage.key"));
        let notes = store.notes(NoteKey::FIRST, NoteKey::LAST, 1_000).await.expect("notes");
        let ring = KeyRing::open(&home.join("data/keys.sealed"), &storage).expect("its keys");
        let log = audit::Log::open(audit::Config {
            dir: &home.join("data/log"),
            origin: &format!("{realm}/registry"),
            signing_key: ring.key(KeyUse::Log).seed(),
            payload_key: &storage.derive("log-payload"),
            now: Box::new(|| tests::NOON.0),
        });
        let log = log.expect("its log");
        let payloads = log.iter(0).filter_map(|entry| entry.expect("an entry").payload);
        Loot {
            log: payloads.map(|payload| payload.to_string()).collect(),
            notes: notes.into_iter().map(|(key, row)| open_note(&storage, &key, &row)).collect(),
            realm,
            rows,
            storage,
            pepper: secret(&home.join("credentials/pepper.key")),
            members: UNITS.map(|(unit, _)| member(unit)).to_vec(),
        }
    }

    /// Who can be named among `pesels` with `key`: by rows of any member, by review notes of any member, by the log.
    fn named(&self, blind: &Blind, key: &Scalar, pesels: &[String]) -> [Vec<String>; 3] {
        let mac = self.storage.mac("log-index");
        let rows = |index: &[u8; 32]| {
            self.members.iter().any(|member| self.rows.contains_key(&blind.row_key(EPOCH, &Index(*index), member)))
        };
        let notes = |index: &[u8; 32]| {
            self.members.iter().any(|member| {
                let handle = review_handle(member, &Index(*index));
                self.notes.iter().any(|note| note.windows(handle.len()).any(|part| part == handle))
            })
        };
        let log = |index: &[u8; 32]| self.log.contains(&protocol::encoding::b64(&mac.mac(&[index])[..16]));
        let by = |pesels: &[String], has: &(dyn Fn(&[u8; 32]) -> bool + Sync)| {
            recover(&self.realm, EPOCH.0, key, pesels, has)
        };
        // Once for all three: the pseudonyms are what takes long.
        let found = by(pesels, &|index| rows(index) || notes(index) || log(index));
        [by(&found, &rows), by(&found, &notes), by(&found, &log)]
    }
}

/// As `registry::blind` says that notes are sealed.
fn open_note(storage: &StorageKey, key: &NoteKey, row: &Row) -> Vec<u8> {
    let secret = storage.mac("index-notes").mac(&[&key.queue, &key.at.0.to_be_bytes(), &key.id]);
    let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &secret).expect("a key"));
    let (nonce, body) = row.0.split_at(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(nonce).expect("a nonce");
    let mut body = body.to_vec();
    cipher.open_in_place(nonce, Aad::from(b"ogniwo/v1/row"), &mut body).expect("the storage key opens it").to_vec()
}

/// The share that a key holder's disk gives away to who has its storage key.
fn share(harness: &Harness, unit: &str) -> KeyShare {
    let home = harness.home().join(unit);
    let sealed = std::fs::read(home.join("data/1-1.share")).expect("a share");
    let sealer = secret(&home.join("credentials/storage.key")).sealer("shares").expect("a key");
    let opened = sealer.open(b"share/1/1", &sealed).expect("opened");
    KeyShare::from_bytes(opened.as_slice().try_into().expect("36 bytes")).expect("a share")
}

/// Everybody who was planted, as the thief would find them: all born in January 1980.
fn everybody() -> Vec<String> {
    RESIDENTS.iter().map(|resident| resident.pesel.to_owned()).collect()
}

async fn tried_on_the_registry_s_files(months: std::ops::RangeInclusive<i8>, holders: &[&str]) {
    let mut harness = Harness::filled().await;
    // A newcomer: one more row, and a note in the queue of its unit.
    let body = json!({
        "resident": { "pesel": pesel_of("pup") }, "reason": "application", "text": "wniosek", "case_ref": "M/1",
    });
    let _known: node::NewcomerView =
        harness.post("mops", "caseworker", "/v1/newcomers", &body).await.expect("registered");
    for (unit, _) in UNITS {
        stop(&mut harness, unit).await;
    }
    harness.federation.registry.stop().await.expect("stopped");
    let loot = Loot::of(&harness).await;
    let enrolled: usize = RESIDENTS.iter().map(|resident| resident.units.split('+').count()).sum();
    assert_eq!(loot.rows.len(), enrolled + 1, "a row for each unit that knows a resident");
    let blind = Blind::new(&loot.storage, &loot.pepper);
    let numbers: Vec<String> = months.flat_map(|month| born_in(1980, month)).collect();
    let shares = ["mops", "pup", "css"].map(|unit| share(&harness, unit));

    // The whole disk, rows, notes and log, the storage key and the pepper; and t − 1 key holders beside.
    let without = std::iter::once(vec![]).chain(holders.iter().map(|holder| vec![share(&harness, holder)]));
    for key in without.map(|shares| key_of(&shares)) {
        assert_eq!(loot.named(&blind, &key, &numbers), [const { Vec::<String>::new() }; 3]);
    }
    // With t of them everybody, and nobody else: the program works.
    let key = key_of(&shares[1..]);
    let newcomer = vec![pesel_of("pup").to_owned()];
    assert_eq!(loot.named(&blind, &key, &numbers), [everybody(), newcomer, everybody()]);
    // But not from the disk alone, whoever is looked for: the pepper lies elsewhere.
    let other = Blind::new(&loot.storage, &StorageKey::from_bytes([7; 32]));
    let [by_rows, ..] = loot.named(&other, &key, &everybody());
    assert_eq!(by_rows, [""; 0]);
    who_wrote_a_row(&loot, &blind, &other);
}

/// Without the pepper no row gives a member away, neither as its writer nor as its reader; with it its readers show.
fn who_wrote_a_row(loot: &Loot, blind: &Blind, other: &Blind) {
    for (key, row) in &loot.rows {
        let admits = |blind: &Blind| -> Vec<bool> {
            let mut row = row.clone();
            let entry = blind.open(key, &mut row).expect("the storage key opens it");
            assert_eq!(entry.sealed.len(), SEALED_BYTES);
            loot.members.iter().map(|member| entry.admits(&blind.tag(key, member))).collect()
        };
        assert_eq!(admits(other), [false; 4]);
        assert_eq!(admits(blind).iter().filter(|admits| **admits).count(), 3, "all others are its readers");
    }
    // All of one row that is the same in another is what all rows share: nothing of 16 bytes or more.
    let mut seen = std::collections::BTreeSet::new();
    for row in loot.rows.values() {
        for part in row.0.chunks_exact(16) {
            assert!(seen.insert(part.to_vec()), "two rows have something in common");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_s_files_name_nobody_of_a_birth_month() {
    tried_on_the_registry_s_files(1..=1, &["mops"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: ./check long"]
async fn long_the_registry_s_files_name_nobody_of_a_birth_year() {
    tried_on_the_registry_s_files(1..=12, &["mops", "pup", "css"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_lapsed_and_forbidden_are_answered_alike() {
    let harness = Harness::filled().await;
    let mops = Member::of(&harness, "mops");
    // One that nobody enrolled, one of pup's alone, and one whose entry of mops's lapsed.
    let unknown = mops.output("44051401359").await;
    let forbidden = mops.output(pesel_of("pup")).await;
    let lapsed = mops.output(pesel_of("pup+css")).await;
    let put = PutEntry {
        index: Index(lapsed.index()),
        sealed: Bytes(vec![1; SEALED_BYTES]),
        expires: harness.clock.now() + 60,
        provisional: None,
    };
    mops.put_entries([member("pup"), member("css")].into(), vec![put], vec![], |_| ()).await.expect("put");
    let ask = async |index: [u8; 32], jti: u8| -> Vec<u8> {
        let request = LocateRequest {
            iss: member("mops"),
            iat: harness.clock.now(),
            jti: Bytes(vec![jti; 16]),
            manifest: mops.reference.clone(),
            epoch: EPOCH,
            purpose: PURPOSE.parse().expect("a purpose"),
            tickets: true,
            indexes: vec![Index(index)],
        };
        mops.send("registry", Method::POST, "/v1/locate", &request).await.expect("an answer").body().to_vec()
    };
    let live = ask(lapsed.index(), 1).await;
    harness.clock.advance(61);
    let answers = [ask(unknown.index(), 2).await, ask(forbidden.index(), 3).await, ask(lapsed.index(), 4).await];
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert!(live.len() > answers[0].len(), "while it lived it was answered");
    // Every sealed value that crosses has one size, whoever wrote it.
    let all = mops.output(pesel_of("mops+pup+css+zlm")).await;
    let located = mops.locate(&all).await.expect("located");
    assert_eq!(located.entries.iter().map(|sealed| sealed.0.len()).collect::<Vec<_>>(), [SEALED_BYTES; 3]);
}
