//! What the local API takes and gives when something is asked.

use crate::local_api::{CodeSchema, MessageSchema};
use crate::residents::Resident;
use protocol::query::{Match, Obligations};
use protocol::saying::Message;
use protocol::{ConsentId, FieldId, MemberId, Purpose, QueryType};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// What a caseworker's application asks.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryBody {
    /// About whom.
    pub resident: Resident,
    /// What.
    pub asks: Vec<Ask>,
    /// What for, a purpose of the catalogue.
    #[schema(value_type = String, example = "social-welfare-eligibility-assessment")]
    pub purpose: Purpose,
    /// On what legal basis.
    pub basis: BasisBody,
    /// Reference of the open case; peers get it only as a MAC. A blank one is none.
    #[serde(default)]
    pub case_ref: Option<String>,
    /// Why, in the caseworker's words; stays in this institution's log.
    pub reason: String,
}

/// One question.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// A query type of the catalogue.
    #[schema(value_type = String, example = "q02")]
    pub query: QueryType,
    /// Whom to ask; everyone who may answer and knows the resident, if not said.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub holder: Option<MemberId>,
    /// Which fields; all of the query type, if not said.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub fields: BTreeSet<FieldId>,
    /// Verify questions: the value to compare with each field asked; `fields` may then be left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Value>)]
    pub expected: BTreeMap<FieldId, Value>,
}

/// The legal basis of a question.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum BasisBody {
    /// None.
    None,
    /// The resident's consent, recorded at any member.
    Consent {
        /// Its id.
        #[schema(value_type = String)]
        id: ConsentId,
    },
    /// A mandate of the library.
    Mandate {
        /// Its id.
        id: String,
    },
    /// Somebody's life or health is in danger: an emergency the caller opened and confirmed.
    Emergency {
        /// Its id.
        id: String,
    },
}

/// What came of a question.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct QueryResult {
    /// For asking again what came of it.
    pub id: String,
    /// One per question and holder.
    pub outcomes: Vec<Outcome>,
}

/// What one holder said to one question.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// The question.
    #[schema(value_type = String)]
    pub query: QueryType,
    /// Who was asked; nobody, if the question did not leave this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub holder: Option<MemberId>,
    /// What became of it.
    pub outcome: OutcomeKind,
    /// Code of the refusal or failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<CodeSchema>)]
    pub reason: Option<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// The same for people: what was missing and what to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<MessageSchema>)]
    pub message: Option<Message>,
    /// Pending questions: until when the holder may decide (seconds since 1970).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Presence questions: whether the holder has an active file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// Released values: one element per record of the holder's file, aligned across fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Vec<Value>>)]
    pub fields: BTreeMap<FieldId, Value>,
    /// Verify questions: `match`, `mismatch` or `not_comparable` for each field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub matches: BTreeMap<FieldId, Match>,
    /// Duties that came with the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obligations: Option<ObligationsBody>,
    /// An emergency: whom to call at the holder, or at each institution that may know; the same whatever the answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub duty_desks: BTreeMap<MemberId, String>,
}

/// Duties that come with released values.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ObligationsBody {
    /// Delete the values after this moment (seconds since 1970).
    pub delete_after: i64,
    /// Whether they may be passed on.
    pub onward_transfer: bool,
    /// Whether the resident must not be contacted on one's own.
    #[serde(default)]
    pub do_not_contact: bool,
    /// An emergency: when its review is due (seconds since 1970).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_by: Option<i64>,
}

impl From<Obligations> for ObligationsBody {
    fn from(obligations: Obligations) -> Self {
        ObligationsBody {
            delete_after: obligations.delete_after.0,
            onward_transfer: obligations.onward_transfer,
            do_not_contact: obligations.do_not_contact,
            review_by: obligations.review_by.map(|by| by.0),
        }
    }
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// Answered.
    Answered,
    /// Refused.
    Denied,
    /// Waits for a person at the holder.
    Pending,
    /// Not answered in time, or not usable.
    Unavailable,
}

impl OutcomeKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            OutcomeKind::Answered => "answered",
            OutcomeKind::Denied => "denied",
            OutcomeKind::Pending => "pending",
            OutcomeKind::Unavailable => "unavailable",
        }
    }
}
