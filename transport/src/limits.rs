//! How much one listener gives to whom, and for how long.

use std::time::Duration;

/// Bounds of one listener. Every stage of a connection ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From accepting a connection to the end of the TLS handshake. Default 10 s.
    pub handshake: Duration,
    /// From the handshake, or the start of an HTTP/1.1 request, to complete headers. Default 10 s.
    pub header: Duration,
    /// Without a request in progress or a byte of an answer moving, a connection is closed. Longer than a
    /// [`Client`](crate::Client) keeps one, so that the client goes first. Default 60 s.
    pub idle: Duration,
    /// From a request's headers to the start of its answer, reading its body included. Then 503 `request_timeout`.
    /// Default 60 s.
    pub request: Duration,
    /// At shutdown, running requests may take this long. Default 10 s.
    pub drain: Duration,
    /// Bytes of a request body. More is 413 `body_too_large`. Default 8 MiB.
    pub max_body: usize,
    /// Connections open at once, handshakes included; more wait in the kernel's queue. Default 1024.
    pub max_connections: usize,
    /// Connections of one peer open at once, over mutual TLS; one more is closed after its handshake. Default 64.
    pub max_connections_per_peer: usize,
    /// HTTP/2 streams open at once on one connection. Default 128.
    pub max_streams: u32,
    /// Requests running at once over all connections; more get 503 `busy`. Default 1024.
    pub max_requests: usize,
    /// Requests of one peer running at once over all its connections, over mutual TLS; more get 503 `busy`, so that a slow
    /// or hostile one leaves room for the others. Default 128.
    pub max_requests_per_peer: usize,
    /// Bytes of the headers of one request. Default 32 KiB.
    pub max_headers: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            request: Duration::from_mins(1),
            drain: Duration::from_secs(10),
            max_body: 8 << 20,
            max_connections: 1024,
            max_connections_per_peer: 64,
            max_streams: 128,
            max_requests: 1024,
            max_requests_per_peer: 128,
            max_headers: 32 << 10,
        }
    }
}
