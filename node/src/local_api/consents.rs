//! The life of a consent: asked, answered, shown, renewed, withdrawn, printed, exported.

use super::{Answer, Body, Maybe, Print, Refusals, done};
use crate::consents::{
    self, ConsentAnswer, ConsentBody, ConsentError, ConsentList, ConsentReceipt, ConsentRequest, RevokeBody,
    WithdrawBody, WithdrawalBody, WithdrawalReceipt,
};
use crate::flags::ResidentBody;
use crate::node::Node;
use crate::tokens::Caller;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use protocol::ConsentId;
use serde_json::Value;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::new()
        .routes(routes!(record_consent))
        .routes(routes!(request_consent))
        .routes(routes!(get_consent))
        .routes(routes!(answer_consent))
        .routes(routes!(renew_consent))
        .routes(routes!(list_consents))
        .routes(routes!(withdraw_consent))
        .routes(routes!(revoke_consent))
        .routes(routes!(withdraw_anywhere))
        .routes(routes!(print_receipt))
        .routes(routes!(export_consent))
}

fn consent_id(text: &str) -> Answer<ConsentId> {
    let unknown = || ConsentError::Unknown.problem();
    Ok(protocol::encoding::unb64(text).map(ConsentId).ok_or_else(unknown)?)
}

#[utoipa::path(
    post, path = "/v1/consents", request_body = ConsentBody, security(("token" = [])),
    responses((status = 200, description = "Recorded and granted, or refused", body = ConsentReceipt), Refusals)
)]
/// Record a resident's consent, asked and answered at once.
async fn record_consent(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<ConsentBody>,
) -> Answer<Json<ConsentReceipt>> {
    done(async move { consents::record(&node, &caller, body).await }).await
}

#[utoipa::path(
    post, path = "/v1/consents/requests", request_body = ConsentRequest, security(("token" = [])),
    responses((status = 200, description = "Asked; its id is answered later", body = ConsentReceipt), Refusals)
)]
/// Note that a resident was asked for consent.
async fn request_consent(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<ConsentRequest>,
) -> Answer<Json<ConsentReceipt>> {
    done(async move { consents::request(&node, &caller, &body).await }).await
}

#[utoipa::path(
    get, path = "/v1/consents/{id}", params(("id" = String, Path)), security(("token" = [])),
    responses((status = 200, description = "As it stands", body = ConsentReceipt), Refusals)
)]
/// A consent recorded here.
async fn get_consent(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<ConsentReceipt>> {
    let id = consent_id(&id)?;
    done(async move { consents::show(&node, &caller, id).await }).await
}

#[utoipa::path(
    post, path = "/v1/consents/{id}/answer", params(("id" = String, Path)), request_body = ConsentAnswer,
    security(("token" = [])),
    responses((status = 200, description = "Recorded and granted, or refused", body = ConsentReceipt), Refusals)
)]
/// Record the answer to a consent that was asked for.
async fn answer_consent(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<ConsentAnswer>,
) -> Answer<Json<ConsentReceipt>> {
    let id = consent_id(&id)?;
    done(async move { consents::answer(&node, &caller, id, &body).await }).await
}

#[utoipa::path(
    post, path = "/v1/consents/{id}/renew", params(("id" = String, Path)), request_body = ConsentAnswer,
    security(("token" = [])),
    responses((status = 200, description = "A new consent that names the old one", body = ConsentReceipt), Refusals)
)]
/// Ask again, to the current version of the template.
async fn renew_consent(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<ConsentAnswer>,
) -> Answer<Json<ConsentReceipt>> {
    let id = consent_id(&id)?;
    done(async move { consents::renew(&node, &caller, id, &body).await }).await
}

#[utoipa::path(
    post, path = "/v1/consents/{id}/withdraw", params(("id" = String, Path)), request_body = Option<WithdrawBody>,
    security(("token" = [])),
    responses((status = 200, description = "Withdrawn; final", body = ConsentReceipt), Refusals)
)]
/// Withdraw a consent recorded here, or some of its modules.
async fn withdraw_consent(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
    Maybe(body): Maybe<WithdrawBody>,
) -> Answer<Json<ConsentReceipt>> {
    let id = consent_id(&id)?;
    done(async move { consents::withdraw(&node, &caller, id, &body).await }).await
}

#[utoipa::path(
    post, path = "/v1/consents/{id}/revoke", params(("id" = String, Path)), request_body = RevokeBody,
    security(("token" = [])),
    responses((status = 200, description = "Over; final", body = ConsentReceipt), Refusals)
)]
/// End a consent recorded here that the resident did not withdraw: after a death, or by a court's word.
async fn revoke_consent(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<RevokeBody>,
) -> Answer<Json<ConsentReceipt>> {
    let id = consent_id(&id)?;
    done(async move { consents::revoke(&node, &caller, id, &body).await }).await
}

#[utoipa::path(
    post, path = "/v1/consents/list", request_body = ResidentBody, security(("token" = [])),
    responses((status = 200, description = "Those recorded here, newest first", body = ConsentList), Refusals)
)]
/// List a resident's consents recorded here.
async fn list_consents(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<ResidentBody>,
) -> Answer<Json<ConsentList>> {
    done(async move { consents::list(&node, &caller, &body.resident).await }).await
}

#[utoipa::path(
    post, path = "/v1/withdrawals", request_body = WithdrawalBody, security(("token" = [])),
    responses((status = 200, description = "Taken; recorder and holders are told", body = WithdrawalReceipt), Refusals)
)]
/// Withdraw a resident's consent, wherever it was recorded.
async fn withdraw_anywhere(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Body(body): Body<WithdrawalBody>,
) -> Answer<Json<WithdrawalReceipt>> {
    done(async move { consents::withdraw_anywhere(&node, &caller, &body).await }).await
}

#[utoipa::path(
    get, path = "/v1/consents/{id}/receipt", security(("token" = [])),
    params(("id" = String, Path), ("language" = Option<String>, Query, description = "`pl`, `en` or `uk`"),
        ("html" = Option<bool>, Query, description = "HTML instead of text")),
    responses(
        (status = 200, description = "To print, as text or HTML", content((String = "text/plain"), (String = "text/html"))),
        Refusals
    )
)]
/// What the resident takes home.
async fn print_receipt(
    State(node): State<Arc<Node>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(print): Query<Print>,
) -> Answer<Response> {
    Ok(print.answer(consents::printed(&node, &caller, consent_id(&id)?, (print.language, print.html)).await?))
}

#[utoipa::path(
    get, path = "/v1/consents/{id}/export", params(("id" = String, Path)), security(("token" = [])),
    responses((status = 200, description = "JSON-LD (ISO/IEC TS 27560, DPV)", body = Value), Refusals)
)]
/// A consent for other systems.
async fn export_consent(State(node): State<Arc<Node>>, caller: Caller, Path(id): Path<String>) -> Answer<Json<Value>> {
    Ok(Json(consents::exported(&node, &caller, consent_id(&id)?).await?))
}
