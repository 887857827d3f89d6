//! What the registry's disk shows (docs/PROTOCOL.md, What leaks).

use crate::federation::{Federation, MEMBERS, index, no_passphrase, sealed};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use keyring::KeySource;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use registry::{Config, OpenError, ROW_BYTES, Registry};
use std::path::Path;

/// Files under `dir` in which `needle` stands: as it is, in hexadecimal or, from 16 bytes on, in base64.
pub(crate) fn shows(dir: &Path, needle: &[u8]) -> Vec<String> {
    let mut needles = vec![needle.to_vec(), HEXLOWER.encode(needle).into(), HEXUPPER.encode(needle).into()];
    if needle.len() >= 16 {
        // base64 of bytes inside others depends on where they begin; the middle of each of the three shifts does not.
        let shifted = |shift: usize| BASE64.encode(&[&vec![0; shift], needle].concat()).into_bytes();
        let middle = 4..needle.len() * 4 / 3 - 4;
        needles.extend([0, 1, 2].map(|shift| shifted(shift)[middle.clone()].to_vec()));
        needles.push(BASE64URL_NOPAD.encode(needle).into());
    }
    let holds = |bytes: &[u8]| needles.iter().any(|needle| bytes.windows(needle.len()).any(|window| window == needle));
    let mut found = vec![];
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                dirs.push(entry);
            } else if holds(&std::fs::read(&entry).unwrap()) {
                found.push(entry.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

#[tokio::test]
async fn shows_no_index_no_member_and_no_sealed_value() {
    let mut federation = Federation::new().await;
    for name in MEMBERS {
        federation.put(name, &[1, 2, 3], &MEMBERS).await;
        federation.locate(name, &[1, 2, 3]).await;
    }
    federation.stop();
    let data = federation.config.data.clone();
    for n in 1..=3 {
        assert_eq!(shows(&data, index(n).as_bytes()), [""; 0]);
        for name in MEMBERS {
            assert_eq!(shows(&data, &sealed(name, n).0[..32]), [""; 0]);
        }
    }
    // The log knows which member asked, but says so under the storage key alone.
    for words in ["\"member\"", "social-welfare", "\"mops\"", "zlm\""] {
        assert_eq!(shows(&data, words.as_bytes()), [""; 0]);
    }
    // The same search finds what is there.
    for (name, planted) in [
        ("raw", index(1).0.to_vec()),
        ("hex", HEXLOWER.encode(&index(2).0).into()),
        ("base64", BASE64.encode(&[&[9], &index(3).0[..]].concat()).into()),
    ] {
        std::fs::write(data.join(name), planted).unwrap();
    }
    assert_eq!([1, 2, 3].map(|n| shows(&data, index(n).as_bytes())), [["raw"], ["hex"], ["base64"]]);
}

/// Rows have one size, whatever the audience; neither twelve rows on three residents nor a renewal repeat anything.
#[tokio::test]
async fn rows_are_alike_and_share_nothing() {
    let mut federation = Federation::new().await;
    for (name, audience) in MEMBERS.iter().zip([&MEMBERS[..0], &MEMBERS[..1], &MEMBERS[..2], &MEMBERS[..4]]) {
        federation.put(name, &[1, 2, 3], audience).await;
    }
    let rows = |config: &Config| -> Vec<(Vec<u8>, Vec<u8>)> {
        let db = Database::open(config.index()).unwrap();
        let table = TableDefinition::<&[u8; 32], &[u8; ROW_BYTES]>::new("rows");
        let table = db.begin_read().unwrap().open_table(table).unwrap();
        table
            .iter()
            .unwrap()
            .map(|row| row.unwrap())
            .map(|(key, row)| (key.value().to_vec(), row.value().to_vec()))
            .collect()
    };
    federation.stop();
    let before = rows(&federation.config);
    assert_eq!(before.len(), 12);
    let mut pieces: Vec<_> = before
        .iter()
        .flat_map(|(key, row)| [key.as_slice(), row].concat().windows(8).map(<[u8]>::to_vec).collect::<Vec<_>>())
        .collect();
    let count = pieces.len();
    pieces.sort_unstable();
    pieces.dedup();
    assert_eq!(pieces.len(), count, "eight bytes stand in two places");

    federation.restart().await;
    federation.put("mops", &[1, 2, 3], &MEMBERS[..1]).await;
    federation.stop();
    let after = rows(&federation.config);
    assert!(before.iter().map(|(key, _)| key).eq(after.iter().map(|(key, _)| key)), "a renewal stays in its place");
    assert_eq!(before.iter().zip(&after).filter(|(old, new)| old == new).count(), 9);
}

#[tokio::test]
async fn another_storage_key_or_pepper_opens_nothing_and_changes_nothing() {
    let mut federation = Federation::new().await;
    federation.put("mops", &[1], &["pup"]).await;
    federation.put("pup", &[1], &["mops"]).await;
    federation.stop();
    let reopen =
        async |config: &Config| Registry::open(config.clone(), federation.clock.clone(), no_passphrase).await.map(drop);
    for (file, refusal) in [("storage.key", "Keys"), ("pepper.key", "WrongPepper")] {
        let path = federation.dir.path().join(file);
        let right = std::fs::read(&path).unwrap();
        std::fs::write(&path, HEXLOWER.encode(&[7; 32])).unwrap();
        let error = reopen(&federation.config).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(refusal), "{error:?}");
        std::fs::write(&path, right).unwrap();
    }
    federation.restart().await;
    assert_eq!(federation.locate("mops", &[1]).await.found[0].entries.len(), 1);
}

#[tokio::test]
async fn init_refuses_to_overwrite() {
    let federation = Federation::new().await;
    let again = registry::init(&federation.config, no_passphrase);
    assert!(matches!(again, Err(OpenError::Initialised(_))));
}

#[tokio::test]
async fn a_passphrase_opens_what_it_made_and_no_other_does() {
    let federation = Federation::unpublished().await;
    let mut config = federation.config.clone();
    config.data = federation.dir.path().join("typed");
    config.log = config.data.join("log");
    config.storage_key = KeySource::Passphrase { salt: config.data.join("storage.salt") };
    let open = async |typed: &'static str| {
        Registry::open(config.clone(), federation.clock.clone(), || Ok(typed.to_owned().into())).await
    };
    assert!(
        matches!(open("koń bateria zszywka").await.map(drop), Err(OpenError::Secrets(_))),
        "nothing is made by opening"
    );
    assert!(!config.data.exists());
    registry::init(&config, || Ok("koń bateria zszywka".to_owned().into())).unwrap();
    assert!(matches!(open("koń bateria zszywki").await.map(drop), Err(OpenError::Keys(_))));
    assert!(open("koń bateria zszywka").await.is_ok());
}
