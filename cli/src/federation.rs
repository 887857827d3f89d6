//! A founded federation at work: one registry and its nodes, each a process of this program or, for tests, inside this
//! one. Everything it is asked to do goes through the nodes' own sockets either way.

use crate::exit::{Failure, chain};
use crate::found::{Founded, Plan, Unit, found, keep_addresses, keep_manifest, registry_id};
use crate::inside::Inside;
use crate::process::{Listening, Process};
use crate::wire::{Admin, LocalApi, local_url};
use futures_util::future::try_join_all;
use node::{
    CeremonyStatus, EnrolSummary, ImportMode, ImportRequest, ImportSummary, Invitation, Progress, SessionRef,
    SharedSummary, Surroundings,
};
use protocol::manifest::KeyEpoch;
use protocol::{Epoch, Manifest, MemberId, SignedManifest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use transport::{Client, Clock, IdentityStore, Trust};

const DEADLINE: Duration = Duration::from_secs(10);
const AGREE: Duration = Duration::from_mins(1);

/// How the parts of a federation are run.
#[derive(Clone)]
pub enum Launcher {
    /// Each as a process of this program.
    Processes(PathBuf),
    /// All inside this process.
    Inside(Surroundings),
}

impl Launcher {
    /// The clock federations are founded by.
    fn clock(&self) -> Clock {
        match self {
            Launcher::Processes(_) => Clock::system(),
            Launcher::Inside(surroundings) => surroundings.clock.clone(),
        }
    }

    async fn start(&self, name: &str, config: &Path) -> Result<Part, Failure> {
        let program = match self {
            Launcher::Inside(surroundings) => {
                return Ok(Part::Inside(Inside::start(name, config, surroundings).await?));
            }
            Launcher::Processes(program) => program,
        };
        let part = if name == node::REGISTRY { "registry" } else { "node" };
        let log = config.with_file_name(format!("{name}.log"));
        let config = config.to_str().ok_or_else(|| Failure::new("value", "the directory's name is not UTF-8"))?;
        let process = Process::start(name, program, &[part, "run", "--config", config], &log).await?;
        Ok(Part::Process(process))
    }
}

/// A running registry or node.
#[expect(clippy::large_enum_variant, reason = "a handful of them")]
pub enum Part {
    /// As a process.
    Process(Process),
    /// Inside this process.
    Inside(Inside),
}

impl Part {
    /// Where it listens.
    #[must_use]
    pub fn listening(&self) -> Listening {
        match self {
            Part::Process(process) => process.listening,
            Part::Inside(inside) => inside.listening,
        }
    }

    /// Stops it in order and waits.
    ///
    /// # Errors
    /// What it ended with.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        match self {
            Part::Process(process) => process.stop().await,
            Part::Inside(inside) => inside.stop().await,
        }
    }

    /// Starts it again after it was stopped or killed.
    ///
    /// # Errors
    /// Whatever keeps it from starting.
    pub async fn restart(&mut self) -> Result<(), Failure> {
        match self {
            Part::Process(process) => process.restart().await,
            Part::Inside(inside) => inside.restart().await,
        }
    }
}

/// Addresses others are told instead of a part's own, such as a proxy's.
pub type Detour<'a> = &'a (dyn Fn(&str, SocketAddr) -> SocketAddr + Send + Sync);

/// A running federation.
pub struct Federation {
    /// Its directory, plan and officers.
    pub founded: Founded,
    /// Its registry.
    pub registry: Part,
    /// Its nodes.
    pub nodes: BTreeMap<MemberId, Part>,
    /// The clock it was founded by.
    pub clock: Clock,
    launcher: Launcher,
}

impl Federation {
    /// Founds a federation in `dir`, starts it, and lets the key holders give birth to the pseudonym key, of which
    /// `threshold` shares are needed. Members are told the addresses that `detour` makes of the real ones.
    ///
    /// # Errors
    /// [`Failure`] of whichever part does not come up.
    pub async fn start(
        launcher: &Launcher,
        dir: &Path,
        plan: Plan,
        threshold: u16,
        detour: Detour<'_>,
    ) -> Result<Self, Failure> {
        let clock = launcher.clock();
        let founded = found(dir, plan, clock.now())?;
        let config = founded.registry_config();
        let registry = launcher.start(node::REGISTRY, &config).await?;
        let address = registry.listening().peers;
        let registry_url = format!("https://{}", detour(node::REGISTRY, address));
        keep_addresses(&config, &[address], None)?;
        publish(&founded, &registry_url, &founded.manifest, &clock).await?;

        let mut nodes = BTreeMap::new();
        let mut endpoints = BTreeMap::from([(registry_id()?, registry_url.clone())]);
        for unit in &founded.plan.units {
            let config = founded.node_config(&unit.id);
            keep_addresses(&config, &[], Some(&registry_url))?;
            let node = start_node(launcher, &unit.id, &config).await?;
            let peers = detour(unit.id.as_str(), node.listening().peers);
            endpoints.insert(unit.id.clone(), format!("https://{peers}"));
            nodes.insert(unit.id.clone(), node);
        }
        let mut federation = Federation { founded, registry, nodes, clock, launcher: launcher.clone() };
        // Everybody pins the first manifest before there is a second.
        federation.agree(1).await?;
        let located = federation.founded.with_endpoints(federation.clock.now(), &endpoints)?;
        federation.publish(&located).await?;
        let epoch = federation.give_birth(Epoch(1), threshold).await?;
        let born = federation.founded.with_epoch(federation.clock.now(), epoch)?;
        federation.publish(&born).await?;
        Ok(federation)
    }

    /// Lets a further institution join: it is started, and the officers' next manifest has it, its agreements with everybody,
    /// and what else `change` makes of it.
    ///
    /// # Errors
    /// [`Failure`] of whichever part does not come up.
    pub async fn admit(&mut self, unit: Unit, change: impl FnOnce(&mut Manifest)) -> Result<(), Failure> {
        let (now, id) = (self.clock.now(), unit.id.clone());
        let mut joining = self.founded.add(unit, now)?;
        let config = self.founded.node_config(&id);
        keep_addresses(&config, &[], Some(&self.registry_url()))?;
        let node = start_node(&self.launcher, &id, &config).await?;
        joining.endpoints = vec![format!("https://{}", node.listening().peers)];
        self.nodes.insert(id.clone(), node);
        let agreements = self.founded.agreements_of(&id, now)?;
        let next = self.founded.next_manifest(now, |manifest| {
            manifest.members.push(joining);
            manifest.agreements.extend(agreements);
            change(manifest);
        })?;
        self.publish(&next).await
    }

    /// The registry's address.
    #[must_use]
    pub fn registry_url(&self) -> String {
        format!("https://{}", self.registry.listening().peers)
    }

    /// Publishes a manifest, keeps it as the newest one, and waits until every node goes by it.
    ///
    /// # Errors
    /// If the registry or a node refuses it.
    pub async fn publish(&self, manifest: &SignedManifest) -> Result<(), Failure> {
        publish(&self.founded, &self.registry_url(), manifest, &self.clock).await?;
        keep_manifest(&self.founded.dir, manifest)?;
        self.agree(manifest.read()?.version).await
    }

    /// Waits until every node goes by manifest `version`.
    async fn agree(&self, version: u64) -> Result<(), Failure> {
        let waiting = self.founded.plan.units.iter().map(|unit| async move {
            let admin = self.admin(&unit.id);
            let agreed = async {
                loop {
                    let status: node::NodeStatus = admin.get("/status").await?;
                    if status.manifest_version == Some(version) {
                        return Ok::<_, Failure>(());
                    }
                    let _changed: Value = admin.run("/refresh", &json!({}), &|_| {}).await?;
                }
            };
            let late = |_| Failure::new("manifest_refused", format!("{} does not take manifest {version}", unit.id));
            tokio::time::timeout(AGREE, agreed).await.map_err(late)?
        });
        try_join_all(waiting).await.map(drop)
    }

    /// Lets all key holders give birth to the key of `epoch`.
    ///
    /// # Errors
    /// If the ceremony is aborted, or holders report different keys.
    pub async fn give_birth(&self, epoch: Epoch, threshold: u16) -> Result<KeyEpoch, Failure> {
        let holders = self.founded.plan.units.iter().filter(|u| u.key_holder).map(|u| u.id.clone()).collect();
        let dealers = Vec::new();
        self.hold_ceremony(&Invitation { epoch, threshold: Some(threshold), holders, dealers, not_before: None }).await
    }

    /// Lets everybody whom it concerns hold a ceremony: the first one named invites, the others join.
    ///
    /// # Errors
    /// If the ceremony is aborted, or participants report different results.
    pub async fn hold_ceremony(&self, invitation: &Invitation) -> Result<KeyEpoch, Failure> {
        let first = invitation.dealers.first().or(invitation.holders.first());
        let first = first.ok_or_else(|| Failure::new("value", "a ceremony without holders"))?;
        let status: CeremonyStatus = self.admin(first).run("/keyholder/invite", invitation, &|_| {}).await?;
        let at = SessionRef { session: status.ceremony.session.clone() };
        let ends = status.ceremony.participants().into_values().map(|member| {
            let (admin, at) = (self.admin(&member), &at);
            async move {
                self.join(&admin, at).await?;
                admin.run::<KeyEpoch>("/keyholder/wait", at, &|_| {}).await
            }
        });
        let results = try_join_all(ends).await?;
        match results.split_first() {
            Some((first, others)) if others.iter().all(|other| other == first) => Ok(first.clone()),
            _ => Err(Failure::new("ceremony_aborted", "the holders report different keys")),
        }
    }

    /// Joins as soon as the invitation is there.
    async fn join(&self, admin: &Admin, at: &SessionRef) -> Result<(), Failure> {
        let invited = async {
            loop {
                let all: Vec<CeremonyStatus> = admin.get("/keyholder").await?;
                if all.iter().any(|known| known.ceremony.session == at.session) {
                    return admin.run::<CeremonyStatus>("/keyholder/join", at, &|_| {}).await.map(drop);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let late = |_| Failure::new("ceremony_aborted", "the invitation did not arrive");
        tokio::time::timeout(AGREE, invited).await.map_err(late)?
    }

    /// A node's admin socket.
    #[must_use]
    pub fn admin(&self, unit: &MemberId) -> Admin {
        Admin::of(&self.founded.node_data(unit))
    }

    /// A node's local API.
    ///
    /// # Errors
    /// If the node has none.
    pub fn local(&self, unit: &MemberId) -> Result<LocalApi, Failure> {
        let address = self.nodes.get(unit).and_then(|node| node.listening().local);
        let address = address.ok_or_else(|| Failure::new("value", format!("{unit} has no local API")))?;
        LocalApi::new(&local_url(address), &self.founded.local_ca(unit))
    }

    /// A token for a user of an institution.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn token(&self, unit: &MemberId, user: &str, roles: &[&str]) -> Result<String, Failure> {
        self.founded.identity_provider(unit)?.token(user, roles, self.clock.now())
    }

    /// Imports an extract.
    ///
    /// # Errors
    /// The import's own.
    pub async fn import(
        &self,
        unit: &MemberId,
        mapping: PathBuf,
        extract: PathBuf,
        mode: ImportMode,
        report: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<ImportSummary, Failure> {
        let request = ImportRequest { mapping, extract, rejects: None, mode, dry_run: false, remove_many: true };
        self.admin(unit).run("/import", &request, report).await
    }

    /// Enrols a unit's clients.
    ///
    /// # Errors
    /// The enrolment's own.
    pub async fn enrol(
        &self,
        unit: &MemberId,
        report: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<EnrolSummary, Failure> {
        self.admin(unit).run("/enrol", &json!({}), report).await
    }

    /// Counts a unit's shared clients through the registry; `list` names them.
    ///
    /// # Errors
    /// The run's own.
    pub async fn shared(&self, unit: &MemberId, list: bool) -> Result<SharedSummary, Failure> {
        self.admin(unit).run(&format!("/shared?list={list}"), &json!({}), &|_| {}).await
    }

    /// Stops every process and waits for it.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        try_join_all(self.nodes.values_mut().map(Part::stop)).await?;
        self.registry.stop().await
    }
}

/// Starts a node, which keeps the addresses it takes.
async fn start_node(launcher: &Launcher, unit: &MemberId, config: &Path) -> Result<Part, Failure> {
    let node = launcher.start(unit.as_str(), config).await?;
    let Listening { peers, local } = node.listening();
    let addresses: Vec<_> = [Some(peers), local].into_iter().flatten().collect();
    keep_addresses(config, &addresses, None)?;
    Ok(node)
}

/// Brings a manifest to the registry, as any member may: the officers' signatures decide.
async fn publish(founded: &Founded, url: &str, manifest: &SignedManifest, clock: &Clock) -> Result<(), Failure> {
    let tls = founded.dir.join("registry/tls");
    put_manifest(&tls, &founded.plan.realm, url, manifest, clock).await
}

/// Brings a manifest to the registry at `url` with the certificate in `tls`.
///
/// # Errors
/// If the registry is out of reach or refuses it.
pub async fn put_manifest(
    tls: &Path,
    realm: &protocol::Realm,
    url: &str,
    manifest: &SignedManifest,
    clock: &Clock,
) -> Result<(), Failure> {
    put(tls, realm, (url, "/v1/manifest"), manifest, clock).await.map_err(|failure| match failure.code.as_str() {
        "registry_refused" => Failure::new("manifest_refused", failure.message),
        _ => failure,
    })
}

/// Brings a document the officers signed to `path` of the registry at `url` with the certificate in `tls`.
///
/// # Errors
/// `registry_refused` if it refuses, `registry_unavailable` if it is out of reach.
pub(crate) async fn put(
    tls: &Path,
    realm: &protocol::Realm,
    (url, path): (&str, &str),
    document: &impl serde::Serialize,
    clock: &Clock,
) -> Result<(), Failure> {
    let files = ["cert.pem", "key.pem", "root.pem", "crl.pem"].map(|name| tls.join(name));
    let client = client(files.each_ref().map(PathBuf::as_path), realm, clock)?;
    let body = serde_json::to_vec(document).map_err(|e| Failure::new("internal", e))?;
    let request = http::Request::put(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(bytes::Bytes::from(body))
        .map_err(|e| Failure::new("internal", e))?;
    let to = protocol::SpiffeId::new(realm.clone(), registry_id()?);
    client.call(&to, url, request, DEADLINE).await.map(drop).map_err(|error| refused(url, error))
}

/// A member as it calls others, with its certificate, key, root and revocation list in these files.
pub(crate) fn client(
    [certificate, key, root, crl]: [&Path; 4],
    realm: &protocol::Realm,
    clock: &Clock,
) -> Result<Client, Failure> {
    let unusable = |e: &dyn std::error::Error| Failure::new("certificate", chain(e));
    let identity = IdentityStore::load(certificate, key).map_err(|e| unusable(&e))?;
    let (root, crl) = (std::fs::read_to_string(root)?, std::fs::read_to_string(crl)?);
    let trust = Trust::load(&root, Some(&crl), realm.clone(), clock.clone()).map_err(|e| unusable(&e))?;
    Ok(Client::new(Arc::new(identity), Arc::new(trust), clock.clone()))
}

/// What became of a call to the registry at `url`.
pub(crate) fn refused(url: &str, error: transport::CallError) -> Failure {
    match error {
        transport::CallError::Problem(problem) => {
            let words = problem.detail.unwrap_or(problem.title);
            let refused = Failure::new("registry_refused", format!("the registry refuses: {words} ({})", problem.code));
            Failure { said: problem.message, ..refused }
        }
        error => Failure::new("registry_unavailable", format!("the registry at {url}: {}", chain(&error))),
    }
}
