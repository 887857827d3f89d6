//! How many connections, or requests, each peer has open, so that one cannot take them all.

use protocol::MemberId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Places taken, by peer. As many entries as peers have any.
#[derive(Clone, Default)]
pub(crate) struct Places(Arc<Mutex<HashMap<MemberId, usize>>>);

/// One place of a peer, until dropped.
pub(crate) struct Place {
    places: Places,
    peer: MemberId,
}

impl Places {
    /// One more place for `peer`, which may have `most`.
    pub(crate) fn take(&self, peer: &MemberId, most: usize) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(peer.clone()).or_default();
        (*count < most).then(|| {
            *count += 1;
            Place { places: self.clone(), peer: peer.clone() }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own_and_a_place_left_is_free_again() {
        let (places, mops, pup) = (Places::default(), "mops".parse().unwrap(), "pup".parse().unwrap());
        let (first, second) = (places.take(&mops, 2), places.take(&mops, 2));
        assert!(first.is_some() && second.is_some());
        assert!(places.take(&mops, 2).is_none());
        assert!(places.take(&pup, 2).is_some());
        drop(first);
        assert!(places.take(&mops, 2).is_some());
        drop(second);
        assert!(places.0.lock().unwrap().is_empty());
    }
}
