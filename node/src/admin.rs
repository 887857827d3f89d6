//! What whoever may write to the data directory can make a running node do: import, enrol, unenrol everybody, count shared
//! clients, take part in a key birth. A Unix socket of mode 0600; long work reports progress as JSON lines.

use crate::agreements::AgreeError;
use crate::bulk::{Progress, blocking};
use crate::enrol::{self, EnrolError};
use crate::events::{Event, Happened};
use crate::honeypots::{self, HoneypotError, HoneypotNumbers};
use crate::import::{ImportError, ImportRequest, import};
use crate::manifests::{RefreshError, Unrefreshed};
use crate::meters::AgreementUse;
use crate::node::{Node, NodeError, file};
use crate::shared::{self, SharedError, SharedOptions};
use crate::{ceremony, retention, review, unenrol};
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::unfold;
use protocol::agreement::{Agreement, AgreementRef};
use protocol::{Epoch, Reason, SignedManifest, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One line of the answer to a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Work goes on.
    Progress(Progress),
    /// Work is done; its summary.
    Done(Value),
    /// Work stopped.
    Failed {
        /// Stable code.
        code: String,
        /// For people.
        message: String,
    },
}

/// What a node says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Who.
    pub member: String,
    /// `ready`, or the code of why not.
    pub state: String,
    /// Manifest version, if any was accepted.
    pub manifest_version: Option<u64>,
    /// Its fingerprint.
    pub manifest_fingerprint: Option<String>,
    /// When it expires.
    pub manifest_expires: Option<Timestamp>,
    /// Pseudonym epoch in use.
    pub epoch: Option<u32>,
    /// Whether the registry was out of reach at the last attempt.
    pub registry_away: bool,
    /// Why the last attempt at a manifest failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrefreshed: Option<Unrefreshed>,
    /// Number of the revocation list held.
    pub crl_number: Option<u64>,
    /// When the certificate expires.
    pub certificate_expires: Timestamp,
    /// Residents on file.
    pub clients: u64,
    /// Log entries.
    pub log_entries: u64,
    /// How many of them others vouch for.
    pub cosigned: witness::Coverage,
    /// Messages waiting for delivery.
    pub outbox: u64,
    /// Epochs of which this node should hold a share of the key, and whether it holds the one the manifest lists.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<u32, bool>,
    /// Epochs under which everybody on file was enrolled once.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub enrolled: BTreeSet<Epoch>,
    /// The coming epoch under which clients are being enrolled now, and how far that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re_enrolling: Option<(u32, Progress)>,
    /// Peers' questions kept for a person to decide, or decided in the last days.
    pub approvals: u64,
    /// What others used of their agreements with this institution today.
    pub agreements: Vec<AgreementUse>,
}

/// Where the socket is.
#[must_use]
pub fn socket(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

/// Binds the socket. The node is open, so that nobody else's socket can be replaced: its data are locked.
pub(crate) fn bind(data: &Path) -> Result<UnixListener, NodeError> {
    let path = socket(data);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(file("cannot replace", &path)(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(file("cannot listen on", &path))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(file("cannot protect", &path))?;
    Ok(listener)
}

/// Serves the socket until `shutdown`.
pub(crate) async fn serve(
    listener: UnixListener,
    node: Arc<Node>,
    shutdown: CancellationToken,
) -> Result<(), NodeError> {
    let router = router(node).into_make_service_with_connect_info::<By>();
    let served = axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.cancelled().await });
    Ok(served.await?)
}

fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/import", post(run_import))
        .route("/enrol", post(run_enrol))
        .route("/retention", post(run_retention))
        .route("/unenrol", post(run_unenrol))
        .route("/shared", post(run_shared))
        .route("/honeypots", post(run_honeypots))
        .route("/agreements/assent", post(assent))
        .route("/agreements/revoke", post(revoke))
        .nest("/keyholder", ceremony::router())
        .layer(middleware::from_fn_with_state(node.clone(), recorded))
        // What comes below is not recorded. A refresh does only what the node does by itself, and may be what finds out that
        // the clock is wrong.
        .route("/status", get(status))
        .route("/manifest", get(manifest))
        .route("/refresh", post(refresh))
        .with_state(node)
}

/// The user of the machine who is at the other end of the socket.
#[derive(Clone, Copy)]
struct By(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for By {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        By(stream.io().peer_cred().ok().map(|who| who.uid()))
    }
}

/// Records what is done over the socket, before it is done; without that nothing is.
async fn recorded(
    State(node): State<Arc<Node>>,
    ConnectInfo(By(uid)): ConnectInfo<By>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let uid = uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
    let detail = format!("{} by uid {uid}", request.uri().path());
    match note(&node, detail).await {
        Ok(()) => next.run(request).await,
        Err(error) => stream(node, NodeError::code, |_, _| async move { Err::<(), _>(error) }),
    }
}

async fn note(node: &Node, detail: String) -> Result<(), NodeError> {
    node.now().map_err(|_| NodeError::Clock)?;
    let mut event = Event::new(Happened::AdminActed, &node.clock);
    event.detail = Some(detail);
    let _recorded = node.log.append(&event).await?;
    Ok(())
}

/// Where a command's progress goes.
pub(crate) type Reports = Box<dyn Fn(Progress) + Send + Sync>;

/// Sends lines while `work` goes on, and what came of it; `code` is that of a failure. A node that is closed for want of a
/// manifest says why it has none.
pub(crate) fn stream<T: Serialize, E: Display + 'static, Fut>(
    node: Arc<Node>,
    code: fn(&E) -> &'static str,
    work: impl FnOnce(Arc<Node>, Reports) -> Fut,
) -> Response
where
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    let (lines, receiver) = mpsc::unbounded_channel();
    let reports = lines.clone();
    let work = work(node.clone(), Box::new(move |progress| drop(reports.send(Line::Progress(progress)))));
    tokio::spawn(async move {
        let line = match work.await {
            Ok(summary) => Line::Done(serde_json::to_value(summary).unwrap_or(Value::Null)),
            Err(error) => {
                let code = code(&error);
                let closed = node.why_closed().filter(|_| code == Reason::NodeClosed.code());
                Line::Failed { code: code.to_owned(), message: closed.unwrap_or_else(|| error.to_string()) }
            }
        };
        // Whoever asked may have gone; the work is done all the same.
        let _gone = lines.send(line);
    });
    let lines = unfold(receiver, |mut receiver| async {
        let line = receiver.recv().await?;
        let mut text = serde_json::to_vec(&line).ok()?;
        text.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), receiver))
    });
    ([("content-type", "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// How something stands, or why that cannot be told.
pub(crate) fn standing<T: Serialize, E: Display>(found: Result<T, E>) -> Response {
    match found {
        Ok(found) => Json(found).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn run_import(State(node): State<Arc<Node>>, Json(request): Json<ImportRequest>) -> Response {
    stream(node, ImportError::code, |node, report| async move {
        let _one_at_a_time = node.bulk.lock().await;
        let worker = node.clone();
        let work = blocking(move || import(&worker, &request, &*report));
        node.whole.track_future(work).await.map_err(NodeError::from)?
    })
}

async fn run_enrol(State(node): State<Arc<Node>>) -> Response {
    stream(node, EnrolError::code, |node, report| async move { enrol::enrol(&node, &*report).await })
}

/// Whether records past their time are only counted.
#[derive(Deserialize)]
struct RetentionOptions {
    dry_run: bool,
}

async fn run_retention(State(node): State<Arc<Node>>, Query(options): Query<RetentionOptions>) -> Response {
    stream(node, NodeError::code, move |node, _| async move { retention::sweep_alone(&node, options.dry_run).await })
}

async fn run_unenrol(State(node): State<Arc<Node>>) -> Response {
    stream(node, EnrolError::code, |node, report| async move { unenrol::everybody(&node, &*report).await })
}

async fn run_shared(State(node): State<Arc<Node>>, Query(options): Query<SharedOptions>) -> Response {
    stream(node, SharedError::code, move |node, report| async move { shared::shared(&node, options, &*report).await })
}

async fn run_honeypots(State(node): State<Arc<Node>>, Json(asked): Json<HoneypotNumbers>) -> Response {
    stream(node, HoneypotError::code, |node, _| async move { honeypots::prepare(&node, asked).await })
}

async fn assent(State(node): State<Arc<Node>>, Json(terms): Json<Agreement>) -> Response {
    stream(node, AgreeError::code, |node, _| async move { node.assent(terms).await })
}

async fn revoke(State(node): State<Arc<Node>>, Json(agreement): Json<AgreementRef>) -> Response {
    stream(node, AgreeError::code, |node, _| async move { node.revoke_agreement(&agreement).await })
}

async fn refresh(State(node): State<Arc<Node>>) -> Response {
    stream(node, RefreshError::code, |node, _| async move {
        let changed = node.refresh().await?;
        review::round(&node).await;
        Ok(json!({ "changed": changed }))
    })
}

/// The manifest held, which this node checked; null if there is none.
async fn manifest(State(node): State<Arc<Node>>) -> Json<Option<SignedManifest>> {
    Json(node.held.load().as_ref().map(|held| held.signed.clone()))
}

async fn status(State(node): State<Arc<Node>>) -> Response {
    standing(node.status())
}
