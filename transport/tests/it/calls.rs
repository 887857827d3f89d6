//! The pooled client.

use crate::pki::{Pki, spiffe};
use crate::servers::{LONG, SHORT, Server, call, get_request, refusal};
use bytes::Bytes;
use http::Request;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use transport::{Client, Limits};

/// Forwards to `server` and counts connections.
async fn counting_proxy(server: SocketAddr) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, count) = (format!("https://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let counter = count.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (url, count)
}

#[tokio::test]
async fn concurrent_calls_share_one_connection() {
    let pki = Pki::new();
    let server = Server::start(pki.member("mops", 1).tls(), Limits::default()).await;
    let (url, connections) = counting_proxy(server.address).await;
    let client = Arc::new(pki.member("pup", 2).client());
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move { client.call(&spiffe("mops"), &url, get_request("/wait/50"), LONG).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().body(), "done");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    server.stop().await;
}

#[tokio::test]
async fn the_deadline_covers_connecting_and_answering() {
    let pki = Pki::new();
    let client = pki.member("pup", 2).client();
    let to = spiffe("mops");
    // Accepts by the kernel's queue and never says a word.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", mute.local_addr().unwrap());
    let error = client.call(&to, &url, get_request("/hello"), SHORT).await.unwrap_err();
    assert_eq!(error.code(), "deadline");

    let server = Server::start(pki.member("mops", 1).tls(), Limits::default()).await;
    let (url, connections) = counting_proxy(server.address).await;
    client.call(&to, &url, get_request("/hello"), LONG).await.unwrap();
    let error = client.call(&to, &url, get_request("/wait/60000"), SHORT).await.unwrap_err();
    assert_eq!(error.code(), "deadline");
    // The peer may be gone without a word, so the next call does not rely on that connection.
    client.call(&to, &url, get_request("/hello"), LONG).await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_client_survives_a_restart_of_the_server() {
    let pki = Pki::new();
    let mops = pki.member("mops", 1);
    let client = pki.member("pup", 2).client();
    let mut server = Server::start(mops.tls(), Limits::default()).await;
    for _ in 0..3 {
        call(&client, &server, "/hello").await.unwrap();
        let address = server.address;
        server.stop().await;
        server = Server::start_at(address, mops.tls(), Limits::default()).await;
    }
    call(&client, &server, "/hello").await.unwrap();
    let address = server.address;
    server.stop().await;
    let url = format!("https://{address}");
    let error = client.call(&spiffe("mops"), &url, get_request("/hello"), LONG).await.unwrap_err();
    assert_eq!(error.code(), "connect_failed");
}

#[tokio::test]
async fn one_address_serves_no_two_members() {
    let pki = Pki::new();
    let server = Server::start(pki.member("mops", 1).tls(), Limits::default()).await;
    let client = pki.member("pup", 2).client();
    call(&client, &server, "/hello").await.unwrap();
    // An open connection to the same address as somebody else is not reused.
    let error = client.call(&spiffe("css"), &server.url(), get_request("/hello"), LONG).await.unwrap_err();
    assert_eq!(error.code(), "peer_wrong_member");
    call(&client, &server, "/hello").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn answers_past_the_limit_are_refused() {
    let pki = Pki::new();
    let server = Server::start(pki.member("mops", 1).tls(), Limits::default()).await;
    let client: Client = pki.member("pup", 2).client().max_answer(1000);
    let post = |size: usize| Request::post("/echo").body(Bytes::from(vec![0; size])).unwrap();
    client.call(&spiffe("mops"), &server.url(), post(1000), LONG).await.unwrap();
    let error = client.call(&spiffe("mops"), &server.url(), post(1001), LONG).await.unwrap_err();
    assert_eq!(error.code(), "answer_too_large");
    server.stop().await;
}

#[tokio::test]
async fn bad_urls_are_refused_and_paths_are_kept() {
    let pki = Pki::new();
    let client = pki.member("pup", 2).client();
    for url in ["http://127.0.0.1:1", "127.0.0.1:1", "https://127.0.0.1:1/base", "", "https://"] {
        let error = client.call(&spiffe("mops"), url, get_request("/hello"), LONG).await.unwrap_err();
        assert_eq!(error.code(), "bad_url", "{url}");
    }
    let server = Server::start(pki.member("mops", 1).tls(), Limits::default()).await;
    call(&client, &server, "/hello?page=2").await.unwrap();
    server.stop().await;
    assert_eq!(
        refusal(&client, &Server::start(pki.member("css", 3).tls(), Limits::default()).await).await,
        "peer_wrong_member"
    );
}
