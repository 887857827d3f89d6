//! Whom the pseudonymous ids of this institution's users stand for: the identity provider's name of each, sealed in the
//! store and apart from the log, which has the ids alone. Only the officer reads it (`dpo/who.rs`).

use crate::kin::{Claimed, Marks};
use crate::node::Node;
use crate::store::{StoreError, Table, Write};
use crate::tokens::Caller;
use protocol::encoding::Bytes;
use protocol::{ProviderWord, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// One user.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Person {
    /// The identity provider's name.
    pub(crate) staff: String,
    pub(crate) first: Timestamp,
    /// The last, by the day.
    pub(crate) last: Timestamp,
    /// By which a resident's record is the user's own, or close to the user.
    #[serde(default)]
    pub(crate) marks: Marks,
}

/// What entries say of a caller: all of it, wherever a user does something.
pub(crate) struct Hand {
    pub(crate) auth: Option<ProviderWord>,
    pub(crate) on_behalf_of: Option<Bytes>,
    pub(crate) system: Option<ProviderWord>,
    pub(crate) terminal: Option<Bytes>,
    pub(crate) user: Bytes,
}

impl Hand {
    pub(crate) fn of(node: &Node, caller: &Caller) -> Self {
        let Caller { staff, behalf, system, auth, terminal, .. } = caller;
        Hand {
            auth: auth.clone(),
            on_behalf_of: behalf.as_ref().map(|principal| node.macs.staff_id(&principal.staff)),
            system: system.clone(),
            terminal: terminal.as_ref().map(|name| node.macs.terminal_id(name)),
            user: node.macs.staff_id(staff),
        }
    }
}

/// Who was kept today already: a user costs one write a day.
#[derive(Default)]
pub(crate) struct Today(Mutex<(i64, HashSet<[u8; 32]>)>);

impl Today {
    fn has(&self, day: i64, id: &[u8; 32]) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.0 == day && known.1.contains(id)
    }

    fn add(&self, day: i64, id: [u8; 32]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != day {
            *known = (day, HashSet::new());
        }
        known.1.insert(id);
    }
}

impl Node {
    /// Keeps whom a caller's ids stand for; who cannot be kept is not served, since nobody could say later who it was.
    pub(crate) fn know(&self, caller: &Caller) -> Result<(), StoreError> {
        self.know_as(&caller.staff, caller.person.as_ref())?;
        caller.behalf.as_ref().map_or(Ok(()), |of| self.know_as(&of.staff, Some(&of.person)))
    }

    /// `person` is what the provider says of `staff` as a resident; what is known stays where it says nothing at all.
    fn know_as(&self, staff: &str, person: Option<&Claimed>) -> Result<(), StoreError> {
        let (now, id) = (self.clock.now(), self.macs.staff.mac(&[staff.as_bytes()]));
        let day = now.day();
        if self.known_today.has(day, &id) {
            return Ok(());
        }
        let known: Option<Person> = self.store.read()?.get(Table::STAFF, &id)?;
        if person.is_none() && known.is_some_and(|known| known.last.day() == day) {
            return Ok(());
        }
        self.store.write(|write| {
            let known: Option<Person> = write.get(Table::STAFF, &id)?;
            let first = known.as_ref().map_or(now, |person| person.first);
            let marks = match person {
                Some(claimed) => Marks::claimed(self, claimed),
                None => known.map(|person| person.marks).unwrap_or_default(),
            };
            write.put(Table::STAFF, &id, &Person { staff: staff.to_owned(), first, last: now, marks })
        })?;
        if person.is_some() {
            self.known_today.add(day, id);
        }
        Ok(())
    }
}

/// Forgets whom nobody saw since `before`: no entry names them any more.
pub(crate) fn forget(node: &Node, before: Timestamp) -> Result<(), StoreError> {
    let read = node.store.read()?;
    let mut gone = Vec::new();
    for row in read.each::<Person>(Table::STAFF)? {
        let (key, person) = row?;
        if person.last < before {
            gone.push(key);
        }
    }
    drop(read);
    if gone.is_empty() {
        return Ok(());
    }
    node.store.write(|write: &Write<'_>| gone.iter().try_for_each(|key| write.remove(Table::STAFF, key).map(drop)))
}
