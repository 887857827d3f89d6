//! A registry with four members around it, in one directory and on one clock set by hand.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use certs::Authority;
use http_body_util::BodyExt as _;
use protocol::agreement::{Agreement, AnswerMode, SignedAgreement};
use protocol::jws::{self, Envelope};
use protocol::manifest::{
    Duty, KeyEpoch, KeyHolder, KeyUse, Manifest, ManifestRef, Member, MemberKey, OfficerKey, Officers, Quotas,
    SignedManifest,
};
use protocol::registry::{EntriesRequest, LocateAnswer, LocateRequest, PutEntry, SEALED_BYTES};
use protocol::review::{ReviewAnswer, ReviewItem, ReviewRequest};
use protocol::{Bytes, Epoch, Index, MemberId, Problem, SigningKey, SpiffeId, Timestamp};
use registry::{Config, Registry};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use tower::ServiceExt as _;
use transport::{Clock, PeerIdentity};
use zeroize::Zeroizing;

/// 2027-01-15T08:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(crate) const DAY: i64 = 86_400;
pub(crate) const MEMBERS: [&str; 4] = ["css", "mops", "pup", "zlm"];
pub(crate) const OFFICERS: [u8; 3] = [101, 102, 103];

pub(crate) fn member(name: &str) -> MemberId {
    name.parse().unwrap()
}

pub(crate) fn index(n: u8) -> Index {
    Index(protocol::encoding::sha256(&[b"index", &[n]]))
}

/// A sealed value that tells whose it is and on which index.
pub(crate) fn sealed(owner: &str, n: u8) -> Bytes {
    let mut value = protocol::encoding::sha256(&[owner.as_bytes(), &[n]]).to_vec();
    value.resize(SEALED_BYTES, n);
    Bytes(value)
}

pub(crate) fn message_key(name: &str) -> SigningKey {
    SigningKey::from_seed(&protocol::encoding::sha256(&[b"message", name.as_bytes()])).unwrap()
}

pub(crate) struct Federation {
    pub(crate) dir: TempDir,
    pub(crate) clock: Clock,
    pub(crate) authority: Authority,
    pub(crate) config: Config,
    registry: Option<Arc<Registry>>,
    pub(crate) manifest: SignedManifest,
    jti: AtomicU64,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn problem(&self) -> Problem {
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        problem
    }

    #[track_caller]
    pub(crate) fn refused(&self, code: &str) {
        assert_eq!(self.problem().code, code);
    }
}

impl Federation {
    /// A registry with its first manifest published; every member has an agreement with every other but css with zlm.
    pub(crate) async fn new() -> Self {
        let federation = Self::unpublished().await;
        federation.registry().publish(federation.manifest.clone()).await.unwrap();
        federation
    }

    /// The same before the manifest is published.
    pub(crate) async fn unpublished() -> Self {
        transport::install().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOW);
        let mut authority = Authority::init(&dir.path().join("ca"), "lodz.example".parse().unwrap(), NOW).unwrap();
        certificate(&mut authority, dir.path(), "registry");
        std::fs::write(dir.path().join("root.pem"), authority.root_pem()).unwrap();
        std::fs::write(dir.path().join("crl.pem"), authority.crl(NOW).unwrap()).unwrap();
        for secret in ["storage.key", "pepper.key"] {
            keyring::StorageKey::create_credential(&dir.path().join(secret)).unwrap();
        }
        let mut config = Config::parse(CONFIG, dir.path()).unwrap();
        let ring = registry::init(&config, no_passphrase).unwrap();
        let own_keys = registry::member_keys(&ring, NOW + -DAY, NOW + 400 * DAY);
        let manifest = signed(&first_manifest(&own_keys));
        config.manifest_fingerprint = Some(manifest.hash());
        let registry = Some(open(&config, &clock).await);
        Federation { dir, clock, authority, config, registry, manifest, jti: AtomicU64::new(0) }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        self.registry.as_ref().unwrap()
    }

    /// Ends the registry and opens it again from what it left.
    pub(crate) async fn restart(&mut self) {
        // What it still does beside a request has a handle too, for a moment.
        for _ in 0..5_000 {
            if self.registry.as_ref().is_none_or(|registry| registry.handles() <= 1) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        self.registry = None;
        self.registry = Some(open(&self.config, &self.clock).await);
    }

    /// Talks to another process of the registry from now on; returns the one before.
    pub(crate) fn swap(&mut self, other: Arc<Registry>) -> Arc<Registry> {
        self.registry.replace(other).unwrap()
    }

    /// Talks to `registry` after [`Self::stop`].
    pub(crate) fn start(&mut self, registry: Arc<Registry>) {
        self.registry = Some(registry);
    }

    /// Ends the registry.
    pub(crate) fn stop(&mut self) {
        self.registry = None;
    }

    /// A manifest of the next version, changed by `edit`, signed by all officers.
    pub(crate) fn successor(&self, edit: impl FnOnce(&mut Manifest)) -> SignedManifest {
        let mut manifest = self.manifest.read().unwrap();
        manifest.version += 1;
        edit(&mut manifest);
        signed(&manifest)
    }

    /// Publishes [`Self::successor`] and goes by it.
    pub(crate) async fn amend(&mut self, edit: impl FnOnce(&mut Manifest)) {
        self.manifest = self.successor(edit);
        self.registry().publish(self.manifest.clone()).await.unwrap();
    }

    pub(crate) fn reference(&self) -> ManifestRef {
        let version = self.manifest.read().unwrap().version;
        ManifestRef { version, hash: Bytes(self.manifest.hash().to_vec()) }
    }

    /// A put of entries on these indexes, a year long.
    pub(crate) fn put_request(&self, iss: &str, indexes: &[u8], audience: &[&str]) -> EntriesRequest {
        let entry = |n: &u8| PutEntry {
            index: index(*n),
            sealed: sealed(iss, *n),
            expires: self.clock.now() + 365 * DAY,
            provisional: None,
        };
        EntriesRequest {
            iss: member(iss),
            iat: self.clock.now(),
            jti: self.jti(),
            manifest: self.reference(),
            epoch: Epoch(1),
            audience: audience.iter().map(|name| member(name)).collect(),
            put: indexes.iter().map(entry).collect(),
            delete: vec![],
        }
    }

    pub(crate) fn delete_request(&self, iss: &str, indexes: &[u8]) -> EntriesRequest {
        let delete = indexes.iter().map(|n| index(*n)).collect();
        EntriesRequest { put: vec![], delete, ..self.put_request(iss, &[], &[]) }
    }

    pub(crate) fn locate_request(&self, iss: &str, indexes: &[u8]) -> LocateRequest {
        LocateRequest {
            iss: member(iss),
            iat: self.clock.now(),
            jti: self.jti(),
            manifest: self.reference(),
            epoch: Epoch(1),
            purpose: "social-welfare-eligibility-assessment".parse().unwrap(),
            tickets: false,
            indexes: indexes.iter().map(|n| index(*n)).collect(),
        }
    }

    /// A review queue from its beginning, once what was written has settled.
    pub(crate) async fn review(&self, reader: &str) -> Vec<ReviewItem> {
        self.send("POST", "/v1/review", &self.review_request(reader)).await.json::<ReviewAnswer>().items
    }

    pub(crate) fn review_request(&self, iss: &str) -> ReviewRequest {
        ReviewRequest {
            iss: member(iss),
            iat: self.clock.now(),
            jti: self.jti(),
            manifest: self.reference(),
            after: None,
        }
    }

    fn jti(&self) -> Bytes {
        Bytes(u128::from(self.jti.fetch_add(1, Ordering::SeqCst)).to_be_bytes().to_vec())
    }

    /// Puts and expects it done.
    pub(crate) async fn put(&self, iss: &str, indexes: &[u8], audience: &[&str]) {
        let reply = self.send("PUT", "/v1/entries", &self.put_request(iss, indexes, audience)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// Locates and expects an answer.
    pub(crate) async fn locate(&self, iss: &str, indexes: &[u8]) -> LocateAnswer {
        self.send("POST", "/v1/locate", &self.locate_request(iss, indexes)).await.json()
    }

    /// Signs `claims` as their issuer and sends them over its connection.
    pub(crate) async fn send<T: Envelope>(&self, method: &str, path: &str, claims: &T) -> Reply {
        let issuer = claims.issuer().as_str();
        let token = jws::sign(&message_key(issuer), claims).unwrap();
        self.call(issuer, method, path, token.into_bytes()).await
    }

    /// Sends `body` over the connection of `peer`.
    pub(crate) async fn call(&self, peer: &str, method: &str, path: &str, body: Vec<u8>) -> Reply {
        self.exchange(peer, method, path, body).await.1
    }

    /// The same, with the answer's headers.
    pub(crate) async fn exchange(&self, peer: &str, method: &str, path: &str, body: Vec<u8>) -> (HeaderMap, Reply) {
        let peer = PeerIdentity {
            spiffe: SpiffeId::new(self.config.realm.clone(), member(peer)),
            cert_sha256: [0; 32],
            serial: vec![1],
            not_after: NOW + 90 * DAY,
        };
        let request = Request::builder().method(method).uri(path).extension(peer).body(Body::from(body)).unwrap();
        let response = self.registry().clone().router().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (headers, Reply { status, body: response.into_body().collect().await.unwrap().to_bytes().to_vec() })
    }

    /// The payloads of the registry's log.
    pub(crate) fn log(&self) -> Vec<serde_json::Value> {
        self.registry().log().iter(0).map(|entry| entry.unwrap().payload.unwrap()).collect()
    }
}

const CONFIG: &str = r#"
realm = "lodz.example"
data = "data"
storage_key = { credential = "storage.key" }
pepper = { credential = "pepper.key" }
index = { embedded = { cache_mib = 8 } }

[peers]
listen = "127.0.0.1:0"
certificate = "registry.pem"
key = "registry.key"
root = "root.pem"
crl = "crl.pem"
reload_seconds = 1
"#;

pub(crate) fn no_passphrase() -> std::io::Result<Zeroizing<String>> {
    unreachable!("both secrets are credential files")
}

pub(crate) async fn open(config: &Config, clock: &Clock) -> Arc<Registry> {
    Arc::new(Registry::open(config.clone(), clock.clone(), no_passphrase).await.unwrap())
}

/// Writes `NAME.pem` and `NAME.key`.
pub(crate) fn certificate(authority: &mut Authority, dir: &Path, name: &str) {
    let spiffe = SpiffeId::new(authority.realm().clone(), member(name));
    let (key, csr) = transport::new_key_and_csr(&spiffe).unwrap();
    let chain = authority.sign(&csr, &member(name), NOW).unwrap();
    std::fs::write(dir.join(format!("{name}.pem")), chain).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), key.as_bytes()).unwrap();
}

pub(crate) fn signed(manifest: &Manifest) -> SignedManifest {
    let mut draft = SignedManifest::draft(manifest).unwrap();
    for seed in OFFICERS {
        draft.sign(&SigningKey::from_seed(&[seed; 32]).unwrap());
    }
    draft
}

/// Signed by both.
pub(crate) fn agreement(asker: &str, holder: &str) -> SignedAgreement {
    agreed(Agreement {
        id: format!("{asker}-{holder}"),
        version: 1,
        asker: member(asker),
        holder: member(holder),
        queries: ["q01".parse().unwrap()].into(),
        fields: ["pup.status".parse().unwrap()].into(),
        purposes: ["social-welfare-eligibility-assessment".parse().unwrap()].into(),
        queries_per_day: 100,
        queries_per_user_per_day: None,
        hours: [].into(),
        mode: AnswerMode::Automatic,
        valid_from: NOW + -DAY,
        valid_to: NOW + 1000 * DAY,
    })
}

pub(crate) fn agreed(terms: Agreement) -> SignedAgreement {
    let mut signed = SignedAgreement::draft(terms);
    for party in [signed.terms.asker.clone(), signed.terms.holder.clone()] {
        signed.assent(&party, &message_key(party.as_str()), NOW).unwrap();
    }
    signed
}

fn first_manifest(own_keys: &[MemberKey]) -> Manifest {
    let officer = |(seed, name): (&u8, &&str)| OfficerKey {
        member: member(name),
        key: SigningKey::from_seed(&[*seed; 32]).unwrap().public(),
    };
    let mut manifest = Manifest {
        realm: "lodz.example".parse().unwrap(),
        version: 1,
        issued: NOW,
        expires: NOW + 500 * DAY,
        officers: Officers { threshold: 2, keys: OFFICERS.iter().zip(&MEMBERS).map(officer).collect() },
        members: MEMBERS.iter().map(|name| institution(name)).collect(),
        epochs: vec![],
        agreements: [("css", "mops"), ("mops", "pup"), ("pup", "css"), ("mops", "zlm"), ("zlm", "pup")]
            .map(|(asker, holder)| agreement(asker, holder))
            .into(),
        successions: vec![],
        library: protocol::bundle::LibraryPin { version: 1, digest: Bytes(vec![0; 32]) },
    };
    manifest.members.push(Member {
        keys: own_keys.to_vec(),
        roles: [Duty::Registry].into(),
        ..institution("registry")
    });
    manifest.epochs = [1, 2].map(|number| epoch(&manifest, number)).into();
    manifest
}

pub(crate) fn institution(name: &str) -> Member {
    Member {
        id: member(name),
        name: name.to_uppercase(),
        kind: name.parse().unwrap(),
        endpoints: vec![],
        roles: [Duty::KeyHolder].into(),
        operator: format!("IT of {name}"),
        keys: vec![MemberKey {
            usage: KeyUse::Message,
            key: message_key(name).public(),
            valid_from: NOW + -DAY,
            valid_to: NOW + 1000 * DAY,
            revoked_at: None,
        }],
        quotas: Quotas { evaluations_burst: 1, evaluations_per_day: 1, first_enrolment: None },
        duty_desk: None,
    }
}

fn epoch(manifest: &Manifest, number: u32) -> KeyEpoch {
    let holder = |(id, name): (u16, &&str)| KeyHolder { id, member: member(name), public_share: Bytes(vec![7; 32]) };
    let mut epoch = KeyEpoch {
        epoch: Epoch(number),
        generation: 1,
        threshold: 2,
        group_key: Bytes(vec![9; 32]),
        holders: (1..).zip(&MEMBERS[..3]).map(holder).collect(),
        transcript: Bytes(vec![1; 32]),
        not_before: NOW,
        destroy_at: None,
        signatures: BTreeMap::new(),
    };
    let statement = epoch.statement(&manifest.realm);
    let sign = |name: &&str| (member(name), Bytes(message_key(name).sign(&statement).to_vec()));
    epoch.signatures = MEMBERS[..3].iter().map(sign).collect();
    epoch
}
