//! What the node works by, and when that changed: the policy library, the institution's own policies, its certificate,
//! the revocation list.
//!
//! What was recorded last is kept, so that a change made while the node was stopped is recorded at its start.

use crate::events::{Event, Happened};
use crate::node::{Node, NodeError};
use crate::store::Table;
use protocol::encoding::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;

/// Key in `state` of what was recorded last.
const IN_USE: &[u8] = b"in_use";

/// Digests of what is in use.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct InUse {
    library: Option<Bytes>,
    policies: Option<Bytes>,
    certificate: Option<Bytes>,
    /// Number of the revocation list.
    #[serde(default)]
    crl: Option<u64>,
}

impl Node {
    /// Records what is in use, if it is not what was recorded last.
    pub(crate) async fn note_changes(&self) {
        if let Err(error) = self.changes().await {
            tracing::error!(%error, "a change of policies, certificate or revocation list is not recorded yet");
        }
    }

    async fn changes(&self) -> Result<(), NodeError> {
        let known: InUse = self.store.read()?.get(Table::STATE, IN_USE)?.unwrap_or_default();
        let crl = self.trust.crl_counts();
        let used = InUse {
            library: Some(Bytes(self.engine.library().digest().to_vec())),
            policies: self.policies.clone(),
            certificate: Some(Bytes(self.identity.current().cert_sha256().to_vec())),
            crl: crl.map(|(number, _)| number),
        };
        // Nothing is recorded by a clock that is not believed, nor before the start is.
        if self.now().is_err() || !self.start_noted.load(Ordering::Relaxed) || known == used {
            return Ok(());
        }
        if (&known.library, &known.policies) != (&used.library, &used.policies) {
            let mut event = Event::new(Happened::PolicyChanged, &self.clock);
            event.library.clone_from(&used.library);
            event.policies.clone_from(&used.policies);
            let _recorded = self.log.append(&event).await?;
        }
        if known.certificate != used.certificate {
            let mut event = Event::new(Happened::CertificateChanged, &self.clock);
            event.certificate.clone_from(&used.certificate);
            let _recorded = self.log.append(&event).await?;
        }
        if let Some((number, revoked)) = crl.filter(|_| known.crl != used.crl) {
            let event = Event::new(Happened::CrlChanged, &self.clock);
            let _recorded = self.log.append(&event.counting([("number", number), ("revoked", revoked as u64)])).await?;
        }
        self.store.write(|write| Ok(write.put(Table::STATE, IN_USE, &used)?))
    }

    /// Records that the node closes, and by what.
    pub(crate) async fn note_close(&self, ended: &Result<(), NodeError>) {
        if self.now().is_err() || !self.start_noted.load(Ordering::Relaxed) {
            return;
        }
        let mut event = Event::new(Happened::NodeClosed, &self.clock);
        event.detail = Some(ended.as_ref().err().map_or("stopped", NodeError::code).to_owned());
        if let Err(error) = self.log.append(&event).await {
            tracing::error!(%error, "the end is not recorded");
        }
    }
}
