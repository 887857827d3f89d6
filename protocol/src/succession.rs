//! Institutions that follow others: renamed, merged, split. The officers' word, and history: a succession stays in every
//! manifest that comes after.
//!
//! What the registry and members do by it:
//!
//! * Whoever was followed wholly puts no entries any more. A follower's entry takes the place of the followed one's at the
//!   same index, as old as that was: it is no new meeting to anybody.
//! * A consent given for a recipient that one institution alone follows serves that one. With several, nobody knows whom
//!   the resident would have chosen.

use crate::manifest::{Manifest, ManifestError};
use crate::{MemberId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The tasks of one institution go to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Succession {
    /// Whose.
    pub from: MemberId,
    /// Who has them then: one for a rename or a merger, several for a split. Itself among them, it goes on with a part.
    pub to: BTreeSet<MemberId>,
    /// From when on.
    pub at: Timestamp,
}

impl Succession {
    /// Whether nothing is left of it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.to.contains(&self.from)
    }
}

impl Manifest {
    /// Whom `member` follows at `at`, through any number of steps.
    #[must_use]
    pub fn predecessors(&self, member: &MemberId, at: Timestamp) -> BTreeSet<MemberId> {
        let mut found = BTreeSet::new();
        let mut open = vec![member];
        while let Some(next) = open.pop() {
            for step in self.successions.iter().filter(|step| step.at <= at && step.to.contains(next)) {
                if &step.from != member && found.insert(step.from.clone()) {
                    open.push(&step.from);
                }
            }
        }
        found
    }

    /// Whether others have all tasks of `member` at `at`.
    #[must_use]
    pub fn is_succeeded(&self, member: &MemberId, at: Timestamp) -> bool {
        self.successions.iter().any(|step| &step.from == member && step.is_whole() && step.at <= at)
    }

    /// Who has all tasks of `member` at `at`: itself, if nobody follows it; nobody, if several do.
    #[must_use]
    pub fn heir<'a>(&'a self, member: &'a MemberId, at: Timestamp) -> Option<&'a MemberId> {
        let mut heir = member;
        // Each step is taken once, even if somebody wrote a circle.
        for _ in 0..=self.successions.len() {
            let mut steps = self.successions.iter().filter(|step| &step.from == heir && step.at <= at);
            let Some(step) = steps.next() else { return Some(heir) };
            let mut to = step.to.iter();
            heir = match (steps.next(), to.next(), to.next()) {
                (None, Some(only), None) => only,
                _ => return None,
            };
        }
        None
    }

    /// Whether successions name others than the one followed, and end at members; whoever ends does so once, at the last.
    pub(crate) fn check_successions(&self) -> Result<(), ManifestError> {
        let known = |id: &MemberId| self.member(id).is_some() || self.successions.iter().any(|step| &step.from == id);
        let sound = |step: &Succession| step.to.iter().any(|to| to != &step.from) && step.to.iter().all(known);
        let ends = |step: &Succession| {
            let mut others = self.successions.iter().filter(|other| other.from == step.from && *other != step);
            !step.is_whole() || others.all(|other| !other.is_whole() && other.at <= step.at)
        };
        let sound = self.successions.iter().all(|step| sound(step) && ends(step));
        if sound { Ok(()) } else { Err(ManifestError::Inconsistent) }
    }

    /// Whether what was history in `old` is so still.
    pub(crate) fn keeps_successions_of(&self, old: &Manifest) -> Result<(), ManifestError> {
        match old.successions.iter().find(|step| !self.successions.contains(step)) {
            Some(changed) => Err(ManifestError::SuccessionChanged(changed.from.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bytes;
    use crate::manifest::{Member, Officers, Quotas};

    fn id(name: &str) -> MemberId {
        name.parse().unwrap()
    }

    fn manifest(members: &[&str], successions: &[(&str, &[&str], i64)]) -> Manifest {
        let member = |name: &&str| Member {
            id: id(name),
            name: (*name).to_owned(),
            kind: "hou".parse().unwrap(),
            endpoints: vec![],
            roles: BTreeSet::new(),
            operator: String::new(),
            keys: vec![],
            quotas: Quotas { evaluations_burst: 1, evaluations_per_day: 1, first_enrolment: None },
            duty_desk: None,
        };
        let step = |(from, to, at): &(&str, &[&str], i64)| Succession {
            from: id(from),
            to: to.iter().map(|to| id(to)).collect(),
            at: Timestamp(*at),
        };
        Manifest {
            realm: "lodz.example".parse().unwrap(),
            version: 1,
            issued: Timestamp(0),
            expires: Timestamp(1_000),
            officers: Officers { threshold: 1, keys: vec![] },
            members: members.iter().map(member).collect(),
            epochs: vec![],
            agreements: vec![],
            successions: successions.iter().map(step).collect(),
            library: crate::bundle::LibraryPin { version: 1, digest: Bytes(vec![]) },
        }
    }

    #[test]
    fn tasks_are_followed_through_every_step() {
        // wbil was renamed, its heir merged with another; css gave a part away and goes on.
        let all = manifest(
            &["zlm", "css", "cus"],
            &[("wbil", &["zbl"], 10), ("zbl", &["zlm"], 20), ("adm", &["zlm"], 20), ("css", &["css", "cus"], 30)],
        );
        assert_eq!(all.check_successions(), Ok(()));
        let before = |member, at| -> Vec<String> {
            all.predecessors(&id(member), Timestamp(at)).iter().map(ToString::to_string).collect()
        };
        assert_eq!(before("zlm", 19), [""; 0]);
        assert_eq!(before("zlm", 20), ["adm", "wbil", "zbl"]);
        assert_eq!((before("cus", 30), before("css", 30)), (vec!["css".to_owned()], vec![]));
        let (wbil, css) = (id("wbil"), id("css"));
        assert_eq!(all.heir(&wbil, Timestamp(9)), Some(&wbil));
        assert_eq!(all.heir(&wbil, Timestamp(15)), Some(&id("zbl")));
        assert_eq!(all.heir(&wbil, Timestamp(20)), Some(&id("zlm")));
        assert_eq!(all.heir(&css, Timestamp(30)), None, "two have its tasks");
        assert!(all.is_succeeded(&wbil, Timestamp(10)) && !all.is_succeeded(&wbil, Timestamp(9)));
        assert!(!all.is_succeeded(&css, Timestamp(30)));
    }

    #[test]
    fn a_succession_leads_to_members_and_is_never_changed() {
        let wrong: [&[(&str, &[&str], i64)]; 4] = [
            &[("zlm", &[], 1)],
            &[("zlm", &["zlm"], 1)],
            &[("a", &["b"], 1)],
            &[("a", &["zlm"], 1), ("a", &["css"], 2)],
        ];
        for steps in wrong {
            assert_eq!(manifest(&["zlm", "css"], steps).check_successions(), Err(ManifestError::Inconsistent));
        }
        assert_eq!(manifest(&["a", "b"], &[("a", &["b"], 1), ("b", &["a"], 1)]).heir(&id("a"), Timestamp(2)), None);
        // One that gave a part away may end later, not before.
        let split = |at, end| manifest(&["zlm", "b"], &[("a", &["a", "b"], at), ("a", &["zlm"], end)]);
        assert_eq!(split(1, 2).check_successions(), Ok(()));
        assert_eq!(split(2, 1).check_successions(), Err(ManifestError::Inconsistent));
        let old = manifest(&["zlm"], &[("a", &["zlm"], 1)]);
        assert_eq!(manifest(&["zlm"], &[("b", &["zlm"], 1), ("a", &["zlm"], 1)]).keeps_successions_of(&old), Ok(()));
        for steps in [&[][..], &[("a", &["zlm"] as &[&str], 2)]] {
            let changed = Err(ManifestError::SuccessionChanged(id("a")));
            assert_eq!(manifest(&["zlm"], steps).keeps_successions_of(&old), changed);
        }
    }
}
