//! Institutions that follow others: their entries take the place of those that were there, and nobody hears of it.

use crate::federation::{Federation, agreement, index, institution, member, sealed};
use protocol::Bytes;
use protocol::manifest::Manifest;
use protocol::registry::{EntriesAnswer, Provisional, ProvisionalReason};
use protocol::succession::Succession;

/// After this what was written can be read.
const SETTLED: i64 = 120;
const HOUR: i64 = 3600;
const AUDIENCE: [&str; 4] = ["css", "mops", "pup", "zlm"];

/// `name` joins, with an agreement with mops, and follows `from`, in whole or beside it.
async fn follows(federation: &mut Federation, name: &str, from: &[(&str, bool)]) {
    let at = federation.clock.now();
    federation
        .amend(|manifest| {
            manifest.members.push(institution(name));
            manifest.agreements.push(agreement("mops", name));
            for (from, goes_on) in from {
                let mut to: std::collections::BTreeSet<_> = [member(name)].into();
                to.extend(goes_on.then(|| member(from)));
                manifest.successions.push(Succession { from: member(from), to, at });
            }
        })
        .await;
}

fn leaves(name: &str) -> impl FnOnce(&mut Manifest) {
    let name = member(name);
    move |manifest| {
        manifest.members.retain(|member| member.id != name);
        manifest.agreements.retain(|agreement| agreement.terms.asker != name && agreement.terms.holder != name);
    }
}

/// Who mops sees on each index: their sealed values.
async fn seen(federation: &Federation, indexes: &[u8]) -> Vec<Vec<Bytes>> {
    federation.locate("mops", indexes).await.found.into_iter().map(|found| found.entries).collect()
}

async fn told(federation: &Federation) -> usize {
    federation.clock.advance(SETTLED);
    federation.review("mops").await.len()
}

#[tokio::test]
async fn renamed_then_split_then_merged() {
    let mut federation = Federation::new().await;
    federation.put("mops", &[1, 2, 3, 4], &AUDIENCE).await;
    federation.put("zlm", &[1, 2, 3, 4], &AUDIENCE).await;
    federation.clock.advance(2 * HOUR);
    let before = told(&federation).await;
    assert_eq!(before, 4);

    // Renamed: while the follower enrols, everybody is seen once, under the one name or the other.
    follows(&mut federation, "zbl", &[("zlm", false)]).await;
    federation.put("mops", &[1, 2, 3, 4], &["css", "mops", "pup", "zlm", "zbl"]).await;
    federation.put("zbl", &[1, 2, 3], &["mops"]).await;
    let zbl = |n| vec![sealed("zbl", n)];
    assert_eq!(seen(&federation, &[1, 2, 3, 4]).await, [zbl(1), zbl(2), zbl(3), vec![sealed("zlm", 4)]]);
    let late = federation.put_request("zlm", &[1], &["mops"]);
    federation.send("PUT", "/v1/entries", &late).await.refused("member_succeeded");
    // Putting again changes nothing; what it does not take over it may take away.
    federation.put("zbl", &[1], &["mops"]).await;
    let away = federation.send("DELETE", "/v1/entries", &federation.delete_request("zbl", &[4])).await;
    assert_eq!(away.json::<EntriesAnswer>().deleted, 1);
    assert_eq!(seen(&federation, &[1, 4]).await, [zbl(1), vec![]]);
    federation.amend(leaves("zlm")).await;
    assert_eq!(seen(&federation, &[1, 2, 3, 4]).await, [zbl(1), zbl(2), zbl(3), vec![]]);
    assert_eq!(told(&federation).await, before, "nobody was met who had not been met");

    // Split: zn gets 1 and 2 and shares 2 with zbl, which goes on.
    follows(&mut federation, "zn", &[("zbl", true)]).await;
    federation.put("mops", &[1, 2, 3], &["zbl", "zn"]).await;
    federation.put("zn", &[1, 2], &["mops"]).await;
    federation.send("DELETE", "/v1/entries", &federation.delete_request("zbl", &[1])).await;
    federation.put("zbl", &[2, 3], &["mops"]).await;
    let zn = |n| vec![sealed("zn", n)];
    let mut both = seen(&federation, &[2]).await;
    both[0].sort_by_key(|sealed| *sealed != zn(2)[0]);
    assert_eq!(both, [[zn(2), zbl(2)].concat()]);
    assert_eq!(seen(&federation, &[1, 3]).await, [zn(1), zbl(3)]);
    assert_eq!(told(&federation).await, before);
    // One that neither had is news, as it should be.
    federation.put("mops", &[5], &["zbl", "zn"]).await;
    federation.put("zn", &[5], &["mops"]).await;
    assert_eq!(told(&federation).await, before + 1);

    // Merged: both end in one, and stand there once.
    federation.clock.advance(2 * HOUR);
    follows(&mut federation, "zm", &[("zbl", false), ("zn", false)]).await;
    federation.put("mops", &[1, 2, 3, 5], &["zbl", "zn", "zm"]).await;
    federation.put("zm", &[1, 2, 3, 5], &["mops"]).await;
    assert_eq!(seen(&federation, &[1, 2, 3, 5]).await, [1, 2, 3, 5].map(|n| vec![sealed("zm", n)]));
    assert_eq!(told(&federation).await, before + 1);
    federation
        .amend(|manifest| {
            leaves("zbl")(manifest);
            leaves("zn")(manifest);
        })
        .await;
    assert_eq!(seen(&federation, &[1, 5]).await, [1, 5].map(|n| vec![sealed("zm", n)]));
}

#[tokio::test]
async fn a_provisional_entry_replaces_nobody_and_a_follower_cannot_look_by_it() {
    let mut federation = Federation::new().await;
    federation.put("mops", &[1], &AUDIENCE).await;
    federation.put("zlm", &[1], &AUDIENCE).await;
    follows(&mut federation, "zbl", &[("zlm", false)]).await;
    federation.put("mops", &[1], &["zlm", "zbl"]).await;
    let mut request = federation.put_request("zbl", &[1], &["mops"]);
    request.put[0].expires = federation.clock.now() + 86_400;
    request.put[0].provisional = Some(Provisional { reason: ProvisionalReason::Referral, user: Bytes(vec![1; 16]) });
    assert_eq!(federation.send("PUT", "/v1/entries", &request).await.status, 200);
    assert_eq!(seen(&federation, &[1]).await[0].len(), 2, "what may lapse tomorrow takes nobody's place");
    assert_eq!(federation.locate("zbl", &[2]).await.found[0].entries, [], "being a follower is no entry of its own");
    assert_ne!(index(1), index(2));
}

#[tokio::test]
async fn history_is_not_rewritten() {
    let mut federation = Federation::new().await;
    follows(&mut federation, "zbl", &[("zlm", false)]).await;
    let dropped = federation.successor(|manifest| manifest.successions.clear());
    let body = serde_json::to_vec(&dropped).unwrap();
    federation.call("mops", "PUT", "/v1/manifest", body).await.refused("manifest_succession_changed");
    let nowhere = federation.successor(|manifest| {
        let at = manifest.issued;
        manifest.successions.push(Succession { from: member("css"), to: [member("nobody")].into(), at });
    });
    let body = serde_json::to_vec(&nowhere).unwrap();
    federation.call("mops", "PUT", "/v1/manifest", body).await.refused("manifest_inconsistent");
}
