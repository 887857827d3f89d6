//! A slow, greedy or hostile member takes nothing from others.

use crate::federation::{Federation, MEMBERS, NOW, member};
use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::stream;
use protocol::SpiffeId;
use std::task::Poll;
use tower::ServiceExt as _;
use transport::PeerIdentity;

async fn with(shares: impl FnOnce(&mut registry::Shares)) -> Federation {
    let mut federation = Federation::unpublished().await;
    shares(&mut federation.config.shares);
    federation.restart().await;
    federation.registry().publish(federation.manifest.clone()).await.unwrap();
    federation
}

#[tokio::test]
async fn requests_that_never_end_fill_their_members_places_only() {
    let federation = with(|shares| shares.requests = 3).await;
    let (waiting, mut waited) = tokio::sync::mpsc::unbounded_channel();
    let slow = || {
        let peer = PeerIdentity {
            spiffe: SpiffeId::new(federation.config.realm.clone(), member("mops")),
            cert_sha256: [0; 32],
            serial: vec![1],
            not_after: NOW + 1000,
        };
        let waiting = waiting.clone();
        let body = Body::from_stream(stream::poll_fn(move |_| {
            let _told = waiting.send(());
            Poll::<Option<Result<Bytes, std::io::Error>>>::Pending
        }));
        let request = Request::builder().method("POST").uri("/v1/locate").extension(peer).body(body).unwrap();
        tokio::spawn(federation.registry().clone().router().oneshot(request))
    };
    let hanging = [slow(), slow(), slow()];
    // Each has its place once its body is waited for.
    for _ in &hanging {
        waited.recv().await.unwrap();
    }
    let locate =
        async |asker: &str| federation.send("POST", "/v1/locate", &federation.locate_request(asker, &[1])).await;
    let refused = locate("mops").await;
    refused.refused("busy");
    assert_eq!(refused.problem().retry_after, Some(1));
    assert_eq!(locate("pup").await.status, 200);
    // When they are cut, there is room again.
    for request in hanging {
        request.abort();
        let _cut = request.await;
    }
    assert_eq!(locate("mops").await.status, 200);
}

#[tokio::test]
async fn whoever_sends_more_than_its_share_waits() {
    let federation = with(|shares| shares.indexes_per_second = 10).await;
    let all: Vec<u8> = (0..100).collect();
    federation.put("mops", &all, &MEMBERS).await;
    let refused = federation.send("PUT", "/v1/entries", &federation.put_request("mops", &all[..20], &MEMBERS)).await;
    refused.refused("rate_exceeded");
    assert_eq!(refused.problem().retry_after, Some(3));
    federation.put("pup", &all, &MEMBERS).await;
    federation.clock.advance(3);
    federation.put("mops", &all[..20], &MEMBERS).await;
}
