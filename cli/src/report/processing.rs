//! R3: what was agreed, what statutes and consents open, as a record of processing. Needs the manifest.

use super::{Context, Report, Section, Words};
use protocol::agreement::Agreement;
use serde_json::Value;
use std::collections::BTreeSet;

/// Whose log it is.
pub(super) fn mine<'a>(context: &'a Context<'_>) -> &'a str {
    context.exported.vkey.name().split('/').nth(1).unwrap_or_default()
}

/// The agreements in which this institution is a party.
pub(super) fn agreements<'a>(context: &'a Context<'_>) -> impl Iterator<Item = &'a Agreement> {
    let mine = mine(context);
    let all = context.manifest.into_iter().flat_map(|manifest| &manifest.agreements).map(|signed| &signed.terms);
    all.filter(move |terms| terms.asker.as_str() == mine || terms.holder.as_str() == mine)
}

/// The record of processing activities.
pub(crate) struct Register;

impl Report for Register {
    fn take(&mut self, _: u64, _: &Value, _: &Words) {}

    fn sections(self: Box<Self>, context: &Context<'_>) -> (String, Vec<Section>) {
        let words = context.words;
        let catalogue = words.library.catalogue();
        let rows = agreements(context).map(|terms| {
            let purposes: Vec<String> = terms.purposes.iter().map(|purpose| words.purpose(purpose.as_str())).collect();
            let queries = || terms.queries.iter().filter_map(|query| catalogue.queries.get(query));
            let bases: BTreeSet<String> =
                queries().flat_map(|query| &query.bases).map(|basis| format!("{basis:?}").to_lowercase()).collect();
            let longest = queries().map(|query| query.delete_after_days).max().unwrap_or_default();
            let special = terms.fields.iter().any(|field| words.special(field.as_str()));
            vec![
                terms.reference().to_string(),
                words.member(terms.holder.as_str()),
                words.member(terms.asker.as_str()),
                purposes.join("; "),
                words.fields(terms.fields.iter().map(protocol::FieldId::as_str)),
                words.say(if special { "tak" } else { "nie" }, if special { "yes" } else { "no" }).to_owned(),
                bases.into_iter().collect::<Vec<_>>().join(", "),
                longest.to_string(),
                words.say("brak", "none").to_owned(),
            ]
        });
        let columns = words.columns(&[
            ("porozumienie", "agreement"),
            ("administrator", "controller"),
            ("odbiorca", "recipient"),
            ("cele", "purposes"),
            ("kategorie danych", "categories of data"),
            ("szczególne kategorie", "special categories"),
            ("podstawy", "bases"),
            ("usunięcie u odbiorcy po dniach", "deleted by the recipient after days"),
            ("przekazania poza EOG", "transfers outside the EEA"),
        ]);
        let table =
            Section::Table { title: words.say("Czynności", "Activities").to_owned(), columns, rows: rows.collect() };
        let measures = words.say(
            "Środki: szyfrowanie i uwierzytelnianie obustronne TLS 1.3, pseudonimy z kluczem dzielonym między jednostki, \
             decyzja i trwały wpis przed każdym udostępnieniem, dziennik poświadczany przez inne jednostki.",
            "Measures: mutual TLS 1.3, pseudonyms under a key split between units, a decision and a durable entry before \
             every release, a log that other units vouch for.",
        );
        let title = words.say("Rejestr czynności przetwarzania (art. 30 RODO)", "Record of processing (GDPR art. 30)");
        let sections = vec![table, mandates(context), templates(words), Section::Text(measures.to_owned())];
        (title.to_owned(), sections)
    }
}

/// The statutes this institution may rely on, or has to answer under.
fn mandates(context: &Context<'_>) -> Section {
    let words = context.words;
    let mine = context.manifest.and_then(|manifest| manifest.members.iter().find(|m| m.id.as_str() == mine(context)));
    let all = words.library.catalogue().mandates.iter();
    let rows = all.filter_map(|(id, mandate)| {
        let kind = &mine?.kind;
        let (asks, answers) = (mandate.asker_kinds.contains(kind), mandate.holder_kinds.contains(kind));
        let side = match (asks, answers) {
            (true, true) => words.say("pyta i odpowiada", "asks and answers"),
            (true, false) => words.say("pyta", "asks"),
            (false, true) => words.say("odpowiada", "answers"),
            (false, false) => return None,
        };
        let purposes: Vec<String> = mandate.purposes.iter().map(|purpose| words.purpose(purpose.as_str())).collect();
        Some(vec![
            format!("{id}@{}", mandate.version),
            format!("{}, {}", mandate.statute, mandate.article),
            side.to_owned(),
            purposes.join("; "),
            words.fields(mandate.fields.iter().map(protocol::FieldId::as_str)),
            mandate.gdpr.iter().cloned().collect::<Vec<_>>().join(", "),
        ])
    });
    Section::Table {
        title: words.say("Przepisy", "Mandates").to_owned(),
        columns: words.columns(&[
            ("upoważnienie", "mandate"),
            ("przepis", "statute"),
            ("ta jednostka", "this institution"),
            ("cele", "purposes"),
            ("kategorie danych", "categories of data"),
            ("podstawa w RODO", "GDPR basis"),
        ]),
        rows: rows.collect(),
    }
}

/// What residents may consent to, in the newest version of each template.
fn templates(words: &Words) -> Section {
    let newest = words.library.catalogue().templates.iter().filter_map(|(id, all)| Some((id, all.last()?)));
    let rows = newest.map(|(id, template)| {
        let fields: BTreeSet<&str> = template
            .all_permissions()
            .flat_map(|permission| &permission.fields)
            .map(protocol::FieldId::as_str)
            .collect();
        let purposes: Vec<String> = template.purposes.iter().map(|purpose| words.purpose(purpose.as_str())).collect();
        vec![
            format!("{id}@{}", template.version),
            words.say(&template.pl.title, &template.en.title).to_owned(),
            purposes.join("; "),
            words.fields(fields),
            template.gdpr.iter().cloned().collect::<Vec<_>>().join(", "),
            template.max_days.to_string(),
        ]
    });
    Section::Table {
        title: words.say("Wzory zgód", "Consent templates").to_owned(),
        columns: words.columns(&[
            ("wzór", "template"),
            ("tytuł", "title"),
            ("cele", "purposes"),
            ("kategorie danych", "categories of data"),
            ("podstawa w RODO", "GDPR basis"),
            ("najwyżej dni", "days at most"),
        ]),
        rows: rows.collect(),
    }
}
