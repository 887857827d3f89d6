//! What the institution's own applications may call, with a token of its identity provider. Describes itself at
//! `/openapi.json`.

use crate::ask::{AskError, QueryBody, QueryResult, ask};
use crate::consents::{self, ConsentBody, ConsentReceipt};
use crate::node::Node;
use crate::results;
use crate::tokens::{Caller, TokenError};
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Json, Router};
use protocol::encoding::sha256;
use protocol::{ConsentId, Problem, Reason};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use transport::ProblemResponse;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

type Answer<T> = Result<T, ProblemResponse>;

/// RFC 9457 problem details.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
struct ProblemSchema {
    /// `urn:ogniwo:problem:<code>`.
    r#type: String,
    /// One line.
    title: String,
    /// HTTP status.
    status: u16,
    /// What to do.
    detail: Option<String>,
    /// Stable code.
    code: String,
    /// The field of the request at fault.
    field: Option<String>,
    /// Seconds to wait.
    retry_after: Option<u64>,
}

/// Whether the node is up.
#[derive(Serialize, Deserialize, ToSchema)]
struct Health {
    /// `live`, `ready` or `closed`.
    status: String,
    /// Why it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Ogniwo local API", description = "For an institution's own applications: ask other units about a \
        resident this institution serves, record and withdraw consents."),
    modifiers(&Bearer),
    components(schemas(ProblemSchema))
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = api.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Routes for the institution's applications.
pub(crate) fn router(node: Arc<Node>) -> Router {
    let (router, description) = described().with_state(node).split_for_parts();
    router.route("/openapi.json", axum::routing::get(move || async move { Json(description) }))
}

/// The API's description, as served at `/openapi.json`.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

fn described() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(put_query))
        .routes(routes!(get_query))
        .routes(routes!(record_consent))
        .routes(routes!(get_consent))
        .routes(routes!(withdraw_consent))
        .routes(routes!(live))
        .routes(routes!(ready))
}

impl FromRequestParts<Arc<Node>> for Caller {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Answer<Self> {
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let tokens = node.tokens.as_ref().ok_or(TokenError::UnknownKey).map_err(TokenError::problem)?;
        Ok(tokens.caller(authorization, node.clock.now()).await.map_err(TokenError::problem)?)
    }
}

/// A JSON body whose faults are problems that name the field and never repeat a value.
struct Body<T>(T);

impl<T: serde::de::DeserializeOwned> FromRequest<Arc<Node>> for Body<T> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, node: &Arc<Node>) -> Answer<Self> {
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !media.starts_with("application/json") {
            return Err(Problem::new(415, "media_type", "The body must be application/json").into());
        }
        let bytes = axum::body::Bytes::from_request(request, node)
            .await
            .map_err(|_| Problem::new(413, "body_too_large", "The body is too large"))?;
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        match serde_path_to_error::deserialize(&mut reader) {
            Ok(value) => Ok(Body(value)),
            Err(error) => {
                let field = error.path().to_string();
                let detail = expectation(error.inner());
                Err(Problem::new(422, "body_invalid", "The body is not of the shape expected")
                    .detail(detail)
                    .field(field)
                    .into())
            }
        }
    }
}

/// What was expected, without the value found: serde's own words may repeat it.
fn expectation(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!("line {}, column {}", error.line(), error.column());
    match text.split_once("expected ") {
        Some((_, expected)) if !text.starts_with("unknown") => {
            let expected = expected.split(" at line").next().unwrap_or_default();
            format!("expected {expected} ({place})")
        }
        _ if text.starts_with("missing field") => text.split(" at line").next().unwrap_or_default().to_owned(),
        _ if text.starts_with("unknown") => format!("an unknown key or variant ({place}); see /openapi.json"),
        _ => format!("not acceptable ({place}); see /openapi.json"),
    }
}

#[utoipa::path(
    post, path = "/v1/queries", request_body = QueryBody, security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Asking again with the same key gives the same result")),
    responses(
        (status = 200, description = "Every holder's outcome", body = QueryResult),
        (status = 401, description = "No valid token", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "Several residents meant, or the key is taken", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Not acceptable", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "Closed", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
/// Ask other units about a resident.
async fn put_query(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<QueryBody>,
) -> Answer<Json<QueryResult>> {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    let id = results::query_id(&node, &caller, key).map_err(|e| problem(&AskError::System(e)))?;
    let asked = sha256(&[&serde_json::to_vec(&body).unwrap_or_default()]);
    if key.is_some() {
        match results::find(&node, &caller, &id).map_err(|e| problem(&AskError::Store(e)))? {
            Some((same, kept)) if same == asked => return Ok(Json(kept)),
            Some(_) => return Err(conflict("idempotency_key_reused", "This key was used for another question")),
            None => {}
        }
    }
    let Some(turn) = node.asking.begin(&id) else {
        return Err(conflict("query_in_progress", "The same query is being put; fetch its result in a moment"));
    };
    // Detached: a caller hanging up must not leave an asking without its outcome in the log.
    let work = tokio::spawn(async move {
        let _turn = turn;
        let result = ask(&node, &caller, &body, id).await?;
        results::keep(&node, &caller, asked, &result)?;
        Ok(result)
    });
    let result = work.await.map_err(|e| AskError::System(std::io::Error::other(e))).flatten();
    Ok(Json(result.map_err(|e| problem(&e))?))
}

fn conflict(code: &str, title: &str) -> ProblemResponse {
    Problem::new(409, code, title).into()
}

fn problem(error: &AskError) -> ProblemResponse {
    tracing::warn!(code = error.problem().code, "a query was not put");
    error.problem().into()
}

#[utoipa::path(
    get, path = "/v1/queries/{id}", params(("id" = String, Path)), security(("token" = [])),
    responses(
        (status = 200, description = "The result, kept for a day for who asked", body = QueryResult),
        (status = 401, description = "No valid token", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "None kept for this user", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
/// What came of an earlier query.
async fn get_query(State(node): State<Arc<Node>>, caller: Caller, Path(id): Path<String>) -> Answer<Json<QueryResult>> {
    let found = results::find(&node, &caller, &id).map_err(|e| problem(&AskError::Store(e)))?;
    found
        .map(|(_, result)| Json(result))
        .ok_or_else(|| Problem::new(404, "query_unknown", "No result of this id is kept for you").into())
}

#[utoipa::path(
    post, path = "/v1/consents", request_body = ConsentBody, security(("token" = [])),
    responses(
        (status = 200, description = "Recorded and granted", body = ConsentReceipt),
        (status = 401, description = "No valid token", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 403, description = "Not a client, or not this role", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Not acceptable", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "Closed", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
/// Record a resident's consent.
async fn record_consent(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<ConsentBody>,
) -> Answer<Json<ConsentReceipt>> {
    consent(tokio::spawn(async move { consents::record(&node, &caller, &body).await }).await)
}

#[utoipa::path(
    post, path = "/v1/consents/{id}/withdraw", params(("id" = String, Path)), security(("token" = [])),
    responses(
        (status = 200, description = "Withdrawn; final", body = ConsentReceipt),
        (status = 401, description = "No valid token", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "Not recorded here", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
/// Withdraw a consent recorded here.
async fn withdraw_consent(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<ConsentReceipt>> {
    let id = consent_id(&id)?;
    consent(tokio::spawn(async move { consents::withdraw(&node, &caller, id).await }).await)
}

#[utoipa::path(
    get, path = "/v1/consents/{id}", params(("id" = String, Path)), security(("token" = [])),
    responses(
        (status = 200, description = "As it stands", body = ConsentReceipt),
        (status = 401, description = "No valid token", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "Not recorded here", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
/// A consent recorded here.
async fn get_consent(
    State(node): State<Arc<Node>>,
    _caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<ConsentReceipt>> {
    let id = consent_id(&id)?;
    consent(Ok(consents::show(&node, id)))
}

fn consent_id(text: &str) -> Answer<ConsentId> {
    let unknown = || Problem::new(404, "consent_unknown", "No consent with this id was recorded here");
    Ok(protocol::encoding::unb64(text).map(ConsentId).ok_or_else(unknown)?)
}

fn consent(
    done: Result<Result<ConsentReceipt, consents::ConsentError>, tokio::task::JoinError>,
) -> Answer<Json<ConsentReceipt>> {
    let done = done.map_err(|e| consents::ConsentError::System(std::io::Error::other(e))).flatten();
    Ok(Json(done.map_err(|error| {
        tracing::warn!(code = error.problem().code, "a consent was not recorded or withdrawn");
        error.problem()
    })?))
}

#[utoipa::path(get, path = "/health/live", responses((status = 200, description = "The program runs", body = Health)))]
/// Whether the program runs.
async fn live() -> Json<Health> {
    Json(Health { status: "live".to_owned(), reason: None })
}

#[utoipa::path(
    get, path = "/health/ready",
    responses(
        (status = 200, description = "The node answers", body = Health),
        (status = 503, description = "The node is closed", body = Health),
    )
)]
/// Whether the node answers.
async fn ready(State(node): State<Arc<Node>>) -> (StatusCode, Json<Health>) {
    let health = |status: &str, reason: Option<Reason>| {
        Json(Health { status: status.to_owned(), reason: reason.map(|r| r.code().to_owned()) })
    };
    match node.ready() {
        Ok(()) => (StatusCode::OK, health("ready", None)),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, health("closed", Some(reason))),
    }
}
