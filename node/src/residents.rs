//! Who a caller means, and that resident's pseudonym for the length of one request.

use crate::enrol;
use crate::faults::Fault;
use crate::import::today;
use crate::locate::{RegistryError, locate, open_entries};
use crate::manifests::Held;
use crate::node::Node;
use crate::pseudonymise::{PseudonymError, outputs};
use crate::records::{FileRecord, Kind, Name};
use crate::store::{StoreError, Table};
use protocol::evaluation::EvaluationPurpose;
use protocol::registry::OLD_TICKET_SECONDS;
use protocol::{FileId, Index, MemberId, Problem, Purpose, SubjectId, Timestamp};
use pseudonym::{Output, Pesel, SealKey};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use utoipa::ToSchema;
use zeroize::ZeroizeOnDrop;

/// Whom a request is about: exactly one of the three; wiped when dropped.
#[derive(Deserialize, Serialize, ToSchema, ZeroizeOnDrop)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resident {
    /// The eleven digits; spaces and dashes are removed.
    #[schema(example = "02070803628")]
    Pesel(String),
    /// An identity document, of a resident without a PESEL.
    Document(DocumentBody),
    /// The institution's own client or case number.
    LocalNumber(String),
}

/// An identity document.
#[derive(Deserialize, Serialize, ToSchema, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct DocumentBody {
    /// What it is.
    #[serde(rename = "type")]
    #[schema(example = "PASSPORT")]
    pub kind: String,
    /// Who issued it: ISO 3166-1 alpha-3.
    #[schema(example = "UKR")]
    pub country: String,
    /// Series and number.
    #[schema(example = "FA123456")]
    pub number: String,
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resident(…)")
    }
}

impl Resident {
    /// What it was searched by, for the log.
    pub(crate) fn search_key(&self) -> &'static str {
        match self {
            Resident::Pesel(_) => "pesel",
            Resident::Document(_) => "document",
            Resident::LocalNumber(_) => "local_number",
        }
    }
}

/// Why it is not clear whom a caller means.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResidentError {
    #[error("not a PESEL")]
    Pesel(#[from] pseudonym::PeselError),
    #[error("not an identity document")]
    Document(#[from] pseudonym::DocumentError),
    #[error("several residents share this number")]
    Ambiguous,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ResidentError {
    /// What the caller is told; never the number.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            ResidentError::Pesel(error) => {
                Fault::PeselInvalid.named(error.code()).detail(error.to_string()).field("resident.pesel")
            }
            ResidentError::Document(error) => {
                Fault::DocumentInvalid.named(error.code()).detail(error.to_string()).field(match error {
                    pseudonym::DocumentError::Type => "resident.document.type",
                    pseudonym::DocumentError::Country => "resident.document.country",
                    pseudonym::DocumentError::Number => "resident.document.number",
                })
            }
            ResidentError::Ambiguous => Fault::ResidentAmbiguous.problem().field("resident.local_number"),
            ResidentError::Store(_) => Fault::StoreFailed.problem(),
        }
    }
}

/// A client of this institution, enrolled.
pub(crate) struct Client {
    pub(crate) file: FileId,
    /// Those that are published, the one in use first.
    pub(crate) names: Vec<Name>,
    record: FileRecord,
}

/// The file meant, if the institution has one.
pub(crate) fn find(node: &Node, resident: &Resident) -> Result<Option<FileId>, ResidentError> {
    let read = node.store.read()?;
    match resident {
        Resident::Pesel(raw) => {
            let pesel = Pesel::parse(raw, today(node))?;
            Ok(read.file_of(&node.store, Kind::Pesel, pesel.as_str())?)
        }
        Resident::Document(document) => {
            let text = pseudonym::document(&document.kind, &document.country, &document.number)?;
            Ok(read.file_of(&node.store, Kind::Document, &text)?)
        }
        Resident::LocalNumber(number) => match read.files_of_local_number(&node.store, number)?.as_slice() {
            [] => Ok(None),
            [file] => Ok(Some(*file)),
            _ => Err(ResidentError::Ambiguous),
        },
    }
}

/// The client of a file, if it is enrolled and published under the epoch in use.
pub(crate) fn client(node: &Node, held: &Held, file: FileId, now: Timestamp) -> Result<Option<Client>, StoreError> {
    let Some((epoch, _)) = held.epoch(now) else { return Ok(None) };
    let read = node.store.read()?;
    let mut names = read.names(epoch.epoch, file)?.unwrap_or_default().0;
    names.retain(|name| name.published.as_ref().is_some_and(|published| now <= published.expires));
    let record = read.get(Table::FILES, file.as_bytes())?.filter(|_| !names.is_empty());
    Ok(record.map(|record| Client { file, names, record }))
}

/// The pseudonyms of a client in the order of its names, fresh from the key holders.
pub(crate) async fn pseudonyms(
    node: &Arc<Node>,
    held: &Held,
    client: &Client,
) -> Result<Vec<(Index, Output)>, PseudonymError> {
    let now = node.now().map_err(PseudonymError::Closed)?;
    let (epoch, _) = held.epoch(now).ok_or(PseudonymError::NoEpoch)?;
    let framed = client.record.enrolled_by().map(|identifier| enrol::input(node, epoch.epoch, identifier));
    let inputs = framed.collect::<Option<Vec<_>>>().ok_or(PseudonymError::NoEpoch)?;
    let outputs = outputs(node, held, epoch.epoch, inputs, EvaluationPurpose::Lookup).await?;
    Ok(outputs.into_iter().map(|output| (Index(output.index()), output)).collect())
}

/// Who else knows a client, by which of its names, with the registry's tickets.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Whereabouts {
    places: Vec<Place>,
    at: Timestamp,
}

/// Who knows a client by one name.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) index: Index,
    pub(crate) ticket: String,
    holders: BTreeSet<MemberId>,
}

impl Whereabouts {
    /// Whether the registry takes us for an institution that serves the client.
    pub(crate) fn is_served(&self) -> bool {
        self.places.iter().any(|place| !place.ticket.is_empty())
    }

    /// Every other member that knows the client, and where: by the name in use, if it does.
    pub(crate) fn holders(&self) -> BTreeMap<&MemberId, &Place> {
        let served = self.places.iter().rev().filter(|place| !place.ticket.is_empty());
        served.flat_map(|place| place.holders.iter().map(move |holder| (holder, place))).collect()
    }
}

/// Asks the registry who else knows a client; while it is away, what it said in the last 24 h serves.
pub(crate) async fn whereabouts(
    node: &Node,
    held: &Held,
    client: &Client,
    purpose: &Purpose,
) -> Result<Whereabouts, RegistryError> {
    let now = node.clock.now();
    match places(node, held, client, purpose, now).await {
        Ok(places) => {
            let found = Whereabouts { places, at: now };
            node.registry_away.store(false, Ordering::Relaxed);
            // Only kept for when the registry is away; without it the next locate is as good.
            if let Err(error) = node.store.write(|w| w.put(Table::TICKETS, client.file.as_bytes(), &found)) {
                let error: StoreError = error;
                tracing::warn!(%error, "a ticket is not kept");
            }
            Ok(found)
        }
        Err(RegistryError::Unreachable(error)) => {
            node.registry_away.store(true, Ordering::Relaxed);
            let kept =
                node.store.read().ok().and_then(|r| r.get::<Whereabouts>(Table::TICKETS, client.file.as_bytes()).ok());
            match kept.flatten().filter(|kept| now - kept.at < OLD_TICKET_SECONDS) {
                Some(kept) => Ok(kept),
                None => Err(RegistryError::Unreachable(error)),
            }
        }
        Err(error) => Err(error),
    }
}

async fn places(
    node: &Node,
    held: &Held,
    client: &Client,
    purpose: &Purpose,
    now: Timestamp,
) -> Result<Vec<Place>, RegistryError> {
    let epoch = held.epoch(now).ok_or(RegistryError::Malformed)?.0.epoch;
    let mut places = Vec::with_capacity(client.names.len());
    // One by one: a request that names two would tell the registry that they are one resident.
    for name in &client.names {
        let found = locate(node, held, epoch, purpose, true, vec![name.index]).await?;
        let located = found.into_iter().next().unwrap_or_default();
        let seal = SealKey::from_bytes(&name.seal);
        let holders = open_entries(held, epoch, &name.index, &seal, &located.entries, now);
        places.push(Place { index: name.index, ticket: located.ticket.unwrap_or_default(), holders });
    }
    Ok(places)
}

/// The name by which others mean a resident to `member`: of those it knows the resident by, else of the one in use.
pub(crate) fn subject_at(
    pseudonyms: &[(Index, Output)],
    located: &Whereabouts,
    member: &MemberId,
) -> Option<SubjectId> {
    let place = located.holders().get(member).map(|place| place.index);
    let by = pseudonyms.iter().find(|(index, _)| Some(*index) == place).or(pseudonyms.first());
    by.and_then(|(_, output)| enrol::subject(output, member))
}
