//! Over real mutual TLS, and when the log cannot be written.

use crate::federation::{Federation, NOW, certificate, member, message_key};
use axum::http::Request;
use protocol::encoding::b64;
use protocol::registry::EntriesAnswer;
use protocol::{SpiffeId, jws};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use transport::{CallError, Client, IdentityStore, Trust};

fn client(federation: &mut Federation, name: &str) -> Client {
    let dir = federation.dir.path().to_owned();
    certificate(&mut federation.authority, &dir, name);
    let file = |name: String| dir.join(name);
    let identity = IdentityStore::load(&file(format!("{name}.pem")), &file(format!("{name}.key"))).unwrap();
    let crl = std::fs::read_to_string(file("crl.pem".into())).unwrap();
    let realm = federation.config.realm.clone();
    let trust = Trust::load(federation.authority.root_pem(), Some(&crl), realm, federation.clock.clone()).unwrap();
    Client::new(Arc::new(identity), Arc::new(trust), federation.clock.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_members_refuses_the_revoked_and_ends() {
    let mut federation = Federation::new().await;
    let (mops, newcomer) = (client(&mut federation, "mops"), client(&mut federation, "newcomer"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(federation.registry().clone().serve(listener, shutdown.clone()));

    let to = SpiffeId::new(federation.config.realm.clone(), member("registry"));
    let call = async |client: &Client, method: &str, path: &str, body: String| {
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        client.call(&to, &url, request, Duration::from_secs(10)).await
    };
    let token = jws::sign(&message_key("mops"), &federation.put_request("mops", &[1], &["pup"])).unwrap();
    let answer = call(&mops, "PUT", "/v1/entries", token).await.unwrap();
    assert_eq!(
        serde_json::from_slice::<EntriesAnswer>(answer.body()).unwrap(),
        EntriesAnswer { stored: 1, deleted: 0 }
    );
    let delete = jws::sign(&message_key("mops"), &federation.delete_request("mops", &[1])).unwrap();
    let answer = call(&mops, "DELETE", "/v1/entries", delete).await.unwrap();
    assert_eq!(serde_json::from_slice::<EntriesAnswer>(answer.body()).unwrap().deleted, 1);

    // Who joins is not a member yet, but finds the manifest.
    assert!(call(&newcomer, "GET", "/v1/manifest", String::new()).await.is_ok());
    let token = jws::sign(&message_key("newcomer"), &federation.locate_request("newcomer", &[1])).unwrap();
    let refused = call(&newcomer, "POST", "/v1/locate", token).await.unwrap_err();
    assert_eq!(refused.code(), "peer_unknown");

    let first_number = std::fs::read_to_string(federation.config.crl_number()).unwrap();
    // A new revocation list is taken from its file while serving, served, and obeyed on open connections.
    let crl = federation
        .authority
        .revoke(&certs::Target::Member(member("newcomer")), certs::Reason::KeyCompromise, NOW)
        .unwrap();
    std::fs::write(federation.dir.path().join("crl.pem"), &crl).unwrap();
    for _ in 0..100 {
        let served = call(&mops, "GET", "/v1/crl", String::new()).await.unwrap();
        if served.body() == crl.as_bytes() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refused = call(&newcomer, "GET", "/v1/manifest", String::new()).await.unwrap_err();
    assert_eq!(refused.code(), "peer_revoked");
    // Once anybody was given it, no restart brings back an older one: its number is on the disk.
    let kept = std::fs::read_to_string(federation.config.crl_number()).unwrap();
    let old: u64 = first_number.parse().unwrap();
    assert!(kept.parse::<u64>().unwrap() > old, "{kept} after {old}");

    // And it stands in the log.
    let revoked = || {
        let log = federation.log();
        log.iter().rfind(|entry| entry["event"] == "crl").map(|entry| entry["counts"]["revoked"].clone())
    };
    for _ in 0..100 {
        if revoked() == Some(1.into()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(revoked(), Some(1.into()));

    // So does a certificate that takes the place of another, and nothing of the one it started with.
    let registry = federation.registry().clone();
    let certificates = || -> Vec<serde_json::Value> {
        let entries = registry.log().iter(0).map(|entry| entry.unwrap().payload.unwrap());
        entries.filter(|entry| entry["event"] == "certificate").map(|entry| entry["certificate"].clone()).collect()
    };
    assert!(certificates().is_empty());
    let dir = federation.dir.path().to_owned();
    certificate(&mut federation.authority, &dir, "registry");
    let renewed = IdentityStore::load(&dir.join("registry.pem"), &dir.join("registry.key")).unwrap();
    for _ in 0..100 {
        if !certificates().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(certificates(), [b64(&renewed.current().cert_sha256())], "once");
    assert!(call(&mops, "GET", "/v1/manifest", String::new()).await.is_ok());

    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(20), serving).await.unwrap().unwrap().unwrap();
    let gone = call(&mops, "GET", "/health/live", String::new()).await.unwrap_err();
    assert!(matches!(gone, CallError::Connect(_) | CallError::Closed), "{gone:?}");
}

/// An older revocation list put in place of the newest one is not believed after a restart.
#[tokio::test]
async fn an_older_revocation_list_does_not_come_back() {
    let mut federation = Federation::new().await;
    let path = federation.dir.path().join("crl.pem");
    let old = std::fs::read(&path).unwrap();
    std::fs::write(&path, federation.authority.crl(NOW).unwrap()).unwrap();
    federation.restart().await;
    assert_eq!(federation.call("mops", "GET", "/health/ready", vec![]).await.status, 200);
    std::fs::write(&path, old).unwrap();
    federation.restart().await;
    federation.call("mops", "GET", "/v1/crl", vec![]).await.refused("crl_missing");
    federation.call("mops", "GET", "/health/ready", vec![]).await.refused("crl_missing");
}

/// Without a record there is no answer and no change.
#[tokio::test]
async fn a_log_that_cannot_be_written_closes_and_heals() {
    let federation = Federation::new().await;
    federation.put("mops", &[1], &["pup"]).await;
    let (log, away) = (federation.config.log.clone(), federation.dir.path().join("away"));
    std::fs::rename(&log, &away).unwrap();
    std::fs::write(&log, b"").unwrap();
    let refused = async || {
        let locate = federation.send("POST", "/v1/locate", &federation.locate_request("mops", &[1])).await;
        let ready = federation.call("mops", "GET", "/health/ready", vec![]).await;
        (locate, ready)
    };
    for _ in 0..50 {
        if refused().await.1.status == 503 {
            break;
        }
        federation.clock.advance(1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (locate, ready) = refused().await;
    locate.refused("log_unavailable");
    ready.refused("log_unavailable");
    assert!(locate.problem().retry_after.is_some());
    let put = federation.put_request("mops", &[2], &["pup"]);
    federation.send("PUT", "/v1/entries", &put).await.refused("log_unavailable");
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    for _ in 0..50 {
        if federation.call("mops", "GET", "/health/ready", vec![]).await.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(federation.locate("mops", &[1, 2]).await.found.len(), 2);
    assert_eq!(federation.send("PUT", "/v1/entries", &put).await.status, 200, "it was never stored");
}
