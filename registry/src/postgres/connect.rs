//! From settings to a pool of connections that can be trusted with what they acknowledge.
//!
//! **Transport.** Over TCP always TLS 1.3 under the root named in the settings, the server's name checked. A Unix socket
//! goes without.
//!
//! **Durability.** PostgreSQL acknowledges a commit when `synchronous_commit` says so. A connection where that is less than
//! `on` is set to `on`. A server with `fsync = off` is refused. Whether a commit also waits for a standby
//! (`synchronous_standby_names`) is for the operator to set: without it, a primary that is lost takes its last
//! acknowledged entries along. Where the settings require a standby a server without one is refused, at every connection.

use super::unusable;
use crate::config::PostgresConfig;
use crate::store::StoreError;
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// To find a free connection, or to make one.
const WAIT: Duration = Duration::from_secs(5);
/// The server gives up on a statement itself, so that none outlives its caller for long.
const SESSION: &str = "SET statement_timeout = '15s'";
/// One plan for every batch: the keys are always looked up by the primary key, and planning for thousands of them costs
/// more than reading them. Other servers of the protocol do not know the setting.
const PLAN: &str = "SET plan_cache_mode = force_generic_plan";
const SETTINGS: &str = "SELECT current_setting('fsync', true), current_setting('full_page_writes', true), \
     current_setting('synchronous_commit', true), current_setting('synchronous_standby_names', true)";

/// Makes the pool, of sessions that the server lists as of `application`. Connects to nobody yet.
pub(super) fn pool(settings: &PostgresConfig, application: &str) -> Result<Pool, StoreError> {
    let mut config: Config = settings.url.parse().map_err(|e| unusable(&e))?;
    if let Some(path) = &settings.password {
        let password =
            std::fs::read_to_string(path).map_err(|e| StoreError(format!("{} cannot be read: {e}", path.display())))?;
        config.password(password.trim_end());
    }
    config.application_name(application).connect_timeout(WAIT).keepalives_idle(Duration::from_secs(30));
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let by_network = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
    let manager = match &settings.root {
        Some(root) => {
            config.ssl_mode(SslMode::Require);
            Manager::from_config(config, MakeRustlsConnect::new(tls(root)?), recycling)
        }
        None if by_network => {
            return Err(StoreError("a database reached over the network needs index.postgres.root".to_owned()));
        }
        None => Manager::from_config(config, NoTls, recycling),
    };
    let require_standby = settings.require_standby;
    let prepare = Hook::async_fn(move |client, _| {
        Box::pin(async move {
            prepare(client, require_standby).await.map(drop).map_err(|error| HookError::message(error.0))
        })
    });
    Pool::builder(manager)
        .max_size(settings.connections)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts { wait: Some(WAIT), create: Some(WAIT), recycle: Some(WAIT) })
        .post_create(prepare)
        .build()
        .map_err(|error| StoreError(error.to_string()))
}

/// Checks what the server promises with an acknowledgement. Returns what could be safer.
pub(super) async fn prepare(client: &Client, require_standby: bool) -> Result<Vec<String>, StoreError> {
    client.batch_execute(SESSION).await.map_err(|e| unusable(&e))?;
    if let Err(error) = client.batch_execute(PLAN).await {
        tracing::debug!(reason = unusable(&error).0, "the server plans by itself");
    }
    let settings = client.query_one(SETTINGS, &[]).await.map_err(|e| unusable(&e))?;
    let [fsync, full_page_writes, commit, standbys] = [0, 1, 2, 3].map(|n| settings.try_get::<_, Option<String>>(n));
    let read = |setting: Result<Option<String>, tokio_postgres::Error>| setting.map_err(|e| unusable(&e));
    let (fsync, full_page_writes, commit, standbys) =
        (read(fsync)?, read(full_page_writes)?, read(commit)?, read(standbys)?);
    if fsync.as_deref() == Some("off") {
        return Err(StoreError(
            "the database runs with fsync = off: a power cut loses acknowledged entries".to_owned(),
        ));
    }
    if !matches!(commit.as_deref(), Some("on" | "remote_apply") | None) {
        client.batch_execute("SET synchronous_commit = on").await.map_err(|e| unusable(&e))?;
    }
    let mut warnings = Vec::new();
    if full_page_writes.as_deref() == Some("off") {
        warnings.push("full_page_writes is off: only a file system that never tears a page may do that".to_owned());
    }
    match standbys.as_deref() {
        Some("") if require_standby => {
            let missing = "synchronous_standby_names is empty and index.postgres.require_standby is set";
            return Err(StoreError(missing.to_owned()));
        }
        Some("") => warnings.push(
            "synchronous_standby_names is empty: if the primary is lost, acknowledged entries are lost with it"
                .to_owned(),
        ),
        None => warnings.push("the database does not tell how many copies acknowledge a commit".to_owned()),
        Some(_) => {}
    }
    Ok(warnings)
}

fn tls(root: &std::path::Path) -> Result<ClientConfig, StoreError> {
    let broken = |e: &dyn std::fmt::Display| StoreError(format!("{}: {e}", root.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root).map_err(|e| broken(&e))? {
        roots.add(certificate.map_err(|e| broken(&e))?).map_err(|e| broken(&e))?;
    }
    let provider = transport::provider();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| broken(&e))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
