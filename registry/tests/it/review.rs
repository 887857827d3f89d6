//! What members are told to look at.

use crate::federation::{DAY, Federation, MEMBERS, index, member, sealed};
use protocol::manifest::RaisedQuota;
use protocol::registry::{EntriesRequest, PROVISIONAL_DAYS, Provisional, ProvisionalReason};
use protocol::review::{News, ReviewAnswer, ReviewItem, review_handle};
use protocol::{Bytes, Epoch};
use redb::{ReadableDatabase as _, ReadableTable as _};

/// After this what was written can be read.
const SETTLED: i64 = 120;

fn met(federation: &Federation, reader: &str, n: u8, by_reader: bool, again: bool, other: &str) -> ReviewItem {
    ReviewItem {
        at: federation.clock.now() + -SETTLED,
        epoch: Epoch(1),
        handle: Bytes(review_handle(&member(reader), &index(n)).to_vec()),
        news: News::Met { by_reader, again, sealed: sealed(other, n) },
    }
}

#[tokio::test]
async fn a_new_meeting_is_told_to_both_and_to_nobody_else() {
    let federation = Federation::new().await;
    federation.put("mops", &[1, 2], &MEMBERS).await;
    assert_eq!(federation.review("mops").await, [], "there was nobody to meet");
    federation.put("pup", &[1], &MEMBERS).await;
    federation.clock.advance(SETTLED - 1);
    assert_eq!(federation.review("mops").await, [], "what is being written might come before it");
    federation.clock.advance(1);
    assert_eq!(federation.review("mops").await, [met(&federation, "mops", 1, false, false, "pup")]);
    assert_eq!(federation.review("pup").await, [met(&federation, "pup", 1, true, false, "mops")]);
    assert_eq!(federation.review("css").await, []);
    // Whoever cannot be seen is not met: css and zlm have no agreement, and neither audience is enough alone.
    federation.put("css", &[5], &MEMBERS).await;
    federation.put("zlm", &[5], &MEMBERS).await;
    federation.put("mops", &[6], &["css"]).await;
    federation.put("pup", &[6], &MEMBERS).await;
    federation.put("css", &[7], &["mops"]).await;
    federation.put("pup", &[7], &MEMBERS).await;
    federation.clock.advance(SETTLED);
    assert_eq!(federation.review("zlm").await, []);
    assert_eq!(federation.review("css").await, []);
    assert_eq!(federation.review("pup").await.len(), 1);
}

#[tokio::test]
async fn a_renewal_is_no_news_and_a_return_is() {
    let federation = Federation::new().await;
    federation.put("mops", &[1], &MEMBERS).await;
    federation.put("pup", &[1], &MEMBERS).await;
    federation.clock.advance(2 * 3600);
    federation.put("pup", &[1], &MEMBERS).await;
    federation.clock.advance(SETTLED);
    assert_eq!(federation.review("mops").await.len(), 1);
    // Removed, and put again a month later: the row remembered it.
    federation.send("DELETE", "/v1/entries", &federation.delete_request("pup", &[1])).await;
    assert_eq!(federation.locate("mops", &[1]).await.found[0].entries.len(), 0);
    federation.clock.advance(30 * DAY);
    federation.registry().sweep(None).await.unwrap();
    federation.put("pup", &[1], &MEMBERS).await;
    federation.clock.advance(SETTLED);
    let told = federation.review("mops").await;
    assert_eq!(told[1..], [met(&federation, "mops", 1, false, true, "pup")]);
    // After ninety days it is forgotten.
    federation.send("DELETE", "/v1/entries", &federation.delete_request("pup", &[1])).await;
    federation.clock.advance(90 * DAY);
    federation.registry().sweep(None).await.unwrap();
    federation.put("pup", &[1], &MEMBERS).await;
    federation.clock.advance(SETTLED);
    assert_eq!(federation.review("mops").await, [met(&federation, "mops", 1, false, false, "pup")]);
}

#[tokio::test]
async fn a_first_enrolment_is_not_told_but_what_follows_it_is() {
    let mut federation = Federation::new().await;
    let until = federation.clock.now() + DAY;
    federation
        .amend(|manifest| {
            let pup = manifest.members.iter_mut().find(|m| m.id == member("pup")).unwrap();
            pup.quotas.first_enrolment = Some(RaisedQuota { evaluations: 1000, until });
        })
        .await;
    federation.put("mops", &[1, 2], &MEMBERS).await;
    federation.put("pup", &[1], &MEMBERS).await;
    federation.put("mops", &[1], &MEMBERS).await;
    let posted = async |name: &str| {
        let status = federation.registry().status().await.unwrap();
        status.members.iter().find(|m| m.id == member(name)).unwrap().posted
    };
    // Nor are its entries counted against those that meet somebody, of which it is not told.
    assert_eq!((posted("mops").await, posted("pup").await), (2, 0));
    federation.clock.advance(2 * DAY);
    let told = |items: Vec<ReviewItem>| items.len();
    // The one note is of mops, whose own first enrolment is over: it put again within the hour.
    assert_eq!(told(federation.review("mops").await), 1);
    federation.put("pup", &[2], &MEMBERS).await;
    federation.clock.advance(SETTLED);
    assert_eq!(told(federation.review("mops").await), 2);
}

#[tokio::test]
async fn a_queue_is_read_in_pages_by_its_owner_and_survives_a_restart() {
    let mut federation = Federation::new().await;
    federation.put("mops", &(0..200).collect::<Vec<u8>>(), &MEMBERS).await;
    for name in ["pup", "css", "zlm"] {
        federation.put(name, &(0..200).collect::<Vec<u8>>(), &["mops"]).await;
        federation.clock.advance(10);
    }
    federation.clock.advance(SETTLED);
    federation.restart().await;
    let mut request = federation.review_request("mops");
    let mut read = vec![];
    loop {
        let answer: ReviewAnswer = federation.send("POST", "/v1/review", &request).await.json();
        read.extend(answer.items);
        let Some(next) = answer.next else { break };
        request = federation.review_request("mops");
        request.after = Some(next);
    }
    assert_eq!(read.len(), 600);
    assert!(read.is_sorted_by_key(|item| item.at));
    let sealed_seen: std::collections::BTreeSet<_> = read.iter().map(|item| format!("{:?}", item.news)).collect();
    assert_eq!(sealed_seen.len(), 600, "each once");
    let log = federation.log();
    assert_eq!((&log.last().unwrap()["event"], &log.last().unwrap()["member"]), (&"review".into(), &"mops".into()));

    request.after = Some(Bytes(vec![1; 23]));
    federation.send("POST", "/v1/review", &request).await.refused("request_malformed");
    // Items end by themselves.
    federation.clock.advance(91 * DAY);
    federation.registry().sweep(None).await.unwrap();
    assert_eq!(federation.review("mops").await, []);
}

fn provisional(federation: &Federation, n: u8, user: u8) -> EntriesRequest {
    let mut request = federation.put_request("mops", &[n], &MEMBERS);
    request.put[0].provisional =
        Some(Provisional { reason: ProvisionalReason::Application, user: Bytes(vec![user; 16]) });
    request.put[0].expires = federation.clock.now() + PROVISIONAL_DAYS * DAY;
    request
}

#[tokio::test]
async fn a_provisional_entry_works_once_and_lapses() {
    let federation = Federation::new().await;
    federation.put("pup", &[1], &MEMBERS).await;
    let put = async |request: EntriesRequest| federation.send("PUT", "/v1/entries", &request).await;
    let mut too_long = provisional(&federation, 1, 1);
    too_long.put[0].expires = too_long.put[0].expires + 1;
    put(too_long).await.refused("expiry_invalid");
    let mut no_user = provisional(&federation, 1, 1);
    no_user.put[0].provisional.as_mut().unwrap().user = Bytes(vec![1; 15]);
    put(no_user).await.refused("provisional_user");

    assert_eq!(put(provisional(&federation, 1, 1)).await.status, 200);
    assert_eq!(federation.locate("mops", &[1]).await.found[0].entries, [sealed("pup", 1)]);
    assert_eq!(
        federation.log().iter().rev().find(|e| e["event"] == "entries").unwrap()["provisional"][0],
        "application"
    );
    put(provisional(&federation, 1, 1)).await.refused("provisional_renewed");
    // Not by removing it first, either; nor by waiting until it lapsed, or was swept.
    federation.send("DELETE", "/v1/entries", &federation.delete_request("mops", &[1])).await;
    put(provisional(&federation, 1, 1)).await.refused("provisional_renewed");
    federation.clock.advance(DAY);
    assert_eq!(put(provisional(&federation, 2, 1)).await.status, 200);
    federation.clock.advance(20 * DAY);
    federation.registry().sweep(None).await.unwrap();
    assert_eq!(federation.locate("mops", &[2]).await.found[0].entries.len(), 0);
    put(provisional(&federation, 2, 1)).await.refused("provisional_renewed");
    // Nor is an ordinary entry made a provisional one.
    federation.put("mops", &[3], &MEMBERS).await;
    put(provisional(&federation, 3, 1)).await.refused("provisional_renewed");
    federation.clock.advance(90 * DAY);
    federation.registry().sweep(None).await.unwrap();
    assert_eq!(federation.log().last().unwrap()["never_converted"], 1);
    assert_eq!(put(provisional(&federation, 2, 1)).await.status, 200);
}

#[tokio::test]
async fn a_provisional_entry_that_is_never_converted_is_reported() {
    let federation = Federation::new().await;
    for n in [1, 2, 3] {
        federation.send("PUT", "/v1/entries", &provisional(&federation, n, n)).await;
    }
    federation.clock.advance(5 * DAY);
    federation.put("mops", &[1], &MEMBERS).await;
    federation.send("DELETE", "/v1/entries", &federation.delete_request("mops", &[3])).await;
    federation.clock.advance(9 * DAY + SETTLED);
    let handles: std::collections::BTreeSet<_> = federation
        .review("mops")
        .await
        .into_iter()
        .map(|item| {
            assert_eq!(item.news, News::NeverConverted);
            item.handle.0
        })
        .collect();
    let expected = [2, 3].map(|n| review_handle(&member("mops"), &index(n)).to_vec());
    assert_eq!(handles, expected.into());
}

#[tokio::test]
async fn a_user_makes_few_provisional_entries_a_day() {
    let federation = Federation::new().await;
    let quota = u8::try_from(federation.config.shares.provisional_per_user_per_day).unwrap();
    for n in 0..quota {
        let reply = federation.send("PUT", "/v1/entries", &provisional(&federation, n, 1)).await;
        assert_eq!(reply.status, 200);
    }
    let refused = federation.send("PUT", "/v1/entries", &provisional(&federation, 100, 1)).await;
    refused.refused("provisional_quota");
    assert!((1..=86_400).contains(&refused.problem().retry_after.unwrap()));
    assert_eq!(federation.send("PUT", "/v1/entries", &provisional(&federation, 100, 2)).await.status, 200);
    federation.clock.advance(i64::try_from(refused.problem().retry_after.unwrap()).unwrap());
    assert_eq!(federation.send("PUT", "/v1/entries", &provisional(&federation, 101, 1)).await.status, 200);
}

/// The disk and both secrets: who met whom on which resident cannot be read out of notes.
#[tokio::test]
async fn notes_show_neither_index_nor_member_to_whoever_has_the_disk() {
    let mut federation = Federation::new().await;
    federation.put("mops", &[1], &MEMBERS).await;
    federation.put("pup", &[1], &MEMBERS).await;
    federation.stop();
    let db = redb::Database::open(federation.config.index()).unwrap();
    let notes = redb::TableDefinition::<&[u8; 56], &[u8; registry::ROW_BYTES]>::new("notes");
    let table = db.begin_read().unwrap().open_table(notes).unwrap();
    let mut all = vec![];
    for note in table.iter().unwrap() {
        let (key, row) = note.unwrap();
        all.extend([key.value().as_slice(), row.value()].concat());
    }
    assert!(!all.is_empty());
    let handle = review_handle(&member("mops"), &index(1)).to_vec();
    for needle in [index(1).0.to_vec(), sealed("pup", 1).0[..32].to_vec(), b"mops".to_vec(), b"pup".to_vec(), handle] {
        assert!(!all.windows(needle.len()).any(|window| window == needle));
    }
}
