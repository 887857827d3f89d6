//! Consents between three members: the recorder, the recipient who asks, the holder who answers.

use crate::registry_life::{SETTLED, end_first_enrolments, import, refresh};
use http::Method;
use node::{ConsentReceipt, OutcomeKind};
use protocol::consent::{ConsentRef, Grant, Whose, Withdrawal};
use protocol::query::{Basis, QueryRequest};
use protocol::{ConsentId, Told, jws};
use serde_json::{Value, json};
use tests::{Harness, Member, PURPOSE, Resident, member, pesel_of, read_log, refusals};
use transport::CallError;

const SHARED: &str = "mops+pup+css";

fn resident() -> Value {
    json!({ "pesel": pesel_of(SHARED) })
}

fn basis(consent: &ConsentReceipt) -> Value {
    json!({ "kind": "consent", "id": consent.id })
}

/// What mops's caseworker is told by pup on this consent.
async fn asked(harness: &Harness, consent: &ConsentReceipt) -> Result<(), String> {
    let outcome = harness.ask("mops", "pup", "q02", resident(), basis(consent)).await;
    match outcome.outcome {
        OutcomeKind::Answered => Ok(()),
        kind => Err(format!("{kind:?}: {}", outcome.reason.unwrap_or_default())),
    }
}

fn on(id: ConsentId) -> impl FnOnce(&mut QueryRequest) {
    move |request| request.basis = Basis::Consent(ConsentRef { id })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_that_does_not_fit_is_refused_for_its_own_reason() {
    let mut harness = Harness::filled().await;
    let (mops, css) = (Member::of(&harness, "mops"), Member::of(&harness, "css"));
    let output = mops.output(pesel_of(SHARED)).await;
    let ticket = mops.ticket(&output).await;
    let other = mops.output(pesel_of("mops+pup")).await;
    // Takes the first place in css's status list, which the grants below share.
    let real = harness.consent("css", "mops", resident()).await.expect("a consent");
    assert_eq!(asked(&harness, &real).await, Ok(()));

    let missing = Some(Told::ConsentMissing);
    let cases: Vec<(Grant, Option<Told>, &str)> = vec![
        (css.grant(&output, 0, |_| {}), None, ""),
        (css.grant(&output, 0, |g| g.recipient = member("zlm")), missing, "consent_other_recipient"),
        (
            css.grant(&output, 0, |g| {
                g.purposes = ["social-welfare-provision".parse().expect("a purpose")].into();
            }),
            missing,
            "consent_other_purpose",
        ),
        (css.grant(&other, 0, |_| {}), missing, "consent_other_subject"),
        (css.grant(&output, 0, |g| (g.valid_from, g.valid_to) = (g.iat + -60, g.iat + -1)), missing, "consent_expired"),
        (css.grant(&output, 0, |g| g.valid_from = g.iat + 60), missing, "consent_expired"),
        (css.grant(&output, 0, |g| g.evidence.0.clear()), missing, "consent_unknown"),
        (css.grant(&output, 1 << 20, |_| {}), Some(Told::ConsentWithdrawn), "consent_withdrawn"),
        (css.grant(&output, 0, |g| g.fields.clear()), Some(Told::NotAgreed), "no_fields"),
    ];
    let mut expected = Vec::new();
    for (grant, told, reason) in &cases {
        css.send_grant(grant).await.expect("taken");
        let token = mops.request(&output, "pup", &ticket, on(grant.consent));
        assert_eq!(mops.told("pup", &token).await, *told, "{reason}");
        if told.is_some() {
            expected.push(*reason);
        }
    }
    let unheard = mops.request(&output, "pup", &ticket, on(ConsentId([1; 16])));
    assert_eq!(mops.told("pup", &unheard).await, missing);
    expected.push("consent_unknown");

    // Valid to its last second and not longer, whatever the recorder says of its template.
    let hour = css.grant(&output, 0, |_| {});
    css.send_grant(&hour).await.expect("taken");
    harness.clock.advance(3_600);
    let ticket = mops.ticket(&output).await;
    assert_eq!(mops.told("pup", &mops.request(&output, "pup", &ticket, on(hour.consent))).await, None);
    harness.clock.advance(1);
    assert_eq!(mops.told("pup", &mops.request(&output, "pup", &ticket, on(hour.consent))).await, missing);
    expected.push("consent_expired");
    assert_eq!(refusals(&mut harness, "pup").await, expected);
}

/// A consent concerns institutions of a kind, also one that has no file of the resident yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_follows_to_who_comes_to_serve_the_resident_and_a_withdrawn_one_does_not() {
    let mut harness = Harness::filled().await;
    end_first_enrolments(&mut harness).await;
    let (stays, withdrawn) = (pesel_of("mops+css"), pesel_of("mops+css+zlm"));
    let of = |pesel: &str| json!({ "pesel": pesel });
    let body = json!({
        "resident": of(stays), "template": "instead-of-certificate", "recipient": "mops", "purposes": [PURPOSE],
        "modules": { "labour-status": "given", "labour-benefit": "refused" }, "days": 30,
        "evidence_sha256": cli::found::evidence().expect("evidence"),
    });
    let consent: ConsentReceipt = harness.post("css", "front-desk", "/v1/consents", &body).await.expect("a consent");
    let other = harness.consent("css", "mops", of(withdrawn)).await.expect("a consent");
    assert!(!consent.holders.contains_key(&member("pup")), "{consent:?}");
    harness.withdraw("css", &other).await.expect("withdrawn");

    // pup has both as clients now; css is told by the registry.
    let come = |pesel| Resident { pesel, units: "pup", sealed: false };
    import(&harness, "pup", &[come(stays), come(withdrawn)]).await;
    harness.enrol("pup").await.expect("enrolled");
    harness.clock.advance(SETTLED);
    refresh(&harness, "css").await;
    let ask = async |query: &str, pesel: &str, consent: &ConsentReceipt| {
        harness.ask("mops", "pup", query, of(pesel), basis(consent)).await
    };
    let outcome = ask("q02", stays, &consent).await;
    assert_eq!(outcome.outcome, OutcomeKind::Answered, "{outcome:?}");
    assert_eq!(ask("q03", stays, &consent).await.outcome, OutcomeKind::Denied, "refused with the same answer");
    assert_eq!(ask("q02", withdrawn, &other).await.outcome, OutcomeKind::Denied);
    let api = harness.federation.local(&member("css")).expect("an API");
    let token = harness.federation.token(&member("css"), "front-desk", &["front-desk"]).expect("a token");
    let path = format!("/v1/consents/{}", consent.id);
    let shown: ConsentReceipt = api.call(Method::GET, &path, &token, None).await.expect("a receipt");
    assert!(shown.holders.contains_key(&member("pup")), "{shown:?}");
    // Once, however often it is looked; and its end is told to who came too.
    refresh(&harness, "css").await;
    harness.withdraw("css", &consent).await.expect("withdrawn");
    assert_eq!(ask("q02", stays, &consent).await.outcome, OutcomeKind::Denied);

    harness.federation.nodes.get_mut(&member("css")).expect("css").stop().await.expect("stopped");
    let added: Vec<Value> =
        read_log(&harness, "css").into_iter().filter(|entry| entry["event"] == "consent.grant_added").collect();
    assert_eq!(added.len(), 1, "{added:?}");
    assert_eq!((&added[0]["holder"], &added[0]["consent"]), (&json!("pup"), &json!(consent.id)));
    let refused = refusals(&mut harness, "pup").await;
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert_eq!(refused[2], "consent_withdrawn");
    let granted = read_log(&harness, "pup").into_iter().filter(|entry| entry["event"] == "consent.granted").count();
    assert_eq!(granted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_and_withdrawals_are_taken_from_their_signer_alone() {
    let harness = Harness::filled().await;
    let (mops, css) = (Member::of(&harness, "mops"), Member::of(&harness, "css"));
    let output = mops.output(pesel_of(SHARED)).await;
    let refused = |done: Result<(), CallError>| match done {
        Err(CallError::Problem(problem)) => (problem.status, problem.code),
        other => panic!("{other:?}"),
    };
    let is = |code: &str| (403, code.to_owned());
    let grant = css.grant(&output, 0, |_| {});
    css.send_grant(&grant).await.expect("taken");
    css.send_grant(&grant).await.expect("the same again changes nothing");
    let wider = Grant { fields: ["pup.dereg_reason".parse().expect("a field")].into(), ..grant.clone() };
    assert_eq!(refused(css.send_grant(&wider).await), is("consent_unknown"), "another under the same id");
    let of_css = jws::sign(&css.keys.message, &css.grant(&output, 0, |_| {})).expect("signed");
    let carried = mops.call("pup", Method::POST, "/v1/grants", of_css).await;
    assert_eq!(refused(carried.map(drop)), is("audience_wrong"), "brought by somebody else");
    let in_name_of_css = mops.grant(&output, 0, |g| g.iss = member("css"));
    assert_eq!(refused(mops.send_grant(&in_name_of_css).await), is("signature_invalid"));
    assert_eq!(refused(css.send_grant(&css.grant(&output, 0, |g| g.aud = member("zlm"))).await), is("audience_wrong"));
    assert_eq!(refused(css.send_grant(&css.grant(&output, 0, |g| g.iat = g.iat + 31)).await), is("audience_wrong"));

    let withdrawal = |id: ConsentId, sub| Withdrawal {
        iss: css.id.clone(),
        aud: member("pup"),
        iat: css.now(),
        consent: id,
        resident: Whose::Subject(sub),
        epoch: css.epoch_number(),
        modules: None,
    };
    let send = async |member: &Member, withdrawal: &Withdrawal| {
        member.send("pup", Method::POST, "/v1/withdrawals", withdrawal).await.map(drop)
    };
    let other = protocol::SubjectId([3; 32]);
    assert_eq!(refused(send(&css, &withdrawal(grant.consent, other)).await), is("consent_unknown"), "another resident");
    assert_eq!(refused(send(&mops, &withdrawal(grant.consent, grant.sub)).await), is("signature_invalid"));
    send(&css, &withdrawal(grant.consent, grant.sub)).await.expect("taken");
    let ticket = mops.ticket(&output).await;
    let token = mops.request(&output, "pup", &ticket, on(grant.consent));
    assert_eq!(mops.told("pup", &token).await, Some(Told::ConsentWithdrawn));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_took_the_consent_may_not_ask_on_it() {
    let mut harness = Harness::filled().await;
    let body = json!({
        "resident": resident(), "template": "instead-of-certificate", "modules": { "labour-status": "given" },
        "recipient": "mops", "purposes": [PURPOSE], "days": 30, "evidence_sha256": cli::found::evidence().expect("random"),
    });
    let own: ConsentReceipt = harness.post("mops", "caseworker", "/v1/consents", &body).await.expect("a consent");
    assert_eq!(asked(&harness, &own).await, Err("Denied: consent_same_user".to_owned()));
    let others = harness.consent("mops", "mops", resident()).await.expect("a consent");
    assert_eq!(asked(&harness, &others).await, Ok(()), "the front desk took this one");
    assert_eq!(refusals(&mut harness, "pup").await, [""; 0], "pup was not asked in vain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_whose_status_is_old_does_not_open() {
    let mut harness = Harness::filled().await;
    let consent = harness.consent("css", "mops", resident()).await.expect("a consent");
    assert_eq!(asked(&harness, &consent).await, Ok(()));
    let css = member("css");
    harness.federation.nodes.get_mut(&css).expect("css").stop().await.expect("stopped");
    harness.clock.advance(60);
    assert_eq!(asked(&harness, &consent).await, Ok(()), "a minute old");
    harness.clock.advance(1);
    assert_eq!(asked(&harness, &consent).await, Err("Denied: status_unknown".to_owned()));
    harness.federation.nodes.get_mut(&css).expect("css").restart().await.expect("started");
    harness.clock.advance(6);
    assert_eq!(asked(&harness, &consent).await, Ok(()), "its recorder is back");
    assert_eq!(refusals(&mut harness, "pup").await, ["consent_status_stale"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_reaches_who_was_away() {
    let mut harness = Harness::filled().await;
    let consent = harness.consent("mops", "mops", resident()).await.expect("a consent");
    assert_eq!(asked(&harness, &consent).await, Ok(()));
    let pup = member("pup");
    harness.federation.nodes.get_mut(&pup).expect("pup").stop().await.expect("stopped");
    let withdrawn = harness.withdraw("mops", &consent).await.expect("withdrawn");
    assert!(withdrawn.undelivered.contains(&pup), "{withdrawn:?}");
    harness.federation.nodes.get_mut(&pup).expect("pup").restart().await.expect("started");
    // Withdrawing what is withdrawn delivers what waits.
    let again = harness.withdraw("mops", &consent).await.expect("withdrawn");
    assert!(again.undelivered.is_empty(), "{again:?}");
    assert_eq!(asked(&harness, &consent).await, Err("Denied: consent_withdrawn".to_owned()));
    assert_eq!(refusals(&mut harness, "pup").await, ["consent_withdrawn"]);
    let log = read_log(&harness, "pup");
    let heard = log.iter().filter(|entry| entry["event"] == "consent.withdrawal_received").count();
    assert_eq!(heard, 1, "told once");
    // At the recorder: until when, by what evidence, and who took the withdrawal when it came back.
    harness.federation.nodes.get_mut(&member("mops")).expect("mops").stop().await.expect("stopped");
    let log = read_log(&harness, "mops");
    let of = |event: &str| -> Vec<&Value> { log.iter().filter(|entry| entry["event"] == event).collect() };
    let recorded = of("consent.recorded");
    assert!(recorded[0]["valid_until"].as_i64() > recorded[0]["time"].as_i64(), "{recorded:?}");
    assert_eq!(recorded[0]["evidence"].as_str().map(str::len), Some(43));
    let taken = of("consent.withdrawal_taken");
    assert_eq!(of("consent.withdrawn")[0]["counts"]["holders"], taken.len(), "each holder once: {taken:?}");
    assert_eq!(taken.iter().filter(|entry| entry["holder"] == "pup").count(), 1);
    assert!(taken.iter().all(|entry| entry["consent"] == recorded[0]["consent"]));
}
