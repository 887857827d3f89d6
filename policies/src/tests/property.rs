//! Removing or corrupting a fact never opens what was closed: every fact, one by one, behind every reason there is.
//!
//! A scenario is written as a JSON tree. Whatever can be broken of it is broken; then each part of the tree but the one
//! that was broken is removed, and each leaf replaced by every sort of noise. What opens all the same is listed by name.

use super::reasons::{Break, CONSENT, EITHER, EMERGENCY, HUMAN, MANDATE, VERIFY};
use super::{ENGINE, by_consent, by_mandate, comparing, in_danger, with_approval};
use crate::example::{Decided, Scenario};
use crate::{Flags, Permit, Refusal, StatusFact, Used};
use protocol::jws::JwsError;
use protocol::{Bytes, Index, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Facts that open all the same, each for what it is there for: (reason, fact). A flag, a withdrawal or a refusal opens
/// nothing here but the denial it is itself the reason of, which is left out as what was broken.
const OPENING: &[(&str, &str)] = &[
    // Another agreement than the one revoked.
    ("agreement_revoked", "/manifest/agreements/0/terms/id"),
    ("agreement_revoked", "/manifest/agreements/0/terms/version"),
    // Given after the refusal; by whoever may give it; taken by, or recorded at, somebody else than who asks.
    ("consent_refused", "/grant/iat"),
    ("consent_representative", "/subject/minor"),
    ("consent_same_user", "/grant/collected_by"),
    ("consent_same_user", "/grant/iss"),
    // Opened before it was confirmed.
    ("emergency_unconfirmed", "/request/Ok/basis/opened"),
    // Manifests of two versions may differ.
    ("manifest_mismatch", "/manifest/version"),
    ("manifest_mismatch", "/request/Ok/manifest/version"),
    // More was agreed on than is used up.
    ("quota_exceeded", "/manifest/agreements/0/terms/queries_per_day"),
    ("user_quota_exceeded", "/manifest/agreements/0/terms/queries_per_user_per_day"),
    // A life is the span between two moments.
    ("request_stale", "/request/Ok/iat"),
    ("ticket_invalid", "/ticket/Ok/iat"),
    // While the registry is away an old ticket serves, and logs say so.
    ("ticket_expired", "/registry_away"),
    // Whoever the manifest calls the registry.
    ("ticket_invalid", "/manifest/members/2/id"),
];

/// A valid request with everything that can be broken of it.
type Case = (fn() -> Scenario, &'static [&'static [Break]]);

const CASES: &[Case] = &[
    (by_mandate, &[EITHER, MANDATE]),
    (by_consent, &[EITHER, CONSENT]),
    (comparing, &[VERIFY]),
    (in_danger, &[EMERGENCY]),
    (with_approval, &[HUMAN]),
];

#[test]
fn damage_never_turns_a_denial_into_a_permit() {
    let found = openings(&|scenario| scenario.decide(&ENGINE).is_ok());
    let listed: BTreeSet<_> = OPENING.iter().map(|(reason, fact)| ((*reason).to_owned(), (*fact).to_owned())).collect();
    assert_eq!(found.difference(&listed).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "opened");
    assert_eq!(
        listed.difference(&found).collect::<Vec<_>>(),
        Vec::<&(String, String)>::new(),
        "listed, and opens nothing"
    );
}

/// A decision that takes a missing case for an open one is found out.
#[test]
fn a_decision_that_opens_by_a_missing_fact_is_found_out() {
    let faulty = |scenario: &Scenario| {
        scenario.decide(&ENGINE).is_ok() || scenario.request.as_ref().is_ok_and(|request| request.case.is_none())
    };
    let found = openings(&faulty);
    assert!(found.contains(&("quota_exceeded".to_owned(), "/request/Ok/case".to_owned())), "{found:?}");
}

#[test]
fn damage_never_widens_a_permit() {
    for (base, _) in CASES {
        let whole = lean(base());
        let before: Permit = whole.decide(&ENGINE).unwrap();
        for (_, damaged) in damages(&tree(&whole)) {
            let Some(scenario) = scenario(&damaged, &whole) else { continue };
            let Ok(permit) = scenario.decide(&ENGINE) else { continue };
            assert!(permit.fields().is_subset(before.fields()) && permit.compared().is_subset(before.compared()));
        }
    }
}

/// What opens behind what reason, by `permits`.
fn openings(permits: &dyn Fn(&Scenario) -> bool) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (base, breaks) in CASES {
        let whole = lean(base());
        assert!(permits(&whole));
        for broken in breaks.iter().copied().flatten() {
            let mut closed = whole.clone();
            (broken.apply)(&mut closed);
            let closed_tree = tree(&closed);
            let touched = differences(&tree(&whole), &closed_tree);
            for (path, damaged) in damages(&closed_tree) {
                // What was broken may be mended by another value of itself.
                let inside = |at: &String| {
                    path.strip_prefix(at.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                if touched.iter().any(inside) {
                    continue;
                }
                if scenario(&damaged, &closed).is_some_and(|scenario| permits(&scenario)) {
                    found.insert((broken.reason.code().to_owned(), path));
                }
            }
        }
    }
    found
}

/// The same with an agreement and a grant on few fields, so that there is less to try.
fn lean(mut scenario: Scenario) -> Scenario {
    let asked = scenario.request_mut().fields.clone();
    let keep = |fields: &mut BTreeSet<protocol::FieldId>| fields.retain(|field| asked.contains(field));
    scenario.manifest.agreements.iter_mut().for_each(|agreement| keep(&mut agreement.terms.fields));
    scenario.grant.iter_mut().for_each(|grant| {
        keep(&mut grant.fields);
        grant.modules.retain(|module| module == "labour-status");
    });
    scenario
}

/// Every fact of `s`; the hour is none.
fn tree(s: &Scenario) -> Value {
    let request = match &s.request {
        Ok(request) => json!({ "Ok": request }),
        Err(error) => json!({ "Err": error.to_string() }),
    };
    let ticket = s.ticket.as_ref().map(|ticket| match ticket {
        Ok(ticket) => json!({ "Ok": ticket }),
        Err(error) => json!({ "Err": error.to_string() }),
    });
    let refusals: Vec<_> = s
        .refusals
        .iter()
        .map(|r| json!({ "recipient": r.recipient, "purpose": r.purpose, "fields": r.fields, "at": r.at }))
        .collect();
    let decided = match &s.decided {
        Decided::Nothing => json!({ "nothing": true }),
        Decided::Refused => json!({ "refused": true }),
        Decided::Lapsed => json!({ "lapsed": true }),
        Decided::Approved { question, by, fields, until } => {
            json!({ "question": Bytes(question.to_vec()), "by": by, "fields": fields, "until": until })
        }
    };
    json!({
        "me": s.me, "manifest": s.manifest, "manifest_hash": Bytes(s.manifest_hash.to_vec()), "revoked": s.revoked,
        "received": s.received, "peer": s.peer, "certificate": Bytes(s.certificate.to_vec()), "active": s.active,
        "request": request, "first_use": s.first_use, "ticket": ticket, "registry_away": s.registry_away,
        "subject": s.subject.as_ref().map(|(index, f)| json!({
            "index": Bytes(index.as_bytes().to_vec()), "restricted": f.restricted, "unlisted": f.unlisted,
            "deceased": f.deceased, "objected": f.objected, "minor": f.minor, "do_not_contact": f.do_not_contact,
        })),
        "refusals": refusals, "grant": s.grant, "withdrawn": s.withdrawn, "withdrawn_modules": s.withdrawn_modules,
        "status": s.status.map(|status| json!({ "as_of": status.as_of, "withdrawn": status.withdrawn })),
        "used": { "today": s.used.today, "today_by_user": s.used.today_by_user, "guesses": s.used.guesses,
            "emergencies_today": s.used.emergencies_today, "review_overdue": s.used.review_overdue },
        "decided": decided,
    })
}

/// The scenario a tree says, at `base`'s hour; none if it cannot be.
fn scenario(tree: &Value, base: &Scenario) -> Option<Scenario> {
    let of = |value: &Value, key: &str| value.get(key).cloned();
    let hash = |value: Option<Value>| read::<Bytes>(value)?.0.try_into().ok();
    let flag = |value: &Value, key: &str| value.get(key)?.as_bool();
    let subject = match of(tree, "subject") {
        None | Some(Value::Null) => None,
        Some(s) => {
            let flags = Flags {
                restricted: flag(&s, "restricted")?,
                unlisted: flag(&s, "unlisted")?,
                deceased: flag(&s, "deceased")?,
                objected: flag(&s, "objected")?,
                minor: flag(&s, "minor")?,
                do_not_contact: flag(&s, "do_not_contact")?,
            };
            Some((Index(hash(of(&s, "index"))?), flags))
        }
    };
    let refusals = tree.get("refusals")?.as_array()?.iter().map(|refusal| {
        Some(Refusal {
            recipient: read(of(refusal, "recipient"))?,
            purpose: read(of(refusal, "purpose"))?,
            fields: read(of(refusal, "fields"))?,
            at: read(of(refusal, "at"))?,
        })
    });
    let status = match of(tree, "status") {
        None | Some(Value::Null) => None,
        Some(s) => Some(StatusFact { as_of: read::<Timestamp>(of(&s, "as_of"))?, withdrawn: flag(&s, "withdrawn")? }),
    };
    let used = tree.get("used")?;
    let number = |key: &str| used.get(key)?.as_u64();
    let decided = match tree.get("decided") {
        Some(d) if d.get("until").is_some() => Decided::Approved {
            question: hash(of(d, "question"))?,
            by: read(of(d, "by"))?,
            fields: read(of(d, "fields"))?,
            until: read(of(d, "until"))?,
        },
        Some(d) if d.get("refused").is_some() => Decided::Refused,
        Some(d) if d.get("lapsed").is_some() => Decided::Lapsed,
        _ => Decided::Nothing,
    };
    Some(Scenario {
        now: base.now,
        me: read(of(tree, "me"))?,
        manifest: read(of(tree, "manifest"))?,
        manifest_hash: hash(of(tree, "manifest_hash"))?,
        revoked: read(of(tree, "revoked"))?,
        received: read(of(tree, "received"))?,
        peer: read(of(tree, "peer"))?,
        certificate: hash(of(tree, "certificate"))?,
        active: flag(tree, "active")?,
        request: match tree.pointer("/request/Ok") {
            Some(request) => Ok(read(Some(request.clone()))?),
            None => Err(JwsError::BadSignature),
        },
        first_use: flag(tree, "first_use")?,
        ticket: match tree.get("ticket") {
            None | Some(Value::Null) => None,
            Some(ticket) => Some(match ticket.get("Ok") {
                Some(ticket) => Ok(read(Some(ticket.clone()))?),
                None => Err(JwsError::BadSignature),
            }),
        },
        registry_away: flag(tree, "registry_away")?,
        subject,
        refusals: refusals.collect::<Option<_>>()?,
        grant: match of(tree, "grant") {
            None | Some(Value::Null) => None,
            grant => Some(read(grant)?),
        },
        withdrawn: flag(tree, "withdrawn")?,
        withdrawn_modules: read(of(tree, "withdrawn_modules"))?,
        status,
        used: Used {
            today: number("today")?,
            today_by_user: number("today_by_user")?,
            guesses: number("guesses")?.try_into().ok()?,
            emergencies_today: number("emergencies_today")?.try_into().ok()?,
            review_overdue: flag(used, "review_overdue")?,
        },
        decided,
    })
}

fn read<T: DeserializeOwned>(value: Option<Value>) -> Option<T> {
    serde_json::from_value(value.unwrap_or(Value::Null)).ok()
}

/// `tree` with one part removed or one leaf replaced, in every way, and where.
fn damages(tree: &Value) -> Vec<(String, Value)> {
    let mut paths = Vec::new();
    walk(tree, String::new(), &mut paths);
    let mut out = Vec::new();
    for path in paths {
        let (parent, last) = path.rsplit_once('/').unwrap();
        let mut without = tree.clone();
        match without.pointer_mut(parent).unwrap() {
            Value::Object(members) => drop(members.remove(last)),
            Value::Array(elements) => drop(elements.remove(last.parse().unwrap())),
            _ => unreachable!("only these have parts"),
        }
        out.push((path.clone(), without));
        for noise in noises(tree.pointer(&path).unwrap()) {
            let mut damaged = tree.clone();
            *damaged.pointer_mut(&path).unwrap() = noise;
            out.push((path.clone(), damaged));
        }
    }
    out
}

fn walk(value: &Value, path: String, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, inner)| walk(inner, format!("{path}/{key}"), out)),
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(at, inner)| walk(inner, format!("{path}/{at}"), out));
        }
        _ => {}
    }
    if !path.is_empty() {
        out.push(path);
    }
}

/// What a leaf may become: another of its sort, none, or far off. Names are those of the fixtures' members and a stranger;
/// keys and digests are the right length and another.
fn noises(leaf: &Value) -> Vec<Value> {
    match leaf {
        Value::Bool(yes) => vec![json!(!yes)],
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or_default();
            [0, number - 100_000, number - 1, number + 1, number + 100_000].map(|other| json!(other)).to_vec()
        }
        Value::String(text) => {
            let digest = |byte: u8| json!(Bytes(vec![byte; 32]));
            let mut all = vec![json!(""), digest(0xab)];
            match text.as_str() {
                "asker" | "holder" | "registry" => {
                    all.extend(["asker", "holder", "registry", "stranger"].map(Value::from));
                }
                "mops" | "pup" | "css" | "hou" => {
                    all.extend(["mops", "pup", "css", "hou", "edu", "hea"].map(Value::from));
                }
                // Sixteen bytes, as a nonce.
                text if text.len() == 22 => all.push(json!(Bytes(vec![0xab; 16]))),
                _ => {}
            }
            all.into_iter().filter(|other| other != leaf).collect()
        }
        Value::Array(_) => vec![json!([])],
        Value::Null | Value::Object(_) => Vec::new(),
    }
}

/// Where two trees differ.
fn differences(a: &Value, b: &Value) -> Vec<String> {
    fn into(a: &Value, b: &Value, path: String, out: &mut Vec<String>) {
        match (a, b) {
            (Value::Object(x), Value::Object(y)) => {
                for key in x.keys().chain(y.keys()).collect::<BTreeSet<_>>() {
                    let (x, y) = (x.get(key).unwrap_or(&Value::Null), y.get(key).unwrap_or(&Value::Null));
                    into(x, y, format!("{path}/{key}"), out);
                }
            }
            _ if a != b => out.push(path),
            _ => {}
        }
    }
    let mut out = Vec::new();
    into(a, b, String::new(), &mut out);
    out
}
