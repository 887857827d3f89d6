//! The registry's log among the others': held against what they cosigned, cosigned again every 15 seconds.

use crate::server::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(15);
/// For what others cosigned of our log, at the start.
const RECALL: Duration = Duration::from_secs(2);

pub(crate) async fn run(registry: Arc<Registry>, shutdown: CancellationToken) {
    loop {
        if shutdown.run_until_cancelled(registry.ask_for_cosignatures()).await.is_none()
            || shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none()
        {
            return;
        }
    }
}

impl Registry {
    /// Asks the members to cosign the newest checkpoint now, as the registry does by itself every 15 seconds.
    pub async fn ask_for_cosignatures(&self) {
        let Some(held) = self.manifests.held() else { return };
        if let Err(error) = self.log().checkpoint().await {
            tracing::error!(reason = error.to_string(), "no checkpoint");
        } else if let Err(fault) = self.circle.gather(self.client(), &held.manifest).await {
            tracing::error!(reason = fault.to_string(), "the log is not cosigned");
        }
    }

    /// Holds the log against what the members cosigned of it. One that was restored from a backup takes nothing from
    /// then on, which closes the registry.
    pub(crate) async fn recall_log(&self) {
        let Some(held) = self.manifests.held() else { return };
        if let Err(fault) = self.circle.recall(self.client(), &held.manifest, RECALL).await {
            tracing::error!(
                reason = fault.to_string(),
                "the log is not what members cosigned: the registry stays closed"
            );
        }
    }
}
