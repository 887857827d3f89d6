//! The rules of docs/AUDIT.md, one row each.

use super::access::{Access, Came, Case, Kind, by};
use super::explain::Grounds;
use super::{Anomaly, Explanation};
use crate::kin::Kin;
use jiff::ToSpan as _;
use jiff::civil::Date;
use policies::calendar;
use protocol::Timestamp;
use protocol::saying::Message;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use utoipa::ToSchema;

/// What is looked for, by its name in docs/AUDIT.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A1: the user's own data were looked up.
    OwnRecord,
    /// A2: somebody of the user's surname or address was.
    Relative,
    /// A3: another user of this institution was.
    Colleague,
    /// A4: a resident who is restricted, unlisted or dead was looked up.
    MarkedResident,
    /// A5: at night, at a weekend or on a holiday.
    OutOfHours,
    /// A6: more residents in a day than the user or the others in the role usually look up.
    Volume,
    /// A7: residents found mostly by something else than a PESEL.
    OtherKeys,
    /// A8: nothing explains why the resident was looked up.
    Unexplained,
    /// A9: refused again and again.
    Refusals,
    /// A10: one resident by many users in a day.
    ManyUsers,
    /// A11: one user's emergencies.
    Emergencies,
    /// A12: after a consent was withdrawn, or on a case that has ended.
    AfterTheEnd,
    /// A13: a member's old certificate, in use beside the new one.
    OldCertificate,
    /// A13: a terminal the user never worked from before.
    NewTerminal,
    /// A15: many comparisons with one resident's data.
    Comparisons,
    /// A16: a user who was away for long.
    Returned,
}

type Check = fn(Rule, &Grounds<'_>, &[&Access]) -> Vec<Anomaly>;

/// A rule, what clears an access of it, and how it looks at the accesses that are left.
pub(super) struct Row {
    pub(super) rule: Rule,
    pub(super) cleared_by: &'static [Explanation],
    pub(super) check: Check,
}

/// What explains a look-up as such.
pub(super) const ORDINARY: &[Explanation] =
    &[Explanation::Emergency, Explanation::Consent, Explanation::Approval, Explanation::Case, Explanation::Pattern];

pub(super) const RULES: &[Row] = &[
    // An open case is no reason to work on one's own.
    Row { rule: Rule::OwnRecord, cleared_by: &[], check: own_record },
    Row { rule: Rule::Relative, cleared_by: ORDINARY, check: relative },
    Row { rule: Rule::Colleague, cleared_by: ORDINARY, check: colleague },
    Row { rule: Rule::MarkedResident, cleared_by: ORDINARY, check: marked },
    Row { rule: Rule::OutOfHours, cleared_by: ORDINARY, check: out_of_hours },
    Row { rule: Rule::Volume, cleared_by: ORDINARY, check: volume },
    Row { rule: Rule::OtherKeys, cleared_by: ORDINARY, check: other_keys },
    Row { rule: Rule::Unexplained, cleared_by: ORDINARY, check: unexplained },
    Row { rule: Rule::Refusals, cleared_by: &[Explanation::Retried], check: refusals },
    Row { rule: Rule::ManyUsers, cleared_by: ORDINARY, check: many_users },
    Row { rule: Rule::Emergencies, cleared_by: &[Explanation::Justified], check: emergencies },
    Row { rule: Rule::AfterTheEnd, cleared_by: &[Explanation::Renewed], check: after_the_end },
    Row { rule: Rule::OldCertificate, cleared_by: &[], check: old_certificate },
    Row { rule: Rule::NewTerminal, cleared_by: ORDINARY, check: new_terminal },
    Row { rule: Rule::Comparisons, cleared_by: &[Explanation::Consent, Explanation::Approval], check: comparisons },
    Row { rule: Rule::Returned, cleared_by: ORDINARY, check: returned },
];

/// A finding about `accesses`, which are one user's unless `user` says otherwise.
fn anomaly(rule: Rule, key: &[&str], why: (String, String), accesses: &[&Access]) -> Option<Anomaly> {
    let first = accesses.first()?;
    let one = |of: fn(&Access) -> Option<Rc<str>>| -> Option<String> {
        let all: BTreeSet<Option<Rc<str>>> = accesses.iter().map(|access| of(access)).collect();
        all.into_iter().next().filter(|_| accesses.iter().all(|access| of(access) == of(first)))?.map(|s| s.to_string())
    };
    let mut entries: Vec<u64> = accesses.iter().map(|access| access.index).collect();
    entries.sort_unstable();
    Some(Anomaly {
        rule,
        key: key.join("\0"),
        why: Message { pl: why.0, en: why.1 },
        entries,
        time: accesses.iter().map(|access| access.time).min().unwrap_or_default(),
        member: first.member.to_string(),
        user: one(|access| Some(access.user.clone())).filter(|user| !user.is_empty()),
        file: one(|access| access.file.clone()),
    })
}

fn questions<'a>(grounds: &Grounds<'_>, left: &[&'a Access]) -> Vec<&'a Access> {
    left.iter().copied().filter(|access| access.is_question() && grounds.judged(access)).collect()
}

/// First day of the month.
fn month(day: Date) -> Date {
    day.first_of_month()
}

fn distinct_files(accesses: &[&Access]) -> u64 {
    accesses.iter().filter_map(|access| access.file.as_ref()).collect::<BTreeSet<_>>().len() as u64
}

fn own_record(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let why = ("użytkownik sprawdził własne dane", "the user's own data were looked up");
    related(rule, grounds, left, Kin::Own, why)
}

fn relative(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let why = (
        "osoba o nazwisku albo adresie użytkownika, i nic tego nie wyjaśnia",
        "somebody of the user's surname or address, and nothing explains it",
    );
    related(rule, grounds, left, Kin::Relative, why)
}

fn colleague(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let why = ("osoba, która tu pracuje, i nic tego nie wyjaśnia", "somebody who works here, and nothing explains it");
    related(rule, grounds, left, Kin::Colleague, why)
}

/// Residents a user of this institution is close to; a peer's users are known to that peer alone.
fn related(rule: Rule, grounds: &Grounds<'_>, left: &[&Access], kin: Kin, why: (&str, &str)) -> Vec<Anomaly> {
    let close = |access: &Access| {
        let file = access.file.clone().filter(|_| access.kind == Kind::Own)?;
        (grounds.surroundings.related)(&access.user, &file, kin).then(|| (access.who(), file, access.day))
    };
    let found = by(questions(grounds, left), close).into_iter().filter_map(|((who, file, day), accesses)| {
        let why = (why.0.to_owned(), why.1.to_owned());
        anomaly(rule, &[&who.0, &who.1, &file, &day.to_string()], why, &accesses)
    });
    found.collect()
}

fn marked(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let flag = |access: &Access| grounds.log.mark_at(access.file.as_ref()?, access.place());
    let groups =
        by(questions(grounds, left), |access| Some((access.who(), access.file.clone()?, access.day, flag(access)?)));
    let found = groups.into_iter().filter_map(|((who, file, day, flag), accesses)| {
        let why = (
            format!("sprawdzono osobę oznaczoną ({flag}), i nic tego nie wyjaśnia"),
            format!("a marked resident ({flag}) was looked up, and nothing explains it"),
        );
        anomaly(rule, &[&who.0, &who.1, &file, &day.to_string()], why, &accesses)
    });
    found.collect()
}

fn out_of_hours(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let late = |access: &Access| calendar::out_of_hours(Timestamp(access.time)).then(|| (access.who(), access.day));
    let found = by(questions(grounds, left), late).into_iter().filter_map(|((who, day), accesses)| {
        let times = accesses.len();
        let why = (
            format!("{times} razy poza godzinami pracy w dniu {day}, bez wyjaśnienia"),
            format!("{times} times out of office hours on {day}, unexplained"),
        );
        anomaly(rule, &[&who.0, &who.1, &day.to_string()], why, &accesses)
    });
    found.collect()
}

fn volume(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let asked: Vec<&Access> = left.iter().copied().filter(|access| access.is_question()).collect();
    let days =
        by(asked, |access| Some(((access.member.clone(), access.role.clone()), access.day, access.user.clone())));
    let counts: BTreeMap<_, u64> = days.iter().map(|(key, accesses)| (key.clone(), distinct_files(accesses))).collect();
    let found = days.iter().filter_map(|((group, day, user), accesses)| {
        let parameters = grounds.parameters;
        let many = distinct_files(accesses);
        if !accesses.iter().any(|access| grounds.judged(access)) || many < parameters.volume_residents {
            return None;
        }
        let before = day.checked_sub(30.days()).ok()?;
        let of = |(g, d, u): &(_, Date, Rc<str>)| g == group && (u == user && (before..*day).contains(d));
        let own: Vec<u64> = counts.iter().filter(|(key, _)| of(key)).map(|(_, count)| *count).collect();
        let usual = own.iter().sum::<u64>().checked_div(own.len() as u64).unwrap_or_default();
        let of = |(g, d, u): &(_, Date, Rc<str>)| g == group && d == day && u != user;
        let mut others: Vec<u64> = counts.iter().filter(|(key, _)| of(key)).map(|(_, count)| *count).collect();
        others.sort_unstable();
        let median = others.get(others.len() / 2).copied().unwrap_or_default();
        if many <= parameters.volume_factor * usual.max(median) {
            return None;
        }
        let why = (
            format!("{many} osób w dniu {day} bez wyjaśnienia; zwykle {usual}, inni w tej roli {median}"),
            format!("{many} residents on {day}, unexplained; usually {usual}, others in the role {median}"),
        );
        anomaly(rule, &[&group.0, user, &day.to_string()], why, accesses)
    });
    found.collect()
}

/// Accesses by member, user or resident, and month.
type ByMonth<'a> = BTreeMap<(Rc<str>, Rc<str>, Date), Vec<&'a Access>>;

/// Accesses of the months that are judged.
fn by_month<'a>(grounds: &Grounds<'_>, left: &[&'a Access], also: impl Fn(&Access) -> Option<Rc<str>>) -> ByMonth<'a> {
    let (first, last) = (month(grounds.days.0), grounds.days.1);
    let within = left.iter().copied().filter(|access| (first..=last).contains(&access.day));
    by(within, |access| Some((access.member.clone(), also(access)?, month(access.day))))
}

fn other_keys(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let own = |access: &Access| (access.kind == Kind::Own).then(|| access.user.clone());
    let found = by_month(grounds, left, own).into_iter().filter_map(|((member, user, month), all)| {
        let others: Vec<&Access> = all.iter().copied().filter(|access| access.other_key).collect();
        if (others.len() as u64) < grounds.parameters.other_keys || others.len() * 2 <= all.len() {
            return None;
        }
        let (times, of) = (others.len(), all.len());
        let why = (
            format!("{times} z {of} niewyjaśnionych wyszukań w miesiącu od {month} nie po numerze PESEL"),
            format!("{times} of {of} unexplained searches in the month from {month} by something else than a PESEL"),
        );
        anomaly(rule, &[&member, &user, &month.to_string()], why, &others)
    });
    found.collect()
}

fn unexplained(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    // What a peer's question is for, its own officer knows.
    let own = |access: &Access| {
        if access.kind == Kind::Own { Some((access.who(), access.file.clone()?, access.day)) } else { None }
    };
    let found = by(questions(grounds, left), own).into_iter().filter_map(|((who, file, day), accesses)| {
        let why = (
            "nie widać sprawy, zgody, zatwierdzenia ani stałego wzorca".to_owned(),
            "no case, consent, approval or pattern is to be seen".to_owned(),
        );
        anomaly(rule, &[&who.0, &who.1, &file, &day.to_string()], why, &accesses)
    });
    found.collect()
}

fn refusals(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let refused = |access: &Access| (access.came == Came::Refused).then(|| (access.who(), access.day));
    let found = by(questions(grounds, left), refused).into_iter().filter_map(|((who, day), accesses)| {
        let times = accesses.len();
        if (times as u64) < grounds.parameters.refusals {
            return None;
        }
        let nobody = accesses.iter().filter(|access| access.file.is_none()).count();
        let why = (
            format!("{times} odmów w dniu {day}, w tym {nobody} o osoby, których tu nie ma"),
            format!("refused {times} times on {day}, {nobody} of them about nobody who is on file here"),
        );
        anomaly(rule, &[&who.0, &who.1, &day.to_string()], why, &accesses)
    });
    found.collect()
}

fn many_users(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let of_file = |access: &Access| Some((access.file.clone()?, access.day));
    let found = by(questions(grounds, left), of_file).into_iter().filter_map(|((file, day), accesses)| {
        let users = accesses.iter().map(|access| access.who()).collect::<BTreeSet<_>>().len();
        if (users as u64) < grounds.parameters.users {
            return None;
        }
        let why = (
            format!("{users} osób sprawdzało tę samą osobę w dniu {day}, bez wyjaśnienia"),
            format!("{users} users looked up the same resident on {day}, unexplained"),
        );
        anomaly(rule, &[&file, &day.to_string()], why, &accesses)
    });
    found.collect()
}

fn emergencies(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    // Here an emergency counts when it is opened; a peer's when we answer on it.
    let user = |access: &Access| {
        let counts = access.kind == Kind::Opened || access.kind == Kind::Peer && access.answered();
        (access.emergency.is_some() && counts).then(|| access.user.clone())
    };
    let found = by_month(grounds, left, user).into_iter().filter_map(|((member, user, month), accesses)| {
        let times = accesses.iter().map(|access| access.emergency.clone()).collect::<BTreeSet<_>>().len();
        if (times as u64) < grounds.parameters.emergencies {
            return None;
        }
        let why = (
            format!("{times} dostępów nagłych w miesiącu od {month}, których nikt nie uznał za uzasadnione"),
            format!("{times} emergencies in the month from {month} that nobody found justified"),
        );
        anomaly(rule, &[&member, &user, &month.to_string()], why, &accesses)
    });
    found.collect()
}

fn after_the_end(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let consent = |access: &Access| {
        let id = access.consent.clone()?;
        let (withdrawn, _) = grounds.log.consents.get(&id)?.withdrawn?;
        (access.time > withdrawn + grounds.parameters.withdrawal_seconds).then(|| (access.who(), id))
    };
    let withdrawn = by(questions(grounds, left), consent).into_iter().filter_map(|((who, id), accesses)| {
        let why = (
            format!("na zgodzie {id}, która była już wycofana"),
            format!("on the consent {id}, which was withdrawn before"),
        );
        anomaly(rule, &[&who.0, &who.1, "consent", &id], why, &accesses)
    });
    let case = |access: &Access| match grounds.on_file(access)? {
        Case::Ended(last) if access.day > last => Some((access.who(), access.file.clone()?, last)),
        Case::Ended(_) | Case::Open => None,
    };
    let ended = by(questions(grounds, left), case).into_iter().filter_map(|((who, file, last), accesses)| {
        let why = (
            format!("w sprawie, która według akt skończyła się {last}"),
            format!("on a case that ended on {last}, by the records here"),
        );
        anomaly(rule, &[&who.0, &who.1, "case", &file], why, &accesses)
    });
    withdrawn.chain(ended).collect()
}

fn old_certificate(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let seen = by(left.iter().copied(), |access| Some((access.member.clone(), access.certificate.clone()?)));
    let first = |accesses: &[&Access]| accesses.first().map_or(i64::MAX, |access| access.time);
    let overlap = grounds.parameters.certificate_hours * 60 * 60;
    let found = seen.iter().filter_map(|((member, certificate), accesses)| {
        let newer = seen
            .iter()
            .filter(|((other, _), others)| other == member && first(others) > first(accesses))
            .map(|(_, others)| first(others))
            .min()?;
        let late: Vec<&Access> =
            accesses.iter().copied().filter(|a| grounds.judged(a) && a.time > newer + overlap).collect();
        let why = (
            format!("certyfikat {certificate}, który {member} zastąpił nowszym, jest nadal w użyciu"),
            format!("the certificate {certificate}, which {member} replaced by a newer one, is still in use"),
        );
        anomaly(rule, &[member, certificate], why, &late)
    });
    found.collect()
}

/// Own users alone: no terminal's name leaves its institution.
fn new_terminal(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let all = by(&grounds.log.accesses, |access| access.terminal.as_ref().map(|_| access.who()));
    let at = |access: &Access| Some((access.who(), access.terminal.clone()?, access.day));
    let found = by(questions(grounds, left), at).into_iter().filter_map(|((who, terminal, day), accesses)| {
        let before = || all.get(&who).into_iter().flatten().filter(|access| access.day < day);
        let days = before().map(|access| access.day).collect::<BTreeSet<_>>().len();
        let known = before().any(|access| access.terminal.as_ref() == Some(&terminal));
        if known || (days as u64) < grounds.parameters.terminal_days {
            return None;
        }
        let why = (
            format!("ze stanowiska {terminal}, z którego ta osoba wcześniej nie pracowała, bez wyjaśnienia"),
            format!("from the terminal {terminal}, which this user never worked from before, unexplained"),
        );
        anomaly(rule, &[&who.0, &who.1, &terminal, &day.to_string()], why, &accesses)
    });
    found.collect()
}

fn comparisons(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let file = |access: &Access| access.file.clone().filter(|_| access.compares && access.is_question());
    let found = by_month(grounds, left, file).into_iter().filter_map(|((member, file, month), accesses)| {
        let times = accesses.len();
        if (times as u64) < grounds.parameters.comparisons {
            return None;
        }
        let why = (
            format!("{times} porównań z danymi tej samej osoby w miesiącu od {month}"),
            format!("{times} comparisons with the same resident's data in the month from {month}"),
        );
        anomaly(rule, &[&member, &file, &month.to_string()], why, &accesses)
    });
    found.collect()
}

fn returned(rule: Rule, grounds: &Grounds<'_>, left: &[&Access]) -> Vec<Anomaly> {
    let all = by(&grounds.log.accesses, |access| (!access.user.is_empty()).then(|| access.who()));
    let found = by(questions(grounds, left), |access| Some((access.who(), access.day))).into_iter().filter_map(
        |((who, day), accesses)| {
            let before = all.get(&who)?.iter().rev().find(|access| access.day < day)?.day;
            let days = (day - before).get_days();
            if i64::from(days) < grounds.parameters.absence_days {
                return None;
            }
            let why = (
                format!("pierwszy ślad tej osoby po {days} dniach, bez wyjaśnienia"),
                format!("the first trace of this user in {days} days, unexplained"),
            );
            anomaly(rule, &[&who.0, &who.1, &day.to_string()], why, &accesses)
        },
    );
    found.collect()
}
