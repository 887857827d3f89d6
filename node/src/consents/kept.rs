//! A consent as it is kept at the institution that recorded it.

use super::{ConsentError, ConsentReceipt};
use crate::manifests::Held;
use crate::node::Node;
use policies::Template;
use policies::receipt::Tongue;
use policies::record::{self, Answer, Answers, ConsentEvent, ConsentRecord, Method, Party};
use protocol::consent::{Acting, Grant, TemplateRef};
use protocol::encoding::Bytes as B64;
use protocol::saying::Message;
use protocol::{ConsentId, FieldId, FileId, MemberId, Purpose, Reason, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A consent as kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Consent {
    pub(super) file: FileId,
    pub(super) template: TemplateRef,
    pub(super) recipient: MemberId,
    pub(super) purposes: BTreeSet<Purpose>,
    pub(super) days: u32,
    pub(super) valid_from: Timestamp,
    pub(super) valid_to: Timestamp,
    pub(super) acting: Acting,
    pub(super) method: Method,
    /// In which the resident read the template.
    pub(super) language: Tongue,
    pub(super) evidence: B64,
    pub(super) answers: Answers,
    /// Place in our status list, once it was given.
    pub(super) position: Option<u32>,
    pub(super) grants: Vec<Grant>,
    pub(super) renews: Option<ConsentId>,
    /// What happened to it, oldest first; never changed, only added to.
    pub(super) events: Vec<ConsentEvent>,
}

impl Consent {
    /// Holders besides us that are to be told of its end.
    pub(super) fn others(&self, node: &Node) -> u64 {
        self.grants.iter().filter(|grant| grant.aud != node.config.member).count() as u64
    }

    /// The modules answered with `answer`.
    pub(super) fn answered(&self, answer: Answer) -> BTreeSet<String> {
        let such = self.answers.iter().filter(|(_, given)| **given == answer);
        such.map(|(module, _)| module.clone()).collect()
    }

    pub(super) fn template_of<'n>(&self, node: &'n Node) -> Result<&'n Template, ConsentError> {
        node.engine.library().catalogue().template(&self.template).ok_or(ConsentError::Unknown)
    }

    /// The same, asked and not answered.
    pub(super) fn asked_again(self) -> Self {
        Consent { position: None, grants: Vec::new(), events: Vec::new(), ..self }
    }

    /// What each holder may still release by the modules that stand.
    fn releases(
        &self,
        node: &Node,
        held: &Held,
        standing: &BTreeSet<String>,
    ) -> Result<BTreeMap<MemberId, BTreeSet<FieldId>>, ConsentError> {
        let template = self.template_of(node)?;
        let of = |grant: &Grant| {
            let kind = held.manifest.member(&grant.aud).map(|member| &member.kind);
            let permitted = template.permissions(standing).filter(|permission| Some(&permission.holder_kind) == kind);
            let fields = permitted.flat_map(|permission| &permission.fields);
            (grant.aud.clone(), fields.filter(|field| grant.fields.contains(*field)).cloned().collect())
        };
        Ok(self.grants.iter().map(of).collect())
    }

    /// Lends the consent as the policies' pure functions take it.
    pub(super) fn with<T>(
        &self,
        node: &Node,
        held: &Held,
        id: ConsentId,
        lend: impl FnOnce(&ConsentRecord<'_>) -> T,
    ) -> Result<T, ConsentError> {
        let party = |member: &'_ MemberId| {
            held.manifest.member(member).map(|m| Party { id: &m.id, name: &m.name, kind: &m.kind })
        };
        let known = |member| party(member).ok_or(ConsentError::Refused(Reason::PeerUnknown));
        let holders: Vec<_> = self.grants.iter().filter_map(|grant| party(&grant.aud)).collect();
        let record = ConsentRecord {
            id,
            template: self.template_of(node)?,
            reference: &self.template,
            acting: self.acting,
            answers: &self.answers,
            recorder: known(&node.config.member)?,
            recipient: known(&self.recipient)?,
            holders: &holders,
            purposes: &self.purposes,
            valid_from: self.valid_from,
            valid_to: self.valid_to,
            method: self.method,
            language: self.language,
            evidence: &self.evidence.0,
            events: &self.events,
        };
        Ok(lend(&record))
    }

    pub(super) fn receipt(
        &self,
        node: &Node,
        held: &Held,
        id: ConsentId,
        undelivered: &BTreeSet<MemberId>,
        now: Timestamp,
    ) -> Result<ConsentReceipt, ConsentError> {
        let (state, standing) = self.with(node, held, id, |record| (record.state(now), record.standing(now)))?;
        let holders = self.releases(node, held, &standing)?;
        let in_force = matches!(state, record::ConsentState::Given | record::ConsentState::Renewed);
        let message = (in_force && holders.is_empty()).then(|| Message {
            pl: "Zgoda dziś nie dotyczy żadnej jednostki.".to_owned(),
            en: "No unit is concerned by the consent today.".to_owned(),
        });
        Ok(ConsentReceipt {
            id,
            state: state.into(),
            template: format!("{}@{}", self.template.id, self.template.version),
            standing,
            recipient: self.recipient.clone(),
            valid_from: self.valid_from.0,
            valid_to: self.valid_to.0,
            undelivered: holders.keys().filter(|h| undelivered.contains(*h)).cloned().collect(),
            holders,
            message,
            renews: self.renews,
        })
    }
}
