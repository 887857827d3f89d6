//! Every stage of a connection ends by itself and holds up nobody else.

use crate::pki::Pki;
use crate::servers::{LONG, SHORT, Server, anonymous, call, connect, converse, get_request, read_all};
use bytes::Bytes;
use http::Request;
use rustls::version::TLS13;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use transport::{CallError, Client, Limits, ServerTls};

/// A one-way listener, for raw clients.
async fn local(limits: Limits) -> Server {
    let (cert, key) = Pki::new().mint("mops", 1, |_| ());
    Server::start(ServerTls::local(cert.as_bytes(), key.as_bytes()).unwrap(), limits).await
}

async fn mutual(limits: Limits) -> (Server, Client) {
    let pki = Pki::new();
    (Server::start(pki.member("mops", 1).tls(), limits).await, pki.member("pup", 2).client())
}

/// A refusal that says when to come back: its code.
fn shed(result: Result<http::Response<Bytes>, CallError>) -> String {
    match result {
        Err(CallError::Problem(problem)) if problem.status == 503 && problem.retry_after.is_some_and(|s| s > 0) => {
            assert!(problem.message.is_some(), "{problem:?}");
            problem.code
        }
        other => panic!("{other:?}"),
    }
}

fn problem(result: Result<http::Response<Bytes>, CallError>) -> (u16, String) {
    match result {
        Err(CallError::Problem(problem)) => {
            // A member that is no longer one is no person.
            assert!(problem.message.is_some() || problem.status == 403, "{problem:?}");
            (problem.status, problem.code)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_silent_client_is_cut_and_blocks_nobody() {
    let (server, client) = mutual(Limits { handshake: SHORT, ..Limits::default() }).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    call(&client, &server, "/hello").await.unwrap();
    assert_eq!(read_all(&mut silent).await, "");
    server.stop().await;
}

#[tokio::test]
async fn slow_headers_are_cut() {
    let server = local(Limits { header: SHORT, ..Limits::default() }).await;
    for (alpn, text) in
        [("http/1.1", ""), ("http/1.1", "GET /hello HTTP/1.1\r\nhost"), ("h2", ""), ("h2", "PRI * HTTP")]
    {
        let mut slow = connect(&server, Arc::new(anonymous(&TLS13, alpn))).await.unwrap();
        assert!(!converse(&mut slow, text).await.contains("200 OK"), "{alpn} {text:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let server = local(Limits { idle: SHORT, ..Limits::default() }).await;
    let mut stream = connect(&server, Arc::new(anonymous(&TLS13, "http/1.1"))).await.unwrap();
    let text = converse(&mut stream, "GET /wait/900 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(text.ends_with("done"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn large_bodies_are_refused_by_length_and_by_count() {
    let (server, client) = mutual(Limits { max_body: 1000, ..Limits::default() }).await;
    let post = |size: usize| Request::post("/echo").body(Bytes::from(vec![b'x'; size])).unwrap();
    let to = crate::pki::spiffe("mops");
    assert_eq!(client.call(&to, &server.url(), post(1000), LONG).await.unwrap().body().len(), 1000);
    let refused = client.call(&to, &server.url(), post(1001), LONG).await;
    assert_eq!(problem(refused), (413, "body_too_large".to_owned()));
    server.stop().await;

    let server = local(Limits { max_body: 1000, ..Limits::default() }).await;
    let mut stream = connect(&server, Arc::new(anonymous(&TLS13, "http/1.1"))).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
    let text = converse(&mut stream, &format!("{head}{chunk}{chunk}0\r\n\r\n")).await;
    assert!(text.starts_with("HTTP/1.1 413") && text.contains("body_too_large"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn large_headers_are_refused() {
    let (server, client) = mutual(Limits::default()).await;
    let request = Request::get("/hello").header("x-large", "x".repeat(100_000)).body(Bytes::new()).unwrap();
    client.call(&crate::pki::spiffe("mops"), &server.url(), request, LONG).await.unwrap_err();
    call(&client, &server, "/hello").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_long_request_is_ended() {
    let (server, client) = mutual(Limits { request: SHORT, ..Limits::default() }).await;
    assert_eq!(shed(call(&client, &server, "/wait/60000").await), "request_timeout");
    server.stop().await;
}

#[tokio::test]
async fn requests_past_the_limit_are_told_to_come_back() {
    let (server, client) = mutual(Limits { max_requests: 1, ..Limits::default() }).await;
    let client = Arc::new(client);
    let (url, first) = (server.url(), client.clone());
    let running = tokio::spawn(async move {
        first.call(&crate::pki::spiffe("mops"), &url, get_request("/wait/1500"), LONG).await.unwrap()
    });
    tokio::time::sleep(SHORT).await;
    assert_eq!(shed(call(&client, &server, "/hello").await), "busy");
    assert_eq!(running.await.unwrap().body(), "done");
    call(&client, &server, "/hello").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn connections_past_the_limit_wait_for_a_place() {
    let server = local(Limits { max_connections: 1, handshake: SHORT, ..Limits::default() }).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut stream = connect(&server, Arc::new(anonymous(&TLS13, "http/1.1"))).await.unwrap();
    let text = converse(&mut stream, "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(text.ends_with("hello"), "{text}");
    server.stop().await;
}

/// A peer that holds all connections it may have keeps out itself and nobody else.
#[tokio::test]
async fn one_peer_cannot_take_every_connection() {
    let pki = Pki::new();
    let limits = Limits { max_connections_per_peer: 1, ..Limits::default() };
    let server = Server::start(pki.member("mops", 1).tls(), limits).await;
    let (first, second, other) =
        (pki.member("pup", 2).client(), pki.member("pup", 3).client(), pki.member("css", 4).client());
    call(&first, &server, "/hello").await.unwrap();
    assert!(matches!(call(&second, &server, "/hello").await, Err(CallError::Connect(_) | CallError::Closed)));
    call(&other, &server, "/hello").await.unwrap();
    call(&first, &server, "/hello").await.unwrap();
    drop(first);
    while call(&second, &server, "/hello").await.is_err() {
        tokio::time::sleep(SHORT / 10).await;
    }
    server.stop().await;
}

/// A peer whose bodies never end holds its own share of the requests, over however many connections, and no more.
#[tokio::test]
async fn one_peer_cannot_take_every_request() {
    let pki = Pki::new();
    let limits = Limits { max_requests: 4, max_requests_per_peer: 2, request: LONG, ..Limits::default() };
    let server = Server::start(pki.member("mops", 1).tls(), limits).await;
    let (slow, again) = (Arc::new(pki.member("pup", 2).client()), Arc::new(pki.member("pup", 3).client()));
    let other = pki.member("css", 4).client();
    let mut running = vec![gated(&slow, &server).await, gated(&again, &server).await];
    for client in [&slow, &again] {
        assert_eq!(shed(call(client, &server, "/hello").await), "busy");
    }
    call(&other, &server, "/hello").await.unwrap();
    server.gate.notify_one();
    running.retain(|request| !request.is_finished());
    // One of the two has ended: there is a place again.
    while call(&slow, &server, "/hello").await.is_err() {
        tokio::time::sleep(SHORT / 10).await;
    }
    server.gate.notify_one();
    for request in running {
        assert_eq!(request.await.unwrap().unwrap().body(), "done");
    }
    server.stop().await;
}

/// Five times as much as it takes: the rest is told when to come back, who comes back is answered, and then all is as
/// before.
#[tokio::test]
async fn overload_is_shed_and_passes() {
    let pki = Pki::new();
    let limits = Limits { max_requests: 8, max_requests_per_peer: 4, ..Limits::default() };
    let server = Arc::new(Server::start(pki.member("mops", 1).tls(), limits).await);
    let refused = Arc::new(AtomicUsize::new(0));
    let mut callers = Vec::new();
    for (number, member) in ["pup", "css", "zlm", "mopr"].into_iter().enumerate() {
        let client = Arc::new(pki.member(member, number as u64 + 2).client());
        callers.extend((0..10).map(|_| {
            let (client, server, refused) = (client.clone(), server.clone(), refused.clone());
            tokio::spawn(async move {
                loop {
                    match call(&client, &server, "/wait/100").await {
                        Ok(answer) => return answer,
                        failed => assert_eq!(shed(failed), "busy"),
                    }
                    refused.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(SHORT / 5).await;
                }
            })
        }));
    }
    for caller in callers {
        assert_eq!(caller.await.unwrap().body(), "done");
    }
    assert!(refused.load(Ordering::SeqCst) >= 32, "forty came for eight places");
    let calm = pki.member("pup", 9).client();
    for _ in 0..8 {
        call(&calm, &server, "/hello").await.unwrap();
    }
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test]
async fn error_answers_are_problems_without_the_handlers_text() {
    let (server, client) = mutual(Limits::default()).await;
    assert_eq!(problem(call(&client, &server, "/nowhere").await), (404, "not_found".to_owned()));
    match call(&client, &server, "/conflict").await {
        Err(CallError::Problem(problem)) => assert!(!format!("{problem:?}").contains("9001"), "{problem:?}"),
        other => panic!("{other:?}"),
    }
    server.stop().await;
}

/// A call to `/gate` on its way; returns once the handler runs.
async fn gated(client: &Arc<Client>, server: &Server) -> JoinHandle<Result<http::Response<Bytes>, CallError>> {
    let (client, url) = (client.clone(), server.url());
    let running =
        tokio::spawn(async move { client.call(&crate::pki::spiffe("mops"), &url, get_request("/gate"), LONG).await });
    server.entered.notified().await;
    running
}

#[tokio::test]
async fn shutdown_lets_a_running_request_finish() {
    let (server, client) = mutual(Limits::default()).await;
    let running = gated(&Arc::new(client), &server).await;
    server.begin_stop();
    tokio::time::sleep(SHORT).await;
    assert!(!server.has_ended(), "while a request runs");
    assert!(TcpStream::connect(server.address).await.is_err(), "still listening");
    server.gate.notify_one();
    assert_eq!(running.await.unwrap().unwrap().body(), "done");
    server.stop().await;
}

#[tokio::test]
async fn shutdown_cuts_a_connection_that_is_already_closing() {
    let pki = Pki::new();
    let mops = pki.member("mops", 1);
    // Longer than the test waits.
    let limits = Limits { header: Duration::from_mins(5), drain: SHORT, ..Limits::default() };
    let server = Server::start(mops.tls(), limits).await;
    let client = Arc::new(pki.member("pup", 2).client());
    let running = gated(&client, &server).await;
    mops.trust.update_crl(&pki.crl(2, &[2])).unwrap();
    assert_eq!(problem(call(&client, &server, "/hello").await).0, 403);
    tokio::time::sleep(SHORT).await;
    server.stop().await;
    assert_eq!(running.await.unwrap().unwrap_err().code(), "connection_closed");
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_end() {
    let (server, client) = mutual(Limits { drain: SHORT, ..Limits::default() }).await;
    let url = server.url();
    let running =
        tokio::spawn(
            async move { client.call(&crate::pki::spiffe("mops"), &url, get_request("/wait/60000"), LONG).await },
        );
    tokio::time::sleep(SHORT).await;
    // An idle connection and an unfinished handshake must not hold it up either.
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(&[22, 3, 1]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(15), server.stop()).await.expect("stops");
    assert_eq!(running.await.unwrap().unwrap_err().code(), "connection_closed");
}
