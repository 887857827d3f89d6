//! Requests that come twice, too late, altered or to the wrong place; evaluations that are repeated or beyond a quota.

use cli::federation::Part;
use http::Method;
use protocol::encoding::Bytes;
use protocol::query::QueryRequest;
use protocol::{Epoch, Told, jws};
use std::time::Duration;
use tests::{Harness, Member, Options, member, pesel_of, refusals};
use transport::CallError;

/// The code and the waiting time of a refusal.
fn refused<T>(result: Result<T, CallError>) -> (u16, String, Option<u64>) {
    match result {
        Err(CallError::Problem(problem)) => (problem.status, problem.code, problem.retry_after),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_serves_once_also_after_restarts() {
    let mut harness = Harness::filled().await;
    let mops = Member::of(&harness, "mops");
    let output = mops.output(pesel_of("mops+pup")).await;
    let ticket = mops.ticket(&output).await;
    // Written ahead within the permitted skew: issued after the holder's next start, so that only its memory refuses.
    let ahead = |request: &mut QueryRequest| {
        request.iat = request.iat + 20;
        request.exp = request.exp + 20;
    };
    let token = mops.request(&output, "pup", &ticket, ahead);
    assert_eq!(mops.told("pup", &token).await, None);
    assert_eq!(mops.told("pup", &token).await, Some(Told::Refused));

    let pup = member("pup");
    harness.federation.nodes.get_mut(&pup).expect("pup").stop().await.expect("stopped");
    harness.federation.nodes.get_mut(&pup).expect("pup").restart().await.expect("started");
    assert_eq!(mops.told("pup", &token).await, Some(Told::Refused));
    assert_eq!(mops.told("pup", &mops.request(&output, "pup", &ticket, ahead)).await, None, "a fresh one serves");

    // As after a power cut that took the guard's newest half second, and more: the log remembers.
    harness.federation.nodes.get_mut(&pup).expect("pup").stop().await.expect("stopped");
    std::fs::remove_dir_all(harness.home().join("pup/data/guard")).expect("removed");
    harness.federation.nodes.get_mut(&pup).expect("pup").restart().await.expect("started");
    assert_eq!(mops.told("pup", &token).await, Some(Told::Refused));

    // Issued before the start: refused, seen or not.
    let unseen = mops.request(&output, "pup", &ticket, |_| {});
    harness.federation.nodes.get_mut(&pup).expect("pup").stop().await.expect("stopped");
    harness.clock.advance(5);
    harness.federation.nodes.get_mut(&pup).expect("pup").restart().await.expect("started");
    assert_eq!(mops.told("pup", &unseen).await, Some(Told::Refused));

    assert_eq!(refusals(&mut harness, "pup").await, ["request_replayed"; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_serves_once_also_after_kill_9() {
    let mut harness = Harness::with(Options { processes: true, ..Options::default() }).await;
    harness.fill().await;
    let mops = Member::of(&harness, "mops");
    let output = mops.output(pesel_of("mops+pup")).await;
    let ticket = mops.ticket(&output).await;
    let token = mops.request(&output, "pup", &ticket, |request| {
        request.iat = request.iat + 25;
        request.exp = request.exp + 25;
    });
    assert_eq!(mops.told("pup", &token).await, None);
    let Some(Part::Process(pup)) = harness.federation.nodes.get_mut(&member("pup")) else { panic!("a process") };
    pup.kill().await.expect("killed");
    pup.restart().await.expect("started");
    assert_eq!(mops.told("pup", &token).await, Some(Told::Refused));
    assert_eq!(refusals(&mut harness, "pup").await, ["request_replayed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_off_is_refused_for_its_own_reason() {
    let mut harness = Harness::filled().await;
    let (mops, css) = (Member::of(&harness, "mops"), Member::of(&harness, "css"));
    harness.clock.advance(100);
    let output = mops.output(pesel_of("mops+pup+css")).await;
    let ticket = mops.ticket(&output).await;
    let request = |change: fn(&mut QueryRequest)| mops.request(&output, "pup", &ticket, change);

    let in_time = [
        request(|_| {}),
        request(|r| (r.iat, r.exp) = (r.iat + -60, r.exp + -60)),
        request(|r| (r.iat, r.exp) = (r.iat + 30, r.exp + 30)),
    ];
    for token in &in_time {
        assert_eq!(mops.told("pup", token).await, None);
    }

    let mut tampered = request(|_| {}).into_bytes();
    let middle = tampered.iter().position(|byte| *byte == b'.').expect("a dot") + 40;
    tampered[middle] = if tampered[middle] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).expect("text");
    let foreign = mops.request(&output, "pup", &ticket, |_| {});
    let foreign = foreign.split('.').nth(1).expect("claims").to_owned();
    let unsigned =
        format!("{}.{foreign}.", protocol::encoding::b64(br#"{"alg":"none","typ":"ogniwo-query+jwt","kid":"x"}"#));
    let by_css = {
        let mut claims = None;
        let _token = mops.request(&output, "pup", &ticket, |r| claims = Some(r.clone()));
        jws::sign(&css.keys.message, &claims.expect("claims")).expect("signed")
    };
    let entry_key = {
        let mut claims = None;
        let _token = mops.request(&output, "pup", &ticket, |r| claims = Some(r.clone()));
        jws::sign(&mops.keys.entry, &claims.expect("claims")).expect("signed")
    };
    let refused = Some(Told::Refused);
    let off = [
        (request(|r| (r.iat, r.exp) = (r.iat + -61, r.exp + -61)), refused, "request_stale"),
        (request(|r| (r.iat, r.exp) = (r.iat + 31, r.exp + 31)), refused, "request_stale"),
        (request(|r| r.exp = r.exp + 1), refused, "request_stale"),
        (request(|r| r.exp = r.iat + -1), refused, "request_stale"),
        (request(|r| r.aud = member("css")), refused, "audience_wrong"),
        (request(|r| r.cnf.x5t_s256.0[0] ^= 1), refused, "certificate_mismatch"),
        (css.request(&output, "pup", &ticket, |_| {}), refused, "certificate_mismatch"),
        (request(|r| r.jti.0.truncate(15)), refused, "request_malformed"),
        (
            request(|r| {
                r.expected.insert("pup.status".parse().expect("a field"), "bezrobotny".into());
            }),
            refused,
            "request_malformed",
        ),
        ("nonsense".to_owned(), refused, "request_malformed"),
        (unsigned, refused, "request_malformed"),
        (tampered, refused, "signature_invalid"),
        (by_css, refused, "signature_invalid"),
        (entry_key, refused, "signature_invalid"),
        (request(|r| r.manifest.hash.0[0] ^= 1), Some(Told::Closed), "manifest_mismatch"),
        (request(|r| r.epoch = Epoch(2)), refused, "epoch_unknown"),
        (request(|r| r.case = None), Some(Told::BasisMissing), "case_missing"),
        (
            request(|r| r.purpose = "public-service-provision".parse().expect("a purpose")),
            Some(Told::BasisMissing),
            "mandate_unknown",
        ),
        (request(|r| r.query = "q99".parse().expect("a query")), Some(Told::NotAgreed), "agreement_missing"),
        (request(|r| r.user.role = "dpo".parse().expect("a role")), Some(Told::RoleNotAllowed), "role_not_allowed"),
        (request(|r| r.fields.clear()), Some(Told::NotAgreed), "no_fields"),
    ];
    for (token, told, reason) in &off {
        assert_eq!(mops.told("pup", token).await, *told, "{reason}");
    }
    let expected: Vec<&str> = off.iter().map(|(_, _, reason)| *reason).collect();
    assert_eq!(refusals(&mut harness, "pup").await, expected);
}

/// Elements for `count` evaluations.
fn elements(asker: &Member, count: usize) -> Vec<[u8; 32]> {
    vec![asker.blinded(pesel_of("zlm")).elements()[0]; count]
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluations_are_charged_once_and_end_at_the_quota() {
    let harness = Harness::with(Options { first_enrolment: 2, ..Options::default() }).await;
    let zlm = Member::of(&harness, "zlm");
    let take = async |body: &[u8]| zlm.evaluate("pup", body.to_vec()).await;

    // The raised quota of a first enrolment goes first: two, then nothing of it.
    take(&zlm.evaluation("pup", &elements(&zlm, 2), |_| {})).await.expect("within the raised quota");
    let beyond_burst = take(&zlm.evaluation("pup", &elements(&zlm, 1_001), |_| {})).await;
    assert_eq!(refused(beyond_burst), (413, "batch_too_large".to_owned(), None));

    // 2000 a day: two of 1000, the first of them sent three times over.
    let first = zlm.evaluation("pup", &elements(&zlm, 1_000), |_| {});
    for _ in 0..3 {
        take(&first).await.expect("charged once");
    }
    let at_once = take(&zlm.evaluation("pup", &elements(&zlm, 500), |_| {})).await;
    assert_eq!(refused(at_once), (429, "quota_exceeded".to_owned(), Some(30)), "1000 a minute");
    harness.clock.advance(60);
    take(&zlm.evaluation("pup", &elements(&zlm, 1_000), |_| {})).await.expect("within the day's quota");
    let one_more = take(&zlm.evaluation("pup", &elements(&zlm, 1), |_| {})).await;
    assert_eq!(refused(one_more), (429, "quota_exceeded".to_owned(), Some(12 * 60 * 60 - 60)), "noon to midnight");
    take(&first).await.expect("still the same request");
    take(&zlm.evaluation("mops", &elements(&zlm, 1), |_| {})).await.expect_err("it names another holder");
    zlm.evaluate("mops", zlm.evaluation("mops", &elements(&zlm, 1), |_| {})).await.expect("each holder has its meter");
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluations_are_refused_for_their_own_reason() {
    let mut harness = Harness::new().await;
    let mut zlm = Member::of(&harness, "zlm");
    let one = elements(&zlm, 1);
    harness.clock.advance(100);
    for issued in [-60, 30] {
        let body = zlm.evaluation("pup", &one, |r| r.issued = r.issued + issued);
        zlm.evaluate("pup", body).await.expect("in time");
    }
    let code = async |body: Vec<u8>| {
        let (status, code, _) = refused(zlm.evaluate("pup", body).await);
        (status, code)
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    for issued in [-61, 31] {
        let body = zlm.evaluation("pup", &one, |r| r.issued = r.issued + issued);
        assert_eq!(code(body).await, is(400, "request_stale"), "{issued}");
    }
    assert_eq!(code(zlm.evaluation("css", &one, |_| {})).await, is(403, "signature_invalid"), "for another holder");
    let mut altered = zlm.evaluation("pup", &one, |_| {});
    altered[30] ^= 1;
    assert_eq!(code(altered).await, is(403, "signature_invalid"));
    assert_eq!(code(b"OGE1".to_vec()).await, is(400, "evaluation_malformed"));
    assert_eq!(code(zlm.evaluation("pup", &[], |_| {})).await, is(400, "evaluation_malformed"));
    assert_eq!(code(zlm.evaluation("pup", &one, |r| r.generation += 1)).await, is(404, "share_unknown"));
    assert_eq!(code(zlm.evaluation("pup", &one, |r| r.epoch = Epoch(7))).await, is(404, "share_unknown"));
    assert_eq!(code(zlm.evaluation("pup", &one, |r| r.quorum = vec![1, 3])).await, is(400, "evaluation_refused"));
    assert_eq!(code(zlm.evaluation("pup", &[[0; 32]], |_| {})).await, is(400, "evaluation_refused"), "the identity");
    assert_eq!(code(zlm.evaluation("pup", &[[255; 32]], |_| {})).await, is(400, "evaluation_refused"), "no point");

    let before = zlm.evaluation("pup", &one, |_| {});
    let pup = harness.federation.nodes.get_mut(&member("pup")).expect("pup");
    pup.stop().await.expect("stopped");
    harness.clock.advance(5);
    pup.restart().await.expect("started");
    assert_eq!(code(before).await, is(400, "request_stale"), "issued before the holder's start");

    std::mem::swap(&mut zlm.keys.entry, &mut zlm.keys.message);
    let wrong_key = zlm.evaluation("pup", &one, |_| {});
    assert_eq!(refused(zlm.evaluate("pup", wrong_key).await).1, "signature_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_entries_are_not_stored_twice() {
    let harness = Harness::filled().await;
    let zlm = Member::of(&harness, "zlm");
    let output = zlm.output(pesel_of("zlm")).await;
    let index = || protocol::Index(output.index());
    let mut claims = None;
    zlm.put_entries(std::collections::BTreeSet::new(), Vec::new(), vec![index()], |r| claims = Some(r.clone()))
        .await
        .expect("deleted");
    assert_eq!(zlm.locate(&output).await.expect("located").ticket, None, "no client of zlm any more");
    let again = zlm.send("registry", Method::PUT, "/v1/entries", &claims.expect("claims")).await;
    assert_eq!(refused(again).1, "request_replayed");
    let stale = zlm.put_entries(std::collections::BTreeSet::new(), Vec::new(), Vec::new(), |r| r.iat = r.iat + -61);
    assert_eq!(refused(stale.await).1, "request_stale");
    let mismatch = zlm.put_entries(std::collections::BTreeSet::new(), Vec::new(), Vec::new(), |r| {
        r.manifest.hash = Bytes(vec![0; 32]);
    });
    let (status, code, _) = refused(mismatch.await);
    assert!((400..600).contains(&status) && code.contains("manifest"), "{status} {code}");
    tokio::time::timeout(Duration::from_mins(1), harness.finish()).await.expect("everything stops");
}
