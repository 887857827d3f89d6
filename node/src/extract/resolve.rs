//! Checks the columns of a mapping against the catalogue and against each other.

use super::mapping::{Catalogue, MappingError, Target};
use super::raw::{AddressForm, DocumentPart, NameOrder, RawColumn};
use super::value::Formats;
use policies::FieldType;
use protocol::FieldId;
use std::collections::{BTreeMap, BTreeSet};

const ONE_TARGET: &str = "must say exactly one of `pesel = true`, `former_pesel = true`, \
     `local_number = true`, `document`, `name`, `address` and `field`";

/// What each column becomes: exactly one thing, a known field, no field twice, exactly one PESEL.
pub(super) fn resolve(
    raw: BTreeMap<String, RawColumn>,
    ignore: &BTreeSet<String>,
    catalogue: Catalogue<'_>,
) -> Result<BTreeMap<String, Target>, MappingError> {
    let mut columns = BTreeMap::new();
    let (mut pesels, mut local_numbers, mut parts) = (0, 0, Vec::new());
    let mut taken: BTreeSet<FieldId> = BTreeSet::new();
    for (column, raw) in raw {
        let fault = |expects| MappingError::Column { column: column.clone(), expects };
        if column.is_empty() || column.trim() != column {
            return Err(fault("must be a name without spaces at its ends"));
        }
        if ignore.contains(&column) {
            return Err(fault("stands under `ignore` too; keep one of the two"));
        }
        let target = target(&column, raw, catalogue)?;
        pesels += u32::from(matches!(target, Target::Pesel));
        local_numbers += u32::from(matches!(target, Target::LocalNumber));
        if pesels > 1 || local_numbers > 1 {
            return Err(fault(
                "is a second column of its kind; a mapping has one `pesel` and at most one `local_number`",
            ));
        }
        if let Target::Document(part) = target {
            if parts.contains(&part) {
                return Err(fault("is a second column of one part of the document"));
            }
            parts.push(part);
        }
        for field in target.fields() {
            if !taken.insert(field.clone()) {
                return Err(MappingError::FieldTwice { column, field: field.clone() });
            }
        }
        columns.insert(column, target);
    }
    if pesels == 0 {
        return Err(MappingError::Key { key: "columns", expects: "a table with one column `{ pesel = true }`" });
    }
    let whole = [DocumentPart::Type, DocumentPart::Country, DocumentPart::Number];
    if !parts.is_empty() && !whole.iter().all(|part| parts.contains(part)) {
        let expects = "a table with `document` columns for all of \"type\", \"country\" and \"number\", or for none";
        return Err(MappingError::Key { key: "columns", expects });
    }
    Ok(columns)
}

/// The settings that the types of the mapped columns call for are there.
pub(super) fn check_settings(columns: &BTreeMap<String, Target>, formats: &Formats) -> Result<(), MappingError> {
    let holds = |wanted: FieldType| {
        columns.values().any(|target| matches!(target, Target::Field { rule, .. } if rule.value == wanted))
    };
    let missing = |key, expects| Err(MappingError::Key { key, expects });
    if holds(FieldType::Date) && formats.date.is_none() {
        return missing("date_format", "\"dd.mm.yyyy\" or \"yyyy-mm-dd\", as a column holds dates");
    }
    if holds(FieldType::Decimal) && formats.decimal.is_none() {
        return missing("decimal", "\"comma\" or \"point\", as a column holds decimals");
    }
    if holds(FieldType::Boolean) {
        if formats.yes.is_empty() {
            return missing("true_values", "the words for yes, as [\"T\", \"tak\"]: a column holds booleans");
        }
        if formats.no.is_empty() {
            return missing("false_values", "the words for no, as [\"N\", \"nie\"]: a column holds booleans");
        }
    }
    if formats.yes.iter().any(|word| formats.no.contains(word)) {
        return missing("true_values", "without a word of `false_values`");
    }
    if formats.yes.iter().chain(&formats.no).any(|word| word.trim().is_empty()) {
        return missing("true_values", "words that are not empty; an empty cell is always an absent field");
    }
    Ok(())
}

fn target(column: &str, raw: RawColumn, catalogue: Catalogue<'_>) -> Result<Target, MappingError> {
    let fault = |expects| MappingError::Column { column: column.to_owned(), expects };
    let unknown = |field| MappingError::UnknownField { column: column.to_owned(), field };
    let fixed = |id: &str| {
        let field: FieldId = id.parse().map_err(|_| fault(ONE_TARGET))?;
        if catalogue(&field).is_some() { Ok(field) } else { Err(unknown(field)) }
    };

    if raw.field.is_none() && (raw.value.is_some() || raw.sealed) {
        return Err(fault("takes `type` and `sealed` only beside `field`"));
    }
    let usual = raw.pesel || raw.local_number || raw.name.is_some() || raw.address.is_some() || raw.field.is_some();
    match (raw.document, raw.former_pesel) {
        (None, false) => {}
        (Some(part), false) if !usual => return Ok(Target::Document(part)),
        (None, true) if !usual => return Ok(Target::FormerPesel),
        _ => return Err(fault(ONE_TARGET)),
    }
    match (raw.pesel, raw.local_number, raw.name, raw.address, raw.field) {
        (true, false, None, None, None) => Ok(Target::Pesel),
        (false, true, None, None, None) => Ok(Target::LocalNumber),
        (false, false, Some(NameOrder::SurnameFirst), None, None) => {
            Ok(Target::Name { surname: fixed("person.surname")?, given_names: fixed("person.given_names")? })
        }
        (false, false, None, Some(AddressForm::HouseSlashFlat), None) => {
            Ok(Target::HouseFlat { house: fixed("person.address.house")?, flat: fixed("person.address.flat")? })
        }
        (false, false, None, None, Some(field)) => {
            let Some(mut rule) = catalogue(&field) else { return Err(unknown(field)) };
            if raw.value.is_some_and(|value| value != rule.value) {
                return Err(MappingError::TypeDiffers { column: column.to_owned(), field, catalogue: rule.value });
            }
            rule.sealed |= raw.sealed;
            Ok(Target::Field { field, rule })
        }
        _ => Err(fault(ONE_TARGET)),
    }
}

impl Target {
    /// The fields a cell of this column can fill.
    pub(super) fn fields(&self) -> impl Iterator<Item = &FieldId> {
        let (one, other) = match self {
            Target::Pesel | Target::FormerPesel | Target::Document(_) | Target::LocalNumber => (None, None),
            Target::Name { surname, given_names } => (Some(surname), Some(given_names)),
            Target::HouseFlat { house, flat } => (Some(house), Some(flat)),
            Target::Field { field, .. } => (Some(field), None),
        };
        one.into_iter().chain(other)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Mapping;
    use super::super::tests::catalogue;

    const HEAD: &str = "source = \"x\"\ndelimiter = \";\"\nencoding = \"utf-8\"\n";

    #[track_caller]
    fn refused(settings: &str, columns: &str, code: &str, says: &str) {
        let text = format!("{HEAD}{settings}\n[columns]\n{columns}\n");
        let error = Mapping::parse(&text, &catalogue).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn every_column_says_one_thing() {
        refused("", "a = {}", "mapping_column", "exactly one of");
        refused("", "a = { pesel = true, field = \"pup.status\" }", "mapping_column", "exactly one of");
        refused("", "a = { pesel = true, sealed = true }", "mapping_column", "beside `field`");
        refused("", "a = { pesel = true }\nb = { pesel = true }", "mapping_column", "\"b\"");
        refused("", "a = { field = \"pup.status\" }", "mapping_key", "pesel = true");
        refused("ignore = [\"a\"]", "a = { pesel = true }", "mapping_column", "ignore");
    }

    #[test]
    fn fields_are_the_catalogues_and_used_once() {
        refused("", "a = { field = \"pup.nothing\" }", "mapping_unknown_field", "pup.nothing");
        refused("", "a = { field = \"PUP\" }", "mapping_syntax", "line 6");
        refused("", "a = { field = \"pup.status\", type = \"date\" }", "mapping_type_differs", "(Code)");
        let twice = "a = { pesel = true }\nb = { name = \"surname-first\" }\nc = { field = \"person.surname\" }";
        refused("", twice, "mapping_field_twice", "person.surname");
    }

    #[test]
    fn types_call_for_their_settings() {
        let date = "a = { pesel = true }\nb = { field = \"pup.registered_from\" }";
        refused("", date, "mapping_key", "date_format");
        let decimal = "a = { pesel = true }\nb = { field = \"css.amount\" }";
        refused("", decimal, "mapping_key", "`decimal`");
        let boolean = "a = { pesel = true }\nb = { field = \"mops.nk\" }";
        refused("", boolean, "mapping_key", "true_values");
        refused("true_values = [\"T\"]", boolean, "mapping_key", "false_values");
        refused("true_values = [\"T\"]\nfalse_values = [\"t\"]", boolean, "mapping_key", "without a word");
    }

    #[test]
    fn unknown_keys_and_bad_values_name_the_line() {
        refused("decimals = \"comma\"", "a = { pesel = true }", "mapping_syntax", "decimals");
        refused("", "a = { pesel = true, tye = \"x\" }", "mapping_syntax", "line 6: unknown field `tye`");
        let latin2 = HEAD.replace("utf-8", "latin2");
        let error = Mapping::parse(&format!("{latin2}[columns]\na = {{ pesel = true }}"), &catalogue).unwrap_err();
        assert!(error.to_string().contains("line 3") && error.to_string().contains("windows-1250"), "{error}");
    }

    #[test]
    fn the_documented_example_is_a_mapping() {
        let mapping = Mapping::parse(include_str!("example.toml"), &catalogue).unwrap();
        assert_eq!((mapping.source(), mapping.fields().count()), ("pomost", 6));
    }

    #[test]
    fn a_mapping_cannot_take_the_seal_off() {
        let text = format!(
            "{HEAD}true_values = [\"T\"]\nfalse_values = [\"N\"]\n[columns]\na = {{ pesel = true }}\nb = {{ field = \"mops.nk\", sealed = false }}"
        );
        let mapping = Mapping::parse(&text, &catalogue).unwrap();
        assert!(matches!(mapping.columns["b"], super::Target::Field { rule, .. } if rule.sealed));
    }
}
