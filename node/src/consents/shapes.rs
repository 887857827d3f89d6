//! What the local API takes and gives of consents.

use crate::local_api::MessageSchema;
use crate::residents::Resident;
use policies::receipt::Tongue;
use policies::record::{self, Method, RevocationCause};
use protocol::consent::Acting;
use protocol::encoding::Bytes as B64;
use protocol::saying::Message;
use protocol::{ConsentId, FieldId, MemberId, Purpose};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// What a resident is asked to consent to.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentRequest {
    /// Whom.
    pub resident: Resident,
    /// The template; its current version.
    #[schema(example = "instead-of-certificate")]
    pub template: String,
    /// Who may receive.
    #[schema(value_type = String)]
    pub recipient: MemberId,
    /// What for; one or more of the template's purposes.
    #[schema(value_type = Vec<String>)]
    pub purposes: BTreeSet<Purpose>,
    /// For how many days from the answer on; the template's longest, if not said.
    #[serde(default)]
    pub days: Option<u32>,
}

/// What the resident answered.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentAnswer {
    /// The answer to each module; what is not listed is refused.
    pub modules: BTreeMap<String, ModuleAnswer>,
    /// Who answered: `resident`, `guardian` or `attorney`.
    #[serde(default)]
    #[schema(value_type = String, example = "resident")]
    pub acting: Acting,
    /// What other guardians of a minor answered; only what all give is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_guardians: Vec<BTreeMap<String, ModuleAnswer>>,
    /// How: `counter_paper`, `counter_tablet`, `portal`, `phone_recorded` or `epuap`.
    #[serde(default = "on_paper")]
    #[schema(value_type = String, example = "counter_paper")]
    pub method: Method,
    /// In which language the resident read it: `pl`, `en` or `uk`.
    #[serde(default)]
    #[schema(value_type = String, example = "pl")]
    pub language: Tongue,
    /// SHA-256 of the signed paper or scan, base64url without padding, 43 characters.
    #[schema(value_type = String)]
    pub evidence_sha256: B64,
}

pub(super) fn on_paper() -> Method {
    Method::CounterPaper
}

/// A consent as the front desk records it, asked and answered at once.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentBody {
    /// Whose.
    pub resident: Resident,
    /// The template the resident signed; its current version.
    #[schema(example = "instead-of-certificate")]
    pub template: String,
    /// The resident's answer to each module; what is not listed is refused.
    pub modules: BTreeMap<String, ModuleAnswer>,
    /// Who answered: `resident`, `guardian` or `attorney`.
    #[serde(default)]
    #[schema(value_type = String, example = "resident")]
    pub acting: Acting,
    /// What other guardians of a minor answered; only what all give is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_guardians: Vec<BTreeMap<String, ModuleAnswer>>,
    /// How: `counter_paper`, `counter_tablet`, `portal`, `phone_recorded` or `epuap`.
    #[serde(default = "on_paper")]
    #[schema(value_type = String, example = "counter_paper")]
    pub method: Method,
    /// In which language the resident read it: `pl`, `en` or `uk`.
    #[serde(default)]
    #[schema(value_type = String, example = "pl")]
    pub language: Tongue,
    /// Who may receive.
    #[schema(value_type = String)]
    pub recipient: MemberId,
    /// What for; one or more of the template's purposes.
    #[schema(value_type = Vec<String>)]
    pub purposes: BTreeSet<Purpose>,
    /// For how many days; the template's longest, if not said.
    #[serde(default)]
    pub days: Option<u32>,
    /// SHA-256 of the signed paper or scan, base64url without padding, 43 characters.
    #[schema(value_type = String)]
    pub evidence_sha256: B64,
}

/// What of a consent is withdrawn.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawBody {
    /// These modules; all of it, if not said.
    #[serde(default)]
    pub modules: Option<BTreeSet<String>>,
    /// How it was said; on paper at the counter, if not said.
    #[serde(default = "on_paper")]
    #[schema(value_type = String, example = "phone_recorded")]
    pub method: Method,
}

impl Default for WithdrawBody {
    fn default() -> Self {
        WithdrawBody { modules: None, method: on_paper() }
    }
}

/// A withdrawal of a consent that may have been recorded anywhere.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawalBody {
    /// Whose.
    pub resident: Resident,
    /// The consent's id, as on its receipt.
    #[schema(value_type = String)]
    pub consent: ConsentId,
    /// These modules; all of it, if not said.
    #[serde(default)]
    pub modules: Option<BTreeSet<String>>,
    /// How it was said; on paper at the counter, if not said.
    #[serde(default = "on_paper")]
    #[schema(value_type = String, example = "phone_recorded")]
    pub method: Method,
}

/// A withdrawal that was taken, as far as it has come.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WithdrawalReceipt {
    /// The consent.
    #[schema(value_type = String)]
    pub consent: ConsentId,
    /// Institutions that took it.
    #[schema(value_type = Vec<String>)]
    pub told: BTreeSet<MemberId>,
    /// Those of them that know the consent: its recorder, and who answered on it. While there is none, nobody has said
    /// that the consent exists.
    #[schema(value_type = Vec<String>)]
    pub confirmed_by: BTreeSet<MemberId>,
    /// Institutions that know the consent and do not take this withdrawal of it, with their reason's code.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub refused_by: BTreeMap<MemberId, String>,
    /// Institutions that could not be told yet; delivery goes on.
    #[schema(value_type = Vec<String>)]
    pub undelivered: BTreeSet<MemberId>,
    /// Why nobody can be told yet, if so: the code of what is waited for. It is kept, and goes on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// Why a consent ends that the resident did not withdraw.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeBody {
    /// `death`, `court` or `representative` (whoever gave it for the resident might not have).
    #[schema(value_type = String, example = "court")]
    pub cause: RevocationCause,
    /// What it is proven by, in the user's words; stays in this institution's log.
    pub text: String,
}

/// The consents of one resident.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConsentList {
    /// Those recorded here, newest first.
    pub consents: Vec<ConsentReceipt>,
}

/// A resident's answer to one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModuleAnswer {
    /// Given.
    Given,
    /// Refused.
    Refused,
}

/// A recorded consent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConsentReceipt {
    /// Its id, which the recipient cites.
    #[schema(value_type = String)]
    pub id: ConsentId,
    /// Where it stands.
    pub state: ConsentState,
    /// Template and version.
    pub template: String,
    /// The modules given and not withdrawn.
    #[serde(default)]
    pub standing: BTreeSet<String>,
    /// Who may receive.
    #[schema(value_type = String)]
    pub recipient: MemberId,
    /// First moment (seconds since 1970).
    pub valid_from: i64,
    /// Last moment (seconds since 1970).
    pub valid_to: i64,
    /// Institutions that may answer under it, and which of their fields still.
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub holders: BTreeMap<MemberId, BTreeSet<FieldId>>,
    /// Institutions that could not be told yet; delivery goes on.
    #[schema(value_type = Vec<String>)]
    pub undelivered: BTreeSet<MemberId>,
    /// Said of a consent in force that no institution can answer on today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<MessageSchema>)]
    pub message: Option<Message>,
    /// The consent this one renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub renews: Option<ConsentId>,
}

/// Where a consent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentState {
    /// Asked for, not answered.
    Requested,
    /// In force.
    Given,
    /// In force, given again.
    Renewed,
    /// Refused.
    Refused,
    /// Its period is over.
    Expired,
    /// Given anew since, or refused when asked again; final.
    Superseded,
    /// Withdrawn; final.
    Withdrawn,
    /// Ended by somebody else; final.
    Revoked,
}

impl From<record::ConsentState> for ConsentState {
    fn from(state: record::ConsentState) -> Self {
        match state {
            record::ConsentState::Requested => ConsentState::Requested,
            record::ConsentState::Given => ConsentState::Given,
            record::ConsentState::Renewed => ConsentState::Renewed,
            record::ConsentState::Refused => ConsentState::Refused,
            record::ConsentState::Expired => ConsentState::Expired,
            record::ConsentState::Superseded => ConsentState::Superseded,
            record::ConsentState::Withdrawn => ConsentState::Withdrawn,
            record::ConsentState::Revoked => ConsentState::Revoked,
        }
    }
}
