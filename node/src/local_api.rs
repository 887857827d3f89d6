//! What the institution's own applications may call, with a token of its identity provider. Describes itself at
//! `/openapi.json`.

use crate::ask::{AskError, Put, QueryBody, QueryResult, ask};
use crate::consents::ConsentError;
use crate::desk::DeskError;
use crate::dpo::{self, DpoError};
use crate::faults::Fault;
use crate::node::Node;
use crate::results;
use crate::tokens::{Caller, TokenError};
use crate::trace::Trace;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use policies::receipt::Tongue;
use protocol::encoding::sha256;
use protocol::saying::Message;
use protocol::{Problem, Reason, Told};
use pseudonym::{DocumentError, PeselError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_path_to_error::Segment;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use transport::{ProblemResponse, Refusal};
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

mod consents;
mod desk;

pub(crate) type Answer<T> = Result<T, ProblemResponse>;

/// What is refused is traced once, where it becomes an answer.
macro_rules! refused {
    ($($error:ty: $what:literal),+) => { $(
        impl From<$error> for ProblemResponse {
            fn from(error: $error) -> Self {
                let problem = error.problem();
                tracing::warn!(code = problem.code, $what);
                problem.into()
            }
        }
    )+ };
}
refused!(
    AskError: "a query was not put",
    ConsentError: "a consent was not changed or shown",
    DeskError: "not done",
    DpoError: "the log is not shown"
);

/// Runs to its end even if the caller hangs up: what is logged must also be done.
pub(crate) async fn done<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Answer<Json<T>>
where
    T: Send + 'static,
    E: From<std::io::Error> + Into<ProblemResponse> + Send + 'static,
{
    let done = tokio::spawn(Box::pin(work)).await.map_err(|e| E::from(std::io::Error::other(e)));
    done.flatten().map(Json).map_err(Into::into)
}

/// How what a resident takes home is printed.
#[derive(Clone, Copy, Deserialize)]
struct Print {
    #[serde(default)]
    language: Tongue,
    #[serde(default)]
    html: bool,
}

impl Print {
    fn answer(self, text: String) -> Response {
        let media = if self.html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
        ([(header::CONTENT_TYPE, media)], text).into_response()
    }
}

/// RFC 9457 problem details.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemSchema {
    /// `urn:ogniwo:problem:<code>`.
    r#type: String,
    /// One line.
    title: String,
    /// HTTP status.
    status: u16,
    /// What to do.
    detail: Option<String>,
    /// Stable code.
    #[schema(value_type = CodeSchema)]
    code: String,
    /// The field of the request at fault.
    field: Option<String>,
    /// Seconds to wait.
    retry_after: Option<u64>,
    /// For a person to read.
    message: Option<MessageSchema>,
}

/// What was missing and what to do next.
#[derive(Serialize, ToSchema)]
#[schema(as = Message)]
pub(crate) struct MessageSchema {
    /// In Polish.
    pl: String,
    /// In English.
    en: String,
}

/// Whether the node is up.
#[derive(Serialize, Deserialize, ToSchema)]
struct Health {
    /// `live` or `ready`.
    status: String,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Ogniwo local API", description = "For an institution's own applications: ask other units about a \
        resident this institution serves, register newcomers, decide what others ask, record and withdraw consents, note what must not be \
        answered. Codes of refusals: the schema `Code`; what never comes as far as a route (no such path or method, too large, \
        too many at once, too slow) is refused in the same form."),
    modifiers(&Bearer),
    components(schemas(ProblemSchema, MessageSchema, CodeSchema))
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let says = "A token of the institution's identity provider. The log has of it who acts (`sub`, or `act.sub`) and for \
            whom, the application (`azp` or `client_id`), the level of authentication (`acr`) and an HMAC of the terminal's name.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(Some(says));
        let scheme = scheme.build();
        let components = api.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Every code with which the local API refuses, or an outcome says why, with what a person reads of it.
pub(crate) struct CodeSchema;

impl PartialSchema for CodeSchema {
    fn schema() -> RefOr<Schema> {
        let said = codes();
        let words: Vec<String> =
            said.iter().map(|(code, Message { pl, en })| format!("* `{code}`: {en} / {pl}")).collect();
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .enum_values(Some(said.into_keys()))
            .description(Some(words.join("\n")))
            .build()
            .into()
    }
}

impl ToSchema for CodeSchema {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Code")
    }
}

/// What is said under each code. A code that a peer tells too is described as at home.
fn codes() -> BTreeMap<&'static str, Message> {
    let told = Told::ALL.iter().map(|told| (told.code(), Message::of(|language| told.saying(language))));
    let reasons = Reason::ALL.iter().map(|r| (r.code(), Message::of(|language| r.saying(language))));
    let faults = Fault::ALL.iter().map(|fault| (fault.code(), fault.message()));
    let listener = Refusal::ALL.iter().map(|own| (own.code, Message::of(|language| own.saying(language))));
    let pesels = PeselError::ALL.iter().map(|error| (error.code(), Fault::PeselInvalid.message()));
    let documents = DocumentError::ALL.iter().map(|error| (error.code(), Fault::DocumentInvalid.message()));
    let signed_in = Message::of(|language| Reason::TokenInvalid.saying(language));
    let tokens = TokenError::ALL.iter().map(|error| (error.code(), signed_in.clone()));
    told.chain(reasons).chain(faults).chain(listener).chain(pesels).chain(documents).chain(tokens).collect()
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
        .merge(consents::routes())
        .merge(desk::routes())
        .merge(dpo::routes())
        .routes(routes!(live))
        .routes(routes!(ready))
}

impl FromRequestParts<Arc<Node>> for Caller {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Answer<Self> {
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        Ok(caller(node, authorization).await?)
    }
}

/// Who presents `authorization`, the header's value; kept, so that the log's id of the user can be told later.
pub(crate) async fn caller(node: &Node, authorization: Option<&str>) -> Result<Caller, Problem> {
    let tokens = node.tokens.as_ref().ok_or(TokenError::UnknownKey).map_err(TokenError::problem)?;
    let caller = tokens.caller(authorization, node.clock.now()).await.map_err(TokenError::problem)?;
    node.know(&caller).map_err(|error| {
        tracing::error!(%error, "a user cannot be kept");
        Fault::StoreFailed.problem()
    })?;
    Ok(caller)
}

/// A JSON body whose faults are problems that name the field and never repeat a value.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: serde::de::DeserializeOwned> FromRequest<Arc<Node>> for Body<T> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, node: &Arc<Node>) -> Answer<Self> {
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !media.starts_with("application/json") {
            return Err(Fault::MediaType.problem().into());
        }
        let bytes =
            axum::body::Bytes::from_request(request, node).await.map_err(|_| Refusal::BODY_TOO_LARGE.problem())?;
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        match serde_path_to_error::deserialize(&mut reader) {
            Ok(value) => Ok(Body(value)),
            Err(error) => {
                let problem = Fault::BodyInvalid.problem().detail(expectation(error.inner()));
                let place = place(error.path());
                Err(if place.is_empty() { problem } else { problem.field(place) }.into())
            }
        }
    }
}

/// A JSON body that may be missing.
struct Maybe<T>(T);

impl<T: serde::de::DeserializeOwned + Default> FromRequest<Arc<Node>> for Maybe<T> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, node: &Arc<Node>) -> Answer<Self> {
        if request.headers().get(header::CONTENT_TYPE).is_none() {
            return Ok(Maybe(T::default()));
        }
        Body::from_request(request, node).await.map(|Body(value)| Maybe(value))
    }
}

/// What any of these may refuse with.
pub(crate) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let problem = |what: &str| {
            let schema = Ref::from_schema_name("Problem");
            let content = ContentBuilder::new().schema(Some(schema)).build();
            ResponseBuilder::new().description(what).content(Problem::MEDIA_TYPE, content).build().into()
        };
        [
            ("401", "No valid token"),
            ("403", "Not this role, not a client, or refused by a rule: the code says which"),
            ("404", "Nothing of this id"),
            ("409", "Several residents meant, or decided before"),
            ("413", "Too large"),
            ("415", "Not JSON"),
            ("422", "Not acceptable"),
            ("429", "As many as may be today"),
            ("503", "Closed"),
        ]
        .into_iter()
        .map(|(status, what)| (status.to_owned(), problem(what)))
        .collect()
    }
}

/// Where a body is at fault, as far as the place is named by the API's own description: other keys are the caller's.
fn place(path: &serde_path_to_error::Path) -> String {
    static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let mut names = BTreeSet::new();
        property_names(&serde_json::to_value(openapi()).unwrap_or_default(), &mut names);
        names
    });
    let mut out = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => out.push_str(&format!("[{index}]")),
            Segment::Map { key: name } | Segment::Enum { variant: name } if NAMES.contains(name) => {
                let dot = if out.is_empty() { "" } else { "." };
                out.push_str(&format!("{dot}{name}"));
            }
            _ => break,
        }
    }
    out
}

/// Every property name of a description.
fn property_names(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                names.extend(properties.keys().cloned());
            }
            object.values().for_each(|inner| property_names(inner, names));
        }
        Value::Array(array) => array.iter().for_each(|inner| property_names(inner, names)),
        _ => {}
    }
}

/// What was expected, without the value found: serde's own words may repeat it.
fn expectation(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!("line {}, column {}", error.line(), error.column());
    // Serde's own words come last: a value found may hold the same ones.
    match text.rsplit_once(", expected ") {
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
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Asking again with the same key gives the same result"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context: its trace id stands in the log here and at the holders; without one a new id does"),
    ),
    responses(
        (status = 200, description = "Every holder's outcome", body = QueryResult),
        (status = 401, description = "No valid token", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 403, description = "Not an emergency of the caller's that serves", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "Several residents meant, or the key is taken", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Not acceptable", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "Closed", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "Too large", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
/// Ask other units about a resident.
async fn put_query(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<QueryBody>,
) -> Answer<Json<QueryResult>> {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let trace = Trace::carried(&headers).map_or_else(Trace::new, Ok).map_err(AskError::System)?;
    // Detached: a caller hanging up must not leave an asking without its outcome in the log.
    let put = tokio::spawn(async move { once(&node, &caller, body, key.as_deref(), trace).await });
    put.await.map_err(|e| AskError::System(std::io::Error::other(e)))?
}

/// Puts a query, or gives what came of the same one before.
async fn once(
    node: &Arc<Node>,
    caller: &Caller,
    body: QueryBody,
    key: Option<&str>,
    trace: Trace,
) -> Answer<Json<QueryResult>> {
    let id = results::query_id(node, caller, key).map_err(AskError::System)?;
    let asked = sha256(&[&serde_json::to_vec(&body).unwrap_or_default()]);
    let _turn = node.asking.begin(&id).await;
    if key.is_some() {
        match results::find(node, caller, &id).map_err(AskError::Store)? {
            Some((same, kept)) if same == asked => return Ok(Json(kept)),
            Some(_) => return Err(Fault::KeyReused.problem().into()),
            None => {}
        }
    }
    let said = ask(node, caller, &body, id, Put::First, trace).await.map_err(|error| {
        let ProblemResponse(told) = ProblemResponse::from(error);
        let closed = node.why_closed().filter(|_| told.code == Reason::NodeClosed.code());
        ProblemResponse(closed.map_or(told.clone(), |why| told.detail(why)))
    })?;
    results::keep(node, caller, asked, body, &said).map_err(AskError::Store)?;
    Ok(Json(said.result))
}

#[utoipa::path(
    get, path = "/v1/queries/{id}", params(("id" = String, Path)), security(("token" = [])),
    responses(
        (status = 200, description = "The result, kept for a day for who asked", body = QueryResult),
        (status = 401, description = "No valid token", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "None kept for this user", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "Closed", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
/// What came of an earlier query. What waits for a person at its holder is fetched once that person decided.
async fn get_query(State(node): State<Arc<Node>>, caller: Caller, Path(id): Path<String>) -> Answer<Json<QueryResult>> {
    // Detached, as asking is: what waited may be asked again.
    let Json(found) = done(async move { results::collect(&node, &caller, &id).await }).await?;
    found.map(Json).ok_or_else(|| Fault::ResultUnknown.problem().into())
}

#[utoipa::path(get, path = "/health/live", responses((status = 200, description = "The program runs", body = Health)))]
/// Whether the program runs.
async fn live() -> Json<Health> {
    Json(Health { status: "live".to_owned() })
}

#[utoipa::path(
    get, path = "/health/ready",
    responses(
        (status = 200, description = "The node answers", body = Health),
        (status = 503, description = "The node is closed; `code` says why", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
/// Whether the node answers.
async fn ready(State(node): State<Arc<Node>>) -> Answer<Json<Health>> {
    match node.ready() {
        Ok(()) => Ok(Json(Health { status: "ready".to_owned() })),
        Err(reason) => Err(Problem::because(503, reason).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_described_where_it_is_said() {
        let api = serde_json::to_value(openapi()).expect("a description");
        let code = api.pointer("/components/schemas/Code").expect("the schema");
        let listed: BTreeSet<&str> = code["enum"].as_array().expect("codes").iter().filter_map(Value::as_str).collect();
        let pesels = PeselError::ALL.iter().map(PeselError::code);
        let tokens = TokenError::ALL.iter().map(|error| error.code());
        let told = Told::ALL.iter().map(|told| told.code());
        for code in pesels.chain(tokens).chain(told).chain(["peer_unavailable", "answer_invalid", "value_invalid"]) {
            assert!(listed.contains(code), "{code}");
        }
        let words = code["description"].as_str().expect("words");
        assert_eq!(words.lines().count(), listed.len(), "each has its words");
        let problem = api.pointer("/components/schemas/Problem/properties/code").expect("a property");
        let outcome = api.pointer("/components/schemas/Outcome/properties/reason").expect("a property");
        for said in [problem, outcome] {
            assert!(said.to_string().contains("#/components/schemas/Code"), "{said}");
        }
    }
}
