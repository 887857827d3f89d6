use super::*;
use proptest::prelude::*;

fn blind() -> Blind {
    Blind::new(&StorageKey::from_bytes([1; 32]), &StorageKey::from_bytes([2; 32]))
}

fn member(name: &str) -> MemberId {
    name.parse().unwrap()
}

fn members(count: usize) -> BTreeSet<MemberId> {
    (0..count).map(|n| member(&format!("m{n}"))).collect()
}

fn content<'a>(expires: i64, audience: &'a BTreeSet<MemberId>, sealed: &'a [u8; SEALED_BYTES]) -> Content<'a> {
    Content { expires: Timestamp(expires), since: Timestamp(3), state: State::Provisional, audience, sealed }
}

const KEY: RowKey = RowKey([7; 32]);

proptest! {
    #[test]
    fn a_row_gives_back_what_it_was_made_of(
        key: [u8; 32], expires: i64, readers in 0..=MAX_AUDIENCE, sealed in prop::collection::vec(any::<u8>(), SEALED_BYTES),
    ) {
        let (blind, key, audience) = (blind(), RowKey(key), members(readers));
        let sealed: [u8; SEALED_BYTES] = sealed.try_into().unwrap();
        let mut row = blind.seal(&key, &content(expires, &audience, &sealed)).unwrap();
        let entry = blind.open(&key, &mut row).unwrap();
        prop_assert_eq!((entry.expires, entry.sealed), (Timestamp(expires), &sealed));
        prop_assert_eq!((entry.since, entry.state), (Timestamp(3), State::Provisional));
        for n in 0..20 {
            prop_assert_eq!(entry.admits(&blind.tag(&key, &member(&format!("m{n}")))), n < readers);
        }
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), ROW_BYTES)) {
        let mut row = Row(bytes.into_boxed_slice().try_into().unwrap());
        prop_assert!(blind().open(&KEY, &mut row).is_none());
    }
}

#[test]
fn a_row_opens_only_at_its_key_with_both_secrets_and_unaltered() {
    let row = blind().seal(&KEY, &content(5, &members(2), &[3; SEALED_BYTES])).unwrap();
    assert!(blind().open(&KEY, &mut row.clone()).is_some());
    assert!(blind().open(&RowKey([8; 32]), &mut row.clone()).is_none());
    let other_storage = Blind::new(&StorageKey::from_bytes([9; 32]), &StorageKey::from_bytes([2; 32]));
    assert!(other_storage.open(&KEY, &mut row.clone()).is_none());
    let other_pepper = Blind::new(&StorageKey::from_bytes([1; 32]), &StorageKey::from_bytes([9; 32]));
    let mut opened = row.clone();
    assert!(!other_pepper.open(&KEY, &mut opened).unwrap().admits(&other_pepper.tag(&KEY, &member("m0"))));
    for byte in 0..ROW_BYTES {
        let mut altered = row.clone();
        altered.0[byte] ^= 1;
        assert!(blind().open(&KEY, &mut altered).is_none(), "byte {byte}");
    }
}

#[test]
fn row_keys_differ_in_every_part_and_need_the_pepper() {
    let key = |pepper: u8, epoch: u32, index: u8, name: &str| {
        let blind = Blind::new(&StorageKey::from_bytes([1; 32]), &StorageKey::from_bytes([pepper; 32]));
        blind.row_key(Epoch(epoch), &Index([index; 32]), &member(name))
    };
    let keys =
        [key(2, 1, 1, "mops"), key(3, 1, 1, "mops"), key(2, 2, 1, "mops"), key(2, 1, 2, "mops"), key(2, 1, 1, "pup")];
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    assert_eq!(key(2, 1, 1, "mops"), keys[0]);
}

/// Neither the number of readers nor their order may show in an opened row: tags are sorted and no two rows share one.
#[test]
fn tags_say_neither_how_many_nor_who() {
    let blind = blind();
    let tags = |key: RowKey, readers: usize| {
        let mut row = blind.seal(&key, &content(5, &members(readers), &[3; SEALED_BYTES])).unwrap();
        let entry = blind.open(&key, &mut row).unwrap();
        entry.tags.as_chunks::<TAG_BYTES>().0.to_vec()
    };
    for readers in [0, 1, MAX_AUDIENCE] {
        assert!(tags(KEY, readers).is_sorted());
    }
    let (one, other) = (tags(KEY, MAX_AUDIENCE), tags(RowKey([8; 32]), MAX_AUDIENCE));
    assert!(one.iter().all(|tag| !other.contains(tag)));
}
