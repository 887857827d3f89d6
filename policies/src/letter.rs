//! What tells a resident, afterwards, that an institution looked at their data in an emergency (GDPR art. 14): a letter as text
//! or HTML, in Polish, English or Ukrainian.
//!
//! It names the resident by no identifier; whoever prints it addresses it. The user who looked, and what the user wrote,
//! stay in the institution.

use crate::calendar;
use crate::catalogue::Catalogue;
use crate::receipt::{self, Page, Tongue};
use protocol::notice::ReviewOutcome;
use protocol::{FieldId, MemberKind, Timestamp};
use std::collections::BTreeSet;

/// An emergency access, as far as the resident is told.
#[derive(Clone, Debug)]
pub struct Letter<'a> {
    /// By what both institutions know it.
    pub id: &'a str,
    /// Name of the institution that looked.
    pub asker: &'a str,
    /// Its kind.
    pub kind: &'a MemberKind,
    /// The library's reason.
    pub reason: &'a str,
    /// When it was opened.
    pub opened: Timestamp,
    /// Who answered, by name, and with which fields.
    pub holders: Vec<(&'a str, &'a BTreeSet<FieldId>)>,
    /// What the review found.
    pub outcome: ReviewOutcome,
}

impl Letter<'_> {
    /// As plain text.
    #[must_use]
    pub fn text(&self, catalogue: &Catalogue, tongue: Tongue) -> String {
        self.page(catalogue, tongue).text()
    }

    /// As a page of HTML that needs nothing else.
    #[must_use]
    pub fn html(&self, catalogue: &Catalogue, tongue: Tongue) -> String {
        self.page(catalogue, tongue).html()
    }

    fn page<'p>(&'p self, catalogue: &'p Catalogue, tongue: Tongue) -> Page<'p> {
        let words = tongue.of([&POLISH, &ENGLISH, &UKRAINIAN]);
        let emergency = catalogue.emergency_for(self.reason).map(|(_, emergency)| emergency);
        let reason = emergency.and_then(|emergency| emergency.reasons.get(self.reason));
        let reason = reason.map_or(self.reason, |name| tongue.of([name.pl.as_str(), &name.en, &name.uk]));
        let holders = self.holders.iter().map(|(name, fields)| {
            let fields: Vec<&str> = fields.iter().map(|id| tongue.field(catalogue, id)).collect();
            if fields.is_empty() { (*name).to_owned() } else { format!("{name} ({})", fields.join("; ")) }
        });
        let holders = holders.collect::<Vec<_>>().join(", ");
        let bases = emergency.iter().flat_map(|emergency| &emergency.gdpr).map(|term| words.article(term));
        let queries = emergency.into_iter().flat_map(|emergency| catalogue.in_danger(emergency, self.kind));
        let kept = queries.filter_map(|id| catalogue.queries.get(id)).map(|query| query.delete_after_days).max();
        let outcome = match self.outcome {
            ReviewOutcome::Justified => words.justified,
            ReviewOutcome::Unjustified => words.unjustified,
        };
        let lines = vec![
            (words.id, self.id.to_owned()),
            (words.asker, self.asker.to_owned()),
            (words.on, calendar::day(self.opened)),
            (words.reason, reason.to_owned()),
            (words.seen, if holders.is_empty() { words.nothing.to_owned() } else { holders }),
            (words.kept, kept.map(|days| days.to_string()).unwrap_or_default()),
            (words.basis, bases.collect::<Vec<_>>().join(", ")),
            (words.review, outcome.to_owned()),
        ];
        Page {
            tongue,
            heading: words.heading,
            title: self.asker,
            text: words.text,
            answers: Vec::new(),
            lines,
            notes: vec![words.contact, receipt::rights(tongue)],
        }
    }
}

/// What a letter says in one language.
struct Words {
    heading: &'static str,
    text: &'static str,
    id: &'static str,
    asker: &'static str,
    on: &'static str,
    reason: &'static str,
    seen: &'static str,
    nothing: &'static str,
    kept: &'static str,
    basis: &'static str,
    /// Article, paragraph and letter of the GDPR, before each its word.
    article: [&'static str; 3],
    review: &'static str,
    justified: &'static str,
    unjustified: &'static str,
    contact: &'static str,
}

impl Words {
    /// A term of `https://w3id.org/dpv/legal/eu/gdpr#`, `A6-1-d`, as it is cited.
    fn article(&self, term: &str) -> String {
        let parts = term.trim_start_matches('A').split('-').zip(self.article);
        parts.map(|(part, word)| format!("{word} {part}")).collect::<Vec<_>>().join(" ")
    }
}

const POLISH: Words = Words {
    heading: "Zawiadomienie o dostępie do danych w stanie nagłym",
    text: "Pracownik naszej jednostki zobaczył niżej wymienione dane o Tobie w innej jednostce miasta, ponieważ uznał, że zagrożone jest życie lub zdrowie. Nie pytaliśmy wtedy o zgodę. Taki dostęp trwa krótko, jest zapisywany i zawsze sprawdzany.",
    id: "Numer dostępu",
    asker: "Kto zobaczył dane",
    on: "Kiedy",
    reason: "Powód",
    seen: "Skąd i jakie dane",
    nothing: "żadnych danych nie otrzymaliśmy",
    kept: "Przez ile dni najwyżej je przechowujemy",
    basis: "Podstawa prawna (RODO)",
    article: ["art.", "ust.", "lit."],
    review: "Wynik kontroli",
    justified: "dostęp był uzasadniony",
    unjustified: "dostęp nie był uzasadniony",
    contact: "Pytania możesz kierować do inspektora ochrony danych naszej jednostki. Podaj numer dostępu.",
};

const ENGLISH: Words = Words {
    heading: "Notice of access to your data in an emergency",
    text: "A member of our staff saw the data about you named below, kept by another unit of the city, because a life or somebody's health seemed to be in danger. You were not asked for consent then. Such an access is short, recorded and always reviewed.",
    id: "Number of the access",
    asker: "Who saw the data",
    on: "When",
    reason: "Reason",
    seen: "From where, and which data",
    nothing: "we received no data",
    kept: "For how many days at most we keep it",
    basis: "Legal basis (GDPR)",
    article: ["art.", "para.", "point"],
    review: "Outcome of the review",
    justified: "the access was justified",
    unjustified: "the access was not justified",
    contact: "You can ask our unit's data-protection officer about it. Give the number of the access.",
};

const UKRAINIAN: Words = Words {
    heading: "Повідомлення про доступ до даних у надзвичайній ситуації",
    text: "Працівник нашої установи побачив наведені нижче дані про Вас в іншій установі міста, бо вважав, що життя або здоров’я в небезпеці. Тоді ми не питали про згоду. Такий доступ короткий, записується і завжди перевіряється.",
    id: "Номер доступу",
    asker: "Хто побачив дані",
    on: "Коли",
    reason: "Причина",
    seen: "Звідки і які дані",
    nothing: "ми не отримали жодних даних",
    kept: "Скільки днів щонайбільше ми їх зберігаємо",
    basis: "Правова підстава (GDPR)",
    article: ["ст.", "п.", "літ."],
    review: "Результат перевірки",
    justified: "доступ був обґрунтованим",
    unjustified: "доступ не був обґрунтованим",
    contact: "Із запитаннями звертайтеся до інспектора із захисту даних нашої установи. Назвіть номер доступу.",
};
