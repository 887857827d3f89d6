//! What a query needs from the registry before it reaches a holder: a ticket of its own, for this resident, in time.

use protocol::encoding::{Bytes, sha256};
use protocol::query::{LogPosition, QueryAnswer};
use protocol::registry::Ticket;
use protocol::{MemberId, Timestamp, Told, jws};
use serde_json::{Value, json};
use tests::{Harness, Member, member, pesel_of, read_log, refusals};

/// A ticket of the asker's own making.
fn forged(asker: &Member, issuer: &str, output: &pseudonym::Output) -> String {
    let nonce = [7; 16];
    let ticket = Ticket {
        iss: member(issuer),
        sub: asker.id.clone(),
        nonce: Bytes(nonce.to_vec()),
        bind: Bytes(sha256(&[&nonce, &output.index()]).to_vec()),
        epoch: asker.epoch_number(),
        iat: asker.now(),
        exp: asker.now() + 60,
    };
    jws::sign(&asker.keys.message, &ticket).expect("signed")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_ticket_is_refused_for_its_own_reason() {
    let mut harness = Harness::filled().await;
    let (mops, css) = (Member::of(&harness, "mops"), Member::of(&harness, "css"));
    let output = mops.output(pesel_of("mops+pup+css")).await;
    let other = mops.output(pesel_of("mops+pup")).await;
    let good = mops.ticket(&output).await;
    let mut bent = good.clone().into_bytes();
    let middle = bent.iter().position(|byte| *byte == b'.').expect("a dot") + 30;
    bent[middle] = if bent[middle] == b'A' { b'B' } else { b'A' };

    let refused = Some(Told::Refused);
    let wrong = [
        (String::new(), refused, "ticket_missing"),
        ("garbage".to_owned(), refused, "ticket_invalid"),
        (String::from_utf8(bent).expect("text"), refused, "ticket_invalid"),
        (forged(&mops, "registry", &output), refused, "ticket_invalid"),
        (forged(&mops, "mops", &output), refused, "ticket_invalid"),
        (css.ticket(&output).await, refused, "ticket_wrong_asker"),
        (mops.ticket(&other).await, Some(Told::NotAvailable), "ticket_wrong_subject"),
    ];
    for (ticket, told, reason) in &wrong {
        let token = mops.request(&output, "pup", ticket, |_| {});
        assert_eq!(mops.told("pup", &token).await, *told, "{reason}");
    }
    for _ in 0..2 {
        let token = mops.request(&output, "pup", &good, |_| {});
        assert_eq!(mops.told("pup", &token).await, None, "a ticket serves as long as it lives");
    }
    harness.clock.advance(15 * 60);
    let token = mops.request(&output, "pup", &good, |_| {});
    assert_eq!(mops.told("pup", &token).await, None, "its last second");
    harness.clock.advance(1);
    let token = mops.request(&output, "pup", &good, |_| {});
    assert_eq!(mops.told("pup", &token).await, refused, "ticket_expired");

    let mut expected: Vec<&str> = wrong.iter().map(|(_, _, reason)| *reason).collect();
    expected.push("ticket_expired");
    assert_eq!(refusals(&mut harness, "pup").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ticket_for_whom_one_does_not_serve() {
    let harness = Harness::filled().await;
    let css = Member::of(&harness, "css");
    let stranger = css.output(pesel_of("mops+pup")).await;
    let nobody = css.output("80020100018").await;
    let told = css.locate(&stranger).await.expect("located");
    assert_eq!(told, protocol::registry::Located::default(), "nothing of whom others alone know");
    assert_eq!(told, css.locate(&nobody).await.expect("located"), "as of whom nobody knows");
}

/// An answer without what differs between any two answers.
fn plain(answer: QueryAnswer) -> String {
    let log = LogPosition { origin: answer.log.origin.clone(), index: 0, entry: Bytes(Vec::new()) };
    let plain = QueryAnswer { iat: Timestamp(0), request: Bytes(Vec::new()), log, ..answer };
    serde_json::to_string(&plain).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_here_and_another_residents_ticket_look_alike() {
    let mut harness = Harness::filled().await;
    let mops = Member::of(&harness, "mops");
    let known = mops.output(pesel_of("mops+pup")).await;
    let unknown = mops.output(pesel_of("mops")).await;
    let ticket = mops.ticket(&unknown).await;
    let (to_unknown, beside_unknown) =
        mops.query("pup", &mops.request(&unknown, "pup", &ticket, |_| {})).await.expect("an answer");
    let (to_known, beside_known) =
        mops.query("pup", &mops.request(&known, "pup", &ticket, |_| {})).await.expect("an answer");
    assert_eq!(plain(to_unknown), plain(to_known));
    assert!(beside_unknown.disclosures.is_empty() && beside_known.disclosures.is_empty());
    assert_eq!(beside_unknown.answer.len(), beside_known.answer.len());
    // Also on a consent that does not exist: whether there is one would tell who is known.
    let consent = |r: &mut protocol::query::QueryRequest| {
        let id = protocol::ConsentId([9; 16]);
        r.basis = protocol::query::Basis::Consent(protocol::consent::ConsentRef { id });
    };
    let (to_unknown, _) = mops.query("pup", &mops.request(&unknown, "pup", &ticket, consent)).await.expect("an answer");
    let (to_known, _) = mops.query("pup", &mops.request(&known, "pup", &ticket, consent)).await.expect("an answer");
    assert_eq!(plain(to_unknown), plain(to_known));
    let expected = ["subject_unknown", "ticket_wrong_subject", "subject_unknown", "ticket_wrong_subject"];
    assert_eq!(refusals(&mut harness, "pup").await, expected);
}

async fn refresh(harness: &Harness, unit: &str, away: bool) {
    let admin = harness.federation.admin(&member(unit));
    let refreshed: Result<Value, _> = admin.run("/refresh", &json!({}), &|_| {}).await;
    assert_eq!(refreshed.is_err(), away, "{refreshed:?}");
    let status: node::NodeStatus = admin.get("/status").await.expect("a status");
    assert_eq!(status.registry_away, away);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_tickets_serve_for_a_day_while_the_registry_is_away() {
    const HOUR: i64 = 60 * 60;
    let mut harness = Harness::filled().await;
    let mops = Member::of(&harness, "mops");
    let resident = pesel_of("mops+pup");
    let basis = || json!({ "kind": "mandate", "id": "ups-105" });
    let first = harness.ask("mops", "pup", "q02", json!({ "pesel": resident }), basis()).await;
    assert_eq!(first.outcome, node::OutcomeKind::Answered);
    let output = mops.output(resident).await;
    let ticket = mops.ticket(&output).await;

    harness.federation.registry.stop().await.expect("stopped");
    refresh(&harness, "pup", true).await;
    harness.clock.advance(23 * HOUR);
    let old = |mops: &Member| mops.request(&output, "pup", &ticket, |_| {});
    assert_eq!(mops.told("pup", &old(&mops)).await, None);
    let asked = harness.ask("mops", "pup", "q02", json!({ "pesel": resident }), basis()).await;
    assert_eq!(asked.outcome, node::OutcomeKind::Answered, "the asker keeps its tickets too: {:?}", asked.reason);

    harness.federation.registry.restart().await.expect("started");
    refresh(&harness, "pup", false).await;
    assert_eq!(mops.told("pup", &old(&mops)).await, Some(Told::Refused), "the registry is back");

    harness.federation.registry.stop().await.expect("stopped");
    refresh(&harness, "pup", true).await;
    assert_eq!(mops.told("pup", &old(&mops)).await, None, "and away again");
    // The revocation list lives a day as well; a newer one comes by file.
    let now = harness.clock.now();
    let crl = harness.federation.founded.authority().expect("the authority").crl(now).expect("a list");
    crate::identities::spread(&harness, &crl).await;
    harness.clock.advance(HOUR);
    let mops = Member::of(&harness, "mops");
    assert_eq!(mops.told("pup", &old(&mops)).await, None, "24 h old");
    harness.clock.advance(1);
    assert_eq!(mops.told("pup", &old(&mops)).await, Some(Told::Refused), "older");

    assert_eq!(refusals(&mut harness, "pup").await, ["ticket_expired"; 2]);
    let mops: MemberId = member("mops");
    let log = read_log(&harness, "pup");
    let answered: Vec<bool> = log
        .iter()
        .filter(|entry| entry["event"] == "query.answered" && entry["asker"] == mops.as_str())
        .map(|entry| entry["old_ticket"] == true)
        .collect();
    assert_eq!(answered, [false, true, true, true, true]);
}
