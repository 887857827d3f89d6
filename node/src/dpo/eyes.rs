//! Four eyes: what one member of staff did, or was done from one terminal, is looked through with a second officer's confirmation, or else for a stated
//! reason, and then another officer finds that it was.

use super::findings::{Finding, FindingKind};
use super::search::Criteria;
use super::{Act, DpoError, Officer};
use crate::node::Node;
use audit::{Filter, Receipt};
use protocol::encoding::b64;
use protocol::saying::Message;
use protocol::{MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an officer did alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Oversight {
    /// Looked through one member of staff's accesses, or those from one terminal.
    StaffLookedThrough,
}

/// Whether a second officer has to look at this afterwards; refuses what has neither a confirmation nor a reason.
pub(super) fn alone(
    act: &mut Act,
    node: &Node,
    second: Option<&Officer>,
    reason: Option<&String>,
    criteria: &Criteria,
) -> Result<bool, DpoError> {
    act.reason_text = reason.cloned();
    act.confirmed_by = second.map(|second| second.id(node));
    let alone = !about(&criteria.filter).is_empty() && second.is_none();
    if alone && reason.is_none_or(|reason| reason.trim().is_empty()) {
        return Err(DpoError::Reason);
    }
    Ok(alone)
}

/// Which user or terminal is looked through, if it is one.
pub(super) fn about(filter: &Filter) -> String {
    let Filter { user, terminal, .. } = filter;
    [user, terminal].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Keeps that `officer` did what stands at `receipt`, for another one to look at.
pub(super) fn tell(
    node: &Node,
    officer: &Officer,
    about: &str,
    receipt: &Receipt,
    now: Timestamp,
) -> Result<(), DpoError> {
    let me = b64(&officer.id(node).0);
    let why = Message {
        pl: "inspektor przejrzał działania jednej osoby lub jednego stanowiska bez potwierdzenia drugiego inspektora"
            .to_owned(),
        en: "an officer looked through the accesses of one member of staff, or from one terminal, without a second \
             officer's confirmation"
            .to_owned(),
    };
    // The pages of one search are one finding.
    let key = format!("{me} {about} {}", now.day());
    let kind = FindingKind::Oversight(Oversight::StaffLookedThrough);
    let peer: Option<MemberId> = None;
    let found = Finding { peer, user: Some(me), ..Finding::new(kind, &key, why, vec![receipt.index()], now.0) };
    super::findings::keep(node, vec![found])?;
    Ok(())
}
