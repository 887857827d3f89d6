//! `ogniwo node ask` and `node answer`: a question through the local API, with the caller's own token, and what came of it.

use crate::args::{ApiArgs, AskArgs};
use crate::exit::Failure;
use crate::output::Output;
use crate::prompt::{expected, resident};
use crate::report::day;
use crate::wire::{get, post, word};
use node::{ObligationsBody, OutcomeKind, QueryResult};
use protocol::MemberId;
use protocol::encoding::unb64;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(crate) async fn ask(arguments: &AskArgs, output: &Output) -> Result<(), Failure> {
    if arguments.consent.as_deref().is_some_and(|id| unb64::<16>(id).is_none()) {
        return Err(Failure::new("value", "--consent is the id of a consent, 22 base64url characters"));
    }
    let basis = match (&arguments.consent, &arguments.mandate, &arguments.emergency) {
        (Some(id), _, _) => json!({ "kind": "consent", "id": id }),
        (None, Some(id), _) => json!({ "kind": "mandate", "id": id }),
        (None, None, Some(id)) => json!({ "kind": "emergency", "id": id }),
        (None, None, None) => json!({ "kind": "none" }),
    };
    let resident = resident(&arguments.resident)?;
    let expected = expected(&arguments.expect)?;
    let asks: Vec<Value> = arguments
        .query
        .iter()
        .map(|query| json!({ "query": query, "holder": arguments.holder, "fields": arguments.fields, "expected": expected }))
        .collect();
    let body = json!({
        "resident": resident, "asks": asks, "purpose": arguments.purpose, "basis": basis,
        "case_ref": arguments.case, "reason": arguments.reason,
    });
    let result: QueryResult = post(&arguments.api, "/v1/queries", &body).await?;
    output.result(&result, || query_words(&result));
    outcome(&result)
}

pub(crate) async fn answer(to: &ApiArgs, id: &str, output: &Output) -> Result<(), Failure> {
    let path = format!("/v1/queries/{id}");
    let result: QueryResult = get(to, &path).await?;
    output.result(&result, || query_words(&result));
    outcome(&result)
}

/// How the command ends: well if anybody answered, else by the best that may still come.
fn outcome(result: &QueryResult) -> Result<(), Failure> {
    let any = |kind| result.outcomes.iter().any(|outcome| outcome.outcome == kind);
    if any(OutcomeKind::Answered) {
        return Ok(());
    }
    if any(OutcomeKind::Pending) {
        let words = format!("a person at the holder decides; `ogniwo node answer {}` fetches it", result.id);
        return Err(Failure::new("pending", words));
    }
    if any(OutcomeKind::Denied) {
        let denied = result.outcomes.iter().filter(|outcome| outcome.outcome == OutcomeKind::Denied);
        let reasons: BTreeSet<&str> = denied.filter_map(|outcome| outcome.reason.as_deref()).collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        return Err(Failure::new("denied", format!("nothing was released: {}", reasons.join(", "))));
    }
    Err(Failure::new("peer_unavailable", "nobody answered"))
}

fn query_words(result: &QueryResult) -> String {
    let mut text = format!("Query {}", result.id);
    for outcome in &result.outcomes {
        let holder = outcome.holder.as_ref().map_or("-", MemberId::as_str);
        let kind = word(&outcome.outcome);
        text.push_str(&format!("\n  {} {holder}: {kind}", outcome.query));
        if let Some(reason) = &outcome.reason {
            text.push_str(&format!(" ({reason})"));
        }
        if let Some(said) = &outcome.message {
            text.push_str(&format!("\n    {}\n    {}", said.en, said.pl));
        }
        for (member, desk) in &outcome.duty_desks {
            text.push_str(&format!("\n    call {member}: {desk}"));
        }
        if let Some(present) = outcome.present {
            text.push_str(if present { "\n    has an active file" } else { "\n    has no active file" });
        }
        for (field, found) in &outcome.matches {
            text.push_str(&format!("\n    {field:<28} {}", word(found)));
        }
        for (field, value) in &outcome.fields {
            text.push_str(&format!("\n    {field:<28} {value}"));
        }
        if let Some(obligations) = &outcome.obligations {
            text.push_str(&duties(obligations));
        }
    }
    text
}

/// What the recipient of an answer must do, in both languages.
fn duties(obligations: &ObligationsBody) -> String {
    let ObligationsBody { delete_after, onward_transfer, do_not_contact, review_by } = obligations;
    let mut en = format!("Delete after {}.", day(*delete_after));
    let mut pl = format!("Usuń po {}.", day(*delete_after));
    if !onward_transfer {
        en.push_str(" Do not pass it on.");
        pl.push_str(" Nie przekazuj dalej.");
    }
    if *do_not_contact {
        en.push_str(" DO NOT CONTACT the resident.");
        pl.push_str(" NIE KONTAKTUJ SIĘ z mieszkańcem.");
    }
    if let Some(by) = review_by {
        en.push_str(&format!(" To be reviewed by {}.", day(*by)));
        pl.push_str(&format!(" Ocena do {}.", day(*by)));
    }
    format!("\n    {en}\n    {pl}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_says_its_duties_and_comparisons_in_words() {
        let told = |obligations: Value| {
            let outcome = json!({
                "query": "q09", "holder": "pup", "outcome": "answered", "obligations": obligations,
                "matches": { "person.surname": "not_comparable" },
            });
            let result = json!({ "id": "x", "outcomes": [outcome] });
            query_words(&serde_json::from_value(result).expect("a result"))
        };
        let plain = told(json!({ "delete_after": 1_795_262_400, "onward_transfer": false }));
        assert!(plain.contains("not_comparable"), "{plain}");
        assert!(plain.contains("Delete after ") && plain.contains("Usuń po "), "{plain}");
        assert!(plain.contains("Do not pass it on.") && plain.contains("Nie przekazuj dalej."), "{plain}");
        assert!(!plain.contains("CONTACT") && !plain.contains("reviewed"), "{plain}");
        let more = json!({
            "delete_after": 1_795_262_400, "onward_transfer": true, "do_not_contact": true, "review_by": 1_795_262_400,
        });
        let more = told(more);
        assert!(more.contains("DO NOT CONTACT") && more.contains("NIE KONTAKTUJ SIĘ"), "{more}");
        assert!(more.contains("reviewed by 2026") && more.contains("Ocena do 2026"), "{more}");
        assert!(!more.contains("pass it on"), "{more}");
    }
}
