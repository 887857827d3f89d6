//! What every index engine must do, as one suite: an engine's own tests call [`conformance`].

use crate::store::{
    Batch, Count, IndexStore, Ledger, MeterId, NoteKey, ROW_BYTES, RequestId, Row, RowKey, StoreError, Written,
};
use protocol::Timestamp;
use std::sync::Arc;

/// Runs every requirement. `open(space)` opens the store named `space`: empty the first time, and after all handles of
/// it were dropped, the same store again.
///
/// # Errors
/// The engine's.
///
/// # Panics
/// When a requirement is not met.
pub async fn conformance(open: impl AsyncFn(&str) -> Arc<dyn IndexStore>) -> Result<(), StoreError> {
    rows_come_back_in_the_order_asked(&*open("order").await).await?;
    writing_again_replaces(&*open("replace").await).await?;
    deleting_twice_is_no_error(&*open("delete").await).await?;
    a_request_works_once(&*open("once").await).await?;
    pages_walk_every_row(&*open("pages").await).await?;
    sweeping_spares_what_changed(&*open("sweep").await).await?;
    request_ids_lapse(&*open("lapse").await).await?;
    notes_stand_in_order_and_stay(&*open("notes").await).await?;
    meters_only_grow(open("meters").await).await?;
    what_lapsed_is_forgotten(&*open("forget").await).await?;
    everything_can_be_handed_over(&*open("from").await, &*open("to").await).await?;
    what_was_acknowledged_survives(&open).await?;
    writers_do_not_lose_each_other(open("writers").await).await
}

/// The key of test row `n`: spread over the key space, distinct for distinct `n`.
fn key(n: u32) -> RowKey {
    RowKey(protocol::encoding::sha256(&[&n.to_be_bytes()]))
}

/// A row that is `version` of anything.
fn row(version: u8) -> Row {
    Row(Box::new([version; ROW_BYTES]))
}

/// A request nobody sent before.
fn request(n: u32) -> RequestId {
    RequestId { id: protocol::encoding::sha256(&[b"request", &n.to_be_bytes()]), until: Timestamp(1_000) }
}

fn batch(request_no: u32, put: &[(u32, u8)], delete: &[u32]) -> Batch {
    Batch {
        request: Some(request(request_no)),
        put: put.iter().map(|(n, version)| (key(*n), row(*version))).collect(),
        delete: delete.iter().map(|n| key(*n)).collect(),
        ..Batch::default()
    }
}

const STORED: Written = Written::Stored { deleted: 0 };

async fn rows_come_back_in_the_order_asked(store: &dyn IndexStore) -> Result<(), StoreError> {
    assert_eq!(store.count().await?, 0);
    assert_eq!(store.get(vec![]).await?, vec![]);
    assert_eq!(store.write(batch(1, &[(1, 1), (2, 2), (3, 3)], &[])).await?, STORED);
    let asked = vec![key(3), key(9), key(1), key(3), key(2)];
    assert_eq!(store.get(asked).await?, vec![Some(row(3)), None, Some(row(1)), Some(row(3)), Some(row(2))]);
    assert_eq!(store.count().await?, 3);
    Ok(())
}

async fn writing_again_replaces(store: &dyn IndexStore) -> Result<(), StoreError> {
    store.write(batch(1, &[(1, 1)], &[])).await?;
    assert_eq!(store.write(batch(2, &[(1, 2)], &[])).await?, STORED);
    assert_eq!(store.write(batch(3, &[(1, 2)], &[])).await?, STORED);
    assert_eq!((store.get(vec![key(1)]).await?, store.count().await?), (vec![Some(row(2))], 1));
    Ok(())
}

async fn deleting_twice_is_no_error(store: &dyn IndexStore) -> Result<(), StoreError> {
    store.write(batch(1, &[(1, 1), (2, 2)], &[])).await?;
    assert_eq!(store.write(batch(2, &[(3, 3)], &[1, 7])).await?, Written::Stored { deleted: 1 });
    assert_eq!(store.write(batch(3, &[], &[1, 7])).await?, STORED);
    assert_eq!(store.get(vec![key(1), key(2), key(3)]).await?, vec![None, Some(row(2)), Some(row(3))]);
    Ok(())
}

async fn a_request_works_once(store: &dyn IndexStore) -> Result<(), StoreError> {
    let put = batch(1, &[(1, 1), (2, 1)], &[3]);
    store.write(put.clone()).await?;
    store.write(batch(2, &[(3, 3)], &[1])).await?;
    // Not one part of it happens again: neither the puts nor the deletion.
    assert_eq!(store.write(put).await?, Written::Replayed);
    assert_eq!(store.get(vec![key(1), key(2), key(3)]).await?, vec![None, Some(row(1)), Some(row(3))]);
    Ok(())
}

async fn pages_walk_every_row(store: &dyn IndexStore) -> Result<(), StoreError> {
    let all: Vec<(u32, u8)> = (0..25).map(|n| (n, 1)).collect();
    store.write(batch(1, &all, &[])).await?;
    let (mut walked, mut after) = (Vec::new(), None);
    loop {
        let page = store.page(after, 10).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        walked.extend(page);
    }
    assert_eq!((store.count().await?, store.size().await?), (25, 25));
    let mut expected: Vec<_> = (0..25).map(|n| (key(n), row(1))).collect();
    expected.sort_unstable_by_key(|(key, _)| *key);
    assert_eq!(walked, expected);
    Ok(())
}

async fn sweeping_spares_what_changed(store: &dyn IndexStore) -> Result<(), StoreError> {
    store.write(batch(1, &[(1, 1), (2, 1), (3, 1)], &[])).await?;
    let seen = vec![(key(1), row(1)), (key(2), row(1)), (key(9), row(1))];
    store.write(batch(2, &[(2, 2)], &[])).await?;
    assert_eq!(store.sweep(seen).await?, 1);
    assert_eq!(store.get(vec![key(1), key(2), key(3)]).await?, vec![None, Some(row(2)), Some(row(1))]);
    Ok(())
}

async fn request_ids_lapse(store: &dyn IndexStore) -> Result<(), StoreError> {
    let old = Batch { request: Some(RequestId { until: Timestamp(-5), ..request(1) }), ..batch(1, &[(1, 1)], &[]) };
    let new = batch(2, &[(2, 2)], &[]);
    store.write(old.clone()).await?;
    store.write(new.clone()).await?;
    store.forget(Timestamp(1_000), Timestamp(0)).await?;
    assert_eq!(store.write(old).await?, STORED);
    assert_eq!(store.write(new).await?, Written::Replayed);
    Ok(())
}

fn note(queue: u8, at: i64, id: u8) -> NoteKey {
    NoteKey { queue: [queue; 32], at: Timestamp(at), id: [id; 16] }
}

fn notes(notes: &[(NoteKey, u8)]) -> Vec<(NoteKey, Row)> {
    notes.iter().map(|(key, version)| (*key, row(*version))).collect()
}

fn count(meter: u8, add: u64) -> Count {
    Count { meter: MeterId([meter; 32]), add, until: Timestamp(500) }
}

async fn notes_stand_in_order_and_stay(store: &dyn IndexStore) -> Result<(), StoreError> {
    let all = [(note(1, -7, 3), 1), (note(1, 5, 1), 2), (note(1, 5, 2), 3), (note(1, 900, 0), 4), (note(2, 0, 0), 5)];
    let mut backwards = notes(&all);
    backwards.reverse();
    store.write(Batch { note: backwards, ..Batch::default() }).await?;
    // A note is never overwritten.
    store.write(Batch { note: notes(&[(note(1, 5, 1), 9)]), ..Batch::default() }).await?;
    assert_eq!(store.notes(NoteKey::FIRST, NoteKey::LAST, 100).await?, notes(&all));
    assert_eq!(store.notes(note(1, 5, 1), note(1, 900, 0), 100).await?, notes(&all[2..4]));
    assert_eq!(store.notes(note(1, -8, 0), note(1, 5, 1), 100).await?, notes(&all[..2]));
    assert_eq!(store.notes(NoteKey::FIRST, NoteKey::LAST, 2).await?, notes(&all[..2]));
    assert_eq!(store.notes(note(1, 5, 1), note(1, 5, 1), 2).await?, []);
    assert_eq!(store.notes(note(2, 0, 0), note(1, 0, 0), 2).await?, []);
    let unnote = vec![note(1, 5, 2), note(7, 7, 7)];
    store.write(Batch { unnote, ..Batch::default() }).await?;
    assert_eq!(store.notes(note(1, 5, 1), note(1, i64::MAX, 255), 100).await?, notes(&all[3..4]));
    Ok(())
}

async fn meters_only_grow(store: Arc<dyn IndexStore>) -> Result<(), StoreError> {
    assert_eq!(store.charge(vec![count(2, 5), count(1, 3)]).await?, [5, 3]);
    assert_eq!(store.charge(vec![count(1, 1), count(3, 0)]).await?, [4, 0]);
    let write = Batch { request: Some(request(1)), count: vec![count(2, 2)], ..Batch::default() };
    store.write(write.clone()).await?;
    store.write(write).await?;
    assert_eq!(store.charge(vec![count(2, 0)]).await?, [7], "a replayed request counts nothing");
    let charge = |_| {
        let store = store.clone();
        tokio::spawn(async move { store.charge(vec![count(8, 1), count(9, 1)]).await })
    };
    let mut totals = Vec::new();
    for task in (0..20).map(charge).collect::<Vec<_>>() {
        totals.extend(task.await.map_err(|e| StoreError(e.to_string()))??.first().copied());
    }
    totals.sort_unstable();
    assert_eq!(totals, (1..=20).collect::<Vec<u64>>(), "each saw its own total");
    Ok(())
}

async fn what_lapsed_is_forgotten(store: &dyn IndexStore) -> Result<(), StoreError> {
    store.charge(vec![count(1, 1), Count { until: Timestamp(99), ..count(2, 1) }]).await?;
    let all = [(note(1, 5, 1), 1), (note(1, 6, 1), 2), (note(2, 4, 1), 3)];
    store.write(Batch { note: notes(&all), ..Batch::default() }).await?;
    store.forget(Timestamp(100), Timestamp(6)).await?;
    assert_eq!(store.notes(NoteKey::FIRST, NoteKey::LAST, 9).await?, notes(&all[1..2]));
    assert_eq!(store.ledger().await?.meters, [count(1, 1)]);
    Ok(())
}

async fn everything_can_be_handed_over(from: &dyn IndexStore, to: &dyn IndexStore) -> Result<(), StoreError> {
    let filled = Batch {
        note: notes(&[(note(1, 5, 1), 1), (note(2, 6, 1), 2)]),
        count: vec![count(4, 7)],
        ..batch(1, &[(1, 1), (2, 2), (3, 3)], &[])
    };
    from.write(filled.clone()).await?;
    to.write(batch(9, &[(2, 9)], &[])).await?;
    for _ in 0..2 {
        let (rows, noted) = (from.page(None, 9).await?, from.notes(NoteKey::FIRST, NoteKey::LAST, 9).await?);
        to.load(rows, noted, from.ledger().await?).await?;
    }
    assert_eq!(to.page(None, 9).await?, from.page(None, 9).await?);
    assert_eq!(to.notes(NoteKey::FIRST, NoteKey::LAST, 9).await?, filled.note);
    assert_eq!(to.write(filled).await?, Written::Replayed);
    let Ledger { meters, mut requests } = to.ledger().await?;
    requests.sort_unstable_by_key(|request| request.id);
    let mut expected = [request(1), request(9)];
    expected.sort_unstable_by_key(|request| request.id);
    assert_eq!((meters, requests.as_slice()), (vec![count(4, 7)], expected.as_slice()));
    Ok(())
}

async fn what_was_acknowledged_survives(open: &impl AsyncFn(&str) -> Arc<dyn IndexStore>) -> Result<(), StoreError> {
    let store = open("survives").await;
    store.write(batch(1, &[(1, 1), (2, 2)], &[])).await?;
    store.write(batch(2, &[], &[1])).await?;
    drop(store);
    let store = open("survives").await;
    assert_eq!(store.get(vec![key(1), key(2)]).await?, vec![None, Some(row(2))]);
    assert_eq!(store.write(batch(1, &[(1, 1)], &[])).await?, Written::Replayed);
    Ok(())
}

async fn writers_do_not_lose_each_other(store: Arc<dyn IndexStore>) -> Result<(), StoreError> {
    let write = |writer: u32| {
        let store = store.clone();
        async move {
            for step in 0..8 {
                let n = writer * 100 + step;
                store.write(batch(n, &[(n, 1), (99_999, 3)], &[])).await?;
            }
            Ok::<(), StoreError>(())
        }
    };
    let tasks: Vec<_> = (0..12).map(|writer| tokio::spawn(write(writer))).collect();
    for task in tasks {
        task.await.map_err(|e| StoreError(e.to_string()))??;
    }
    assert_eq!(store.count().await?, 12 * 8 + 1);
    let all = (0..12).flat_map(|writer| (0..8).map(move |step| key(writer * 100 + step))).collect();
    assert!(store.get(all).await?.iter().all(|found| found.as_ref() == Some(&row(1))));
    Ok(())
}
