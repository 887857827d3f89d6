//! Guessing: misses, planted indexes, entries that meet nobody.

use crate::federation::{DAY, Federation, MEMBERS, OFFICERS, Reply, index, member};
use protocol::registry::{EntriesAnswer, LocateAnswer};
use protocol::review::{Honeypots, News, ReviewItem, SignedHoneypots, review_handle};
use protocol::{Epoch, SigningKey};

const SETTLED: i64 = 120;

async fn plant(federation: &Federation, plant: &[u8], remove: &[u8], officers: usize) -> Reply {
    let honeypots = Honeypots {
        realm: federation.config.realm.clone(),
        issued: federation.clock.now(),
        epoch: Epoch(1),
        plant: plant.iter().map(|n| index(*n)).collect(),
        remove: remove.iter().map(|n| index(*n)).collect(),
    };
    let mut signed = SignedHoneypots::draft(&honeypots).unwrap();
    for seed in &OFFICERS[..officers] {
        signed.sign(&SigningKey::from_seed(&[*seed; 32]).unwrap());
    }
    federation.call("zlm", "PUT", "/v1/honeypots", serde_json::to_vec(&signed).unwrap()).await
}

fn alarms(items: Vec<ReviewItem>) -> Vec<(Vec<u8>, String)> {
    let alarm = |item: ReviewItem| match item.news {
        News::Honeypot { member } => Some((item.handle.0, member.to_string())),
        _ => None,
    };
    items.into_iter().filter_map(alarm).collect()
}

#[tokio::test]
async fn the_officers_hear_of_whoever_comes_upon_a_planted_index() {
    let federation = Federation::new().await;
    plant(&federation, &[1, 2], &[], 1).await.refused("manifest_unsigned");
    let planted = plant(&federation, &[1, 2], &[], 2).await;
    assert_eq!(planted.json::<EntriesAnswer>().stored, 2);
    federation.put("mops", &[9], &MEMBERS).await;
    federation.clock.advance(1);

    // One locates it, another posts it; each is answered as if there were nothing.
    let answer = |reply: Reply| (reply.status, reply.body);
    let guess = federation.send("POST", "/v1/locate", &federation.locate_request("zlm", &[1])).await;
    let miss = federation.send("POST", "/v1/locate", &federation.locate_request("zlm", &[77])).await;
    assert_eq!(answer(guess), answer(miss));
    let planted = federation.send("PUT", "/v1/entries", &federation.put_request("mops", &[2], &MEMBERS)).await;
    let ordinary = federation.send("PUT", "/v1/entries", &federation.put_request("mops", &[78], &MEMBERS)).await;
    assert_eq!(answer(planted), answer(ordinary));
    let log = federation.log();
    let marked: Vec<_> = log.iter().filter(|entry| entry["honeypots"] == 1).map(|entry| &entry["event"]).collect();
    assert_eq!(marked, ["locate", "entries"]);

    // css, mops and pup have officers; nobody hears of itself, and zlm of nothing.
    federation.clock.advance(SETTLED);
    let heard = async |reader: &str| alarms(federation.review(reader).await);
    let alarm = |reader: &str, n: u8, who: &str| (review_handle(&member(reader), &index(n)).to_vec(), who.to_owned());
    for _ in 0..100 {
        if heard("mops").await.len() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(heard("mops").await, [alarm("mops", 1, "zlm")]);
    let mut css = heard("css").await;
    css.sort();
    let mut expected = vec![alarm("css", 1, "zlm"), alarm("css", 2, "mops")];
    expected.sort();
    assert_eq!(css, expected);
    assert_eq!(heard("zlm").await, []);

    // What was taken out again is an index like any other.
    federation.clock.advance(1);
    assert_eq!(plant(&federation, &[], &[1], 3).await.json::<EntriesAnswer>().deleted, 1);
    federation.locate("zlm", &[1]).await;
    federation.clock.advance(SETTLED);
    assert_eq!(heard("mops").await.len(), 1);
}

#[tokio::test]
async fn what_the_officers_signed_works_once_and_not_for_long() {
    let federation = Federation::new().await;
    assert_eq!(plant(&federation, &[1], &[], 2).await.status, 200);
    plant(&federation, &[1], &[], 2).await.refused("request_replayed");
    let honeypots = Honeypots {
        realm: federation.config.realm.clone(),
        issued: federation.clock.now(),
        epoch: Epoch(1),
        plant: vec![index(2)],
        remove: vec![],
    };
    let mut signed = SignedHoneypots::draft(&honeypots).unwrap();
    for seed in OFFICERS {
        signed.sign(&SigningKey::from_seed(&[seed; 32]).unwrap());
    }
    federation.clock.advance(8 * DAY);
    let late = federation.call("zlm", "PUT", "/v1/honeypots", serde_json::to_vec(&signed).unwrap()).await;
    late.refused("request_stale");
}

#[tokio::test]
async fn guessing_uses_up_a_budget_and_is_reported() {
    let mut federation = Federation::unpublished().await;
    federation.config.shares.misses_per_day = 10;
    federation.restart().await;
    federation.registry().publish(federation.manifest.clone()).await.unwrap();
    federation.put("pup", &[1, 2], &MEMBERS).await;
    let locate = async |asker: &str, indexes: &[u8]| {
        federation.send("POST", "/v1/locate", &federation.locate_request(asker, indexes)).await
    };
    assert_eq!(locate("pup", &[1, 2]).await.status, 200);
    assert_eq!(locate("pup", &[1, 11, 12, 13, 14, 15, 16]).await.status, 200);
    let refused = locate("pup", &[1, 21, 22, 23, 24, 25]).await;
    refused.refused("miss_budget_spent");
    assert!(refused.problem().retry_after.unwrap() <= 86_400);
    // Asking again does not pay; what one serves can still be located, and others are not touched.
    locate("pup", &[31]).await.refused("miss_budget_spent");
    assert_eq!(locate("pup", &[1, 2]).await.json::<LocateAnswer>().found.len(), 2);
    assert_eq!(locate("mops", &[1]).await.status, 200);
    federation.clock.advance(SETTLED);
    let told = federation.review("css").await;
    assert_eq!(
        told.iter().map(|item| &item.news).collect::<Vec<_>>(),
        [&News::MissBudgetSpent { member: member("pup") }]
    );
    assert_eq!(federation.review("pup").await, []);
    // The meter is on the disk; a new day begins anew.
    federation.restart().await;
    federation.send("POST", "/v1/locate", &federation.locate_request("pup", &[41])).await.refused("miss_budget_spent");
    federation.clock.advance(DAY);
    let reply = federation.send("POST", "/v1/locate", &federation.locate_request("pup", &[41])).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn entries_that_hardly_meet_anybody_are_reported_once() {
    let federation = Federation::new().await;
    let start = federation.clock.now().0.div_euclid(30 * DAY) * 30 * DAY + 30 * DAY;
    federation.clock.set(protocol::Timestamp(start));
    let all: Vec<u8> = (0..120).collect();
    federation.put("mops", &all, &MEMBERS).await;
    federation.put("pup", &all, &MEMBERS).await;
    let strange: Vec<u8> = (119..=240).collect();
    federation.put("css", &strange, &MEMBERS).await;
    federation.clock.advance(30 * DAY);
    federation.registry().sweep(None).await.unwrap();
    federation.registry().sweep(None).await.unwrap();
    federation.clock.advance(SETTLED);
    let reported = |items: Vec<ReviewItem>| -> Vec<News> {
        let mut news: Vec<News> = items.into_iter().map(|item| item.news).collect();
        news.retain(|news| matches!(news, News::SeldomMet { .. }));
        // Queues have no order of their own.
        news.sort_by_key(|news| format!("{news:?}"));
        news
    };
    // mops met nobody: it was the first, and that shows too. css met somebody once in 122.
    let seldom = |name: &str, posted, met| News::SeldomMet { member: member(name), posted, met };
    assert_eq!(reported(federation.review("pup").await), [seldom("css", 122, 1), seldom("mops", 120, 0)]);
    assert_eq!(reported(federation.review("css").await), [seldom("mops", 120, 0)]);
    let log = federation.log();
    assert_eq!(log.iter().filter(|entry| entry["event"] == "seldom_met").count(), 2);
}
