//! One connection: handshake, requests, end.

use crate::places::Places;
use crate::request::respond;
use crate::verifier::from_rustls;
use crate::{Limits, PeerIdentity, ServerTls, Trust};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What all connections of a listener share.
pub(crate) struct Listener {
    pub(crate) router: Router,
    pub(crate) trust: Option<Arc<Trust>>,
    pub(crate) limits: Limits,
    /// One permit a running request.
    pub(crate) requests: Semaphore,
    /// Requests running, by peer.
    pub(crate) running: Places,
    /// Connections and their HTTP/2 streams.
    pub(crate) tasks: TaskTracker,
    /// Connections by peer.
    places: Places,
    acceptor: TlsAcceptor,
    http1: auto::Builder<Streams>,
    http2: auto::Builder<Streams>,
    /// No new requests; running ones may end.
    drain: CancellationToken,
    /// Everything ends.
    stop: CancellationToken,
}

impl Listener {
    pub(crate) fn new(tls: ServerTls, router: Router, limits: Limits, drain: CancellationToken) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let builder = http(Streams { tasks: tasks.clone(), stop: stop.clone() }, &limits);
        Listener {
            // Ours is the limit; a route may set a lower one of its own.
            router: router.layer(DefaultBodyLimit::disable()),
            trust: tls.trust,
            requests: Semaphore::new(limits.max_requests),
            running: Places::default(),
            tasks,
            places: Places::default(),
            acceptor: TlsAcceptor::from(tls.config),
            http1: builder.clone().http1_only(),
            http2: builder.http2_only(),
            drain,
            stop,
            limits,
        }
    }

    /// Waits for the connections, then cuts those that outlast the drain limit.
    pub(crate) async fn finish(&self) {
        self.tasks.close();
        if timeout(self.limits.drain, self.tasks.wait()).await.is_err() {
            tracing::warn!(code = "drain_cut", "requests were cut at shutdown");
            self.stop.cancel();
            self.tasks.wait().await;
        }
    }
}

fn http(streams: Streams, limits: &Limits) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    let max_headers = usize::try_from(limits.max_headers).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        // hyper refuses a buffer below 8 KiB.
        .max_buf_size(max_headers.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.idle / 2)
        .keep_alive_timeout(limits.header)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_headers);
    builder
}

/// Runs HTTP/2 streams so that the listener can wait for them and end them.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(stream).await });
    }
}

/// Whether a connection is in use, and whether it should end.
pub(crate) struct Activity {
    start: Instant,
    running: AtomicUsize,
    /// Milliseconds after `start` of the last sign of life; 0 before the first request.
    last: AtomicU64,
    close: CancellationToken,
}

impl Activity {
    fn new() -> Self {
        Activity {
            start: Instant::now(),
            running: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            close: CancellationToken::new(),
        }
    }

    /// Counts a request as running until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::SeqCst);
        self.touch();
        Running(self.clone())
    }

    pub(crate) fn touch(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed.max(1), Ordering::SeqCst);
    }

    /// Asks for the connection to end after the requests it carries now.
    pub(crate) fn close(&self) {
        self.close.cancel();
    }

    /// Returns when the first request is overdue or nothing has moved for too long.
    async fn quiet(&self, limits: &Limits) {
        // Whichever limit counts changes with the first request, so neither is slept through.
        let tick = limits.header.min(limits.idle);
        loop {
            let last = self.last.load(Ordering::SeqCst);
            let limit = if last == 0 { limits.header } else { limits.idle };
            let since = self.start.elapsed().saturating_sub(Duration::from_millis(last));
            let left = limit.saturating_sub(since);
            let running = self.running.load(Ordering::SeqCst) > 0;
            if left.is_zero() && !running {
                return;
            }
            sleep(if running { tick } else { left.min(tick) }).await;
        }
    }
}

/// A request in progress.
pub(crate) struct Running(pub(crate) Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.touch();
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes an accepted connection to its end.
pub(crate) async fn run(listener: Arc<Listener>, stream: TcpStream) {
    let from = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
    // Answers are small and waited for; failing to set this costs only time.
    let _ = stream.set_nodelay(true);
    let handshake = timeout(listener.limits.handshake, listener.acceptor.accept(stream));
    let stream = match listener.drain.run_until_cancelled(handshake).await {
        None => return,
        Some(Err(_)) => return tracing::debug!(from, code = "handshake_timeout", "handshake not finished in time"),
        Some(Ok(Err(error))) => return refused(&from, &error),
        Some(Ok(Ok(stream))) => stream,
    };
    let peer = match (&listener.trust, peer_of(&stream)) {
        (None, _) => None,
        (Some(_), Some(peer)) => Some(peer),
        // The verifier read the same certificate a moment ago.
        (Some(_), None) => return tracing::error!(from, code = "peer_lost", "a verified peer has no certificate"),
    };
    let most = listener.limits.max_connections_per_peer;
    let _place = match &peer {
        None => None,
        Some(peer) => match listener.places.take(peer.spiffe.member(), most) {
            Some(place) => Some(place),
            None => {
                return tracing::warn!(from, member = %peer.spiffe.member(), code = "too_many_connections", "a peer was refused");
            }
        },
    };
    converse(&listener, stream, peer).await;
}

async fn converse(listener: &Arc<Listener>, stream: TlsStream<TcpStream>, peer: Option<PeerIdentity>) {
    let builder = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => &listener.http2,
        _ => &listener.http1,
    };
    let activity = Arc::new(Activity::new());
    let service = service_fn(|request| respond(listener.clone(), activity.clone(), peer.clone(), request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let patience = tokio::select! {
        // An error here is the peer's: it went away or broke the protocol.
        _ = connection.as_mut() => return,
        () = listener.drain.cancelled() => listener.limits.drain,
        () = activity.close.cancelled() => listener.limits.header,
        () = activity.quiet(&listener.limits) => listener.limits.header,
    };
    connection.as_mut().graceful_shutdown();
    let last = Instant::now() + patience;
    tokio::select! {
        _ = connection => {}
        () = listener.stop.cancelled() => {}
        () = sleep_until(last) => {}
    }
}

fn peer_of(stream: &TlsStream<TcpStream>) -> Option<PeerIdentity> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    PeerIdentity::from_certificate(leaf).ok()
}

fn refused(from: &str, error: &io::Error) {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).and_then(from_rustls);
    if let Some(reason) = reason {
        tracing::warn!(from, code = reason.code(), %reason, "a peer was refused");
    } else {
        tracing::debug!(from, code = "handshake_failed", %error, "handshake failed");
    }
}
