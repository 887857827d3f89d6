//! Each rule on one log where it fires, and on the same log with what explains it, where it does not.

use super::*;
use crate::dpo::anomalies::access::Case;
use crate::kin::Kin;
use jiff::ToSpan as _;
use policies::calendar;
use serde_json::{Value, json};

/// Tuesday, 2026-11-17, 10:00 in Warsaw.
const TEN: i64 = 1_794_906_000;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn day(time: i64) -> Date {
    calendar::local(protocol::Timestamp(time)).unwrap().date()
}

/// What the rules find on the day of `TEN`.
fn look_with(entries: &[Value], case: &dyn Fn(&str, &str) -> Option<Case>) -> Reviewed {
    look_after(entries, case, &[])
}

/// The same after an officer found the accesses of these entries explained.
fn look_after(entries: &[Value], case: &dyn Fn(&str, &str) -> Option<Case>, cleared: &[u64]) -> Reviewed {
    let compares = |query: &str| query == "q15";
    let agreed = |_: &str, _: &str, query: &str, _: &str| query == "q02";
    let explained = |index: u64| cleared.contains(&index);
    let related =
        |user: &str, file: &str, kin: Kin| file == "OF" && user == if kin == Kin::Own { "OWN" } else { "KIN" };
    let surroundings =
        Surroundings { compares: &compares, agreed: &agreed, case, related: &related, explained: &explained };
    let mut log = Log::default();
    for (index, entry) in (0..).zip(entries) {
        log.take(index, entry, &surroundings);
    }
    review(&log, &Parameters::default(), &surroundings, (day(TEN), day(TEN)))
}

fn look(entries: &[Value]) -> Reviewed {
    look_with(entries, &|_, _| None)
}

fn rules(reviewed: &Reviewed) -> Vec<Rule> {
    reviewed.anomalies.iter().map(|anomaly| anomaly.rule).collect()
}

fn with(mut entry: Value, more: &Value) -> Value {
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry
}

/// A question of our own that was answered.
fn asked(time: i64, user: &str, file: &str) -> Value {
    json!({
        "event": "query.outcome", "time": time, "asker": "mops", "user": user, "file": file, "search_key": "pesel",
        "purpose": "p", "basis": "mandate:ups-105",
        "outcomes": [{ "holder": "pup", "query": "q02", "outcome": "answered" }],
    })
}

/// A question of a peer's that we answered.
fn held(time: i64, user: &str, file: &str) -> Value {
    json!({
        "event": "query.answered", "time": time, "asker": "css", "holder": "mops", "user": user, "file": file,
        "query": "q02", "purpose": "p", "basis": "mandate:usr-23@1", "role": "caseworker", "agreement": "css-mops@1",
    })
}

/// The rule fires on `entries`, and not once `explanation` is added, nor on what becomes of them with `change`.
fn check(rule: Rule, entries: &[Value], explanation: &[Value], change: &Value) {
    let found = look(entries);
    assert_eq!(rules(&found).iter().filter(|found| **found == rule).count(), 1, "{:?}", found.anomalies);
    let changed: Vec<Value> =
        explanation.iter().cloned().chain(entries.iter().map(|entry| with(entry.clone(), change))).collect();
    let left = look(&changed);
    assert!(!rules(&left).contains(&rule), "explained: {:?}", left.anomalies);
}

#[test]
fn the_users_own_data_relatives_and_colleagues() {
    let case = json!({ "case": "C" });
    let colleague = with(asked(TEN - DAY, "V", "OF"), &case);
    let entries = [with(asked(TEN, "KIN", "OF"), &case)];
    check(Rule::Relative, &entries, std::slice::from_ref(&colleague), &json!({}));
    check(Rule::Colleague, &entries, std::slice::from_ref(&colleague), &json!({}));
    // One's own data are looked up on no case.
    let own = [colleague, with(asked(TEN, "OWN", "OF"), &case)];
    let found = look(&own);
    assert_eq!(rules(&found), [Rule::OwnRecord]);
    assert_eq!((found.anomalies[0].user.as_deref(), found.anomalies[0].entries.as_slice()), (Some("OWN"), &[1][..]));
    // A user of a peer's, whatever the id is.
    assert!(look(&[held(TEN, "OWN", "OF"), held(TEN, "KIN", "OF")]).anomalies.is_empty());
}

#[test]
fn a_marked_resident_without_a_case() {
    let entries = [
        json!({ "event": "flag.set", "time": TEN - DAY, "file": "F", "detail": "minor, unlisted" }),
        asked(TEN, "U", "F"),
    ];
    // Somebody else works on the same case.
    let colleague = with(asked(TEN - DAY, "V", "F"), &json!({ "case": "C" }));
    check(Rule::MarkedResident, &entries, &[colleague], &json!({ "case": "C" }));
    let lifted = json!({ "event": "flag.cleared", "time": TEN - HOUR, "file": "F", "detail": "unlisted" });
    assert_eq!(rules(&look(&[entries[0].clone(), lifted, entries[1].clone()])), [Rule::Unexplained]);
    let officers = json!({ "event": "resident.restricted", "time": TEN - HOUR, "file": "F", "decision": "restricted" });
    assert!(rules(&look(&[officers, entries[1].clone()])).contains(&Rule::MarkedResident));
}

#[test]
fn at_night_without_a_consent() {
    let night = [asked(TEN + 12 * HOUR, "U", "F"), held(TEN - 7 * HOUR, "X", "G")];
    let found = look(&night);
    assert_eq!(rules(&found), [Rule::OutOfHours, Rule::OutOfHours, Rule::Unexplained]);
    let consent = json!({ "event": "consent.recorded", "time": TEN - DAY, "consent": "C", "file": "F" });
    check(Rule::OutOfHours, &night[..1], std::slice::from_ref(&consent), &json!({ "basis": "consent:C" }));
    // Withdrawn, it explains nothing; of one second, the log's order counts.
    let cited = |at: i64| with(asked(at, "U", "F"), &json!({ "basis": "consent:C" }));
    let withdrawn = json!({ "event": "consent.withdrawn", "time": TEN, "consent": "C", "file": "F", "detail": "t@1" });
    assert!(look(&[consent.clone(), cited(TEN), withdrawn.clone()]).anomalies.is_empty());
    assert_eq!(rules(&look(&[consent.clone(), withdrawn.clone(), cited(TEN)])), [Rule::Unexplained]);
    let entries = [consent, withdrawn, with(night[0].clone(), &json!({ "basis": "consent:C" }))];
    assert_eq!(rules(&look(&entries)), [Rule::OutOfHours, Rule::Unexplained, Rule::AfterTheEnd]);
}

#[test]
fn many_more_residents_than_usual() {
    let many = |time: i64, user: &str, count: usize| -> Vec<Value> {
        (0..count).map(|n| held(time, user, &format!("{user}{n}"))).collect()
    };
    let burst = many(TEN, "U", 20);
    let approved: Vec<Value> = burst
        .iter()
        .map(|entry| with(entry.clone(), &json!({ "event": "approval.granted", "time": TEN - HOUR })))
        .collect();
    check(Rule::Volume, &burst, &approved, &json!({}));
    assert!(look(&many(TEN, "U", 19)).anomalies.is_empty());
    // Usual for the user, or for the role.
    assert!(look(&[many(TEN - DAY, "U", 7), burst.clone()].concat()).anomalies.is_empty());
    assert!(look(&[many(TEN, "V", 7), burst].concat()).anomalies.is_empty());
}

#[test]
fn residents_found_by_other_keys() {
    let other = json!({ "search_key": "local_number" });
    let entries: Vec<Value> =
        (0..10).map(|n| with(asked(TEN - n * HOUR / 10, "U", &format!("F{n}")), &other)).collect();
    check(Rule::OtherKeys, &entries, &[], &json!({ "emergency": "E" }));
    let mixed: Vec<Value> = entries.iter().cloned().chain((0..10).map(|n| asked(TEN, "U", &format!("G{n}")))).collect();
    assert!(!rules(&look(&mixed)).contains(&Rule::OtherKeys), "no more than half");
}

#[test]
fn a_look_up_that_nothing_explains() {
    let entries = [with(asked(TEN, "U", "F"), &json!({ "case": "C" }))];
    let before = |user: &str| with(asked(TEN - DAY, user, "F"), &json!({ "case": "C" }));
    check(Rule::Unexplained, &entries, &[before("V")], &json!({}));
    // The same user's own word of the day before is none, unless the officer found it explained.
    let own = [before("U"), entries[0].clone()];
    assert_eq!(rules(&look(&own)), [Rule::Unexplained]);
    assert!(look_after(&own, &|_, _| None, &[0]).anomalies.is_empty());
    // A pattern under an agreement, of others.
    check(Rule::Unexplained, &entries, &[asked(TEN - DAY, "V", "F"), asked(TEN - 9 * DAY, "W", "F")], &json!({}));
    let mine = [asked(TEN - DAY, "U", "F"), asked(TEN - 9 * DAY, "U", "F"), entries[0].clone()];
    assert_eq!(rules(&look(&mine)), [Rule::Unexplained]);
    // The resident's own case number, and nobody else's.
    let own = |file: &str, case: &str| (file == "F" && case == "C").then_some(Case::Open);
    assert!(look_with(&entries, &own).anomalies.is_empty());
    let other = look_with(&[with(asked(TEN, "U", "G"), &json!({ "case": "C" }))], &own);
    assert_eq!(rules(&other), [Rule::Unexplained]);
    // One reference for half the town.
    let half: Vec<Value> = (0..9)
        .flat_map(|n| {
            [(TEN - DAY, "V"), (TEN, "U")]
                .map(|(at, user)| with(asked(at, user, &format!("F{n}")), &json!({ "case": "C" })))
        })
        .collect();
    assert_eq!(rules(&look(&half)).len(), 9);
    // What a peer's question is for, its own officer knows.
    assert!(look(&[held(TEN, "X", "F")]).anomalies.is_empty());
    let found = look(&entries);
    let anomaly = &found.anomalies[0];
    assert_eq!(
        (anomaly.entries.as_slice(), anomaly.user.as_deref(), anomaly.file.as_deref()),
        (&[0][..], Some("U"), Some("F"))
    );
    assert_eq!((found.examined, found.explained.len()), (1, 0));
}

#[test]
fn refused_again_and_again() {
    let denied = |time: i64, reason: &str| {
        let outcome = json!([{ "holder": "pup", "query": "q02", "outcome": "denied", "reason": reason }]);
        let mut entry = with(asked(time, "U", "F"), &json!({ "outcomes": outcome }));
        entry.as_object_mut().unwrap().remove("file");
        entry
    };
    let entries: Vec<Value> = (0..5).map(|n| denied(TEN + n, "not_served")).collect();
    let mut right = asked(TEN + HOUR, "U", "F");
    right.as_object_mut().unwrap().remove("file");
    check(Rule::Refusals, &entries, &[right], &json!({}));
    assert!(look(&entries[..4]).anomalies.is_empty());
    let closed: Vec<Value> = (0..9).map(|n| denied(TEN + n, "log_unavailable")).collect();
    assert!(look(&closed).anomalies.is_empty(), "nobody's fault");
    let peers: Vec<Value> = (0..5)
        .map(|n| with(held(TEN + n, "X", "F"), &json!({ "event": "query.denied", "reason": "ticket_wrong_subject" })))
        .collect();
    assert_eq!(rules(&look(&peers)), [Rule::Refusals]);
}

#[test]
fn one_resident_by_many() {
    let entries: Vec<Value> = ["A", "B", "C", "D"].map(|user| held(TEN, user, "F")).to_vec();
    check(Rule::ManyUsers, &entries, &[held(TEN - DAY, "E", "F"), held(TEN - 2 * DAY, "E", "F")], &json!({}));
    assert!(look(&entries[..3]).anomalies.is_empty());
}

#[test]
fn emergencies_that_nobody_found_justified() {
    let opened = |n: i64| {
        json!({ "event": "emergency.opened", "time": TEN - n * DAY, "asker": "mops", "user": "U", "file": format!("F{n}"),
            "emergency": format!("E{n}"), "basis": "emergency:life" })
    };
    let reviewed = json!({ "event": "emergency.reviewed", "time": TEN, "emergency": "E1", "detail": "justified" });
    check(Rule::Emergencies, &[opened(0), opened(1), opened(2)], &[reviewed], &json!({}));
    let unjustified = json!({ "event": "emergency.reviewed", "time": TEN, "emergency": "E1", "detail": "unjustified" });
    assert_eq!(rules(&look(&[unjustified, opened(0), opened(1), opened(2)])), [Rule::Emergencies]);
}

#[test]
fn after_a_withdrawal_and_after_a_case() {
    let consent = json!({ "event": "consent.granted", "time": TEN - 9 * DAY, "consent": "C", "file": "F" });
    let withdrawn = json!({ "event": "consent.withdrawal_received", "time": TEN - DAY, "consent": "C", "file": "F",
        "detail": "taken by mops" });
    let late = with(held(TEN, "X", "F"), &json!({ "event": "query.denied", "basis": "consent:C" }));
    let renewed = json!({ "event": "consent.granted", "time": TEN - HOUR, "consent": "D", "file": "F" });
    check(Rule::AfterTheEnd, &[consent.clone(), withdrawn.clone(), late.clone()], &[renewed], &json!({}));
    let soon = with(late.clone(), &json!({ "time": TEN - DAY + 120 }));
    assert!(look(&[consent.clone(), withdrawn.clone(), soon]).anomalies.is_empty());
    let partly = with(withdrawn, &json!({ "detail": "taken by mops, of labour-status" }));
    assert!(look(&[consent, partly, late]).anomalies.is_empty());

    let entries = [with(asked(TEN, "U", "F"), &json!({ "case": "C" }))];
    let ended = |day: Date| look_with(&entries, &move |_, _| Some(Case::Ended(day)));
    assert_eq!(rules(&ended(day(TEN - DAY))), [Rule::Unexplained, Rule::AfterTheEnd]);
    assert!(ended(day(TEN)).anomalies.is_empty(), "on its last day it is open");
}

#[test]
fn an_old_certificate_beside_the_new_one() {
    let under = |time: i64, certificate: &str| with(held(time, "X", "F"), &json!({ "certificate": certificate }));
    let entries = [under(TEN - 9 * DAY, "old"), under(TEN - 2 * DAY, "new"), under(TEN, "old"), under(TEN, "new")];
    let found = look(&entries);
    assert_eq!(rules(&found), [Rule::OldCertificate]);
    assert_eq!(found.anomalies[0].entries, [2]);
    // Within a day of the renewal both may be in use.
    assert!(look(&[under(TEN - 9 * DAY, "old"), under(TEN - HOUR, "new"), under(TEN, "old")]).anomalies.is_empty());
}

#[test]
fn a_terminal_the_user_never_worked_from() {
    let from = |time: i64, terminal: &str| {
        with(asked(time, "U", &format!("F{time}")), &json!({ "terminal": terminal, "emergency": "E" }))
    };
    let usual: Vec<Value> = (1..=5).map(|n| from(TEN - n * DAY, "T")).collect();
    let strange = with(asked(TEN, "U", "F"), &json!({ "terminal": "S" }));
    let entries = [usual.clone(), vec![strange.clone()]].concat();
    check(Rule::NewTerminal, &entries, &[], &json!({ "terminal": "T" }));
    check(Rule::NewTerminal, &entries, &[], &json!({ "emergency": "E" }));
    let new = |entries: &[Value]| rules(&look(entries)).contains(&Rule::NewTerminal);
    assert!(new(&entries));
    // Another's terminal is new to this user; one used on any earlier day is not.
    let others = with(from(TEN - DAY, "S"), &json!({ "user": "V" }));
    assert!(new(&[entries.clone(), vec![others]].concat()));
    assert!(!new(&[entries.clone(), vec![from(TEN - 9 * DAY, "S")]].concat()));
    // Who has hardly been seen, or is seen without a terminal, has no usual one.
    assert!(!new(&[usual[1..].to_vec(), vec![strange]].concat()));
    assert!(!new(&[usual, vec![asked(TEN, "U", "F")]].concat()));
}

#[test]
fn values_guessed_at_by_comparing() {
    let entries: Vec<Value> = (0..4)
        .map(|n| {
            let user = ["A", "B"][usize::try_from(n % 2).unwrap()];
            with(held(TEN - n * DAY, user, "F"), &json!({ "query": "q15", "case": "C" }))
        })
        .collect();
    let consent = json!({ "event": "consent.granted", "time": TEN - 9 * DAY, "consent": "C", "file": "F" });
    check(Rule::Comparisons, &entries, &[consent], &json!({ "basis": "consent:C (t@1)" }));
    assert!(look(&entries[..3]).anomalies.is_empty());
}

#[test]
fn somebody_back_after_long() {
    let entries = [held(TEN - 60 * DAY, "U", "G"), held(TEN, "U", "F")];
    check(Rule::Returned, &entries, &[held(TEN - 30 * DAY, "U", "H")], &json!({}));
    let approval = with(entries[1].clone(), &json!({ "event": "approval.granted", "time": TEN - HOUR }));
    check(Rule::Returned, &entries, &[approval], &json!({}));
    assert!(look(&entries[1..]).anomalies.is_empty(), "nobody knows whether a new user was away");
}

#[test]
fn a_rerun_over_more_days_finds_the_same() {
    let entries: Vec<Value> = (0..3).map(|n| asked(TEN - n * DAY, "U", &format!("F{n}"))).collect();
    let (compares, agreed, case) =
        (|_: &str| false, |_: &str, _: &str, _: &str, _: &str| false, |_: &str, _: &str| None);
    let related = &|_: &str, _: &str, _: Kin| false;
    let surroundings =
        Surroundings { compares: &compares, agreed: &agreed, case: &case, related, explained: &|_| false };
    let mut log = Log::default();
    // In any order.
    for (index, entry) in [0, 1, 2].into_iter().zip(&entries).rev() {
        log.take(index, entry, &surroundings);
    }
    let keys = |first: Date| -> Vec<String> {
        let found = review(&log, &Parameters::default(), &surroundings, (first, day(TEN)));
        let unexplained = found.anomalies.into_iter().filter(|anomaly| anomaly.rule == Rule::Unexplained);
        unexplained.map(|anomaly| anomaly.key).collect()
    };
    let (one, all) = (keys(day(TEN)), keys(day(TEN).checked_sub(2.days()).unwrap()));
    assert_eq!((one.len(), all.len()), (1, 3));
    assert!(all.contains(&one[0]));
}
