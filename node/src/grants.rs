//! A holder's side of consent: grants and withdrawals that others signed.

use crate::consents;
use crate::events::{Event, Happened};
use crate::faults::Expected;
use crate::flags;
use crate::node::{Node, NodeError};
use crate::store::{Read, StoreError, Table};
use protocol::consent::{Grant, Whose, Withdrawal};
use protocol::jws;
use protocol::notice::Refused;
use protocol::{ConsentId, FileId, MemberId, Problem, Reason, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Withdrawals of grants not held here that one member can make us keep in a day.
const EARLY_WITHDRAWALS_PER_DAY: u64 = 1_000;

/// What was heard of withdrawals of one consent.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Heard {
    /// All of it.
    pub(crate) whole: bool,
    /// These modules.
    pub(crate) modules: BTreeSet<String>,
    /// From whom, and when.
    pub(crate) from: Vec<(MemberId, Timestamp)>,
}

impl Heard {
    /// Takes in what `by` says is withdrawn; whether that changes anything.
    fn take(&mut self, modules: Option<&BTreeSet<String>>, by: &MemberId, now: Timestamp) -> bool {
        let before = (self.whole, self.modules.len());
        match modules {
            None => self.whole = true,
            Some(modules) => self.modules.extend(modules.iter().cloned()),
        }
        let changed = before != (self.whole, self.modules.len());
        if changed {
            self.from.push((by.clone(), now));
        }
        changed
    }
}

/// Why a grant or withdrawal is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    #[error("the node is closed")]
    Closed(Reason),
    #[error("the message is refused")]
    Refused(Reason),
    #[error("the consent has no such modules")]
    Modules,
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl From<StoreError> for GrantError {
    fn from(error: StoreError) -> Self {
        GrantError::Node(error.into())
    }
}

impl GrantError {
    /// What the sender is told.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            GrantError::Closed(reason) => Problem::because(503, *reason).retry_after(5),
            GrantError::Refused(reason) => Problem::because(403, *reason),
            GrantError::Modules => {
                Expected::new("modules of the consent's template", "moduły z wzoru zgody").problem("modules")
            }
            GrantError::Node(_) => Problem::because(503, Reason::LogUnavailable).retry_after(5),
        }
    }
}

/// Keeps a grant. Acknowledged alike whether or not the resident is known here.
pub(crate) async fn take_grant(node: &Node, peer: &MemberId, token: &str) -> Result<(), GrantError> {
    let held = node.manifest().map_err(GrantError::Closed)?;
    let now = node.now().map_err(GrantError::Closed)?;
    let grant: Grant =
        jws::verify(token, |kid| held.signer(kid, now)).map_err(|_| GrantError::Refused(Reason::SignatureInvalid))?;
    if &grant.iss != peer || grant.aud != node.config.member || !grant.iat.not_ahead_of(now) {
        return Err(GrantError::Refused(Reason::AudienceWrong));
    }
    keep_grant(node, &grant).await?;
    node.fetch_status(peer, &held).await;
    Ok(())
}

/// Keeps a grant that is signed, or our own. The first of an id stays: another is not a change but a forgery.
pub(crate) async fn keep_grant(node: &Node, grant: &Grant) -> Result<(), GrantError> {
    let key = grant.consent.as_bytes();
    if let Some(kept) = node.store.read()?.get::<Grant>(Table::GRANTS, key)? {
        return if &kept == grant { Ok(()) } else { Err(GrantError::Refused(Reason::ConsentUnknown)) };
    }
    let mut event = Event::new(Happened::ConsentGranted, &node.clock);
    let file = node.store.read()?.file_of_subject(&node.store, grant.epoch, &grant.sub)?;
    event.file = file;
    event.consent = Some(grant.consent);
    event.asker = Some(grant.recipient.clone());
    event.holder = Some(node.config.member.clone());
    event.fields_requested.clone_from(&grant.fields);
    event.evidence = Some(grant.evidence.clone());
    event.valid_until = Some(grant.valid_to);
    event.detail = Some(format!("recorded by {} ({}@{})", grant.iss, grant.template.id, grant.template.version));
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    node.store.write(|write| {
        // What the resident gives, module by module, is newer than what was refused before.
        if let Some(file) = file {
            flags::give(write, file, &grant.recipient, &grant.purposes, &grant.fields, grant.iat)?;
        }
        write.put(Table::GRANTS, key, grant)
    })?;
    node.follow(&grant.iss);
    Ok(())
}

/// Obeys a withdrawal at once, whoever took it; the recorder of the consent sees that every holder does. Whether the
/// consent is known here; if not, the withdrawal is kept in case its grant comes later.
pub(crate) async fn take_withdrawal(node: &Arc<Node>, peer: &MemberId, token: &str) -> Result<bool, GrantError> {
    let held = node.manifest().map_err(GrantError::Closed)?;
    let now = node.now().map_err(GrantError::Closed)?;
    let withdrawal: Withdrawal =
        jws::verify(token, |kid| held.signer(kid, now)).map_err(|_| GrantError::Refused(Reason::SignatureInvalid))?;
    if &withdrawal.iss != peer || withdrawal.aud != node.config.member {
        return Err(GrantError::Refused(Reason::AudienceWrong));
    }
    let (kept, recorded, file) = {
        let read = node.store.read()?;
        let kept: Option<Grant> = read.get(Table::GRANTS, withdrawal.consent.as_bytes())?;
        let recorded = consents::recorded_here(&read, withdrawal.consent)?;
        let granted =
            kept.as_ref().map(|grant| read.file_of_subject(&node.store, grant.epoch, &grant.sub)).transpose()?;
        let file = recorded.as_ref().map(|recorded| recorded.file).or(granted.flatten());
        let same = kept.as_ref().is_some_and(|grant| withdrawal.resident == Whose::Subject(grant.sub));
        let known = kept.is_some() || recorded.is_some();
        if known && !same && !is_of(node, &read, &withdrawal, file)? {
            return Err(GrantError::Refused(Reason::ConsentUnknown));
        }
        (kept, recorded, file)
    };
    let template = recorded.as_ref().map(|recorded| &recorded.template).or(kept.as_ref().map(|grant| &grant.template));
    if template.is_some_and(|template| !consents::modules_fit(node, template, withdrawal.modules.as_ref())) {
        return Err(GrantError::Modules);
    }
    let known = template.is_some();
    if !known {
        // It may come before its grant, so it is kept; how many of these a member can make us keep is bounded.
        let spent = node.guard.spend_today(&["early-withdrawals", peer.as_str()], 1, EARLY_WITHDRAWALS_PER_DAY, now);
        spent.map_err(NodeError::from)?.map_err(|_| GrantError::Refused(Reason::QuotaExceeded))?;
    }
    keep_withdrawal(node, withdrawal.consent, withdrawal.modules.as_ref(), peer, file, now).await?;
    if recorded.is_some() {
        consents::withdrawn_elsewhere(node, &withdrawal, now)?;
    }
    Ok(known)
}

/// Whether a withdrawal is of the resident of `file`. Where that cannot be told, nothing could be released either, and
/// obeying only denies.
fn is_of(node: &Node, read: &Read<'_>, withdrawal: &Withdrawal, file: Option<FileId>) -> Result<bool, StoreError> {
    match &withdrawal.resident {
        Whose::Subject(sub) => Ok(file.is_some() && read.file_of_subject(&node.store, withdrawal.epoch, sub)? == file),
        Whose::Marks(marks) => {
            let names = file.map(|file| read.names(withdrawal.epoch, file)).transpose()?.flatten().unwrap_or_default();
            let mut ours = names.marks(&node.config.member, withdrawal.consent).peekable();
            Ok(ours.peek().is_none() || ours.any(|ours| marks.iter().any(|mark| mark.0 == ours)))
        }
    }
}

/// Keeps a withdrawal that is signed, or our own: effective first, recorded next, acknowledged last.
pub(crate) async fn keep_withdrawal(
    node: &Node,
    consent: ConsentId,
    modules: Option<&BTreeSet<String>>,
    by: &MemberId,
    file: Option<FileId>,
    now: Timestamp,
) -> Result<(), GrantError> {
    let changed = node.store.write(|write| {
        let mut heard: Heard = write.get(Table::WITHDRAWN, consent.as_bytes())?.unwrap_or_default();
        let changed = heard.take(modules, by, now);
        if changed {
            write.put(Table::WITHDRAWN, consent.as_bytes(), &heard)?;
        }
        Ok::<_, StoreError>(changed)
    })?;
    // The same again says nothing new.
    if !changed {
        return Ok(());
    }
    let mut event = Event::new(Happened::WithdrawalReceived, &node.clock);
    event.file = file;
    event.consent = Some(consent);
    event.detail = Some(match modules {
        None => format!("taken by {by}"),
        Some(modules) => format!("taken by {by}, {}", consents::named(modules)),
    });
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    Ok(())
}

/// Keeps a refusal of a resident. Acknowledged alike whether or not the resident is known here.
pub(crate) async fn take_refusal(node: &Node, peer: &MemberId, token: &str) -> Result<(), GrantError> {
    let held = node.manifest().map_err(GrantError::Closed)?;
    let now = node.now().map_err(GrantError::Closed)?;
    let refused: Refused =
        jws::verify(token, |kid| held.signer(kid, now)).map_err(|_| GrantError::Refused(Reason::SignatureInvalid))?;
    if &refused.iss != peer || refused.aud != node.config.member || !refused.iat.not_ahead_of(now) {
        return Err(GrantError::Refused(Reason::AudienceWrong));
    }
    keep_refusal(node, &refused).await
}

/// Keeps a refusal that is signed, or our own.
pub(crate) async fn keep_refusal(node: &Node, refused: &Refused) -> Result<(), GrantError> {
    let file = node.store.read()?.file_of_subject(&node.store, refused.epoch, &refused.sub)?;
    if let Some(file) = file {
        node.store.write(|write| {
            refused.purposes.iter().try_for_each(|purpose| {
                let one = flags::Refused {
                    recipient: Some(refused.recipient.clone()),
                    purpose: Some(purpose.clone()),
                    fields: Some(refused.fields.clone()),
                    at: refused.iat,
                };
                flags::refuse(write, file, one)
            })
        })?;
    }
    let mut event = Event::new(Happened::ConsentRefused, &node.clock);
    event.file = file;
    event.asker = Some(refused.recipient.clone());
    event.fields_requested.clone_from(&refused.fields);
    event.detail = Some(format!("said to {}", refused.iss));
    let _recorded = node.log.append(&event).await.map_err(NodeError::from)?;
    Ok(())
}
