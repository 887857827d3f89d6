//! What the files of a library say of each other.

use crate::catalogue::{BasisKind, Catalogue, Emergency, Field, FieldType, Query, Sensitivity, Tier};
use crate::library::{
    AGREEMENTS, CONSENTS, EMERGENCIES, FIELDS, KINDS, LibraryError, MANDATES, PURPOSES, QUERIES, ROLES, TERMS,
};
use crate::template::{AgreementTemplate, Template};
use protocol::agreement::AnswerMode;
use protocol::{FieldId, MemberKind};
use std::collections::{BTreeMap, BTreeSet};

/// Most values of one field that may be compared for one resident in 30 days.
const MAX_GUESSES: u32 = 3;
/// The Data Privacy Vocabulary, whose terms purposes are.
const VOCABULARY: &str = "https://w3id.org/dpv";
/// Terms of its extension for personal data, `https://w3id.org/dpv/pd#` (2.3), that a field or a term of ours may name.
const PERSONAL_DATA: [&str; 24] = [
    "BirthDate",
    "CriminalConviction",
    "CurrentEmployment",
    "Disability",
    "EducationQualification",
    "EmailAddress",
    "EmploymentHistory",
    "FamilyStructure",
    "FinancialStatus",
    "Gender",
    "HealthRecord",
    "Household",
    "Income",
    "IncomeBracket",
    "MaritalStatus",
    "Name",
    "Nationality",
    "OfficialID",
    "Offspring",
    "PhysicalAddress",
    "Residency",
    "School",
    "TelephoneNumber",
    "Vulnerability",
];

/// Refuses a catalogue that names what it does not have, opens a sealed field, lacks a language, or lets sensitive data
/// leave without a basis for them.
pub(crate) fn catalogue(catalogue: &Catalogue) -> Result<(), LibraryError> {
    catalogue.kinds.iter().try_for_each(|(id, name)| said(KINDS, id, [&name.pl, &name.en]))?;
    catalogue.roles.iter().try_for_each(|(id, name)| said(ROLES, id, [&name.pl, &name.en]))?;
    for (id, purpose) in &catalogue.purposes {
        said(PURPOSES, id, [&purpose.pl, &purpose.en, &purpose.uk])?;
        ensure(PURPOSES, id, purpose.iri.starts_with(VOCABULARY), "its iri is not of the Data Privacy Vocabulary")?;
    }
    for (id, term) in &catalogue.terms {
        said(TERMS, id, [&term.pl, &term.en])?;
        let below = PERSONAL_DATA.contains(&term.broader.as_str()) && !PERSONAL_DATA.contains(&id.as_str());
        ensure(TERMS, id, below, "not below a term of the Data Privacy Vocabulary, or one of its own")?;
    }
    for (id, field) in &catalogue.fields {
        check_field(catalogue, id, field)?;
    }
    for (id, query) in &catalogue.queries {
        check_query(catalogue, id, query)?;
    }
    for (id, mandate) in &catalogue.mandates {
        known(MANDATES, id, "kind", &mandate.asker_kinds, &catalogue.kinds)?;
        known(MANDATES, id, "kind", &mandate.holder_kinds, &catalogue.kinds)?;
        known(MANDATES, id, "purpose", &mandate.purposes, &catalogue.purposes)?;
        said(MANDATES, id, [&mandate.pl, &mandate.en, &mandate.statute, &mandate.article])?;
        open_fields(MANDATES, id, &mandate.fields, catalogue)?;
        special(MANDATES, id, &mandate.gdpr, &mandate.fields, catalogue)?;
    }
    for (id, emergency) in &catalogue.emergencies {
        check_emergency(catalogue, id, emergency)?;
    }
    for (id, versions) in &catalogue.templates {
        let names: BTreeSet<_> = versions.iter().map(|template| &template.version).collect();
        ensure(CONSENTS, id, names.len() == versions.len(), "a version stands twice")?;
        versions.iter().try_for_each(|template| check_template(catalogue, id, template))?;
        versions.last().map_or(Ok(()), |newest| check_fits(catalogue, id, newest))?;
    }
    catalogue.queries.iter().try_for_each(|(id, query)| offered(catalogue, id, query))?;
    catalogue.agreements.iter().try_for_each(|(id, terms)| check_agreement(catalogue, id, terms))
}

fn check_field(catalogue: &Catalogue, id: &FieldId, field: &Field) -> Result<(), LibraryError> {
    said(FIELDS, id, [&field.pl, &field.en, &field.uk])?;
    let guessable = matches!(field.kind, FieldType::Boolean | FieldType::Code);
    ensure(FIELDS, id, !(field.verifiable && guessable), "a boolean or code is too easily guessed to be verifiable")?;
    ensure(FIELDS, id, !(field.verifiable && field.sealed), "a sealed field is not verifiable")?;
    let known = |term: &str| PERSONAL_DATA.contains(&term) || catalogue.terms.contains_key(term);
    ensure(
        FIELDS,
        id,
        field.dpv.as_deref().is_none_or(known),
        "its dpv is no term of the vocabulary or of terms.toml",
    )?;
    let Some(buckets) = &field.buckets else { return Ok(()) };
    let number = catalogue.fields.get(&buckets.of).filter(|of| !of.sealed && of.buckets.is_none());
    let number = number.is_some_and(|of| matches!(of.kind, FieldType::Integer | FieldType::Decimal));
    ensure(
        FIELDS,
        id,
        number && field.kind == FieldType::Code,
        "buckets are a code, made of a number that is not sealed",
    )?;
    let rising = buckets.from.iter().zip(buckets.from.iter().skip(1)).all(|(least, next)| least < next);
    ensure(FIELDS, id, rising && !buckets.from.is_empty(), "its buckets do not rise")
}

fn check_query(catalogue: &Catalogue, id: &impl ToString, query: &Query) -> Result<(), LibraryError> {
    known(QUERIES, id, "kind", &query.asker_kinds, &catalogue.kinds)?;
    known(QUERIES, id, "kind", &query.holder_kinds, &catalogue.kinds)?;
    known(QUERIES, id, "role", &query.roles, &catalogue.roles)?;
    open_fields(QUERIES, id, &query.fields, catalogue)?;
    ensure(QUERIES, id, query.bases.contains(&query.basis), "its basis is not one of its bases")?;
    said(QUERIES, id, [&query.pl, &query.en])?;
    let presence = query.tier == Tier::Presence;
    ensure(QUERIES, id, presence == query.fields.is_empty(), "a presence query has no fields, every other has some")?;
    let verify = query.tier == Tier::Verify;
    let metered = query.guesses.is_some_and(|guesses| (1..=MAX_GUESSES).contains(&guesses));
    ensure(QUERIES, id, verify == query.guesses.is_some(), "a verify query has guesses, and no other")?;
    ensure(QUERIES, id, !verify || metered, "guesses are 1 to 3")?;
    ensure(QUERIES, id, verify || query.tolerance == 0, "only a verify query has a tolerance")?;
    let comparable = |field: &FieldId| catalogue.fields.get(field).is_some_and(|field| field.verifiable);
    ensure(QUERIES, id, !verify || query.fields.iter().all(comparable), "a field of it is not verifiable")?;
    let document = |field: &FieldId| catalogue.fields.get(field).is_some_and(|field| field.document);
    let by_a_person = query.mode == AnswerMode::Human;
    ensure(QUERIES, id, by_a_person || !query.fields.iter().any(document), "a document leaves without a person")
}

/// The basis offered first serves everybody who may ask: between any two kinds of institutions there is a mandate that
/// carries the query, or an emergency. A consent can always be asked for.
fn offered(catalogue: &Catalogue, id: &impl ToString, query: &Query) -> Result<(), LibraryError> {
    let about = |fields: &BTreeSet<FieldId>| query.tier == Tier::Presence || !fields.is_disjoint(&query.fields);
    let serves = |asker: &MemberKind, holder: &MemberKind| match query.basis {
        BasisKind::Consent => true,
        BasisKind::Mandate => catalogue.mandates.values().any(|mandate| {
            mandate.asker_kinds.contains(asker)
                && mandate.holder_kinds.contains(holder)
                && mandate.max_tier >= query.tier
                && about(&mandate.fields)
        }),
        BasisKind::Emergency => catalogue.emergencies.values().any(|emergency| {
            emergency.asker_kinds.contains(asker) && emergency.holder_kinds.contains(holder) && about(&emergency.fields)
        }),
    };
    let pairs = query.asker_kinds.iter().flat_map(|asker| query.holder_kinds.iter().map(move |holder| (asker, holder)));
    match pairs.filter(|(asker, holder)| asker != holder).find(|(asker, holder)| !serves(asker, holder)) {
        Some((asker, holder)) => {
            let basis = query.basis.as_str();
            let problem = format!("{}: no {basis} lets {asker} ask {holder}, though that is its basis", id.to_string());
            Err(LibraryError::new(QUERIES, problem))
        }
        None => Ok(()),
    }
}

fn check_emergency(catalogue: &Catalogue, id: &str, emergency: &Emergency) -> Result<(), LibraryError> {
    known(EMERGENCIES, &id, "kind", &emergency.asker_kinds, &catalogue.kinds)?;
    known(EMERGENCIES, &id, "kind", &emergency.holder_kinds, &catalogue.kinds)?;
    known(EMERGENCIES, &id, "purpose", &emergency.purposes, &catalogue.purposes)?;
    open_fields(EMERGENCIES, &id, &emergency.fields, catalogue)?;
    special(EMERGENCIES, &id, &emergency.gdpr, &emergency.fields, catalogue)?;
    said(EMERGENCIES, &id, [&emergency.pl, &emergency.en])?;
    for (reason, name) in &emergency.reasons {
        said(EMERGENCIES, &reason, [&name.pl, &name.en, &name.uk])?;
        let once = catalogue.emergencies.values().filter(|other| other.reasons.contains_key(reason)).count() == 1;
        ensure(EMERGENCIES, &reason, once, "a reason of two emergencies")?;
    }
    ensure(EMERGENCIES, &id, (15..=60).contains(&emergency.minutes), "minutes are 15 to 60")?;
    ensure(EMERGENCIES, &id, emergency.per_member_per_day > 0 && emergency.review_days > 0, "a limit is 0")?;
    ensure(EMERGENCIES, &id, !emergency.reasons.is_empty(), "it has no reasons")
}

fn check_template(catalogue: &Catalogue, id: &str, template: &Template) -> Result<(), LibraryError> {
    known(CONSENTS, &id, "purpose", &template.purposes, &catalogue.purposes)?;
    let texts = [&template.pl, &template.en, &template.uk].into_iter().flat_map(|text| [&text.title, &text.text]);
    said(CONSENTS, &id, texts)?;
    for (module, about) in &template.modules {
        said(CONSENTS, &format!("{id}, {module}"), [&about.pl, &about.en, &about.uk])?;
        ensure(CONSENTS, &id, !about.permissions.is_empty(), "a module permits nothing")?;
    }
    ensure(CONSENTS, &id, template.max_days > 0 && !template.modules.is_empty(), "it permits nothing")?;
    for permission in template.all_permissions() {
        open_fields(CONSENTS, &id, &permission.fields, catalogue)?;
        special(CONSENTS, &id, &template.gdpr, &permission.fields, catalogue)?;
    }
    Ok(())
}

/// What residents are asked today, the query types permit. An older version stays as it was read: what a query type has
/// given up since, it does not open.
fn check_fits(catalogue: &Catalogue, id: &str, template: &Template) -> Result<(), LibraryError> {
    for permission in template.all_permissions() {
        let query = catalogue.queries.get(&permission.query);
        let query =
            query.ok_or_else(|| LibraryError::new(CONSENTS, format!("{id}: {} is unknown", permission.query)))?;
        let fits = query.holder_kinds.contains(&permission.holder_kind)
            && query.bases.contains(&BasisKind::Consent)
            && permission.fields.is_subset(&query.fields);
        let problem = "permits more than the query type: its kinds, bases or fields";
        ensure(CONSENTS, &format!("{id}, {}", permission.query), fits, problem)?;
    }
    Ok(())
}

fn check_agreement(catalogue: &Catalogue, id: &str, terms: &AgreementTemplate) -> Result<(), LibraryError> {
    said(AGREEMENTS, &id, [&terms.pl, &terms.en])?;
    known(AGREEMENTS, &id, "purpose", &terms.purposes, &catalogue.purposes)?;
    known(AGREEMENTS, &id, "query", &terms.queries, &catalogue.queries)?;
    open_fields(AGREEMENTS, &id, &terms.fields, catalogue)?;
    let queries: Vec<_> = terms.queries.iter().filter_map(|query| catalogue.queries.get(query)).collect();
    let kinds = queries
        .iter()
        .all(|query| query.asker_kinds.contains(&terms.asker_kind) && query.holder_kinds.contains(&terms.holder_kind));
    ensure(AGREEMENTS, &id, kinds && !queries.is_empty(), "a query of it is not one between these kinds")?;
    let asked = |field: &FieldId| queries.iter().any(|query| query.fields.contains(field));
    ensure(AGREEMENTS, &id, terms.fields.iter().all(asked), "a field of it is in none of its queries")?;
    let limits = [terms.queries_per_day, terms.queries_per_user_per_day, u64::from(terms.days)];
    ensure(AGREEMENTS, &id, limits.iter().all(|limit| *limit > 0), "a limit is 0")
}

/// Fields of GDPR art. 9 leave on a basis of art. 9(2) alone; those of art. 10 on none.
fn special(
    file: &str,
    id: &impl ToString,
    gdpr: &BTreeSet<String>,
    fields: &BTreeSet<FieldId>,
    catalogue: &Catalogue,
) -> Result<(), LibraryError> {
    let has = |sensitivity| {
        fields.iter().any(|id| catalogue.fields.get(id).is_some_and(|field| field.sensitivity == sensitivity))
    };
    let names = |article: &str| gdpr.iter().any(|basis| basis.starts_with(article));
    ensure(file, id, names("A6-1-"), "gdpr names no basis of art. 6(1)")?;
    ensure(file, id, !has(Sensitivity::Special) || names("A9-2-"), "fields of art. 9 without a basis of art. 9(2)")?;
    ensure(file, id, !has(Sensitivity::Criminal), "a field of art. 10")
}

fn said<'a>(file: &str, id: &impl ToString, texts: impl IntoIterator<Item = &'a String>) -> Result<(), LibraryError> {
    ensure(file, id, texts.into_iter().all(|text| !text.trim().is_empty()), "a text is empty")
}

fn open_fields(
    file: &str,
    id: &impl ToString,
    fields: &BTreeSet<FieldId>,
    catalogue: &Catalogue,
) -> Result<(), LibraryError> {
    known(file, id, "field", fields, &catalogue.fields)?;
    let sealed = fields.iter().find(|field| catalogue.fields.get(field).is_some_and(|f| f.sealed));
    match sealed {
        Some(field) => Err(LibraryError::new(file, format!("{}: the field {field} is sealed", id.to_string()))),
        None => Ok(()),
    }
}

fn known<K: Ord + ToString, V>(
    file: &str,
    id: &impl ToString,
    what: &str,
    names: &BTreeSet<K>,
    table: &BTreeMap<K, V>,
) -> Result<(), LibraryError> {
    match names.iter().find(|name| !table.contains_key(name)) {
        Some(name) => {
            Err(LibraryError::new(file, format!("{}: the {what} {} is unknown", id.to_string(), name.to_string())))
        }
        None => Ok(()),
    }
}

fn ensure(file: &str, id: &impl ToString, holds: bool, problem: &str) -> Result<(), LibraryError> {
    if holds { Ok(()) } else { Err(LibraryError::new(file, format!("{}: {problem}", id.to_string()))) }
}
