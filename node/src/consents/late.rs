//! An institution comes to serve a resident after the consent: what the resident gave it too, it is granted then.
//!
//! The registry tells the recorder of it (`review.rs`), or the recorder finds it among its shared clients (`shared.rs`); who
//! came is kept until its grants are in the outbox. Nothing is widened: the resident consented to institutions of this kind, of
//! which this one had no file then.

use super::ConsentError;
use super::kept::Consent;
use super::take::{Letters, Said, located};
use crate::events::{Event, Happened};
use crate::manifests::Held;
use crate::node::Node;
use crate::store::{Read, StoreError, Table, Write};
use policies::record::{Answer, ConsentHappened, ConsentState};
use protocol::encoding::Bytes;
use protocol::jws;
use protocol::manifest::Member;
use protocol::{ConsentId, FileId, MemberId, Reason, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Who came to serve which client, as kept.
#[derive(PartialEq, Serialize, Deserialize)]
struct Met {
    file: FileId,
    member: MemberId,
    at: Timestamp,
}

/// Clients whose consents were recorded here.
pub(crate) fn consenting(read: &Read<'_>) -> Result<BTreeSet<FileId>, StoreError> {
    read.each::<Consent>(Table::CONSENTS)?.map(|row| Ok(row?.1.file)).collect()
}

/// Keeps that `member` serves our client of `file` too.
pub(crate) fn met(write: &Write<'_>, file: FileId, member: &MemberId, at: Timestamp) -> Result<(), StoreError> {
    let key = [file.as_bytes().as_slice(), member.as_str().as_bytes()].concat();
    write.put(Table::MET, &key, &Met { file, member: member.clone(), at })
}

/// Grants what was consented to before to everybody who came since.
pub(crate) async fn follow(node: &Arc<Node>) -> Result<(), ConsentError> {
    for key in node.store.read()?.keys_with(Table::MET, &[])? {
        let Some(met) = node.store.read()?.get::<Met>(Table::MET, &key)? else { continue };
        match grant(node, met.file, &met.member).await {
            Ok(()) => {}
            // They are away for the others too.
            Err(error @ (ConsentError::Pseudonym(_) | ConsentError::Registry(_) | ConsentError::Closed(_))) => {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(%error, "a consent does not follow yet");
                continue;
            }
        }
        node.store.write(|write| {
            // Somebody who came again meanwhile is looked at again.
            let done = write.get::<Met>(Table::MET, &key)?.is_some_and(|kept| kept == met);
            if done { write.remove(Table::MET, &key).map(drop) } else { Ok::<_, StoreError>(()) }
        })?;
    }
    Ok(())
}

/// Grants `member` the consents of our client of `file` that concern it and that it has not.
async fn grant(node: &Arc<Node>, file: FileId, member: &MemberId) -> Result<(), ConsentError> {
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let Some(member) = held.manifest.member(member) else { return Ok(()) };
    let missing = missing(node, &held, file, member, now)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !node.list_is_whole()? {
        return Err(ConsentError::Closed(Reason::NodeClosed));
    }
    let (pseudonyms, located, epoch) = match located(node, &held, file, None, now).await {
        // The client left us meanwhile.
        Err(ConsentError::NotServed) => return Ok(()),
        found => found?,
    };
    if !located.holders().contains_key(&member.id) {
        // What was known yesterday does not say that it left again.
        let away = node.registry_away.load(Ordering::Relaxed);
        return if away { Err(ConsentError::Closed(Reason::RegistryUnavailable)) } else { Ok(()) };
    }
    for (id, consent) in missing {
        // As said when the resident answered: what was refused since stays refused.
        let letters = Letters { node, pseudonyms: &pseudonyms, located: &located, epoch, id, now: consent.valid_from };
        add(node, &held, member, &letters, &consent, now).await?;
    }
    node.deliver().await?;
    Ok(())
}

/// The consents of `file` in force that concern `member` and were not granted to it.
fn missing(
    node: &Node,
    held: &Held,
    file: FileId,
    member: &Member,
    now: Timestamp,
) -> Result<Vec<(ConsentId, Consent)>, ConsentError> {
    let read = node.store.read()?;
    let mut missing = Vec::new();
    for row in read.each::<Consent>(Table::CONSENTS)? {
        let (key, consent) = row?;
        let Some(id) = key.try_into().ok().filter(|_| consent.file == file).map(ConsentId) else { continue };
        if !opened(node, held, id, &consent, member, now).is_empty() {
            missing.push((id, consent));
        }
    }
    Ok(missing)
}

/// The modules by which `member`, which has no grant of it, would answer on a consent at `now`; none if it is not in force,
/// or its text or its recipient are not there any more.
fn opened(
    node: &Node,
    held: &Held,
    id: ConsentId,
    consent: &Consent,
    member: &Member,
    now: Timestamp,
) -> BTreeSet<String> {
    let has = consent.grants.iter().any(|grant| grant.aud == member.id);
    if has || consent.recipient == member.id || consent.position.is_none() {
        return BTreeSet::new();
    }
    let stands = consent.with(node, held, id, |record| {
        let (state, standing) = (record.state(now), record.standing(now));
        let in_force = matches!(state, ConsentState::Given | ConsentState::Renewed);
        let concerns = record.template.permissions(&standing).any(|part| part.holder_kind == member.kind);
        if in_force && concerns { standing } else { BTreeSet::new() }
    });
    stands.unwrap_or_default()
}

/// Writes one grant, with what was refused beside it.
async fn add(
    node: &Node,
    held: &Held,
    member: &Member,
    letters: &Letters<'_>,
    consent: &Consent,
    now: Timestamp,
) -> Result<(), ConsentError> {
    let standing = opened(node, held, letters.id, consent, member, now);
    let (Some(position), Some(collected_by)) = (consent.position, collector(consent)) else { return Ok(()) };
    let holder = BTreeMap::from([(&member.id, &member.kind)]);
    let refused = consent.answered(Answer::Refused);
    let Said { opened: fields, closed } = Said::to(&holder, consent.template_of(node)?, &standing, &refused);
    let grants = letters.grants(consent, &standing, &fields, position, &collected_by)?;
    let refusals = letters.refusals(consent, closed)?;
    let mut event = Event::new(Happened::ConsentGrantAdded, &node.clock);
    event.file = Some(consent.file);
    event.consent = Some(letters.id);
    event.asker = Some(consent.recipient.clone());
    event.holder = Some(member.id.clone());
    event.fields_requested = fields.into_values().flatten().collect();
    let _recorded = node.log.append(&event).await?;
    node.store.write(|write| {
        let kept: Option<Consent> = write.get(Table::CONSENTS, letters.id.as_bytes())?;
        let Some(mut kept) = kept else { return Ok(()) };
        // Withdrawn meanwhile: what is left of it follows with the next look.
        if opened(node, held, letters.id, &kept, member, now) != standing {
            return Err(ConsentError::Refused(Reason::ConsentWithdrawn));
        }
        for grant in &grants {
            write.post(&grant.aud, "/v1/grants", jws::sign(&node.keys.message, grant)?, now)?;
        }
        for refused in &refusals {
            write.post(&refused.aud, "/v1/refusals", jws::sign(&node.keys.message, refused)?, now)?;
        }
        kept.grants.extend(grants);
        Ok(write.put(Table::CONSENTS, letters.id.as_bytes(), &kept)?)
    })
}

/// The user who took the consent, as the grants name whoever did.
fn collector(consent: &Consent) -> Option<Bytes> {
    let mut events = consent.events.iter().rev();
    let given = events.find(|event| matches!(event.happened, ConsentHappened::Given | ConsentHappened::Renewed));
    given.and_then(|event| protocol::encoding::unb64::<32>(event.by.as_ref()?)).map(|user| Bytes(user.to_vec()))
}
