//! What the registry noticed for us, read in the background and acted on: everything in the log, and what a person has to
//! look at among the officer's findings (`dpo/findings.rs`).
//!
//! A resident stands in the queue as a handle that only we can compute, from the names of our clients; another member only
//! as its sealed entry, which is believed as a located one is. News may come twice, and are one finding. How far the queue
//! was read is kept with the findings, in one transaction.

use crate::bulk::blocking;
use crate::consents;
use crate::dpo::{Finding, FindingKind};
use crate::events::{Event, Happened};
use crate::locate::{RegistryError, open_entries, read_review};
use crate::manifests::Held;
use crate::node::{Node, NodeError};
use crate::records::{Name, Names};
use crate::store::{StoreError, Table};
use futures_util::future::try_join_all;
use protocol::encoding::{Bytes, b64};
use protocol::review::{News, ReviewItem, review_handle};
use protocol::saying::Message;
use protocol::{Epoch, FileId, MemberId, Timestamp};
use pseudonym::SealKey;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use transport::Clock;
use utoipa::ToSchema;

/// Key in `state` of how far the queue was read.
const AFTER: &[u8] = b"review-after";
/// Names looked through at a time.
const PAGE: usize = 1_000;
/// Answers of one run; the next run goes on.
const MOST_ANSWERS: usize = 20;

/// What the registry noticed (`protocol::review`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The peer has become known to serve a client of ours.
    Met,
    /// The same, after it had removed such an entry within 90 days: it may have put it only to look.
    MetAgain,
    /// Somebody's entry about a client of ours is not what a member signs.
    Unverified,
    /// A newcomer of ours never became a client.
    NeverConverted,
    /// The peer located or posted an identifier nobody has: it guessed.
    Honeypot,
    /// The peer used up its day's residents located without serving them.
    MissBudgetSpent,
    /// The peer's new entries meet hardly anybody's: they may be invented.
    SeldomMet,
}

impl Notice {
    fn words(self) -> [&'static str; 2] {
        match self {
            Notice::Met => ["druga jednostka też obsługuje tę osobę", "the peer serves this resident too"],
            Notice::MetAgain => [
                "druga jednostka zgłosiła tę osobę ponownie niedługo po jej usunięciu",
                "the peer posted this resident again soon after removing the entry",
            ],
            Notice::Unverified => [
                "czyjś wpis o tej osobie nie jest podpisany, jak podpisuje uczestnik",
                "somebody's entry about this resident is not what a member signs",
            ],
            Notice::NeverConverted => ["zapowiedziana osoba nie została klientem", "a newcomer never became a client"],
            Notice::Honeypot => {
                ["druga jednostka pytała o numer, którego nikt nie ma", "the peer asked for a number nobody has"]
            }
            Notice::MissBudgetSpent => [
                "druga jednostka wyczerpała dzienny limit osób, których nie obsługuje",
                "the peer used up its day's residents it does not serve",
            ],
            Notice::SeldomMet => [
                "nowe wpisy drugiej jednostki prawie z nikim się nie zgadzają",
                "the peer's new entries meet hardly anybody's",
            ],
        }
    }
}

/// Why the queue was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl From<StoreError> for ReviewError {
    fn from(error: StoreError) -> Self {
        ReviewError::Node(error.into())
    }
}

/// Reads what is new in our queue, and has consents follow to who came to serve their residents.
pub(crate) async fn round(node: &Arc<Node>) {
    if let Err(error) = read(node).await {
        tracing::warn!(%error, "what the registry noticed is not read");
    }
    if let Err(error) = consents::follow(node).await {
        tracing::warn!(%error, "who came to serve a resident is not granted the consents yet");
    }
}

/// Reads what is new in our queue; how many findings there are of it. A closed node leaves the queue where it is.
async fn read(node: &Arc<Node>) -> Result<usize, ReviewError> {
    let _one_at_a_time = node.reviewing.lock().await;
    let (Ok(held), Ok(now)) = (node.manifest(), node.now()) else { return Ok(0) };
    let mut after: Option<Bytes> = node.store.read()?.get(Table::STATE, AFTER)?;
    let mut items = Vec::new();
    for _ in 0..MOST_ANSWERS {
        let answer = read_review(node, &held, after.clone()).await?;
        items.extend(answer.items);
        let Some(next) = answer.next else { break };
        after = Some(next);
    }
    let Some(after) = after.filter(|_| !items.is_empty()) else { return Ok(0) };
    let worker = node.clone();
    let look_up = move || {
        let clients = clients_of(&worker, &items)?;
        Ok::<_, StoreError>(items.iter().filter_map(|item| Noticed::of(&held, &clients, item, now)).collect())
    };
    let noticed: Vec<Noticed> = blocking(look_up).await.map_err(NodeError::from)??;
    for part in noticed.chunks(100) {
        let events: Vec<Event> = part.iter().map(|noticed| noticed.event(&node.clock)).collect();
        try_join_all(events.iter().map(|event| node.log.append(event))).await.map_err(NodeError::from)?;
    }
    let alarms = noticed.iter().filter(|noticed| noticed.is_alarm()).count();
    if alarms > 0 {
        tracing::error!(alarms, "the registry noticed something: the data-protection officer should look");
    }
    node.store.write(|write| {
        for (file, member) in noticed.iter().filter_map(Noticed::met) {
            consents::met(write, file, member, now)?;
        }
        let found = noticed.into_iter().map(|noticed| noticed.finding().keep(write));
        let found = found.collect::<Result<Vec<_>, StoreError>>()?.len();
        write.put(Table::STATE, AFTER, &after)?;
        Ok(found)
    })
}

/// Our clients by what the queue calls them.
type Clients = HashMap<(Epoch, [u8; 16]), (FileId, Name)>;

/// The clients whom `items` are about: every client's handle is computed, a page at a time.
fn clients_of(node: &Node, items: &[ReviewItem]) -> Result<Clients, StoreError> {
    let mut wanted: HashSet<(Epoch, [u8; 16])> = items.iter().filter_map(place).collect();
    let (mut found, mut after) = (Clients::new(), Vec::new());
    while !wanted.is_empty() {
        let read = node.store.read()?;
        let keys = read.keys_after(Table::NAMES, &after, PAGE)?;
        let Some(last) = keys.last() else { break };
        after.clone_from(last);
        for key in &keys {
            let (Some(epoch), Some(file)) = (key.first_chunk().copied(), key.last_chunk().copied()) else { continue };
            let Some(names) = read.get::<Names>(Table::NAMES, key)? else { continue };
            for name in names.0 {
                let place = (Epoch(u32::from_be_bytes(epoch)), review_handle(&node.config.member, &name.index));
                if wanted.remove(&place) {
                    found.insert(place, (FileId(file), name));
                }
            }
        }
    }
    Ok(found)
}

fn place(item: &ReviewItem) -> Option<(Epoch, [u8; 16])> {
    let about_somebody = matches!(item.news, News::Met { .. } | News::NeverConverted);
    Some((item.epoch, item.handle.0.as_slice().try_into().ok().filter(|_| about_somebody)?))
}

/// One item, as far as it is understood here.
struct Noticed {
    /// What makes it the same.
    key: String,
    at: Timestamp,
    kind: Notice,
    file: Option<FileId>,
    member: Option<MemberId>,
    epoch: Option<Epoch>,
    detail: Option<String>,
}

impl Noticed {
    /// What an item says; nothing of our own entries that met somebody's, which enrolling was for.
    fn of(held: &Held, clients: &Clients, item: &ReviewItem, now: Timestamp) -> Option<Self> {
        let client = place(item).and_then(|place| clients.get(&place));
        let (mut member, mut detail) = (None, None);
        let kind = match &item.news {
            News::Met { by_reader: true, .. } => return None,
            News::Met { again, sealed, .. } => {
                member = client.and_then(|(_, name)| {
                    let seal = SealKey::from_bytes(&name.seal);
                    let sealed = std::slice::from_ref(sealed);
                    open_entries(held, item.epoch, &name.index, &seal, sealed, now).pop_first()
                });
                match (client, &member, again) {
                    // Our client left meanwhile: there is nobody to look at.
                    (None, _, _) => return None,
                    (Some(_), None, _) => Notice::Unverified,
                    (Some(_), Some(_), true) => Notice::MetAgain,
                    (Some(_), Some(_), false) => Notice::Met,
                }
            }
            News::NeverConverted => Notice::NeverConverted,
            News::Honeypot { member: who } => {
                member = Some(who.clone());
                Notice::Honeypot
            }
            News::MissBudgetSpent { member: who } => {
                member = Some(who.clone());
                Notice::MissBudgetSpent
            }
            News::SeldomMet { member: who, posted, met } => {
                member = Some(who.clone());
                detail = Some(format!("posted {posted}, met {met}"));
                Notice::SeldomMet
            }
        };
        let who = member.as_ref().map(MemberId::as_str).unwrap_or_default();
        let key = format!("{} {} {} {who}", item.at.0, item.epoch.0, b64(&item.handle.0));
        let epoch = client.map(|_| item.epoch);
        let file = client.map(|(file, _)| *file);
        Some(Noticed { key, at: item.at, kind, file, member, epoch, detail })
    }

    /// Who serves which client of ours too.
    fn met(&self) -> Option<(FileId, &MemberId)> {
        let met = matches!(self.kind, Notice::Met | Notice::MetAgain);
        self.file.zip(self.member.as_ref()).filter(|_| met)
    }

    /// Whether somebody misbehaved.
    fn is_alarm(&self) -> bool {
        !matches!(self.kind, Notice::Met | Notice::NeverConverted)
    }

    fn event(&self, clock: &Clock) -> Event {
        let mut event = Event::new(Happened::ReviewNoticed, clock);
        event.asker.clone_from(&self.member);
        event.file = self.file;
        event.epoch = self.epoch;
        let kind = serde_json::to_value(self.kind).ok();
        event.detail = kind.and_then(|kind| kind.as_str().map(str::to_owned));
        event
    }

    fn finding(self) -> Finding {
        let Noticed { key, at, kind, file, member, detail, .. } = self;
        let [pl, en] = kind.words().map(|words| match &detail {
            Some(detail) => format!("{words} ({detail})"),
            None => words.to_owned(),
        });
        let found = Finding::new(FindingKind::Notice(kind), &key, Message { pl, en }, Vec::new(), at.0);
        Finding { peer: member, file: file.map(|file| b64(&file.0)), ..found }
    }
}
