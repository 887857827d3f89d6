//! R10: consents as the log has them.

use super::{Context, Report, Section, Words, str_of, time_of};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Consents {
    consents: BTreeMap<String, Consent>,
}

#[derive(Default)]
struct Consent {
    file: String,
    recorded: Option<i64>,
    granted: Option<i64>,
    withdrawn: Option<i64>,
    heard: Option<i64>,
    used: u64,
}

impl Report for Consents {
    fn take(&mut self, _: u64, entry: &Value, _: &Words) {
        let (event, time) = (str_of(entry, "event"), time_of(entry));
        let named = str_of(entry, "consent");
        let id = if named.is_empty() {
            str_of(entry, "basis").strip_prefix("consent:").and_then(|rest| rest.split(':').next()).unwrap_or_default()
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
        match event {
            "consent.recorded" => consent.recorded = Some(time),
            "consent.granted" => consent.granted = Some(time),
            "consent.withdrawn" => consent.withdrawn = Some(time),
            "consent.withdrawal_received" => consent.heard = Some(time),
            "query.answered" => consent.used += 1,
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
        let moment = |time: Option<i64>| time.map_or_else(String::new, |time| words.moment(time));
        let rows = self.consents.iter().map(|(id, c)| {
            let (begun, ended) = (c.recorded.or(c.granted), c.withdrawn.or(c.heard));
            vec![id.clone(), c.file.clone(), moment(begun), moment(ended), c.used.to_string()]
        });
        let table = Section::Table {
            title: say("Zgody", "Consents"),
            columns: words.columns(&[
                ("zgoda", "consent"),
                ("akta", "file"),
                ("od", "since"),
                ("wycofana", "withdrawn"),
                ("odpowiedzi na jej podstawie", "answers on it"),
            ]),
            rows: rows.collect(),
        };
        (say("Rejestr zgód", "Consent register"), vec![Section::Facts(facts), table])
    }
}
