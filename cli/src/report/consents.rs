//! R10: consents as the log has them.

use super::{Context, Report, Section, Words, outcomes, str_of, time_of};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Consents {
    consents: BTreeMap<String, Consent>,
}

#[derive(Default)]
struct Consent {
    file: String,
    /// id@version.
    template: String,
    recorded: Option<i64>,
    granted: Option<i64>,
    refused: bool,
    withdrawn: Option<i64>,
    /// When a newer one took its place.
    replaced: Option<i64>,
    heard: Option<i64>,
    /// When it ends by itself, and the SHA-256 of what proves it.
    valid_until: Option<i64>,
    evidence: String,
    /// Holders to be told of its end, and when each said that it knows.
    told: u64,
    taken: BTreeMap<String, i64>,
    used: u64,
}

impl Consent {
    fn begun(&self) -> Option<i64> {
        self.recorded.or(self.granted)
    }

    /// When its end was taken down here.
    fn ended_here(&self) -> Option<i64> {
        self.withdrawn.or(self.replaced)
    }

    /// When it ended, before its time.
    fn ended(&self) -> Option<i64> {
        self.ended_here().or(self.heard).or_else(|| self.taken.values().min().copied())
    }

    /// Whether it ended by itself.
    fn expired(&self, now: i64) -> bool {
        self.begun().is_some() && self.ended().is_none() && self.valid_until.is_some_and(|until| until <= now)
    }

    fn state<'w>(&self, now: i64, words: &'w Words) -> &'w str {
        if self.replaced.is_some() && self.withdrawn.is_none() {
            words.say("zastąpiona", "replaced")
        } else if self.ended().is_some() {
            words.say("wycofana", "withdrawn")
        } else if self.expired(now) {
            words.say("wygasła", "expired")
        } else if self.begun().is_some() {
            words.say("w mocy", "in force")
        } else if self.refused {
            words.say("odmowa", "refused")
        } else {
            words.say("bez odpowiedzi tutaj", "not answered here")
        }
    }
}

impl Report for Consents {
    fn take(&mut self, _: u64, entry: &Value, _: &Words) {
        let (event, time) = (str_of(entry, "event"), time_of(entry));
        let named = str_of(entry, "consent");
        let id = if named.is_empty() {
            str_of(entry, "basis").strip_prefix("consent:").and_then(|rest| rest.split(' ').next()).unwrap_or_default()
        } else {
            named
        };
        if id.is_empty() {
            return;
        }
        let consent = self.consents.entry(id.to_owned()).or_default();
        if consent.file.is_empty() {
            str_of(entry, "file").clone_into(&mut consent.file);
        }
        if consent.template.is_empty() {
            // `T@1`, `recorded by M (T@1)`, `consent:ID (T@1)`, or neither.
            let said = [str_of(entry, "detail"), str_of(entry, "basis")];
            let word =
                said.into_iter().flat_map(|said| said.split([' ', '(', ')', ','])).find(|word| word.contains('@'));
            word.unwrap_or_default().clone_into(&mut consent.template);
        }
        match event {
            "consent.refused" => consent.refused = true,
            "consent.recorded" | "consent.granted" => {
                *if event == "consent.recorded" { &mut consent.recorded } else { &mut consent.granted } = Some(time);
                consent.valid_until = entry.get("valid_until").and_then(Value::as_i64).or(consent.valid_until);
                str_of(entry, "evidence").clone_into(&mut consent.evidence);
            }
            "consent.withdrawn" | "consent.superseded" => {
                let told = entry.get("counts").and_then(|counts| counts.get("holders")?.as_u64());
                consent.told = told.unwrap_or_default();
                *if event == "consent.withdrawn" { &mut consent.withdrawn } else { &mut consent.replaced } = Some(time);
            }
            "consent.withdrawal_taken" => {
                consent.taken.entry(str_of(entry, "holder").to_owned()).or_insert(time);
            }
            "consent.withdrawal_received" => consent.heard = Some(time),
            "query.answered" => consent.used += 1,
            // At the recipient: each holder that answered on it.
            "query.outcome" => {
                let answered = outcomes(entry).filter(|outcome| str_of(outcome, "outcome") == "answered").count();
                consent.used += answered as u64;
            }
            _ => {}
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let (words, now) = (context.words, context.exported.exported_at);
        let say = |pl: &str, en: &str| words.say(pl, en).to_owned();
        let number = |of: &dyn Fn(&Consent) -> bool| self.consents.values().filter(|one| of(one)).count().to_string();
        let facts = vec![
            (say("Zapisane tutaj", "Recorded here"), number(&|c| c.recorded.is_some())),
            (say("Wycofane tutaj", "Withdrawn here"), number(&|c| c.withdrawn.is_some())),
            (
                say("Otrzymane od innych", "Received from others"),
                number(&|c| c.granted.is_some() && c.recorded.is_none()),
            ),
            (say("Zastąpione nowszymi", "Replaced by newer ones"), number(&|c| c.replaced.is_some())),
            (
                say("Wycofane u innych", "Withdrawn elsewhere"),
                number(&|c| c.heard.is_some() && c.ended_here().is_none()),
            ),
            (say("Wygasłe", "Expired"), number(&|c| c.expired(now))),
            (say("Bez dowodu", "Without evidence"), number(&|c| c.begun().is_some() && c.evidence.is_empty())),
            (say("Nigdy nieużyte", "Never used"), number(&|c| c.used == 0)),
            (
                say("Mediana czasu do potwierdzenia wycofania", "Median time until a withdrawal was acknowledged"),
                self.median(),
            ),
        ];
        let moment = |time: Option<i64>| time.map_or_else(String::new, super::moment);
        let rows = self.consents.iter().map(|(id, c)| {
            vec![
                id.clone(),
                c.file.clone(),
                c.template.clone(),
                c.state(now, words).to_owned(),
                moment(c.begun()),
                moment(c.valid_until),
                moment(c.ended()),
                c.evidence.clone(),
                c.used.to_string(),
            ]
        });
        let table = Section::Table {
            title: say("Zgody", "Consents"),
            columns: words.columns(&[
                ("zgoda", "consent"),
                ("akta", "file"),
                ("wzór", "template"),
                ("stan", "state"),
                ("od", "since"),
                ("ważna do", "valid until"),
                ("zakończona", "ended"),
                ("dowód (SHA-256)", "evidence (SHA-256)"),
                ("odpowiedzi na jej podstawie", "answers on it"),
            ]),
            rows: rows.collect(),
        };
        let title = say("Rejestr zgód", "Consent register");
        (title, vec![Section::Facts(facts), self.templates(words), table, self.withdrawals(words)])
    }
}

impl Consents {
    /// Seconds from each end taken down here until each holder said that it knows.
    fn delays(&self) -> impl Iterator<Item = (&String, &Consent, &String, i64, Option<i64>)> {
        self.consents.iter().flat_map(|(id, consent)| {
            let since = consent.ended_here().or(consent.heard);
            consent.taken.iter().map(move |(holder, at)| (id, consent, holder, *at, since.map(|since| at - since)))
        })
    }

    fn median(&self) -> String {
        let mut seconds: Vec<i64> = self.delays().filter_map(|(.., delay)| delay).collect();
        seconds.sort_unstable();
        seconds.get(seconds.len() / 2).map_or_else(|| "–".to_owned(), |median| format!("{median} s"))
    }

    /// Who took each withdrawal, and how many have not.
    fn withdrawals(&self, words: &Words) -> Section {
        let taken = self.delays().map(|(id, consent, holder, at, delay)| {
            let delay = delay.map_or_else(String::new, |delay| format!("{delay} s"));
            let begun = consent.ended().map_or_else(String::new, super::moment);
            vec![id.clone(), begun, words.member(holder), super::moment(at), delay]
        });
        let missing = self.consents.iter().filter_map(|(id, consent)| {
            let missing = consent.told.saturating_sub(consent.taken.len() as u64);
            let begun = super::moment(consent.ended_here()?);
            let none = words.say("jeszcze nie", "not yet").to_owned();
            (missing > 0).then(|| vec![id.clone(), begun, format!("× {missing}"), none, String::new()])
        });
        let mut rows: Vec<Vec<String>> = taken.chain(missing).collect();
        rows.sort();
        Section::Table {
            title: words.say("Potwierdzenia wycofań", "Withdrawals acknowledged").to_owned(),
            columns: words.columns(&[
                ("zgoda", "consent"),
                ("wycofana", "withdrawn"),
                ("posiadacz danych", "holder"),
                ("potwierdził", "acknowledged"),
                ("po czasie", "after"),
            ]),
            rows,
        }
    }

    /// What became of each version of a template, and whether it is the newest.
    fn templates(&self, words: &Words) -> Section {
        let mut templates: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
        for consent in self.consents.values() {
            let [given, used, withdrawn, refused] = templates.entry(&consent.template).or_default();
            *given += u64::from(consent.recorded.is_some() || consent.granted.is_some());
            *used += u64::from(consent.used > 0);
            *withdrawn +=
                u64::from(consent.withdrawn.is_some() || consent.heard.is_some() && consent.replaced.is_none());
            *refused += u64::from(consent.refused);
        }
        let newest = |name: &str| {
            let (id, version) = name.split_once('@').unwrap_or((name, ""));
            words.library.catalogue().templates.get(id).and_then(|all| all.last()).is_some_and(|t| t.version == version)
        };
        let row = |(name, counts): (&&str, &[u64; 4])| {
            let current = if newest(name) { words.say("tak", "yes") } else { words.say("nie", "no") };
            [(*name).to_owned(), current.to_owned()].into_iter().chain(counts.map(|count| count.to_string())).collect()
        };
        Section::Table {
            title: words.say("Wzory", "Templates").to_owned(),
            columns: words.columns(&[
                ("wzór", "template"),
                ("aktualny", "current"),
                ("udzielone", "given"),
                ("użyte", "used"),
                ("wycofane", "withdrawn"),
                ("odmówione", "refused"),
            ]),
            rows: templates.iter().map(row).collect(),
        }
    }
}
