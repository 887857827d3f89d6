//! A member by its own hand: opens an institution's keys and does what its node would do, without its node, so that
//! the server's processor time is its own and requests can be signed before the clock starts.

use crate::support::tls;
use bytes::Bytes;
use cli::federation::Federation;
use http::Request;
use keyring::{KeyRing, KeySource, StorageKey, random};
use protocol::encoding::Bytes as B64;
use protocol::evaluation::{EvaluationAnswer, EvaluationPurpose, EvaluationRequest};
use protocol::jws::{self, Envelope};
use protocol::manifest::{KeyEpoch, KeyUse, ManifestRef};
use protocol::query::{Basis, Confirmation, LogPosition, MAX_LIFE_SECONDS, QueryRequest, User};
use protocol::registry::{LocateAnswer, LocateRequest};
use protocol::{ConsentId, Index, Manifest, MemberId, SpiffeId, SubjectId};
use pseudonym::{Answer, Blinded, Input, Kind, Pesel, PublicKey, frame};
use rand_core::UnwrapErr;
use std::sync::Arc;
use std::time::Duration;
use tests::{PURPOSE, member};
use transport::{Client, Clock, IdentityStore, Trust};

const DEADLINE: Duration = Duration::from_secs(30);

/// A member without its node.
pub(crate) struct Asker {
    pub(crate) client: Arc<Client>,
    pub(crate) manifest: Manifest,
    pub(crate) keys: KeyRing,
    pub(crate) me: MemberId,
    clock: Clock,
    written_under: ManifestRef,
    certificate: [u8; 32],
}

/// A resident as others are told of one.
pub(crate) struct Known {
    pub(crate) index: Index,
    pub(crate) subject: SubjectId,
}

impl Asker {
    pub(crate) fn open(federation: &Federation, unit: &str) -> Self {
        let (home, files) = (federation.founded.dir.join(unit), tls(federation, unit));
        let source = KeySource::Credential(home.join("credentials/storage.key"));
        let storage = StorageKey::obtain(&source, || Err(std::io::Error::other("no passphrase"))).expect("its key");
        let keys = KeyRing::open(&home.join("data/keys.sealed"), &storage).expect("its keys");
        let identity = IdentityStore::load(&files.join("cert.pem"), &files.join("key.pem")).expect("its certificate");
        let read = |name: &str| std::fs::read_to_string(files.join(name)).expect("a PEM file");
        let (signed, clock) = (&federation.founded.manifest, Clock::system());
        let manifest = signed.read().expect("a manifest");
        let trust = Trust::load(&read("root.pem"), Some(&read("crl.pem")), manifest.realm.clone(), clock.clone());
        let certificate = identity.current().cert_sha256();
        Asker {
            client: Arc::new(Client::new(Arc::new(identity), Arc::new(trust.expect("trust")), clock.clone())),
            written_under: ManifestRef { version: manifest.version, hash: signed.hash().as_slice().into() },
            me: member(unit),
            manifest,
            keys,
            clock,
            certificate,
        }
    }

    pub(crate) fn spiffe(&self, other: &MemberId) -> SpiffeId {
        self.manifest.spiffe(other)
    }

    /// Sends `body` to `path` at `to` and gives the body of the answer.
    async fn post(&self, to: &MemberId, path: &str, body: Vec<u8>) -> Bytes {
        let url = self.manifest.member(to).and_then(|m| m.endpoints.first()).expect("an address");
        let request = Request::post(path).body(Bytes::from(body)).expect("a request");
        self.client.call(&self.spiffe(to), url, request, DEADLINE).await.expect("an answer").into_body()
    }

    fn epoch(&self) -> &KeyEpoch {
        self.manifest.current_epoch(self.clock.now()).expect("an epoch")
    }

    /// The names of residents, by two of the key holders, as `holder` is told them.
    pub(crate) async fn meet(&self, pesels: &[&str], holder: &MemberId) -> Vec<Known> {
        let epoch = self.epoch();
        let shares = epoch.holders.iter().map(|h| (h.id, bytes32(&h.public_share.0))).collect();
        let key = PublicKey::new(epoch.threshold, bytes32(&epoch.group_key.0), &shares).expect("a key");
        let inputs = pesels.iter().map(|pesel| self.input(pesel)).collect();
        let blinded = Blinded::new(&key, inputs, &mut UnwrapErr(getrandom::SysRng)).expect("blinded");
        let asked: Vec<_> =
            epoch.holders.iter().filter(|h| h.member != self.me).take(usize::from(epoch.threshold)).collect();
        let quorum: Vec<u16> = asked.iter().map(|h| h.id).collect();
        let mut verified = Vec::new();
        for holder in asked {
            let request = EvaluationRequest {
                epoch: epoch.epoch,
                generation: epoch.generation,
                purpose: EvaluationPurpose::Lookup,
                issued: self.clock.now(),
                quorum: quorum.clone(),
                request_id: random().expect("randomness"),
                elements: blinded.elements().to_vec(),
            };
            let entry_key = self.keys.key(KeyUse::Entry);
            let body = request.to_bytes(&self.manifest.realm, &self.me, &holder.member, entry_key);
            let answer = self.post(&holder.member, "/v1/evaluate", body.clone()).await;
            let keys = self.manifest.keys_of(&holder.member, KeyUse::Entry, request.issued);
            let answer = EvaluationAnswer::from_bytes(&answer, &body, keys).expect("a signed answer");
            let answer = Answer { elements: answer.elements, proof: answer.proof };
            verified.push(blinded.verify_answer(&quorum, holder.id, &answer).expect("a proof"));
        }
        let outputs = blinded.finish(&quorum, &verified).expect("pseudonyms");
        let known = |output: &pseudonym::Output| Known {
            index: Index(output.index()),
            subject: SubjectId(output.subject(holder.as_str()).expect("a subject")),
        };
        outputs.iter().map(known).collect()
    }

    fn input(&self, pesel: &str) -> Input {
        let today = jiff::civil::date(2026, 1, 1);
        let pesel = Pesel::parse(pesel, today).expect("a PESEL");
        frame(self.manifest.realm.as_str(), Kind::Pesel, self.epoch().epoch.0, pesel.as_str()).expect("an input")
    }

    /// A ticket of the registry for each.
    pub(crate) async fn tickets(&self, known: &[Known]) -> Vec<String> {
        let request = LocateRequest {
            iss: self.me.clone(),
            iat: self.clock.now(),
            jti: jti(),
            manifest: self.written_under.clone(),
            epoch: self.epoch().epoch,
            purpose: PURPOSE.parse().expect("a purpose"),
            tickets: true,
            indexes: known.iter().map(|known| known.index).collect(),
        };
        let registry = self.manifest.registry().expect("a registry").id.clone();
        let answer = self.post(&registry, "/v1/locate", self.sign(&request).into_bytes()).await;
        let answer: LocateAnswer = serde_json::from_slice(&answer).expect("an answer");
        answer.found.into_iter().map(|located| located.ticket.expect("a ticket")).collect()
    }

    /// A new signed question q02 about a resident on a consent.
    pub(crate) fn question(&self, holder: &MemberId, known: &Known, ticket: &str, consent: ConsentId) -> String {
        let now = self.clock.now();
        let fields = ["pup.status", "pup.registered_from", "pup.registered_to", "pup.dereg_reason"];
        self.sign(&QueryRequest {
            iss: self.me.clone(),
            aud: holder.clone(),
            iat: now,
            exp: now + MAX_LIFE_SECONDS,
            jti: jti(),
            sub: known.subject,
            epoch: self.epoch().epoch,
            ticket: ticket.to_owned(),
            user: User { id: B64(vec![7; 32]), role: "caseworker".parse().expect("a role"), auth: None, system: None },
            query: "q02".parse().expect("a query"),
            fields: fields.iter().map(|field| field.parse().expect("a field")).collect(),
            expected: std::collections::BTreeMap::new(),
            purpose: PURPOSE.parse().expect("a purpose"),
            basis: Basis::Consent(protocol::consent::ConsentRef { id: consent }),
            case: Some(B64(vec![8; 32])),
            manifest: self.written_under.clone(),
            cnf: Confirmation { x5t_s256: self.certificate.as_slice().into() },
            log: LogPosition { origin: format!("{}/log", self.me), index: 1_000, entry: B64(vec![9; 32]) },
        })
    }

    pub(crate) fn sign<T: Envelope>(&self, message: &T) -> String {
        jws::sign(self.keys.key(KeyUse::Message), message).expect("a signature")
    }

    pub(crate) fn now(&self) -> protocol::Timestamp {
        self.clock.now()
    }
}

fn jti() -> B64 {
    B64(random::<16>().expect("randomness").to_vec())
}

fn bytes32(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("32 bytes")
}
