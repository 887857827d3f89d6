//! What an institution notes about answering on one resident: flags, and what the resident refused.
//!
//! The entries of a resident who is unlisted, or unenrolled, leave the registry at once, or with the next enrolment if it is
//! away; here the resident is refused from the first moment, the unenrolled one as anybody unknown.

use crate::desk::{self, DeskError};
use crate::dpo::Act;
use crate::enrol;
use crate::events::{Event, Happened};
use crate::faults::Expected;
use crate::node::Node;
use crate::residents::{Resident, find};
use crate::store::{Open, Read, StoreError, Table, Write};
use crate::tokens::Caller;
use jiff::civil::DateTime;
use policies::{Flags, Refusal};
use protocol::{Epoch, FieldId, FileId, MemberId, Purpose, Reason, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::ToSchema;

/// Who may set and lift flags.
const ROLES: [&str; 3] = ["dpo", "steward", "supervisor"];
/// Who may read them.
const READERS: [&str; 5] = ["dpo", "steward", "supervisor", "caseworker", "coordinator"];

/// The age of majority.
const ADULT: i64 = 18;

/// A note about answering on a resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Processing is restricted (GDPR art. 18): nothing is answered.
    Restricted,
    /// Never published, never answered.
    Unlisted,
    /// The resident has died.
    Deceased,
    /// The resident objected (GDPR art. 21): no consent serves, and a person decides what a public task may have.
    Objected,
    /// Under age, whatever the birth date on file says or if there is none: a guardian consents.
    Minor,
    /// An adult under guardianship: a guardian consents.
    Ward,
    /// Recipients must not contact the resident on their own.
    DoNotContact,
    /// On file, and no client for others: taken back from the registry, without a name to ask by, until it is lifted.
    Unenrolled,
}

impl Flag {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Flag::Restricted => "restricted",
            Flag::Unlisted => "unlisted",
            Flag::Deceased => "deceased",
            Flag::Objected => "objected",
            Flag::Minor => "minor",
            Flag::Ward => "ward",
            Flag::DoNotContact => "do_not_contact",
            Flag::Unenrolled => "unenrolled",
        }
    }
}

/// A change of a resident's flags.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FlagBody {
    /// About whom.
    pub resident: Resident,
    /// Flags to set.
    #[serde(default)]
    pub set: BTreeSet<Flag>,
    /// Flags to lift; not `restricted`, whose end is the data-protection officer's.
    #[serde(default)]
    pub clear: BTreeSet<Flag>,
    /// Why; stays in this institution's log.
    pub reason: String,
}

/// About whom.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidentBody {
    /// About whom.
    pub resident: Resident,
}

/// A resident's flags.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct FlagList {
    /// Each flag set, with the moment it was (seconds since 1970).
    #[schema(value_type = BTreeMap<String, i64>)]
    pub flags: BTreeMap<Flag, i64>,
}

/// What is noted of one resident.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Notes {
    flags: BTreeMap<Flag, Timestamp>,
    #[serde(default)]
    refusals: Vec<Refused>,
}

/// A resident's "not this", as kept.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) recipient: Option<MemberId>,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) fields: Option<BTreeSet<FieldId>>,
    pub(crate) at: Timestamp,
}

impl Notes {
    /// The flags, as a decision takes them.
    pub(crate) fn flags(&self) -> Flags {
        let has = |flag| self.flags.contains_key(&flag);
        Flags {
            restricted: has(Flag::Restricted),
            unlisted: has(Flag::Unlisted),
            deceased: has(Flag::Deceased),
            objected: has(Flag::Objected),
            minor: has(Flag::Minor) || has(Flag::Ward),
            do_not_contact: has(Flag::DoNotContact),
        }
    }

    /// Whether the resident gets no names.
    pub(crate) fn unenrolled(&self) -> bool {
        self.flags.contains_key(&Flag::Unenrolled)
    }

    /// Whether the resident is published to nobody.
    pub(crate) fn withheld(&self) -> bool {
        self.flags.contains_key(&Flag::Unlisted) || self.unenrolled()
    }

    /// The refusals, as a decision takes them.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        let refusal = |Refused { recipient, purpose, fields, at }: Refused| Refusal { recipient, purpose, fields, at };
        self.refusals.iter().cloned().map(refusal).collect()
    }
}

/// What is noted of `file`.
pub(crate) fn of(read: &Read<'_>, file: FileId) -> Result<Notes, StoreError> {
    Ok(read.get(Table::NOTES, file.as_bytes())?.unwrap_or_default())
}

/// Sets and lifts flags of `file`.
pub(crate) fn change(
    write: &Write<'_>,
    file: FileId,
    set: &BTreeSet<Flag>,
    clear: &BTreeSet<Flag>,
    now: Timestamp,
) -> Result<Notes, StoreError> {
    let mut notes = noted(write, file)?;
    for flag in set {
        notes.flags.entry(*flag).or_insert(now);
    }
    notes.flags.retain(|flag, _| !clear.contains(flag));
    write.put(Table::NOTES, file.as_bytes(), &notes)?;
    Ok(notes)
}

/// What is noted of `file`, as this transaction sees it.
pub(crate) fn noted(write: &Write<'_>, file: FileId) -> Result<Notes, StoreError> {
    noted_among(&write.open(Table::NOTES)?, file)
}

/// The same for one of many.
pub(crate) fn noted_among(notes: &Open<'_>, file: FileId) -> Result<Notes, StoreError> {
    Ok(notes.get(file.as_bytes())?.unwrap_or_default())
}

/// Queues what the registry holds of `file` for removal.
pub(crate) fn unpublish(write: &Write<'_>, file: FileId, epochs: &[Epoch]) -> Result<(), StoreError> {
    for &epoch in epochs {
        write.change_names(file, epoch, |name| {
            let published = name.published.take().is_some();
            if published {
                write.leave(epoch, &name.index)?;
            }
            Ok(published)
        })?;
    }
    Ok(())
}

/// Keeps a refusal of the resident of `file`.
pub(crate) fn refuse(write: &Write<'_>, file: FileId, refused: Refused) -> Result<(), StoreError> {
    let mut notes = noted(write, file)?;
    // The same again is as of now.
    notes.refusals.retain(|old| Refused { at: refused.at, ..old.clone() } != refused);
    notes.refusals.push(refused);
    write.put(Table::NOTES, file.as_bytes(), &notes)
}

/// Takes back refusals of what the resident gives now, to the same recipient for the same purposes.
pub(crate) fn give(
    write: &Write<'_>,
    file: FileId,
    recipient: &MemberId,
    purposes: &BTreeSet<Purpose>,
    given: &BTreeSet<FieldId>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let mut notes = noted(write, file)?;
    let before = notes.refusals.clone();
    for refused in &mut notes.refusals {
        let same = refused.recipient.as_ref() == Some(recipient)
            && refused.purpose.as_ref().is_some_and(|purpose| purposes.contains(purpose));
        if let Some(fields) = refused.fields.as_mut().filter(|_| same && refused.at < at) {
            fields.retain(|field| !given.contains(field));
        }
    }
    notes.refusals.retain(|refused| refused.fields.as_ref().is_none_or(|fields| !fields.is_empty()));
    if notes.refusals != before {
        write.put(Table::NOTES, file.as_bytes(), &notes)?;
    }
    Ok(())
}

/// Whether only a guardian may consent for the resident of `file`: under age, or a ward.
pub(crate) fn guarded(read: &Read<'_>, file: FileId, now: Timestamp) -> Result<bool, StoreError> {
    Ok(of(read, file)?.flags().minor || under_age(read, file, now)?)
}

/// Whether the resident of `file` is under eighteen by the birth date on file.
pub(crate) fn under_age(read: &Read<'_>, file: FileId, now: Timestamp) -> Result<bool, StoreError> {
    let Some(today) = policies::calendar::local(now).map(DateTime::date) else { return Ok(false) };
    let born = read.born(file, today)?;
    let of_age = born.and_then(|born| born.checked_add(jiff::Span::new().years(ADULT)).ok());
    Ok(of_age.is_some_and(|of_age| today < of_age))
}

/// Changes a resident's flags for a user who may.
pub(crate) async fn put(node: &Arc<Node>, caller: &Caller, body: &FlagBody) -> Result<FlagList, DeskError> {
    desk::only(caller, &ROLES)?;
    if body.reason.trim().is_empty() {
        return Err(DeskError::Value { field: "reason", expected: Expected::new("a reason", "uzasadnienie") });
    }
    if !body.set.is_disjoint(&body.clear) {
        return Err(DeskError::Value {
            field: "clear",
            expected: Expected::new("no flag that is also set", "żaden ze znaczników, które są ustawiane"),
        });
    }
    if body.clear.contains(&Flag::Restricted) {
        // Art. 18(3): the resident is told before, which only the officer's route asks for.
        let expected = Expected::new(
            "not `restricted`, which the data-protection officer ends (`ogniwo node resident restrict --lift`)",
            "bez `restricted`: ograniczenie kończy inspektor ochrony danych (`ogniwo node resident restrict --lift`)",
        );
        return Err(DeskError::Value { field: "clear", expected });
    }
    let now = node.now().map_err(DeskError::Closed)?;
    let file = desk::file(node, &body.resident)?;
    for (happened, flags) in [(Happened::FlagSet, &body.set), (Happened::FlagCleared, &body.clear)] {
        if flags.is_empty() {
            continue;
        }
        let mut event = Event::new(happened, &node.clock).by(node, caller);
        event.file = Some(file);
        event.search_key = Some(body.resident.search_key());
        event.reason_text = Some(body.reason.clone());
        event.detail = Some(flags.iter().map(|flag| flag.as_str()).collect::<Vec<_>>().join(", "));
        let _recorded = node.log.append(&event).await?;
    }
    let held = node.manifest().map_err(DeskError::Closed)?;
    let epochs: Vec<Epoch> = held.manifest.epochs.iter().map(|epoch| epoch.epoch).collect();
    let notes = node.store.write(|write| {
        let notes = change(write, file, &body.set, &body.clear, now)?;
        if notes.unenrolled() {
            write.forget_names(&node.store, file, &epochs)?;
        } else if notes.withheld() {
            unpublish(write, file, &epochs)?;
        }
        Ok::<_, StoreError>(notes)
    })?;
    if body.set.contains(&Flag::Unlisted) || body.set.contains(&Flag::Unenrolled) {
        let node = node.clone();
        // Refused here from now on; the registry forgets as soon as it can be told.
        tokio::spawn(async move {
            if let Err(error) = enrol::remove_leaving(&node).await {
                tracing::warn!(%error, "an entry is still to be removed; the next enrolment does");
            }
        });
    }
    Ok(list(&notes))
}

/// A resident's flags, for a user who may read them; recorded, also when nobody is on file.
pub(crate) async fn show(node: &Node, caller: &Caller, body: &ResidentBody) -> Result<FlagList, DeskError> {
    desk::only(caller, &READERS)?;
    let file = find(node, &body.resident)?;
    let found = file.map(|file| Ok::<_, StoreError>(list(&of(&node.store.read()?, file)?))).transpose()?;
    let count = found.iter().map(|found| found.flags.len()).sum();
    let mut act = Act::reading(node, caller, &READERS, "flag", count).map_err(DeskError::Closed)?;
    act.file = file;
    let _recorded = node.log.append(&act).await?;
    found.ok_or(DeskError::Refused(Reason::NotServed))
}

fn list(notes: &Notes) -> FlagList {
    FlagList { flags: notes.flags.iter().map(|(flag, at)| (*flag, at.0)).collect() }
}
