//! Who a member is: certificates unknown, expired, revoked, of another member, renewed, of somebody not in the manifest.

use certs::{Authority, Reason, Target};
use http::Method;
use node::{NodeStatus, OutcomeKind};
use protocol::{MemberId, SpiffeId, Timestamp, Told};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tests::{Harness, Member, NOON, UNITS, member, pesel_of, refusals, status};
use tokio_util::sync::CancellationToken;
use transport::{CallError, IdentityStore, Limits, ServerTls, Trust};

const DAY: i64 = 24 * 60 * 60;

/// A new key with `authority`'s certificate for `id`, in a directory of its own.
fn certify(harness: &Harness, authority: &mut Authority, id: &str, name: &str, now: Timestamp) -> PathBuf {
    let spiffe = SpiffeId::new(harness.federation.founded.plan.realm.clone(), member(id));
    let (key, csr) = transport::new_key_and_csr(&spiffe).expect("a key");
    let dir = harness.extracts().join(name);
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("cert.pem"), authority.sign(&csr, &member(id), now).expect("signed")).expect("written");
    std::fs::write(dir.join("key.pem"), key.as_bytes()).expect("written");
    dir
}

fn authority(harness: &Harness) -> Authority {
    harness.federation.founded.authority().expect("the authority")
}

/// Waits until `done`: files are read again every two seconds.
async fn until(harness: &Harness, unit: &str, done: impl Fn(&NodeStatus) -> bool) {
    let waiting = async {
        while !done(&status(harness, unit).await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("the file is read again");
}

/// Lets days pass, with a revocation list of the day they end on, by which the registry goes too.
pub(crate) async fn days_later(harness: &Harness, days: i64) {
    harness.clock.advance(days * 24 * 60 * 60);
    let crl = authority(harness).crl(harness.clock.now()).expect("a list");
    spread(harness, &crl).await;
    let caller = Member::of(harness, "css");
    tests::until("the registry reads its list again", async || reach(&caller, "registry").await.is_ok()).await;
}

/// Gives every part a new revocation list and waits until every node goes by it.
pub(crate) async fn spread(harness: &Harness, crl: &str) {
    for part in UNITS.iter().map(|(unit, _)| *unit).chain(["registry"]) {
        std::fs::write(harness.home().join(part).join("tls/crl.pem"), crl).expect("written");
    }
    let number = authority(harness).crl_number();
    for (unit, _) in UNITS {
        until(harness, unit, |status| status.crl_number == Some(number)).await;
    }
}

fn code<T>(result: Result<T, CallError>) -> String {
    result.map(drop).expect_err("refused").code().to_owned()
}

/// Something every member may get.
async fn reach(member: &Member, to: &str) -> Result<(), CallError> {
    let path = if to == "registry" { "/v1/manifest" } else { "/v1/status" };
    member.call(to, Method::GET, path, "").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_opens_nothing() {
    let harness = Harness::new().await;
    let realm = harness.federation.founded.plan.realm.clone();
    let mut foreign = Authority::init(&harness.extracts().join("ca"), realm.clone(), NOON).expect("an authority");
    let tls = certify(&harness, &mut foreign, "mops", "foreign", NOON);
    let mops = Member::with_certificate(&harness, "mops", &tls);
    for to in ["pup", "registry"] {
        assert_eq!(code(reach(&mops, to).await), "refused_by_peer", "{to}");
        reach(&Member::of(&harness, "mops"), to).await.expect("the member's own certificate opens");
    }

    // And a server that shows one is not believed.
    let identity = Arc::new(IdentityStore::load(&tls.join("cert.pem"), &tls.join("key.pem")).expect("a certificate"));
    let read = |name: &str| std::fs::read_to_string(harness.home().join("mops/tls").join(name)).expect("a file");
    let trust = Trust::load(&read("root.pem"), Some(&read("crl.pem")), realm, harness.clock.clone()).expect("trust");
    let server = ServerTls::mutual(Arc::new(trust), identity).expect("a server");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let stop = CancellationToken::new();
    let serving =
        tokio::spawn(transport::serve(listener, server, axum::Router::new(), Limits::default(), stop.clone()));
    let pup = Member::of(&harness, "pup");
    // The foreign authority bears our authority's name, so that the path is found and its signature is not.
    assert_eq!(code(pup.call_at(&url, "mops", Method::GET, "/v1/status", "").await), "peer_certificate_invalid");
    stop.cancel();
    serving.await.expect("served").expect("in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_opens_nothing_and_closes_what_is_open() {
    let harness = Harness::new().await;
    let tls = certify(&harness, &mut authority(&harness), "mops", "short", NOON + (60 - 90 * DAY));
    let early = Member::with_certificate(&harness, "mops", &tls);
    assert_eq!(early.identity.current().not_after(), NOON + 60);
    for to in ["pup", "registry"] {
        reach(&early, to).await.expect("valid still");
    }
    harness.clock.advance(60);
    reach(&early, "pup").await.expect("its last second");
    harness.clock.advance(1);
    for to in ["pup", "registry"] {
        assert_eq!(code(reach(&early, to).await), "peer_expired", "on the open connection to {to}");
        let late = Member::with_certificate(&harness, "mops", &tls);
        assert_eq!(code(reach(&late, to).await), "refused_by_peer", "on a new connection to {to}");
    }
    reach(&Member::of(&harness, "mops"), "pup").await.expect("the member's other certificate opens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_opens_nothing_and_closes_what_is_open() {
    let harness = Harness::new().await;
    let tls = certify(&harness, &mut authority(&harness), "mops", "second", NOON);
    let early = Member::with_certificate(&harness, "mops", &tls);
    for to in ["pup", "registry"] {
        reach(&early, to).await.expect("not revoked yet");
    }
    let crl = {
        let mut authority = authority(&harness);
        let serial = authority.show().last().expect("issued").serial.clone();
        authority.revoke(&Target::Serial(serial), Reason::KeyCompromise, NOON).expect("revoked")
    };
    spread(&harness, &crl).await;
    assert_eq!(code(reach(&early, "pup").await), "peer_revoked", "on the open connection");
    let late = Member::with_certificate(&harness, "mops", &tls);
    assert_eq!(code(reach(&late, "pup").await), "refused_by_peer", "on a new connection");
    // The registry has no status to wait for; it reads its files every second.
    let waiting = async {
        while reach(&early, "registry").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("the registry reads the list");
    let late = Member::with_certificate(&harness, "mops", &tls);
    assert_eq!(code(reach(&late, "registry").await), "refused_by_peer");
    reach(&Member::of(&harness, "mops"), "pup").await.expect("the member's other certificate opens");
}

fn copy(from: &Path, to: &Path) {
    for file in ["cert.pem", "key.pem"] {
        std::fs::write(to.join(file), std::fs::read(from.join(file)).expect("read")).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_members_certificate_is_not_asked() {
    let mut harness = Harness::filled().await;
    let resident = || json!({ "pesel": pesel_of("mops+pup+css") });
    let basis = || json!({ "kind": "mandate", "id": "ups-105" });
    let before = harness.ask("mops", "pup", "q02", resident(), basis()).await;
    assert_eq!(before.outcome, OutcomeKind::Answered);
    let css = harness.federation.nodes[&member("css")].listening().peers;
    let elsewhere = BTreeMap::from([(member("pup"), format!("https://{css}"))]);
    let now = harness.clock.now();
    let next = harness.federation.founded.with_endpoints(now, &elsewhere).expect("a manifest");
    harness.federation.publish(&next).await.expect("published");
    let after = harness.ask("mops", "pup", "q02", resident(), basis()).await;
    assert_eq!((after.outcome, after.reason.as_deref()), (OutcomeKind::Unavailable, Some("peer_unavailable")));
    assert_eq!(refusals(&mut harness, "css").await, [""; 0], "nothing was said to who answered instead");
    // Why, stands in the log.
    let config = harness.federation.founded.node_config(&member("mops"));
    harness.federation.nodes.get_mut(&member("mops")).expect("a node").stop().await.expect("stopped");
    let log = tests::log_of(&config);
    let last = log.iter().rfind(|entry| entry.payload["event"] == "query.outcome").expect("an outcome");
    assert!(last.payload["detail"].as_str().is_some_and(|why| why.contains("peer_wrong_member")), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_certificate_names_another_member_does_not_start() {
    let mut harness = Harness::new().await;
    let (own, other) = (harness.home().join("pup/tls"), harness.home().join("css/tls"));
    let kept = harness.extracts().join("kept");
    std::fs::create_dir_all(&kept).expect("a directory");
    copy(&own, &kept);
    let pup = harness.federation.nodes.get_mut(&member("pup")).expect("pup");
    pup.stop().await.expect("stopped");
    copy(&other, &own);
    let refused = pup.restart().await.expect_err("refused");
    assert_eq!(refused.code, "certificate");
    assert!(refused.message.contains("/member/css") && refused.message.contains("/member/pup"), "{}", refused.message);
    copy(&kept, &own);
    pup.restart().await.expect("started");
    reach(&Member::of(&harness, "mops"), "pup").await.expect("back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_without_a_restart() {
    let harness = Harness::filled().await;
    let old: Vec<String> = authority(&harness)
        .show()
        .iter()
        .filter(|issued| issued.spiffe.member() == &member("pup"))
        .map(|issued| issued.serial.clone())
        .collect();
    harness.clock.advance(1_000);
    let before = status(&harness, "pup").await;
    let spiffe = SpiffeId::new(harness.federation.founded.plan.realm.clone(), member("pup"));
    let (key, csr) = transport::new_key_and_csr(&spiffe).expect("a key");
    let now = harness.clock.now();
    let chain = authority(&harness).renew(&csr, &member("pup"), now).expect("renewed");
    std::fs::write(harness.home().join("pup/tls/key.pem"), key.as_bytes()).expect("written");
    std::fs::write(harness.home().join("pup/tls/cert.pem"), chain).expect("written");
    until(&harness, "pup", |status| status.certificate_expires > before.certificate_expires).await;

    // With the old one revoked, only the new one can be what it presents: as a server and as a client.
    let crl = {
        let mut authority = authority(&harness);
        let mut crl = String::new();
        for serial in old {
            crl = authority.revoke(&Target::Serial(serial), Reason::Superseded, now).expect("revoked");
        }
        crl
    };
    spread(&harness, &crl).await;
    let shared = || json!({ "pesel": pesel_of("mops+pup") });
    let to = harness.ask("mops", "pup", "q02", shared(), json!({ "kind": "mandate", "id": "ups-105" })).await;
    assert_eq!(to.outcome, OutcomeKind::Answered, "{:?}", to.reason);
    let body = json!({
        "resident": shared(), "asks": [{ "query": "q06", "holder": "mops" }],
        "purpose": "public-service-provision", "basis": { "kind": "mandate", "id": "urp-2025" },
        "case_ref": "PUP/2026/1", "reason": "test",
    });
    let from: node::QueryResult = harness.post("pup", "caseworker", "/v1/queries", &body).await.expect("a result");
    assert_eq!(from.outcomes[0].outcome, OutcomeKind::Answered, "{:?}", from.outcomes[0].reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_members_files_do_not_replace_a_running_nodes() {
    let harness = Harness::new().await;
    let (own, other) = (harness.home().join("pup/tls"), harness.home().join("css/tls"));
    copy(&other, &own);
    // Read again at the same round as the list, of which we see when it was.
    let crl = authority(&harness).crl(NOON).expect("a list");
    spread(&harness, &crl).await;
    let mops = Member::of(&harness, "mops");
    reach(&mops, "pup").await.expect("still itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_certificate_of_no_member_is_refused_everywhere() {
    let mut harness = Harness::filled().await;
    let tls = certify(&harness, &mut authority(&harness), "stranger", "stranger", NOON);
    let mut stranger = Member::with_certificate(&harness, "zlm", &tls);
    let zlm = Member::of(&harness, "zlm");
    let output = zlm.output(pesel_of("pup+zlm")).await;
    let ticket = zlm.ticket(&output).await;
    let blinded = stranger.blinded(pesel_of("pup+zlm"));
    stranger.id = "stranger".parse::<MemberId>().expect("an id");

    let code = async |done: Result<(), CallError>| match done {
        Err(CallError::Problem(problem)) => (problem.status, problem.code),
        other => panic!("{other:?}"),
    };
    let unknown = (403, "peer_unknown".to_owned());
    assert_eq!(code(reach(&stranger, "pup").await).await, unknown);
    assert_eq!(code(stranger.locate(&output).await.map(drop)).await, unknown);
    let body = stranger.evaluation("pup", blinded.elements(), |_| {});
    assert_eq!(code(stranger.evaluate("pup", body).await.map(drop)).await, unknown);
    let grant = stranger.grant(&output, 0, |_| {});
    let granted = code(stranger.send_grant(&grant).await).await;
    assert_eq!(granted.0, 403, "{granted:?}");
    let token = stranger.request(&output, "pup", &ticket, |_| {});
    assert_eq!(stranger.told("pup", &token).await, Some(Told::Refused));
    assert_eq!(refusals(&mut harness, "pup").await, ["peer_unknown"]);
}
