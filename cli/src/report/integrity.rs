//! R14: what was verified, what is missing, and what others were seen to do.

use super::{Context, Report, Section, Words, str_of, time_of};
use serde_json::Value;

#[derive(Default)]
pub(crate) struct Integrity {
    rows: Vec<Vec<String>>,
    asking: u64,
    outcomes: u64,
    last: Option<i64>,
    backwards: u64,
}

impl Report for Integrity {
    fn take(&mut self, index: u64, entry: &Value, _: &Words) {
        let time = time_of(entry);
        self.backwards += u64::from(self.last.is_some_and(|last| time < last));
        self.last = Some(time);
        let event = str_of(entry, "event");
        match event {
            "query.asking" => self.asking += 1,
            "query.outcome" => self.outcomes += 1,
            "log.continued" | "witness.alarm" | "log.reconciled" | "log.payloads_erased" | "node.closed" => {
                let what = ["detail", "previous_origin", "origin", "holder"].map(|field| str_of(entry, field));
                let said = what.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
                let counts = entry.get("counts").map(Value::to_string).unwrap_or_default();
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
        (say("Integralność dziennika", "Integrity of the log"), vec![Section::Facts(facts), table])
    }
}
