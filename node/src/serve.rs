//! A node at work: its listeners and what it does by itself.

use crate::admin::NodeStatus;
use crate::events::{Event, Happened};
use crate::node::{Node, NodeError, file};
use crate::store::Table;
use crate::{admin, approvals, ceremony, consents, epochs, local_api, newcomers, peer_api, results, review};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transport::ServerTls;

/// Until the first manifest is there.
const JOINING: Duration = Duration::from_millis(500);
const RELOAD: Duration = Duration::from_secs(2);
const DELIVER: Duration = Duration::from_secs(5);
const POLL_STATUS: Duration = Duration::from_secs(15);
const SWEEP: Duration = Duration::from_mins(1);
/// Between two readings of what the registry noticed: each is an entry of its log.
const REVIEW: Duration = Duration::from_mins(10);
/// Between two rounds of asking for cosignatures: with a checkpoint a second and a call of 3 s at most, everything is
/// cosigned within 60 s even when one round fails.
const COSIGN: Duration = Duration::from_secs(15);
/// How often it is looked whether a day began: then logs are compared, accesses looked through, old records removed, old
/// entries erased.
const DAILY: Duration = Duration::from_mins(10);
/// For what others cosigned of our log, at the start.
const RECALL: Duration = Duration::from_secs(2);

impl Node {
    /// Binds the admin socket.
    ///
    /// # Errors
    /// [`NodeError::File`].
    pub fn bind_admin(&self) -> Result<UnixListener, NodeError> {
        admin::bind(&self.config.data)
    }

    /// Serves members on `peers`, the institution's applications on `local` and whoever may write to the data directory
    /// on `admin` until `shutdown`, then drains.
    ///
    /// # Errors
    /// [`NodeError`] if a listener cannot be set up or fails.
    pub async fn serve(
        self: Arc<Self>,
        peers: TcpListener,
        local: Option<TcpListener>,
        admin: UnixListener,
        shutdown: CancellationToken,
    ) -> Result<(), NodeError> {
        self.load_followed()?;
        self.recall_log().await;
        let tls = ServerTls::mutual(self.trust.clone(), self.identity.clone())?;
        let tasks = TaskTracker::new();
        self.spawn_tasks(&tasks, &shutdown);
        if let (Some(listener), Some(config)) = (local, &self.config.local) {
            let read = |path: &std::path::Path| std::fs::read(path).map_err(file("cannot read", path));
            let tls = ServerTls::local(&read(&config.certificate)?, &read(&config.key)?)?;
            let router = local_api::router(self.clone());
            let (stop, limits) = (shutdown.clone(), self.config.limits.clone());
            tasks.spawn(async move {
                if let Err(error) = transport::serve(listener, tls, router, limits, stop.clone()).await {
                    tracing::error!(%error, "the local listener failed");
                    stop.cancel();
                }
            });
        }
        let admin = admin::serve(admin, self.clone(), shutdown.clone());
        let router = peer_api::router(&self);
        let limits = self.config.limits.clone();
        let peers = async {
            let served = transport::serve(peers, tls, router, limits, shutdown.clone()).await;
            shutdown.cancel();
            served.map_err(NodeError::from)
        };
        let (served, administered) = tokio::join!(peers, admin);
        shutdown.cancel();
        for tasks in [&tasks, &self.whole] {
            tasks.close();
            tasks.wait().await;
        }
        let ended = served.and(administered);
        self.note_close(&ended).await;
        ended
    }

    fn spawn_tasks(self: &Arc<Self>, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let crl = Some(self.config.peers.crl.clone());
        tasks.spawn(transport::watch(self.identity.clone(), self.trust.clone(), crl, RELOAD, shutdown.clone()));
        self.every(tasks, shutdown, |node| async move {
            // Why it fails is said there.
            if node.refresh().await.is_ok() {
                node.note_start().await;
                node.note_changes().await;
            }
            if let Err(error) = node.recall_status().await {
                tracing::error!(%error, "our status list is not made whole");
            }
            if let Err(error) = node.tend_shares().await {
                tracing::error!(%error, "the key shares are not as they should be");
            }
            node.until_refresh()
        });
        self.every(tasks, shutdown, |node| async move {
            ceremony::work(node).await;
            Duration::ZERO
        });
        self.every(tasks, shutdown, |node| async move { epochs::follow(&node).await });
        self.every(tasks, shutdown, |node| async move {
            if let Err(error) = consents::finish(&node).await {
                tracing::error!(%error, "withdrawals that wait cannot go on");
            }
            if let Err(error) = node.deliver().await {
                tracing::error!(%error, "the outbox cannot be read");
            }
            DELIVER
        });
        self.every(tasks, shutdown, |node| async move {
            node.ask_for_cosignatures().await;
            if node.held.load().is_some() { COSIGN } else { JOINING }
        });
        self.every(tasks, shutdown, |node| async move {
            node.reconcile_daily().await;
            node.look_for_anomalies_daily().await;
            node.sweep_records_daily().await;
            node.expire_log_daily().await;
            DAILY
        });
        self.every(tasks, shutdown, |node| async move {
            node.poll_statuses().await;
            POLL_STATUS
        });
        self.every(tasks, shutdown, |node| async move {
            if let Err(error) = approvals::sweep(&node).await {
                tracing::error!(%error, "questions past their time do not lapse");
            }
            if let Err(error) = newcomers::sweep(&node).await {
                tracing::error!(%error, "newcomers past their time are not removed");
            }
            SWEEP
        });
        self.every(tasks, shutdown, |node| async move {
            if node.held.load().is_none() {
                return JOINING;
            }
            review::round(&node).await;
            REVIEW
        });
        self.every(tasks, shutdown, |node| async move {
            let swept = tokio::task::spawn_blocking(move || {
                if let Err(error) = node.guard.sweep(node.clock.now()) {
                    tracing::error!(%error, "the guard cannot be swept");
                }
                if let Err(error) = results::sweep(&node) {
                    tracing::error!(%error, "old results cannot be removed");
                }
            });
            if swept.await.is_err() {
                tracing::error!("sweeping failed");
            }
            SWEEP
        });
    }

    /// Runs `work` again and again, as long after the last time as it says.
    fn every<F, Fut>(self: &Arc<Self>, tasks: &TaskTracker, shutdown: &CancellationToken, work: F)
    where
        F: Fn(Arc<Node>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Duration> + Send,
    {
        let (node, shutdown) = (self.clone(), shutdown.clone());
        tasks.spawn(async move {
            let again = async {
                loop {
                    let pause = work(node.clone()).await;
                    tokio::time::sleep(pause).await;
                }
            };
            let _stopped: Option<()> = shutdown.run_until_cancelled(again).await;
        });
    }

    /// Records the start once the clock was held against the registry's: an entry of a wrong time would be the floor of
    /// every later start.
    async fn note_start(&self) {
        if self.now().is_err() || self.start_noted.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.log.append(&Event::new(Happened::NodeStarted, &self.clock)).await {
            self.start_noted.store(false, Ordering::Relaxed);
            tracing::error!(%error, "the start is not recorded yet");
        }
    }

    /// Holds the log against what others cosigned of it. One that was restored from a backup takes nothing from then
    /// on, which closes the node.
    async fn recall_log(&self) {
        let Some(held) = self.held.load_full() else { return };
        if let Err(fault) = self.circle.recall(&self.client, &held.manifest, RECALL).await {
            tracing::error!(%fault, "the log is not what others cosigned: the node stays closed, see `ogniwo audit continue-after-restore`");
        }
    }

    /// How many hold on to it, or to its log: one once a stopped node has nothing left to do.
    #[must_use]
    pub fn handles(self: &Arc<Self>) -> usize {
        Arc::strong_count(self).max(Arc::strong_count(&self.circle))
    }

    /// Asks the others to cosign the newest checkpoint now, as the node does by itself every 15 seconds.
    pub async fn ask_for_cosignatures(&self) {
        let Ok(held) = self.manifest() else { return };
        if let Err(error) = self.log.checkpoint().await {
            tracing::error!(%error, "no checkpoint");
        } else if let Err(fault) = self.circle.gather(&self.client, &held.manifest).await {
            tracing::error!(%fault, "the log is not cosigned");
        }
    }

    /// What the node says of itself.
    ///
    /// # Errors
    /// The store's or the meters'.
    pub fn status(&self) -> Result<NodeStatus, NodeError> {
        let held = self.held.load_full();
        let read = self.store.read()?;
        Ok(NodeStatus {
            member: self.config.member.to_string(),
            state: self.ready().map_or_else(|reason| reason.code().to_owned(), |()| "ready".to_owned()),
            manifest_version: held.as_ref().map(|h| h.manifest.version),
            manifest_fingerprint: held.as_ref().map(|h| h.signed.fingerprint()),
            manifest_expires: held.as_ref().map(|h| h.manifest.expires),
            epoch: held.as_ref().and_then(|h| h.epoch(self.clock.now())).map(|(epoch, _)| epoch.epoch.0),
            registry_away: self.registry_away.load(Ordering::Relaxed),
            unrefreshed: self.unrefreshed.load().as_deref().cloned(),
            crl_number: self.trust.crl_number(),
            certificate_expires: self.identity.current().not_after(),
            clients: read.count(Table::FILES)?,
            log_entries: self.log.size(),
            cosigned: self.circle.coverage(),
            outbox: read.count(Table::OUTBOX)?,
            enrolled: epochs::enrolled(&read)?,
            re_enrolling: self.re_enrolling.load().as_ref().map(|now| (now.0.0, now.1)),
            shares: held.as_ref().map_or_else(Default::default, |held| {
                self.shares_held(held, self.clock.now()).into_iter().map(|(epoch, ok)| (epoch.0, ok)).collect()
            }),
            approvals: read.count(Table::APPROVALS)?,
            agreements: held.map(|held| self.usage(&held.manifest, self.clock.now())).transpose()?.unwrap_or_default(),
        })
    }
}
