//! `/v1/audit/…` of the local API.

use super::Officer;
use super::act::Act;
use super::anomalies::{self, Anomalies, AnomaliesBody};
use super::compare::{self, ReconcileBody, Reconciled};
use super::export::{self, ExportBody, LogPosted, Witnessed};
use super::findings::{self, Finding, FindingPage, FindingReviewBody, Which};
use super::resident::{self, AccessBody, EraseBody, Erased, ResidentData, RestrictBody, Restricted};
use super::search::{self, LogPage, SearchBody};
use super::who::{self, Who, WhoBody};
use crate::events::Happened;
use crate::local_api::{Answer, Body, Refusals, caller, done};
use crate::node::Node;
use crate::tokens::Caller;
use axum::Json;
use axum::body::Body as Stream;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use protocol::Reason;
use std::sync::Arc;
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The header with a second officer's token.
const CONFIRMATION: &str = "confirmation";

/// The officer's routes.
pub(crate) fn routes() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(search_log))
        .routes(routes!(log_checkpoint))
        .routes(routes!(logs_witnessed))
        .routes(routes!(export_log))
        .routes(routes!(reconcile_logs))
        .routes(routes!(look_for_anomalies))
        .routes(routes!(findings_found))
        .routes(routes!(review_finding))
        .routes(routes!(tell_who))
        .routes(routes!(show_resident))
        .routes(routes!(restrict_resident))
        .routes(routes!(erase_resident))
}

/// The officer who calls; that anybody else tried to do what an officer may is recorded.
async fn admit(node: &Node, caller: &Caller, tried: Happened) -> Answer<Officer> {
    match Officer::admit(caller) {
        Ok(officer) => Ok(officer),
        Err(error) => {
            let denied = Act::denied(node, caller, tried, Reason::RoleNotAllowed.code());
            let _recorded = denied.record(node).await?;
            Err(error.into())
        }
    }
}

#[utoipa::path(
    post, path = "/v1/audit/search", request_body = SearchBody, security(("token" = [])),
    params(("confirmation" = Option<String>, Header, description = "`Bearer` and another officer's token; by one member of staff, this or a reason is needed")),
    responses((status = 200, description = "A page of entries", body = LogPage), Refusals)
)]
/// Search the institution's own log; the search is recorded.
async fn search_log(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<SearchBody>,
) -> Answer<Json<LogPage>> {
    let officer = admit(&node, &caller, Happened::DpoSearched).await?;
    let second = second(&node, &headers).await?;
    Ok(Json(search::search(&node, &officer, second.as_ref(), &body).await?))
}

#[utoipa::path(
    get, path = "/v1/audit/checkpoint", security(("token" = [])),
    responses((status = 200, description = "Size, newest checkpoint and how far others vouch for it", body = LogPosted), Refusals)
)]
/// The log's newest checkpoint.
async fn log_checkpoint(State(node): State<Arc<Node>>, caller: Caller) -> Answer<Json<LogPosted>> {
    Officer::admit(&caller)?;
    Ok(Json(export::checkpoint(&node)))
}

#[utoipa::path(
    get, path = "/v1/audit/witnessed", security(("token" = [])),
    responses((status = 200, description = "The newest checkpoint of each log that this node cosigned", body = Witnessed), Refusals)
)]
/// What this node cosigned of the others' logs, for whoever holds one of these against it.
async fn logs_witnessed(State(node): State<Arc<Node>>, caller: Caller) -> Answer<Json<Witnessed>> {
    Officer::admit(&caller)?;
    Ok(Json(export::witnessed(&node).await?))
}

/// A tar file with the directory `export`.
#[derive(ToSchema)]
#[schema(as = Bundle, value_type = String, format = Binary)]
#[expect(dead_code, reason = "a description only")]
struct BundleSchema(Vec<u8>);

#[utoipa::path(
    post, path = "/v1/audit/export", request_body = ExportBody, security(("token" = [])),
    params(("confirmation" = Option<String>, Header, description = "`Bearer` and another officer's token; needed for report R9; by one member of staff, this or a reason is")),
    responses((status = 200, description = "A signed bundle that verifies anywhere", body = BundleSchema, content_type = "application/x-tar"), Refusals)
)]
/// Export entries of the institution's own log with everything that proves them; the export is recorded.
async fn export_log(
    State(node): State<Arc<Node>>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<ExportBody>,
) -> Answer<Response> {
    let officer = admit(&node, &caller, Happened::DpoExported).await?;
    let second = second(&node, &headers).await?;
    let file = export::export(&node, &officer, second.as_ref(), &body).await?;
    let stream = Stream::from_stream(ReaderStream::new(tokio::fs::File::from_std(file)));
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], stream).into_response())
}

/// The officer who confirms, if one does.
async fn second(node: &Node, headers: &HeaderMap) -> Answer<Option<Officer>> {
    let Some(value) = headers.get(CONFIRMATION) else { return Ok(None) };
    let caller = caller(node, value.to_str().ok()).await?;
    Ok(Some(Officer::admit(&caller)?))
}

#[utoipa::path(
    post, path = "/v1/audit/reconcile", request_body = ReconcileBody, security(("token" = [])),
    responses((status = 200, description = "What both logs tell alike, and what not", body = Reconciled), Refusals)
)]
/// Compare the log with a peer's, as the node does by itself every day; recorded.
async fn reconcile_logs(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<ReconcileBody>,
) -> Answer<Json<Reconciled>> {
    let officer = admit(&node, &caller, Happened::Reconciled).await?;
    Ok(Json(compare::compare(&node, &officer, &body).await?))
}

#[utoipa::path(
    post, path = "/v1/audit/anomalies", request_body = AnomaliesBody, security(("token" = [])),
    responses((status = 200, description = "What explains the accesses, and what is left to look at", body = Anomalies), Refusals)
)]
/// Look for accesses that nothing explains, as the node does by itself every day; recorded.
async fn look_for_anomalies(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<AnomaliesBody>,
) -> Answer<Json<Anomalies>> {
    let officer = admit(&node, &caller, Happened::AnomaliesReviewed).await?;
    Ok(Json(anomalies::on_demand(&node, &officer, &body).await?))
}

#[utoipa::path(
    get, path = "/v1/audit/findings", security(("token" = [])),
    params(("start" = Option<String>, Query, description = "A page's `next`; from the oldest on, if not said"),
        ("limit" = Option<usize>, Query, description = "Findings at most, 1 to 1000; 100 if not said")),
    responses((status = 200, description = "A page of what was found, oldest first", body = FindingPage), Refusals)
)]
/// What the officer has to look at; recorded.
async fn findings_found(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Query(which): Query<Which>,
) -> Answer<Json<FindingPage>> {
    let officer = admit(&node, &caller, Happened::DpoSearched).await?;
    Ok(Json(findings::page(&node, &officer, &which).await?))
}

#[utoipa::path(
    post, path = "/v1/audit/findings/{id}", params(("id" = String, Path)), request_body = FindingReviewBody, security(("token" = [])),
    responses((status = 200, description = "As it stands now", body = Finding), Refusals)
)]
/// Say what a finding came to; recorded.
async fn review_finding(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<FindingReviewBody>,
) -> Answer<Json<Finding>> {
    let officer = admit(&node, &caller, Happened::FindingReviewed).await?;
    Ok(Json(findings::review(&node, &officer, &id, &body).await?))
}

#[utoipa::path(
    post, path = "/v1/audit/who", request_body = WhoBody, security(("token" = [])),
    responses((status = 200, description = "Whom the id stands for", body = Who), Refusals)
)]
/// Whom a pseudonymous id of the log stands for; recorded.
async fn tell_who(State(node): State<Arc<Node>>, caller: Caller, Body(body): Body<WhoBody>) -> Answer<Json<Who>> {
    let officer = admit(&node, &caller, Happened::IdentityRead).await?;
    Ok(Json(who::who(&node, &officer, &body).await?))
}

#[utoipa::path(
    post, path = "/v1/audit/residents/show", request_body = AccessBody, security(("token" = [])),
    responses((status = 200, description = "What is on file", body = ResidentData), Refusals)
)]
/// A resident's data at this institution (GDPR art. 15); recorded.
async fn show_resident(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<AccessBody>,
) -> Answer<Json<ResidentData>> {
    let officer = admit(&node, &caller, Happened::ResidentShown).await?;
    Ok(Json(resident::show(&node, &officer, &body).await?))
}

#[utoipa::path(
    post, path = "/v1/audit/residents/restrict", request_body = RestrictBody, security(("token" = [])),
    responses((status = 200, description = "How it stands now", body = Restricted), Refusals)
)]
/// Restrict the processing of a resident's data at this institution (GDPR art. 18), or lift that; recorded.
async fn restrict_resident(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<RestrictBody>,
) -> Answer<Json<Restricted>> {
    let officer = admit(&node, &caller, Happened::ResidentRestricted).await?;
    Ok(Json(resident::restrict(&node, &officer, &body).await?))
}

#[utoipa::path(
    post, path = "/v1/audit/residents/erase", request_body = EraseBody, security(("token" = [])),
    responses((status = 200, description = "Erased; the next enrolment takes back what is published", body = Erased), Refusals)
)]
/// Erase a resident's data at this institution (GDPR art. 17); recorded.
async fn erase_resident(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<EraseBody>,
) -> Answer<Json<Erased>> {
    let officer = admit(&node, &caller, Happened::ResidentErased).await?;
    done(async move { resident::erase(&node, &officer, &body).await }).await
}
