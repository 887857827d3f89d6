//! Which crate may use which (ARCHITECTURE.md, Directions), over `cargo metadata`.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use std::collections::BTreeSet;
use std::path::Path;

/// For each crate the crates of this workspace it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("pseudonym", &[]),
    ("audit", &["protocol"]),
    ("certs", &["protocol"]),
    ("keyring", &["protocol"]),
    ("policies", &["protocol"]),
    ("proofs", &["policies"]),
    ("transport", &["protocol"]),
    ("witness", &["protocol", "audit", "transport"]),
    ("registry", &["protocol", "audit", "transport", "keyring", "witness"]),
    ("node", &["protocol", "pseudonym", "policies", "audit", "transport", "keyring", "witness"]),
    ("cli", &["protocol", "policies", "audit", "transport", "certs", "keyring", "registry", "node", "witness"]),
    (
        "tests",
        &[
            "protocol",
            "pseudonym",
            "policies",
            "audit",
            "transport",
            "certs",
            "keyring",
            "registry",
            "node",
            "cli",
            "witness",
        ],
    ),
];

/// What a crate's tests may use beside that.
const TESTS_MAY_USE: &[(&str, &[&str])] = &[("registry", &["certs"])];

/// Other people's crates that a crate's product must not use: what is pure has no runtime and no randomness of its own,
/// what stores has no network, what has a network stores nothing.
const MUST_NOT_USE: &[(&str, &[&str])] = &[
    ("protocol", &["tokio", "getrandom"]),
    ("pseudonym", &["tokio", "getrandom"]),
    ("policies", &["tokio", "getrandom"]),
    ("audit", &["hyper", "hyper-util", "axum", "rustls", "tokio-rustls"]),
    ("transport", &["redb", "sled"]),
    ("witness", &["redb", "sled"]),
];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["common", "util", "utils", "helpers", "misc", "shared", "lib"];

/// `from` depends on `to`; `product` if not only its tests do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    product: bool,
}

fn metadata() -> Metadata {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    MetadataCommand::new().current_dir(root).no_deps().exec().expect("cargo metadata")
}

fn edges(metadata: &Metadata) -> Vec<Edge> {
    let packages = metadata.workspace_packages();
    packages
        .iter()
        .flat_map(|package| package.dependencies.iter().map(move |dependency| (package, dependency)))
        .map(|(package, dependency)| Edge {
            from: package.name.to_string(),
            to: dependency.name.clone(),
            product: dependency.kind != DependencyKind::Development,
        })
        .collect()
}

/// Every edge that a rule forbids.
fn violations(edges: &[Edge]) -> Vec<String> {
    let ours: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    let listed = |table: &[(&str, &[&str])], edge: &Edge| {
        table.iter().any(|(from, to)| *from == edge.from && to.contains(&edge.to.as_str()))
    };
    let mut out = Vec::new();
    for edge in edges {
        let Edge { from, to, product } = edge;
        if !ours.contains(from.as_str()) {
            out.push(format!("{from} has no place in the architecture"));
        } else if from == to && !product {
            // A crate's tests switch on a feature of its own.
        } else if !product && listed(TESTS_MAY_USE, edge) {
            // No direction of the product.
        } else if (ours.contains(to.as_str()) && !listed(MAY_USE, edge)) || (*product && listed(MUST_NOT_USE, edge)) {
            out.push(format!("{from} must not use {to}"));
        }
    }
    out
}

/// What is wrong with a crate's name, of which the folder at the root of the workspace must be the same.
fn misnamed(name: &str, folder: &str) -> Option<String> {
    if EMPTY_NAMES.contains(&name) {
        return Some(format!("{name} says nothing"));
    }
    (folder != name).then(|| format!("{name} lives in {folder}"))
}

#[test]
fn dependencies_point_one_way() {
    let edges = edges(&metadata());
    assert!(edges.iter().any(|edge| !edge.product), "tests' dependencies are seen too");
    assert_eq!(violations(&edges), Vec::<String>::new());
}

#[test]
fn every_crate_has_its_place_and_folder() {
    let metadata = metadata();
    let root = metadata.workspace_root.clone();
    let mut names = BTreeSet::new();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().expect("a folder");
        let folder = folder.strip_prefix(&root).expect("inside the workspace").as_str();
        assert_eq!(misnamed(&package.name, folder), None);
        names.insert(package.name.to_string());
    }
    let members = metadata.workspace_default_packages();
    assert_eq!(members.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["cli"], "what plain cargo run builds");
    assert_eq!(names, MAY_USE.iter().map(|(name, _)| (*name).to_owned()).collect(), "the crates of ARCHITECTURE.md");
}

/// What a source file hands to axum's `route`: a path, or the name of a constant that is one.
fn routes(source: &str) -> impl Iterator<Item = &str> {
    source.split(".route(").skip(1).filter_map(|rest| Some(rest.split(',').next()?.trim()))
}

#[test]
fn every_route_for_members_stands_in_the_protocol() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect("a file");
    let protocol = read("docs/PROTOCOL.md");
    let constants = [read("node/src/agreements.rs"), read("node/src/consents.rs")].concat();
    for file in ["registry/src/server.rs", "node/src/peer_api.rs", "witness/src/serve.rs"] {
        let source = read(file);
        let routes: Vec<&str> = routes(&source).collect();
        assert!(routes.len() >= 4, "{file}: {routes:?}");
        for route in routes {
            let named = || constants.split(&format!("const {route}: &str = ")).nth(1)?.split(';').next();
            let path = if route.starts_with('"') { Some(route) } else { named() };
            let path = path.expect("a path").trim_matches('"').replace("{*", "{");
            assert!(protocol.contains(&format!(" {path}`")), "{file}: {path} is not in docs/PROTOCOL.md");
        }
    }
}

#[test]
fn every_rule_can_fail() {
    let edge = |from: &str, to: &str, product| Edge { from: from.to_owned(), to: to.to_owned(), product };
    for (from, to) in [
        ("protocol", "transport"),
        ("policies", "node"),
        ("audit", "transport"),
        ("transport", "audit"),
        ("certs", "keyring"),
        ("keyring", "node"),
        ("pseudonym", "protocol"),
        ("registry", "pseudonym"),
        ("cli", "pseudonym"),
        ("registry", "node"),
        ("node", "registry"),
        ("node", "certs"),
        ("node", "cli"),
        ("registry", "cli"),
        ("cli", "tests"),
    ] {
        // Not even a test may turn a direction round.
        for product in [true, false] {
            assert_eq!(violations(&[edge(from, to, product)]), [format!("{from} must not use {to}")]);
        }
    }
    for (from, forbidden) in MUST_NOT_USE {
        for to in *forbidden {
            assert_eq!(violations(&[edge(from, to, true)]), [format!("{from} must not use {to}")]);
            assert_eq!(violations(&[edge(from, to, false)]), Vec::<String>::new(), "{from}'s tests may use {to}");
        }
    }
    assert_eq!(violations(&[edge("common", "serde", true)]), ["common has no place in the architecture"]);
    assert_eq!(violations(&[edge("node", "pseudonym", true), edge("tests", "cli", true)]), Vec::<String>::new());
    assert_eq!(violations(&[edge("registry", "certs", true)]), ["registry must not use certs"]);
    assert_eq!(violations(&[edge("registry", "certs", false)]), Vec::<String>::new());
    assert_eq!(misnamed("utils", "utils").as_deref(), Some("utils says nothing"));
    assert_eq!(misnamed("node", "crates/node").as_deref(), Some("node lives in crates/node"));
}
