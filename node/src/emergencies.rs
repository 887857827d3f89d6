//! Emergency access (GDPR 6(1)(d)): opened with a typed reason, confirmed a second time, over by itself, shown to the
//! data-protection officer at once, reviewed in the end, and then told to the resident unless a reason stands against it.
//! Each side keeps the emergencies it took or answered; both know one by the same id.
//!
//! Nobody has to prove anything first. So it is counted, and a user whose last one is not reviewed in time gets no other,
//! here or at a holder that was not told of a review.

use crate::desk::{self, DeskError};
use crate::dpo::Act;
use crate::events::{Event, Happened};
use crate::faults::Expected;
use crate::grants::GrantError;
use crate::manifests::Held;
use crate::node::Node;
use crate::residents::Resident;
use crate::store::{StoreError, Table};
use crate::tokens::Caller;
use policies::Permit;
use policies::letter::Letter;
use policies::receipt::Tongue;
use protocol::encoding::{Bytes, b64, sha256, unb64};
use protocol::jws;
use protocol::manifest::Member;
use protocol::notice::{ReviewOutcome, Reviewed};
use protocol::query::{Basis, EmergencyClaim, QueryRequest};
use protocol::time::DAY_SECONDS;
use protocol::{FieldId, FileId, MemberId, MemberKind, Reason, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::ToSchema;

/// Who may break the glass.
const ROLES: [&str; 3] = ["caseworker", "coordinator", "supervisor"];
/// Who reviews.
const REVIEWERS: [&str; 1] = ["dpo"];
/// Who sees the queue and prints letters.
const READERS: [&str; 2] = ["dpo", "supervisor"];
/// A review's message may take this long before the holder counts it as overdue.
pub const REVIEW_GRACE_SECONDS: i64 = DAY_SECONDS;

/// Danger, as a user declares it.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmergencyBody {
    /// Who is in danger.
    pub resident: Resident,
    /// One of the library's reasons.
    #[schema(example = "life")]
    pub reason: String,
    /// What happened, in the user's words; stays in this institution.
    pub text: String,
}

/// What a review found.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewBody {
    /// `justified` or `unjustified`.
    #[schema(value_type = String, example = "justified")]
    pub outcome: ReviewOutcome,
    /// Why, in the reviewer's words; stays in this institution.
    pub text: String,
    /// Whether the resident is told (GDPR art. 14); needed of one taken here.
    #[serde(default)]
    pub notice: Option<ResidentNotice>,
}

/// Whether, and how, a resident is told that their data were seen in an emergency.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResidentNotice {
    /// Told, this way.
    Informed(NoticeWay),
    /// Not told, for this reason, in the reviewer's words: it would put somebody in danger, or the resident knows.
    NotInformed(String),
}

/// How a resident is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoticeWay {
    /// By post, to the address that is safe.
    Letter,
    /// Handed over.
    InPerson,
    /// By e-mail, portal or ePUAP.
    Electronic,
}

impl ResidentNotice {
    /// As the log has it.
    fn code(&self) -> &'static str {
        match self {
            ResidentNotice::Informed(NoticeWay::Letter) => "letter",
            ResidentNotice::Informed(NoticeWay::InPerson) => "in_person",
            ResidentNotice::Informed(NoticeWay::Electronic) => "electronic",
            ResidentNotice::NotInformed(_) => "not_informed",
        }
    }
}

/// An emergency access, taken or answered here.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EmergencyView {
    /// Its id, the same on both sides.
    pub id: String,
    /// Whether this institution took it or answered on it.
    pub side: Side,
    /// Who took it.
    #[schema(value_type = String)]
    pub asker: MemberId,
    /// Pseudonymous id of the user who did.
    pub user: String,
    /// The library's reason.
    pub reason: String,
    /// What the user wrote; only where it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// This institution's own numbers of the resident; only in the officer's list.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub local_numbers: BTreeSet<String>,
    /// When it was opened (seconds since 1970).
    pub opened: i64,
    /// Whether it was confirmed a second time.
    pub confirmed: bool,
    /// When it is over (seconds since 1970).
    pub expires: i64,
    /// When its review is due (seconds since 1970).
    pub review_by: i64,
    /// Whether that has passed without one.
    pub overdue: bool,
    /// Who answered on it.
    #[schema(value_type = Vec<String>)]
    pub holders: BTreeSet<MemberId>,
    /// What the review found: `justified` or `unjustified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub outcome: Option<ReviewOutcome>,
    /// Whether the resident is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<ResidentNotice>,
}

/// On which side of an emergency access an institution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// It asked.
    Taken,
    /// It answered.
    Answered,
}

/// The data-protection officer's queue.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EmergencyList {
    /// Oldest first.
    pub emergencies: Vec<EmergencyView>,
}

/// An emergency as kept.
#[derive(Serialize, Deserialize)]
struct Row {
    side: Side,
    asker: MemberId,
    user: Bytes,
    reason: String,
    text: Option<String>,
    note: Bytes,
    file: FileId,
    opened: Timestamp,
    confirmed: Option<Timestamp>,
    expires: Timestamp,
    review_by: Timestamp,
    /// Who answered, with which fields; a row kept before this was noted has none.
    #[serde(default)]
    seen: BTreeMap<MemberId, BTreeSet<FieldId>>,
    review: Option<Review>,
}

#[derive(Serialize, Deserialize)]
struct Review {
    outcome: ReviewOutcome,
    notice: Option<ResidentNotice>,
}

impl Row {
    fn claim(&self) -> EmergencyClaim {
        EmergencyClaim {
            reason: self.reason.clone(),
            note: self.note.clone(),
            opened: self.opened,
            // Not later than it was opened: a holder refuses what was not confirmed.
            confirmed: self.confirmed.unwrap_or(self.opened),
        }
    }

    fn overdue(&self, now: Timestamp) -> bool {
        // What was never confirmed opened nothing.
        let grace = if self.side == Side::Answered { REVIEW_GRACE_SECONDS } else { 0 };
        self.confirmed.is_some() && self.review.is_none() && now > self.review_by + grace
    }

    fn view(&self, now: Timestamp) -> EmergencyView {
        EmergencyView {
            id: b64(&self.claim().id(&self.asker)),
            side: self.side,
            asker: self.asker.clone(),
            user: b64(&self.user.0),
            reason: self.reason.clone(),
            text: self.text.clone(),
            local_numbers: BTreeSet::new(),
            opened: self.opened.0,
            confirmed: self.confirmed.is_some(),
            expires: self.expires.0,
            review_by: self.review_by.0,
            overdue: self.overdue(now),
            holders: self.seen.keys().cloned().collect(),
            outcome: self.review.as_ref().map(|review| review.outcome),
            notice: self.review.as_ref().and_then(|review| review.notice.clone()),
        }
    }
}

fn key(side: Side, id: &[u8; 16]) -> Vec<u8> {
    let side = match side {
        Side::Taken => b't',
        Side::Answered => b'a',
    };
    [&[side], id.as_slice()].concat()
}

/// Opens an emergency; it serves when it is confirmed.
pub(crate) async fn open(node: &Node, caller: &Caller, body: &EmergencyBody) -> Result<EmergencyView, DeskError> {
    desk::only(caller, &ROLES)?;
    let now = node.now().map_err(DeskError::Closed)?;
    let catalogue = node.engine.library().catalogue();
    let known = catalogue.emergency_for(&body.reason);
    let (_, emergency) = known.ok_or(DeskError::Refused(Reason::EmergencyReason))?;
    let held = node.manifest().map_err(DeskError::Closed)?;
    let kind = held.manifest.member(&node.config.member).map(|member| &member.kind);
    if kind.is_none_or(|kind| catalogue.in_danger(emergency, kind).next().is_none()) {
        // It would open nothing, and be reviewed all the same.
        return Err(DeskError::NoEmergency);
    }
    if body.text.trim().is_empty() {
        return Err(DeskError::Value { field: "text", expected: Expected::new("what happened", "co się stało") });
    }
    let (file, user) = (desk::file(node, &body.resident)?, desk::user(node, caller));
    if overdue(node, &node.config.member, &user, now)? {
        return Err(DeskError::Refused(Reason::EmergencyReviewOverdue));
    }
    let row = Row {
        side: Side::Taken,
        asker: node.config.member.clone(),
        user,
        reason: body.reason.clone(),
        text: Some(body.text.clone()),
        note: Bytes(sha256(&[body.text.as_bytes()]).to_vec()),
        file,
        opened: now,
        confirmed: None,
        expires: emergency.expires(now),
        review_by: emergency.review_by(now),
        seen: BTreeMap::new(),
        review: None,
    };
    let key = key(Side::Taken, &row.claim().id(&row.asker));
    let mut event = event(node, Happened::EmergencyDeclared, &row, now).by(node, caller);
    event.reason_text.clone_from(&row.text);
    event.search_key = Some(body.resident.search_key());
    let _recorded = node.log.append(&event).await?;
    node.store.write(|write| {
        if write.get::<Row>(Table::EMERGENCIES, &key)?.is_some() {
            return Err(DeskError::Decided);
        }
        Ok(write.put(Table::EMERGENCIES, &key, &row)?)
    })?;
    Ok(row.view(now))
}

/// Confirms an emergency a second time, by the user who opened it: from here on it serves, and is to be reviewed.
pub(crate) async fn confirm(node: &Node, caller: &Caller, id: &str) -> Result<EmergencyView, DeskError> {
    let now = node.now().map_err(DeskError::Closed)?;
    let (key, mut row) = own(node, caller, id)?;
    if now > row.expires {
        return Err(DeskError::Refused(Reason::EmergencyExpired));
    }
    if now <= row.opened {
        // In the same second it is a reflex, and holders refuse it.
        return Err(DeskError::Refused(Reason::EmergencyUnconfirmed));
    }
    if row.confirmed.is_none() {
        let mut event = event(node, Happened::EmergencyOpened, &row, now).by(node, caller);
        event.reason_text.clone_from(&row.text);
        let _recorded = node.log.append(&event).await?;
        tracing::warn!(id, "an emergency access was opened: the data-protection officer must review it");
        row.confirmed = Some(now);
        node.store.write(|write| write.put(Table::EMERGENCIES, &key, &row))?;
    }
    Ok(row.view(now))
}

/// The claim of an emergency that its user opened for the resident of `file`.
pub(crate) fn claim(
    node: &Node,
    caller: &Caller,
    id: &str,
    file: Option<FileId>,
    now: Timestamp,
) -> Result<Basis, Reason> {
    let (_, row) = own(node, caller, id).map_err(|_| Reason::EmergencyUnknown)?;
    if file != Some(row.file) {
        return Err(Reason::EmergencyUnknown);
    }
    if row.confirmed.is_none() {
        return Err(Reason::EmergencyUnconfirmed);
    }
    if now > row.expires {
        return Err(Reason::EmergencyExpired);
    }
    Ok(Basis::Emergency(row.claim()))
}

/// An emergency of the caller's own.
fn own(node: &Node, caller: &Caller, id: &str) -> Result<(Vec<u8>, Row), DeskError> {
    let key = key(Side::Taken, &unb64(id).ok_or(DeskError::Unknown)?);
    let row: Option<Row> = node.store.read()?.get(Table::EMERGENCIES, &key)?;
    let row = row.filter(|row| row.user == desk::user(node, caller)).ok_or(DeskError::Unknown)?;
    Ok((key, row))
}

/// Notes who answered on an emergency taken here, each with which fields.
pub(crate) fn used(
    node: &Node,
    basis: &Basis,
    answers: impl Iterator<Item = (MemberId, BTreeSet<FieldId>)>,
) -> Result<(), StoreError> {
    let Basis::Emergency(claim) = basis else { return Ok(()) };
    let key = key(Side::Taken, &claim.id(&node.config.member));
    node.store.write(|write| {
        let Some(mut row) = write.get::<Row>(Table::EMERGENCIES, &key)? else { return Ok(()) };
        for (holder, fields) in answers {
            row.seen.entry(holder).or_default().extend(fields);
        }
        write.put(Table::EMERGENCIES, &key, &row)
    })
}

/// Notes, before the answer leaves, that we answer on a peer's emergency: our own officer sees it at once.
pub(crate) fn answered(node: &Node, request: &QueryRequest, file: FileId, permit: &Permit) -> Result<(), StoreError> {
    let Basis::Emergency(claim) = &request.basis else { return Ok(()) };
    let key = key(Side::Answered, &claim.id(&request.iss));
    let known = node.engine.library().catalogue().emergency_for(&claim.reason);
    let row = Row {
        side: Side::Answered,
        asker: request.iss.clone(),
        user: request.user.id.clone(),
        reason: claim.reason.clone(),
        text: None,
        note: claim.note.clone(),
        file,
        opened: claim.opened,
        confirmed: Some(claim.confirmed),
        expires: known.map_or(claim.opened, |(_, emergency)| emergency.expires(claim.opened)),
        review_by: permit.obligations().review_by.unwrap_or(request.iat),
        seen: BTreeMap::from([(node.config.member.clone(), permit.fields() | permit.compared())]),
        review: None,
    };
    tracing::warn!(asker = %request.iss, "answered on an emergency: the data-protection officer's queue has it");
    node.store.write(|write| match write.get::<Row>(Table::EMERGENCIES, &key)? {
        Some(mut known) => {
            for (holder, fields) in row.seen {
                known.seen.entry(holder).or_default().extend(fields);
            }
            write.put(Table::EMERGENCIES, &key, &known)
        }
        None => write.put(Table::EMERGENCIES, &key, &row),
    })
}

/// Whether an emergency of `user` of `asker` is past its review, as far as is known here.
pub(crate) fn overdue(node: &Node, asker: &MemberId, user: &Bytes, now: Timestamp) -> Result<bool, StoreError> {
    let read = node.store.read()?;
    for row in read.each::<Row>(Table::EMERGENCIES)? {
        let (_, row) = row?;
        if &row.asker == asker && &row.user == user && row.overdue(now) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The data-protection officer's queue; that it is read is recorded.
pub(crate) async fn list(node: &Node, caller: &Caller) -> Result<EmergencyList, DeskError> {
    desk::only(caller, &READERS)?;
    let emergencies = all(node)?;
    let act = Act::reading(node, caller, &READERS, "emergency", emergencies.len()).map_err(DeskError::Closed)?;
    let _recorded = node.log.append(&act).await?;
    Ok(EmergencyList { emergencies })
}

fn all(node: &Node) -> Result<Vec<EmergencyView>, DeskError> {
    let (now, read) = (node.clock.now(), node.store.read()?);
    let mut emergencies = Vec::new();
    for row in read.each::<Row>(Table::EMERGENCIES)? {
        let (_, row) = row?;
        let local_numbers = read.local_numbers(row.file)?;
        emergencies.push(EmergencyView { local_numbers, ..row.view(now) });
    }
    emergencies.sort_by_key(|view| view.opened);
    Ok(emergencies)
}

/// Reviews an emergency: one taken here is over with it, and whoever may have answered on it is told; of one answered
/// here the word stays here. Never by the user who took it.
pub(crate) async fn review(
    node: &Arc<Node>,
    caller: &Caller,
    id: &str,
    body: &ReviewBody,
) -> Result<EmergencyView, DeskError> {
    desk::only(caller, &REVIEWERS)?;
    let now = node.now().map_err(DeskError::Closed)?;
    if body.text.trim().is_empty() {
        return Err(DeskError::Value { field: "text", expected: Expected::new("a reason", "uzasadnienie") });
    }
    if matches!(&body.notice, Some(ResidentNotice::NotInformed(why)) if why.trim().is_empty()) {
        return Err(notice_expected());
    }
    let id: [u8; 16] = unb64(id).ok_or(DeskError::Unknown)?;
    let (key, mut row) = either_side(node, &id)?;
    if row.side == Side::Taken && caller.names().any(|name| row.user == node.macs.staff_id(name)) {
        return Err(DeskError::Refused(Reason::RoleNotAllowed));
    }
    if row.review.is_some() {
        return Err(DeskError::Decided);
    }
    if row.confirmed.is_none() {
        // It opened nothing, and there is nothing to review.
        return Err(DeskError::Refused(Reason::EmergencyUnconfirmed));
    }
    if row.side == Side::Taken && body.notice.is_none() {
        return Err(notice_expected());
    }
    let mut event = event(node, Happened::EmergencyReviewed, &row, now).by(node, caller);
    event.detail = Some(body.outcome.as_str().to_owned());
    event.reason_text = Some(body.text.clone());
    let _recorded = node.log.append(&event).await?;
    if let Some(notice) = &body.notice {
        event.event = Happened::EmergencyNotice;
        event.detail = Some(notice.code().to_owned());
        event.reason_text = match notice {
            ResidentNotice::Informed(_) => None,
            ResidentNotice::NotInformed(why) => Some(why.clone()),
        };
        let _recorded = node.log.append(&event).await?;
    }
    row.review = Some(Review { outcome: body.outcome, notice: body.notice.clone() });
    // What is asked on it later would stay unreviewed.
    row.expires = row.expires.min(now + -1);
    let holders = if row.side == Side::Taken { concerned(node, &row)? } else { BTreeSet::new() };
    node.store.write(|write| {
        for holder in &holders {
            let reviewed = Reviewed {
                iss: node.config.member.clone(),
                aud: holder.clone(),
                iat: now,
                emergency: Bytes(id.to_vec()),
                outcome: body.outcome,
            };
            write.post(holder, "/v1/reviewed", jws::sign(&node.keys.message, &reviewed)?, now)?;
        }
        Ok::<_, DeskError>(write.put(Table::EMERGENCIES, &key, &row)?)
    })?;
    node.deliver().await?;
    Ok(row.view(now))
}

fn notice_expected() -> DeskError {
    let (en, pl) =
        ("how the resident is told, or why not", "w jaki sposób osoba zostanie zawiadomiona albo dlaczego nie");
    DeskError::Value { field: "notice", expected: Expected::new(en, pl) }
}

/// What tells the resident of an emergency taken here, once its review says that the resident is told.
pub(crate) async fn letter(
    node: &Node,
    caller: &Caller,
    id: &str,
    tongue: Tongue,
    html: bool,
) -> Result<String, DeskError> {
    desk::only(caller, &READERS)?;
    let now = node.now().map_err(DeskError::Closed)?;
    let held = node.manifest().map_err(DeskError::Closed)?;
    let key = key(Side::Taken, &unb64(id).ok_or(DeskError::Unknown)?);
    let row: Row = node.store.read()?.get(Table::EMERGENCIES, &key)?.ok_or(DeskError::Unknown)?;
    let review = row.review.as_ref().filter(|review| matches!(review.notice, Some(ResidentNotice::Informed(_))));
    let Some(review) = review else {
        let (en, pl) = (
            "an emergency whose review says that the resident is told",
            "dostęp nagły, którego przegląd stwierdza, że osoba zostanie zawiadomiona",
        );
        return Err(DeskError::Value { field: "id", expected: Expected::new(en, pl) });
    };
    let asker = held.manifest.member(&row.asker).ok_or(DeskError::Refused(Reason::PeerUnknown))?;
    let holders = row.seen.iter().map(|(holder, fields)| {
        let known = held.manifest.member(holder);
        (known.map_or(holder.as_str(), |member| member.name.as_str()), fields)
    });
    let letter = Letter {
        id,
        asker: &asker.name,
        kind: &asker.kind,
        reason: &row.reason,
        opened: row.opened,
        holders: holders.collect(),
        outcome: review.outcome,
    };
    let mut event = event(node, Happened::EmergencyNotice, &row, now).by(node, caller);
    event.detail = Some("printed".to_owned());
    let _recorded = node.log.append(&event).await?;
    let catalogue = node.engine.library().catalogue();
    Ok(if html { letter.html(catalogue, tongue) } else { letter.text(catalogue, tongue) })
}

/// The emergency of this id: taken here, else answered here.
fn either_side(node: &Node, id: &[u8; 16]) -> Result<(Vec<u8>, Row), DeskError> {
    let read = node.store.read()?;
    for side in [Side::Taken, Side::Answered] {
        let key = key(side, id);
        if let Some(row) = read.get::<Row>(Table::EMERGENCIES, &key)? {
            return Ok((key, row));
        }
    }
    Err(DeskError::Unknown)
}

/// Who answered on an emergency, or may have: an answer can be lost on its way.
fn concerned(node: &Node, row: &Row) -> Result<BTreeSet<MemberId>, DeskError> {
    let held = node.manifest().map_err(DeskError::Closed)?;
    let emergency = node.engine.library().catalogue().emergency_for(&row.reason).map(|(_, emergency)| emergency);
    let may = |kind: &MemberKind| emergency.is_some_and(|emergency| emergency.holder_kinds.contains(kind));
    let others = held.manifest.others(&node.config.member).filter(|member| may(&member.kind));
    Ok(others.map(|member| member.id.clone()).chain(row.seen.keys().cloned()).collect())
}

/// Whom to call in an emergency: at `holder`, or at everybody who may answer in one of this `reason`.
pub(crate) fn duty_desks(
    node: &Node,
    held: &Held,
    reason: &str,
    holder: Option<&MemberId>,
) -> BTreeMap<MemberId, String> {
    let emergency = node.engine.library().catalogue().emergency_for(reason).map(|(_, emergency)| emergency);
    let may = |member: &&Member| match holder {
        Some(holder) => &member.id == holder,
        None => emergency.is_some_and(|emergency| emergency.holder_kinds.contains(&member.kind)),
    };
    let others = held.manifest.others(&node.config.member).filter(may);
    others.filter_map(|member| Some((member.id.clone(), member.duty_desk.clone()?))).collect()
}

/// Takes a peer's word that it reviewed an emergency we answered on.
pub(crate) async fn take_review(node: &Node, peer: &MemberId, token: &str) -> Result<(), GrantError> {
    let held = node.manifest().map_err(GrantError::Closed)?;
    let now = node.now().map_err(GrantError::Closed)?;
    let reviewed: Reviewed =
        jws::verify(token, |kid| held.signer(kid, now)).map_err(|_| GrantError::Refused(Reason::SignatureInvalid))?;
    let id: Result<[u8; 16], _> = reviewed.emergency.0.as_slice().try_into();
    let (true, Ok(id)) = (&reviewed.iss == peer && reviewed.aud == node.config.member, id) else {
        return Err(GrantError::Refused(Reason::AudienceWrong));
    };
    let key = key(Side::Answered, &id);
    let row: Option<Row> = node.store.read()?.get(Table::EMERGENCIES, &key)?;
    let Some(mut row) = row.filter(|row| row.review.is_none() && &row.asker == peer) else { return Ok(()) };
    let mut event = event(node, Happened::EmergencyReviewed, &row, now);
    event.holder = Some(node.config.member.clone());
    event.detail = Some(reviewed.outcome.as_str().to_owned());
    let _recorded = node.log.append(&event).await.map_err(crate::node::NodeError::from)?;
    row.review = Some(Review { outcome: reviewed.outcome, notice: None });
    Ok(node.store.write(|write| write.put(Table::EMERGENCIES, &key, &row))?)
}

fn event(node: &Node, happened: Happened, row: &Row, now: Timestamp) -> Event {
    let mut event = Event::new(happened, &node.clock);
    event.asker = Some(row.asker.clone());
    event.emergency = Some(Bytes(row.claim().id(&row.asker).to_vec()));
    event.file = Some(row.file);
    event.basis = Some(format!("emergency:{}", row.reason));
    event.epoch = node.held.load().as_ref().and_then(|held| held.epoch(now)).map(|(epoch, _)| epoch.epoch);
    event
}
