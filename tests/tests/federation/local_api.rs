//! The local API against its own description, and what its answers promise.

use jsonschema::Validator;
use node::NodeStatus;
use serde_json::{Value, json};
use std::sync::Arc;
use tests::{Harness, PURPOSE, member};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};

/// A request as bytes on the wire: any headers, any body.
pub(crate) struct Request<'h> {
    harness: &'h Harness,
    unit: &'static str,
    head: String,
    token: Option<String>,
    body: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media: String,
    pub(crate) text: String,
}

/// A request of a caseworker.
pub(crate) fn request<'h>(harness: &'h Harness, unit: &'static str, method: &str, path: &str) -> Request<'h> {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    Request { harness, unit, head, token: None, body: String::new() }.of("caseworker", &["caseworker"])
}

impl Request<'_> {
    /// The same of another user.
    pub(crate) fn of(mut self, user: &str, roles: &[&str]) -> Self {
        self.token = Some(self.harness.federation.token(&member(self.unit), user, roles).expect("a token"));
        self
    }

    /// The same without a token.
    fn anonymous(mut self) -> Self {
        self.token = None;
        self
    }

    /// The same with another header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// The same with this body, said to be JSON.
    pub(crate) fn body(self, body: &str) -> Self {
        let mut with = self.header("content-type", "application/json");
        body.clone_into(&mut with.body);
        with
    }

    /// The same with this body.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.body(&body.to_string())
    }

    pub(crate) async fn send(self) -> Answer {
        let unit = member(self.unit);
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.harness.federation.founded.local_ca(&unit)).expect("a certificate");
        roots.add(ca).expect("a root");
        let config = ClientConfig::builder_with_provider(transport::provider())
            .with_protocol_versions(&[&version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = self.harness.federation.nodes[&unit].listening().local.expect("a local API");
        let name = ServerName::try_from("localhost").expect("a name");
        let tcp = TcpStream::connect(address).await.expect("a connection");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("TLS");
        let token = self.token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let text = format!("{}{token}content-length: {}\r\n\r\n{}", self.head, self.body.len(), self.body);
        let (mut from, mut to) = tokio::io::split(stream);
        let mut received = Vec::new();
        let send = async {
            // Who refuses a body may not read it to its end.
            let _cut_off = to.write_all(text.as_bytes()).await;
            let _cut_off = to.flush().await;
        };
        let receive = async {
            let _closed = from.read_to_end(&mut received).await;
        };
        tokio::join!(send, receive);
        let answer = Answer::read(&received);
        answer.is_readable();
        answer
    }
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|s| s.parse().ok());
        let header = |name: &str| {
            let found =
                head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| n.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        let body = if header("transfer-encoding") == "chunked" { joined(body) } else { body.to_owned() };
        Answer { status: status.expect("a status"), media: header("content-type"), text: body }
    }

    /// Whatever the node refuses, a person reads what was missing and what to do next, in both languages.
    fn is_readable(&self) {
        if self.media != "application/problem+json" {
            return;
        }
        for language in ["pl", "en"] {
            let words = self.value()["message"][language].as_str().map_or(0, str::len);
            assert!(words > 20, "{language}: {}", self.text);
        }
    }

    fn value(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }
}

/// The content of chunks (RFC 9112 §7.1).
fn joined(mut chunks: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        out.push_str(&rest[..size]);
        chunks = rest[size..].trim_start_matches("\r\n");
    }
    out
}

/// The description, as the node serves it.
pub(crate) async fn description(harness: &Harness) -> Value {
    let answer = request(harness, "mops", "GET", "/openapi.json").anonymous().send().await;
    assert_eq!((answer.status, answer.media.as_str()), (200, "application/json"));
    answer.value()
}

/// The schema that `api` declares for an answer, if it declares one of this media type.
fn schema(api: &Value, (method, path): (&str, &str), status: u16, media: &str) -> Option<Validator> {
    let escape = |part: &str| part.replace('~', "~0").replace('/', "~1");
    let pointer = format!(
        "/paths/{}/{}/responses/{status}/content/{}/schema",
        escape(path),
        method.to_lowercase(),
        escape(media)
    );
    api.pointer(&pointer)?;
    let mut root = api.clone();
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["$ref"] = json!(format!("#{}", pointer.replace('{', "%7B").replace('}', "%7D")));
    Some(jsonschema::validator_for(&root).expect("a schema"))
}

/// Why the answer is not what the description says of `route`, if it is not.
pub(crate) fn departure(api: &Value, route: (&str, &str), answer: &Answer) -> Option<String> {
    let wanted = format!("{} {} {} {}", route.0, route.1, answer.status, answer.media);
    let Some(schema) = schema(api, route, answer.status, &answer.media) else {
        return Some(format!("{wanted} is not declared: {}", answer.text));
    };
    let faults: Vec<String> = schema.iter_errors(&answer.value()).map(|fault| fault.to_string()).collect();
    (!faults.is_empty()).then(|| format!("{wanted}: {faults:?}"))
}

fn query(resident: &Value, basis: &Value) -> Value {
    json!({
        "resident": resident, "asks": [{ "query": "q02", "holder": "pup" }], "purpose": PURPOSE, "basis": basis,
        "case_ref": "MOPS/1", "reason": "test",
    })
}

fn anna() -> Value {
    json!({ "pesel": "80010300035" })
}

/// Statutory: answered without a consent.
fn mandate() -> Value {
    json!({ "kind": "mandate", "id": "ups-105" })
}

fn consent(resident: &Value) -> Value {
    json!({
        "resident": resident, "template": "instead-of-certificate", "modules": { "labour-status": "given" },
        "recipient": "mops", "purposes": [PURPOSE], "days": 30, "evidence_sha256": cli::found::evidence().expect("random"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_holds_together() {
    let harness = Harness::new().await;
    let api = description(&harness).await;
    assert!(api["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", api["openapi"]);
    assert_eq!(api, serde_json::to_value(node::openapi()).expect("JSON"), "what is served is what the crate says");
    let mut references = Vec::new();
    collect_references(&api, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference inside the document");
        assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut names = std::collections::BTreeSet::new();
    let mut operations = 0;
    for (path, item) in api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            operations += 1;
            assert!(names.insert(operation["operationId"].as_str().expect("an id").to_owned()), "{method} {path}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = parameters.iter().filter(|p| p["in"] == "path" && p["required"] == true).count();
            assert_eq!(in_path, path.matches('{').count(), "{method} {path}: its parameters");
            for scheme in operation["security"].as_array().cloned().unwrap_or_default() {
                let scheme = scheme.as_object().and_then(|s| s.keys().next().cloned()).expect("a scheme");
                assert!(api.pointer(&format!("/components/securitySchemes/{scheme}")).is_some(), "{scheme}");
            }
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let content = response["content"].as_object().expect("a body");
                for media in content.keys() {
                    let status = status.parse().expect("a status");
                    assert!(schema(&api, (method, path), status, media).is_some(), "{method} {path} {status}");
                }
            }
        }
    }
    assert_eq!(operations, 41, "every route is described");
}

fn collect_references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            out.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|inner| collect_references(inner, out));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect_references(inner, out)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_described() {
    let mut harness = Harness::filled().await;
    let api = description(&harness).await;
    let check = |route: (&str, &str), status: u16, answer: &Answer| {
        assert_eq!(answer.status, status, "{route:?}: {}", answer.text);
        assert_eq!(departure(&api, route, answer), None);
        let problem = answer.media == "application/problem+json";
        assert_eq!(problem, status >= 400 && !route.1.starts_with("/health"), "{route:?} {status}");
    };
    let (queries, consents) = (("post", "/v1/queries"), ("post", "/v1/consents"));
    let (of_query, of_consent) = (("get", "/v1/queries/{id}"), ("get", "/v1/consents/{id}"));
    let withdrawn = ("post", "/v1/consents/{id}/withdraw");
    let front = ("front-desk", ["front-desk"].as_slice());

    let answer = request(&harness, "mops", "POST", "/v1/queries").json(&query(&anna(), &mandate())).send().await;
    check(queries, 200, &answer);
    let result = answer.value();
    assert_eq!(result["outcomes"][0]["outcome"], "answered", "{result}");
    let kept = format!("/v1/queries/{}", result["id"].as_str().expect("an id"));
    check(of_query, 200, &request(&harness, "mops", "GET", &kept).send().await);
    let denied = query(&anna(), &json!({ "kind": "none" }));
    check(queries, 200, &request(&harness, "mops", "POST", "/v1/queries").json(&denied).send().await);
    let answer =
        request(&harness, "mops", "POST", "/v1/consents").of(front.0, front.1).json(&consent(&anna())).send().await;
    check(consents, 200, &answer);
    let recorded = format!("/v1/consents/{}", answer.value()["id"].as_str().expect("an id"));
    check(of_consent, 200, &request(&harness, "mops", "GET", &recorded).send().await);
    let path = format!("{recorded}/withdraw");
    check(withdrawn, 200, &request(&harness, "mops", "POST", &path).of(front.0, front.1).send().await);

    for (route, method, path) in [
        (queries, "POST", "/v1/queries"),
        (consents, "POST", "/v1/consents"),
        (of_query, "GET", kept.as_str()),
        (of_consent, "GET", recorded.as_str()),
        (withdrawn, "POST", path.as_str()),
    ] {
        let anonymous = request(&harness, "mops", method, path).anonymous().json(&json!({})).send().await;
        check(route, 401, &anonymous);
        let forged = request(&harness, "mops", method, path).anonymous().header("authorization", "Bearer no.to.ken");
        check(route, 401, &forged.json(&json!({})).send().await);
    }
    let stranger = consent(&json!({ "pesel": "80010200021" }));
    check(
        consents,
        403,
        &request(&harness, "mops", "POST", "/v1/consents").of(front.0, front.1).json(&stranger).send().await,
    );
    let unknown = protocol::encoding::b64(&[7; 16]);
    let path = format!("/v1/queries/{unknown}");
    check(of_query, 404, &request(&harness, "mops", "GET", &path).send().await);
    for id in [unknown.as_str(), "not-an-id"] {
        let path = format!("/v1/consents/{id}");
        check(of_consent, 404, &request(&harness, "mops", "GET", &path).send().await);
        let path = format!("{path}/withdraw");
        check(withdrawn, 404, &request(&harness, "mops", "POST", &path).of(front.0, front.1).send().await);
    }
    // Two residents under one number: the second source numbers from 0 too.
    share_a_number(&harness).await;
    let ambiguous = query(&json!({ "local_number": "M/0" }), &mandate());
    check(queries, 409, &request(&harness, "mops", "POST", "/v1/queries").json(&ambiguous).send().await);
    for (route, body) in [
        (queries, json!({})),
        (queries, query(&json!({ "pesel": "80010300036" }), &mandate())),
        (queries, query(&json!({ "document": "X" }), &mandate())),
        (consents, json!([])),
        (consents, consent(&json!({ "pesel": "" }))),
    ] {
        let answer = request(&harness, "mops", "POST", route.1).of(front.0, front.1).json(&body).send().await;
        check(route, 422, &answer);
    }

    // Key holders away: a consent cannot be granted. Past the manifest's time: nothing is done at all.
    for holder in ["pup", "css"] {
        harness.federation.nodes.get_mut(&member(holder)).expect("a node").stop().await.expect("it stops");
    }
    let answer =
        request(&harness, "mops", "POST", "/v1/consents").of(front.0, front.1).json(&consent(&anna())).send().await;
    check(consents, 503, &answer);
    assert_eq!(answer.value()["code"], "key_holders_unavailable");
    harness.clock.advance(31 * 24 * 60 * 60);
    let answer = request(&harness, "mops", "POST", "/v1/queries").json(&query(&anna(), &mandate())).send().await;
    check(queries, 503, &answer);
    assert_eq!(answer.value()["code"], "manifest_expired");
}

async fn share_a_number(harness: &Harness) {
    let dir = harness.extracts();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/mappings/mops.toml");
    let mapping = dir.join("second.toml");
    let text = std::fs::read_to_string(shipped).expect("a mapping");
    std::fs::write(&mapping, text.replace("\"pomost\"", "\"second\"")).expect("a mapping");
    tests::write_extracts(&dir, &[tests::Resident { pesel: "80010700071", units: "mops", sealed: false }]);
    let extract = dir.join("mops.csv");
    let mode = node::ImportMode::Update;
    harness.federation.import(&member("mops"), mapping, extract, mode, &|_| {}).await.expect("an import");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_refusal_is_undeclared() {
    let harness = Harness::filled().await;
    let api = description(&harness).await;
    let front = ["front-desk"];
    let recorded = request(&harness, "mops", "POST", "/v1/consents").of("front-desk", &front).json(&consent(&anna()));
    let id = recorded.send().await.value()["id"].as_str().expect("an id").to_owned();
    share_a_number(&harness).await;
    let long = json!({ "reason": "x".repeat(9 << 20) });
    let withdraw = format!("/v1/consents/{id}/withdraw");
    let mut undeclared = Vec::new();
    for (route, status, request) in [
        // The data-protection officer records nothing.
        (("post", "/v1/consents/{id}/withdraw"), 403, request(&harness, "mops", "POST", &withdraw).of("dpo", &["dpo"])),
        (
            ("post", "/v1/consents"),
            409,
            request(&harness, "mops", "POST", "/v1/consents")
                .of("front-desk", &front)
                .json(&consent(&json!({ "local_number": "M/0" }))),
        ),
        (("post", "/v1/queries"), 413, request(&harness, "mops", "POST", "/v1/queries").json(&long)),
        (("post", "/v1/consents"), 413, request(&harness, "mops", "POST", "/v1/consents").json(&long)),
        (("post", "/v1/queries"), 415, request(&harness, "mops", "POST", "/v1/queries")),
        (("post", "/v1/consents"), 415, request(&harness, "mops", "POST", "/v1/consents")),
    ] {
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{route:?}: {}", answer.text);
        undeclared.extend(departure(&api, route, &answer));
    }
    assert_eq!(undeclared, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_no_route_is_refused_in_words_for_people() {
    let harness = Harness::new().await;
    let api = description(&harness).await;
    let codes = api.pointer("/components/schemas/Code/enum").and_then(Value::as_array).expect("codes");
    for (method, path, body, status, code) in [
        ("GET", "/v1/nowhere", 0, 404, "not_found"),
        ("DELETE", "/v1/queries", 0, 405, "method_not_allowed"),
        ("GET", "/v1/queries/%FF", 0, 400, "bad_request"),
        ("POST", "/v1/nowhere", 9 << 20, 413, "body_too_large"),
    ] {
        let answer = request(&harness, "mops", method, path).body(&"x".repeat(body)).send().await;
        assert_eq!((answer.status, answer.media.as_str()), (status, "application/problem+json"), "{method} {path}");
        let problem = answer.value();
        assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some(code), Some(status.into())));
        assert_ne!(problem["message"]["pl"], problem["message"]["en"]);
        assert!(codes.contains(&problem["code"]), "{code}");
        assert!(!answer.text.contains("nowhere"), "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_departure_from_the_description_is_seen() {
    let harness = Harness::new().await;
    let api = description(&harness).await;
    let answer = |status, media: &str, text: &str| Answer { status, media: media.to_owned(), text: text.to_owned() };
    let (live, queries) = (("get", "/health/live"), ("post", "/v1/queries"));
    assert_eq!(departure(&api, live, &answer(200, "application/json", r#"{"status":"live"}"#)), None);
    for wrong in [
        answer(200, "application/json", r#"{"status":1}"#),
        answer(200, "application/json", "{}"),
        answer(200, "text/plain", r#"{"status":"live"}"#),
        answer(204, "application/json", r#"{"status":"live"}"#),
    ] {
        assert!(departure(&api, live, &wrong).is_some(), "{wrong:?}");
    }
    let outcome = r#"{"id":"x","outcomes":[{"query":"q02","outcome":"perhaps"}]}"#;
    assert!(departure(&api, queries, &answer(200, "application/json", outcome)).is_some());
    assert!(departure(&api, queries, &answer(422, "application/problem+json", r#"{"title":"x"}"#)).is_some());
}

/// Log entries of asker and holder.
async fn entries(harness: &Harness) -> (u64, u64) {
    let of = async |unit: &str| {
        let status: NodeStatus = harness.federation.admin(&member(unit)).get("/status").await.expect("a status");
        status.log_entries
    };
    (of("mops").await, of("pup").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_asks_once() {
    let harness = Harness::filled().await;
    let body = query(&anna(), &mandate());
    let ask = async |user: &str, key: &str| {
        let request = request(&harness, "mops", "POST", "/v1/queries").of(user, &["caseworker"]);
        let answer = request.header("idempotency-key", key).json(&body).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.value()
    };
    let first = ask("jan", "k1").await;
    assert_eq!(first["outcomes"][0]["outcome"], "answered");
    let after_one = entries(&harness).await;
    assert_eq!(ask("jan", "k1").await, first);
    assert_eq!(entries(&harness).await, after_one, "nobody was asked again");
    let other = ask("jan", "k2").await;
    assert_ne!(other["id"], first["id"]);
    let after_two = entries(&harness).await;
    assert!(after_two.0 > after_one.0 && after_two.1 > after_one.1, "another key asks: this counts what it says");
    // A key is its user's own.
    assert_ne!(ask("ewa", "k1").await["id"], first["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_asks_once_even_at_the_same_time() {
    let harness = Harness::filled().await;
    let body = query(&anna(), &mandate());
    let ask = async |key: &str| {
        let request = request(&harness, "mops", "POST", "/v1/queries").header("idempotency-key", key);
        request.json(&body).send().await.value()
    };
    let before = entries(&harness).await;
    ask("alone").await;
    let alone = entries(&harness).await;
    let (one, other) = tokio::join!(ask("together"), ask("together"));
    assert_eq!(one["id"], other["id"]);
    let together = entries(&harness).await;
    let asked = (together.0 - alone.0, together.1 - alone.1);
    assert_eq!(asked, (alone.0 - before.0, alone.1 - before.1), "entries of asker and holder as for one question");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_its_askers_alone() {
    let harness = Harness::filled().await;
    let asked = request(&harness, "mops", "POST", "/v1/queries").of("jan", &["caseworker"]);
    let result = asked.json(&query(&anna(), &mandate())).send().await.value();
    let path = format!("/v1/queries/{}", result["id"].as_str().expect("an id"));
    let fetched = request(&harness, "mops", "GET", &path).of("jan", &["caseworker"]).send().await;
    assert_eq!((fetched.status, fetched.value()), (200, result));
    for (unit, user, role) in [("mops", "ewa", "caseworker"), ("mops", "dpo", "dpo"), ("css", "jan", "caseworker")] {
        let refused = request(&harness, unit, "GET", &path).of(user, &[role]).send().await;
        assert_eq!((refused.status, refused.value()["code"].as_str()), (404, Some("result_unknown")), "{unit} {user}");
    }
    // Kept for a day.
    harness.clock.advance(24 * 60 * 60 + 1);
    let late = request(&harness, "mops", "GET", &path).of("jan", &["caseworker"]).send().await;
    assert_eq!(late.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_whether_the_node_answers() {
    let harness = Harness::new().await;
    let api = description(&harness).await;
    let of = async |path: &'static str, status: u16, said: Value| {
        let answer = request(&harness, "mops", "GET", path).anonymous().send().await;
        assert_eq!((answer.status, answer.value()), (status, said), "{path}");
        assert_eq!(departure(&api, ("get", path), &answer), None);
    };
    of("/health/live", 200, json!({ "status": "live" })).await;
    of("/health/ready", 200, json!({ "status": "ready" })).await;
    harness.clock.advance(31 * 24 * 60 * 60);
    of("/health/live", 200, json!({ "status": "live" })).await;
    let closed = request(&harness, "mops", "GET", "/health/ready").anonymous().send().await;
    assert_eq!((closed.status, closed.value()["code"].as_str()), (503, Some("manifest_expired")));
    assert_eq!(departure(&api, ("get", "/health/ready"), &closed), None);
}
