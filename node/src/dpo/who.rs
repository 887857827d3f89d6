//! What pseudonymous ids of the log stand for: a user's for a name of the identity provider, a file's for this
//! institution's own numbers. Only for a reason, and recorded with the id before it is told, also when it stands for nobody.

use super::act::Act;
use super::{DpoError, Officer};
use crate::events::Happened;
use crate::node::Node;
use crate::staff::Person;
use crate::store::Table;
use protocol::FileId;
use protocol::encoding::{Bytes, unb64};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// Which id: exactly one of the two.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoBody {
    /// A user of this institution, as entries have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A resident's file, as entries have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Why, in the officer's words; stays in the log.
    pub reason: String,
}

/// What an id stands for.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Who {
    /// A user: the identity provider's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staff: Option<String>,
    /// A user: when the node saw them first (seconds since 1970).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<i64>,
    /// A user: on which day they were seen last (a moment of it, seconds since 1970).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<i64>,
    /// A file: this institution's numbers of the resident.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub local_numbers: BTreeSet<String>,
}

/// Reads what an id stands for.
pub(super) async fn who(node: &Node, officer: &Officer, body: &WhoBody) -> Result<Who, DpoError> {
    if body.reason.trim().is_empty() {
        return Err(DpoError::Value("reason"));
    }
    let mut act = Act::of(officer, Happened::IdentityRead, node)?;
    act.reason_text = Some(body.reason.clone());
    let (found, unknown) = match (&body.user, &body.file) {
        (Some(user), None) => {
            let id = unb64::<32>(user).ok_or(DpoError::Value("user"))?;
            act.about = Some(Bytes(id.to_vec()));
            act.filter = vec!["user"];
            let person: Option<Person> = node.store.read()?.get(Table::STAFF, &id)?;
            (person.map(Who::person), DpoError::NoUser)
        }
        (None, Some(file)) => {
            let file = FileId(unb64::<16>(file).ok_or(DpoError::Value("file"))?);
            act.file = Some(file);
            act.filter = vec!["file"];
            let numbers = node.store.read()?.local_numbers(file)?;
            ((!numbers.is_empty()).then(|| Who::resident(numbers)), DpoError::Unknown)
        }
        _ => return Err(DpoError::Value("user")),
    };
    act.counts = [("found", u64::from(found.is_some()))].into();
    let _recorded = act.record(node).await?;
    found.ok_or(unknown)
}

impl Who {
    fn person(Person { staff, first, last, .. }: Person) -> Self {
        let (first_seen, last_seen) = (Some(first.0), Some(last.0));
        Who { staff: Some(staff), first_seen, last_seen, local_numbers: BTreeSet::new() }
    }

    fn resident(local_numbers: BTreeSet<String>) -> Self {
        Who { staff: None, first_seen: None, last_seen: None, local_numbers }
    }
}
