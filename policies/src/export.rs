//! A consent record as JSON-LD: the shape of ISO/IEC TS 27560:2023 in the Data Privacy Vocabulary
//! (<https://w3id.org/dpv/guides/consent-27560>).
//!
//! It names the resident by no identifier: the record's own is enough for whoever keeps the file.

use crate::catalogue::Catalogue;
use crate::receipt::{self, Tongue};
use crate::record::{ConsentEvent, ConsentHappened, ConsentRecord, Party};
use crate::template::Permission;
use protocol::consent::Acting;
use protocol::encoding::b64;
use protocol::{FieldId, Timestamp};
use serde_json::{Value, json};

/// Properties whose values are things, by IRI, not texts.
const THINGS: [&str; 10] = [
    "dct:conformsTo",
    "dct:isReplacedBy",
    "dpv:hasApplicableLaw",
    "dpv:hasConsentStatus",
    "dpv:hasJurisdiction",
    "dpv:hasLegalBasis",
    "dpv:hasLocation",
    "dpv:hasProcessing",
    "dpv:hasPurpose",
    "dpv:hasRight",
];
/// Properties whose values are texts by language.
const TEXTS: [&str; 2] = ["dct:description", "dct:title"];
/// Properties whose values are moments.
const MOMENTS: [&str; 4] = ["dcat:endDate", "dcat:startDate", "dct:date", "dpv:isIndicatedAtTime"];

/// What a resident may do about it, terms of the GDPR extension.
const RIGHTS: [&str; 6] = ["eu-gdpr:A7-3", "eu-gdpr:A15", "eu-gdpr:A16", "eu-gdpr:A17", "eu-gdpr:A18", "eu-gdpr:A77"];

impl ConsentRecord<'_> {
    /// The record as JSON-LD, as it stands at `now`.
    #[must_use]
    pub fn export(&self, catalogue: &Catalogue, now: Timestamp) -> Value {
        let processes: Vec<_> = self
            .holders
            .iter()
            .flat_map(|holder| self.permissions(holder).map(move |permission| (holder, permission)))
            .map(|(holder, permission)| self.process(catalogue, holder, permission))
            .collect();
        let events: Vec<_> = self.events.iter().map(ConsentEvent::export).collect();
        json!({
            "@context": context(),
            "@id": format!("urn:ogniwo:consent:{}", self.id),
            "@type": "dpv:ConsentRecord",
            "dct:conformsTo": "https://w3id.org/dpv/schema/dpv-27560#record-eu-gdpr",
            "dct:identifier": self.id.to_string(),
            "dpv:hasDataSubject": {
                "@type": if self.acting == Acting::Guardian { "dpv:Child" } else { "dpv:DataSubject" },
            },
            "dpv:isIndicatedBy": { "@type": match self.acting {
                Acting::Resident => "dpv:DataSubject",
                Acting::Guardian => "dpv:GuardianOfDataSubject",
                Acting::Attorney => "dpv:Representative",
            }},
            "dpv:hasIndicationMethod": self.method,
            "dpv:hasNotice": {
                "@type": "dpv:ConsentNotice",
                "dct:identifier": format!("{}@{}", self.reference.id, self.reference.version),
                "dct:title": { "pl": self.template.pl.title, "en": self.template.en.title, "uk": self.template.uk.title },
                "dct:language": self.language,
                "dpv:hasIdentifier": format!("sha256:{}", b64(&self.notice_digest())),
            },
            "dpv:hasDataController": controllers(self.holders.iter().chain([&self.recipient])),
            "dpv:hasResponsibleEntity": controller(&self.recorder),
            "dpv:hasRecipient": controller(&self.recipient),
            "dpv:hasLocation": { "@type": "dpv:StorageLocation", "@id": "loc:PL" },
            "dpv:hasConsentControl": {
                "@type": "dpv:WithdrawConsent",
                "dct:description": {
                    "pl": receipt::withdrawal(Tongue::Pl), "en": receipt::withdrawal(Tongue::En),
                    "uk": receipt::withdrawal(Tongue::Uk),
                },
            },
            "dpv:hasJurisdiction": "loc:PL",
            "dpv:hasApplicableLaw": "eu-gdpr:GDPR",
            "dpv:hasLegalBasis": self.template.gdpr.iter().map(|basis| format!("eu-gdpr:{basis}")).collect::<Vec<_>>(),
            "dpv:hasRight": RIGHTS,
            "dpv:hasProcess": processes,
            "dpv:hasDuration": { "@type": ["dpv:TemporalDuration", "dct:PeriodOfTime"],
                "dcat:startDate": moment(self.valid_from), "dcat:endDate": moment(self.valid_to) },
            "dpv:hasConsentStatus": self.state(now).dpv(),
            // What it was taken down from: DPV has no term for the proof of a consent.
            "dct:source": { "dct:identifier": format!("sha256:{}", b64(self.evidence)) },
            "dct:hasPart": events,
        })
    }

    fn process(&self, catalogue: &Catalogue, holder: &Party<'_>, permission: &Permission) -> Value {
        let purposes = self.purposes.iter().filter_map(|purpose| catalogue.purposes.get(purpose)).map(|term| &term.iri);
        json!({
            "@type": "dpv:Process",
            "dct:identifier": permission.query,
            "dpv:hasPurpose": purposes.collect::<Vec<_>>(),
            "dpv:hasProcessing": ["dpv:Query", "dpv:MakeAvailable"],
            "dpv:hasDataSource": controller(holder),
            "dpv:hasRecipient": controller(&self.recipient),
            "dpv:hasPersonalData": permission.fields.iter().map(|id| personal_data(catalogue, id)).collect::<Vec<_>>(),
            "dpv:hasStorageCondition": {
                "@type": "dpv:StorageDuration",
                "dpv:hasDuration": catalogue.queries.get(&permission.query).map(|q| {
                    json!({ "@type": "xsd:duration", "@value": format!("P{}D", q.delete_after_days) })
                }),
            },
        })
    }
}

impl ConsentEvent {
    fn export(&self) -> Value {
        let (mut modules, mut newer, mut cause) = (None, None, None);
        let status = match &self.happened {
            ConsentHappened::Requested => "dpv:ConsentRequested",
            ConsentHappened::Given => "dpv:ConsentGiven",
            ConsentHappened::Renewed => "dpv:RenewedConsentGiven",
            ConsentHappened::Refused => "dpv:ConsentRefused",
            ConsentHappened::PartlyWithdrawn(part) => {
                modules = Some(part);
                "dpv:ConsentWithdrawn"
            }
            ConsentHappened::Withdrawn => "dpv:ConsentWithdrawn",
            ConsentHappened::Superseded(id) => {
                newer = Some(id);
                "dpv:ConsentExpired"
            }
            ConsentHappened::Revoked(why) => {
                cause = Some(why.as_str());
                "dpv:ConsentRevoked"
            }
        };
        json!({
            "@type": status,
            "dct:date": moment(self.at),
            "dct:subject": modules,
            "dct:isReplacedBy": newer.map(|id| format!("urn:ogniwo:consent:{id}")),
            "dct:description": cause,
            "dpv:isIndicatedAtTime": moment(self.at),
            "dpv:hasIndicationMethod": self.method,
            // Who took it down: the institution, and its user as its log has them.
            "dpv:isImplementedByEntity": {
                "@id": format!("urn:ogniwo:member:{}", self.place),
                "dct:identifier": self.by,
            },
        })
    }
}

/// What the names in a record stand for. Stands in every export, so that nothing need be fetched to read one.
fn context() -> Value {
    let mut context = serde_json::Map::new();
    for (prefix, iri) in [
        ("dcat", "http://www.w3.org/ns/dcat#"),
        ("dct", "http://purl.org/dc/terms/"),
        ("dpv", "https://w3id.org/dpv#"),
        ("eu-gdpr", "https://w3id.org/dpv/legal/eu/gdpr#"),
        ("loc", "https://w3id.org/dpv/loc#"),
        ("ogniwo", "urn:ogniwo:term:"),
        ("pd", "https://w3id.org/dpv/pd#"),
        ("xsd", "http://www.w3.org/2001/XMLSchema#"),
    ] {
        context.insert(prefix.to_owned(), iri.into());
    }
    let mut define = |properties: &[&str], meaning: &Value| {
        context.extend(properties.iter().map(|property| ((*property).to_owned(), meaning.clone())));
    };
    define(&THINGS, &json!({ "@type": "@id" }));
    define(&TEXTS, &json!({ "@container": "@language" }));
    define(&MOMENTS, &json!({ "@type": "xsd:dateTime" }));
    Value::Object(context)
}

fn personal_data(catalogue: &Catalogue, id: &FieldId) -> Value {
    let field = catalogue.fields.get(id);
    let terms = match field.and_then(|field| field.dpv.as_deref()) {
        None => vec!["dpv:PersonalData".to_owned()],
        Some(term) => match catalogue.terms.get(term) {
            None => vec![format!("pd:{term}")],
            Some(own) => vec![format!("ogniwo:{term}"), format!("pd:{}", own.broader)],
        },
    };
    json!({ "@id": format!("urn:ogniwo:field:{id}"), "@type": terms, "dct:title": field.map(|field| json!({
        "pl": field.pl, "en": field.en, "uk": field.uk })) })
}

fn controller(party: &Party<'_>) -> Value {
    json!({ "@id": format!("urn:ogniwo:member:{}", party.id), "@type": "dpv:DataController", "dpv:hasName": party.name })
}

fn controllers<'a>(parties: impl Iterator<Item = &'a Party<'a>>) -> Vec<Value> {
    parties.map(controller).collect()
}

/// `xsd:dateTime`, in UTC.
fn moment(at: Timestamp) -> Option<String> {
    jiff::Timestamp::from_second(at.0).ok().map(|instant| instant.to_string())
}
