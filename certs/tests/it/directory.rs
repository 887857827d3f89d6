//! The files: modes, never overwritten, one process at a time.

use crate::support::{NOW, csr, founded, member, realm};
use certs::{Authority, AuthorityError};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_for_their_owner_alone() {
    let (_temp, dir, _authority) = founded();
    for key in ["root/key.pem", "issuing/key.pem"] {
        assert_eq!(mode(&dir.join(key)), 0o600, "{key}");
        assert_eq!(mode(dir.join(key).parent().unwrap()), 0o700, "{key}");
    }
    for public in ["root.pem", "issuing/cert.pem", "crl.pem", "issued.json"] {
        let text = std::fs::read_to_string(dir.join(public)).unwrap();
        assert!(!text.contains("PRIVATE"), "{public}");
    }
}

#[test]
fn an_authority_is_never_founded_over_anything() {
    let (_temp, dir, authority) = founded();
    drop(authority);
    let keys = || ["root/key.pem", "issuing/key.pem"].map(|key| std::fs::read(dir.join(key)).unwrap());
    let before = keys();
    assert!(matches!(Authority::init(&dir, realm(), NOW), Err(AuthorityError::NotEmpty(_))));
    assert_eq!(keys(), before);

    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join("issuing")).unwrap();
    std::fs::write(other.path().join("issuing/key.pem"), "precious").unwrap();
    assert!(Authority::init(other.path(), realm(), NOW).is_err());
    assert_eq!(std::fs::read(other.path().join("issuing/key.pem")).unwrap(), b"precious");
}

#[test]
fn signing_touches_no_key_and_needs_no_root_key() {
    let (_temp, dir, authority) = founded();
    drop(authority);
    let issuing_key = std::fs::read(dir.join("issuing/key.pem")).unwrap();
    std::fs::remove_dir_all(dir.join("root")).unwrap();
    let mut authority = Authority::open(&dir).unwrap();
    authority.sign(&csr("mops"), &member("mops"), NOW).unwrap();
    authority.crl(NOW).unwrap();
    assert_eq!(std::fs::read(dir.join("issuing/key.pem")).unwrap(), issuing_key);
    assert!(!dir.join("root").exists());
}

#[test]
fn what_was_issued_survives_a_reopening() {
    let (_temp, dir, mut authority) = founded();
    authority.sign(&csr("mops"), &member("mops"), NOW).unwrap();
    let (issued, fingerprint) = (authority.show().to_vec(), authority.root_fingerprint().unwrap());
    drop(authority);
    let authority = Authority::open(&dir).unwrap();
    assert_eq!((authority.show(), authority.realm()), (&issued[..], &realm()));
    assert_eq!(authority.root_fingerprint().unwrap(), fingerprint);
}

#[test]
fn only_one_at_a_time() {
    let (_temp, dir, authority) = founded();
    assert!(matches!(Authority::open(&dir), Err(AuthorityError::InUse(_))));
    drop(authority);
    Authority::open(&dir).unwrap();
}

#[test]
fn damage_is_named() {
    let (_temp, dir, authority) = founded();
    drop(authority);
    let code = || Authority::open(&dir).unwrap_err().code();
    let with = |name: &str, content: &str| {
        let path = dir.join(name);
        let held = std::fs::read(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        let code = code();
        std::fs::write(&path, held).unwrap();
        code
    };
    assert_eq!(with("issued.json", "{"), "authority_damaged");
    assert_eq!(with("issuing/cert.pem", "x"), "authority_damaged");
    assert_eq!(with("issuing/key.pem", "x"), "authority_damaged");
    let other = std::fs::read_to_string(dir.join("root/key.pem")).unwrap();
    assert_eq!(with("issuing/key.pem", &other), "authority_damaged");
    Authority::open(&dir).unwrap();
    let missing = Authority::open(&dir.join("nowhere")).unwrap_err();
    assert_eq!(missing.code(), "authority_io");
    assert!(!dir.join("nowhere").exists());
}
