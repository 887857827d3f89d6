//! Founding a federation: certificate authority, registry, nodes, officers, the first manifest and its successors.
//!
//! The same code founds the demo's federation and the tests'. Every key is made where it is used: a member's TLS and
//! signing keys in its own directory, officers' keys in theirs, the pseudonym key nowhere (its holders give birth to it
//! later). The directory:
//!
//! ```text
//! ca/                      the certificate authority
//! officers/MEMBER.key      an officer's signing key
//! registry/registry.toml   credentials/ tls/ data/
//! MEMBER/node.toml         credentials/ tls/ local/ idp/ data/
//! ```

use crate::exit::{Failure, chain};
use crate::files::{unwritable, write_json};
use crate::idp::{AUDIENCE, IdentityProvider};
use crate::prompt::no_passphrase;
use certs::Authority;
use keyring::{KeyRing, KeySource, StorageKey, create_private};
use policies::Library;
use protocol::agreement::{Agreement, AnswerMode, SignedAgreement};
use protocol::encoding::{Bytes, b64};
use protocol::manifest::{Duty, KeyEpoch, KeyUse, Member, MemberKey, OfficerKey, Officers, Quotas, RaisedQuota};
use protocol::time::DAY_SECONDS;
use protocol::{Manifest, MemberId, MemberKind, Realm, SignedManifest, SigningKey, SpiffeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// A manifest lives this long.
const MANIFEST_SECONDS: i64 = 30 * DAY_SECONDS;
/// A raised quota for first enrolments lives this long.
const RAISED_SECONDS: i64 = 7 * DAY_SECONDS;
/// Signing keys live this long.
pub(crate) const KEY_SECONDS: i64 = 2 * 365 * DAY_SECONDS;

/// What federation to found.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub realm: Realm,
    /// Its institutions.
    pub units: Vec<Unit>,
    /// Officers' signatures a manifest needs.
    pub officer_threshold: u8,
    /// Queries a day under each agreement.
    pub queries_per_day: u64,
    /// Where its parts listen.
    pub address: IpAddr,
}

/// One institution to found.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its id.
    pub id: MemberId,
    /// Its name for people.
    pub name: String,
    /// What sort it is.
    pub kind: MemberKind,
    /// Whether it holds a share of the pseudonym key.
    pub key_holder: bool,
    /// Whether one of the officers is its.
    pub officer: bool,
    /// Evaluations for its first enrolment, at each holder.
    pub first_enrolment: u64,
    /// Whom to call there in an emergency.
    pub duty_desk: Option<String>,
}

/// A federation founded: where its parts lie, and what the officers need for the next manifest.
pub struct Founded {
    /// Its directory.
    pub dir: PathBuf,
    /// What was planned.
    pub plan: Plan,
    /// The newest manifest.
    pub manifest: SignedManifest,
    officers: BTreeMap<MemberId, SigningKey>,
}

impl Founded {
    /// The configuration of the registry.
    #[must_use]
    pub fn registry_config(&self) -> PathBuf {
        self.dir.join("registry/registry.toml")
    }

    /// The configuration of an institution's node.
    #[must_use]
    pub fn node_config(&self, unit: &MemberId) -> PathBuf {
        self.dir.join(unit.as_str()).join("node.toml")
    }

    /// Where an institution's node keeps its data.
    #[must_use]
    pub fn node_data(&self, unit: &MemberId) -> PathBuf {
        self.dir.join(unit.as_str()).join("data")
    }

    /// The certificates an institution's applications trust for its local API.
    #[must_use]
    pub fn local_ca(&self, unit: &MemberId) -> PathBuf {
        self.dir.join(unit.as_str()).join("local/cert.pem")
    }

    /// The identity provider of an institution.
    ///
    /// # Errors
    /// The file system's.
    pub fn identity_provider(&self, unit: &MemberId) -> Result<IdentityProvider, Failure> {
        IdentityProvider::open(&self.dir.join(unit.as_str()).join("idp"), &issuer(unit))
    }

    /// The certificate authority, opened.
    ///
    /// # Errors
    /// The authority's own.
    pub fn authority(&self) -> Result<Authority, Failure> {
        Ok(Authority::open(&self.dir.join("ca"))?)
    }

    /// The officers agree on a change: the next manifest, signed by as many as are needed.
    ///
    /// # Errors
    /// If the manifest held does not read, or the next contradicts itself.
    pub fn next_manifest(
        &mut self,
        now: Timestamp,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<SignedManifest, Failure> {
        let mut next = self.manifest.read()?;
        next.version += 1;
        next.issued = now;
        next.expires = now + MANIFEST_SECONDS;
        change(&mut next);
        let signed = sign(&next, &self.officers)?;
        signed.accept_after(&self.manifest)?;
        self.manifest = signed.clone();
        Ok(signed)
    }

    /// A further institution with its keys and certificate, that will join by the manifest held now: what the officers put
    /// into the next one.
    ///
    /// # Errors
    /// [`Failure`] of whichever part cannot be made.
    pub fn add(&mut self, unit: Unit, now: Timestamp) -> Result<Member, Failure> {
        let crl = fs::read_to_string(self.dir.join("registry/tls/crl.pem"))?;
        let mut authority = self.authority()?;
        let member = found_node(&self.dir, &self.plan, &unit, &mut authority, &crl, now)?;
        pin(&self.manifest, &self.node_config(&unit.id))?;
        self.plan.units.push(unit);
        Ok(member)
    }

    /// Agreements of `unit` with every other member, as the catalogue lets them ask and answer, signed by both.
    ///
    /// # Errors
    /// If a key ring does not open.
    pub fn agreements_of(&self, unit: &MemberId, now: Timestamp) -> Result<Vec<SignedAgreement>, Failure> {
        let library = Library::builtin().map_err(|e| Failure::new("policies", e))?;
        let mut terms = agreements(&self.plan, &library, now);
        let held = self.manifest.read()?;
        let with = |other: &MemberId| held.member(other).is_some();
        terms
            .retain(|terms| &terms.asker == unit && with(&terms.holder) || &terms.holder == unit && with(&terms.asker));
        agreed(&self.dir, terms, now)
    }

    /// The next manifest with everybody's addresses.
    ///
    /// # Errors
    /// As [`Founded::next_manifest`].
    pub fn with_endpoints(
        &mut self,
        now: Timestamp,
        endpoints: &BTreeMap<MemberId, String>,
    ) -> Result<SignedManifest, Failure> {
        self.next_manifest(now, |manifest| {
            for member in &mut manifest.members {
                if let Some(url) = endpoints.get(&member.id) {
                    member.endpoints = vec![url.clone()];
                }
            }
        })
    }

    /// The next manifest with a new pseudonym key, or with new shares of one it has.
    ///
    /// # Errors
    /// As [`Founded::next_manifest`].
    pub fn with_epoch(&mut self, now: Timestamp, epoch: KeyEpoch) -> Result<SignedManifest, Failure> {
        self.next_manifest(now, |manifest| crate::manifest_next::take(manifest, epoch))
    }
}

/// Founds a federation in `dir`, which must be empty or missing.
///
/// # Errors
/// [`Failure`] of whichever part cannot be made; what was made stays for inspection.
pub fn found(dir: &Path, plan: Plan, now: Timestamp) -> Result<Founded, Failure> {
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::new("value", format!("{} is not empty: choose a fresh directory", dir.display())));
    }
    fs::create_dir_all(dir)?;
    // Absolute, so that configurations work from anywhere.
    let dir = dir.canonicalize()?;
    let mut authority = Authority::init(&dir.join("ca"), plan.realm.clone(), now)?;
    let crl = authority.crl(now)?;
    let mut members = vec![found_registry(&dir, &plan, &mut authority, &crl, now)?];
    for unit in &plan.units {
        members.push(found_node(&dir, &plan, unit, &mut authority, &crl, now)?);
    }
    let officers = found_officers(&dir, &plan)?;
    let manifest = first_manifest(&dir, &plan, members, &officers, now)?;
    let signed = sign(&manifest, &officers)?;
    let founded = Founded { dir, plan, manifest: signed, officers };
    let nodes = founded.plan.units.iter().map(|unit| founded.node_config(&unit.id));
    nodes.chain([founded.registry_config()]).try_for_each(|config| pin(&founded.manifest, &config))?;
    keep_manifest(&founded.dir, &founded.manifest)?;
    Ok(founded)
}

/// Keeps the newest manifest where people look for it: `manifest.json` of the federation's directory.
pub(crate) fn keep_manifest(dir: &Path, manifest: &SignedManifest) -> Result<(), Failure> {
    write_json(&dir.join("manifest.json"), manifest)
}

/// The registry's id.
///
/// # Errors
/// Never for the constant it is.
pub fn registry_id() -> Result<MemberId, Failure> {
    node::REGISTRY.parse().map_err(|e| Failure::new("value", e))
}

fn found_registry(
    dir: &Path,
    plan: &Plan,
    authority: &mut Authority,
    crl: &str,
    now: Timestamp,
) -> Result<Member, Failure> {
    let home = dir.join("registry");
    let id = registry_id()?;
    fs::create_dir_all(home.join("credentials"))?;
    for secret in ["storage.key", "pepper.key"] {
        StorageKey::create_credential(&home.join("credentials").join(secret))?;
    }
    fs::write(home.join("registry.toml"), registry_toml(plan))?;
    let config = registry::Config::load(&home.join("registry.toml"))?;
    let ring = registry::init(&config, no_passphrase)?;
    certify(&home, plan, &id, authority, crl, now)?;
    Ok(Member {
        id,
        name: "Rejestr federacji".to_owned(),
        kind: "registry".parse().map_err(|e| Failure::new("value", e))?,
        endpoints: Vec::new(),
        roles: BTreeSet::from([Duty::Registry]),
        operator: "registry operator".to_owned(),
        keys: registry::member_keys(&ring, now, now + KEY_SECONDS),
        quotas: Quotas { evaluations_burst: 0, evaluations_per_day: 0, first_enrolment: None },
        duty_desk: None,
    })
}

fn found_node(
    dir: &Path,
    plan: &Plan,
    unit: &Unit,
    authority: &mut Authority,
    crl: &str,
    now: Timestamp,
) -> Result<Member, Failure> {
    let home = dir.join(unit.id.as_str());
    fs::create_dir_all(home.join("credentials"))?;
    StorageKey::create_credential(&home.join("credentials/storage.key"))?;
    fs::write(home.join("node.toml"), node_toml(plan, &unit.id))?;
    IdentityProvider::create(&home.join("idp"), &issuer(&unit.id))?;
    local_certificate(&home.join("local"), plan.address)?;
    let config = node::Config::load(&home.join("node.toml"))?;
    let birth = node::Node::init(&config, no_passphrase, now)?;
    install(&home, &authority.sign(&birth.csr, &unit.id, now)?, authority, crl)?;
    Ok(member(unit, birth.keys, now))
}

/// The TLS key and certificate of the registry, which has no node to make them.
fn certify(
    home: &Path,
    plan: &Plan,
    id: &MemberId,
    authority: &mut Authority,
    crl: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let (key, csr) = transport::new_key_and_csr(&SpiffeId::new(plan.realm.clone(), id.clone()))
        .map_err(|e| Failure::new("certificate", e))?;
    fs::create_dir_all(home.join("tls"))?;
    create_private(&home.join("tls/key.pem"), key.as_bytes())?;
    install(home, &authority.sign(&csr, id, now)?, authority, crl)
}

fn install(home: &Path, chain: &str, authority: &Authority, crl: &str) -> Result<(), Failure> {
    fs::write(home.join("tls/cert.pem"), chain)?;
    fs::write(home.join("tls/root.pem"), authority.root_pem())?;
    fs::write(home.join("tls/crl.pem"), crl)?;
    Ok(())
}

/// A certificate of its own for the local API on this machine; an institution would use one of its own authority.
fn local_certificate(dir: &Path, address: IpAddr) -> Result<(), Failure> {
    fs::create_dir_all(dir)?;
    let failed = |e: rcgen::Error| Failure::new("certificate", e);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), address.to_string()]).map_err(failed)?;
    fs::write(dir.join("cert.pem"), made.cert.pem())?;
    create_private(&dir.join("key.pem"), made.signing_key.serialize_pem().as_bytes())?;
    Ok(())
}

fn member(unit: &Unit, keys: Vec<MemberKey>, now: Timestamp) -> Member {
    Member {
        id: unit.id.clone(),
        name: unit.name.clone(),
        kind: unit.kind.clone(),
        endpoints: Vec::new(),
        roles: if unit.key_holder { BTreeSet::from([Duty::KeyHolder]) } else { BTreeSet::new() },
        operator: format!("IT of {}", unit.id),
        keys,
        quotas: Quotas {
            evaluations_burst: 1_000,
            evaluations_per_day: 2_000,
            first_enrolment: Some(RaisedQuota { evaluations: unit.first_enrolment, until: now + RAISED_SECONDS }),
        },
        duty_desk: unit.duty_desk.clone(),
    }
}

fn found_officers(dir: &Path, plan: &Plan) -> Result<BTreeMap<MemberId, SigningKey>, Failure> {
    fs::create_dir_all(dir.join("officers"))?;
    let mut officers = BTreeMap::new();
    for unit in plan.units.iter().filter(|unit| unit.officer) {
        let path = dir.join("officers").join(format!("{}.key", unit.id));
        officers.insert(unit.id.clone(), create_officer(&path)?);
    }
    Ok(officers)
}

/// Makes an officer's key in `path`, mode 0600; fails if the file exists.
///
/// # Errors
/// `exists`, or `file` with what the system says.
pub fn create_officer(path: &Path) -> Result<SigningKey, Failure> {
    StorageKey::create_credential(path).map_err(unwritable(path))?;
    open_officer(path)
}

/// Reads an officer's key: 64 hexadecimal digits.
///
/// # Errors
/// `keys` if the file holds something else.
pub fn open_officer(path: &Path) -> Result<SigningKey, Failure> {
    let unusable =
        |e: &dyn std::fmt::Display| Failure::new("keys", format!("the officer's key {}: {e}", path.display()));
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(|e| unusable(&e))?);
    let seed = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map_err(|e| unusable(&e))?;
    let seed = zeroize::Zeroizing::new(seed);
    let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|e| unusable(&e))?;
    SigningKey::from_seed(seed).map_err(|e| unusable(&e))
}

fn first_manifest(
    dir: &Path,
    plan: &Plan,
    members: Vec<Member>,
    officers: &BTreeMap<MemberId, SigningKey>,
    now: Timestamp,
) -> Result<Manifest, Failure> {
    let library = Library::builtin().map_err(|e| Failure::new("policies", e))?;
    let keys = officers.iter().map(|(id, key)| OfficerKey { member: id.clone(), key: key.public() }).collect();
    Ok(Manifest {
        realm: plan.realm.clone(),
        version: 1,
        issued: now,
        expires: now + MANIFEST_SECONDS,
        officers: Officers { threshold: plan.officer_threshold, keys },
        members,
        epochs: Vec::new(),
        agreements: agreed(dir, agreements(plan, &library, now), now)?,
        successions: Vec::new(),
        library: library.pin(),
    })
}

/// An agreement for every pair whose kinds the catalogue lets ask and answer.
fn agreements(plan: &Plan, library: &Library, now: Timestamp) -> Vec<Agreement> {
    let catalogue = library.catalogue();
    let pairs = plan.units.iter().flat_map(|asker| plan.units.iter().map(move |holder| (asker, holder)));
    pairs
        .filter(|(asker, holder)| asker.id != holder.id)
        .filter_map(|(asker, holder)| {
            let asked: Vec<_> = catalogue
                .queries
                .iter()
                .filter(|(_, q)| q.asker_kinds.contains(&asker.kind) && q.holder_kinds.contains(&holder.kind))
                .collect();
            (!asked.is_empty()).then(|| Agreement {
                id: format!("{}-{}", asker.id, holder.id),
                version: 1,
                asker: asker.id.clone(),
                holder: holder.id.clone(),
                queries: asked.iter().map(|(id, _)| (*id).clone()).collect(),
                fields: asked.iter().flat_map(|(_, query)| query.fields.iter().cloned()).collect(),
                purposes: catalogue.purposes.keys().cloned().collect(),
                queries_per_day: plan.queries_per_day,
                queries_per_user_per_day: None,
                hours: BTreeSet::new(),
                mode: AnswerMode::Automatic,
                valid_from: now + -DAY_SECONDS,
                valid_to: now + 365 * DAY_SECONDS,
            })
        })
        .collect()
}

/// Each agreement signed by both its parties, whose keys lie in `dir`.
fn agreed(dir: &Path, terms: Vec<Agreement>, now: Timestamp) -> Result<Vec<SignedAgreement>, Failure> {
    let mut rings: BTreeMap<MemberId, KeyRing> = BTreeMap::new();
    let mut out = Vec::new();
    for terms in terms {
        let mut agreement = SignedAgreement::draft(terms);
        for party in [agreement.terms.asker.clone(), agreement.terms.holder.clone()] {
            if !rings.contains_key(&party) {
                rings.insert(party.clone(), ring(&dir.join(party.as_str()))?);
            }
            if let Some(ring) = rings.get(&party) {
                let signed = agreement.assent(&party, ring.key(KeyUse::Message), now);
                signed.map_err(|e| Failure::new("agreement", e))?;
            }
        }
        out.push(agreement);
    }
    Ok(out)
}

fn ring(home: &Path) -> Result<KeyRing, Failure> {
    let source = KeySource::Credential(home.join("credentials/storage.key"));
    let storage = StorageKey::obtain(&source, no_passphrase)?;
    KeyRing::open(&home.join("data/keys.sealed"), &storage).map_err(|e| Failure::new("key_ring", chain(&e)))
}

fn sign(manifest: &Manifest, officers: &BTreeMap<MemberId, SigningKey>) -> Result<SignedManifest, Failure> {
    let mut signed = SignedManifest::draft(manifest)?;
    for officer in officers.values().take(usize::from(manifest.officers.threshold)) {
        signed.sign(officer);
    }
    signed.accept_held()?;
    Ok(signed)
}

/// Tells the registry or a node which first manifest to accept.
fn pin(manifest: &SignedManifest, config: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(config)?;
    Ok(fs::write(config, format!("manifest_fingerprint = \"{}\"\n{text}", manifest.fingerprint()))?)
}

fn issuer(unit: &MemberId) -> String {
    format!("https://login.{unit}.example")
}

fn registry_toml(Plan { realm, address, .. }: &Plan) -> String {
    let listen = SocketAddr::new(*address, 0);
    format!(
        r#"realm = "{realm}"
data = "data"

[storage_key]
credential = "credentials/storage.key"

[pepper]
credential = "credentials/pepper.key"

[index.embedded]
cache_mib = 64

[peers]
listen = "{listen}"
certificate = "tls/cert.pem"
key = "tls/key.pem"
root = "tls/root.pem"
crl = "tls/crl.pem"
reload_seconds = 1
"#
    )
}

fn node_toml(Plan { realm, address, .. }: &Plan, unit: &MemberId) -> String {
    let listen = SocketAddr::new(*address, 0);
    format!(
        r#"realm = "{realm}"
member = "{unit}"
data = "data"

[storage_key]
credential = "credentials/storage.key"

[peers]
listen = "{listen}"
certificate = "tls/cert.pem"
key = "tls/key.pem"
root = "tls/root.pem"
crl = "tls/crl.pem"

[local]
listen = "{listen}"
certificate = "local/cert.pem"
key = "local/key.pem"

[local.tokens]
issuer = "{issuer}"
audience = "{AUDIENCE}"
jwks_file = "idp/jwks.json"

[local.tokens.roles]
"caseworker" = "caseworker"
"front-desk" = "front-desk"
"dpo" = "dpo"
"supervisor" = "supervisor"
"steward" = "steward"
"#,
        issuer = issuer(unit)
    )
}

/// Writes into a configuration the addresses a program took, so that it takes the same ones when it is started again.
///
/// # Errors
/// The file system's.
pub fn keep_addresses(config: &Path, listen: &[std::net::SocketAddr], registry: Option<&str>) -> Result<(), Failure> {
    let text = fs::read_to_string(config)?;
    let mut addresses = listen.iter();
    let mut out = String::new();
    if let Some(url) = registry.filter(|_| !text.starts_with("registry = ")) {
        out.push_str(&format!("registry = \"{url}\"\n"));
    }
    for line in text.lines() {
        match addresses.clone().next() {
            Some(address) if line.starts_with("listen = ") => {
                addresses.next();
                out.push_str(&format!("listen = \"{address}\"\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    Ok(keyring::write_atomically(config, out.as_bytes())?)
}

/// 16 random bytes for a ceremony.
///
/// # Errors
/// Without randomness.
pub fn session() -> Result<Bytes, Failure> {
    Ok(Bytes(keyring::random::<16>()?.to_vec()))
}

/// A random value for evidence in demonstrations: the SHA-256 a scan would have.
///
/// # Errors
/// Without randomness.
pub fn evidence() -> Result<String, Failure> {
    Ok(b64(&keyring::random::<32>()?))
}
