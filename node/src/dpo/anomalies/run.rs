//! The look through the log: for an officer, and by itself for every day that is over.

use super::access::{Case, Log, Surroundings, lasting};
use super::{Anomaly, Explanation, Reviewed, Rule, review};
use crate::bulk::blocking;
use crate::dpo::act::Act;
use crate::dpo::findings::{self, Finding, FindingKind, ReviewState};
use crate::dpo::{DpoError, Officer, now};
use crate::events::Happened;
use crate::kin::{Kin, Relations};
use crate::manifests::Held;
use crate::node::Node;
use crate::records::{FileRecord, OfFiles};
use crate::store::{StoreError, Table};
use audit::{Entry, Filter};
use jiff::ToSpan as _;
use jiff::civil::Date;
use policies::{Engine, Tier, calendar};
use protocol::Timestamp;
use protocol::encoding::b64;
use protocol::time::DAY_SECONDS;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use utoipa::ToSchema;

/// Days that may be judged at once.
const MAX_DAYS: i64 = 366;
/// Key in `state` of the first moment not judged yet.
const JUDGED: &[u8] = b"anomalies";
/// What the last day of a case is called among the fields of any kind of institution.
const CASE_END: &str = ".case.to";

/// Which days.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnomaliesBody {
    /// In the first day (seconds since 1970); a day before the end, if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// The second after the last that counts; now, if not said. Days are judged whole, as far as they are over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

/// What the look came to.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Anomalies {
    /// Accesses looked at.
    pub examined: u64,
    /// How many of them had each explanation; one with several counts for the first.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub explained: BTreeMap<Explanation, u64>,
    /// What is left to look at, with what came of it before: a thousand at most.
    pub findings: Vec<Finding>,
    /// How many more there are; all are among the findings that are listed page by page.
    pub left_out: u64,
}

/// Looks for an officer.
pub(in crate::dpo) async fn on_demand(
    node: &Arc<Node>,
    officer: &Officer,
    body: &AnomaliesBody,
) -> Result<Anomalies, DpoError> {
    let until = body.until.unwrap_or_else(|| node.clock.now().0 + 1);
    let from = body.from.unwrap_or(until.saturating_sub(DAY_SECONDS));
    if until <= from {
        return Err(DpoError::Value("until"));
    }
    if until.saturating_sub(from) > MAX_DAYS * DAY_SECONDS {
        return Err(DpoError::Value("from"));
    }
    let days = day(Timestamp(from)).zip(day(Timestamp(until - 1)));
    let act = Act::of(officer, Happened::AnomaliesReviewed, node)?;
    look(node, days.ok_or(DpoError::Value("from"))?, act).await
}

impl Node {
    /// Once a day, looks through the days that are over.
    pub(crate) async fn look_for_anomalies_daily(self: &Arc<Self>) {
        if let Err(error) = self.look_daily().await {
            tracing::error!(%error, "the daily look for accesses without explanation failed");
        }
    }

    async fn look_daily(self: &Arc<Self>) -> Result<(), DpoError> {
        if self.held.load().is_none() {
            return Ok(());
        }
        let now = now(self)?;
        let Some(today) = day(now).and_then(calendar::begins) else { return Ok(()) };
        let judged: Option<Timestamp> = self.store.read()?.get(Table::STATE, JUDGED)?;
        let done = || self.store.write(|write| write.put(Table::STATE, JUDGED, &today));
        let judged = judged.or_else(|| self.log_begun()).unwrap_or(today);
        let from = judged.max(today + -MAX_DAYS * DAY_SECONDS);
        let Some(days) = day(from).zip(day(today + -1)).filter(|_| from < today) else { return Ok(()) };
        let found = look(self, days, Act::new(Happened::AnomaliesReviewed, &self.clock)).await?;
        done()?;
        let open = found.findings.iter().filter(|finding| finding.state == ReviewState::Open).count();
        if open > 0 {
            tracing::warn!(open, "accesses without explanation: the data-protection officer should look");
        }
        Ok(())
    }
}

/// The day of Warsaw `at` lies in.
fn day(at: Timestamp) -> Option<Date> {
    calendar::local(at).map(jiff::civil::DateTime::date)
}

/// Looks, records that, and keeps what is new.
async fn look(node: &Arc<Node>, days: (Date, Date), mut act: Act) -> Result<Anomalies, DpoError> {
    let held = node.held.load_full().ok_or(DpoError::Closed(protocol::Reason::ManifestExpired))?;
    let reader = node.clone();
    let Reviewed { examined, explained, anomalies } = blocking(move || read(&reader, &held, days)).await??;
    act.counts =
        [("examined", examined), ("explained", explained.values().sum()), ("findings", anomalies.len() as u64)].into();
    let _recorded = act.record(node).await?;
    let me = node.config.member.as_str();
    let found = anomalies.into_iter().map(|anomaly| finding(anomaly, me)).collect();
    let (findings, left_out) = findings::first(findings::keep(node, found)?);
    Ok(Anomalies { examined, explained, findings, left_out })
}

fn finding(anomaly: Anomaly, me: &str) -> Finding {
    let Anomaly { rule, key, why, entries, time, member, user, file } = anomaly;
    let peer = (member != me).then(|| member.parse().ok()).flatten();
    Finding { peer, user, file, ..Finding::new(FindingKind::Rule(rule), &key, why, entries, time) }
}

/// Reads what is needed to judge `days`, and judges them. Blocks.
fn read(node: &Node, held: &Held, days: (Date, Date)) -> Result<Reviewed, DpoError> {
    let parameters = &node.config.anomalies;
    let catalogue = node.engine.library().catalogue();
    let compares = |query: &str| {
        query.parse().ok().and_then(|query| catalogue.queries.get(&query)).is_some_and(|q| q.tier == Tier::Verify)
    };
    let now = node.clock.now();
    let covered: RefCell<HashMap<[String; 4], bool>> = RefCell::default();
    let agreed = |asker: &str, holder: &str, query: &str, purpose: &str| {
        let key = [asker, holder, query, purpose].map(str::to_owned);
        *covered.borrow_mut().entry(key).or_insert_with(|| {
            let all = || {
                let (asker, holder) = (asker.parse().ok()?, holder.parse().ok()?);
                let (query, purpose) = (query.parse().ok()?, purpose.parse().ok()?);
                Engine::agreement_for(&held.manifest, &[], &asker, &holder, &query, &purpose, now).ok()
            };
            all().is_some()
        })
    };
    // Where they cannot be read less is explained, and more is looked at.
    let cases = OfFiles::new(node, cases);
    let case = |file: &str, case: &str| cases.look(file, |cases| cases.get(case).copied());
    let cleared = explained(node)?;
    let explained = |index: u64| cleared.contains(&index);
    let relations = Relations::read(node)?;
    let related = |user: &str, file: &str, kin: Kin| relations.are(user, file, kin);
    let (case, explained) = (&case, &explained);
    let surroundings = Surroundings { compares: &compares, agreed: &agreed, case, related: &related, explained };

    let begins = |day: Date| calendar::begins(day).map(|at| at.0);
    let look_back = i64::from(parameters.look_back_days);
    let start = days.0.checked_sub(look_back.days()).ok().and_then(begins);
    let end = days.1.tomorrow().ok().and_then(begins);
    let mut log = Log::default();
    let mut take = |filter: Filter| {
        let each = |entry: Entry| log.take(entry.index, &entry.payload.unwrap_or_default(), &surroundings);
        node.log.search_each(&filter, each)
    };
    for event in lasting() {
        take(Filter { event: Some(event.name().to_owned()), until: start, ..Filter::default() })?;
    }
    take(Filter { from: start, until: end, ..Filter::default() })?;
    Ok(review(&log, parameters, &surroundings, days))
}

/// Entries whose access an officer found explained.
fn explained(node: &Node) -> Result<BTreeSet<u64>, StoreError> {
    let read = node.store.read()?;
    let mut entries = BTreeSet::new();
    for row in read.each::<Finding>(Table::FINDINGS)? {
        let (_, finding) = row?;
        if finding.kind == FindingKind::Rule(Rule::Unexplained) && finding.state == ReviewState::Explained {
            entries.extend(finding.entries);
        }
    }
    Ok(entries)
}

/// The case numbers of a file, as they stand in entries.
fn cases(node: &Node, record: FileRecord) -> HashMap<String, Case> {
    let mut out = HashMap::new();
    for row in record.rows {
        let Some(number) = row.local_number else { continue };
        let end = row.fields.iter().find(|(field, _)| field.as_str().ends_with(CASE_END));
        let end = end.and_then(|(_, value)| value.as_str()?.parse().ok());
        let case = b64(&node.macs.case.mac(&[number.trim().as_bytes()]));
        let this = end.map_or(Case::Open, Case::Ended);
        // A number with several rows is open as long as one of them is.
        let both = |before: &Case| match (*before, this) {
            (Case::Ended(one), Case::Ended(other)) => Case::Ended(one.max(other)),
            _ => Case::Open,
        };
        let merged = out.get(&case).map_or(this, both);
        out.insert(case, merged);
    }
    out
}
