//! What is signed, and what is refused.

use crate::support::{DAY, NOW, chain, csr, csr_with, founded, member, parse, serial_of, uri};
use certs::{AuthorityError, Status};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

fn common_name<'a>(cert: &'a X509Certificate<'_>) -> &'a str {
    cert.subject().iter_common_name().next().unwrap().as_str().unwrap()
}

fn path_length(cert: &X509Certificate<'_>) -> Option<u32> {
    let constraints = cert.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    constraints.value.path_len_constraint
}

/// (subject key identifier, authority key identifier)
fn key_ids(cert: &X509Certificate<'_>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let mut ids = (None, None);
    for extension in cert.iter_extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => ids.0 = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => ids.1 = id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => {}
        }
    }
    ids
}

#[test]
fn root_and_issuing_authority_have_their_shapes() {
    let (_temp, _dir, authority) = founded();
    let (root, issuing) = (chain(authority.root_pem()), chain(authority.issuing_pem()));
    let (root, issuing) = (parse(&root[0]), parse(&issuing[0]));
    root.verify_signature(None).unwrap();
    issuing.verify_signature(Some(root.public_key())).unwrap();
    assert_eq!((path_length(&root), path_length(&issuing)), (Some(1), Some(0)));
    for (cert, years) in [(&root, 10), (&issuing, 5)] {
        let usage = cert.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
        let days = (cert.validity().not_after.timestamp() - NOW.0) / DAY;
        assert!((years * 365..=years * 365 + 4).contains(&days), "{days}");
        assert!(cert.validity().not_before.timestamp() < NOW.0);
    }
    assert_eq!(key_ids(&issuing).1, key_ids(&root).0);
    assert_eq!(authority.root_fingerprint().unwrap().len(), 64);
}

#[test]
fn a_members_certificate_has_its_shape() {
    let (_temp, _dir, mut authority) = founded();
    let chain_pem = authority.sign(&csr("mops"), &member("mops"), NOW).unwrap();
    let chain = chain(&chain_pem);
    assert_eq!(chain.len(), 2, "leaf and issuing authority, no root");
    let (leaf, issuing) = (parse(&chain[0]), parse(&chain[1]));
    leaf.verify_signature(Some(issuing.public_key())).unwrap();
    assert_eq!(leaf.issuer(), issuing.subject());
    assert_eq!(common_name(&leaf), "mops");

    let names = leaf.subject_alternative_name().unwrap().unwrap().value;
    assert_eq!(names.general_names, [GeneralName::URI("spiffe://lodz.example/member/mops")]);
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1, "digitalSignature alone");
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.any && purposes.other.is_empty());
    assert_eq!(key_ids(&leaf).1, key_ids(&issuing).0);
    assert!(key_ids(&leaf).0.is_some());
    assert_eq!(leaf.validity().not_after.timestamp(), NOW.0 + 90 * DAY);

    let serial = leaf.raw_serial();
    assert_eq!(serial.len(), 16);
    assert!((0x40..0x80).contains(&serial[0]), "positive without a leading zero");
    assert_ne!(serial, serial_of(&authority.sign(&csr("mops"), &member("mops"), NOW).unwrap()));
}

#[test]
fn a_certificate_never_outlives_its_authority() {
    let (_temp, _dir, mut authority) = founded();
    let late = NOW + 5 * 365 * DAY;
    let chain = chain(&authority.sign(&csr("mops"), &member("mops"), late).unwrap());
    let (leaf, issuing) = (parse(&chain[0]), parse(&chain[1]));
    assert_eq!(leaf.validity().not_after, issuing.validity().not_after);
}

#[test]
fn only_the_members_own_name_is_signed() {
    let (_temp, _dir, mut authority) = founded();
    let dns = SanType::DnsName("mops.example".try_into().unwrap());
    let foreign = SanType::URI("spiffe://other.example/member/mops".try_into().unwrap());
    for (what, names) in [
        ("another member", vec![uri("pup")]),
        ("another realm", vec![foreign]),
        ("two URIs", vec![uri("mops"), uri("pup")]),
        ("the same twice", vec![uri("mops"), uri("mops")]),
        ("a DNS name beside it", vec![uri("mops"), dns.clone()]),
        ("a DNS name", vec![dns]),
        ("no name", vec![]),
    ] {
        let request = csr_with("mops", |params| params.subject_alt_names = names);
        let error = authority.sign(&request, &member("mops"), NOW).unwrap_err();
        assert!(matches!(error, AuthorityError::WrongName { .. }), "{what}: {error}");
    }
    assert!(authority.show().is_empty(), "nothing was put on record");
}

#[test]
fn what_a_member_never_has_is_refused() {
    let (_temp, _dir, mut authority) = founded();
    let mut code = |request: &str| authority.sign(request, &member("mops"), NOW).unwrap_err().code();
    let ca = csr_with("mops", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(code(&ca), "csr_asks_too_much");
    let signer = csr_with("mops", |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert_eq!(code(&signer), "csr_asks_too_much");
    let other = csr_with("mops", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]);
    assert_eq!(code(&other), "csr_asks_too_much");
    let any = csr_with("mops", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]);
    assert_eq!(code(&any), "csr_asks_too_much");
    let custom = csr_with("mops", |params| {
        params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 30], vec![0x30, 0])];
    });
    assert_eq!(code(&custom), "csr_invalid");
    assert_eq!(code("nonsense"), "csr_invalid");
}

#[test]
fn other_keys_than_p256_are_refused() {
    let (_temp, _dir, mut authority) = founded();
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![uri("mops")];
        let request = params.serialize_request(&KeyPair::generate_for(algorithm).unwrap()).unwrap().pem().unwrap();
        assert_eq!(authority.sign(&request, &member("mops"), NOW).unwrap_err().code(), "csr_invalid");
    }
}

#[test]
fn a_request_must_be_signed_by_its_own_key() {
    use data_encoding::BASE64;
    let (_temp, _dir, mut authority) = founded();
    let pem = csr("mops");
    let text: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let mut der = BASE64.decode(text.as_bytes()).unwrap();
    // The last byte is the signature's.
    *der.last_mut().unwrap() ^= 1;
    let text = BASE64.encode(&der);
    let tampered = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    let error = authority.sign(&tampered, &member("mops"), NOW).unwrap_err();
    assert_eq!(error.to_string(), "the request is refused: its signature does not match its key");
    // Taken apart and put together again without a change, it is fine.
    *der.last_mut().unwrap() ^= 1;
    let text = BASE64.encode(&der);
    let same = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    authority.sign(&same, &member("mops"), NOW).unwrap();
}

#[test]
fn renewal_needs_a_certificate_in_force() {
    let (_temp, _dir, mut authority) = founded();
    let mops = member("mops");
    let refused = |result: Result<String, AuthorityError>| result.unwrap_err().code();
    assert_eq!(refused(authority.renew(&csr("mops"), &mops, NOW)), "nothing_to_renew", "never had one");
    authority.sign(&csr("mops"), &mops, NOW).unwrap();
    assert_eq!(refused(authority.renew(&csr("pup"), &member("pup"), NOW)), "nothing_to_renew", "another's");
    assert_eq!(refused(authority.renew(&csr("pup"), &mops, NOW)), "csr_wrong_name");
    authority.renew(&csr("mops"), &mops, NOW + 60 * DAY).unwrap();
    assert_eq!(refused(authority.renew(&csr("mops"), &mops, NOW + 151 * DAY)), "nothing_to_renew", "expired");
    let statuses = authority.show().iter().map(|issued| issued.status(NOW + 100 * DAY));
    assert_eq!(statuses.collect::<Vec<_>>(), [Status::Expired, Status::Valid]);
}

#[test]
fn times_that_fit_no_certificate_are_refused() {
    let (_temp, _dir, mut authority) = founded();
    for seconds in [-1, 0, i64::MAX, i64::MIN, 253_402_300_800] {
        let error = authority.sign(&csr("mops"), &member("mops"), protocol::Timestamp(seconds)).unwrap_err();
        assert_eq!(error.code(), "time_out_of_range", "{seconds}");
    }
}
