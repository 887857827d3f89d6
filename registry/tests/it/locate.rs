//! Who sees what.

use crate::federation::{DAY, Federation, Reply, agreed, index, member, sealed};
use protocol::jws;
use protocol::manifest::KeyUse;
use protocol::registry::{LocateAnswer, Located, MAX_BATCH, TICKET_SECONDS, Ticket};
use protocol::{Bytes, Epoch, Timestamp};

const ALL: [&str; 4] = ["css", "mops", "pup", "zlm"];

#[tokio::test]
async fn members_who_share_a_client_see_each_other() {
    let federation = Federation::new().await;
    federation.put("mops", &[1, 2, 3], &ALL).await;
    federation.put("pup", &[1, 2], &ALL).await;
    federation.put("css", &[1], &ALL).await;
    let found = federation.locate("mops", &[3, 2, 1]).await.found;
    let expected = [vec![], vec![sealed("pup", 2)], vec![sealed("css", 1), sealed("pup", 1)]];
    assert_eq!(found, expected.map(|entries| Located { entries, ticket: None }));
    assert_eq!(federation.locate("pup", &[2]).await.found[0].entries, [sealed("mops", 2)]);
}

/// One rule broken at a time: the answer is empty, and the same to the byte.
#[tokio::test]
async fn every_rule_alone_closes() {
    let federation = Federation::new().await;
    let mut answers = vec![];
    let mut ask = async |what: &'static str, asker: &str, n: u8| {
        let reply = federation.send("POST", "/v1/locate", &federation.locate_request(asker, &[n])).await;
        let found: LocateAnswer = reply.json();
        answers.push((what, found.found[0].entries.len(), reply));
    };

    federation.put("pup", &[1], &ALL).await;
    ask("unknown index", "mops", 99).await;
    ask("no own entry", "mops", 1).await;

    let mut other_epoch = federation.put_request("mops", &[2], &ALL);
    other_epoch.epoch = Epoch(2);
    federation.send("PUT", "/v1/entries", &other_epoch).await;
    federation.put("pup", &[2], &ALL).await;
    ask("own entry of another epoch", "mops", 2).await;

    federation.put("mops", &[3], &["css"]).await;
    federation.put("pup", &[3], &ALL).await;
    ask("the other not in the own audience", "mops", 3).await;

    federation.put("mops", &[4], &ALL).await;
    federation.put("pup", &[4], &["css"]).await;
    ask("the asker not in the other's audience", "mops", 4).await;

    federation.put("css", &[5], &ALL).await;
    federation.put("zlm", &[5], &ALL).await;
    ask("no agreement", "css", 5).await;

    federation.put("mops", &[6], &ALL).await;
    federation.put("pup", &[6], &ALL).await;
    federation.send("DELETE", "/v1/entries", &federation.delete_request("pup", &[6])).await;
    ask("the other deleted", "mops", 6).await;

    federation.put("mops", &[7], &ALL).await;
    federation.put("pup", &[7], &ALL).await;
    ask("nothing broken", "mops", 7).await;

    let control = answers.pop().unwrap();
    assert_eq!(control.1, 1, "the table proves nothing unless this one is shown");
    let Reply { body, .. } = &answers[0].2;
    for (what, shown, reply) in &answers {
        assert_eq!(*shown, 0, "{what}");
        assert_eq!(&reply.body, body, "{what}");
    }
}

#[tokio::test]
async fn what_lapsed_is_as_if_it_had_never_been() {
    let federation = Federation::new().await;
    let put = async |iss: &str, n: u8, days: i64| {
        let mut request = federation.put_request(iss, &[n], &ALL);
        request.put[0].expires = federation.clock.now() + days * DAY;
        federation.send("PUT", "/v1/entries", &request).await;
    };
    put("mops", 1, 1).await;
    put("pup", 1, 100).await;
    put("mops", 2, 100).await;
    put("pup", 2, 1).await;
    let both = federation.locate("mops", &[1, 2]).await.found;
    assert!(both.iter().all(|located| located.entries.len() == 1));
    federation.clock.advance(DAY);
    assert_eq!(federation.locate("mops", &[1, 2]).await.found, vec![Located::default(); 2]);
    let mut asked = federation.locate_request("mops", &[1]);
    asked.tickets = true;
    let answer: LocateAnswer = federation.send("POST", "/v1/locate", &asked).await.json();
    assert_eq!(answer.found, [Located::default()], "no ticket over a lapsed entry");
}

#[tokio::test]
async fn an_agreement_that_ended_closes() {
    let mut federation = Federation::new().await;
    federation.put("mops", &[1], &ALL).await;
    federation.put("pup", &[1], &ALL).await;
    assert_eq!(federation.locate("mops", &[1]).await.found[0].entries.len(), 1);
    federation
        .amend(|manifest| {
            let mut terms = manifest.agreements[1].terms.clone();
            (terms.version, terms.valid_to) = (2, manifest.issued + 5);
            manifest.agreements[1] = agreed(terms);
        })
        .await;
    federation.clock.advance(6);
    assert_eq!(federation.locate("mops", &[1]).await.found[0].entries.len(), 0);
}

#[tokio::test]
async fn a_ticket_is_for_this_asker_this_resident_and_a_quarter_of_an_hour() {
    let federation = Federation::new().await;
    federation.put("mops", &[1], &[]).await;
    let mut request = federation.locate_request("mops", &[1, 2]);
    request.tickets = true;
    let answer: LocateAnswer = federation.send("POST", "/v1/locate", &request).await.json();
    assert_eq!(answer.found[1], Located::default(), "no ticket without an own entry");
    let token = answer.found[0].ticket.clone().unwrap();
    let manifest = federation.manifest.read().unwrap();
    let now = federation.clock.now();
    let ticket: Ticket = jws::verify(&token, |kid| manifest.key(kid, KeyUse::Message, now)).unwrap();
    assert_eq!((&ticket.iss, &ticket.sub), (&member("registry"), &member("mops")));
    assert_eq!((ticket.epoch, ticket.iat, ticket.exp), (Epoch(1), now, now + TICKET_SECONDS));
    assert_eq!(ticket.nonce.0.len(), 16);
    assert!(ticket.is_for(&index(1)) && !ticket.is_for(&index(2)));
}

#[tokio::test]
async fn every_locate_is_recorded_before_it_is_answered() {
    let federation = Federation::new().await;
    federation.put("mops", &[1, 2], &ALL).await;
    federation.put("pup", &[1], &ALL).await;
    let before = federation.log().len();
    let mut request = federation.locate_request("mops", &[1, 2, 3]);
    request.tickets = true;
    federation.send("POST", "/v1/locate", &request).await;
    let log = federation.log();
    assert_eq!(log.len(), before + 1);
    let entry = log.last().unwrap();
    assert_eq!((&entry["event"], &entry["member"]), (&"locate".into(), &"mops".into()));
    assert_eq!(entry["purpose"], "social-welfare-eligibility-assessment");
    assert_eq!([&entry["own"], &entry["found"], &entry["tickets"]].map(|n| n.as_u64().unwrap()), [2, 1, 2]);
    // Whoever holds the log key finds a resident's entries: the put by mops, the put by pup and this.
    let mark = entry["indexes"][0].as_str().unwrap();
    assert_eq!(log.iter().filter(|entry| entry.to_string().contains(mark)).count(), 3);
}

#[tokio::test]
async fn batches_are_bounded_and_their_indexes_distinct() {
    let federation = Federation::new().await;
    let mut request = federation.locate_request("mops", &[1, 2, 1]);
    federation.send("POST", "/v1/locate", &request).await.refused("index_repeated");
    let indexes =
        |count: usize| (0..count).map(|n| protocol::Index(protocol::encoding::sha256(&[&n.to_be_bytes()]))).collect();
    request.indexes = indexes(MAX_BATCH);
    assert_eq!(federation.send("POST", "/v1/locate", &request).await.json::<LocateAnswer>().found.len(), MAX_BATCH);
    request.indexes = indexes(MAX_BATCH + 1);
    federation.send("POST", "/v1/locate", &request).await.refused("batch_too_large");
}

/// The gate, which every signed request passes, shown on locate.
#[tokio::test]
async fn the_gate_refuses_each_thing_that_is_off() {
    let federation = Federation::new().await;
    let locate = async |edit: &dyn Fn(&mut protocol::registry::LocateRequest)| {
        let mut request = federation.locate_request("mops", &[1]);
        edit(&mut request);
        federation.send("POST", "/v1/locate", &request).await
    };
    let now = federation.clock.now();
    assert_eq!(locate(&|_| ()).await.status, 200);
    assert_eq!(locate(&|r| r.iat = now + -60).await.status, 200);
    assert_eq!(locate(&|r| r.iat = now + 30).await.status, 200);
    locate(&|r| r.iat = now + -61).await.refused("request_stale");
    locate(&|r| r.iat = now + 31).await.refused("request_stale");
    locate(&|r| r.iat = Timestamp(i64::MIN)).await.refused("request_stale");
    locate(&|r| r.jti = Bytes(vec![1; 15])).await.refused("request_malformed");
    locate(&|r| r.epoch = Epoch(3)).await.refused("epoch_unknown");
    locate(&|r| r.manifest.hash = Bytes(vec![0; 32])).await.refused("manifest_mismatch");
    locate(&|r| r.manifest.version = 0).await.refused("manifest_behind");
    locate(&|r| r.manifest.version = 2).await.refused("manifest_unknown");
    locate(&|r| r.iss = member("registry")).await.refused("signature_invalid");

    let token =
        |key: &str| jws::sign(&crate::federation::message_key(key), &federation.locate_request("mops", &[1])).unwrap();
    let call = async |peer: &str, body: String| federation.call(peer, "POST", "/v1/locate", body.into()).await;
    call("pup", token("mops")).await.refused("certificate_mismatch");
    call("mops", token("pup")).await.refused("signature_invalid");
    call("mops", token("stranger")).await.refused("signature_invalid");
    call("stranger", token("mops")).await.refused("peer_unknown");
    call("mops", "nonsense".into()).await.refused("request_malformed");
    let altered = |token: String| {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { "B" } else { "A" };
        format!("{signed}.{other}{}", &signature[1..])
    };
    call("mops", altered(token("mops"))).await.refused("signature_invalid");
    let put = jws::sign(&crate::federation::message_key("mops"), &federation.put_request("mops", &[1], &[])).unwrap();
    call("mops", put).await.refused("request_malformed");
}
