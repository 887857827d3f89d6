//! What the files of a library say of each other.

use crate::catalogue::{BasisKind, Catalogue, FieldType, Mode, Query, Template, Tier};
use crate::library::{CONSENTS, FIELDS, LibraryError, MANDATES, QUERIES};
use protocol::FieldId;
use std::collections::{BTreeMap, BTreeSet};

/// Refuses a catalogue that names what it does not have, opens a sealed field, or lists what cannot be answered.
pub(crate) fn catalogue(catalogue: &Catalogue) -> Result<(), LibraryError> {
    for (id, field) in &catalogue.fields {
        let guessable = matches!(field.kind, FieldType::Boolean | FieldType::Code);
        ensure(
            FIELDS,
            id,
            !(field.verifiable && guessable),
            "a boolean or code is too easily guessed to be verifiable",
        )?;
        ensure(FIELDS, id, !(field.verifiable && field.sealed), "a sealed field is not verifiable")?;
    }
    for (id, query) in &catalogue.queries {
        check_query(catalogue, id, query)?;
    }
    for (id, mandate) in &catalogue.mandates {
        known(MANDATES, id, "kind", &mandate.asker_kinds, &catalogue.kinds)?;
        known(MANDATES, id, "kind", &mandate.holder_kinds, &catalogue.kinds)?;
        known(MANDATES, id, "purpose", &mandate.purposes, &catalogue.purposes)?;
        open_fields(MANDATES, id, &mandate.fields, catalogue)?;
    }
    for (id, versions) in &catalogue.templates {
        let names: BTreeSet<_> = versions.iter().map(|template| &template.version).collect();
        ensure(CONSENTS, id, names.len() == versions.len(), "a version stands twice")?;
        versions.iter().try_for_each(|template| check_template(catalogue, id, template))?;
    }
    Ok(())
}

fn check_query(catalogue: &Catalogue, id: &impl ToString, query: &Query) -> Result<(), LibraryError> {
    known(QUERIES, id, "kind", &query.asker_kinds, &catalogue.kinds)?;
    known(QUERIES, id, "kind", &query.holder_kinds, &catalogue.kinds)?;
    known(QUERIES, id, "role", &query.roles, &catalogue.roles)?;
    open_fields(QUERIES, id, &query.fields, catalogue)?;
    ensure(QUERIES, id, query.bases.contains(&query.basis), "its basis is not one of its bases")?;
    ensure(QUERIES, id, query.tier != Tier::Verify, "verify queries are not answered by this version")?;
    ensure(QUERIES, id, query.mode != Mode::Human, "human answers are not given by this version")?;
    let presence = query.tier == Tier::Presence;
    ensure(QUERIES, id, presence == query.fields.is_empty(), "a presence query has no fields, every other has some")
}

fn check_template(catalogue: &Catalogue, id: &str, template: &Template) -> Result<(), LibraryError> {
    known(CONSENTS, &id, "purpose", &template.purposes, &catalogue.purposes)?;
    for permission in template.all_permissions() {
        open_fields(CONSENTS, &id, &permission.fields, catalogue)?;
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
