//! Revocation, and what a CRL must be to count.

use crate::pki::{DAY, NOW, Pki, realm, spiffe};
use crate::servers::{LONG, Server, call, refusal};
use transport::{CallError, Clock, Limits, Trust, TrustError};

#[tokio::test]
async fn a_revoked_client_is_refused_on_an_open_connection_and_a_new_one() {
    let pki = Pki::new();
    let mops = pki.member("mops", 1);
    let server = Server::start(mops.tls(), Limits::default()).await;
    let pup = pki.member("pup", 2);
    let client = pup.client();
    call(&client, &server, "/hello").await.unwrap();

    assert_eq!(mops.trust.update_crl(&pki.crl(2, &[2])), Ok(true));
    match call(&client, &server, "/hello").await {
        Err(CallError::Problem(problem)) => assert_eq!((problem.status, &*problem.code), (403, "peer_revoked")),
        other => panic!("{other:?}"),
    }
    // The server ends that connection, and the next handshake fails. Until the end has arrived the old one may answer.
    let ended = async {
        while refusal(&client, &server).await == "peer_revoked" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, ended).await.expect("the connection is closed");
    assert_eq!(refusal(&pup.client(), &server).await, "refused_by_peer");
    call(&pki.member("css", 3).client(), &server, "/hello").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_client_leaves_an_open_connection_to_a_revoked_server() {
    let pki = Pki::new();
    let server = Server::start(pki.member("mops", 1).tls(), Limits::default()).await;
    let pup = pki.member("pup", 2);
    let client = pup.client();
    call(&client, &server, "/hello").await.unwrap();
    pup.trust.update_crl(&pki.crl(2, &[1])).unwrap();
    assert_eq!(refusal(&client, &server).await, "peer_revoked", "open connection");
    assert_eq!(refusal(&client, &server).await, "peer_revoked", "new connection");
    server.stop().await;
}

#[test]
fn crl_numbers_never_go_back() {
    let pki = Pki::new();
    let trust = Trust::load(&pki.root_pem(), Some(&pki.crl(5, &[])), realm(), Clock::manual(NOW)).unwrap();
    let held = trust.crl_pem().unwrap();
    assert_eq!(trust.update_crl(&held), Ok(false), "the very same");
    for number in [4, 5] {
        let refused = trust.update_crl(&pki.crl(number, &[9]));
        assert_eq!(refused, Err(TrustError::CrlOlder { held: 5, offered: number }));
    }
    assert_eq!(trust.crl_pem(), Some(held), "the one held stays");
    assert_eq!(trust.update_crl(&pki.crl(6, &[])), Ok(true));
    assert_eq!((trust.crl_number(), trust.crl_next_update()), (Some(6), Some(NOW + DAY)));

    // After a restart the highest number seen is told; an older file is dropped and the same number is taken.
    let restarted = Trust::load(&pki.root_pem(), Some(&pki.crl(5, &[])), realm(), Clock::manual(NOW)).unwrap();
    restarted.require_crl(6);
    assert_eq!(restarted.crl_number(), None);
    assert!(restarted.update_crl(&pki.crl(5, &[])).is_err());
    assert_eq!(restarted.update_crl(&pki.crl(6, &[])), Ok(true));
}

#[test]
fn a_crl_of_another_authority_or_none_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    let trust = Trust::load(&pki.root_pem(), None, realm(), Clock::manual(NOW)).unwrap();
    let own = pki.crl(1, &[]);
    let bare = &own[own.find("-----BEGIN X509 CRL").unwrap()..];
    let mixed = own.replace(bare, "") + &other.crl(1, &[]);
    for (what, pem) in [
        ("another root", other.crl(1, &[])),
        ("another root's, beside our authority", mixed),
        ("no certificate beside it", bare.to_owned()),
        ("two lists", own.clone() + bare),
        ("nothing", String::new()),
    ] {
        assert!(matches!(trust.update_crl(&pem), Err(TrustError::Crl(_))), "{what}");
    }
    assert_eq!(trust.crl_number(), None);
}

#[test]
fn a_tampered_crl_is_refused() {
    use data_encoding::BASE64;
    let pki = Pki::new();
    let pem = pki.crl(1, &[2, 3]);
    let start = pem.find("-----BEGIN X509 CRL").unwrap();
    let lines: Vec<&str> = pem[start..].lines().filter(|line| !line.starts_with("---")).collect();
    let der = BASE64.decode(lines.concat().as_bytes()).unwrap();
    let trust = Trust::load(&pki.root_pem(), None, realm(), Clock::manual(NOW)).unwrap();
    for at in (0..der.len()).step_by(3) {
        let mut bad = der.clone();
        bad[at] ^= 1;
        let text = BASE64.encode(&bad);
        let bad = format!("{}-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n", &pem[..start]);
        assert!(trust.update_crl(&bad).is_err(), "byte {at}");
    }
    assert_eq!(trust.update_crl(&pem), Ok(true));
}

#[tokio::test]
async fn a_stale_or_missing_crl_closes_and_a_fetch_opens_again() {
    let pki = Pki::new();
    let (mops, pup) = (pki.member("mops", 1), pki.member("pup", 2));
    let server = Server::start(mops.tls(), Limits::default()).await;
    let client = pup.client();
    call(&client, &server, "/hello").await.unwrap();

    mops.clock.advance(DAY);
    assert_eq!(refusal(&client, &server).await, "crl_stale", "open connection, told by the server");
    assert_eq!(refusal(&pup.client(), &server).await, "refused_by_peer", "new connection");
    mops.clock.set(NOW);
    pup.clock.advance(DAY);
    let client = pup.client();
    assert_eq!(refusal(&client, &server).await, "crl_stale", "our own");

    // For the CRL alone the peer is believed without one; a wrong member or a known revocation still is not.
    let (to, url) = (spiffe("mops"), server.url());
    assert_eq!(client.fetch_crl(&to, &url, "/hello", LONG).await.unwrap(), "hello");
    let wrong = client.fetch_crl(&spiffe("css"), &url, "/hello", LONG).await.unwrap_err();
    assert_eq!(wrong.code(), "peer_wrong_member");
    pup.trust.update_crl(&pki.crl(2, &[1])).unwrap();
    let revoked = client.fetch_crl(&to, &url, "/hello", LONG).await.unwrap_err();
    assert_eq!(revoked.code(), "peer_revoked");

    let none = Trust::load(&pki.root_pem(), None, realm(), pup.clock.clone()).unwrap();
    let client = transport::Client::new(pup.identity.clone(), none.into(), pup.clock.clone());
    assert_eq!(refusal(&client, &server).await, "crl_missing");
    assert_eq!(client.fetch_crl(&to, &url, "/hello", LONG).await.unwrap(), "hello");
    server.stop().await;
}
