//! What a resident takes home after consenting: text or HTML to print, in Polish, English or Ukrainian.
//!
//! It names the resident by no identifier; whoever prints it hands it over.

use crate::calendar;
use crate::catalogue::Catalogue;
use crate::record::{ConsentRecord, ConsentState, Method};
use crate::template::{Module, TemplateText};
use protocol::consent::Acting;
use protocol::encoding::b64;
use protocol::{FieldId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// A language of templates and receipts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tongue {
    /// Polish.
    #[default]
    Pl,
    /// English.
    En,
    /// Ukrainian.
    Uk,
}

/// What a resident may do about any data, as receipts and letters say.
pub(crate) fn rights(tongue: Tongue) -> &'static str {
    Words::of(tongue).rights
}

/// How a consent is withdrawn, as its receipt says.
pub(crate) fn withdrawal(tongue: Tongue) -> &'static str {
    Words::of(tongue).withdraw
}

/// The receipt as plain text.
#[must_use]
pub fn text(record: &ConsentRecord<'_>, catalogue: &Catalogue, tongue: Tongue, now: Timestamp) -> String {
    receipt(record, catalogue, tongue, now).text()
}

/// The receipt as a page of HTML that needs nothing else.
#[must_use]
pub fn html(record: &ConsentRecord<'_>, catalogue: &Catalogue, tongue: Tongue, now: Timestamp) -> String {
    receipt(record, catalogue, tongue, now).html()
}

/// What is handed to a resident, from which either form is written.
pub(crate) struct Page<'a> {
    pub(crate) tongue: Tongue,
    pub(crate) heading: &'static str,
    pub(crate) title: &'a str,
    pub(crate) text: &'a str,
    /// What was asked one by one, each with the answer that stands, once there is one.
    pub(crate) answers: Vec<(&'a str, Option<bool>)>,
    pub(crate) lines: Vec<(&'static str, String)>,
    pub(crate) notes: Vec<&'static str>,
}

impl Page<'_> {
    pub(crate) fn text(&self) -> String {
        let words = Words::of(self.tongue);
        let mut out = format!("{}\n{}\n\n{}\n\n", self.heading, self.title, self.text);
        for (asked, given) in &self.answers {
            let answer = given.map(|given| format!(": {}", words.answer(given))).unwrap_or_default();
            // Writing to a string does not fail.
            let _ = writeln!(out, "[{}] {asked}{answer}", if *given == Some(true) { "x" } else { " " });
        }
        if !self.answers.is_empty() {
            out.push('\n');
        }
        for (label, value) in &self.lines {
            let _ = writeln!(out, "{label}: {value}");
        }
        let _ = writeln!(out, "\n{}", self.notes.join("\n"));
        out
    }

    pub(crate) fn html(&self) -> String {
        let words = Words::of(self.tongue);
        let answers: String = self
            .answers
            .iter()
            .map(|(asked, given)| {
                let answer =
                    given.map(|given| format!(": <strong>{}</strong>", words.answer(given))).unwrap_or_default();
                format!("<li>{}{answer}</li>\n", escaped(asked))
            })
            .collect();
        let answers = if answers.is_empty() { answers } else { format!("<ul>\n{answers}</ul>\n") };
        let notes: String = self.notes.iter().map(|note| format!("<p>{note}</p>\n")).collect();
        let line = |(label, value): &(&str, String)| format!("<dt>{label}</dt><dd>{}</dd>\n", escaped(value));
        let lines: String = self.lines.iter().map(line).collect();
        format!(
            "<!DOCTYPE html>\n<html lang=\"{}\">\n<head><meta charset=\"utf-8\"><title>{}</title></head>\n<body>\n\
             <h1>{}</h1>\n<h2>{}</h2>\n<p>{}</p>\n{answers}<dl>\n{lines}</dl>\n{notes}</body>\n</html>\n",
            words.code,
            self.heading,
            self.heading,
            escaped(self.title),
            escaped(self.text),
        )
    }
}

fn receipt<'a>(record: &'a ConsentRecord<'_>, catalogue: &'a Catalogue, tongue: Tongue, now: Timestamp) -> Page<'a> {
    let words = Words::of(tongue);
    let (template, standing) = (record.template, record.standing(now));
    let state = record.state(now);
    let (answered, refused) = (state != ConsentState::Requested, state == ConsentState::Refused);
    // What was not answered is refused, and says so, once anything was answered.
    let answer = |id: &String| answered.then(|| standing.contains(id));
    let answers = template.modules.iter().map(|(id, module)| (tongue.module(module), answer(id))).collect();
    let purposes = record.purposes.iter().filter_map(|purpose| catalogue.purposes.get(purpose));
    let purposes = purposes.map(|term| tongue.of([term.pl.as_str(), &term.en, &term.uk]));
    let holders = record.holders.iter().map(|holder| {
        let fields: Vec<&str> =
            record.fields(holder, &standing).into_iter().map(|id| tongue.field(catalogue, id)).collect();
        if fields.is_empty() { holder.name.to_owned() } else { format!("{} ({})", holder.name, fields.join("; ")) }
    });
    let given_on = record.answered_at().map(calendar::day).unwrap_or_default();
    let holders = holders.collect::<Vec<_>>().join(", ");
    let nobody = holders.is_empty() && matches!(state, ConsentState::Given | ConsentState::Renewed);
    let holders = if nobody { words.nobody.to_owned() } else { holders };
    let (heading, said, given) = match state {
        ConsentState::Requested => (words.asked, false, false),
        ConsentState::Refused => (words.declined, true, false),
        _ => (words.heading, true, true),
    };
    let lines = [
        (true, words.id, record.id.to_string()),
        (true, words.template, format!("{} {}", record.reference.id, record.reference.version)),
        (true, words.recorder, record.recorder.name.to_owned()),
        (true, words.recipient, record.recipient.name.to_owned()),
        (given, words.holders, holders),
        (true, words.purposes, purposes.collect::<Vec<_>>().join(", ")),
        (said, words.given_on, given_on),
        (said, words.method, words.method(record.method).to_owned()),
        (said, words.evidence, b64(record.evidence)),
        (given, words.from, calendar::day(record.valid_from)),
        (given, words.to, calendar::day(record.valid_to)),
        (said, words.acting, words.acting(record.acting).to_owned()),
        (true, words.state, words.state(state).to_owned()),
    ];
    let lines = lines.into_iter().filter(|(applies, ..)| *applies).map(|(_, label, value)| (label, value)).collect();
    let mut notes = vec![words.rights];
    if answered && !refused {
        notes.insert(0, words.withdraw);
    }
    let TemplateText { title, text } = tongue.template(template);
    Page { tongue, heading, title, text, answers, lines, notes }
}

impl Tongue {
    /// Of the same in Polish, English and Ukrainian, the one in this language.
    pub(crate) fn of<T: ?Sized>(self, [pl, en, uk]: [&T; 3]) -> &T {
        match self {
            Tongue::Pl => pl,
            Tongue::En => en,
            Tongue::Uk => uk,
        }
    }

    pub(crate) fn template(self, template: &crate::Template) -> &TemplateText {
        self.of([&template.pl, &template.en, &template.uk])
    }

    pub(crate) fn module(self, module: &Module) -> &str {
        self.of([&module.pl, &module.en, &module.uk])
    }

    /// A field as people call it.
    pub(crate) fn field<'c>(self, catalogue: &'c Catalogue, id: &'c FieldId) -> &'c str {
        catalogue.fields.get(id).map_or(id.as_str(), |field| self.of([&field.pl, &field.en, &field.uk]))
    }
}

/// What a receipt says in one language.
struct Words {
    code: &'static str,
    heading: &'static str,
    asked: &'static str,
    declined: &'static str,
    /// Holders of a consent that concerns none.
    nobody: &'static str,
    given: &'static str,
    refused: &'static str,
    id: &'static str,
    template: &'static str,
    recorder: &'static str,
    recipient: &'static str,
    holders: &'static str,
    purposes: &'static str,
    given_on: &'static str,
    method: &'static str,
    methods: [&'static str; 5],
    evidence: &'static str,
    from: &'static str,
    to: &'static str,
    acting: &'static str,
    hands: [&'static str; 3],
    state: &'static str,
    states: [&'static str; 7],
    withdraw: &'static str,
    rights: &'static str,
}

impl Words {
    fn of(tongue: Tongue) -> &'static Self {
        tongue.of([&POLISH, &ENGLISH, &UKRAINIAN])
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

    fn method(&self, method: Method) -> &'static str {
        let [paper, tablet, portal, phone, epuap] = self.methods;
        match method {
            Method::CounterPaper => paper,
            Method::CounterTablet => tablet,
            Method::Portal => portal,
            Method::PhoneRecorded => phone,
            Method::Epuap => epuap,
        }
    }

    fn state(&self, state: ConsentState) -> &'static str {
        let [requested, given, refused, expired, superseded, withdrawn, revoked] = self.states;
        match state {
            ConsentState::Requested => requested,
            ConsentState::Given | ConsentState::Renewed => given,
            ConsentState::Refused => refused,
            ConsentState::Expired => expired,
            ConsentState::Superseded => superseded,
            ConsentState::Withdrawn => withdrawn,
            ConsentState::Revoked => revoked,
        }
    }
}

const POLISH: Words = Words {
    code: "pl",
    heading: "Potwierdzenie zgody",
    asked: "Prośba o zgodę",
    declined: "Odmowa zgody",
    nobody: "dziś nie dotyczy żadnej jednostki",
    given: "tak",
    refused: "nie",
    id: "Numer zgody",
    template: "Wzór",
    recorder: "Zgodę przyjęła jednostka",
    recipient: "Dane otrzyma",
    holders: "Danych udzieli",
    purposes: "Cel",
    given_on: "Data oświadczenia",
    method: "Sposób złożenia",
    methods: [
        "na papierze, w okienku",
        "na tablecie, w okienku",
        "w portalu",
        "telefonicznie, z nagraniem",
        "przez ePUAP",
    ],
    evidence: "Skrót SHA-256 dowodu",
    from: "Ważna od",
    to: "Ważna do",
    acting: "Oświadczenie złożył(a)",
    hands: ["osoba, której dane dotyczą", "rodzic lub opiekun", "pełnomocnik"],
    state: "Stan",
    states: [
        "oczekuje na odpowiedź",
        "obowiązuje",
        "odmówiono",
        "wygasła",
        "zastąpiona nowszą",
        "wycofana",
        "unieważniona",
    ],
    withdraw: "Zgodę można wycofać w każdej chwili, w każdej jednostce, ustnie, pisemnie lub telefonicznie. Działa to od razu; to, co zrobiono wcześniej, pozostaje zgodne z prawem.",
    rights: "Masz prawo do wglądu w swoje dane, ich sprostowania, usunięcia i ograniczenia przetwarzania oraz do skargi do Prezesa Urzędu Ochrony Danych Osobowych.",
};

const ENGLISH: Words = Words {
    code: "en",
    heading: "Receipt of consent",
    asked: "Request for consent",
    declined: "Refusal of consent",
    nobody: "no unit is concerned today",
    given: "yes",
    refused: "no",
    id: "Number of the consent",
    template: "Template",
    recorder: "Taken by",
    recipient: "Who receives",
    holders: "Who answers",
    purposes: "What for",
    given_on: "Declared on",
    method: "How it was declared",
    methods: [
        "on paper at the counter",
        "on a tablet at the counter",
        "in the portal",
        "by telephone, recorded",
        "by ePUAP",
    ],
    evidence: "SHA-256 of the evidence",
    from: "Valid from",
    to: "Valid to",
    acting: "Declared by",
    hands: ["the person concerned", "a parent or guardian", "an attorney"],
    state: "State",
    states: [
        "waits for an answer",
        "in force",
        "refused",
        "expired",
        "replaced by a newer one",
        "withdrawn",
        "revoked",
    ],
    withdraw: "You can withdraw at any time, at any unit, in person, in writing or by telephone. It works at once; what was done before stays lawful.",
    rights: "You may see your data, have them corrected, deleted or restricted, and complain to the President of the Personal Data Protection Office.",
};

const UKRAINIAN: Words = Words {
    code: "uk",
    heading: "Підтвердження згоди",
    asked: "Прохання про згоду",
    declined: "Відмова у згоді",
    nobody: "сьогодні не стосується жодної установи",
    given: "так",
    refused: "ні",
    id: "Номер згоди",
    template: "Зразок",
    recorder: "Згоду прийняла установа",
    recipient: "Дані отримає",
    holders: "Дані надасть",
    purposes: "Мета",
    given_on: "Дата заяви",
    method: "Спосіб подання",
    methods: ["на папері, у віконці", "на планшеті, у віконці", "на порталі", "телефоном, із записом", "через ePUAP"],
    evidence: "Відбиток SHA-256 доказу",
    from: "Діє з",
    to: "Діє до",
    acting: "Заяву подав(ла)",
    hands: ["особа, якої стосуються дані", "батько, мати або опікун", "уповноважена особа"],
    state: "Стан",
    states: ["очікує відповіді", "діє", "відмовлено", "закінчилася", "замінена новішою", "відкликана", "скасована"],
    withdraw: "Згоду можна відкликати будь-коли, у будь-якій установі, усно, письмово або телефоном. Це діє негайно; те, що зроблено раніше, залишається законним.",
    rights: "Ви маєте право переглядати, виправляти, видаляти свої дані та обмежувати їх обробку, а також подати скаргу голові Управління захисту персональних даних.",
};

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
