//! Entries in the forms of others: Estonia's `findUsage` answer for a resident's list, and FHIR R4 `AuditEvent`s after IHE
//! BALP (Basic Audit Log Patterns).

use super::disclosures::lines;
use super::{Words, list_of, outcomes, str_of, time_of};
use serde_json::{Value, json};

/// The lines of a resident's list as `findUsage` has them: time, action, receiver.
pub(crate) fn usage(entry: &Value, words: &Words) -> Vec<Value> {
    let time = jiff::Timestamp::from_second(time_of(entry)).map(|time| time.to_string()).unwrap_or_default();
    let receiver = str_of(entry, "asker");
    lines(entry, words)
        .into_iter()
        .map(|line| {
            let action =
                if line.purpose.is_empty() { line.what.clone() } else { format!("{}: {}", line.purpose, line.what) };
            json!({
                "logtime": time, "action": action, "receiverCode": receiver, "receiverName": line.institution,
                "receiverSystem": "ogniwo",
            })
        })
        .collect()
}

/// An entry as a BALP `AuditEvent`, if it is about one resident's data. A release is `Export` at the source and `Import`
/// at the recipient, both with the same request id.
pub(crate) fn audit_event(index: u64, entry: &Value, origin: &str) -> Option<Value> {
    let event = str_of(entry, "event");
    let (code, display, action) = match event {
        "query.answered" => ("110106", "Export", "R"),
        "query.outcome" => ("110107", "Import", "C"),
        "query.denied" | "query.no_match" => ("110112", "Query", "E"),
        _ => return None,
    };
    let recorded = jiff::Timestamp::from_second(time_of(entry)).ok()?.to_string();
    let answered = outcomes(entry).any(|outcome| str_of(outcome, "outcome") == "answered");
    let succeeded = event == "query.answered" || answered;
    let member = |id: &str, requestor: bool| json!({ "who": { "identifier": { "system": "urn:ogniwo:member", "value": id } }, "requestor": requestor });
    let mut agents = vec![member(str_of(entry, "asker"), false)];
    if !str_of(entry, "user").is_empty() {
        agents.push(json!({
            "type": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP" }] },
            "role": [{ "coding": [{ "system": "urn:ogniwo:role", "code": str_of(entry, "role") }] }],
            "who": { "identifier": { "system": "urn:ogniwo:user", "value": str_of(entry, "user") } },
            "requestor": true,
            "policy": [str_of(entry, "basis")],
            "purposeOfUse": [{ "coding": [{ "system": "urn:ogniwo:purpose", "code": str_of(entry, "purpose") }] }],
        }));
    }
    let holders = outcomes(entry).map(|outcome| str_of(outcome, "holder")).chain([str_of(entry, "holder")]);
    let mut holders: Vec<&str> = holders.filter(|holder| !holder.is_empty()).collect();
    holders.sort_unstable();
    holders.dedup();
    agents.extend(holders.into_iter().map(|holder| member(holder, false)));
    let mut entities = vec![json!({
        "what": { "identifier": { "system": format!("urn:ogniwo:file:{origin}"), "value": str_of(entry, "file") } },
        "type": { "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "1", "display": "Person" },
        "role": { "system": "http://terminology.hl7.org/CodeSystem/object-role", "code": "1", "display": "Patient" },
        "detail": list_of(entry, "fields_returned").iter().map(|field| json!({ "type": "field", "valueString": field })).collect::<Vec<_>>(),
    })];
    let requests = outcomes(entry).map(|outcome| str_of(outcome, "request")).chain([str_of(entry, "request")]);
    entities.extend(requests.filter(|request| !request.is_empty()).map(|request| {
        json!({
            "what": { "identifier": { "system": "urn:ogniwo:request", "value": request } },
            "type": { "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "code": "XrequestId" },
        })
    }));
    Some(json!({
        "resourceType": "AuditEvent",
        "id": format!("entry-{index}"),
        "type": { "system": "http://dicom.nema.org/resources/ontology/DCM", "code": code, "display": display },
        "subtype": [{ "system": "urn:ogniwo:event", "code": event }],
        "action": action,
        "recorded": recorded,
        "outcome": if succeeded { "0" } else { "4" },
        "agent": agents,
        "source": { "observer": { "identifier": { "system": "urn:ogniwo:log", "value": origin } } },
        "entity": entities,
    }))
}
