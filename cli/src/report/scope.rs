//! R4, R7 and R9: single accesses. Whose data were seen; what was opened in an emergency; what single persons did.

use super::told::Told;
use super::{Asked, Context, Report, Section, Words, count, outcomes, str_of, time_of};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How long a supervisory authority may wait for a notification (GDPR art. 33(1)).
const NOTIFY_SECONDS: i64 = 72 * 60 * 60;
/// A line to be filled by hand.
const BLANK: &str = "________________________________________";

/// Files whose data left, came, or were looked at here, with what of them. Which user, peer, key or period: the export's
/// filter says.
#[derive(Default)]
pub(crate) struct Scope {
    asked: Asked,
    /// What others saw of this institution's data.
    given: Direction,
    /// What this institution got of others.
    got: Direction,
    /// What officers and approvers saw here: how often, and of what kind.
    here: BTreeMap<String, (u64, BTreeSet<String>)>,
    /// By member, message key and certificate.
    keys: BTreeMap<[String; 3], u64>,
    period: Option<(i64, i64)>,
}

/// Data on their way from one institution to another.
#[derive(Default)]
struct Direction {
    files: BTreeMap<String, Seen>,
    /// By field, and whether it was compared only.
    fields: BTreeMap<(String, bool), u64>,
    channels: BTreeMap<(String, String), u64>,
}

#[derive(Default)]
struct Seen {
    times: u64,
    told: Told,
}

impl Direction {
    fn add(&mut self, file: &str, asker: &str, holder: &str, told: &Told) {
        let seen = self.files.entry(file.to_owned()).or_default();
        seen.times += 1;
        seen.told.add(told);
        for (fields, compared) in [(&told.released, false), (&told.compared, true)] {
            for field in fields {
                count(&mut self.fields, (field.clone(), compared));
            }
        }
        count(&mut self.channels, (asker.to_owned(), holder.to_owned()));
    }

    /// Who had it from whom, what, and about whom; nothing if nobody had anything.
    fn tables(&self, name: &str, words: &Words) -> Vec<Section> {
        if self.files.is_empty() {
            return Vec::new();
        }
        let table = |(pl, en): (&str, &str), columns: &[(&str, &str)], rows: Vec<Vec<String>>| Section::Table {
            title: format!("{}: {name}", words.say(pl, en)),
            columns: words.columns(columns),
            rows,
        };
        let channel = |((asker, holder), times): (&(String, String), &u64)| {
            vec![words.member(asker), words.member(holder), times.to_string()]
        };
        let field = |((field, compared), times): (&(String, bool), &u64)| {
            let special = if words.special(field) { words.say("tak", "yes") } else { "" };
            let how = if *compared { words.say("porównano", "compared") } else { words.say("wydano", "released") };
            vec![words.field(field), special.to_owned(), how.to_owned(), times.to_string()]
        };
        let person =
            |(file, seen): (&String, &Seen)| vec![file.clone(), seen.times.to_string(), seen.told.words(words)];
        vec![
            table(
                ("Kanały", "Channels"),
                &[("kto pytał", "asker"), ("kto odpowiadał", "holder"), ("ile razy", "times")],
                self.channels.iter().map(channel).collect(),
            ),
            table(
                ("Kategorie danych", "Categories of data"),
                &[("dane", "data"), ("szczególne", "special"), ("jak", "how"), ("ile razy", "times")],
                self.fields.iter().map(field).collect(),
            ),
            table(
                ("Osoby, według numeru akt w dzienniku", "Persons, by file id of the log"),
                &[("akta", "file"), ("ile razy", "times"), ("dane", "data")],
                self.files.iter().map(person).collect(),
            ),
        ]
    }
}

impl Report for Scope {
    fn take(&mut self, _: u64, entry: &Value, words: &Words) {
        let [event, file, asker] = ["event", "file", "asker"].map(|field| str_of(entry, field));
        let seen = match event {
            "query.answered" => {
                self.given.add(file, asker, str_of(entry, "holder"), &Told::here(entry, words));
                if entry.get("key").is_some() {
                    count(&mut self.keys, ["asker", "key", "certificate"].map(|field| str_of(entry, field).to_owned()));
                }
                true
            }
            "query.outcome" => {
                let answered: Vec<&Value> =
                    outcomes(entry).filter(|outcome| str_of(outcome, "outcome") == "answered").collect();
                for outcome in &answered {
                    self.got.add(file, asker, str_of(outcome, "holder"), &Told::there(entry, outcome, words));
                }
                !answered.is_empty()
            }
            _ => self.looked(event, file, words),
        };
        if seen {
            let time = time_of(entry);
            let (first, last) = self.period.unwrap_or((time, time));
            self.period = Some((first.min(time), last.max(time)));
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let say = |pl: &str, en: &str| words.say(pl, en).to_owned();
        let facts = self.facts(context);
        let mut sections = vec![Section::Facts(facts)];
        sections.extend(self.given.tables(words.say("nasze dane u innych", "ours, seen by others"), words));
        sections.extend(self.got.tables(words.say("dane otrzymane od innych", "others', got here"), words));
        if !self.here.is_empty() {
            let row = |(file, (times, kinds)): (&String, &(u64, BTreeSet<String>))| {
                vec![file.clone(), times.to_string(), kinds.iter().cloned().collect::<Vec<_>>().join("; ")]
            };
            sections.push(Section::Table {
                title: say(
                    "Osoby, których dane oglądano w tej instytucji: inspektorzy i zatwierdzający",
                    "Persons looked at in this institution, by officers and approvers",
                ),
                columns: words.columns(&[("akta", "file"), ("ile razy", "times"), ("co", "what")]),
                rows: self.here.iter().map(row).collect(),
            });
        }
        let key = |([asker, key, certificate], times): (&[String; 3], &u64)| {
            vec![words.member(asker), key.clone(), certificate.clone(), times.to_string()]
        };
        sections.push(Section::Table {
            title: say("Klucze i certyfikaty", "Keys and certificates"),
            columns: words.columns(&[
                ("kto pytał", "asker"),
                ("klucz", "key"),
                ("certyfikat (SHA-256)", "certificate (SHA-256)"),
                ("ile razy", "times"),
            ]),
            rows: self.keys.iter().map(key).collect(),
        });
        sections.extend(to_be_filled(words));
        (say("Zakres naruszenia (art. 33 RODO)", "Scope of a breach (GDPR art. 33)"), sections)
    }
}

impl Scope {
    /// About what was asked.
    pub(crate) fn of(asked: Asked) -> Self {
        Scope { asked, ..Scope::default() }
    }

    /// What an officer or approver saw; whether anything.
    fn looked(&mut self, event: &str, file: &str, words: &Words) -> bool {
        let what = match event {
            "resident.shown" => words.say("dane w aktach", "the data on file"),
            "dpo.reported" | "dpo.exported" => words.say("zapisy w dzienniku", "entries of the log"),
            "approval.granted" | "approval.refused" => words.say("pytanie do decyzji", "a question to decide on"),
            _ => return false,
        };
        // What was looked at here no peer saw.
        if file.is_empty() || self.asked.peer.is_some() {
            return false;
        }
        let (times, kinds) = self.here.entry(file.to_owned()).or_default();
        *times += 1;
        kinds.insert(what.to_owned());
        true
    }

    fn facts(&self, context: &Context<'_>) -> Vec<(String, String)> {
        let words = context.words;
        let say = |pl: &str, en: &str| words.say(pl, en).to_owned();
        let seen = || self.given.files.iter().chain(&self.got.files);
        let special = seen().filter(|(_, seen)| seen.told.fields().any(|field| words.special(field)));
        let special: BTreeSet<&String> = special.map(|(file, _)| file).collect();
        let persons: BTreeSet<&String> = seen().map(|(file, _)| file).chain(self.here.keys()).collect();
        let moment = |at: Option<i64>| at.map_or_else(|| "–".to_owned(), super::moment);
        let deadline = match self.asked.aware {
            None => say(
                "72 godziny od stwierdzenia naruszenia (art. 33 RODO)",
                "72 hours from becoming aware (GDPR art. 33)",
            ),
            Some(aware) => {
                let deadline = aware.saturating_add(NOTIFY_SECONDS);
                let over = context.exported.exported_at > deadline;
                let over = if over { words.say(" (minął)", " (over)") } else { "" };
                format!("{}{over}", super::moment(deadline))
            }
        };
        let mut facts = vec![
            (say("Liczba osób", "Persons"), persons.len().to_string()),
            (
                say("w tym dane szczególnych kategorii (art. 9, 10)", "of them with special categories (art. 9, 10)"),
                special.len().to_string(),
            ),
            (say("w tym: nasze dane u innych", "of them: ours, seen by others"), self.given.files.len().to_string()),
            (say("w tym: dane otrzymane od innych", "of them: others', got here"), self.got.files.len().to_string()),
            (
                say("w tym: oglądane w tej instytucji", "of them: looked at in this institution"),
                self.here.len().to_string(),
            ),
            (say("Pierwszy dostęp", "First access"), moment(self.period.map(|(first, _)| first))),
            (say("Ostatni dostęp", "Last access"), moment(self.period.map(|(_, last)| last))),
        ];
        if self.asked.aware.is_some() {
            facts.push((say("Stwierdzenie naruszenia", "Became aware"), moment(self.asked.aware)));
        }
        facts.push((say("Termin zgłoszenia do UODO", "Deadline of the notification"), deadline));
        facts
    }
}

/// What the notification wants besides, and no log knows (GDPR art. 33(3)(b) to (d)).
fn to_be_filled(words: &Words) -> [Section; 2] {
    let heads = [
        (
            "Punkt kontaktowy: inspektor ochrony danych lub inna osoba (art. 33 ust. 3 lit. b)",
            "Contact point: data-protection officer or another (art. 33(3)(b))",
        ),
        ("Możliwe konsekwencje naruszenia (art. 33 ust. 3 lit. c)", "Likely consequences (art. 33(3)(c))"),
        ("Środki zastosowane lub proponowane (art. 33 ust. 3 lit. d)", "Measures taken or proposed (art. 33(3)(d))"),
    ];
    let lines = heads.map(|(pl, en)| (words.say(pl, en).to_owned(), BLANK.to_owned()));
    let head = words.say("Do uzupełnienia w formularzu UODO:", "To be filled in the authority's form:");
    [Section::Text(head.to_owned()), Section::Facts(lines.to_vec())]
}

/// Emergency accesses with their reviews.
#[derive(Default)]
pub(crate) struct Emergencies {
    /// When danger was declared: a review's time runs from then.
    declared: BTreeMap<String, i64>,
    accesses: Vec<Access>,
    reviewed: BTreeMap<String, Review>,
    /// How the resident is told, or that it is not so, and why.
    notices: BTreeMap<String, (String, String)>,
}

/// One that was taken here, with everything seen on it, or an answer on a peer's.
struct Access {
    time: i64,
    id: String,
    taken: bool,
    asker: String,
    user: String,
    /// The library's reason, or the emergency's id.
    why: String,
    text: String,
    seen: Vec<String>,
    /// When its review is due.
    due: Option<i64>,
}

struct Review {
    at: i64,
    /// What it came to: `justified` or `unjustified`.
    outcome: String,
    /// Who reviewed it here; empty when the other side did.
    by: String,
    /// What the reviewer says.
    text: String,
}

impl Access {
    fn of(entry: &Value, taken: bool, declared: Option<i64>, words: &Words) -> Self {
        let text = |field: &str| str_of(entry, field).to_owned();
        let basis = str_of(entry, "basis").strip_prefix("emergency:").unwrap_or_default();
        // A holder's basis is the library's rule, and its detail the reason that was given.
        let reason = Some(str_of(entry, "detail")).filter(|reason| !taken && !reason.is_empty());
        let why = reason.unwrap_or(basis).to_owned();
        let told = entry.get("obligations").and_then(|duties| duties.get("review_by")).and_then(Value::as_i64);
        let due = told.or_else(|| words.review_by(&why, declared.unwrap_or_else(|| time_of(entry))));
        Access {
            time: time_of(entry),
            id: text("emergency"),
            taken,
            asker: words.member(str_of(entry, "asker")),
            user: text("user"),
            why,
            text: text("reason_text"),
            seen: Vec::new(),
            due,
        }
    }

    /// Whether a review is late at `at`, by the node's own reckoning.
    fn late(&self, at: i64) -> bool {
        let grace = if self.taken { 0 } else { node::REVIEW_GRACE_SECONDS };
        self.due.is_some_and(|due| at > due.saturating_add(grace))
    }

    fn row(self, review: Option<&Review>, told: Option<&(String, String)>, now: i64, words: &Words) -> Vec<String> {
        let late = |at: i64| self.late(at).then(|| words.say("po terminie", "overdue"));
        let (state, by, text) = match review {
            Some(Review { at, outcome, by, text }) => {
                let outcome = match outcome.as_str() {
                    "justified" => words.say("uzasadniony", "justified"),
                    "unjustified" => words.say("nieuzasadniony", "not justified"),
                    other => other,
                };
                let late = late(*at).map(|late| format!(", {late}")).unwrap_or_default();
                (format!("{} {outcome}{late}", super::moment(*at)), by.as_str(), text.as_str())
            }
            None => (late(now).unwrap_or_else(|| words.say("czeka", "waiting")).to_owned(), "", ""),
        };
        let due = self.due.map(super::moment).unwrap_or_default();
        let why = [words.emergency(&self.why), self.text];
        let why = why.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ");
        let seen = self.seen.join("; ");
        let told = told.map(|(way, why)| match way.as_str() {
            "letter" => words.say("pismem", "by letter").to_owned(),
            "in_person" => words.say("osobiście", "in person").to_owned(),
            "electronic" => words.say("elektronicznie", "electronically").to_owned(),
            _ => format!("{}: {why}", words.say("nie", "no")),
        });
        let (by, text, told) = (by.to_owned(), text.to_owned(), told.unwrap_or_default());
        vec![super::moment(self.time), self.asker, self.user, why, seen, due, state, by, text, told]
    }
}

impl Report for Emergencies {
    fn take(&mut self, _: u64, entry: &Value, words: &Words) {
        let (event, id) = (str_of(entry, "event"), str_of(entry, "emergency").to_owned());
        if id.is_empty() {
            return;
        }
        let declared = self.declared.get(&id).copied();
        match event {
            "emergency.declared" => _ = self.declared.insert(id, time_of(entry)),
            "emergency.reviewed" => {
                let [outcome, by, text] =
                    ["detail", "user", "reason_text"].map(|field| str_of(entry, field).to_owned());
                // The first closes it; a holder that closed its own side hears of the other later.
                self.reviewed.entry(id).or_insert(Review { at: time_of(entry), outcome, by, text });
            }
            "emergency.notice" => {
                let [way, why] = ["detail", "reason_text"].map(|field| str_of(entry, field).to_owned());
                // The letter may be printed any number of times; what the review said stands.
                if way != "printed" {
                    self.notices.entry(id).or_insert((way, why));
                }
            }
            "emergency.opened" => self.accesses.push(Access::of(entry, true, declared, words)),
            "query.answered" => {
                let mut access = Access::of(entry, false, None, words);
                access.seen.push(Told::here(entry, words).words(words));
                self.accesses.push(access);
            }
            "query.outcome" => {
                let answered = outcomes(entry).filter(|outcome| str_of(outcome, "outcome") == "answered");
                let seen: Vec<String> = answered
                    .map(|outcome| {
                        let from = words.member(str_of(outcome, "holder"));
                        format!("{from}: {}", Told::there(entry, outcome, words).words(words))
                    })
                    .collect();
                if seen.is_empty() {
                    return;
                }
                let place = self.accesses.iter().position(|access| access.taken && access.id == id);
                let known = place.and_then(|place| self.accesses.get_mut(place));
                match known {
                    Some(access) => access.seen.extend(seen),
                    None => self.accesses.push(Access { seen, ..Access::of(entry, true, declared, words) }),
                }
            }
            _ => {}
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let (words, reviewed, notices) = (context.words, self.reviewed, self.notices);
        let row = |access: Access| {
            let (review, told) = (reviewed.get(&access.id), notices.get(&access.id));
            access.row(review, told, context.exported.exported_at, words)
        };
        let table = Section::Table {
            title: words.say("Dostępy", "Accesses").to_owned(),
            columns: words.columns(&[
                ("kiedy", "when"),
                ("instytucja", "institution"),
                ("osoba (pseudonim)", "user (pseudonym)"),
                ("powód", "reason"),
                ("dane", "data"),
                ("termin przeglądu", "review due"),
                ("przegląd", "review"),
                ("kto przejrzał (pseudonim)", "reviewer (pseudonym)"),
                ("ustalenia", "finding"),
                ("czy zawiadomiono osobę", "resident told"),
            ]),
            rows: self.accesses.into_iter().map(row).collect(),
        };
        (words.say("Przegląd dostępów nagłych", "Emergency accesses").to_owned(), vec![table])
    }
}

/// Every access, by user and person.
#[derive(Default)]
pub(crate) struct Specific {
    rows: Vec<Vec<String>>,
}

impl Report for Specific {
    fn take(&mut self, index: u64, entry: &Value, words: &Words) {
        let event = str_of(entry, "event");
        if !event.starts_with("query.") && !event.starts_with("emergency.") {
            return;
        }
        let asked = outcomes(entry).map(|outcome| str_of(outcome, "query"));
        let mut queries: BTreeSet<&str> = asked.chain([str_of(entry, "query")]).collect();
        queries.remove("");
        self.rows.push(vec![
            index.to_string(),
            super::moment(time_of(entry)),
            event.to_owned(),
            words.member(str_of(entry, "asker")),
            str_of(entry, "user").to_owned(),
            str_of(entry, "file").to_owned(),
            queries.into_iter().map(|query| words.query(query)).collect::<Vec<_>>().join("; "),
            words.purpose(str_of(entry, "purpose")),
            words.basis(str_of(entry, "basis")),
            str_of(entry, "reason_text").to_owned(),
        ]);
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let columns = words.columns(&[
            ("wpis", "entry"),
            ("kiedy", "when"),
            ("zdarzenie", "event"),
            ("instytucja", "institution"),
            ("osoba (pseudonim)", "user (pseudonym)"),
            ("akta", "file"),
            ("pytanie", "question"),
            ("cel", "purpose"),
            ("podstawa", "basis"),
            ("uzasadnienie", "reason"),
        ]);
        let table = Section::Table { title: words.say("Dostępy", "Accesses").to_owned(), columns, rows: self.rows };
        (words.say("Użycie przez wskazane osoby", "Use by single persons").to_owned(), vec![table])
    }
}
