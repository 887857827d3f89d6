//! The durable queue of messages that must reach a member: grants, refusals, withdrawals, notices; per recipient in their
//! order, each recipient for itself.

use crate::consents::{self, WITHDRAWALS};
use crate::events::{Event, Happened};
use crate::manifests::Held;
use crate::node::Node;
use crate::store::{StoreError, Table, Write};
use bytes::Bytes;
use http::StatusCode;
use protocol::time::DAY_SECONDS;
use protocol::{ConsentId, MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use transport::CallError;

const DEADLINE: Duration = Duration::from_secs(3);
/// What a recipient refuses as such is tried this long before it is given up.
const GIVE_UP_SECONDS: i64 = 7 * DAY_SECONDS;

/// Key in `state` of the last message's number: none is given again, so that a number read before a delivery means the same
/// message after it.
const LAST: &[u8] = b"outbox-last";

/// A message to deliver.
#[derive(Serialize, Deserialize)]
struct Letter {
    to: MemberId,
    path: String,
    body: String,
    since: Timestamp,
    /// The consent whose withdrawal was taken here; what its recipient says of it is noted.
    #[serde(default)]
    about: Option<ConsentId>,
    /// The consent recorded here whose withdrawal it is.
    #[serde(default)]
    withdraws: Option<ConsentId>,
}

impl Letter {
    fn new(to: &MemberId, path: &str, body: String, now: Timestamp) -> Self {
        Letter { to: to.clone(), path: path.to_owned(), body, since: now, about: None, withdraws: None }
    }
}

impl Write<'_> {
    /// Queues a message; it is sent after this transaction is durable.
    pub(crate) fn post(&self, to: &MemberId, path: &str, body: String, now: Timestamp) -> Result<(), StoreError> {
        self.queue(&Letter::new(to, path, body, now))
    }

    /// Queues the withdrawal of `consent`, recorded here; that its recipient took it is recorded.
    pub(crate) fn post_withdrawal(
        &self,
        consent: ConsentId,
        to: &MemberId,
        body: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.queue(&Letter { withdraws: Some(consent), ..Letter::new(to, WITHDRAWALS, body, now) })
    }

    /// Queues the withdrawal of `consent`, taken here; the answer is noted with it.
    pub(crate) fn post_withdrawal_taken(
        &self,
        consent: ConsentId,
        to: &MemberId,
        body: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.queue(&Letter { about: Some(consent), ..Letter::new(to, WITHDRAWALS, body, now) })
    }

    fn queue(&self, letter: &Letter) -> Result<(), StoreError> {
        // An outbox of before the numbers were kept may have messages.
        let waiting = self.last_key(Table::OUTBOX)?.and_then(|key| key.try_into().ok()).map_or(0, u64::from_be_bytes);
        let number = self.get::<u64>(Table::STATE, LAST)?.unwrap_or(0).max(waiting) + 1;
        self.put(Table::STATE, LAST, &number)?;
        self.put(Table::OUTBOX, &number.to_be_bytes(), letter)
    }
}

impl Node {
    /// Tries to deliver everything waiting; members that still have something to come.
    pub(crate) async fn deliver(&self) -> Result<BTreeSet<MemberId>, StoreError> {
        let mut waiting: BTreeMap<MemberId, Vec<Vec<u8>>> = BTreeMap::new();
        {
            let read = self.store.read()?;
            for row in read.each::<Letter>(Table::OUTBOX)? {
                let (key, letter) = row?;
                waiting.entry(letter.to).or_default().push(key);
            }
        }
        let Ok(held) = self.manifest() else { return Ok(waiting.into_keys().collect()) };
        let sending = waiting.into_iter().map(|(to, letters)| {
            let held = &held;
            async move {
                // One at a time to each: who cannot be reached holds up nobody else's.
                let _turn = self.delivering.begin(to.as_str()).await;
                self.deliver_to(held, &to, letters).await.map(|all| (!all).then_some(to))
            }
        });
        futures_util::future::join_all(sending).await.into_iter().filter_map(Result::transpose).collect()
    }

    /// Whether withdrawals wait for `to`. A list's bit says that all of a consent is withdrawn, and nothing of a part: who
    /// has not taken every withdrawal gets no fresh list, so that its copy grows old and its grants deny.
    pub(crate) fn owes_withdrawals(&self, to: &MemberId) -> bool {
        let waits = || {
            let read = self.store.read()?;
            for row in read.each::<Letter>(Table::OUTBOX)? {
                let (_, letter) = row?;
                // Those of others' consents are not what our list is about.
                if &letter.to == to && letter.path == WITHDRAWALS && letter.about.is_none() {
                    return Ok::<_, StoreError>(true);
                }
            }
            Ok(false)
        };
        waits().unwrap_or(true)
    }

    /// Delivers in order; one that the recipient refuses as such does not hold up those behind it.
    async fn deliver_to(&self, held: &Held, to: &MemberId, letters: Vec<Vec<u8>>) -> Result<bool, StoreError> {
        let mut all = true;
        for key in letters {
            // Somebody else's turn may have delivered it. Nothing goes to anybody but whom it is for.
            let letter: Option<Letter> = self.store.read()?.get(Table::OUTBOX, &key)?;
            let Some(letter) = letter.filter(|letter| &letter.to == to) else { continue };
            let known = match self.send_letter(held, to, &letter).await {
                Ok(status) => {
                    if !self.note_taken(to, &letter, status).await {
                        return Ok(false);
                    }
                    status == StatusCode::OK
                }
                Err(error) => {
                    let age = self.clock.now() - letter.since;
                    tracing::warn!(%to, path = letter.path, %error, "a message could not be delivered; kept");
                    let refused = match error {
                        CallError::Problem(problem) if problem.status < 500 => problem,
                        _ => return Ok(false),
                    };
                    if let Some(consent) = letter.about {
                        self.store.write(|write| consents::refused_by(write, consent, to, &refused.code))?;
                    }
                    // What is wrong in itself is not right next week.
                    if age <= GIVE_UP_SECONDS && refused.status != StatusCode::UNPROCESSABLE_ENTITY {
                        all = false;
                        continue;
                    }
                    tracing::error!(%to, path = letter.path, "a message was refused and is given up");
                    false
                }
            };
            self.store.write(|write| {
                if let Some(consent) = letter.about.filter(|_| known) {
                    consents::confirmed(write, consent, to)?;
                }
                write.remove(Table::OUTBOX, &key).map(drop)
            })?;
        }
        Ok(all)
    }

    /// Records that a holder took a withdrawal: how soon everybody obeyed can be told afterwards. Whether it is recorded.
    async fn note_taken(&self, to: &MemberId, letter: &Letter, status: StatusCode) -> bool {
        // Of a consent recorded elsewhere most members know nothing.
        let known = letter.about.filter(|_| status == StatusCode::OK);
        let Some(consent) = letter.withdraws.or(known) else { return true };
        if self.now().is_err() {
            return false;
        }
        let mut event = Event::new(Happened::WithdrawalTaken, &self.clock);
        event.consent = Some(consent);
        event.holder = Some(to.clone());
        let recorded = self.log.append(&event).await;
        recorded.inspect_err(|error| tracing::error!(%error, "an acknowledgement is not recorded; asked again")).is_ok()
    }

    async fn send_letter(&self, held: &Held, to: &MemberId, letter: &Letter) -> Result<StatusCode, CallError> {
        let url = held.manifest.member(to).and_then(|m| m.endpoints.first()).ok_or(CallError::BadUrl)?;
        let request = http::Request::post(letter.path.as_str())
            .body(Bytes::from(letter.body.clone()))
            .map_err(|_| CallError::BadUrl)?;
        Ok(self.client.call(&held.manifest.spiffe(to), url, request, DEADLINE).await?.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use keyring::StorageKey;

    #[test]
    fn a_message_that_was_delivered_leaves_its_number_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("node.redb"), &StorageKey::from_bytes([1; 32])).unwrap();
        let posted = |to: &str| -> Result<Vec<u8>, StoreError> {
            store.write(|write| {
                write.post(&to.parse().unwrap(), "/v1/grants", String::new(), Timestamp(0))?;
                Ok(write.last_key(Table::OUTBOX)?.unwrap())
            })
        };
        let first = posted("pup").unwrap();
        store
            .write(|write| write.remove(Table::OUTBOX, &first).map(drop))
            .unwrap_or_else(|e: StoreError| panic!("{e}"));
        assert!(posted("css").unwrap() > first);
    }
}
