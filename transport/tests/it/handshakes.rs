//! What a handshake must be.

use crate::pki::{Pki, spiffe};
use crate::servers::{LONG, Server, anonymous, call, connect, converse, get_request, read_all};
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, NamedGroup};
use std::sync::Arc;
use transport::{Limits, ServerTls};

#[tokio::test]
async fn members_meet_and_the_handler_knows_the_caller() {
    let pki = Pki::new();
    let server = Server::start(pki.member("mops", 1).tls(), Limits::default()).await;
    let answer = call(&pki.member("pup", 2).client(), &server, "/whoami").await.unwrap();
    assert_eq!(answer.body(), &spiffe("pup").to_string());
    server.stop().await;
}

#[tokio::test]
async fn tls12_is_refused() {
    let server = Server::start(Pki::new().member("mops", 1).tls(), Limits::default()).await;
    let error = connect(&server, Arc::new(anonymous(&TLS12, "h2"))).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let server = Server::start(Pki::new().member("mops", 1).tls(), Limits::default()).await;
    let mut stream = connect(&server, Arc::new(anonymous(&TLS13, "http/1.1"))).await.unwrap();
    assert_eq!(converse(&mut stream, "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await, "");
    server.stop().await;
}

#[tokio::test]
async fn the_hybrid_group_is_negotiated_and_nothing_is_resumed() {
    let (cert, key) = Pki::new().mint("mops", 1, |_| ());
    let local = ServerTls::local(cert.as_bytes(), key.as_bytes()).unwrap();
    let server = Server::start(local, Limits::default()).await;
    let config = Arc::new(anonymous(&TLS13, "http/1.1"));
    for _ in 0..2 {
        let mut stream = connect(&server, config.clone()).await.unwrap();
        let answer = converse(&mut stream, "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.ends_with("hello"), "{answer}");
        let session = stream.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
    }
    // The first hello offers the hybrid group with a key share, so no retry is needed either.
    let mut config = anonymous(&TLS13, "h2");
    config.resumption = rustls::client::Resumption::disabled();
    let stream = connect(&server, Arc::new(config)).await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    server.stop().await;
}

#[tokio::test]
async fn members_negotiate_the_hybrid_group() {
    let pki = Pki::new();
    let (mops, pup) = (pki.member("mops", 1), pki.member("pup", 2));
    // The only group this client offers.
    let group = rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768;
    let server = Server::start(mops.tls(), Limits::default()).await;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![group];
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(anonymous_verifier())
        .with_client_cert_resolver(pup.identity.clone());
    let mut stream = connect(&server, Arc::new(config)).await.unwrap();
    let answer = converse(&mut stream, "GET /whoami HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("/member/pup"), "{answer}");
    server.stop().await;
}

fn anonymous_verifier() -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
    Arc::new(crate::servers::Anyone)
}

#[tokio::test]
async fn the_local_listener_has_no_peers() {
    let pki = Pki::new();
    let (cert, key) = pki.mint("mops", 1, |_| ());
    let local = ServerTls::local(cert.as_bytes(), key.as_bytes()).unwrap();
    let server = Server::start(local, Limits::default()).await;
    let client = pki.member("pup", 2).client();
    let error = client.call(&spiffe("mops"), &server.url(), get_request("/whoami"), LONG).await.unwrap_err();
    assert_eq!(error.code(), "peer_required");
    let mut stream = connect(&server, Arc::new(anonymous(&TLS12, "http/1.1"))).await;
    assert!(stream.as_mut().is_err(), "TLS 1.2 on the local listener");
    server.stop().await;
}

#[tokio::test]
async fn plain_http_is_refused() {
    use tokio::io::AsyncWriteExt;
    let server = Server::start(Pki::new().member("mops", 1).tls(), Limits::default()).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(!read_all(&mut stream).await.contains("HTTP"));
    server.stop().await;
}
