//! A consent ends: withdrawn here or elsewhere, replaced by a newer one, revoked by somebody else.

use super::kept::Consent;
use super::{
    ConsentError, ConsentReceipt, RevokeBody, WithdrawBody, event, kept, may_record, modules_fit, named, note,
};
use crate::events::{Event, Happened};
use crate::faults::Expected;
use crate::grants::{GrantError, keep_withdrawal};
use crate::manifests::Held;
use crate::node::Node;
use crate::store::{Table, Write};
use crate::tokens::Caller;
use policies::record::{ConsentEvent, ConsentHappened};
use protocol::consent::{Grant, Whose, Withdrawal};
use protocol::jws;
use protocol::{ConsentId, MemberId, Reason, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Withdraws a consent recorded here: final, at once here and at every holder that can be reached.
pub(crate) async fn withdraw(
    node: &Arc<Node>,
    caller: &Caller,
    id: ConsentId,
    body: &WithdrawBody,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let consent = kept(node, id)?;
    let modules = body.modules.as_ref();
    if !modules_fit(node, &consent.template, modules) {
        return Err(ConsentError::Value {
            field: "modules",
            expected: Expected::new("modules of the consent's template", "moduły z wzoru zgody"),
        });
    }
    // Recorded first: a withdrawal that takes effect must never be missing from the log.
    let standing = consent.with(node, &held, id, |record| record.standing(now))?;
    let says_more = modules.map_or(!standing.is_empty(), |modules| !modules.is_disjoint(&standing));
    if says_more || consent.position.is_none() {
        note(node, caller, Happened::ConsentWithdrawn, id, &consent, modules.map(named).as_deref()).await?;
        let happened = event(node, caller, withdrawn(modules), Some(body.method), now);
        let consent = end(node, &held, id, happened, None, now)?;
        obey_here(node, &consent, modules, now).await?;
    }
    told(node, &held, id, &consent, now).await
}

/// Ends a consent for a reason that is not the resident's own word.
pub(crate) async fn revoke(
    node: &Arc<Node>,
    caller: &Caller,
    id: ConsentId,
    body: &RevokeBody,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    if body.text.trim().is_empty() {
        return Err(ConsentError::Value {
            field: "text",
            expected: Expected::new("what it is proven by", "czym to wykazano"),
        });
    }
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let consent = kept(node, id)?;
    if !consent.with(node, &held, id, |record| record.standing(now))?.is_empty() {
        let mut entry = Event::new(Happened::ConsentWithdrawn, &node.clock).by(node, caller);
        entry.file = Some(consent.file);
        entry.consent = Some(id);
        entry.asker = Some(consent.recipient.clone());
        entry.detail = Some(format!("revoked: {}", body.cause.as_str()));
        entry.reason_text = Some(body.text.clone());
        let _recorded = node.log.append(&entry.counting([("holders", consent.others(node))])).await?;
        let happened = event(node, caller, ConsentHappened::Revoked(body.cause), None, now);
        let consent = end(node, &held, id, happened, None, now)?;
        obey_here(node, &consent, None, now).await?;
    }
    told(node, &held, id, &consent, now).await
}

/// Ends, wholly or in part, a consent recorded here, whose withdrawal another member took.
pub(crate) fn withdrawn_elsewhere(node: &Arc<Node>, taken: &Withdrawal, now: Timestamp) -> Result<(), GrantError> {
    let held = node.manifest().map_err(GrantError::Closed)?;
    let happened = withdrawn(taken.modules.as_ref());
    let happened = ConsentEvent { happened, at: now, by: None, method: None, place: taken.iss.clone() };
    let ended = end(node, &held, taken.consent, happened, Some(&taken.iss), now);
    let consent = ended.map_err(|error| {
        tracing::error!(%error, "a withdrawal taken elsewhere is not recorded");
        GrantError::Closed(Reason::NodeClosed)
    })?;
    let node = node.clone();
    // Whoever brought it has told the others too.
    tokio::spawn(async move {
        if let Err(error) = node.deliver().await {
            tracing::error!(%error, "the outbox cannot be read");
        }
        node.push_status(consent.grants.iter().map(|grant| &grant.aud)).await;
    });
    Ok(())
}

/// Ends the consent that a newer answer replaces, unless it is over already.
pub(super) fn supersede(
    node: &Node,
    held: &Held,
    write: &Write<'_>,
    old: ConsentId,
    happened: ConsentEvent,
) -> Result<Option<Consent>, ConsentError> {
    let consent: Consent = write.get(Table::CONSENTS, old.as_bytes())?.ok_or(ConsentError::Unknown)?;
    let now = happened.at;
    if consent.with(node, held, old, |record| record.standing(now))?.is_empty() {
        return Ok(None);
    }
    Ok(Some(end_in(write, node, held, old, happened, None, now)?))
}

/// Obeys the end of a consent at this institution's own grants.
pub(super) async fn obey_here(
    node: &Node,
    consent: &Consent,
    modules: Option<&BTreeSet<String>>,
    now: Timestamp,
) -> Result<(), ConsentError> {
    for own in consent.grants.iter().filter(|grant| grant.aud == node.config.member) {
        keep_withdrawal(node, own.consent, modules, &own.aud, Some(consent.file), now).await?;
    }
    Ok(())
}

async fn told(
    node: &Arc<Node>,
    held: &Held,
    id: ConsentId,
    consent: &Consent,
    now: Timestamp,
) -> Result<ConsentReceipt, ConsentError> {
    let undelivered = node.deliver().await?;
    node.push_status(consent.grants.iter().map(|grant| &grant.aud)).await;
    kept(node, id)?.receipt(node, held, id, &undelivered, now)
}

fn withdrawn(modules: Option<&BTreeSet<String>>) -> ConsentHappened {
    modules.map_or(ConsentHappened::Withdrawn, |modules| ConsentHappened::PartlyWithdrawn(modules.clone()))
}

fn end(
    node: &Node,
    held: &Held,
    id: ConsentId,
    happened: ConsentEvent,
    told: Option<&MemberId>,
    now: Timestamp,
) -> Result<Consent, ConsentError> {
    node.store.write(|write| end_in(write, node, held, id, happened, told, now))
}

/// Writes that a consent ended, wholly or in part, with its status and the messages to every holder but `told` already.
fn end_in(
    write: &Write<'_>,
    node: &Node,
    held: &Held,
    id: ConsentId,
    happened: ConsentEvent,
    told: Option<&MemberId>,
    now: Timestamp,
) -> Result<Consent, ConsentError> {
    let mut consent: Consent = write.get(Table::CONSENTS, id.as_bytes())?.ok_or(ConsentError::Unknown)?;
    let modules = match &happened.happened {
        ConsentHappened::PartlyWithdrawn(modules) => Some(modules.clone()),
        _ => None,
    };
    consent.events.push(happened);
    let over = consent.with(node, held, id, |record| record.standing(now))?.is_empty();
    if let (true, Some(position)) = (over, consent.position) {
        write.withdraw_status(position)?;
    }
    let modules = modules.as_ref().filter(|_| !over);
    for grant in &consent.grants {
        if grant.aud != node.config.member && Some(&grant.aud) != told {
            let withdrawal = withdrawal(node, grant, modules, now);
            write.post_withdrawal(id, &grant.aud, jws::sign(&node.keys.message, &withdrawal)?, now)?;
        }
    }
    write.put(Table::CONSENTS, id.as_bytes(), &consent)?;
    Ok(consent)
}

fn withdrawal(node: &Node, grant: &Grant, modules: Option<&BTreeSet<String>>, now: Timestamp) -> Withdrawal {
    Withdrawal {
        iss: node.config.member.clone(),
        aud: grant.aud.clone(),
        iat: now,
        consent: grant.consent,
        resident: Whose::Subject(grant.sub),
        epoch: grant.epoch,
        modules: modules.cloned(),
    }
}
