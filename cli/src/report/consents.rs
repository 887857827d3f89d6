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
    heard: Option<i64>,
    used: u64,
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
            "consent.recorded" => consent.recorded = Some(time),
            "consent.granted" => consent.granted = Some(time),
            "consent.withdrawn" => consent.withdrawn = Some(time),
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
        let words = context.words;
        let say = |pl: &str, en: &str| words.say(pl, en).to_owned();
        let number =
            |of: fn(&Consent) -> bool| self.consents.values().filter(|consent| of(consent)).count().to_string();
        let facts = vec![
            (say("Zapisane tutaj", "Recorded here"), number(|c| c.recorded.is_some())),
            (say("Wycofane tutaj", "Withdrawn here"), number(|c| c.withdrawn.is_some())),
            (
                say("Otrzymane od innych", "Received from others"),
                number(|c| c.granted.is_some() && c.recorded.is_none()),
            ),
            (say("Wycofane u innych", "Withdrawn elsewhere"), number(|c| c.heard.is_some() && c.withdrawn.is_none())),
            (say("Nigdy nieużyte", "Never used"), number(|c| c.used == 0)),
        ];
        let moment = |time: Option<i64>| time.map_or_else(String::new, super::moment);
        let rows = self.consents.iter().map(|(id, c)| {
            let (begun, ended) = (c.recorded.or(c.granted), c.withdrawn.or(c.heard));
            vec![id.clone(), c.file.clone(), c.template.clone(), moment(begun), moment(ended), c.used.to_string()]
        });
        let table = Section::Table {
            title: say("Zgody", "Consents"),
            columns: words.columns(&[
                ("zgoda", "consent"),
                ("akta", "file"),
                ("wzór", "template"),
                ("od", "since"),
                ("wycofana", "withdrawn"),
                ("odpowiedzi na jej podstawie", "answers on it"),
            ]),
            rows: rows.collect(),
        };
        let title = say("Rejestr zgód", "Consent register");
        (title, vec![Section::Facts(facts), self.templates(words), table])
    }
}

impl Consents {
    /// What became of each version of a template, and whether it is the newest.
    fn templates(&self, words: &Words) -> Section {
        let mut templates: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
        for consent in self.consents.values() {
            let [given, used, withdrawn, refused] = templates.entry(&consent.template).or_default();
            *given += u64::from(consent.recorded.is_some() || consent.granted.is_some());
            *used += u64::from(consent.used > 0);
            *withdrawn += u64::from(consent.withdrawn.is_some() || consent.heard.is_some());
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
