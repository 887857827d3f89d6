//! Finding entries of the institution's own log.

use super::act::Act;
use super::{DpoError, Officer, eyes, now};
use crate::bulk::blocking;
use crate::events::Happened;
use crate::faults::Expected;
use crate::node::Node;
use crate::residents::{Resident, ResidentError, find};
use audit::{DECISIONS, EventKind, Filter, Stream, project};
use protocol::FileId;
use protocol::encoding::{b64, unb64};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

const DEFAULT_LIMIT: usize = 100;
/// What one answer holds at most.
pub(super) const MAX_LIMIT: usize = 1_000;

/// Which entries: those with every value that is given.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogFilter {
    /// About this resident; the node turns the number into its file id and keeps it nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident: Option<Resident>,
    /// A resident by the file id that stands in the log, instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The event's name, as `query.answered`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// A member of staff of this institution, by the identity provider's name; kept nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staff: Option<String>,
    /// A user by the pseudonymous id that stands in the log; also what others did on the user's behalf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A terminal of this institution, by the name the identity provider has for it; kept nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal_name: Option<String>,
    /// A terminal by what stands for it in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
    /// A member on either side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The basis, its kind (`consent`, `mandate`, …), or a consent's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    /// A case of this institution, by its reference; kept nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_ref: Option<String>,
    /// `permit` or `deny`, also of one holder among several; `mixed`: some answered and some refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The digest of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The key or certificate a peer's request came under, as it stands in entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The first second of the period (seconds since 1970).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// The second after its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

/// A search.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchBody {
    /// Which entries.
    #[serde(default)]
    pub filter: LogFilter,
    /// The entry to begin with: 0, or a page's `next`.
    #[serde(default)]
    pub start: u64,
    /// Entries at most, 1 to 1000; 100 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// For whom: only what the catalogue lets these see of each entry.
    #[serde(default)]
    pub stream: LogStream,
    /// Why, in the officer's words; stays in the log. By a user or a terminal, this or a second officer is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Who reads what leaves the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// The data-protection officer.
    #[default]
    Dpo,
    /// Those who keep the machines running.
    Operations,
    /// A security monitor.
    Siem,
}

impl From<LogStream> for Stream {
    fn from(stream: LogStream) -> Self {
        match stream {
            LogStream::Dpo => Stream::Dpo,
            LogStream::Operations => Stream::Operations,
            LogStream::Siem => Stream::Siem,
        }
    }
}

/// Some of the entries looked for.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct LogPage {
    /// In the order of the log.
    pub entries: Vec<LogEntry>,
    /// What to begin the next page with, if there may be more.
    pub next: Option<u64>,
}

/// An entry of the log.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct LogEntry {
    /// Its index, from 0.
    pub index: u64,
    /// Its hash, base64url: what the tree holds of it.
    pub entry: String,
    /// What it says: `schema`, `event_id`, `event`, `time` and the fields of the catalogue.
    #[schema(value_type = Object)]
    pub payload: Value,
}

/// A filter as the log has its values, with the names of its criteria.
pub(super) struct Criteria {
    pub(super) filter: Filter,
    pub(super) names: Vec<&'static str>,
    pub(super) file: Option<FileId>,
}

impl LogFilter {
    /// Turns what people say into what stands in the log. Whether somebody is on file here is found out by it, so that
    /// it is recorded as `act` when nobody is, or several are.
    pub(super) async fn resolve(&self, node: &Node, act: &mut Act) -> Result<Criteria, DpoError> {
        let resolved = self.read(node);
        if matches!(resolved, Err(DpoError::Unknown | DpoError::Filter(ResidentError::Ambiguous))) {
            act.filter = vec!["file"];
            act.counts = [("found", 0)].into();
            let _recorded = act.record(node).await?;
        }
        resolved
    }

    /// Refuses what stands in no entry: nothing would be found, as if nothing had happened.
    fn catalogued(&self) -> Result<(), DpoError> {
        one_of("filter.event", self.event.as_deref(), EventKind::ALL.iter().map(|event| event.name()))?;
        one_of("filter.decision", self.decision.as_deref(), DECISIONS.iter().copied())
    }

    fn read(&self, node: &Node) -> Result<Criteria, DpoError> {
        self.catalogued()?;
        let file = match (&self.resident, &self.file) {
            (Some(resident), None) => Some(find(node, resident).map_err(DpoError::Filter)?.ok_or(DpoError::Unknown)?),
            (None, Some(file)) => Some(FileId(unb64(file).ok_or(DpoError::Value("filter.file"))?)),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(DpoError::Value("filter.file")),
        };
        if self.staff.is_some() && self.user.is_some() {
            return Err(DpoError::Value("filter.user"));
        }
        if self.terminal_name.is_some() && self.terminal.is_some() {
            return Err(DpoError::Value("filter.terminal"));
        }
        if self.from.zip(self.until).is_some_and(|(from, until)| until <= from) {
            return Err(DpoError::Value("filter.until"));
        }
        let staff = self.staff.as_ref().map(|staff| b64(&node.macs.staff_id(staff).0));
        let terminal = self.terminal_name.as_ref().map(|name| b64(&node.macs.terminal_id(name.trim()).0));
        let filter = Filter {
            event: self.event.clone(),
            file: file.map(|file| file.to_string()),
            user: staff.or_else(|| self.user.clone()),
            peer: self.peer.clone(),
            purpose: self.purpose.clone(),
            basis: self.basis.clone(),
            case: self.case_ref.as_ref().map(|case| b64(&node.macs.case.mac(&[case.trim().as_bytes()]))),
            decision: self.decision.clone(),
            request: self.request.clone(),
            key: self.key.clone(),
            terminal: terminal.or_else(|| self.terminal.clone()),
            from: self.from,
            until: self.until,
        };
        let given = [
            ("basis", filter.basis.is_some()),
            ("case", filter.case.is_some()),
            ("decision", filter.decision.is_some()),
            ("event", filter.event.is_some()),
            ("file", filter.file.is_some()),
            ("key", filter.key.is_some()),
            ("peer", filter.peer.is_some()),
            ("period", filter.from.is_some() || filter.until.is_some()),
            ("purpose", filter.purpose.is_some()),
            ("request", filter.request.is_some()),
            ("terminal", filter.terminal.is_some()),
            ("user", filter.user.is_some()),
        ];
        let names = given.into_iter().filter_map(|(name, given)| given.then_some(name)).collect();
        Ok(Criteria { filter, names, file })
    }
}

fn one_of(
    field: &'static str,
    given: Option<&str>,
    all: impl Iterator<Item = &'static str> + Clone,
) -> Result<(), DpoError> {
    if given.is_none_or(|given| all.clone().any(|known| known == given)) {
        return Ok(());
    }
    let known = all.collect::<Vec<_>>().join(", ");
    Err(DpoError::Unlisted { field, expected: Expected::new(known.clone(), known) })
}

/// How much a page holds.
pub(super) fn limited(limit: Option<usize>) -> Result<usize, DpoError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) { Ok(limit) } else { Err(DpoError::Value("limit")) }
}

/// Searches; what was found is shown once the search is in the log.
pub(super) async fn search(
    node: &Arc<Node>,
    officer: &Officer,
    second: Option<&Officer>,
    body: &SearchBody,
) -> Result<LogPage, DpoError> {
    let limit = limited(body.limit)?;
    let mut act = Act::of(officer, Happened::DpoSearched, node)?;
    let criteria = body.filter.resolve(node, &mut act).await?;
    let second = officer.confirmed(second);
    let alone = eyes::alone(&mut act, node, second, body.reason.as_ref(), &criteria)?;
    let Criteria { filter, names, file } = criteria;
    let about = eyes::about(&filter);
    let (searched, start) = (node.clone(), body.start);
    let found = blocking(move || searched.log.search(&filter, start, limit)).await??;
    act.filter = names;
    act.file = file;
    act.counts = [("found", found.entries.len() as u64)].into();
    let receipt = act.record(node).await?;
    if alone {
        eyes::tell(node, officer, &about, &receipt, now(node)?)?;
    }
    let shown = |entry: audit::Entry| {
        let payload = project(entry.payload.as_ref()?, body.stream.into())?;
        Some(LogEntry { index: entry.index, entry: b64(&entry.hash), payload })
    };
    Ok(LogPage { entries: found.entries.into_iter().filter_map(shown).collect(), next: found.next })
}
