//! A consent is withdrawn at a member that did not record it.
//!
//! Whose it is and what is withdrawn become durable first, with the log entry; nobody is asked for anything before. An own
//! client is named to each member by words that only those who know the resident can tell ([`Whose::Marks`]), one for each
//! number the resident has, which needs neither key holders nor registry. Of somebody who has no names here they are made of
//! every number known, which needs the key holders: while they are away the withdrawal waits here and goes on by itself. It
//! goes to every member of the federation, since nobody here knows who recorded the consent or holds a grant of it; to those
//! who do not know the resident it says nothing.

use super::{
    ConsentError, WithdrawBody, WithdrawalBody, WithdrawalReceipt, end, may_record, modules_fit, named, recorded_here,
};
use crate::enrol::input;
use crate::events::{Event, Happened};
use crate::faults::Expected;
use crate::grants::keep_withdrawal;
use crate::import::today;
use crate::manifests::Held;
use crate::node::Node;
use crate::pseudonymise::{PseudonymError, outputs};
use crate::records::{FileRecord, Kind};
use crate::residents::{Resident, ResidentError, find};
use crate::store::{Read, StoreError, Table, Write};
use crate::tokens::Caller;
use protocol::consent::{Grant, Whose, Withdrawal};
use protocol::encoding::Bytes;
use protocol::evaluation::EvaluationPurpose;
use protocol::{ConsentId, Epoch, FileId, MemberId, Reason, Timestamp, jws};
use pseudonym::{Output, Pesel};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// The caller waits this long for the key holders; then they are asked in the background.
const PATIENCE: Duration = Duration::from_secs(3);

/// A withdrawal taken here of a consent recorded elsewhere.
#[derive(Serialize, Deserialize)]
struct Taken {
    /// The store's link of the resident's identifier: the same consent is nobody else's.
    whose: Bytes,
    /// The identifiers, until every member has been named the resident.
    unnamed: Vec<(Kind, Zeroizing<String>)>,
    /// All of it, if not said.
    modules: Option<BTreeSet<String>>,
    at: Timestamp,
    /// Who said that it knows the consent.
    confirmed: BTreeSet<MemberId>,
    /// Who knows it and did not take this, and why.
    refused: BTreeMap<MemberId, String>,
}

impl Taken {
    /// Whether `modules` say no more than what was taken.
    fn covers(&self, modules: Option<&BTreeSet<String>>) -> bool {
        match (&self.modules, modules) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(taken), Some(more)) => more.is_subset(taken),
        }
    }
}

/// Takes the withdrawal of a consent that may have been recorded at any member.
pub(crate) async fn withdraw_anywhere(
    node: &Arc<Node>,
    caller: &Caller,
    body: &WithdrawalBody,
) -> Result<WithdrawalReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let Meant { file, identifiers } = who(node, &body.resident)?;
    let recorded = recorded_here(&node.store.read()?, body.consent)?;
    if let Some(recorded) = recorded {
        if Some(recorded.file) != file {
            return Err(ConsentError::Unknown);
        }
        return of_our_own(node, caller, body).await;
    }
    let granted = granted_here(node, &node.store.read()?, body, file)?;
    let (kind, identifier) = identifiers.first().ok_or(ConsentError::NotServed)?;
    let whose = Bytes(node.store.identifier_link(*kind, identifier).to_vec());
    let before: Option<Taken> = node.store.read()?.get(Table::WITHDRAWALS, body.consent.as_bytes())?;
    if before.as_ref().is_some_and(|before| before.whose != whose) {
        return Err(ConsentError::Unknown);
    }
    if !before.is_some_and(|before| before.covers(body.modules.as_ref())) {
        let mut event = Event::new(Happened::ConsentWithdrawn, &node.clock).by(node, caller);
        event.file = file;
        event.consent = Some(body.consent);
        event.search_key = Some(body.resident.search_key());
        let part = body.modules.as_ref().map(|modules| format!(", {}", named(modules))).unwrap_or_default();
        event.detail = Some(format!("recorded elsewhere, {}{part}", body.method.as_str()));
        let _recorded = node.log.append(&event).await?;
        let epoch = held.epoch(now).ok_or(ConsentError::Closed(Reason::EpochUnknown))?.0.epoch;
        node.store.write(|write| {
            let before: Option<Taken> = write.get(Table::WITHDRAWALS, body.consent.as_bytes())?;
            let taken = Taken {
                whose,
                unnamed: identifiers,
                modules: body.modules.clone(),
                at: now,
                confirmed: granted.then(|| node.config.member.clone()).into_iter().collect(),
                refused: BTreeMap::new(),
            };
            let mut taken = joined(before, taken);
            if let Some(names) = file.map(|file| write.names(epoch, file)).transpose()?.flatten() {
                let marks = |member: &MemberId| names.marks(member, body.consent).map(Bytes).collect();
                post(write, node, &held, body.consent, &taken, epoch, marks)?;
                taken.unnamed.clear();
            }
            Ok::<_, ConsentError>(write.put(Table::WITHDRAWALS, body.consent.as_bytes(), &taken)?)
        })?;
    }
    // We obey it ourselves in any case, grant or not.
    keep_withdrawal(node, body.consent, body.modules.as_ref(), &node.config.member, file, now).await?;
    let waits_for = match tokio::time::timeout(PATIENCE, name(node, body.consent)).await {
        Ok(Ok(())) => None,
        Ok(Err(ConsentError::Pseudonym(error))) => Some(error.code().to_owned()),
        Ok(Err(error)) => return Err(error),
        Err(_) => Some(Reason::KeyHoldersUnavailable.code().to_owned()),
    };
    let undelivered = node.deliver().await?;
    receipt(node, &held, body.consent, undelivered, waits_for)
}

/// Names the residents of all withdrawals that wait for the key holders, as long as these answer.
pub(crate) async fn finish(node: &Arc<Node>) -> Result<(), ConsentError> {
    let keys = node.store.read()?.keys_with(Table::WITHDRAWALS, &[])?;
    for key in keys.into_iter().filter_map(|key| key.try_into().ok()) {
        match name(node, ConsentId(key)).await {
            // They are away for the others too.
            Err(ConsentError::Pseudonym(error)) => {
                tracing::warn!(%error, "a withdrawal waits for the key holders");
                return Ok(());
            }
            done => done?,
        }
    }
    Ok(())
}

/// Notes that `by` knows the consent, once it took the withdrawal.
pub(crate) fn confirmed(write: &Write<'_>, consent: ConsentId, by: &MemberId) -> Result<(), StoreError> {
    let Some(mut taken) = write.get::<Taken>(Table::WITHDRAWALS, consent.as_bytes())? else { return Ok(()) };
    taken.refused.remove(by);
    taken.confirmed.insert(by.clone());
    write.put(Table::WITHDRAWALS, consent.as_bytes(), &taken)
}

/// Notes that `by` does not take the withdrawal, for the reason of this code.
pub(crate) fn refused_by(write: &Write<'_>, consent: ConsentId, by: &MemberId, code: &str) -> Result<(), StoreError> {
    let Some(mut taken) = write.get::<Taken>(Table::WITHDRAWALS, consent.as_bytes())? else { return Ok(()) };
    taken.refused.insert(by.clone(), code.to_owned());
    write.put(Table::WITHDRAWALS, consent.as_bytes(), &taken)
}

/// Whom the caller means.
struct Meant {
    /// The file, if the resident is a client.
    file: Option<FileId>,
    /// Every number known of the resident, the one in use first; at least one.
    identifiers: Vec<(Kind, Zeroizing<String>)>,
}

fn who(node: &Node, resident: &Resident) -> Result<Meant, ConsentError> {
    let file = find(node, resident)?;
    let record: Option<FileRecord> = match file {
        Some(file) => node.store.read()?.get(Table::FILES, file.as_bytes())?,
        None => None,
    };
    let declared = record.iter().flat_map(FileRecord::declared);
    let identifiers: Vec<_> = declared.map(|(kind, number)| (kind, Zeroizing::new(number.to_owned()))).collect();
    if !identifiers.is_empty() {
        return Ok(Meant { file, identifiers });
    }
    let identifier = match resident {
        Resident::Pesel(raw) => {
            let pesel = Pesel::parse(raw, today(node)).map_err(ResidentError::from)?;
            (Kind::Pesel, Zeroizing::new(pesel.as_str().to_owned()))
        }
        Resident::Document(document) => {
            let text = pseudonym::document(&document.kind, &document.country, &document.number);
            (Kind::Document, text.map_err(ResidentError::from)?)
        }
        // Nobody else knows our numbers.
        Resident::LocalNumber(_) => return Err(ConsentError::NotServed),
    };
    Ok(Meant { file, identifiers: vec![identifier] })
}

/// Withdraws a consent that turns out to be recorded here.
async fn of_our_own(
    node: &Arc<Node>,
    caller: &Caller,
    body: &WithdrawalBody,
) -> Result<WithdrawalReceipt, ConsentError> {
    let whole = WithdrawBody { modules: body.modules.clone(), method: body.method };
    let receipt = end::withdraw(node, caller, body.consent, &whole).await?;
    let mut told: BTreeSet<MemberId> = receipt.holders.into_keys().collect();
    told.insert(node.config.member.clone());
    told.retain(|member| !receipt.undelivered.contains(member));
    Ok(WithdrawalReceipt {
        consent: body.consent,
        confirmed_by: told.clone(),
        told,
        refused_by: BTreeMap::new(),
        undelivered: receipt.undelivered,
        waits_for: None,
    })
}

/// Whether the consent was granted to us, for this resident; what cannot be withdrawn of any consent is refused.
fn granted_here(
    node: &Node,
    read: &Read<'_>,
    body: &WithdrawalBody,
    file: Option<FileId>,
) -> Result<bool, ConsentError> {
    let expected = || ConsentError::Value {
        field: "modules",
        expected: Expected::new("modules of the consent's template", "moduły z wzoru zgody"),
    };
    let grant: Option<Grant> = read.get(Table::GRANTS, body.consent.as_bytes())?;
    let Some(grant) = grant else {
        let catalogue = node.engine.library().catalogue();
        let some = |module: &String| {
            catalogue.templates.values().flatten().any(|template| template.modules.contains_key(module))
        };
        let fits = body.modules.as_ref().is_none_or(|modules| !modules.is_empty() && modules.iter().all(some));
        return if fits { Ok(false) } else { Err(expected()) };
    };
    let of = read.file_of_subject(&node.store, grant.epoch, &grant.sub)?;
    if of.is_some() && of != file {
        return Err(ConsentError::Unknown);
    }
    if modules_fit(node, &grant.template, body.modules.as_ref()) { Ok(true) } else { Err(expected()) }
}

/// What was taken before, and now more of it.
fn joined(before: Option<Taken>, now: Taken) -> Taken {
    let Some(before) = before else { return now };
    let modules = match (before.modules, now.modules) {
        (Some(before), Some(now)) => Some(before.union(&now).cloned().collect()),
        _ => None,
    };
    Taken { modules, confirmed: before.confirmed, ..now }
}

/// Has the key holders name the resident to each member, if that is still to be done.
async fn name(node: &Arc<Node>, consent: ConsentId) -> Result<(), ConsentError> {
    let taken: Option<Taken> = node.store.read()?.get(Table::WITHDRAWALS, consent.as_bytes())?;
    let unnamed = taken.map(|taken| taken.unnamed).unwrap_or_default();
    if unnamed.is_empty() {
        return Ok(());
    }
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let epoch = held.epoch(now).ok_or(PseudonymError::NoEpoch)?.0.epoch;
    let inputs = unnamed.iter().map(|(kind, number)| input(node, epoch, ((*kind).into(), number)));
    let inputs = inputs.collect::<Option<Vec<_>>>().ok_or(PseudonymError::NoEpoch)?;
    let named = outputs(node, &held, epoch, inputs, EvaluationPurpose::Lookup).await?;
    let marks = |member: &MemberId| {
        let mark = |output: &Output| output.seal_key().mark(member.as_str(), consent.as_bytes()).ok();
        named.iter().filter_map(mark).map(|mark| Bytes(mark.to_vec())).collect()
    };
    node.store.write(|write| {
        let taken: Option<Taken> = write.get(Table::WITHDRAWALS, consent.as_bytes())?;
        // Somebody else's turn was quicker.
        let Some(mut taken) = taken.filter(|taken| !taken.unnamed.is_empty()) else { return Ok(()) };
        post(write, node, &held, consent, &taken, epoch, marks)?;
        taken.unnamed.clear();
        Ok(write.put(Table::WITHDRAWALS, consent.as_bytes(), &taken)?)
    })
}

/// Writes the withdrawal to every other member.
fn post(
    write: &Write<'_>,
    node: &Node,
    held: &Held,
    consent: ConsentId,
    taken: &Taken,
    epoch: Epoch,
    marks: impl Fn(&MemberId) -> Vec<Bytes>,
) -> Result<(), ConsentError> {
    for member in others(node, held) {
        let withdrawal = Withdrawal {
            iss: node.config.member.clone(),
            aud: member.clone(),
            iat: taken.at,
            consent,
            resident: Whose::Marks(marks(member)),
            epoch,
            modules: taken.modules.clone(),
        };
        write.post_withdrawal_taken(consent, member, jws::sign(&node.keys.message, &withdrawal)?, taken.at)?;
    }
    Ok(())
}

fn others<'h>(node: &'h Node, held: &'h Held) -> impl Iterator<Item = &'h MemberId> {
    held.manifest.others(&node.config.member).map(|member| &member.id)
}

fn receipt(
    node: &Node,
    held: &Held,
    consent: ConsentId,
    undelivered: BTreeSet<MemberId>,
    waits_for: Option<String>,
) -> Result<WithdrawalReceipt, ConsentError> {
    let taken: Taken = node.store.read()?.get(Table::WITHDRAWALS, consent.as_bytes())?.ok_or(ConsentError::Unknown)?;
    let all: BTreeSet<MemberId> = others(node, held).cloned().collect();
    let undelivered: BTreeSet<MemberId> = if waits_for.is_some() {
        all.clone()
    } else {
        undelivered.into_iter().filter(|member| all.contains(member) && !taken.refused.contains_key(member)).collect()
    };
    let told = all.into_iter().filter(|m| !undelivered.contains(m) && !taken.refused.contains_key(m)).collect();
    Ok(WithdrawalReceipt {
        consent,
        told,
        confirmed_by: taken.confirmed,
        refused_by: taken.refused,
        undelivered,
        waits_for,
    })
}
