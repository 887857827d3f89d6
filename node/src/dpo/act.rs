//! An officer's own acts in the log.

use super::{DpoError, Officer, now};
use crate::events::Happened;
use crate::node::Node;
use crate::staff::Hand;
use crate::tokens::Caller;
use audit::Receipt;
use protocol::encoding::Bytes;
use protocol::{FileId, MemberId, ProviderWord, Reason, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use transport::Clock;

/// One act; fields in the order of their names, so that what is written is canonical already (RFC 8785).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Act {
    /// A member of staff whose name was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) about: Option<Bytes>,
    /// A peer that took part in what it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asker: Option<MemberId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<ProviderWord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) confirmed_by: Option<Bytes>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) counts: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<&'static str>,
    event: Happened,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<FileId>,
    /// Names of criteria.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) filter: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<MemberId>,
    ms: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) report: Option<String>,
    /// A category of retention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retention: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<ProviderWord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    terminal: Option<Bytes>,
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Bytes>,
}

impl Act {
    /// What happens now.
    pub(crate) fn new(event: Happened, clock: &Clock) -> Self {
        Act::at(event, clock.now_ms())
    }

    fn at(event: Happened, at_ms: i64) -> Self {
        let (time, ms) = Timestamp::of_ms(at_ms);
        Act {
            about: None,
            asker: None,
            auth: None,
            confirmed_by: None,
            counts: BTreeMap::new(),
            decision: None,
            event,
            file: None,
            filter: Vec::new(),
            finding: None,
            holder: None,
            ms,
            on_behalf_of: None,
            reason: None,
            reason_text: None,
            report: None,
            retention: None,
            role: None,
            system: None,
            terminal: None,
            time,
            user: None,
        }
    }

    /// What `caller` does in `role`, now.
    pub(crate) fn by(node: &Node, caller: &Caller, role: &'static str, event: Happened) -> Self {
        Act { role: Some(role), ..Act::of_caller(node, caller, event) }
    }

    fn of_caller(node: &Node, caller: &Caller, event: Happened) -> Self {
        let Hand { auth, on_behalf_of, system, terminal, user } = Hand::of(node, caller);
        Act { auth, on_behalf_of, system, terminal, user: Some(user), ..Act::new(event, &node.clock) }
    }

    /// That what is kept here is read at the desk, by `criterion`, and how much there was: recorded before it is shown,
    /// and also that there was none. Of `roles` the one the caller has is told. By a wrong clock nothing is read.
    pub(crate) fn reading(
        node: &Node,
        caller: &Caller,
        roles: &[&'static str],
        criterion: &'static str,
        found: usize,
    ) -> Result<Self, Reason> {
        node.now()?;
        let role = roles.iter().copied().find(|role| caller.has(&[role]));
        let (counts, filter) = ([("found", found as u64)].into(), vec![criterion]);
        Ok(Act { counts, filter, role, ..Act::of_caller(node, caller, Happened::LogRead) })
    }

    /// An officer's act, now.
    pub(crate) fn of(officer: &Officer, event: Happened, node: &Node) -> Result<Self, DpoError> {
        now(node)?;
        Ok(Act::by(node, &officer.0, super::ROLE, event))
    }

    /// What `caller` tried, now, and was refused for `reason`.
    pub(crate) fn denied(node: &Node, caller: &Caller, event: Happened, reason: &'static str) -> Self {
        Act { decision: Some("deny"), reason: Some(reason), ..Act::of_caller(node, caller, event) }
    }

    /// Records it; only then anything may be shown.
    pub(crate) async fn record(&self, node: &Node) -> Result<Receipt, DpoError> {
        Ok(node.log.append(self).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_canonical_and_its_fields_are_the_officers_to_see() {
        let mut act = Act::at(Happened::DpoSearched, 1_007);
        act.about = Some(Bytes(vec![4]));
        act.asker = Some("pup".parse().unwrap());
        act.auth = Some("urn:two-factors".parse().unwrap());
        act.confirmed_by = Some(Bytes(vec![1]));
        act.counts = [("found", 1)].into();
        act.decision = Some("permit");
        act.file = Some(FileId([2; 16]));
        act.filter = vec!["file"];
        act.finding = Some("f".into());
        act.holder = Some("pup".parse().unwrap());
        act.on_behalf_of = Some(Bytes(vec![5]));
        act.reason = Some("r");
        act.reason_text = Some("words".into());
        act.report = Some("R2".into());
        act.retention = Some("B5".into());
        act.role = Some("dpo");
        act.system = Some("pomost".parse().unwrap());
        act.terminal = Some(Bytes(vec![6]));
        act.user = Some(Bytes(vec![3]));
        let written = serde_json::to_string(&act).unwrap();
        let value: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(written, value.to_string());
        let seen = audit::project(&value, audit::Stream::Dpo).unwrap();
        for field in value.as_object().unwrap().keys() {
            assert!(seen.get(field).is_some(), "{field}");
        }
    }
}
