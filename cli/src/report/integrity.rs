//! R14: what was verified, what is missing, and what others were seen to do.

use super::{Context, Report, Section, Words, outcomes, str_of, time_of};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Integrity {
    rows: Vec<Vec<String>>,
    asking: u64,
    outcomes: u64,
    last: Option<i64>,
    backwards: u64,
    pairs: BTreeMap<String, Pairs>,
}

/// Questions with one peer: both logs have an entry of each.
#[derive(Default)]
struct Pairs {
    /// We asked, and our entry cites the peer's.
    cited: u64,
    /// We asked, and have no entry of the peer's.
    uncited: u64,
    /// The peer asked; whether it has an entry, a comparison tells.
    asked_us: u64,
    /// The last comparison: when, how many alike, how many not.
    compared: Option<(i64, u64, u64)>,
}

impl Report for Integrity {
    fn take(&mut self, index: u64, entry: &Value, _: &Words) {
        let time = time_of(entry);
        self.backwards += u64::from(self.last.is_some_and(|last| time < last));
        self.last = Some(time);
        let event = str_of(entry, "event");
        match event {
            "query.asking" => self.asking += 1,
            "query.outcome" => {
                self.outcomes += 1;
                for outcome in outcomes(entry).filter(|outcome| !str_of(outcome, "request").is_empty()) {
                    let pairs = self.pairs.entry(str_of(outcome, "holder").to_owned()).or_default();
                    let cited = outcome.get("peer_log").is_some_and(Value::is_object);
                    *if cited { &mut pairs.cited } else { &mut pairs.uncited } += 1;
                }
            }
            "query.answered" | "query.denied" | "query.no_match" => {
                self.pairs.entry(str_of(entry, "asker").to_owned()).or_default().asked_us += 1;
            }
            "log.continued" | "witness.alarm" | "log.reconciled" | "log.payloads_erased" | "node.closed" => {
                let what = ["detail", "previous_origin", "origin", "holder"].map(|field| str_of(entry, field));
                let said = what.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
                let counts = entry.get("counts").map(Value::to_string).unwrap_or_default();
                if event == "log.reconciled" {
                    let of = |name: &str| entry.get("counts")?.get(name)?.as_u64();
                    let compared = of("matched").zip(of("findings")).map(|(alike, not)| (time, alike, not));
                    self.pairs.entry(str_of(entry, "holder").to_owned()).or_default().compared = compared;
                }
                self.rows.push(vec![index.to_string(), super::moment(time), event.to_owned(), said, counts]);
            }
            _ => {}
        }
    }

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let (words, exported) = (context.words, context.exported);
        let say = |pl: &str, en: &str| words.say(pl, en).to_owned();
        let mut facts = vec![
            (say("Podpis, drzewo i wpisy", "Signature, tree and entries"), say("zgodne", "verified")),
            (
                say("Wpisy bez poświadczenia innych", "Entries nobody else vouches for"),
                (exported.size - exported.cosigned.min(exported.size)).to_string(),
            ),
            (
                say("Pytania bez zapisanego wyniku", "Questions without a recorded outcome"),
                self.asking.saturating_sub(self.outcomes).to_string(),
            ),
            (say("Wpisy z czasem wstecz", "Entries that go back in time"), self.backwards.to_string()),
        ];
        let checked = if context.witnesses_checked {
            say("klucze z manifestu", "by keys of the manifest")
        } else {
            say("niesprawdzone: klucze z samego eksportu", "unchecked: by keys of the export itself")
        };
        facts.push((say("Poświadczenia", "Cosignatures"), checked));
        for (key, time) in &exported.witnesses {
            let at = super::moment(i64::try_from(*time).unwrap_or_default());
            facts.push((say("Świadek", "Witness"), format!("{} ({at})", key.name())));
        }
        let columns = words.columns(&[
            ("wpis", "entry"),
            ("kiedy", "when"),
            ("zdarzenie", "event"),
            ("co", "what"),
            ("liczby", "counts"),
        ]);
        let table = Section::Table { title: say("Zdarzenia", "Events"), columns, rows: self.rows };
        let pairs = pairs(&self.pairs, words);
        (say("Integralność dziennika", "Integrity of the log"), vec![Section::Facts(facts), pairs, table])
    }
}

/// Both sides, by peer.
fn pairs(pairs: &BTreeMap<String, Pairs>, words: &Words) -> Section {
    let rows = pairs.iter().map(|(peer, pairs)| {
        let (when, alike, not) = match pairs.compared {
            Some((time, alike, not)) => (super::moment(time), alike.to_string(), not.to_string()),
            None => (words.say("nigdy", "never").to_owned(), String::new(), String::new()),
        };
        let [cited, uncited, asked] = [pairs.cited, pairs.uncited, pairs.asked_us].map(|count| count.to_string());
        vec![words.member(peer), cited, uncited, asked, when, alike, not]
    });
    Section::Table {
        title: words.say("Pary wpisów z innymi", "Pairs of entries with others").to_owned(),
        columns: words.columns(&[
            ("instytucja", "institution"),
            ("nasze pytania z jej wpisem", "our questions with its entry"),
            ("nasze pytania bez jej wpisu", "our questions without its entry"),
            ("jej pytania", "its questions"),
            ("ostatnie porównanie", "last comparison"),
            ("zgodne", "alike"),
            ("niezgodne", "not alike"),
        ]),
        rows: rows.collect(),
    }
}
