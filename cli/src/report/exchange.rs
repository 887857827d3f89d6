//! Entries in the forms of others: Estonia's `findUsage` answer for a resident's list, and FHIR R4 `AuditEvent`s after IHE
//! BALP (Basic Audit Log Patterns): a release is a privacy disclosure, `Export` at its source and `Import` at its
//! recipient, both with the same request id.

use super::disclosures::lines;
use super::{Words, list_of, outcomes, str_of, time_of};
use serde_json::{Value, json};

const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const BALP: &str = "https://profiles.ihe.net/ITI/BALP";

/// The lines of a resident's list as `findUsage` has them: time, action, receiver. What the institution itself did has
/// no asker: it is the receiver, by the origin of its log.
pub(crate) fn usage(entry: &Value, words: &Words, origin: &str) -> Vec<Value> {
    let time = moment(entry).unwrap_or_default();
    let own = origin.split('/').nth(1).unwrap_or_default();
    let receiver = Some(str_of(entry, "asker")).filter(|asker| !asker.is_empty()).unwrap_or(own);
    let system = Some(str_of(entry, "system")).filter(|system| !system.is_empty()).unwrap_or("ogniwo");
    lines(entry, words)
        .into_iter()
        .map(|line| {
            let action =
                if line.purpose.is_empty() { line.what.clone() } else { format!("{}: {}", line.purpose, line.what) };
            json!({
                "logtime": time, "action": action, "receiverCode": receiver, "receiverName": line.institution,
                "receiverSystem": system,
            })
        })
        .collect()
}

/// When it happened, to the millisecond where the entry says it.
fn moment(entry: &Value) -> Option<String> {
    let ms = entry.get("ms").and_then(Value::as_i64).unwrap_or_default();
    Some(jiff::Timestamp::from_millisecond(time_of(entry).checked_mul(1000)?.checked_add(ms)?).ok()?.to_string())
}

/// Events as one `Bundle`.
pub(crate) fn bundle(events: Vec<Value>) -> Value {
    json!({
        "resourceType": "Bundle", "type": "collection",
        "entry": events.into_iter().map(|event| json!({ "resource": event })).collect::<Vec<_>>(),
    })
}

/// An entry as BALP `AuditEvent`s, if it is about one resident's data: one of a release here, one of each answer that
/// came, one of each refusal.
pub(crate) fn audit_events(index: u64, entry: &Value, origin: &str) -> Vec<Value> {
    let own = str_of(entry, "holder");
    let side = |holder, query, request, fields, released| Side {
        entry,
        origin,
        holder,
        query,
        request,
        fields,
        released,
        import: false,
    };
    let sides: Vec<Side<'_>> = match str_of(entry, "event") {
        "query.answered" => {
            let fields = list_of(entry, "fields_returned");
            vec![side(own, str_of(entry, "query"), str_of(entry, "request"), fields, true)]
        }
        "query.denied" | "query.no_match" => {
            vec![side(own, str_of(entry, "query"), str_of(entry, "request"), Vec::new(), false)]
        }
        // What this institution's own node refused has no other side.
        "query.outcome" => outcomes(entry)
            .filter(|outcome| !str_of(outcome, "holder").is_empty())
            .map(|outcome| {
                let [holder, query, request] = ["holder", "query", "request"].map(|field| str_of(outcome, field));
                let released = str_of(outcome, "outcome") == "answered";
                let fields = list_of(outcome, "fields");
                Side { import: true, ..side(holder, query, request, fields, released) }
            })
            .collect(),
        _ => Vec::new(),
    };
    (0..).zip(sides).filter_map(|(number, side): (u64, _)| side.event(&format!("entry-{index}-{number}"))).collect()
}

/// One question to one holder, as an entry has it.
struct Side<'a> {
    entry: &'a Value,
    /// The log's.
    origin: &'a str,
    holder: &'a str,
    query: &'a str,
    request: &'a str,
    fields: Vec<&'a str>,
    released: bool,
    /// Whether we are the recipient.
    import: bool,
}

impl Side<'_> {
    fn event(&self, id: &str) -> Option<Value> {
        let entry = self.entry;
        let recorded = moment(entry)?;
        let (profile, code, display, action) = match (self.released, self.import) {
            (true, false) => (Some("PrivacyDisclosure.Source"), "110106", "Export", "R"),
            (true, true) => (Some("PrivacyDisclosure.Recipient"), "110107", "Import", "C"),
            // A question that brought nothing is no disclosure.
            (false, _) => (None, "110112", "Query", "E"),
        };
        let disclosure = self.released.then(|| {
            json!({
                "system": "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle", "code": "disclose",
                "display": "Disclose Record Lifecycle Event",
            })
        });
        let own = json!({ "system": "urn:ogniwo:event", "code": str_of(entry, "event") });
        let purpose = Some(str_of(entry, "purpose")).filter(|purpose| !purpose.is_empty());
        let purpose = purpose.map(|purpose| json!({ "coding": [{ "system": "urn:ogniwo:purpose", "code": purpose }] }));
        let mut event = json!({
            "resourceType": "AuditEvent",
            "id": id,
            "type": { "system": DICOM, "code": code, "display": display },
            "subtype": disclosure.into_iter().chain([own]).collect::<Vec<_>>(),
            "action": action,
            "recorded": recorded,
            "outcome": if self.released { "0" } else { "4" },
            "purposeOfEvent": purpose.into_iter().collect::<Vec<_>>(),
            "agent": self.agents(),
            // Who recorded it is the source, or the recipient: BALP wants the very same reference.
            "source": { "observer": who(if self.import { str_of(entry, "asker") } else { self.holder }), "site": self.origin },
            "entity": self.entities(),
        });
        if let Some(event) = event.as_object_mut() {
            // What has nothing in it stays out (FHIR JSON).
            event.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
            let url = profile.map(|profile| format!("{BALP}/StructureDefinition/IHE.BasicAudit.{profile}"));
            event.extend(url.map(|url| ("meta".to_owned(), json!({ "profile": [url] }))));
        }
        Some(event)
    }

    /// Source and recipient of the data, the user it is for, and by what application.
    fn agents(&self) -> Vec<Value> {
        let entry = self.entry;
        let party = |code: &str, display: &str, member: &str| {
            json!({
                "type": { "coding": [{ "system": DICOM, "code": code, "display": display }] },
                "who": who(member),
                "requestor": false,
                "network": { "address": member, "type": "1" },
            })
        };
        let user = Some(str_of(entry, "user")).filter(|user| !user.is_empty()).map(|user| {
            json!({
                "type": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP" }] },
                "role": [{ "coding": [{ "system": "urn:ogniwo:role", "code": str_of(entry, "role") }] }],
                "who": { "identifier": { "system": "urn:ogniwo:user", "value": user } },
                "requestor": true,
                "policy": [str_of(entry, "basis")],
                "purposeOfUse": [{ "coding": [{ "system": "urn:ogniwo:purpose", "code": str_of(entry, "purpose") }] }],
            })
        });
        let system = Some(str_of(entry, "system")).filter(|system| !system.is_empty()).map(|system| {
            json!({
                "type": { "coding": [{ "system": DICOM, "code": "110150", "display": "Application" }] },
                "who": { "identifier": { "system": "urn:ogniwo:system", "value": system } },
                "requestor": false,
            })
        });
        let parties = [
            party("110153", "Source Role ID", self.holder),
            party("110152", "Destination Role ID", str_of(entry, "asker")),
        ];
        parties.into_iter().chain(user).chain(system).collect()
    }

    /// The resident, what of the data, the consent relied on, the request.
    fn entities(&self) -> Vec<Value> {
        let entry = self.entry;
        let object = |role: &str, display: &str, system: &str, value: &str| {
            json!({
                "what": { "identifier": { "system": system, "value": value } },
                "type": { "system": ENTITY_TYPE, "code": "2", "display": "System Object" },
                "role": { "system": OBJECT_ROLE, "code": role, "display": display },
            })
        };
        // Of a refusal nobody may be known here.
        let patient = Some(str_of(entry, "file")).filter(|file| !file.is_empty()).map(|file| {
            json!({
                "what": {
                    "type": "Patient",
                    "identifier": { "system": format!("urn:ogniwo:file:{}", self.origin), "value": file },
                },
                "type": { "system": ENTITY_TYPE, "code": "1", "display": "Person" },
                "role": { "system": OBJECT_ROLE, "code": "1", "display": "Patient" },
            })
        });
        let data = self.released.then(|| {
            let detail = |field: &&str| json!({ "type": "field", "valueString": field });
            let mut data = object("3", "Report", "urn:ogniwo:query", self.query);
            if let Some(data) = data.as_object_mut().filter(|_| !self.fields.is_empty()) {
                data.insert("detail".to_owned(), self.fields.iter().map(detail).collect());
            }
            data
        });
        let consent = str_of(entry, "basis").strip_prefix("consent:").and_then(|rest| rest.split(' ').next());
        let consent = consent.map(|id| object("13", "Security Resource", "urn:ogniwo:consent", id));
        let request = Some(self.request).filter(|request| !request.is_empty()).map(|request| {
            json!({
                "what": { "identifier": { "system": "urn:ogniwo:request", "value": request } },
                "type": { "system": format!("{BALP}/CodeSystem/BasicAuditEntityType"), "code": "XrequestId" },
            })
        });
        patient.into_iter().chain(data).chain(consent).chain(request).collect()
    }
}

/// A member.
fn who(member: &str) -> Value {
    json!({ "identifier": { "system": "urn:ogniwo:member", "value": member } })
}
