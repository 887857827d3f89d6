//! A member acting by its own hand: with a unit's real keys and certificate it says over mutual TLS whatever a test
//! wants it to say, while the unit's node runs.

use crate::{Harness, PURPOSE, lock, log_of, member};
use bytes::Bytes;
use http::{Method, Request, Response};
use keyring::{KeyRing, KeySource, StorageKey};
use protocol::consent::Grant;
use protocol::encoding::Bytes as B64;
use protocol::evaluation::{EvaluationAnswer, EvaluationPurpose, EvaluationRequest};
use protocol::jws::{self, Envelope};
use protocol::manifest::{KeyEpoch, KeyUse, ManifestRef};
use protocol::query::{
    AnswerMessage, AnswerOutcome, Basis, Confirmation, LogPosition, MAX_LIFE_SECONDS, QueryAnswer, QueryRequest, User,
};
use protocol::registry::{EntriesRequest, LocateAnswer, LocateRequest, Located, PutEntry};
use protocol::{ConsentId, Epoch, Index, Manifest, MemberId, SpiffeId, SubjectId, Timestamp, Told};
use pseudonym::{Answer, Blinded, Kind, Output, PublicKey};
use rand_core::UnwrapErr;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use transport::{CallError, Client, Clock, IdentityStore, Trust};

const DEADLINE: Duration = Duration::from_secs(30);

/// A member by its own hand.
pub struct Member {
    /// Who it says it is.
    pub id: MemberId,
    /// Its signing keys.
    pub keys: KeyRing,
    /// Its certificate.
    pub identity: Arc<IdentityStore>,
    /// The manifest it writes under.
    pub manifest: Manifest,
    /// How it cites that.
    pub reference: ManifestRef,
    clock: Clock,
    client: Client,
}

impl Member {
    /// `unit`, with its own keys and certificate.
    #[must_use]
    pub fn of(harness: &Harness, unit: &str) -> Self {
        Self::with_certificate(harness, unit, &harness.home().join(unit).join("tls"))
    }

    /// `unit`, with its own signing keys and the certificate and key in `tls`.
    #[must_use]
    pub fn with_certificate(harness: &Harness, unit: &str, tls: &Path) -> Self {
        let home = harness.home().join(unit);
        let keys = KeyRing::open(&home.join("data/keys.sealed"), &storage(&home)).expect("the key ring");
        let identity = IdentityStore::load(&tls.join("cert.pem"), &tls.join("key.pem")).expect("a certificate");
        let identity = Arc::new(identity);
        let trust = Arc::new(trust(harness, unit));
        let tapped = harness.messages.clone();
        let tap = move |bytes: &[u8]| lock(&tapped).extend_from_slice(bytes);
        let client = Client::new(identity.clone(), trust, harness.clock.clone()).tap(Some(Arc::new(tap)));
        let signed = &harness.federation.founded.manifest;
        Member {
            id: member(unit),
            keys,
            identity,
            manifest: signed.read().expect("a manifest"),
            reference: ManifestRef { version: signed.read().expect("a manifest").version, hash: hash(&signed.hash()) },
            clock: harness.clock.clone(),
            client,
        }
    }

    /// The time by the federation's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Calls the member `to` at the address in the manifest.
    ///
    /// # Errors
    /// The call's own.
    pub async fn call(
        &self,
        to: &str,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Bytes>, CallError> {
        let url = self.manifest.member(&member(to)).and_then(|m| m.endpoints.first()).expect("an address").clone();
        self.call_at(&url, to, method, path, body).await
    }

    /// Calls the member `to` at `url`.
    ///
    /// # Errors
    /// The call's own.
    pub async fn call_at(
        &self,
        url: &str,
        to: &str,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Bytes>, CallError> {
        let to = SpiffeId::new(self.manifest.realm.clone(), member(to));
        let request = Request::builder().method(method).uri(path).body(body.into()).expect("a request");
        self.client.call(&to, url, request, DEADLINE).await
    }

    /// Signs `message` and sends it.
    ///
    /// # Errors
    /// The call's own.
    pub async fn send<T: Envelope>(
        &self,
        to: &str,
        method: Method,
        path: &str,
        message: &T,
    ) -> Result<Response<Bytes>, CallError> {
        self.call(to, method, path, jws::sign(&self.keys.message, message).expect("signed")).await
    }

    fn epoch(&self) -> &KeyEpoch {
        self.manifest.current_epoch(self.now()).expect("a key epoch")
    }

    /// The pseudonym of `pesel`, fresh from a quorum of the real key holders.
    pub async fn output(&self, pesel: &str) -> Output {
        let epoch = self.epoch();
        let blinded = self.blinded(pesel);
        let quorum = self.quorum();
        let mut verified = Vec::new();
        for id in &quorum {
            let holder = &epoch.holder(*id).expect("a holder").member;
            let body = self.evaluation(holder.as_str(), blinded.elements(), |_| {});
            let answer = self.evaluate(holder.as_str(), body.clone()).await.expect("an evaluation");
            let keys = self.manifest.keys_of(holder, KeyUse::Entry, self.now());
            let EvaluationAnswer { elements, proof, .. } =
                EvaluationAnswer::from_bytes(&answer, &body, keys).expect("a signed evaluation");
            verified.push(blinded.verify_answer(&quorum, *id, &Answer { elements, proof }).expect("a proof"));
        }
        blinded.finish(&quorum, &verified).expect("outputs").pop().expect("an output")
    }

    /// `pesel`, blinded.
    #[must_use]
    pub fn blinded(&self, pesel: &str) -> Blinded {
        let epoch = self.epoch();
        let input = pseudonym::frame(self.manifest.realm.as_str(), Kind::Pesel, epoch.epoch.0, pesel).expect("framed");
        Blinded::new(&public_key(epoch), vec![input], &mut UnwrapErr(getrandom::SysRng)).expect("blinded")
    }

    /// The first holders, as many as are needed.
    #[must_use]
    pub fn quorum(&self) -> Vec<u16> {
        let epoch = self.epoch();
        epoch.holders.iter().map(|holder| holder.id).take(usize::from(epoch.threshold)).collect()
    }

    /// An evaluation request for `holder`, signed after `change`.
    #[must_use]
    pub fn evaluation(
        &self,
        holder: &str,
        elements: &[[u8; 32]],
        change: impl FnOnce(&mut EvaluationRequest),
    ) -> Vec<u8> {
        let epoch = self.epoch();
        let mut request = EvaluationRequest {
            epoch: epoch.epoch,
            generation: epoch.generation,
            purpose: EvaluationPurpose::Lookup,
            issued: self.now(),
            quorum: self.quorum(),
            request_id: keyring::random().expect("randomness"),
            elements: elements.to_vec(),
        };
        change(&mut request);
        request.to_bytes(&self.manifest.realm, &self.id, &member(holder), &self.keys.entry)
    }

    /// Sends an evaluation request as it is.
    ///
    /// # Errors
    /// The call's own.
    pub async fn evaluate(&self, holder: &str, body: Vec<u8>) -> Result<Vec<u8>, CallError> {
        Ok(self.call(holder, Method::POST, "/v1/evaluate", body).await?.into_body().to_vec())
    }

    /// Asks the registry about the resident, with a ticket.
    ///
    /// # Errors
    /// The call's own.
    pub async fn locate(&self, output: &Output) -> Result<Located, CallError> {
        let request = LocateRequest {
            iss: self.id.clone(),
            iat: self.now(),
            jti: random(16),
            manifest: self.reference.clone(),
            epoch: self.epoch().epoch,
            purpose: PURPOSE.parse().expect("a purpose"),
            tickets: true,
            indexes: vec![Index(output.index())],
        };
        let answer = self.send("registry", Method::POST, "/v1/locate", &request).await?;
        let LocateAnswer { mut found } = serde_json::from_slice(answer.body()).expect("an answer");
        Ok(found.pop().expect("one answer"))
    }

    /// The registry's ticket for the resident, a client of this member.
    pub async fn ticket(&self, output: &Output) -> String {
        self.locate(output).await.expect("located").ticket.expect("a ticket")
    }

    /// Changes this member's entries at the registry.
    ///
    /// # Errors
    /// The call's own.
    pub async fn put_entries(
        &self,
        audience: BTreeSet<MemberId>,
        put: Vec<PutEntry>,
        delete: Vec<Index>,
        change: impl FnOnce(&mut EntriesRequest),
    ) -> Result<Response<Bytes>, CallError> {
        let mut request = EntriesRequest {
            iss: self.id.clone(),
            iat: self.now(),
            jti: random(16),
            manifest: self.reference.clone(),
            epoch: self.epoch().epoch,
            audience,
            put,
            delete,
        };
        change(&mut request);
        self.send("registry", Method::PUT, "/v1/entries", &request).await
    }

    /// Question `q02` to `holder` on a mandate with a case, which is answered; signed after `change`.
    #[must_use]
    pub fn request(
        &self,
        output: &Output,
        holder: &str,
        ticket: &str,
        change: impl FnOnce(&mut QueryRequest),
    ) -> String {
        let iat = self.now();
        let field = |id: &str| id.parse().expect("a field");
        let mut request = QueryRequest {
            iss: self.id.clone(),
            aud: member(holder),
            iat,
            exp: iat + MAX_LIFE_SECONDS,
            jti: random(16),
            sub: SubjectId(output.subject(holder).expect("a name")),
            epoch: self.epoch().epoch,
            ticket: ticket.to_owned(),
            user: User { id: random(32), role: "caseworker".parse().expect("a role"), auth: None, system: None },
            query: "q02".parse().expect("a query"),
            fields: BTreeSet::from([field("pup.status"), field("pup.registered_from")]),
            expected: std::collections::BTreeMap::new(),
            purpose: PURPOSE.parse().expect("a purpose"),
            basis: Basis::Mandate { id: "ups-105".to_owned() },
            case: Some(random(32)),
            manifest: self.reference.clone(),
            cnf: Confirmation { x5t_s256: hash(&self.identity.current().cert_sha256()) },
            log: LogPosition { origin: "test".to_owned(), index: 0, entry: random(32) },
        };
        change(&mut request);
        jws::sign(&self.keys.message, &request).expect("signed")
    }

    /// Puts a signed question: the holder's answer, verified, with what came beside it.
    ///
    /// # Errors
    /// The call's own.
    pub async fn query(&self, holder: &str, token: &str) -> Result<(QueryAnswer, AnswerMessage), CallError> {
        let answer = self.call(holder, Method::POST, "/v1/query", token.to_owned()).await?;
        let message: AnswerMessage = serde_json::from_slice(answer.body()).expect("an answer");
        let now = self.now();
        let read: QueryAnswer =
            jws::verify(&message.answer, |kid| self.manifest.key(kid, KeyUse::Message, now)).expect("a signed answer");
        assert_eq!((read.iss.as_str(), &read.aud), (holder, &self.id), "of the one asked, to the one who asked");
        assert_eq!(read.request.0, jws::digest(token), "to this request");
        assert!(message.open(&read).is_some(), "every value is vouched for");
        Ok((read, message))
    }

    /// Puts a signed question: what the holder told of its refusal, nothing if it answered.
    pub async fn told(&self, holder: &str, token: &str) -> Option<Told> {
        match self.query(holder, token).await.expect("an answer").0.outcome {
            AnswerOutcome::Answered { .. } => None,
            AnswerOutcome::Denied { told } => Some(told),
            AnswerOutcome::Pending { .. } => Some(protocol::Told::Pending),
        }
    }

    /// A grant of this member to pup for mops to learn the labour status, good for an hour; `status` is its place in
    /// this member's status list.
    #[must_use]
    pub fn grant(&self, output: &Output, status: u32, change: impl FnOnce(&mut Grant)) -> Grant {
        let now = self.now();
        let mut grant = Grant {
            iss: self.id.clone(),
            aud: member("pup"),
            iat: now,
            consent: ConsentId(keyring::random().expect("randomness")),
            sub: SubjectId(output.subject("pup").expect("a name")),
            epoch: self.epoch().epoch,
            recipient: member("mops"),
            purposes: BTreeSet::from([PURPOSE.parse().expect("a purpose")]),
            fields: BTreeSet::from(["pup.status".parse().expect("a field")]),
            modules: BTreeSet::from(["labour-status".to_owned()]),
            acting: protocol::consent::Acting::Resident,
            valid_from: now,
            valid_to: now + 3_600,
            template: protocol::consent::TemplateRef { id: "instead-of-certificate".into(), version: "1.0".into() },
            evidence: random(32),
            collected_by: random(32),
            status,
        };
        change(&mut grant);
        grant
    }

    /// Sends a grant to pup.
    ///
    /// # Errors
    /// The call's own.
    pub async fn send_grant(&self, grant: &Grant) -> Result<(), CallError> {
        self.send("pup", Method::POST, "/v1/grants", grant).await.map(drop)
    }

    /// The number of the epoch in use.
    #[must_use]
    pub fn epoch_number(&self) -> Epoch {
        self.epoch().epoch
    }
}

/// What a node's log says; the node must be stopped.
#[must_use]
pub fn read_log(harness: &Harness, unit: &str) -> Vec<Value> {
    let config = harness.federation.founded.node_config(&member(unit));
    log_of(&config).into_iter().map(|logged| logged.payload).collect()
}

/// Stops a node and reads what its log says of refused queries: the reasons, in their order.
pub async fn refusals(harness: &mut Harness, unit: &str) -> Vec<String> {
    harness.federation.nodes.get_mut(&member(unit)).expect("a node").stop().await.expect("stopped");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let log = read_log(harness, unit);
    log.iter()
        .filter(|entry| ["query.denied", "query.no_match"].iter().any(|name| entry["event"] == *name))
        .map(|entry| text(&entry["reason"]))
        .collect()
}

fn storage(home: &Path) -> StorageKey {
    let source = KeySource::Credential(home.join("credentials/storage.key"));
    StorageKey::obtain(&source, || Err(std::io::Error::other("not asked"))).expect("the storage key")
}

fn trust(harness: &Harness, unit: &str) -> Trust {
    let tls = harness.home().join(unit).join("tls");
    let read = |name: &str| std::fs::read_to_string(tls.join(name)).expect("a file");
    let realm = harness.federation.founded.plan.realm.clone();
    Trust::load(&read("root.pem"), Some(&read("crl.pem")), realm, harness.clock.clone()).expect("trust")
}

fn public_key(epoch: &KeyEpoch) -> PublicKey {
    let point = |bytes: &B64| -> [u8; 32] { bytes.0.as_slice().try_into().expect("32 bytes") };
    let shares = epoch.holders.iter().map(|holder| (holder.id, point(&holder.public_share))).collect();
    PublicKey::new(epoch.threshold, point(&epoch.group_key), &shares).expect("a public key")
}

fn hash(bytes: &[u8; 32]) -> B64 {
    B64(bytes.to_vec())
}

/// Random bytes, at most 32.
fn random(length: usize) -> B64 {
    let bytes: [u8; 32] = keyring::random().expect("randomness");
    B64(bytes[..length].to_vec())
}

/// The PESEL of the planted resident whom exactly `units` know (joined by `+`).
///
/// # Panics
/// If nobody is planted for them.
#[must_use]
pub fn pesel_of(units: &str) -> &'static str {
    crate::RESIDENTS.iter().find(|resident| resident.units == units).expect("planted").pesel
}
