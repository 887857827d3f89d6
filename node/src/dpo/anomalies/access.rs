//! What of the log the rules look at, read once: accesses, consents, approvals, emergencies, marks.

use crate::kin::Kin;
use audit::{EventKind, Retention};
use jiff::civil::Date;
use policies::calendar;
use protocol::{Reason, Timestamp, Told};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// What is known besides the log.
pub(super) struct Surroundings<'a> {
    /// Whether a query type compares values.
    pub(super) compares: &'a dyn Fn(&str) -> bool,
    /// Whether an agreement covers this asker, holder, query and purpose.
    pub(super) agreed: &'a dyn Fn(&str, &str, &str, &str) -> bool,
    /// What the records here say of a case reference of this file, both as they stand in entries.
    pub(super) case: &'a dyn Fn(&str, &str) -> Option<Case>,
    /// Whether a user of this institution is close to the resident of a file, both as they stand in entries.
    pub(super) related: &'a dyn Fn(&str, &str, Kin) -> bool,
    /// Whether an officer found the access of this entry explained.
    pub(super) explained: &'a dyn Fn(u64) -> bool,
}

/// A resident's own case number on file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// Nothing says that it ended.
    Open,
    /// Its last day.
    Ended(Date),
}

/// One user's look-up of one resident, or the opening of an emergency.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) index: u64,
    pub(super) time: i64,
    pub(super) day: Date,
    pub(super) kind: Kind,
    /// Who asked.
    pub(super) member: Rc<str>,
    pub(super) user: Rc<str>,
    pub(super) role: Rc<str>,
    /// The resident; unknown where nobody was found.
    pub(super) file: Option<Rc<str>>,
    /// Everything that was asked, as one word: for comparing.
    pub(super) question: Rc<str>,
    /// Whether agreements cover all of it.
    pub(super) agreed: bool,
    /// Whether any of it compares values.
    pub(super) compares: bool,
    pub(super) came: Came,
    pub(super) case: Option<Rc<str>>,
    pub(super) consent: Option<Rc<str>>,
    pub(super) emergency: Option<Rc<str>>,
    pub(super) approved_key: Rc<str>,
    /// Own questions: whether the resident was found by something else than a PESEL.
    pub(super) other_key: bool,
    /// Own questions: the terminal, where the identity provider names it.
    pub(super) terminal: Option<Rc<str>>,
    /// A peer's: SHA-256 of the certificate it came under.
    pub(super) certificate: Option<Rc<str>>,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Somebody answered.
    Answered,
    /// All of it was refused, and not because something was out of order.
    Refused,
    Neither,
}

/// What sort of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Asked here.
    Own,
    /// Asked by a peer.
    Peer,
    /// An emergency opened here.
    Opened,
}

impl Access {
    pub(super) fn is_question(&self) -> bool {
        self.kind != Kind::Opened
    }

    pub(super) fn place(&self) -> Place {
        (self.time, self.index)
    }

    pub(super) fn answered(&self) -> bool {
        self.came == Came::Answered
    }

    /// A user as two words: ids are an institution's own.
    pub(super) fn who(&self) -> (Rc<str>, Rc<str>) {
        (self.member.clone(), self.user.clone())
    }
}

/// A consent as the log has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Consent {
    pub(super) file: Option<Rc<str>>,
    /// The first moment and place of each.
    pub(super) given: Option<Place>,
    pub(super) withdrawn: Option<Place>,
}

/// When and where an entry stands: of one second, the log's order counts.
pub(super) type Place = (i64, u64);

/// The log as the rules have it.
#[derive(Default)]
pub(super) struct Log {
    pub(super) accesses: Vec<Access>,
    pub(super) consents: HashMap<Rc<str>, Consent>,
    /// When questions were approved, by [`Access::approved_key`].
    pub(super) approvals: HashMap<Rc<str>, Place>,
    /// Emergencies whose review found them justified.
    pub(super) justified: HashSet<Rc<str>>,
    /// Every change of a mark, by file.
    marks: HashMap<Rc<str>, Vec<Mark>>,
    words: RefCell<HashSet<Rc<str>>>,
}

/// From when on a resident was, or was no more, restricted, unlisted or dead.
struct Mark {
    at: Place,
    flag: Rc<str>,
    set: bool,
}

/// Flags under which nobody has a reason to look.
const MARKS: [&str; 3] = ["restricted", "unlisted", "deceased"];
/// Events that are no accesses; an early one still matters, and is kept as long as the resident is on file.
pub(super) fn lasting() -> impl Iterator<Item = EventKind> {
    EventKind::ALL.iter().copied().filter(|event| event.retention() == Retention::OnFile)
}

fn text<'a>(payload: &'a Value, field: &str) -> &'a str {
    payload.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a code means that something was out of order, and not the question.
fn out_of_order(code: &str) -> bool {
    let closed = |reason: &Reason| reason.told() == Told::Closed && reason.code() == code;
    code == Told::Closed.code() || Reason::ALL.iter().any(closed)
}

impl Log {
    /// The same text once.
    fn word(&self, text: &str) -> Rc<str> {
        let mut words = self.words.borrow_mut();
        if let Some(known) = words.get(text) {
            return known.clone();
        }
        let new: Rc<str> = text.into();
        words.insert(new.clone());
        new
    }

    fn given(&self, payload: &Value, field: &str) -> Option<Rc<str>> {
        let text = text(payload, field);
        (!text.is_empty()).then(|| self.word(text))
    }

    /// Takes an entry; entries may come in any order.
    pub(super) fn take(&mut self, index: u64, payload: &Value, surroundings: &Surroundings<'_>) {
        let time = payload.get("time").and_then(Value::as_i64).unwrap_or_default();
        let Some(day) = calendar::local(Timestamp(time)).map(jiff::civil::DateTime::date) else { return };
        let event = text(payload, "event");
        match event {
            "query.outcome" => self.asked(index, time, day, payload, surroundings),
            "query.answered" | "query.denied" | "query.no_match" => self.held(index, time, day, payload, surroundings),
            "emergency.opened" => {
                let access = self.access(index, time, day, Kind::Opened, payload);
                self.accesses.push(access);
            }
            "emergency.reviewed" if text(payload, "detail") == "justified" => {
                self.justified.extend(self.given(payload, "emergency"));
            }
            "approval.granted" => {
                let key = self.word(&approved_key(payload));
                let first = self.approvals.entry(key).or_insert((time, index));
                *first = (time, index).min(*first);
            }
            "consent.recorded"
            | "consent.granted"
            | "consent.withdrawn"
            | "consent.withdrawal_received"
            | "consent.superseded" => {
                self.consent(event, (time, index), payload);
            }
            "flag.set" | "flag.cleared" => {
                let flags: Vec<&str> = text(payload, "detail").split(", ").collect();
                self.mark(payload, &flags, event == "flag.set", (time, index));
            }
            "resident.restricted" => {
                self.mark(payload, &["restricted"], text(payload, "decision") != "lifted", (time, index));
            }
            _ => {}
        }
    }

    fn access(&self, index: u64, time: i64, day: Date, kind: Kind, payload: &Value) -> Access {
        let basis = text(payload, "basis");
        let consent = basis.strip_prefix("consent:").and_then(|rest| rest.split(' ').next());
        Access {
            index,
            time,
            day,
            kind,
            member: self.word(text(payload, "asker")),
            user: self.word(text(payload, "user")),
            role: self.word(text(payload, "role")),
            file: self.given(payload, "file"),
            question: self.word(""),
            agreed: false,
            compares: false,
            came: Came::Neither,
            case: self.given(payload, "case"),
            consent: consent.map(|id| self.word(id)),
            emergency: self.given(payload, "emergency"),
            approved_key: self.word(&approved_key(payload)),
            other_key: !matches!(text(payload, "search_key"), "" | "pesel"),
            terminal: self.given(payload, "terminal"),
            certificate: self.given(payload, "certificate"),
        }
    }

    /// A question of our own, with what came of it.
    fn asked(&mut self, index: u64, time: i64, day: Date, payload: &Value, surroundings: &Surroundings<'_>) {
        let mut access = self.access(index, time, day, Kind::Own, payload);
        let outcomes: Vec<&Value> = payload.get("outcomes").and_then(Value::as_array).into_iter().flatten().collect();
        // What waits for a person is asked again, and counts then.
        if !outcomes.is_empty() && outcomes.iter().all(|outcome| text(outcome, "outcome") == "pending") {
            return;
        }
        let purpose = text(payload, "purpose");
        let asked: BTreeSet<String> = outcomes
            .iter()
            .map(|outcome| format!("{}@{}", text(outcome, "query"), text(outcome, "holder")))
            .chain([purpose.to_owned()])
            .collect();
        access.question = self.word(&asked.into_iter().collect::<Vec<_>>().join(" "));
        access.agreed = !outcomes.is_empty()
            && outcomes.iter().all(|outcome| {
                (surroundings.agreed)(&access.member, text(outcome, "holder"), text(outcome, "query"), purpose)
            });
        access.compares = outcomes.iter().any(|outcome| (surroundings.compares)(text(outcome, "query")));
        let answered = |outcome: &&Value| text(outcome, "outcome") == "answered";
        let refused = |outcome: &&Value| text(outcome, "outcome") == "denied" && !out_of_order(text(outcome, "reason"));
        if outcomes.iter().any(answered) {
            access.came = Came::Answered;
        } else if !outcomes.is_empty() && outcomes.iter().all(refused) {
            access.came = Came::Refused;
        }
        self.accesses.push(access);
    }

    /// A peer's question.
    fn held(&mut self, index: u64, time: i64, day: Date, payload: &Value, surroundings: &Surroundings<'_>) {
        let mut access = self.access(index, time, day, Kind::Peer, payload);
        let query = text(payload, "query");
        access.question = self.word(&format!("{query} {}", text(payload, "purpose")));
        if text(payload, "event") == "query.answered" {
            access.came = Came::Answered;
        } else if !out_of_order(text(payload, "reason")) {
            access.came = Came::Refused;
        }
        access.agreed = access.answered() && !text(payload, "agreement").is_empty();
        access.compares = (surroundings.compares)(query);
        self.accesses.push(access);
    }

    fn consent(&mut self, event: &str, at: Place, payload: &Value) {
        let Some(id) = self.given(payload, "consent") else { return };
        // What is withdrawn in part is not withdrawn.
        let partly = text(payload, "detail").contains(", of ");
        let file = self.given(payload, "file");
        let consent = self.consents.entry(id).or_default();
        consent.file = consent.file.take().or(file);
        if matches!(event, "consent.recorded" | "consent.granted") {
            consent.given = Some(consent.given.map_or(at, |given| given.min(at)));
        } else if !partly {
            consent.withdrawn = Some(consent.withdrawn.map_or(at, |withdrawn| withdrawn.min(at)));
        }
    }

    fn mark(&mut self, payload: &Value, flags: &[&str], set: bool, at: Place) {
        let Some(file) = self.given(payload, "file") else { return };
        for flag in flags.iter().filter(|flag| MARKS.contains(flag)) {
            let flag = self.word(flag);
            self.marks.entry(file.clone()).or_default().push(Mark { at, flag, set });
        }
    }

    /// A mark the resident of `file` had then.
    pub(super) fn mark_at(&self, file: &str, at: Place) -> Option<&'static str> {
        let changes = self.marks.get(file)?;
        let set = |flag: &&str| {
            let before = changes.iter().filter(|mark| &*mark.flag == *flag && mark.at <= at);
            before.max_by_key(|mark| mark.at).is_some_and(|mark| mark.set)
        };
        MARKS.into_iter().find(set)
    }
}

/// By what an approval and the question it is about are the same.
fn approved_key(payload: &Value) -> String {
    ["asker", "file", "query", "purpose"].map(|field| text(payload, field)).join(" ")
}

/// Accesses by something they have in common, each group in the order of time.
pub(super) fn by<'a, K: Ord>(
    accesses: impl IntoIterator<Item = &'a Access>,
    key: impl Fn(&Access) -> Option<K>,
) -> BTreeMap<K, Vec<&'a Access>> {
    let mut groups: BTreeMap<K, Vec<&Access>> = BTreeMap::new();
    for access in accesses {
        if let Some(key) = key(access) {
            groups.entry(key).or_default().push(access);
        }
    }
    for group in groups.values_mut() {
        group.sort_by_key(|access| (access.time, access.index));
    }
    groups
}
