//! Which certificates are refused, by either side.

use crate::pki::{HOUR, NOW, Pki, dns, realm, spiffe, uri};
use crate::servers::{LONG, Server, call, connect, converse, get_request, lax_server, refusal, with_certificate};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, SanType, date_time_ymd};
use std::sync::Arc;
use transport::{Clock, Limits, PeerIdentity, Trust};

/// Meets the server "mops" with a client certificate that `edit` changed: the server ends the connection unanswered.
async fn server_refuses(what: &str, edit: impl FnOnce(&mut CertificateParams)) {
    let pki = Pki::new();
    let server = Server::start(pki.member("mops", 1).tls(), Limits::default()).await;
    let config = with_certificate(&pki.mint("pup", 2, edit));
    let mut stream = connect(&server, Arc::new(config)).await.unwrap();
    let answer = converse(&mut stream, "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!(answer, "", "{what}");
    server.stop().await;
}

/// Meets a server whose certificate for "mops" `edit` changed: the client refuses with `code`.
async fn client_refuses(code: &str, edit: impl FnOnce(&mut CertificateParams)) {
    let pki = Pki::new();
    let url = lax_server(&pki.mint("mops", 1, edit)).await;
    let call = pki.member("pup", 2).client().call(&spiffe("mops"), &url, get_request("/hello"), LONG).await;
    assert_eq!(call.unwrap_err().code(), code);
}

#[tokio::test]
async fn the_lax_client_of_these_tests_is_let_in_with_a_good_certificate() {
    let pki = Pki::new();
    let server = Server::start(pki.member("mops", 1).tls(), Limits::default()).await;
    let config = with_certificate(&pki.mint("pup", 2, |_| ()));
    let mut stream = connect(&server, Arc::new(config)).await.unwrap();
    let answer = converse(&mut stream, "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
    server.stop().await;
}

/// Names a member's certificate must not have.
fn bad_names(member: &str) -> Vec<(&'static str, Vec<SanType>)> {
    let own = spiffe(member).to_string();
    vec![
        ("two URIs", vec![uri(&own), uri(&spiffe("css").to_string())]),
        ("the same URI twice", vec![uri(&own), uri(&own)]),
        ("DNS only", vec![dns("mops.example")]),
        ("another scheme", vec![uri("https://mops.example")]),
        ("no name", vec![]),
    ]
}

#[tokio::test]
async fn names_other_than_one_spiffe_id_of_the_realm_are_refused() {
    for (what, names) in bad_names("pup") {
        server_refuses(what, |p| p.subject_alt_names = names).await;
    }
    server_refuses("another realm", |p| p.subject_alt_names = vec![uri("spiffe://other.example/member/pup")]).await;

    for (_, names) in bad_names("mops") {
        client_refuses("peer_certificate_invalid", |p| p.subject_alt_names = names).await;
    }
    client_refuses("peer_wrong_realm", |p| p.subject_alt_names = vec![uri("spiffe://other.example/member/mops")]).await;
    client_refuses("peer_wrong_member", |p| p.subject_alt_names = vec![uri(&spiffe("pup").to_string())]).await;
}

#[test]
fn a_node_does_not_start_with_a_certificate_that_peers_refuse() {
    let pki = Pki::new();
    for (what, names) in bad_names("pup") {
        let (cert, key) = pki.mint("pup", 2, |p| p.subject_alt_names = names);
        let error = transport::Identity::from_pem(cert.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "identity_certificate_invalid", "{what}");
    }
}

#[tokio::test]
async fn dns_names_are_ignored() {
    let pki = Pki::new();
    let edit = |p: &mut CertificateParams| p.subject_alt_names.push(dns("elsewhere.example"));
    let server = Server::start(pki.member_with(pki.mint("mops", 1, edit)).tls(), Limits::default()).await;
    call(&pki.member("pup", 2).client(), &server, "/hello").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn purposes_are_required() {
    server_refuses("server only", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]).await;
    server_refuses("no purpose", |p| p.extended_key_usages = vec![]).await;
    client_refuses("peer_certificate_invalid", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
        .await;
    client_refuses("peer_certificate_invalid", |p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0))).await;
}

#[tokio::test]
async fn unknown_authorities_are_refused_by_both_sides() {
    unknown_authority(Pki::named("other"), "peer_issuer_unknown").await;
    // Its names do not help an authority that has other keys.
    unknown_authority(Pki::new(), "peer_certificate_invalid").await;
}

async fn unknown_authority(other: Pki, code: &str) {
    let pki = Pki::new();
    let server = Server::start(pki.member("mops", 1).tls(), Limits::default()).await;
    let stranger = other.member("pup", 2);
    assert_eq!(refusal(&stranger.client(), &server).await, code);
    // It trusts us, but we do not trust it.
    let trusting = Trust::load(&pki.root_pem(), Some(&pki.crl(1, &[])), realm(), stranger.clock.clone()).unwrap();
    let client = transport::Client::new(stranger.identity.clone(), trusting.into(), stranger.clock.clone());
    assert_eq!(refusal(&client, &server).await, "refused_by_peer");
    server.stop().await;
}

#[tokio::test]
async fn expired_certificates_are_refused_new_and_open() {
    let pki = Pki::new();
    let mops = pki.member("mops", 1);
    let server = Server::start(mops.tls(), Limits::default()).await;
    // Valid until 2027-01-15T00:00:00Z, eight hours before the client's clock is set forward.
    let pup = pki.member_with(pki.mint("pup", 2, |p| p.not_after = date_time_ymd(2027, 1, 15)));
    for clock in [&mops.clock, &pup.clock] {
        clock.set(NOW + -9 * HOUR);
    }
    let client = pup.client();
    call(&client, &server, "/hello").await.unwrap();
    mops.clock.set(NOW);
    assert_eq!(refusal(&client, &server).await, "peer_expired", "open connection");
    assert_eq!(refusal(&pup.client(), &server).await, "refused_by_peer", "new connection");

    let past = |p: &mut CertificateParams| p.not_after = date_time_ymd(2027, 1, 14);
    client_refuses("peer_expired", past).await;
    server.stop().await;
}

#[test]
fn trust_checks_realm_and_expiry_of_a_known_peer() {
    let pki = Pki::new();
    let clock = Clock::manual(NOW);
    let trust = Trust::load(&pki.root_pem(), Some(&pki.crl(1, &[7])), realm(), clock.clone()).unwrap();
    let peer = |serial: u8| PeerIdentity {
        spiffe: spiffe("pup"),
        cert_sha256: [0; 32],
        serial: vec![serial],
        not_after: NOW + HOUR,
    };
    let code = |peer: &PeerIdentity| trust.check(peer).map_err(|error| error.code());
    assert_eq!(code(&peer(8)), Ok(()));
    assert_eq!(code(&peer(7)), Err("peer_revoked"));
    let foreign = "spiffe://other.example/member/pup".parse().unwrap();
    assert_eq!(code(&PeerIdentity { spiffe: foreign, ..peer(8) }), Err("peer_wrong_realm"));
    clock.advance(HOUR + 1);
    assert_eq!(code(&peer(8)), Err("peer_expired"));
}
