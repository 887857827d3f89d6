//! Revocations and the list of them.

use crate::support::{Crl, DAY, NOW, csr, founded, member, read_crl, serial_of};
use certs::{Authority, Reason, Status, Target};

#[test]
fn a_founded_authority_has_an_empty_crl() {
    let (_temp, dir, authority) = founded();
    let crl = read_crl(&std::fs::read_to_string(dir.join("crl.pem")).unwrap());
    assert_eq!(crl, Crl { number: 1, next_update: NOW.0 + DAY, revoked: vec![] });
    assert_eq!(authority.crl_number(), 1);
}

#[test]
fn revoking_puts_the_serials_on_the_crl() {
    let (_temp, dir, mut authority) = founded();
    let first = serial_of(&authority.sign(&csr("mops"), &member("mops"), NOW).unwrap());
    let second = serial_of(&authority.renew(&csr("mops"), &member("mops"), NOW).unwrap());
    let other = serial_of(&authority.sign(&csr("pup"), &member("pup"), NOW).unwrap());

    let by_serial = Target::Serial(data_encoding::HEXUPPER.encode(&other));
    let crl = read_crl(&authority.revoke(&by_serial, Reason::Superseded, NOW).unwrap());
    assert_eq!((crl.number, crl.revoked), (2, vec![other.clone()]));
    let pem = authority.revoke(&Target::Member(member("mops")), Reason::KeyCompromise, NOW + 5).unwrap();
    assert_eq!(read_crl(&pem).revoked, [first, second, other.clone()]);
    assert_eq!(std::fs::read_to_string(dir.join("crl.pem")).unwrap(), pem);

    // Revoking again changes neither date nor reason, and a new certificate is not revoked with the old.
    authority.revoke(&Target::Member(member("pup")), Reason::Unspecified, NOW + 9).unwrap();
    let issued = &authority.show()[2];
    assert_eq!((issued.revoked_at, issued.reason), (Some(NOW), Some(Reason::Superseded)));
    assert!(authority.renew(&csr("pup"), &member("pup"), NOW).is_err(), "revoked members do not renew");
    authority.sign(&csr("pup"), &member("pup"), NOW).unwrap();
    assert_eq!(authority.show()[3].status(NOW), Status::Valid);
}

#[test]
fn unknown_certificates_cannot_be_revoked() {
    let (_temp, _dir, mut authority) = founded();
    for target in [Target::Member(member("mops")), Target::Serial("00".to_owned())] {
        let error = authority.revoke(&target, Reason::Unspecified, NOW).unwrap_err();
        assert_eq!(error.code(), "certificate_unknown");
    }
    assert_eq!(authority.crl_number(), 1);
}

#[test]
fn numbers_and_revocations_survive_a_reopening() {
    let (_temp, dir, mut authority) = founded();
    let serial = serial_of(&authority.sign(&csr("mops"), &member("mops"), NOW).unwrap());
    authority.revoke(&Target::Member(member("mops")), Reason::CessationOfOperation, NOW).unwrap();
    drop(authority);
    for number in 3..6 {
        // As after a crash between register and list.
        std::fs::remove_file(dir.join("crl.pem")).unwrap();
        let mut authority = Authority::open(&dir).unwrap();
        let crl = read_crl(&authority.crl(NOW + number).unwrap());
        assert_eq!((crl.number.cast_signed(), &crl.revoked[..]), (number, &[serial.clone()][..]));
        assert_eq!(crl.next_update, NOW.0 + number + DAY);
    }
}

#[test]
fn long_expired_certificates_leave_the_list_but_not_the_register() {
    let (_temp, _dir, mut authority) = founded();
    authority.sign(&csr("mops"), &member("mops"), NOW).unwrap();
    authority.revoke(&Target::Member(member("mops")), Reason::Unspecified, NOW).unwrap();
    assert_eq!(read_crl(&authority.crl(NOW + 91 * DAY).unwrap()).revoked.len(), 1, "still on one list after expiry");
    assert_eq!(read_crl(&authority.crl(NOW + 92 * DAY).unwrap()).revoked.len(), 0);
    assert_eq!(authority.show()[0].status(NOW + 92 * DAY), Status::Revoked);
}

#[test]
fn reasons_have_stable_names() {
    assert_eq!("key_compromise".parse::<Reason>().unwrap(), Reason::KeyCompromise);
    assert!("because".parse::<Reason>().is_err());
}
