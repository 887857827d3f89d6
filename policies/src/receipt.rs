//! What a resident takes home after consenting: text or HTML to print, in Polish, English or Ukrainian.
//!
//! It names the resident by no identifier; whoever prints it hands it over.

use crate::calendar;
use crate::catalogue::Catalogue;
use crate::record::{Answer, ConsentRecord, ConsentState};
use crate::template::{Module, TemplateText};
use protocol::Timestamp;
use protocol::consent::Acting;
use std::fmt::Write as _;

/// A language of receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tongue {
    /// Polish.
    Pl,
    /// English.
    En,
    /// Ukrainian.
    Uk,
}

/// A receipt's parts, from which either form is written.
struct Receipt<'a> {
    words: &'static Words,
    text: &'a TemplateText,
    lines: Vec<(&'static str, String)>,
    modules: Vec<(&'a str, bool)>,
}

/// The receipt as plain text.
#[must_use]
pub fn text(record: &ConsentRecord<'_>, catalogue: &Catalogue, tongue: Tongue, now: Timestamp) -> String {
    let receipt = Receipt::new(record, catalogue, tongue, now);
    let mut out = format!("{}\n{}\n\n{}\n\n", receipt.words.heading, receipt.text.title, receipt.text.text);
    for (module, given) in &receipt.modules {
        // Writing to a string does not fail.
        let _ = writeln!(out, "[{}] {module}: {}", if *given { "x" } else { " " }, receipt.words.answer(*given));
    }
    out.push('\n');
    for (label, value) in &receipt.lines {
        let _ = writeln!(out, "{label}: {value}");
    }
    let _ = write!(out, "\n{}\n{}\n", receipt.words.withdraw, receipt.words.rights);
    out
}

/// The receipt as a page of HTML that needs nothing else.
#[must_use]
pub fn html(record: &ConsentRecord<'_>, catalogue: &Catalogue, tongue: Tongue, now: Timestamp) -> String {
    let receipt = Receipt::new(record, catalogue, tongue, now);
    let (words, text) = (receipt.words, receipt.text);
    let modules: String = receipt
        .modules
        .iter()
        .map(|(module, given)| format!("<li>{}: <strong>{}</strong></li>\n", escaped(module), words.answer(*given)))
        .collect();
    let lines: String =
        receipt.lines.iter().map(|(label, value)| format!("<dt>{label}</dt><dd>{}</dd>\n", escaped(value))).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"{}\">\n<head><meta charset=\"utf-8\"><title>{}</title></head>\n<body>\n<h1>{}</h1>\n\
         <h2>{}</h2>\n<p>{}</p>\n<ul>\n{modules}</ul>\n<dl>\n{lines}</dl>\n<p>{}</p>\n<p>{}</p>\n</body>\n</html>\n",
        words.code,
        words.heading,
        words.heading,
        escaped(&text.title),
        escaped(&text.text),
        words.withdraw,
        words.rights,
    )
}

impl<'a> Receipt<'a> {
    fn new(record: &'a ConsentRecord<'_>, catalogue: &'a Catalogue, tongue: Tongue, now: Timestamp) -> Self {
        let words = Words::of(tongue);
        let (template, standing) = (record.template, record.standing(now));
        let answered = record.answers.iter().filter_map(|(id, answer)| Some((id, answer, template.modules.get(id)?)));
        let modules = answered
            .map(|(id, answer, module)| (tongue.module(module), *answer == Answer::Given && standing.contains(id)))
            .collect();
        let purposes = record.purposes.iter().filter_map(|purpose| catalogue.purposes.get(purpose));
        // Purposes have no Ukrainian name: they stand as the Polish law calls them.
        let purposes = purposes.map(|term| if tongue == Tongue::En { &term.en } else { &term.pl }.as_str());
        let holders = record.holders.iter().map(|party| party.name);
        let lines = vec![
            (words.id, record.id.to_string()),
            (words.template, format!("{} {}", record.reference.id, record.reference.version)),
            (words.recorder, record.recorder.name.to_owned()),
            (words.recipient, record.recipient.name.to_owned()),
            (words.holders, holders.collect::<Vec<_>>().join(", ")),
            (words.purposes, purposes.collect::<Vec<_>>().join(", ")),
            (words.from, calendar::day(record.valid_from)),
            (words.to, calendar::day(record.valid_to)),
            (words.acting, words.acting(record.acting).to_owned()),
            (words.state, words.state(record.state(now)).to_owned()),
        ];
        Receipt { words, text: tongue.template(template), lines, modules }
    }
}

impl Tongue {
    fn template(self, template: &crate::Template) -> &TemplateText {
        match self {
            Tongue::Pl => &template.pl,
            Tongue::En => &template.en,
            Tongue::Uk => &template.uk,
        }
    }

    fn module(self, module: &Module) -> &str {
        match self {
            Tongue::Pl => &module.pl,
            Tongue::En => &module.en,
            Tongue::Uk => &module.uk,
        }
    }
}

/// What a receipt says in one language.
struct Words {
    code: &'static str,
    heading: &'static str,
    given: &'static str,
    refused: &'static str,
    id: &'static str,
    template: &'static str,
    recorder: &'static str,
    recipient: &'static str,
    holders: &'static str,
    purposes: &'static str,
    from: &'static str,
    to: &'static str,
    acting: &'static str,
    hands: [&'static str; 3],
    state: &'static str,
    states: [&'static str; 6],
    withdraw: &'static str,
    rights: &'static str,
}

impl Words {
    fn of(tongue: Tongue) -> &'static Self {
        match tongue {
            Tongue::Pl => &POLISH,
            Tongue::En => &ENGLISH,
            Tongue::Uk => &UKRAINIAN,
        }
    }

    fn answer(&self, given: bool) -> &'static str {
        if given { self.given } else { self.refused }
    }

    fn acting(&self, acting: Acting) -> &'static str {
        let [resident, guardian, attorney] = self.hands;
        match acting {
            Acting::Resident => resident,
            Acting::Guardian => guardian,
            Acting::Attorney => attorney,
        }
    }

    fn state(&self, state: ConsentState) -> &'static str {
        let [requested, given, refused, expired, withdrawn, revoked] = self.states;
        match state {
            ConsentState::Requested => requested,
            ConsentState::Given | ConsentState::Renewed => given,
            ConsentState::Refused => refused,
            ConsentState::Expired => expired,
            ConsentState::Withdrawn => withdrawn,
            ConsentState::Revoked => revoked,
        }
    }
}

const POLISH: Words = Words {
    code: "pl",
    heading: "Potwierdzenie zgody",
    given: "tak",
    refused: "nie",
    id: "Numer zgody",
    template: "Wzór",
    recorder: "Zgodę przyjęła jednostka",
    recipient: "Dane otrzyma",
    holders: "Danych udzieli",
    purposes: "Cel",
    from: "Ważna od",
    to: "Ważna do",
    acting: "Oświadczenie złożył(a)",
    hands: ["osoba, której dane dotyczą", "rodzic lub opiekun", "pełnomocnik"],
    state: "Stan",
    states: ["oczekuje na odpowiedź", "obowiązuje", "odmówiono", "wygasła", "wycofana", "unieważniona"],
    withdraw: "Zgodę można wycofać w każdej chwili, w każdej jednostce, ustnie, pisemnie lub telefonicznie. Działa to od razu; to, co zrobiono wcześniej, pozostaje zgodne z prawem.",
    rights: "Masz prawo do wglądu w swoje dane, ich sprostowania, usunięcia i ograniczenia przetwarzania oraz do skargi do Prezesa Urzędu Ochrony Danych Osobowych.",
};

const ENGLISH: Words = Words {
    code: "en",
    heading: "Receipt of consent",
    given: "yes",
    refused: "no",
    id: "Number of the consent",
    template: "Template",
    recorder: "Taken by",
    recipient: "Who receives",
    holders: "Who answers",
    purposes: "What for",
    from: "Valid from",
    to: "Valid to",
    acting: "Declared by",
    hands: ["the person concerned", "a parent or guardian", "an attorney"],
    state: "State",
    states: ["waits for an answer", "in force", "refused", "expired", "withdrawn", "revoked"],
    withdraw: "You can withdraw at any time, at any unit, in person, in writing or by telephone. It works at once; what was done before stays lawful.",
    rights: "You may see your data, have them corrected, deleted or restricted, and complain to the President of the Personal Data Protection Office.",
};

const UKRAINIAN: Words = Words {
    code: "uk",
    heading: "Підтвердження згоди",
    given: "так",
    refused: "ні",
    id: "Номер згоди",
    template: "Зразок",
    recorder: "Згоду прийняла установа",
    recipient: "Дані отримає",
    holders: "Дані надасть",
    purposes: "Мета",
    from: "Діє з",
    to: "Діє до",
    acting: "Заяву подав(ла)",
    hands: ["особа, якої стосуються дані", "батько, мати або опікун", "уповноважена особа"],
    state: "Стан",
    states: ["очікує відповіді", "діє", "відмовлено", "закінчилася", "відкликана", "скасована"],
    withdraw: "Згоду можна відкликати будь-коли, у будь-якій установі, усно, письмово або телефоном. Це діє негайно; те, що зроблено раніше, залишається законним.",
    rights: "Ви маєте право переглядати, виправляти, видаляти свої дані та обмежувати їх обробку, а також подати скаргу голові Управління захисту персональних даних.",
};

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
