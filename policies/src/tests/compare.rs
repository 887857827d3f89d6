//! A library is held against the one released before it: what permits more is found, whatever part of the data it is in.

use super::ENGINE;
use crate::library::builtin_files;
use crate::{Catalogue, Library, Released, Unfit};
use protocol::agreement::AnswerMode;
use std::path::Path;

/// The library with its data changed as they cannot be in a file that is loaded, at the next version.
fn next(permits_more: bool, change: impl FnOnce(&mut Catalogue)) -> Library {
    let mut library = ENGINE.library().clone();
    change(&mut library.catalogue);
    library.raise(permits_more);
    library
}

fn released() -> Released {
    Released::from(ENGINE.library())
}

type Change = Box<dyn FnOnce(&mut Catalogue)>;

#[test]
fn what_permits_more_is_found_wherever_it_is() {
    let query = |id: &str| id.parse::<protocol::QueryType>().unwrap();
    let widened: [(&str, Change); 8] = [
        (
            "q02, pup.education: mops asks pup in the role caseworker, for social-welfare-eligibility-assessment, on mandate ups-105",
            Box::new(move |c| {
                let field: protocol::FieldId = "pup.education".parse().unwrap();
                c.queries.get_mut(&query("q02")).unwrap().fields.insert(field.clone());
                c.mandates.get_mut("ups-105").unwrap().fields.insert(field);
            }),
        ),
        (
            "(no person decides)",
            Box::new(move |c| c.queries.get_mut(&query("q11")).unwrap().mode = AnswerMode::Automatic),
        ),
        (
            "(guesses)",
            Box::new(move |c| {
                c.queries.values_mut().for_each(|q| q.guesses = q.guesses.map(|guesses| guesses - 1));
                c.queries.get_mut(&query("q15-verify")).unwrap().guesses = Some(9);
            }),
        ),
        (
            "hea asks pup",
            Box::new(move |c| {
                assert!(c.queries.get_mut(&query("q02")).unwrap().asker_kinds.insert("hea".parse().unwrap()));
            }),
        ),
        (
            "in the role steward",
            Box::new(move |c| {
                assert!(c.queries.get_mut(&query("q04")).unwrap().roles.insert("steward".parse().unwrap()));
            }),
        ),
        ("(no case needed)", Box::new(|c| c.mandates.get_mut("urz-6b").unwrap().requires.clear())),
        ("(how long)", Box::new(|c| c.emergencies.get_mut("vital-interest").unwrap().minutes = 90)),
        ("(how long)", Box::new(|c| c.templates.get_mut("early-housing-help").unwrap()[1].max_days = 999)),
    ];
    for (says, change) in widened {
        let changed = next(false, change);
        // Whoever may ask by consent may ask more by it: not one of these is a wider text.
        let unfit = changed.may_follow(&released()).unwrap_err();
        let found: Vec<_> = changed.beyond(&released()).iter().map(ToString::to_string).collect();
        assert!(matches!(unfit, Unfit::More { .. }), "{unfit}");
        assert!(found.iter().any(|more| more.contains(says)), "{says}: {found:?}");
    }
}

#[test]
fn what_is_said_may_follow_but_no_wider_text_of_an_old_consent() {
    let roles = |c: &mut Catalogue| {
        c.queries.values_mut().for_each(|query| query.roles.extend(["steward".parse().unwrap()]));
    };
    assert_eq!(next(true, roles).may_follow(&released()), Ok(()));
    let text = |c: &mut Catalogue| {
        let module = c.templates.get_mut("instead-of-certificate").unwrap()[0].modules.get_mut("benefits").unwrap();
        module.permissions[0].fields.insert("css.paid_in_month".parse().unwrap());
    };
    for said in [false, true] {
        let unfit = next(said, text).may_follow(&released()).unwrap_err();
        assert!(unfit.to_string().contains("q07, css.paid_in_month"), "{unfit}");
    }
}

#[test]
fn narrower_may_follow_and_versions_never_go_back() {
    let narrower = |c: &mut Catalogue| {
        c.mandates.remove("kpa-220");
        c.queries.values_mut().for_each(|query| query.mode = AnswerMode::Human);
    };
    assert_eq!(next(false, narrower).may_follow(&released()), Ok(()));
    assert_eq!(ENGINE.library().may_follow(&released()), Ok(()), "itself");
    let older = next(true, |_| ());
    let unfit = ENGINE.library().may_follow(&Released::from(&older)).unwrap_err();
    assert!(matches!(unfit, Unfit::Version { .. }), "{unfit}");
}

/// The first release is read, although a library has files today that it had not.
#[test]
fn an_older_library_is_read_and_must_be_whole() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proofs/released");
    let first = Released::load(&directory).unwrap();
    assert!(first.version() < ENGINE.library().bundle().version);
    assert!(ENGINE.library().beyond(&first).iter().any(|more| more.allowed.basis == "mandate kpa-220"));
    let broken = tempfile(&builtin_files());
    std::fs::write(broken.join("kinds.toml"), "").unwrap();
    let refused = Released::load(&broken).unwrap_err();
    std::fs::remove_dir_all(&broken).unwrap();
    assert_eq!(refused.file(), "bundle.toml");
}

fn tempfile(files: &std::collections::BTreeMap<String, String>) -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("ogniwo-library-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for (name, text) in files {
        std::fs::write(directory.join(name), text).unwrap();
    }
    directory
}
