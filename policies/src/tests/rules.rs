//! The rules themselves: what a library, and an institution's own policies, may and may not say.

use super::{ENGINE, by_consent, by_mandate};
use crate::library::builtin_files;
use crate::{Engine, Library, LibraryError};
use protocol::{FieldId, Reason};
use std::collections::BTreeMap;

fn with(name: &str, change: impl FnOnce(String) -> String) -> BTreeMap<String, String> {
    let mut files = builtin_files();
    let text = change(files.remove(name).unwrap());
    files.insert(name.to_owned(), text);
    files
}

/// The same with a table of contents that fits.
fn renewed(mut files: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let bundle = Library::builtin().unwrap().bundle().renewed(&files).unwrap();
    let comment = if files["bundle.toml"].contains("# more") { "# more\n" } else { "" };
    files.insert("bundle.toml".into(), bundle + comment);
    files
}

/// The library with `old` replaced by `new` in one file must be refused, naming that file (or `blamed`) and `problem`.
fn refused(name: &str, old: &str, new: &str, blamed: &str, problem: &str) {
    let files = with(name, |text| {
        assert!(text.contains(old), "{name} has no {old:?}");
        text.replacen(old, new, 1)
    });
    let error = Library::from_files(&files).expect_err(new);
    assert_eq!(error.file(), blamed, "{error}");
    assert!(error.problem().contains(problem), "{error}");
}

#[test]
fn files_that_contradict_are_refused() {
    let pup_status = r#"fields = ["pup.status", "pup.registered_from", "pup.registered_to", "pup.dereg_reason"]"#;
    let nk = r#"fields = ["pup.status", "mops.nk"]"#;
    for (name, old, new, problem) in [
        ("queries.toml", pup_status, r#"fields = ["pup.stratus"]"#, "q02: the field pup.stratus is unknown"),
        ("queries.toml", pup_status, nk, "q02: the field mops.nk is sealed"),
        ("queries.toml", pup_status, "fields = []", "q02: a presence query has no fields"),
        ("queries.toml", r#"holder_kinds = ["pup"]"#, r#"holder_kinds = ["pip"]"#, "kind pip is unknown"),
        ("queries.toml", r#"roles = ["caseworker""#, r#"roles = ["boss""#, "role boss is unknown"),
        ("queries.toml", r#"basis = "mandate""#, "basis = \"consent\"\nbasis_x = 1", "unknown field `basis_x`"),
        ("queries.toml", r#"bases = ["mandate", "#, "bases = [", "its basis is not one of its bases"),
        ("queries.toml", r#"tier = "share""#, r#"tier = "verify""#, "a verify query has guesses"),
        ("queries.toml", "guesses = 3", "guesses = 4", "guesses are 1 to 3"),
        ("queries.toml", "guesses = 3\ntolerance", "tolerance", "a verify query has guesses"),
        ("queries.toml", r#"["mops.income", "#, r#"["pup.status", "#, "q08: a field of it is not verifiable"),
        ("queries.toml", r#"tolerance = "1.00""#, r#"tolerance = "1.005""#, "1.005 is not an amount"),
        ("queries.toml", r#"en = "Is the person known to you?""#, r#"en = """#, "q01: a text is empty"),
        ("fields.toml", r#", uk = "прізвище""#, "", "person.surname: a text is empty"),
        ("purposes.toml", r#", uk = "житлова допомога""#, "", "housing-welfare-management: a text is empty"),
        ("emergencies.toml", r#", uk = "загроза життю""#, "", "life: a text is empty"),
        ("mandates.toml", r#"["A6-1-c", "A9-2-b"]"#, r#"["A9-2-b"]"#, "gdpr names no basis of art. 6(1)"),
        (
            "mandates.toml",
            "[urz-6b]\nversion = 1\ngdpr = [\"A6-1-c\", \"A9-2-b\"]",
            "[urz-6b]\nversion = 1\ngdpr = [\"A6-1-c\"]",
            "urz-6b: fields of art. 9 without",
        ),
        ("mandates.toml", r#"requires = ["case"]"#, r#"requires = ["seal"]"#, "unknown variant `seal`"),
        ("emergencies.toml", "minutes = 60", "minutes = 61", "minutes are 15 to 60"),
        ("emergencies.toml", r#""mops.duty.phone""#, r#""mops.nk""#, "the field mops.nk is sealed"),
        ("emergencies.toml", r#"asker_kinds = ["pup""#, r#"asker_kinds = ["pip""#, "kind pip is unknown"),
        (
            "consents.toml",
            "uk = { title = \"Замість довідки\"",
            "ua = { title = \"Замість довідки\"",
            "unknown field `ua`",
        ),
        ("consents.toml", "uk = \"Соціальний контракт\"\n", "", "missing field `uk`"),
        ("consents.toml", "uk = \"Соціальний контракт\"", "uk = \" \"", "a text is empty"),
        ("consents.toml", r#"["A6-1-a", "A9-2-a"]"#, r#"["A6-1-a"]"#, "fields of art. 9 without"),
        ("mandates.toml", r#""pup.status","#, r#""mops.nk","#, "ups-105: the field mops.nk is sealed"),
        ("mandates.toml", r#"asker_kinds = ["mops"]"#, r#"asker_kinds = ["mosp"]"#, "kind mosp is unknown"),
        ("mandates.toml", r#""social-welfare-provision""#, r#""fun""#, "purpose fun is unknown"),
        ("mandates.toml", "2004-05-01T00:00:00+02:00", "2004-05-01", "is not a date and time with an offset"),
        ("consents.toml", r#"["pup.status","#, r#"["mops.nk","#, "the field mops.nk is sealed"),
        (
            "consents.toml",
            r#""mops.works.eligible"] }]"#,
            r#""mops.works.eligible", "pup.status"] }]"#,
            "permits more than the query type",
        ),
        ("consents.toml", r#"query = "q15-verify""#, r#"query = "q98""#, "q98 is unknown"),
        ("consents.toml", r#""housing-welfare-management","#, r#""fun","#, "purpose fun is unknown"),
        ("fields.toml", r#"sensitivity = "C" }"#, r#"sensitivity = "C", secret = true }"#, "unknown field `secret`"),
        ("fields.toml", "sealed = true", "sealed = true, verifiable = true", "too easily guessed"),
        ("kinds.toml", r#"en = "welfare centre""#, r#"english = "welfare centre""#, "unknown field `english`"),
        ("roles.toml", r#"en = "supervisor""#, "", "missing field `en`"),
        ("purposes.toml", "iri =", "dpv =", "unknown field `dpv`"),
        ("purposes.toml", "https://w3id.org/dpv/", "https://example.org/", "its iri is not of the"),
        (
            "queries.toml",
            r#"asker_kinds = ["mops", "css", "hou"]"#,
            r#"asker_kinds = ["mops", "css", "edu"]"#,
            "q03: no mandate lets edu ask pup, though that is its basis",
        ),
        ("queries.toml", "[q16]", "[q16]\nmode_x = 1", "unknown field `mode_x`"),
        ("fields.toml", r#"dpv = "OfficialID""#, r#"dpv = "OfficialId""#, "its dpv is no term of the vocabulary"),
        ("fields.toml", r#"of = "hou.arrears.months""#, r#"of = "hou.tenancy""#, "made of a number that is not sealed"),
        ("fields.toml", "from = [0, 1, 3, 7]", "from = [0, 3, 1, 7]", "its buckets do not rise"),
        ("terms.toml", r#"broader = "Vulnerability""#, r#"broader = "Weakness""#, "not below a term of"),
        ("agreements.toml", r#"queries = ["q01", "q02""#, r#"queries = ["q06", "q02""#, "not one between these kinds"),
        ("agreements.toml", r#""pup.status","#, r#""pup.education","#, "in none of its queries"),
        ("agreements.toml", "queries_per_day = 500", "queries_per_day = 0", "a limit is 0"),
        ("bundle.toml", "version = 2\n", "version = 3\n", "changes do not tell versions 1 to 3"),
        ("bundle.toml", "\"kinds.toml\"", "\"kinds.tml\"", "kinds.toml is not the file"),
        ("examples.toml", "role =", "rolle =", "unknown field `rolle`"),
    ] {
        refused(name, old, new, name, problem);
    }
    let (verify, presence) = (r#"max_tier = "verify""#, r#"max_tier = "presence""#);
    refused("mandates.toml", verify, presence, "queries.toml", "q08: no mandate lets edu ask css");
}

#[test]
fn a_library_has_exactly_its_files() {
    for name in builtin_files().keys() {
        let mut files = builtin_files();
        files.remove(name);
        assert_eq!(Library::from_files(&files).unwrap_err(), LibraryError::new(name, "missing"));
    }
    let mut files = builtin_files();
    files.insert("more.cedar".into(), String::new());
    assert_eq!(Library::from_files(&files).unwrap_err().file(), "more.cedar");
}

#[test]
fn examples_are_run_and_must_agree() {
    refused(
        "examples.toml",
        r#"refused = "basis_missing""#,
        r#"refused = "case_missing""#,
        "examples.toml",
        "disagrees",
    );
    refused("examples.toml", r#"releases = ["pup.status"]"#, "releases = []", "examples.toml", "disagrees");
    refused("mandates.toml", r#""pup.status","#, "", "examples.toml", "disagrees");
    let forbid = "\n@id(\"x\") forbid (principal, action, resource == Query::\"q12\");";
    let error = Library::from_files(&with("federation.cedar", |text| text + forbid)).unwrap_err();
    assert!(error.problem().contains("federation.cedar#x"), "{error}");
    // Every part must be seen at work: without the examples that show one, the library is refused.
    for (shows, missing) in [
        ("query = \"q04\"", "q04 has no example that is refused"),
        ("mandate = \"usr-23\"", "no example is answered on the mandate usr-23"),
        (
            "modules = [\"labour-measures\"]",
            "no example is answered on instead-of-certificate, labour-measures: q05 at pup",
        ),
        ("emergency = \"child\"", "no example is answered in an emergency for child"),
        ("agreement = \"mops-css\"", "no example is answered under the agreement template mops-css"),
        ("role = \"steward\"", "no example asks in the role steward"),
        ("forbidden_by = \"front-desk-sees-no-values\"", "no example runs into the forbid front-desk-sees-no-values"),
    ] {
        let files = with("examples.toml", |text| {
            let (head, rest) = text.split_once("\n[[").unwrap();
            let kept: String =
                rest.split("\n[[").filter(|part| !part.contains(shows)).map(|part| format!("\n[[{part}")).collect();
            format!("{head}{kept}")
        });
        let problem = Library::from_files(&files).unwrap_err().problem().to_owned();
        assert!(problem == missing, "{shows}: {problem}");
    }
}

#[test]
fn cedar_is_validated_strictly() {
    for (old, new, problem) in [
        ("resource.fields", "resource.feelds", "feelds"),
        ("context.fields.isEmpty()", "context.fields == 1", "types"),
        ("Action::\"share\"", "Action::\"shore\"", "shore"),
        ("Role::\"dpo\"", "Role::\"dop\"", "Role::\"dop\""),
        ("@id(\"sealed-fields-stay\")", "", "@id"),
        ("@id(\"sealed-fields-stay\")", "@id(\"presence-yields-no-field\")", "presence-yields-no-field"),
        ("permit (", "permit (principal == ?principal || ", ""),
        ("principal, action, resource)", "principal == ?principal, action, resource)", "templates"),
    ] {
        refused("federation.cedar", old, new, "federation.cedar", problem);
    }
    refused("schema.cedarschema", "Set<Field>", "Set<Feld>", "schema.cedarschema", "Feld");
}

#[test]
fn the_digest_says_what_the_content_is() {
    let digest = |files| Library::from_files(&files).unwrap().digest();
    let builtin = digest(builtin_files());
    assert_eq!(builtin, Library::builtin().unwrap().digest());
    for name in builtin_files().keys() {
        let comment = if name.contains(".toml") { "\n# more\n" } else { "\n// more\n" };
        let changed = with(name, |text| text + comment);
        if name != "bundle.toml" {
            let error = Library::from_files(&changed).unwrap_err();
            assert!(error.problem().starts_with(name), "{error}");
        }
        assert_ne!(builtin, digest(renewed(changed)), "{name}");
    }
}

#[test]
fn a_directory_loads_as_what_it_holds() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("library");
    assert_eq!(Library::load(&directory).unwrap().digest(), Library::builtin().unwrap().digest());
    let missing = Library::load(&directory.join("none")).unwrap_err();
    assert!(missing.file().ends_with("library/none"), "{missing}");
}

fn local(text: &str) -> Result<Engine, LibraryError> {
    Engine::new(Library::builtin().unwrap(), &[("own.cedar".into(), text.into())])
}

#[test]
fn an_institution_can_forbid() {
    for forbid in [
        r#"@id("no") forbid (principal == Member::"asker", action, resource);"#,
        r#"@id("no") forbid (principal, action == Action::"share", resource == Query::"q02");"#,
        r#"@id("no") forbid (principal, action, resource) when { context.asker_kind == Kind::"mops" };"#,
        r#"@id("no") forbid (principal, action, resource) when { context.fields.contains(Field::"pup.status") };"#,
    ] {
        let denial = by_mandate().decide(&local(forbid).unwrap()).expect_err(forbid);
        assert_eq!((denial.reason(), denial.detail()), (Reason::PolicyDenied, "own.cedar#no"));
    }
    let on_consent =
        local(r#"@id("no") forbid (principal, action, resource) when { context.basis == Basis::"consent" };"#).unwrap();
    assert!(by_mandate().decide(&on_consent).is_ok());
    assert_eq!(by_consent().decide(&on_consent).unwrap_err().reason(), Reason::PolicyDenied);
    let without_case = local(r#"@id("no") forbid (principal, action, resource) unless { context.case };"#).unwrap();
    assert!(by_mandate().decide(&without_case).is_ok());
    assert_eq!(by_consent().decide(&without_case).unwrap_err().reason(), Reason::PolicyDenied);
}

#[test]
fn an_institution_cannot_permit_or_slip() {
    for (policy, problem) in [
        (r#"@id("yes") permit (principal, action, resource);"#, "may only forbid"),
        (r"forbid (principal, action, resource);", "@id"),
        (r#"@id("no") forbid (principal, action, resource) when { context.feelds.isEmpty() };"#, "feelds"),
        (r#"@id("no") forbid (principal, action, resource == Query::"q77");"#, "q77"),
        (
            r#"@id("no") forbid (principal, action, resource) when { context.fields.contains(Field::"pup.stratus") };"#,
            "pup.stratus",
        ),
        (r#"@id("no") forbid (principal, action, resource) when { context.basis == Basis::"whim" };"#, "whim"),
        (r#"@id("no") forbid (principal, action, resource) when { false };"#, ""),
        (r#"@id("no") forbid (principal, action"#, ""),
    ] {
        let error = local(policy).expect_err(policy);
        assert_eq!(error.file(), "own.cedar");
        assert!(error.problem().contains(problem), "{error}");
    }
}

/// Cedar would skip the forbid and allow.
#[test]
fn a_policy_that_errors_denies() {
    let overflow = "9223372036854775807 + (if context.case then 1 else 2) == 0";
    let engine = local(&format!(r#"@id("no") forbid (principal, action, resource) when {{ {overflow} }};"#)).unwrap();
    let denial = by_mandate().decide(&engine).unwrap_err();
    assert_eq!(denial.reason(), Reason::PolicyError);
    assert!(denial.detail().contains("own.cedar#no"), "{denial}");
}

/// Agreement, grant and request name every field there is.
#[test]
fn a_sealed_field_is_never_permitted() {
    let sealed: Vec<_> = ENGINE.library().catalogue().fields.iter().filter(|(_, f)| f.sealed).collect();
    assert_eq!(sealed.len(), 11);
    for mut scenario in [by_mandate(), by_consent()] {
        let every: std::collections::BTreeSet<FieldId> = ENGINE.library().catalogue().fields.keys().cloned().collect();
        scenario.request_mut().fields = every;
        let permit = scenario.decide(&ENGINE).unwrap();
        assert_eq!(permit.fields(), &ENGINE.query(permit.query()).unwrap().fields);
        assert!(permit.fields().iter().all(|id| !ENGINE.field(id).unwrap().sealed));
    }
}

/// The last two locks, with every one before them broken: a query type that lists a sealed field.
#[test]
fn a_sealed_field_stays_even_if_the_catalogue_opens_it() {
    let mut engine = ENGINE.clone();
    let sealed: FieldId = "mops.nk".parse().unwrap();
    let catalogue = &mut engine.library.catalogue;
    catalogue.queries.get_mut(&"q02".parse().unwrap()).unwrap().fields.insert(sealed.clone());
    catalogue.mandates.get_mut("ups-105").unwrap().fields.insert(sealed.clone());
    let mut scenario = by_mandate();
    scenario.request_mut().fields.insert(sealed);
    let denial = scenario.decide(&engine).unwrap_err();
    assert_eq!(denial.reason(), Reason::PolicyDenied);
    assert!(denial.detail().contains("sealed-fields-stay"), "{denial}");
}

#[test]
fn the_asking_side_finds_what_it_may_ask() {
    let (kind, role) = ("mops".parse().unwrap(), "caseworker".parse().unwrap());
    let ask = |query: &str| ENGINE.askable(&query.parse().unwrap(), &kind, &role).map(|q| q.tier);
    assert_eq!(ask("q01"), Ok(crate::Tier::Presence));
    assert_eq!(ask("q06"), Err(Reason::QueryUnknown));
    assert_eq!(ask("q99"), Err(Reason::QueryUnknown));
    let technician = "technician".parse().unwrap();
    assert_eq!(ENGINE.askable(&"q02".parse().unwrap(), &kind, &technician).unwrap_err(), Reason::RoleNotAllowed);
    let template = ENGINE.template("instead-of-certificate").unwrap();
    let given = std::collections::BTreeSet::from(["labour-status".to_owned(), "not-a-module".to_owned()]);
    let queries: Vec<_> = template.permissions(&given).map(|p| p.query.as_str()).collect();
    assert_eq!(queries, ["q02"]);
}

/// An engine whose templates were changed after they were checked.
pub(super) fn with_templates(change: impl FnOnce(&mut BTreeMap<String, Vec<crate::Template>>)) -> Engine {
    let mut engine = ENGINE.clone();
    change(&mut engine.library.catalogue.templates);
    engine
}
