//! What this institution lets its own users ask, by role: questions a day, and hours. Judged before anything leaves here;
//! what an agreement lets them ask is the holder's to judge (`meters.rs`).

use crate::config::ConfigError;
use crate::guard::GuardError;
use crate::node::Node;
use policies::hours;
use protocol::agreement::Hours;
use protocol::{Reason, Role, Timestamp};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What each user may ask in a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleLimit {
    /// Questions a day; any number if not said.
    queries_per_day: Option<u64>,
    /// When they may be put, in local time; at any time if empty.
    #[serde(default)]
    hours: BTreeSet<Hours>,
}

/// The limits as configured, if each makes sense and is of a role that users have here.
pub(crate) fn checked(
    limits: BTreeMap<Role, RoleLimit>,
    roles: &BTreeMap<String, Role>,
) -> Result<BTreeMap<Role, RoleLimit>, ConfigError> {
    for (role, limit) in &limits {
        let wrong = |key: &str, expected| {
            let key = format!("local.limits.{role}{key}").into();
            Err(ConfigError::Value { key, expected })
        };
        if !roles.values().any(|given| given == role) {
            return wrong("", "of a role that `local.tokens.roles` gives");
        }
        if limit.queries_per_day == Some(0) {
            return wrong(".queries_per_day", "at least 1");
        }
        if !limit.hours.iter().all(Hours::is_sound) {
            return wrong(".hours", "spans with `from_minute` before `to_minute`, which is at most 1440");
        }
    }
    Ok(limits)
}

impl Node {
    /// Counts one more question of our own `user` in `role`, on the disk when it returns; why it may not be put, if it may
    /// not. At a closed hour nothing is counted.
    pub(crate) fn limit(&self, user: &str, role: &Role, now: Timestamp) -> Result<Option<Reason>, GuardError> {
        let Some(limit) = self.config.local.as_ref().and_then(|local| local.limits.get(role)) else { return Ok(None) };
        if !hours::open(&limit.hours, now) {
            return Ok(Some(Reason::OutsideHours));
        }
        let Some(most) = limit.queries_per_day else { return Ok(None) };
        if self.guard.spend_today(&["own-user", role.as_str(), user], 1, most, now)?.is_err() {
            return Ok(Some(Reason::UserQuotaExceeded));
        }
        // No entry of the log makes this meter good.
        self.guard.flush()?;
        Ok(None)
    }
}
