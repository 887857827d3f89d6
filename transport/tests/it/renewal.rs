//! New certificates and CRLs without a restart.

use crate::pki::{Pki, spiffe};
use crate::servers::{LONG, Server, call};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use transport::{Limits, watch};

#[tokio::test]
async fn server_and_client_present_the_new_certificate_to_the_next_connection() {
    let pki = Pki::new();
    let (mops, pup) = (pki.member("mops", 1), pki.member("pup", 2));
    let server = Server::start(mops.tls(), Limits::default()).await;
    let client = pup.client();
    call(&client, &server, "/hello").await.unwrap();

    mops.replace_files(pki.mint("mops", 11, |_| ()));
    pup.replace_files(pki.mint("pup", 12, |_| ()));
    let (old_mops, old_pup) = (mops.identity.current().cert_sha256(), pup.identity.current().cert_sha256());
    assert!(mops.identity.reload().unwrap() && pup.identity.reload().unwrap());
    assert!(!mops.identity.reload().unwrap(), "nothing changed since");
    assert_ne!(old_mops, mops.identity.current().cert_sha256());
    assert_ne!(old_pup, pup.identity.current().cert_sha256());

    // With both old certificates revoked everywhere, only connections with the new ones can be meant.
    for trust in [&mops.trust, &pup.trust] {
        trust.update_crl(&pki.crl(2, &[1, 2])).unwrap();
    }
    let fresh = pup.client();
    assert_eq!(call(&fresh, &server, "/whoami").await.unwrap().body(), &spiffe("pup").to_string());
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_client_dials_anew_by_itself() {
    let pki = Pki::new();
    let (mops, pup) = (pki.member("mops", 1), pki.member("pup", 2));
    let server = Server::start(mops.tls(), Limits::default()).await;
    let client = pup.client();
    call(&client, &server, "/hello").await.unwrap();
    pup.replace_files(pki.mint("pup", 12, |_| ()));
    pup.identity.reload().unwrap();
    // The server no longer takes the old one, so the pooled connection would be refused.
    mops.trust.update_crl(&pki.crl(2, &[2])).unwrap();
    call(&client, &server, "/hello").await.unwrap();
    server.stop().await;
}

#[test]
fn what_cannot_be_used_leaves_the_old_in_place() {
    let pki = Pki::new();
    let pup = pki.member("pup", 2);
    let held = pup.identity.current().cert_sha256();
    let code = |files| {
        pup.replace_files(files);
        pup.identity.reload().unwrap_err().code()
    };
    let (cert, key) = pki.mint("pup", 3, |_| ());
    let (_, other_key) = pki.mint("pup", 4, |_| ());
    assert_eq!(code((cert.clone(), other_key)), "identity_key_mismatch");
    assert_eq!(code((String::new(), key.clone())), "identity_no_certificate");
    assert_eq!(code((cert.clone(), "nonsense".to_owned())), "identity_no_key");
    assert_eq!(code(pki.mint("css", 5, |_| ())), "identity_other_member");
    assert_eq!(pup.identity.current().cert_sha256(), held);
    pup.replace_files((cert, key));
    assert!(pup.identity.reload().unwrap());
}

#[tokio::test]
async fn the_watch_takes_new_files_and_survives_bad_ones() {
    let pki = Pki::new();
    let pup = pki.member("pup", 2);
    let crl_path = pup.path("crl.pem");
    let shutdown = CancellationToken::new();
    let watching = tokio::spawn(watch(
        pup.identity.clone(),
        pup.trust.clone(),
        Some(crl_path.clone()),
        Duration::from_millis(20),
        shutdown.clone(),
    ));
    let held = pup.identity.current().cert_sha256();
    std::fs::write(&crl_path, "half a fi").unwrap();
    pup.replace_files(("half".to_owned(), "written".to_owned()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((pup.identity.current().cert_sha256(), pup.trust.crl_number()), (held, Some(1)));

    std::fs::write(&crl_path, pki.crl(7, &[])).unwrap();
    pup.replace_files(pki.mint("pup", 12, |_| ()));
    let taken = async {
        while pup.identity.current().cert_sha256() == held || pup.trust.crl_number() != Some(7) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, taken).await.expect("the watch takes both");
    shutdown.cancel();
    tokio::time::timeout(LONG, watching).await.unwrap().unwrap();
    assert_eq!(Arc::strong_count(&pup.identity), 1);
}

#[test]
fn a_request_and_its_key_belong_together() {
    let (key, csr) = transport::new_key_and_csr(&spiffe("pup")).unwrap();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY"));
    let parsed = rcgen::CertificateSigningRequestParams::from_pem(&csr).unwrap();
    assert_eq!(parsed.params.subject_alt_names, [crate::pki::uri(&spiffe("pup").to_string())]);
    let key = rcgen::KeyPair::from_pem(&key).unwrap();
    assert_eq!(rcgen::PublicKeyData::der_bytes(&parsed.public_key), key.public_key_raw());
}
