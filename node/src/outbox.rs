//! The durable queue of messages that must reach a member: grants and withdrawals, per recipient in their order.

use crate::consents::WITHDRAWALS;
use crate::manifests::Held;
use crate::node::Node;
use crate::store::{StoreError, Table, Write};
use bytes::Bytes;
use protocol::{MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use transport::CallError;

const DEADLINE: Duration = Duration::from_secs(3);
/// What a recipient refuses as such is tried this long before it is given up.
const GIVE_UP_SECONDS: i64 = 7 * 24 * 60 * 60;

/// A message to deliver.
#[derive(Serialize, Deserialize)]
struct Letter {
    to: MemberId,
    path: String,
    body: String,
    since: Timestamp,
}

impl Write<'_> {
    /// Queues a message; it is sent after this transaction is durable.
    pub(crate) fn post(&self, to: &MemberId, path: &str, body: String, now: Timestamp) -> Result<(), StoreError> {
        let last = self.last_key(Table::OUTBOX)?.and_then(|key| key.try_into().ok()).map_or(0, u64::from_be_bytes);
        let letter = Letter { to: to.clone(), path: path.to_owned(), body, since: now };
        self.put(Table::OUTBOX, &(last + 1).to_be_bytes(), &letter)
    }
}

impl Node {
    /// Tries to deliver everything waiting; members that still have something to come.
    pub(crate) async fn deliver(&self) -> Result<BTreeSet<MemberId>, StoreError> {
        let _one_at_a_time = self.delivering.lock().await;
        let mut waiting: BTreeMap<MemberId, Vec<(Vec<u8>, Letter)>> = BTreeMap::new();
        {
            let read = self.store.read()?;
            for key in read.keys_with(Table::OUTBOX, &[])? {
                if let Some(letter) = read.get::<Letter>(Table::OUTBOX, &key)? {
                    waiting.entry(letter.to.clone()).or_default().push((key, letter));
                }
            }
        }
        let Ok(held) = self.manifest() else { return Ok(waiting.into_keys().collect()) };
        let sending = waiting.into_iter().map(|(to, letters)| {
            let held = &held;
            async move { self.deliver_to(held, &to, letters).await.map(|all| (!all).then_some(to)) }
        });
        futures_util::future::join_all(sending).await.into_iter().filter_map(Result::transpose).collect()
    }

    /// Whether withdrawals wait for `to`. A list's bit says that all of a consent is withdrawn, and nothing of a part: who
    /// has not taken every withdrawal gets no fresh list, so that its copy grows old and its grants deny.
    pub(crate) fn owes_withdrawals(&self, to: &MemberId) -> bool {
        let waits = || {
            let read = self.store.read()?;
            for key in read.keys_with(Table::OUTBOX, &[])? {
                let letter: Option<Letter> = read.get(Table::OUTBOX, &key)?;
                if letter.is_some_and(|letter| &letter.to == to && letter.path == WITHDRAWALS) {
                    return Ok::<_, StoreError>(true);
                }
            }
            Ok(false)
        };
        waits().unwrap_or(true)
    }

    /// Delivers in order; one that the recipient refuses as such does not hold up those behind it.
    async fn deliver_to(
        &self,
        held: &Held,
        to: &MemberId,
        letters: Vec<(Vec<u8>, Letter)>,
    ) -> Result<bool, StoreError> {
        let mut all = true;
        for (key, letter) in letters {
            match self.send_letter(held, to, &letter).await {
                Ok(()) => {}
                Err(error) => {
                    let age = self.clock.now() - letter.since;
                    let refused = matches!(&error, CallError::Problem(p) if p.status < 500);
                    tracing::warn!(%to, path = letter.path, %error, "a message could not be delivered; kept");
                    if !refused {
                        return Ok(false);
                    }
                    if age <= GIVE_UP_SECONDS {
                        all = false;
                        continue;
                    }
                    tracing::error!(%to, path = letter.path, "a message was refused for a week and is given up");
                }
            }
            self.store.write(|w| w.remove(Table::OUTBOX, &key).map(drop))?;
        }
        Ok(all)
    }

    async fn send_letter(&self, held: &Held, to: &MemberId, letter: &Letter) -> Result<(), CallError> {
        let url = held.manifest.member(to).and_then(|m| m.endpoints.first()).ok_or(CallError::BadUrl)?;
        let request = http::Request::post(letter.path.as_str())
            .body(Bytes::from(letter.body.clone()))
            .map_err(|_| CallError::BadUrl)?;
        self.client.call(&held.manifest.spiffe(to), url, request, DEADLINE).await.map(drop)
    }
}
