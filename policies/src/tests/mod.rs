//! Fixtures shared by the tests: one fully valid request on each basis.

mod compare;
mod life;
mod privacy;
mod property;
mod reasons;
mod replay;

mod rules;

use crate::example::{Example, Scenario};
use crate::{Change, Engine, Library};
use protocol::query::QueryRequest;
use protocol::{MemberId, Timestamp};
use std::sync::LazyLock;

/// 2026-11-21T12:00:00Z
const NOW: Timestamp = Timestamp(1_795_262_400);

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Library::builtin().unwrap(), &[]).unwrap());

fn scenario(example: &str) -> Scenario {
    let example: Example = toml::from_str(example).unwrap();
    Scenario::new(ENGINE.library(), &example, NOW).unwrap()
}

/// MOPS asks PUP for a registration by statute.
fn by_mandate() -> Scenario {
    scenario(
        r#"
        name = "by mandate"
        asker = "mops"
        holder = "pup"
        role = "caseworker"
        query = "q02"
        purpose = "social-welfare-eligibility-assessment"
        mandate = "ups-105"
        case = true
        fields = ["pup.status", "pup.registered_from"]
        "#,
    )
}

/// The same by consent.
fn by_consent() -> Scenario {
    scenario(
        r#"
        name = "by consent"
        asker = "mops"
        holder = "pup"
        role = "caseworker"
        query = "q02"
        purpose = "social-welfare-eligibility-assessment"
        consent = { id = "instead-of-certificate", version = "1.0" }
        fields = ["pup.status", "pup.registered_from"]
        "#,
    )
}

/// MOPS has CŚS compare an amount by statute.
fn comparing() -> Scenario {
    scenario(
        r#"
        name = "comparing"
        asker = "mops"
        holder = "css"
        role = "caseworker"
        query = "q08"
        purpose = "social-welfare-eligibility-assessment"
        mandate = "ups-105"
        case = true
        fields = ["css.amount"]
        "#,
    )
}

/// Housing asks MOPS because a life is in danger.
fn in_danger() -> Scenario {
    scenario(
        r#"
        name = "in danger"
        asker = "hou"
        holder = "mops"
        role = "caseworker"
        query = "q18"
        purpose = "social-welfare-provision"
        emergency = "life"
        fields = ["mops.duty.phone", "mops.emergency.contact"]
        "#,
    )
}

/// MOPS asks housing for an eviction judgment, which a person there approved.
fn with_approval() -> Scenario {
    scenario(
        r#"
        name = "with approval"
        asker = "mops"
        holder = "hou"
        role = "caseworker"
        query = "q11"
        purpose = "social-welfare-eligibility-assessment"
        mandate = "ups-105"
        case = true
        fields = ["hou.eviction", "hou.eviction.notice"]
        person = "approved"
        "#,
    )
}

impl Library {
    /// Makes it the next version, with a content of its own.
    fn raise(&mut self, permits_more: bool) {
        self.version += 1;
        self.digest[0] ^= 1;
        self.bundle.version += 1;
        self.bundle.changes.push(Change { version: self.version, permits_more, text: "a change".into() });
    }
}

impl Scenario {
    fn request_mut(&mut self) -> &mut QueryRequest {
        self.request.as_mut().unwrap()
    }
}

fn member(id: &str) -> MemberId {
    id.parse().unwrap()
}
