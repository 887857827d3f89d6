//! Flags, newcomers, approvals and emergencies: what a caseworker, a supervisor or the data-protection officer does besides asking.

use super::{Answer, Body, Print, Refusals, done};
use crate::approvals::{self, ApprovalList, ApprovalView, GrantBody, RefuseBody};
use crate::decisions::{self, Decision, DecisionList, Period};
use crate::emergencies::{self, EmergencyBody, EmergencyList, EmergencyView, ReviewBody};
use crate::flags::{self, FlagBody, FlagList, ResidentBody};
use crate::newcomers::{self, NewcomerBody, NewcomerView};
use crate::node::Node;
use crate::tokens::Caller;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(put_flags))
        .routes(routes!(get_flags))
        .routes(routes!(put_newcomer))
        .routes(routes!(list_approvals))
        .routes(routes!(get_approval))
        .routes(routes!(grant_approval))
        .routes(routes!(refuse_approval))
        .routes(routes!(open_emergency))
        .routes(routes!(list_emergencies))
        .routes(routes!(confirm_emergency))
        .routes(routes!(review_emergency))
        .routes(routes!(print_letter))
        .routes(routes!(list_decisions))
        .routes(routes!(get_decision))
}

#[utoipa::path(
    post, path = "/v1/flags", request_body = FlagBody, security(("token" = [])),
    responses((status = 200, description = "The flags as they are now", body = FlagList), Refusals)
)]
/// Set or lift flags of a resident. Roles: dpo, steward, supervisor.
async fn put_flags(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<FlagBody>,
) -> Answer<Json<FlagList>> {
    done(async move { flags::put(&node, &caller, &body).await }).await
}

#[utoipa::path(
    post, path = "/v1/flags/show", request_body = ResidentBody, security(("token" = [])),
    responses((status = 200, description = "The flags", body = FlagList), Refusals)
)]
/// A resident's flags. A POST, so that no identifier stands in an address.
async fn get_flags(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<ResidentBody>,
) -> Answer<Json<FlagList>> {
    done(async move { flags::show(&node, &caller, &body).await }).await
}

#[utoipa::path(
    post, path = "/v1/newcomers", request_body = NewcomerBody, security(("token" = [])),
    responses((status = 200, description = "Known to the registry until then", body = NewcomerView), Refusals)
)]
/// Register a resident who is a client soon, before there are records. Roles: caseworker, front-desk, supervisor.
async fn put_newcomer(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<NewcomerBody>,
) -> Answer<Json<NewcomerView>> {
    done(async move { newcomers::put(&node, &caller, &body).await }).await
}

#[utoipa::path(
    get, path = "/v1/approvals", security(("token" = [])),
    responses((status = 200, description = "Peers' questions that a person here decides", body = ApprovalList), Refusals)
)]
/// Questions of peers that wait for a person here, and those decided in the last days.
async fn list_approvals(State(node): State<Arc<Node>>, caller: Caller) -> Answer<Json<ApprovalList>> {
    done(async move { approvals::list(&node, &caller).await }).await
}

#[utoipa::path(
    get, path = "/v1/approvals/{id}", params(("id" = String, Path)), security(("token" = [])),
    responses((status = 200, description = "The question", body = ApprovalView), Refusals)
)]
/// One question of a peer.
async fn get_approval(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<ApprovalView>> {
    done(async move { approvals::show(&node, &caller, &id).await }).await
}

#[utoipa::path(
    post, path = "/v1/approvals/{id}/grant", params(("id" = String, Path)), request_body = GrantBody,
    security(("token" = [])),
    responses((status = 200, description = "Approved; the asker is told", body = ApprovalView), Refusals)
)]
/// Approve a question, wholly or in part. It is decided on again as a whole first.
async fn grant_approval(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<GrantBody>,
) -> Answer<Json<ApprovalView>> {
    done(async move { approvals::grant(&node, &caller, &id, &body).await }).await
}

#[utoipa::path(
    post, path = "/v1/approvals/{id}/refuse", params(("id" = String, Path)), request_body = RefuseBody,
    security(("token" = [])),
    responses((status = 200, description = "Refused; the asker is told", body = ApprovalView), Refusals)
)]
/// Refuse a question, with a reason that stays here.
async fn refuse_approval(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<RefuseBody>,
) -> Answer<Json<ApprovalView>> {
    done(async move { approvals::refuse(&node, &caller, &id, &body).await }).await
}

#[utoipa::path(
    post, path = "/v1/emergencies", request_body = EmergencyBody, security(("token" = [])),
    responses((status = 200, description = "Opened; confirm it to use it", body = EmergencyView), Refusals)
)]
/// Declare that somebody's life or health is in danger. Serves once confirmed.
async fn open_emergency(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<EmergencyBody>,
) -> Answer<Json<EmergencyView>> {
    done(async move { emergencies::open(&node, &caller, &body).await }).await
}

#[utoipa::path(
    get, path = "/v1/emergencies", security(("token" = [])),
    responses((status = 200, description = "Emergencies taken and answered here", body = EmergencyList), Refusals)
)]
/// The data-protection officer's queue of emergency accesses.
async fn list_emergencies(State(node): State<Arc<Node>>, caller: Caller) -> Answer<Json<EmergencyList>> {
    done(async move { emergencies::list(&node, &caller).await }).await
}

#[utoipa::path(
    post, path = "/v1/emergencies/{id}/confirm", params(("id" = String, Path)), security(("token" = [])),
    responses((status = 200, description = "Confirmed: it can be cited as a basis until it expires", body = EmergencyView), Refusals)
)]
/// Confirm an emergency of one's own a second time. The data-protection officer sees it from here on.
async fn confirm_emergency(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<EmergencyView>> {
    done(async move { emergencies::confirm(&node, &caller, &id).await }).await
}

#[utoipa::path(
    post, path = "/v1/emergencies/{id}/review", params(("id" = String, Path)), request_body = ReviewBody,
    security(("token" = [])),
    responses((status = 200, description = "Reviewed; the holders are told", body = EmergencyView), Refusals)
)]
/// Review an emergency taken here, and say whether the resident is told. Role: dpo, and not the user who took it.
async fn review_emergency(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<ReviewBody>,
) -> Answer<Json<EmergencyView>> {
    done(async move { emergencies::review(&node, &caller, &id, &body).await }).await
}

#[utoipa::path(
    get, path = "/v1/emergencies/{id}/letter", security(("token" = [])),
    params(("id" = String, Path), ("language" = Option<String>, Query, description = "`pl`, `en` or `uk`"),
        ("html" = Option<bool>, Query, description = "HTML instead of text")),
    responses(
        (status = 200, description = "To print, as text or HTML", content((String = "text/plain"), (String = "text/html"))),
        Refusals
    )
)]
/// What tells the resident of an emergency that was reviewed. Each printing is logged. Roles: dpo, supervisor.
async fn print_letter(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(print): Query<Print>,
) -> Answer<Response> {
    let Print { language, html } = print;
    let Json(text) = done(async move { emergencies::letter(&node, &caller, &id, language, html).await }).await?;
    Ok(print.answer(text))
}

#[utoipa::path(
    get, path = "/v1/decisions", security(("token" = [])),
    params(("from" = Option<i64>, Query), ("to" = Option<i64>, Query)),
    responses((status = 200, description = "Decisions as `ogniwo policy simulate` reads them", body = DecisionList), Refusals)
)]
/// Decisions of a period without residents or users: kinds, roles, fields, bases. Roles: dpo, supervisor.
async fn list_decisions(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Query(period): Query<Period>,
) -> Answer<Json<DecisionList>> {
    done(async move { decisions::list(&node, &caller, period).await }).await
}

#[utoipa::path(
    get, path = "/v1/decisions/{request}", params(("request" = String, Path)), security(("token" = [])),
    responses((status = 200, description = "Why it was answered or refused", body = Decision), Refusals)
)]
/// What was decided on a request, and why, by the request's SHA-256. Roles: dpo, supervisor.
async fn get_decision(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(request): Path<String>,
) -> Answer<Json<Decision>> {
    done(async move { decisions::show(&node, &caller, &request).await }).await
}
