//! Changing one's own entries, once, durably.

use crate::federation::{DAY, Federation, index, member};
use protocol::registry::{EntriesAnswer, EntriesRequest, MAX_BATCH, PutEntry};
use protocol::{Bytes, Index};

async fn send(federation: &Federation, request: &EntriesRequest) -> crate::federation::Reply {
    federation.send("PUT", "/v1/entries", request).await
}

#[tokio::test]
async fn puts_and_deletions_are_counted_and_idempotent() {
    let federation = Federation::new().await;
    let answer = |stored, deleted| EntriesAnswer { stored, deleted };
    let mut request = federation.put_request("mops", &[1, 2], &["pup"]);
    assert_eq!(send(&federation, &request).await.json::<EntriesAnswer>(), answer(2, 0));
    request = federation.put_request("mops", &[1, 3], &["pup"]);
    request.delete = vec![index(2), index(9)];
    assert_eq!(send(&federation, &request).await.json::<EntriesAnswer>(), answer(2, 1));
    let delete = federation.delete_request("mops", &[1, 2]);
    assert_eq!(federation.send("DELETE", "/v1/entries", &delete).await.json::<EntriesAnswer>(), answer(0, 1));
}

#[tokio::test]
async fn nobody_touches_anothers_entry() {
    let federation = Federation::new().await;
    federation.put("mops", &[1], &["pup"]).await;
    federation.put("pup", &[1], &["mops"]).await;
    let deleted = send(&federation, &federation.delete_request("css", &[1])).await.json::<EntriesAnswer>().deleted;
    assert_eq!(deleted, 0);
    assert_eq!(federation.locate("mops", &[1]).await.found[0].entries.len(), 1);
}

#[tokio::test]
async fn an_old_put_cannot_undo_a_deletion_even_after_a_restart() {
    let mut federation = Federation::new().await;
    federation.put("pup", &[1], &["mops"]).await;
    let put = federation.put_request("mops", &[1], &["pup"]);
    assert_eq!(send(&federation, &put).await.status, 200);
    assert_eq!(send(&federation, &federation.delete_request("mops", &[1])).await.status, 200);
    send(&federation, &put).await.refused("request_replayed");
    federation.restart().await;
    send(&federation, &put).await.refused("request_replayed");
    assert_eq!(federation.locate("mops", &[1]).await.found[0].entries.len(), 0);
    // When its id is forgotten it is too old anyway.
    federation.clock.advance(91);
    federation.registry().sweep(None).await.unwrap();
    send(&federation, &put).await.refused("request_stale");
}

#[tokio::test]
async fn acknowledged_entries_survive_a_restart() {
    let mut federation = Federation::new().await;
    federation.put("mops", &[1, 2], &["pup"]).await;
    federation.put("pup", &[1, 2], &["mops"]).await;
    send(&federation, &federation.delete_request("pup", &[2])).await;
    federation.restart().await;
    let found = federation.locate("mops", &[1, 2]).await.found;
    assert_eq!(found.iter().map(|located| located.entries.len()).collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test]
async fn a_request_out_of_bounds_changes_nothing() {
    let federation = Federation::new().await;
    let refused = async |code: &str, edit: &dyn Fn(&mut EntriesRequest)| {
        let mut request = federation.put_request("mops", &[1, 2], &["pup"]);
        edit(&mut request);
        let reply = send(&federation, &request).await;
        reply.refused(code);
        reply.problem().field
    };
    let now = federation.clock.now();
    for length in [0, 283, 285] {
        let field = refused("sealed_length", &|r| r.put[1].sealed = Bytes(vec![0; length])).await;
        assert_eq!(field.unwrap(), "put[1].sealed");
    }
    for expires in [now, now + -1, now + (400 * DAY + 1)] {
        let field = refused("expiry_invalid", &|r| r.put[1].expires = expires).await;
        assert_eq!(field.unwrap(), "put[1].expires");
    }
    refused("audience_invalid", &|r| r.audience = [member("stranger")].into()).await;
    refused("audience_invalid", &|r| r.audience = (0..17).map(|n| member(&format!("m{n}"))).collect()).await;
    refused("index_repeated", &|r| r.put[1].index = index(1)).await;
    refused("index_repeated", &|r| r.delete = vec![index(1)]).await;
    refused("index_repeated", &|r| r.delete = vec![index(5), index(5)]).await;
    let many = |count: usize| (0..count).map(|n| Index(protocol::encoding::sha256(&[&n.to_be_bytes()]))).collect();
    refused("batch_too_large", &|r| r.delete = many(MAX_BATCH - 1)).await;
    assert_eq!(federation.registry().sweep(None).await.unwrap(), None);
    federation.put("pup", &[1, 2], &["mops"]).await;
    assert!(federation.locate("pup", &[1, 2]).await.found.iter().all(|located| located.entries.is_empty()));
}

#[tokio::test]
async fn the_longest_batch_fits_and_a_longer_body_does_not() {
    let federation = Federation::new().await;
    let mut request = federation.put_request("mops", &[1], &["css", "pup", "zlm"]);
    let PutEntry { sealed, expires, .. } = request.put[0].clone();
    let entry = |n: usize| PutEntry {
        index: Index(protocol::encoding::sha256(&[&n.to_be_bytes()])),
        sealed: sealed.clone(),
        expires,
        provisional: None,
    };
    request.put = (0..MAX_BATCH).map(entry).collect();
    assert_eq!(send(&federation, &request).await.json::<EntriesAnswer>().stored, MAX_BATCH);
    let body = vec![b'x'; federation.config.limits.max_body + 1];
    federation.call("mops", "PUT", "/v1/entries", body).await.refused("body_too_large");
}

#[tokio::test]
async fn sweeping_removes_what_lapsed_and_records_it() {
    let federation = Federation::new().await;
    let mut request = federation.put_request("mops", &[1, 2, 3], &["pup"]);
    request.put[0].expires = federation.clock.now() + DAY;
    send(&federation, &request).await;
    federation.clock.advance(DAY);
    let entries = federation.log().len();
    federation.registry().sweep(None).await.unwrap();
    federation.registry().sweep(None).await.unwrap();
    let log = federation.log();
    assert_eq!(log.len(), entries + 1, "nothing to sweep, nothing to say");
    assert_eq!((&log[entries]["event"], &log[entries]["rows"]), (&"swept".into(), &1.into()));
    let deleted =
        send(&federation, &federation.delete_request("mops", &[1, 2, 3])).await.json::<EntriesAnswer>().deleted;
    assert_eq!(deleted, 2);
}
