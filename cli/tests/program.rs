//! The program as cargo builds it for tests. That this file is here makes `cargo test` build it; the harness uses it.

use std::process::Command;

#[test]
fn it_runs() {
    let ran = Command::new(env!("CARGO_BIN_EXE_ogniwo")).arg("--version").output().unwrap();
    assert!(ran.status.success());
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), concat!("ogniwo ", env!("CARGO_PKG_VERSION")));
}
