//! A consent is asked for, answered, given anew.

use super::kept::Consent;
use super::{
    ConsentAnswer, ConsentBody, ConsentError, ConsentReceipt, ConsentRequest, ModuleAnswer, end, event, kept,
    may_record, note, on_paper,
};
use crate::desk;
use crate::events::Happened;
use crate::faults::Expected;
use crate::flags;
use crate::grants::{keep_grant, keep_refusal};
use crate::manifests::Held;
use crate::node::Node;
use crate::residents::{Whereabouts, client, find, pseudonyms, subject_at, whereabouts};
use crate::store::Table;
use crate::tokens::Caller;
use keyring::random;
use policies::Template;
use policies::receipt::Tongue;
use policies::record::{self, Answer, Answers, ConsentEvent, ConsentHappened};
use protocol::consent::{Acting, Grant, TemplateRef};
use protocol::encoding::Bytes as B64;
use protocol::jws;
use protocol::notice::Refused;
use protocol::time::DAY_SECONDS;
use protocol::{ConsentId, Epoch, FieldId, FileId, Index, MemberId, MemberKind, Purpose, Reason, SubjectId, Timestamp};
use pseudonym::Output;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Notes that a resident was asked. The answer comes later, to the version of the template that is current now.
pub(crate) async fn request(
    node: &Arc<Node>,
    caller: &Caller,
    body: &ConsentRequest,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let file = find(node, &body.resident)?.ok_or(ConsentError::NotServed)?;
    let consent = asked(node, &held, body, file, event(node, caller, ConsentHappened::Requested, None, now), now)?;
    let id = ConsentId(random()?);
    note(node, caller, Happened::ConsentRequested, id, &consent, None).await?;
    node.store.write(|write| write.put(Table::CONSENTS, id.as_bytes(), &consent))?;
    consent.receipt(node, &held, id, &BTreeSet::new(), now)
}

/// Records a consent and grants it to every holder concerned.
pub(crate) async fn record(
    node: &Arc<Node>,
    caller: &Caller,
    body: ConsentBody,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let ConsentBody { resident, template, recipient, purposes, days, .. } = body;
    let request = ConsentRequest { resident, template, recipient, purposes, days };
    let ConsentBody { modules, acting, other_guardians, method, language, evidence_sha256, .. } = body;
    let answer = ConsentAnswer { modules, acting, other_guardians, method, language, evidence_sha256 };
    checked(node, &held, &request)?;
    let file = find(node, &request.resident)?.ok_or(ConsentError::NotServed)?;
    let consent = asked(node, &held, &request, file, event(node, caller, ConsentHappened::Requested, None, now), now)?;
    answered(node, caller, &held, ConsentId(random()?), consent, &answer, ConsentHappened::Given, now).await
}

/// Records the answer to a consent that was asked for.
pub(crate) async fn answer(
    node: &Arc<Node>,
    caller: &Caller,
    id: ConsentId,
    body: &ConsentAnswer,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let consent = kept(node, id)?;
    if consent.with(node, &held, id, |record| record.state(now))? != record::ConsentState::Requested {
        return Err(ConsentError::Value {
            field: "id",
            expected: Expected::new("a consent that was not answered yet", "zgoda, na którą jeszcze nie odpowiedziano"),
        });
    }
    answered(node, caller, &held, id, consent, body, ConsentHappened::Given, now).await
}

/// Asks again: a new consent to the current version of the template, which names the old one.
pub(crate) async fn renew(
    node: &Arc<Node>,
    caller: &Caller,
    old: ConsentId,
    body: &ConsentAnswer,
) -> Result<ConsentReceipt, ConsentError> {
    may_record(caller)?;
    let held = node.manifest().map_err(ConsentError::Closed)?;
    let now = node.now().map_err(ConsentError::Closed)?;
    let before = kept(node, old)?;
    let Some(template) = node.engine.template(&before.template.id) else { return Err(ConsentError::Unknown) };
    let reference = TemplateRef { id: before.template.id.clone(), version: template.version.clone() };
    let days = before.days.min(template.max_days);
    let renewed = Consent { template: reference, days, renews: Some(old), ..before.asked_again() };
    answered(node, caller, &held, ConsentId(random()?), renewed, body, ConsentHappened::Renewed, now).await
}

/// The client's pseudonyms and who else knows the client by which.
pub(super) async fn located(
    node: &Arc<Node>,
    held: &Held,
    file: FileId,
    purpose: Option<&Purpose>,
    now: Timestamp,
) -> Result<(Vec<(Index, Output)>, Whereabouts, Epoch), ConsentError> {
    let client = client(node, held, file, now)?.ok_or(ConsentError::NotServed)?;
    let pseudonyms = pseudonyms(node, held, &client).await?;
    let any = node.engine.library().catalogue().purposes.keys().next();
    let purpose = purpose.or(any).ok_or(ConsentError::NotServed)?;
    let located = whereabouts(node, held, &client, purpose).await?;
    let epoch = held.epoch(now).ok_or(ConsentError::Closed(Reason::EpochUnknown))?.0.epoch;
    Ok((pseudonyms, located, epoch))
}

/// Takes in what the resident answered: grants what was given, passes on what was refused, ends what it renews.
#[expect(clippy::too_many_arguments, reason = "who, where, which, what, how and when")]
async fn answered(
    node: &Arc<Node>,
    caller: &Caller,
    held: &Held,
    id: ConsentId,
    mut consent: Consent,
    body: &ConsentAnswer,
    happened: ConsentHappened,
    now: Timestamp,
) -> Result<ConsentReceipt, ConsentError> {
    let template = consent.template_of(node)?;
    consent.answers = answers(template, body)?;
    // The one who may speak for the resident today; a holder asks the same of its own records.
    if flags::guarded(&node.store.read()?, consent.file, now)? != (body.acting == Acting::Guardian) {
        return Err(ConsentError::Refused(Reason::ConsentRepresentative));
    }
    (consent.acting, consent.method, consent.language) = (body.acting, body.method, body.language);
    consent.evidence = body.evidence_sha256.clone();
    (consent.valid_from, consent.valid_to) = (now, now + i64::from(consent.days) * DAY_SECONDS);
    let purpose = consent.purposes.first().cloned();
    let (pseudonyms, located, epoch) = located(node, held, consent.file, purpose.as_ref(), now).await?;
    let (given, refused) = (consent.answered(Answer::Given), consent.answered(Answer::Refused));
    if !given.is_empty() && !node.list_is_whole()? {
        return Err(ConsentError::Closed(Reason::NodeClosed));
    }
    let concerned = concerned(node, held, &consent.recipient, &located);
    let Said { opened, closed } = Said::to(&concerned, template, &given, &refused);
    let letters = Letters { node, pseudonyms: &pseudonyms, located: &located, epoch, id, now };
    let refusals = letters.refusals(&consent, closed)?;
    let (noted, happened) = if given.is_empty() {
        (Happened::ConsentRefused, ConsentHappened::Refused)
    } else {
        (Happened::ConsentRecorded, happened)
    };
    consent.events.push(event(node, caller, happened, Some(body.method), now));
    note(node, caller, noted, id, &consent, None).await?;
    if let Some(old) = consent.renews {
        let replaced = kept(node, old)?;
        if !replaced.with(node, held, old, |record| record.standing(now))?.is_empty() {
            note(node, caller, Happened::ConsentSuperseded, old, &replaced, Some(&format!("by {id}"))).await?;
        }
    }
    let collected_by = desk::user(node, caller);
    let (consent, ended) = node.store.write(|write| {
        let me = &node.config.member;
        if !given.is_empty() {
            let position = write.next_status()?;
            consent.position = Some(position);
            consent.grants = letters.grants(&consent, &given, &opened, position, &collected_by)?;
        }
        // The old one ends before the new one begins, at each holder too.
        let anew = |old| {
            end::supersede(node, held, write, old, event(node, caller, ConsentHappened::Superseded(id), None, now))
        };
        let ended = consent.renews.map(anew).transpose()?.flatten();
        for grant in consent.grants.iter().filter(|grant| &grant.aud != me) {
            write.post(&grant.aud, "/v1/grants", jws::sign(&node.keys.message, grant)?, now)?;
        }
        for refused in refusals.iter().filter(|refused| &refused.aud != me) {
            write.post(&refused.aud, "/v1/refusals", jws::sign(&node.keys.message, refused)?, now)?;
        }
        write.put(Table::CONSENTS, id.as_bytes(), &consent)?;
        Ok::<_, ConsentError>((consent, ended))
    })?;
    if let Some(ended) = &ended {
        end::obey_here(node, ended, None, now).await?;
    }
    for own in consent.grants.iter().filter(|grant| grant.aud == node.config.member) {
        keep_grant(node, own).await?;
    }
    for own in refusals.iter().filter(|refused| refused.aud == node.config.member) {
        keep_refusal(node, own).await?;
    }
    let undelivered = node.deliver().await?;
    if let Some(ended) = &ended {
        node.push_status(ended.grants.iter().map(|grant| &grant.aud)).await;
    }
    consent.receipt(node, held, id, &undelivered, now)
}

/// What is written to holders about one answer.
pub(super) struct Letters<'a> {
    pub(super) node: &'a Node,
    pub(super) pseudonyms: &'a [(Index, Output)],
    pub(super) located: &'a Whereabouts,
    pub(super) epoch: Epoch,
    pub(super) id: ConsentId,
    /// When the resident answered.
    pub(super) now: Timestamp,
}

impl Letters<'_> {
    fn subject(&self, holder: &MemberId) -> Result<SubjectId, ConsentError> {
        subject_at(self.pseudonyms, self.located, holder).ok_or(ConsentError::NotServed)
    }

    pub(super) fn grants(
        &self,
        consent: &Consent,
        given: &BTreeSet<String>,
        fields: &BTreeMap<MemberId, BTreeSet<FieldId>>,
        position: u32,
        collected_by: &B64,
    ) -> Result<Vec<Grant>, ConsentError> {
        let grant = |(holder, fields): (&MemberId, &BTreeSet<FieldId>)| {
            Ok(Grant {
                iss: self.node.config.member.clone(),
                aud: holder.clone(),
                iat: self.now,
                consent: self.id,
                sub: self.subject(holder)?,
                epoch: self.epoch,
                recipient: consent.recipient.clone(),
                purposes: consent.purposes.clone(),
                fields: fields.clone(),
                modules: given.clone(),
                acting: consent.acting,
                valid_from: consent.valid_from,
                valid_to: consent.valid_to,
                template: consent.template.clone(),
                evidence: consent.evidence.clone(),
                collected_by: collected_by.clone(),
                status: position,
            })
        };
        fields.iter().map(grant).collect()
    }

    /// What was refused, for every holder, so that nobody else's consent opens it.
    pub(super) fn refusals(
        &self,
        consent: &Consent,
        fields: BTreeMap<MemberId, BTreeSet<FieldId>>,
    ) -> Result<Vec<Refused>, ConsentError> {
        let refusal = |(aud, fields): (MemberId, BTreeSet<FieldId>)| {
            Ok(Refused {
                iss: self.node.config.member.clone(),
                iat: self.now,
                sub: self.subject(&aud)?,
                aud,
                epoch: self.epoch,
                recipient: consent.recipient.clone(),
                purposes: consent.purposes.clone(),
                fields,
            })
        };
        fields.into_iter().map(refusal).collect()
    }
}

/// The template meant, if everything in `body` fits it.
fn checked<'n>(node: &'n Node, held: &Held, body: &ConsentRequest) -> Result<&'n Template, ConsentError> {
    let refuse = |field, en: &str, pl: &str| Err(ConsentError::Value { field, expected: Expected::new(en, pl) });
    let Some(template) = node.engine.template(&body.template) else {
        return refuse("template", "a consent template of the library", "wzór zgody z biblioteki");
    };
    if body.purposes.is_empty() || !body.purposes.is_subset(&template.purposes) {
        return refuse("purposes", "one or more of the template's purposes", "jeden lub więcej celów z wzoru");
    }
    if body.days.is_some_and(|days| days == 0 || days > template.max_days) {
        return Err(ConsentError::Value {
            field: "days",
            expected: Expected::new(format!("1 to {0}", template.max_days), format!("od 1 do {0}", template.max_days)),
        });
    }
    if held.manifest.member(&body.recipient).is_none() {
        return refuse("recipient", "a member of the federation", "członek federacji");
    }
    Ok(template)
}

/// A consent that was asked for and is not answered.
fn asked(
    node: &Node,
    held: &Held,
    body: &ConsentRequest,
    file: FileId,
    requested: ConsentEvent,
    now: Timestamp,
) -> Result<Consent, ConsentError> {
    let template = checked(node, held, body)?;
    let days = body.days.unwrap_or(template.max_days);
    Ok(Consent {
        file,
        template: TemplateRef { id: body.template.clone(), version: template.version.clone() },
        recipient: body.recipient.clone(),
        purposes: body.purposes.clone(),
        days,
        valid_from: now,
        valid_to: now + i64::from(days) * DAY_SECONDS,
        acting: Acting::Resident,
        method: on_paper(),
        language: Tongue::default(),
        evidence: B64(Vec::new()),
        answers: Answers::new(),
        position: None,
        grants: Vec::new(),
        renews: None,
        events: vec![requested],
    })
}

/// The answers, several guardians' as one.
fn answers(template: &Template, body: &ConsentAnswer) -> Result<Answers, ConsentError> {
    let own = |modules: &BTreeMap<String, ModuleAnswer>| -> Result<Answers, ConsentError> {
        if !modules.keys().all(|module| template.modules.contains_key(module)) {
            let known = template.modules.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(ConsentError::Value {
                field: "modules",
                expected: Expected::new(format!("of: {known}"), format!("spośród: {known}")),
            });
        }
        let answer = |answer: &ModuleAnswer| match answer {
            ModuleAnswer::Given => Answer::Given,
            ModuleAnswer::Refused => Answer::Refused,
        };
        Ok(modules.iter().map(|(module, given)| (module.clone(), answer(given))).collect())
    };
    if body.evidence_sha256.0.len() != 32 {
        let expected = Expected::new(
            "the SHA-256 of the evidence, 43 characters of base64url",
            "skrót SHA-256 dowodu, 43 znaki base64url",
        );
        return Err(ConsentError::Value { field: "evidence_sha256", expected });
    }
    if !body.other_guardians.is_empty() && body.acting != Acting::Guardian {
        return Err(ConsentError::Value {
            field: "other_guardians",
            expected: Expected::new("acting as guardian", "tylko przy oświadczeniu opiekuna (`acting`: guardian)"),
        });
    }
    let mut all = vec![own(&body.modules)?];
    for other in &body.other_guardians {
        all.push(own(other)?);
    }
    record::jointly(&all).map_err(ConsentError::Refused)
}

/// Every located holder, and we, with its kind; not the recipient.
fn concerned<'h>(
    node: &'h Node,
    held: &'h Held,
    recipient: &MemberId,
    located: &'h Whereabouts,
) -> BTreeMap<&'h MemberId, &'h MemberKind> {
    let all = located.holders().into_keys().chain([&node.config.member]).filter(|holder| *holder != recipient);
    all.filter_map(|holder| Some((holder, &held.manifest.member(holder)?.kind))).collect()
}

/// What a resident said to each holder.
pub(super) struct Said {
    /// Fields it may release.
    pub(super) opened: BTreeMap<MemberId, BTreeSet<FieldId>>,
    /// Fields it may not.
    pub(super) closed: BTreeMap<MemberId, BTreeSet<FieldId>>,
}

impl Said {
    /// To `holders`, by the modules `given` and `refused`.
    pub(super) fn to(
        holders: &BTreeMap<&MemberId, &MemberKind>,
        template: &Template,
        given: &BTreeSet<String>,
        refused: &BTreeSet<String>,
    ) -> Self {
        let opened = fields_by_holder(holders, template, given);
        let mut closed = fields_by_holder(holders, template, refused);
        for (holder, fields) in &mut closed {
            // Two modules may permit the same field: who gave one of them gave it.
            fields.retain(|field| opened.get(holder).is_none_or(|given| !given.contains(field)));
        }
        closed.retain(|_, fields| !fields.is_empty());
        Said { opened, closed }
    }
}

/// Which fields each holder may release by `modules`.
fn fields_by_holder(
    holders: &BTreeMap<&MemberId, &MemberKind>,
    template: &Template,
    modules: &BTreeSet<String>,
) -> BTreeMap<MemberId, BTreeSet<FieldId>> {
    let mut out: BTreeMap<MemberId, BTreeSet<FieldId>> = BTreeMap::new();
    for permission in template.permissions(modules) {
        for (holder, _) in holders.iter().filter(|(_, kind)| ***kind == permission.holder_kind) {
            out.entry((*holder).clone()).or_default().extend(permission.fields.iter().cloned());
        }
    }
    out
}
