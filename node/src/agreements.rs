//! Agreements with other institutions: this one's word that it agrees, and that one is over.
//!
//! Terms travel in the manifest. A revocation does not wait for the next one: it binds here from the moment it is written,
//! at the other party as soon as it hears of it, and everywhere once the officers put it into the manifest.

use crate::events::{Event, Happened};
use crate::grants::GrantError;
use crate::node::{Node, NodeError};
use crate::store::{StoreError, Table};
use arc_swap::ArcSwap;
use policies::Library;
use protocol::agreement::{Agreement, AgreementError, AgreementRef, SignedAgreement};
use protocol::manifest::KeyUse;
use protocol::{Manifest, MemberId, Reason};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where members hear of revocations.
pub(crate) const REVOCATIONS: &str = "/v1/agreement-revocations";

/// Agreements revoked by a party's word, whether or not the manifest says so already.
#[derive(Default)]
pub(crate) struct Revoked(ArcSwap<Vec<AgreementRef>>);

impl Revoked {
    pub(crate) fn get(&self) -> Arc<Vec<AgreementRef>> {
        self.0.load_full()
    }
}

/// A revocation as it is kept, under the digest of the terms.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    agreement: AgreementRef,
    token: String,
}

/// This institution's word about an agreement.
#[derive(Debug, Serialize, Deserialize)]
pub struct Word {
    /// About which.
    pub agreement: AgreementRef,
    /// A compact JWS of `protocol::agreement::Assent` or `AgreementRevocation`.
    pub token: String,
    /// Whether the other party is yet to hear of a revocation.
    #[serde(default)]
    pub waiting: bool,
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum AgreeError {
    /// No manifest, or the clock.
    #[error("the node is closed: {}", .0.code())]
    Closed(Reason),
    /// Neither side is ours.
    #[error("this institution is not a party to it")]
    NotOurs,
    /// A member, query type, field or purpose that nobody knows.
    #[error("`{field}` names what neither the manifest nor the policy library knows")]
    Unknown {
        /// Which part of the terms.
        field: &'static str,
    },
    /// Terms that contradict each other.
    #[error(transparent)]
    Terms(#[from] AgreementError),
    /// The same id and version was agreed on otherwise.
    #[error("version {} of `{}` is agreed on already: change it by the next version", .0.version, .0.id)]
    Agreed(AgreementRef),
    /// Not in the manifest held.
    #[error("the manifest held has no such agreement")]
    Missing,
    /// The store or the log.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl AgreeError {
    /// Stable code, as the command line and its exit status use it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            AgreeError::Closed(reason) => reason.code(),
            AgreeError::NotOurs | AgreeError::Unknown { .. } | AgreeError::Terms(_) => "value",
            AgreeError::Agreed(_) => "exists",
            AgreeError::Missing => "agreement_missing",
            AgreeError::Node(error) => error.code(),
        }
    }
}

impl From<StoreError> for AgreeError {
    fn from(error: StoreError) -> Self {
        AgreeError::Node(error.into())
    }
}

/// Whether both sides, the query types, their fields and the purposes are known, and one side is `me`.
fn known(terms: &Agreement, me: &MemberId, manifest: &Manifest, library: &Library) -> Result<(), AgreeError> {
    let catalogue = library.catalogue();
    let unknown = |field| Err(AgreeError::Unknown { field });
    if &terms.asker != me && &terms.holder != me {
        return Err(AgreeError::NotOurs);
    }
    if manifest.member(&terms.asker).is_none() {
        return unknown("asker");
    }
    if manifest.member(&terms.holder).is_none() {
        return unknown("holder");
    }
    let queries: Option<Vec<_>> = terms.queries.iter().map(|id| catalogue.queries.get(id)).collect();
    let Some(queries) = queries.filter(|queries| !queries.is_empty()) else { return unknown("queries") };
    if !terms.fields.iter().all(|field| queries.iter().any(|query| query.fields.contains(field))) {
        return unknown("fields");
    }
    if terms.purposes.is_empty() || !terms.purposes.iter().all(|purpose| catalogue.purposes.contains_key(purpose)) {
        return unknown("purposes");
    }
    Ok(())
}

impl Node {
    /// Reads the revocations kept.
    pub(crate) fn load_revoked(&self) -> Result<(), StoreError> {
        let read = self.store.read()?;
        let kept = read.each::<Kept>(Table::REVOKED)?.map(|row| Ok(row?.1.agreement));
        self.revoked.0.store(Arc::new(kept.collect::<Result<_, StoreError>>()?));
        Ok(())
    }

    /// Signs `terms` for this institution, once they name nothing unknown. Recorded.
    pub(crate) async fn assent(&self, terms: Agreement) -> Result<Word, AgreeError> {
        let held = self.manifest().map_err(AgreeError::Closed)?;
        let now = self.now().map_err(AgreeError::Closed)?;
        known(&terms, &self.config.member, &held.manifest, self.engine.library())?;
        let agreement = terms.reference();
        let mut before = held.manifest.agreements.iter().filter(|signed| signed.terms.reference() == agreement);
        if before.any(|signed| signed.terms != terms) {
            return Err(AgreeError::Agreed(agreement));
        }
        let mut signed = SignedAgreement::draft(terms);
        signed.assent(&self.config.member, self.keys.key(KeyUse::Message), now)?;
        let token = signed.assents.remove(&self.config.member).ok_or(AgreementError::Unsigned)?;
        self.note(&signed.terms, "assented to here".to_owned()).await?;
        Ok(Word { agreement, token, waiting: false })
    }

    /// Revokes an agreement of this institution: effective first, recorded next, told to the other party last.
    pub(crate) async fn revoke_agreement(&self, agreement: &AgreementRef) -> Result<Word, AgreeError> {
        let held = self.manifest().map_err(AgreeError::Closed)?;
        let now = self.now().map_err(AgreeError::Closed)?;
        let signed = held.manifest.agreements.iter().find(|signed| &signed.terms.reference() == agreement);
        let signed = signed.ok_or(AgreeError::Missing)?;
        let me = &self.config.member;
        let other = match (&signed.terms.asker, &signed.terms.holder) {
            (asker, holder) if asker == me => holder,
            (asker, holder) if holder == me => asker,
            _ => return Err(AgreeError::NotOurs),
        };
        let token = signed.revoke(me, self.keys.key(KeyUse::Message), now)?;
        let key = signed.terms.digest()?;
        let kept = Kept { agreement: agreement.clone(), token: token.clone() };
        let before = self.store.write(|write| {
            let before: Option<Kept> = write.get(Table::REVOKED, &key)?;
            if before.is_none() {
                write.put(Table::REVOKED, &key, &kept)?;
                write.post(other, REVOCATIONS, token.clone(), now)?;
            }
            Ok::<_, StoreError>(before)
        })?;
        if before.is_none() {
            self.load_revoked()?;
            self.note(&signed.terms, "revoked here".to_owned()).await?;
        }
        let waiting = self.deliver().await?.contains(other);
        let Kept { agreement, token } = before.unwrap_or(kept);
        Ok(Word { agreement, token, waiting })
    }

    async fn note(&self, terms: &Agreement, detail: String) -> Result<(), NodeError> {
        let mut event = Event::new(Happened::AgreementChanged, &self.clock);
        event.agreement = Some(terms.reference().to_string());
        event.holder = Some(terms.holder.clone());
        event.detail = Some(detail);
        let _recorded = self.log.append(&event).await?;
        Ok(())
    }
}

/// Takes the other party's word that an agreement is over.
pub(crate) async fn take_revocation(node: &Node, peer: &MemberId, token: &str) -> Result<(), GrantError> {
    let held = node.manifest().map_err(GrantError::Closed)?;
    node.now().map_err(GrantError::Closed)?;
    let mut agreements = held.manifest.agreements.iter();
    let found = agreements.find_map(|signed| Some((signed, signed.revoked_by(token, &held.manifest).ok()?)));
    let (signed, revocation) = found.ok_or(GrantError::Refused(Reason::AgreementMissing))?;
    let parties = [&signed.terms.asker, &signed.terms.holder];
    if &revocation.iss != peer || !parties.contains(&&node.config.member) {
        return Err(GrantError::Refused(Reason::AgreementMissing));
    }
    let key = revocation.agreement.0.as_slice();
    let kept = Kept { agreement: signed.terms.reference(), token: token.to_owned() };
    let fresh = node.store.write(|write| {
        let fresh = !write.has(Table::REVOKED, key)?;
        if fresh {
            write.put(Table::REVOKED, key, &kept)?;
        }
        Ok::<_, StoreError>(fresh)
    })?;
    if fresh {
        node.load_revoked()?;
        node.note(&signed.terms, format!("revoked by {peer}")).await?;
    }
    Ok(())
}
