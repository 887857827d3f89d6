//! Tokens of the institution's identity provider at the local API: which are taken, and why others are not.

use axum::routing::get;
use cli::idp::{AUDIENCE, IdentityProvider};
use http::Method;
use node::OutcomeKind;
use protocol::encoding::b64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tests::{Harness, member, pesel_of};
use tokio_util::sync::CancellationToken;
use transport::{Limits, ServerTls};

const ISSUER: &str = "https://login.mops.example";

fn provider(harness: &Harness) -> IdentityProvider {
    harness.federation.founded.identity_provider(&member("mops")).expect("the provider")
}

/// Claims that are taken.
fn claims(harness: &Harness) -> Value {
    let now = harness.clock.now().0;
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "jan", "roles": ["caseworker"], "iat": now, "exp": now + 60 })
}

fn changed(claims: &Value, key: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims.clone();
    claims[key] = value.into();
    claims
}

fn without(claims: &Value, key: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().expect("claims").remove(key).expect("a claim");
    claims
}

/// A compact JWS of any header.
fn jws(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims.to_string().as_bytes()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", b64(&signature))
}

fn ed25519() -> Ed25519KeyPair {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key")
}

/// Presents `token` where a valid one finds nothing: status and answer.
async fn present(harness: &Harness, token: Option<&str>) -> (u16, Value) {
    let api = harness.federation.local(&member("mops")).expect("the local API");
    api.send(Method::GET, "/v1/queries/none", token, None).await.expect("an answer")
}

async fn code(harness: &Harness, token: Option<&str>) -> String {
    let (status, answer) = present(harness, token).await;
    let code = answer["code"].as_str().unwrap_or_default().to_owned();
    if code == "result_unknown" {
        assert_eq!(status, 404);
        return "taken".to_owned();
    }
    assert_eq!(status, 401, "{answer}");
    let text = answer.to_string();
    for part in token.unwrap_or_default().split('.').filter(|part| !part.is_empty()) {
        assert!(!text.contains(part), "the answer repeats the token");
    }
    assert!(!text.contains("jan"), "the answer names the user");
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_token_is_refused_for_its_own_reason() {
    let harness = Harness::new().await;
    harness.clock.advance(1_000);
    let provider = provider(&harness);
    let good = claims(&harness);
    let now = harness.clock.now().0;
    let by_provider = |claims: &Value| provider.sign(claims).expect("signed");
    let key = provider.jwks()["keys"][0].clone();
    let (kid, public) = (key["kid"].clone(), key["x"].as_str().expect("a key").to_owned());
    let other = ed25519();
    let by_other = |header: Value| jws(&header, &good, |message| other.sign(message).as_ref().to_vec());
    let public = protocol::encoding::unb64::<32>(&public).expect("32 bytes");
    let by_secret = |secret: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let header = json!({ "alg": "HS256", "typ": "JWT", "kid": kid });
        jws(&header, &good, |message| ring::hmac::sign(&key, message).as_ref().to_vec())
    };
    let whole = by_provider(&good);
    let (head, rest) = whole.split_once('.').expect("a token");
    let signature = rest.split_once('.').expect("a token").1;
    let other_claims = format!("{head}.{}.{signature}", b64(changed(&good, "sub", "eve").to_string().as_bytes()));

    let cases: Vec<(&str, Option<String>, &str)> = vec![
        ("good", Some(whole.clone()), "taken"),
        ("its last second", Some(by_provider(&changed(&good, "exp", now + 1))), "taken"),
        ("not before, within the skew", Some(by_provider(&changed(&good, "nbf", now + 30))), "taken"),
        ("one audience of several", Some(by_provider(&changed(&good, "aud", json!(["x", AUDIENCE])))), "taken"),
        ("none", None, "token_missing"),
        ("no token", Some("nonsense".to_owned()), "token_malformed"),
        ("expired", Some(by_provider(&changed(&good, "exp", now))), "token_expired"),
        ("not valid yet", Some(by_provider(&changed(&good, "nbf", now + 31))), "token_not_yet_valid"),
        ("another audience", Some(by_provider(&changed(&good, "aud", "other"))), "token_audience_wrong"),
        ("another issuer", Some(by_provider(&changed(&good, "iss", "https://evil"))), "token_issuer_wrong"),
        ("lacks iss", Some(by_provider(&without(&good, "iss"))), "token_claim_missing"),
        ("lacks aud", Some(by_provider(&without(&good, "aud"))), "token_claim_missing"),
        ("lacks exp", Some(by_provider(&without(&good, "exp"))), "token_claim_missing"),
        ("lacks sub", Some(by_provider(&without(&good, "sub"))), "token_claim_missing"),
        ("exp is no number", Some(by_provider(&changed(&good, "exp", "never"))), "token_malformed"),
        ("unknown kid", Some(by_other(json!({ "alg": "EdDSA", "kid": "other" }))), "token_key_unknown"),
        ("no kid", Some(by_other(json!({ "alg": "EdDSA" }))), "token_key_unknown"),
        ("another key", Some(by_other(json!({ "alg": "EdDSA", "kid": kid }))), "token_signature_invalid"),
        ("other claims", Some(other_claims), "token_signature_invalid"),
        ("no signature", Some(format!("{}.", &whole[..whole.len() - signature.len() - 1])), "token_signature_invalid"),
        ("alg none", Some(jws(&json!({ "alg": "none", "kid": kid }), &good, |_| Vec::new())), "token_malformed"),
        ("HS256 with the public key", Some(by_secret(&public)), "token_key_unknown"),
        ("HS256 with its text", Some(by_secret(b64(&public).as_bytes())), "token_key_unknown"),
    ];
    for (name, token, expected) in &cases {
        assert_eq!(code(&harness, token.as_deref()).await, *expected, "{name}");
    }
    let other_scheme = harness.federation.local(&member("pup")).expect("the local API");
    let (status, answer) =
        other_scheme.send(Method::GET, "/v1/queries/none", Some(&whole), None).await.expect("an answer");
    assert_eq!((status, answer["code"].as_str()), (401, Some("token_key_unknown")), "another institution's user");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_roles_nothing_may_be_asked() {
    let harness = Harness::filled().await;
    let provider = provider(&harness);
    let body = json!({
        "resident": { "pesel": pesel_of("mops+pup") }, "asks": [{ "query": "q02", "holder": "pup" }],
        "purpose": tests::PURPOSE, "basis": { "kind": "mandate", "id": "ups-105" }, "case_ref": "1", "reason": "test",
    });
    let api = harness.federation.local(&member("mops")).expect("the local API");
    let good = claims(&harness);
    let none =
        [without(&good, "roles"), changed(&good, "roles", json!(["boss"])), changed(&good, "roles", json!(["dpo"]))];
    for claims in none {
        let token = provider.sign(&claims).expect("signed");
        let result: node::QueryResult =
            api.call(Method::POST, "/v1/queries", &token, Some(&body)).await.expect("asked");
        let outcome = &result.outcomes[0];
        assert_eq!((outcome.outcome, outcome.reason.as_deref()), (OutcomeKind::Denied, Some("role_not_allowed")));
        let consent = json!({
            "resident": { "pesel": pesel_of("mops+pup") }, "template": "instead-of-certificate",
            "modules": { "labour-status": "given" }, "recipient": "mops", "purposes": [tests::PURPOSE], "days": 30,
            "evidence_sha256": cli::found::evidence().expect("random"),
        });
        let (status, answer) =
            api.send(Method::POST, "/v1/consents", Some(&token), Some(&consent)).await.expect("an answer");
        assert_eq!((status, answer["code"].as_str()), (403, Some("role_not_allowed")));
    }
    for roles in [json!(["x", "caseworker"]), json!("x caseworker")] {
        let token = provider.sign(&changed(&good, "roles", roles)).expect("signed");
        let result: node::QueryResult =
            api.call(Method::POST, "/v1/queries", &token, Some(&body)).await.expect("asked");
        assert_eq!(result.outcomes[0].outcome, OutcomeKind::Answered);
    }
}

/// An RSA key: its JWK, and its signature over a message.
fn rsa() -> (Value, impl Fn(&[u8]) -> Vec<u8>) {
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    // RSAPublicKey (RFC 8017 §A.1.1): 9 bytes of headers and a zero, the modulus, then the exponent 65537.
    let modulus = b64(&pair.public_key().as_ref()[9..265]);
    let jwk = json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "rsa", "n": modulus, "e": "AQAB" });
    let sign = move |message: &[u8]| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &aws_lc_rs::rand::SystemRandom::new(), message, &mut signature).expect("signed");
        signature
    };
    (jwk, sign)
}

/// A P-256 key: its JWK, and its signature over a message.
fn p256() -> (Value, impl Fn(&[u8]) -> Vec<u8>) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key");
    let point = pair.public_key().as_ref();
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "ec", "x": b64(&point[1..33]),
        "y": b64(&point[33..65]),
    });
    (jwk, move |message: &[u8]| pair.sign(&SystemRandom::new(), message).expect("signed").as_ref().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_of_every_permitted_kind_are_taken() {
    let harness = Harness::new().await;
    let good = claims(&harness);
    let old = provider(&harness).sign(&good).expect("signed");
    let ((ec, by_ec), (rsa, by_rsa)) = (p256(), rsa());
    let es256 = jws(&json!({ "alg": "ES256", "kid": "ec" }), &good, &by_ec);
    let rs256 = jws(&json!({ "alg": "RS256", "kid": "rsa" }), &good, &by_rsa);
    assert_eq!(code(&harness, Some(&old)).await, "taken");
    let set = json!({ "keys": [ec, rsa] });
    std::fs::write(harness.home().join("mops/idp/jwks.json"), set.to_string()).expect("written");
    assert_eq!(code(&harness, Some(&es256)).await, "taken", "read again for the unknown key");
    assert_eq!(code(&harness, Some(&rs256)).await, "taken");
    assert_eq!(code(&harness, Some(&old)).await, "token_key_unknown", "the provider gave that key up");
    let mixed = jws(&json!({ "alg": "RS256", "kid": "ec" }), &good, &by_rsa);
    assert_eq!(code(&harness, Some(&mixed)).await, "token_key_unknown", "a key of another kind than the token says");
    let crossed = jws(&json!({ "alg": "ES256", "kid": "ec" }), &good, |message| by_ec(&[message, b"x"].concat()));
    assert_eq!(code(&harness, Some(&crossed)).await, "token_signature_invalid");

    // A key given up is trusted for five minutes at most, though nobody presents a new one.
    let later = changed(&good, "exp", harness.clock.now().0 + 900);
    let es256 = jws(&json!({ "alg": "ES256", "kid": "ec" }), &later, &by_ec);
    let set = json!({ "keys": [rsa] });
    std::fs::write(harness.home().join("mops/idp/jwks.json"), set.to_string()).expect("written");
    assert_eq!(code(&harness, Some(&es256)).await, "taken", "read a moment ago");
    harness.clock.advance(5 * 60);
    assert_eq!(code(&harness, Some(&es256)).await, "token_key_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_read_again_serve_for_an_hour() {
    let harness = Harness::new().await;
    let good = changed(&claims(&harness), "exp", harness.clock.now().0 + 10_000);
    let token = provider(&harness).sign(&good).expect("signed");
    let file = harness.home().join("mops/idp/jwks.json");
    let set = std::fs::read(&file).expect("the keys");
    assert_eq!(code(&harness, Some(&token)).await, "taken");
    std::fs::remove_file(&file).expect("removed");
    harness.clock.advance(60 * 60);
    assert_eq!(code(&harness, Some(&token)).await, "taken", "whatever befell the provider shuts nobody out at once");
    harness.clock.advance(1);
    assert_eq!(code(&harness, Some(&token)).await, "token_key_unknown", "it may have withdrawn the key");
    std::fs::write(&file, set).expect("written");
    harness.clock.advance(10);
    assert_eq!(code(&harness, Some(&token)).await, "taken", "read again after a pause");
}

/// Serves mops's key set by `https` on `address`, with the certificate of its local API.
async fn serve_keys(harness: &Harness, address: SocketAddr) -> (SocketAddr, CancellationToken) {
    let home = harness.home().join("mops");
    let read = |file: &str| std::fs::read(home.join(file)).expect("a file");
    let tls = ServerTls::local(&read("local/cert.pem"), &read("local/key.pem")).expect("a server");
    let set = provider(harness).jwks().to_string();
    let router = axum::Router::new().route("/keys", get(move || async move { set }));
    let listener = tokio::net::TcpListener::bind(address).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    tokio::spawn(transport::serve(listener, tls, router, Limits::default(), stop.clone()));
    (address, stop)
}

/// Lets mops read its key set from `https://ADDRESS/keys`.
async fn by_url(harness: &mut Harness, address: SocketAddr) {
    let config = harness.home().join("mops/node.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let source = format!("jwks_url = \"https://{address}/keys\"\njwks_ca = \"local/cert.pem\"");
    let text = text.replace("jwks_file = \"idp/jwks.json\"", &source);
    assert!(text.contains(&source));
    std::fs::write(&config, text).expect("written");
    let mops = harness.federation.nodes.get_mut(&member("mops")).expect("mops");
    mops.stop().await.expect("stopped");
    mops.restart().await.expect("started");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_an_address_over_tls() {
    let mut harness = Harness::new().await;
    let (address, stop) = serve_keys(&harness, SocketAddr::new(harness.federation.founded.plan.address, 0)).await;
    by_url(&mut harness, address).await;
    let good = provider(&harness).sign(&claims(&harness)).expect("signed");
    assert_eq!(code(&harness, Some(&good)).await, "taken");
    stop.cancel();
    assert_eq!(code(&harness, Some(&good)).await, "taken", "keys read once stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_address_is_down_keys_are_unknown() {
    let mut harness = Harness::new().await;
    let listen = SocketAddr::new(harness.federation.founded.plan.address, 0);
    let free = std::net::TcpListener::bind(listen).expect("a port").local_addr().expect("an address");
    by_url(&mut harness, free).await;
    let good =
        provider(&harness).sign(&changed(&claims(&harness), "exp", harness.clock.now().0 + 900)).expect("signed");
    assert_eq!(code(&harness, Some(&good)).await, "token_key_unknown");
    let live = harness.federation.local(&member("mops")).expect("the local API");
    assert_eq!(live.send(Method::GET, "/health/live", None, None).await.expect("an answer").0, 200);
    let (_, _stop) = serve_keys(&harness, free).await;
    harness.clock.advance(10);
    assert_eq!(code(&harness, Some(&good)).await, "taken", "asked again after a pause");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_keeps_new_keys_out_by_presenting_unknown_ones() {
    let harness = Harness::new().await;
    let good = claims(&harness);
    let (ec, by_ec) = p256();
    let (_, by_other) = p256();
    let unknown = jws(&json!({ "alg": "ES256", "kid": "unknown" }), &good, &by_other);
    assert_eq!(code(&harness, Some(&unknown)).await, "token_key_unknown");
    std::fs::write(harness.home().join("mops/idp/jwks.json"), json!({ "keys": [ec] }).to_string()).expect("written");
    // Anybody who reaches the API can present such a token, and need not be known for it.
    for _ in 0..3 {
        harness.clock.advance(9);
        assert_eq!(code(&harness, Some(&unknown)).await, "token_key_unknown");
    }
    harness.clock.advance(9);
    let token = jws(&json!({ "alg": "ES256", "kid": "ec" }), &good, &by_ec);
    assert_eq!(code(&harness, Some(&token)).await, "taken", "36 s after the set was last read");
}
