//! Calls to other members over pooled HTTP/2 connections.

use crate::dial::{CallError, Dialled, dial};
use crate::problem::is_problem;
use crate::trust::Freshness;
use crate::{Clock, IdentityStore, Trust, tls};
use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use protocol::{Problem, SpiffeId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A connection not used for this long is left, before the server's idle limit would cut it under a request.
const KEEP: Duration = Duration::from_secs(30);
/// Bytes of an answer unless told otherwise.
const MAX_ANSWER: usize = 16 << 20;

/// Sees the plaintext of every call and answer as it leaves or enters this end: path and query, then body. For tests that search
/// them for what must not cross.
pub type Tap = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Calls members. Holds one multiplexed connection per (member, URL), dialled when needed; concurrent calls share it.
pub struct Client {
    identity: Arc<IdentityStore>,
    trust: Arc<Trust>,
    clock: Clock,
    max_answer: usize,
    tap: Option<Tap>,
    pool: Mutex<HashMap<(SpiffeId, Uri), Arc<Slot>>>,
}

/// Locked while dialling, so that others wait for that connection instead of making their own.
type Slot = tokio::sync::Mutex<Option<Arc<Pooled>>>;

struct Pooled {
    dialled: Dialled,
    /// Our certificate when it was dialled.
    own: [u8; 32],
    used: Mutex<Instant>,
    /// A call ran into its deadline here; the peer may be gone without a word.
    suspect: AtomicBool,
}

impl Client {
    /// A client that proves itself by `identity` and believes whom `trust` believes.
    #[must_use]
    pub fn new(identity: Arc<IdentityStore>, trust: Arc<Trust>, clock: Clock) -> Self {
        Client { identity, trust, clock, max_answer: MAX_ANSWER, tap: None, pool: Mutex::default() }
    }

    /// The same taking answers of at most `bytes` (16 MiB otherwise).
    #[must_use]
    pub fn max_answer(mut self, bytes: usize) -> Self {
        self.max_answer = bytes;
        self
    }

    /// The same showing everything to `tap`.
    #[must_use]
    pub fn tap(mut self, tap: Option<Tap>) -> Self {
        self.tap = tap;
        self
    }

    /// Sends `request` (its method, path, query, headers and body) to the member `to` at `base_url`
    /// (`https://host[:port]`) and reads the whole answer within `deadline`, connecting included. Only a 2xx answer
    /// is `Ok`.
    ///
    /// # Errors
    /// See [`CallError`]. A request is sent again only if the pooled connection ended before it was sent at all.
    pub async fn call(
        &self,
        to: &SpiffeId,
        base_url: &str,
        request: Request<Bytes>,
        deadline: Duration,
    ) -> Result<Response<Bytes>, CallError> {
        successful(self.exchange(to, base_url, request, deadline).await?)
    }

    /// As [`Client::call`], for protocols whose other answers say something too: any status is `Ok`.
    ///
    /// # Errors
    /// See [`CallError`]; neither `Problem` nor `Status`.
    pub async fn exchange(
        &self,
        to: &SpiffeId,
        base_url: &str,
        request: Request<Bytes>,
        deadline: Duration,
    ) -> Result<Response<Bytes>, CallError> {
        let base = parse_base(base_url)?;
        self.show(request.uri().path_and_query().map_or("/", PathAndQuery::as_str).as_bytes());
        self.show(request.body());
        let request = absolute(&base, request)?;
        let mut used = None;
        let answered = timeout(deadline, self.attempt(to, &base, request, &mut used)).await;
        if let Ok(Ok(answer)) = &answered {
            self.show(answer.body());
        }
        if answered.is_err()
            && let Some(pooled) = used
        {
            pooled.suspect.store(true, Ordering::SeqCst);
        }
        answered.unwrap_or(Err(CallError::Deadline))
    }

    /// Gets `path` from `to` as text over a connection of its own that does without a current CRL: the way out for a
    /// node whose CRL went stale. For the CRL alone, which [`Trust::update_crl`] verifies by itself; chain, member
    /// and the revocations known are still checked.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn fetch_crl(
        &self,
        to: &SpiffeId,
        base_url: &str,
        path: &str,
        deadline: Duration,
    ) -> Result<String, CallError> {
        let base = parse_base(base_url)?;
        let request = Request::get(path).body(Bytes::new()).map_err(|_| CallError::BadUrl)?;
        let request = absolute(&base, request)?;
        let fetch = async {
            let mut dialled = self.dial(to, &base, Freshness::ForCrlFetch).await?;
            let response = dialled.sender.send_request(request).await.map_err(|_| CallError::Closed)?;
            let answer = successful(self.read(response).await?)?.into_body();
            String::from_utf8(answer.into()).map_err(|_| CallError::Closed)
        };
        timeout(deadline, fetch).await.unwrap_or(Err(CallError::Deadline))
    }

    fn show(&self, plaintext: &[u8]) {
        if let Some(tap) = &self.tap {
            tap(plaintext);
        }
    }

    async fn attempt(
        &self,
        to: &SpiffeId,
        base: &Uri,
        mut request: Request<Full<Bytes>>,
        used: &mut Option<Arc<Pooled>>,
    ) -> Result<Response<Bytes>, CallError> {
        let mut again = true;
        loop {
            let pooled = self.connection(to, base).await?;
            let mut sender = pooled.dialled.sender.clone();
            *used = Some(pooled);
            match sender.try_send_request(request).await {
                Ok(response) => return self.read(response).await,
                Err(mut error) => match error.take_message() {
                    // It came back unsent: the connection ended while it waited in our own queue.
                    Some(unsent) if again => (request, again) = (unsent, false),
                    _ => return Err(CallError::Closed),
                },
            }
        }
    }

    /// The pooled connection if it can still be used, or a new one.
    async fn connection(&self, to: &SpiffeId, base: &Uri) -> Result<Arc<Pooled>, CallError> {
        let slot = {
            let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
            pool.entry((to.clone(), base.clone())).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(pooled) = slot.as_ref() {
            if let Err(error) = self.trust.check(&pooled.dialled.peer) {
                pooled.dialled.cut();
                *slot = None;
                return Err(CallError::Untrusted(error));
            }
            if self.usable(pooled) {
                return Ok(pooled.clone());
            }
        }
        // Requests still running on the old connection keep it until they end.
        *slot = None;
        let own = self.identity.current().cert_sha256();
        let dialled = self.dial(to, base, Freshness::Required).await?;
        let used = Mutex::new(Instant::now());
        let pooled = Arc::new(Pooled { dialled, own, used, suspect: AtomicBool::new(false) });
        Ok(slot.insert(pooled).clone())
    }

    fn usable(&self, pooled: &Pooled) -> bool {
        let mut used = pooled.used.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = used.elapsed();
        *used = Instant::now();
        idle < KEEP
            && !pooled.dialled.sender.is_closed()
            && !pooled.suspect.load(Ordering::SeqCst)
            && pooled.own == self.identity.current().cert_sha256()
    }

    async fn dial(&self, to: &SpiffeId, base: &Uri, freshness: Freshness) -> Result<Dialled, CallError> {
        let config = tls::client(self.trust.clone(), self.identity.clone(), &self.clock, to.clone(), freshness)
            .map_err(|error| CallError::Tls(std::io::Error::other(error)))?;
        dial(base, config).await
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Response<Bytes>, CallError> {
        let (parts, body) = response.into_parts();
        let body = match Limited::new(body, self.max_answer).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(CallError::TooLarge),
            Err(_) => return Err(CallError::Closed),
        };
        Ok(Response::from_parts(parts, body))
    }
}

fn successful(answer: Response<Bytes>) -> Result<Response<Bytes>, CallError> {
    if answer.status().is_success() {
        Ok(answer)
    } else {
        Err(unsuccessful(answer.status(), answer.headers(), answer.body()))
    }
}

fn unsuccessful(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> CallError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if is_problem(headers) => CallError::Problem(Box::new(problem)),
        _ => CallError::Status(status.as_u16()),
    }
}

fn parse_base(base_url: &str) -> Result<Uri, CallError> {
    let base: Uri = base_url.parse().map_err(|_| CallError::BadUrl)?;
    let no_path = base.path_and_query().is_none_or(|path| path == "/");
    if base.scheme() == Some(&Scheme::HTTPS) && base.host().is_some() && no_path {
        Ok(base)
    } else {
        Err(CallError::BadUrl)
    }
}

/// HTTP/2 needs the whole URI (RFC 9113 §8.3.1).
fn absolute(base: &Uri, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, CallError> {
    let (mut parts, body) = request.into_parts();
    let mut uri = base.clone().into_parts();
    uri.path_and_query = Some(parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    parts.uri = Uri::from_parts(uri).map_err(|_| CallError::BadUrl)?;
    parts.version = Version::HTTP_2;
    Ok(Request::from_parts(parts, Full::new(body)))
}
