//! The registry, as a node uses it: publish own entries, find who else knows a resident, hear what it noticed.

use crate::bulk::Passing as _;
use crate::faults::Fault;
use crate::manifests::Held;
use crate::node::Node;
use bytes::Bytes;
use http::{Method, Request, Response};
use keyring::random;
use protocol::encoding::Bytes as B64;
use protocol::jws::{self, Envelope, JwsError};
use protocol::manifest::KeyUse;
use protocol::registry::{EntriesAnswer, EntriesRequest, LocateAnswer, LocateRequest, Located, PutEntry};
use protocol::review::{ReviewAnswer, ReviewRequest};
use protocol::{Epoch, Index, MemberId, Problem, Purpose, Reason, Timestamp};
use pseudonym::{ENTRY_BYTES, Entry, SealKey};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::time::Duration;
use transport::CallError;

const DEADLINE: Duration = Duration::from_secs(30);

/// Why the registry gave nothing to use.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It is out of reach.
    #[error("the registry cannot be reached: {0}")]
    Unreachable(#[source] CallError),
    /// It refuses, or is not ready.
    #[error("the registry refuses: {} ({})", .0.title, .0.code)]
    Refused(Box<Problem>),
    /// No address is known.
    #[error("no address of the registry is known")]
    NoAddress,
    /// It answered something else.
    #[error("the registry's answer is not of the expected shape")]
    Malformed,
    /// A request could not be signed.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// The operating system refused.
    #[error("the operating system refused: {0}")]
    System(#[from] std::io::Error),
}

impl RegistryError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            RegistryError::Unreachable(_) | RegistryError::NoAddress => "registry_unavailable",
            RegistryError::Refused(_) => "registry_refused",
            RegistryError::Malformed => "registry_malformed",
            RegistryError::Jws(_) | RegistryError::System(_) => "system",
        }
    }

    /// What the caller is told.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            // What the registry says of one user's quota is for the user; the rest is the operator's.
            RegistryError::Refused(problem) if [409, 429].contains(&problem.status) => Fault::by_registry(problem),
            _ => {
                let problem = Problem::because(503, Reason::RegistryUnavailable).detail(self.to_string());
                Problem { retry_after: self.retry_after(), ..problem }
            }
        }
    }
}

/// Publishes and removes entries in one batch.
pub(crate) async fn write_entries(
    node: &Node,
    held: &Held,
    epoch: Epoch,
    audience: BTreeSet<MemberId>,
    put: Vec<PutEntry>,
    delete: Vec<Index>,
) -> Result<EntriesAnswer, RegistryError> {
    let request = EntriesRequest {
        iss: node.config.member.clone(),
        iat: node.clock.now(),
        jti: B64(random::<16>()?.to_vec()),
        manifest: held.reference(),
        epoch,
        audience,
        put,
        delete,
    };
    send(node, Method::PUT, "/v1/entries", &request).await
}

/// Asks which other members know these residents, in their order.
pub(crate) async fn locate(
    node: &Node,
    held: &Held,
    epoch: Epoch,
    purpose: &Purpose,
    tickets: bool,
    indexes: Vec<Index>,
) -> Result<Vec<Located>, RegistryError> {
    let asked = indexes.len();
    let request = LocateRequest {
        iss: node.config.member.clone(),
        iat: node.clock.now(),
        jti: B64(random::<16>()?.to_vec()),
        manifest: held.reference(),
        epoch,
        purpose: purpose.clone(),
        tickets,
        indexes,
    };
    let answer: LocateAnswer = send(node, Method::POST, "/v1/locate", &request).await?;
    if answer.found.len() == asked { Ok(answer.found) } else { Err(RegistryError::Malformed) }
}

/// Asks what is new in our review queue.
pub(crate) async fn read_review(node: &Node, held: &Held, after: Option<B64>) -> Result<ReviewAnswer, RegistryError> {
    let request = ReviewRequest {
        iss: node.config.member.clone(),
        iat: node.clock.now(),
        jti: B64(random::<16>()?.to_vec()),
        manifest: held.reference(),
        after,
    };
    send(node, Method::POST, "/v1/review", &request).await
}

async fn send<T: Envelope, R: DeserializeOwned>(
    node: &Node,
    method: Method,
    path: &str,
    message: &T,
) -> Result<R, RegistryError> {
    let body = Bytes::from(jws::sign(&node.keys.message, message)?);
    let mut last = RegistryError::NoAddress;
    for url in node.registry_urls() {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .body(body.clone())
            .map_err(|_| RegistryError::Malformed)?;
        match call(node, &url, request).await {
            Ok(answer) => return serde_json::from_slice(answer.body()).map_err(|_| RegistryError::Malformed),
            // This process cannot just now: another one over the same index may.
            Err(CallError::Problem(problem)) if problem.status == 503 => last = RegistryError::Refused(problem),
            // The one before did it and could not say so: whoever tries again later sends another request.
            Err(CallError::Problem(problem))
                if problem.code == "request_replayed" && !matches!(last, RegistryError::NoAddress) =>
            {
                return Err(last);
            }
            Err(CallError::Problem(problem)) => return Err(RegistryError::Refused(problem)),
            Err(error) => last = RegistryError::Unreachable(error),
        }
    }
    Err(last)
}

/// Sends a request; to a registry that does not know our manifest yet once more, after the manifest.
async fn call(node: &Node, url: &str, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
    let again = request.clone();
    let refused = match node.client.call(&node.registry_id(), url, request, DEADLINE).await {
        Err(CallError::Problem(problem)) if problem.code == "manifest_unknown" => problem,
        answer => return answer,
    };
    let Some(held) = node.held.load_full() else { return Err(CallError::Problem(refused)) };
    if let Err(error) = node.bring_manifest(url, &held).await {
        tracing::warn!(%error, "the registry does not take our manifest");
        return Err(CallError::Problem(refused));
    }
    node.client.call(&node.registry_id(), url, again, DEADLINE).await
}

/// Our own entry for a resident, sealed so that only who knows the resident's pseudonym can read it.
pub(crate) fn seal_entry(
    node: &Node,
    epoch: Epoch,
    index: Index,
    seal: &SealKey,
    (issued, expires): (Timestamp, Timestamp),
) -> Option<PutEntry> {
    let entry = Entry {
        epoch: epoch.0,
        index: index.0,
        member: node.config.member.as_str().to_owned(),
        issued: issued.0,
        expires: expires.0,
        purpose: ENROLMENT.to_owned(),
        case_mac: [0; 32],
    };
    let plain = entry.encode(node.config.realm.as_str(), |message| node.keys.entry.sign(message)).ok()?;
    let sealed = seal.seal(&plain, &mut rand_core::UnwrapErr(getrandom::SysRng));
    Some(PutEntry { index, sealed: B64(sealed.to_vec()), expires, provisional: None })
}

/// The purpose under which clients are enrolled and shared clients counted.
pub(crate) const ENROLMENT: &str = "record-management";

/// The members whose sealed entries these are: each opens under `seal`, names this index and epoch, is live and signed.
pub(crate) fn open_entries(
    held: &Held,
    epoch: Epoch,
    index: &Index,
    seal: &SealKey,
    entries: &[B64],
    now: Timestamp,
) -> BTreeSet<MemberId> {
    let realm = held.manifest.realm.as_str();
    let open = |sealed: &B64| -> Option<MemberId> {
        let plain: [u8; ENTRY_BYTES] = seal.open(&sealed.0).ok()?;
        let signed_by = |member: &str, message: &[u8], signature: &[u8; 64]| {
            let Ok(member) = member.parse::<MemberId>() else { return false };
            held.manifest.keys_of(&member, KeyUse::Entry, now).any(|key| key.verifies(message, signature))
        };
        let entry = Entry::decode(&plain, realm, signed_by).ok()?;
        let ours = entry.index == index.0 && entry.epoch == epoch.0 && now.0 <= entry.expires;
        if ours { entry.member.parse().ok() } else { None }
    };
    let members: BTreeSet<MemberId> = entries.iter().filter_map(open).collect();
    if members.len() < entries.len() {
        tracing::warn!(unusable = entries.len() - members.len(), "the registry gave entries that do not verify");
    }
    members
}
