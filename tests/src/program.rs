//! The program under test, built once by whichever test needs it first.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Path of `ogniwo`, built in the profile these tests are built in.
#[must_use]
pub fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let release = !cfg!(debug_assertions);
    let mut command = Command::new(env!("CARGO"));
    // For tests as `cargo test --workspace` built it: another selection of packages would have other features of the same
    // dependencies, and build those anew. For benchmarks as users have it.
    let target: &[&str] = if release {
        &["build", "--release", "--package", "cli", "--bin", "ogniwo"]
    } else {
        &["test", "--workspace", "--no-run", "--test", "program"]
    };
    command.args(target).args(["--locked", "--quiet"]);
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    assert!(command.current_dir(root).status().expect("cargo runs").success(), "the program does not build");
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root).no_deps().exec().expect("cargo metadata");
    let target = metadata.target_directory.as_std_path();
    target.join(if release { "release" } else { "debug" }).join("ogniwo")
}
