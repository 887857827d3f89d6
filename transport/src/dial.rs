//! Making a connection to one member.

use crate::verifier::from_rustls;
use crate::{PeerIdentity, TrustError};
use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use protocol::Problem;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

/// A peer that answers no ping for this long while a request runs is gone.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call to a member gave no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Not answered in time.
    #[error("no answer within the deadline")]
    Deadline,
    /// The base URL is not `https://host[:port]`, or the request cannot be built on it.
    #[error("not an https://host:port URL")]
    BadUrl,
    /// No TCP connection.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// We do not trust the peer, or nobody for want of a current CRL.
    #[error("the peer is not trusted")]
    Untrusted(#[source] TrustError),
    /// The peer does not trust us: it ended the handshake with an alert (RFC 8446 §6.2).
    #[error("the peer refused our certificate or connection")]
    Refused(#[source] rustls::Error),
    /// TLS failed otherwise.
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    /// The connection ended before the answer did. The peer may have acted on the request.
    #[error("the connection was closed")]
    Closed,
    /// The answer is larger than the client takes.
    #[error("the answer is too large")]
    TooLarge,
    /// The peer answered with a problem document.
    #[error("the peer answered with a problem: {}", .0.code)]
    Problem(Box<Problem>),
    /// The peer answered with a status other than 2xx and no problem document.
    #[error("the peer answered with status {0}")]
    Status(u16),
}

impl CallError {
    /// Stable code; for a problem, the peer's own.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            CallError::Deadline => "deadline",
            CallError::BadUrl => "bad_url",
            CallError::Connect(_) => "connect_failed",
            CallError::Untrusted(reason) => reason.code(),
            CallError::Refused(_) => "refused_by_peer",
            CallError::Tls(_) => "tls_failed",
            CallError::Closed => "connection_closed",
            CallError::TooLarge => "answer_too_large",
            CallError::Problem(problem) => &problem.code,
            CallError::Status(_) => "unexpected_status",
        }
    }
}

pub(crate) type Sender = http2::SendRequest<Full<Bytes>>;

/// An open HTTP/2 connection to a verified peer.
pub(crate) struct Dialled {
    pub(crate) sender: Sender,
    pub(crate) peer: PeerIdentity,
    task: AbortHandle,
}

impl Dialled {
    /// Ends the connection and every request on it.
    pub(crate) fn cut(&self) {
        self.task.abort();
    }
}

/// Connects to the host of `base` and completes both sides of the handshake.
pub(crate) async fn dial(base: &Uri, config: ClientConfig) -> Result<Dialled, CallError> {
    let host = base.host().ok_or(CallError::BadUrl)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, base.port_u16().unwrap_or(443))).await.map_err(CallError::Connect)?;
    let address = stream.peer_addr().map_err(CallError::Connect)?;
    stream.set_nodelay(true).map_err(CallError::Connect)?;

    // The verifier goes by the SPIFFE id alone; rustls wants some name.
    let name = ServerName::IpAddress(address.ip().into());
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(tls_error)?;
    // In TLS 1.3 the client is done before the server has looked at its certificate. A server's first HTTP/2 bytes
    // (RFC 9113 §3.4) say that it took it; otherwise its alert comes here and not as a broken request.
    if tls.fill_buf().await.map_err(tls_error)?.is_empty() {
        return Err(CallError::Closed);
    }
    let session = tls.get_ref().1;
    if session.alpn_protocol() != Some(b"h2") {
        return Err(CallError::Tls(io::Error::other("the peer does not speak HTTP/2")));
    }
    let leaf = session.peer_certificates().and_then(|chain| chain.first()).ok_or(CallError::Closed)?;
    let peer = PeerIdentity::from_certificate(leaf).map_err(CallError::Untrusted)?;

    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(tls))
        .await
        .map_err(|_| CallError::Closed)?;
    // Ends by itself when the peer closes or the last sender is dropped; requests see its errors.
    let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
    Ok(Dialled { sender, peer, task })
}

fn tls_error(error: io::Error) -> CallError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(alert @ rustls::Error::AlertReceived(_)) => CallError::Refused(alert.clone()),
        Some(ours) => from_rustls(ours).map_or(CallError::Tls(error), CallError::Untrusted),
        None if error.kind() == io::ErrorKind::InvalidData => CallError::Tls(error),
        None => CallError::Connect(error),
    }
}
