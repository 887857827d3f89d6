//! What the local API refuses besides what a [`Reason`](protocol::Reason) stands for: what was given is not acceptable, is
//! not there, or the node failed. One table: status, code, and what a person reads of it. What never came as far as a route
//! is the listener's ([`Refusal`](transport::Refusal)).

use protocol::Problem;
use protocol::saying::{Language, Message, Saying};

macro_rules! faults {
    ($($name:ident = $status:literal $code:literal, $en:literal, $en_next:literal, $pl:literal, $pl_next:literal;)+) => {
        /// A refusal of the local API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault { $($name,)+ }

        impl Fault {
            /// Every fault.
            pub(crate) const ALL: &'static [Fault] = &[$(Fault::$name),+];

            /// Stable `snake_case` code.
            pub(crate) fn code(self) -> &'static str {
                match self { $(Fault::$name => $code),+ }
            }

            fn status(self) -> u16 {
                match self { $(Fault::$name => $status),+ }
            }

            /// What a person reads: what was missing and what to do next.
            pub(crate) fn saying(self, language: Language) -> Saying {
                let (missing, next) = match (self, language) { $(
                    (Fault::$name, Language::En) => ($en, $en_next),
                    (Fault::$name, Language::Pl) => ($pl, $pl_next),
                )+ };
                Saying { missing, next }
            }
        }
    };
}

faults! {
    AsksCount = 422 "asks_count",
        "1 to 32 questions may be asked at once.", "Put them in several queries.",
        "Naraz można zadać od 1 do 32 pytań.", "Podziel je na kilka zapytań.";
    ReasonMissing = 422 "reason_missing",
        "A reason is missing.", "Write why.",
        "Brak uzasadnienia.", "Napisz, dlaczego.";
    ValueInvalid = 422 "value_invalid",
        "A value is not acceptable.", "Correct the field that is named.",
        "Podana wartość jest niedopuszczalna.", "Popraw wskazane pole.";
    BodyInvalid = 422 "body_invalid",
        "The body is not of the shape expected.", "Correct the field that is named; the shape stands in /openapi.json.",
        "Dane mają niewłaściwą postać.", "Popraw wskazane pole; postać opisuje /openapi.json.";
    MediaType = 415 "media_type",
        "The body is not application/json.", "Send JSON, and say so.",
        "Dane nie są w formacie application/json.", "Wyślij JSON z właściwym nagłówkiem.";
    PeselInvalid = 422 "pesel_invalid",
        "The PESEL is not valid.", "Check the number with the resident's document.",
        "Numer PESEL jest nieprawidłowy.", "Sprawdź numer w dokumencie mieszkańca.";
    DocumentInvalid = 422 "document_invalid",
        "The document is not valid.", "Check type, country and number with the document.",
        "Dane dokumentu są nieprawidłowe.", "Sprawdź rodzaj, kraj i numer w dokumencie.";
    ResidentAmbiguous = 409 "resident_ambiguous",
        "Several residents share this number.", "Ask by PESEL.",
        "Ten numer ma kilku mieszkańców.", "Podaj numer PESEL.";
    ResidentOnFile = 409 "resident_on_file",
        "The resident is on file here already.", "Enrol (`ogniwo node enrol`) to publish new clients.",
        "Mieszkaniec jest już w kartotece.", "Nowych klientów ogłasza `ogniwo node enrol`.";
    ResidentUnknown = 404 "resident_unknown",
        "No such resident is on file here.", "Check the number; that it was looked for is in the log.",
        "W kartotece nie ma takiego mieszkańca.", "Sprawdź numer; wyszukiwanie zapisano w dzienniku.";
    Unknown = 404 "unknown",
        "Nothing of this id is kept here for you.", "Check the id against what is listed.",
        "Pod tym identyfikatorem nic tu dla Ciebie nie ma.", "Porównaj identyfikator z listą.";
    ResultUnknown = 404 "result_unknown",
        "No result of this id is kept for you.", "Ask again: results are kept for a day.",
        "Pod tym identyfikatorem nie ma dla Ciebie wyniku.", "Zapytaj ponownie: wyniki są trzymane przez dobę.";
    UserUnknown = 404 "user_unknown",
        "No such user was seen here.", "Users of a peer are known to that peer alone.",
        "Takiego użytkownika tu nie było.", "Użytkowników innej jednostki zna tylko ona.";
    FindingUnknown = 404 "finding_unknown",
        "There is no such finding.", "Check the id against what is listed.",
        "Nie ma takiego ustalenia.", "Porównaj identyfikator z listą.";
    FindingOwn = 403 "finding_own",
        "Another officer reviews this.", "What an officer did alone is for another officer to look at.",
        "Ocenia to inny inspektor.", "To, co inspektor zrobił sam, ogląda inny inspektor.";
    ConfirmationMissing = 403 "confirmation_missing",
        "A second officer must confirm.", "Send another officer's token in the header `confirmation`.",
        "Potwierdzić musi drugi inspektor.", "Prześlij token drugiego inspektora w nagłówku `confirmation`.";
    AlreadyDecided = 409 "already_decided",
        "This was decided before.", "See what was decided.",
        "Decyzja już zapadła.", "Sprawdź, co postanowiono.";
    KeyReused = 409 "idempotency_key_reused",
        "This key was used for another question.", "Use a new key for a new question.",
        "Tego klucza użyto do innego pytania.", "Użyj nowego klucza do nowego pytania.";
    ProvisionalQuota = 429 "provisional_quota",
        "No more newcomers can be registered for now.", "Wait, or have those registered become clients.",
        "Na razie nie można zarejestrować więcej nowych osób.", "Poczekaj albo dokończ przyjmowanie zgłoszonych.";
    ProvisionalRenewed = 409 "provisional_renewed",
        "A newcomer cannot be registered anew.", "Take the person on as a client, or ask the person.",
        "Nowej osoby nie można zgłosić drugi raz.", "Przyjmij osobę jako klienta albo zapytaj ją samą.";
    RegistryRefused = 409 "registry_refused",
        "The registry does not accept it.", "Ask your IT; `detail` is the registry's code.",
        "Rejestr tego nie przyjął.", "Zwróć się do informatyka; `detail` to kod rejestru.";
    StoreFailed = 503 "store_failed",
        "The node's store failed.", "Ask your IT; what was acknowledged is kept.",
        "Magazyn danych węzła zawiódł.", "Zwróć się do informatyka; to, co potwierdzono, jest zachowane.";
    Internal = 500 "internal",
        "The node failed; see its trace.", "Ask your IT.",
        "Węzeł zawiódł; szczegóły są w jego śladzie.", "Zwróć się do informatyka.";
}

/// What a value must be, in both languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    en: String,
    pl: String,
}

impl Expected {
    pub(crate) fn new(en: impl Into<String>, pl: impl Into<String>) -> Self {
        Expected { en: en.into(), pl: pl.into() }
    }

    /// The caller is told what `field` must be.
    pub(crate) fn problem(&self, field: &str) -> Problem {
        let Expected { en, pl } = self;
        let message = Message {
            pl: format!("Niedopuszczalna wartość pola `{field}`; właściwa: {pl}. Popraw ją."),
            en: format!("The value of `{field}` is not acceptable; it must be: {en}. Correct it."),
        };
        Fault::ValueInvalid.problem().detail(en).field(field).message(message)
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.en)
    }
}

impl Fault {
    /// What both languages say.
    pub(crate) fn message(self) -> Message {
        Message::of(|language| self.saying(language))
    }

    /// As the caller is told.
    pub(crate) fn problem(self) -> Problem {
        self.named(self.code())
    }

    /// The same under a code that says more.
    pub(crate) fn named(self, code: &str) -> Problem {
        Problem::said(self.status(), code, |language| self.saying(language))
    }

    /// What the registry refused a user.
    pub(crate) fn by_registry(problem: &Problem) -> Problem {
        let mut known = [Fault::ProvisionalQuota, Fault::ProvisionalRenewed].into_iter();
        if let Some(fault) = known.find(|fault| fault.code() == problem.code) {
            return problem.clone().message(fault.message());
        }
        let Problem { status, retry_after, code, .. } = problem;
        Problem { status: *status, retry_after: *retry_after, ..Fault::RegistryRefused.problem().detail(code) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Reason;
    use std::collections::BTreeSet;
    use transport::Refusal;

    #[test]
    fn a_wrong_value_is_said_in_both_languages_with_its_field() {
        let problem = Expected::new("1 to 30", "od 1 do 30").problem("days");
        assert_eq!((problem.code.as_str(), problem.field.as_deref()), ("value_invalid", Some("days")));
        let message = problem.message.unwrap();
        assert!(message.pl.contains("`days`") && message.pl.contains("od 1 do 30"), "{message:?}");
        assert!(message.en.contains("`days`") && message.en.contains("1 to 30"), "{message:?}");
    }

    #[test]
    fn everything_is_said_in_both_languages_under_its_own_code() {
        for fault in Fault::ALL {
            let (en, pl) = (fault.saying(Language::En), fault.saying(Language::Pl));
            for words in [en.missing, en.next, pl.missing, pl.next] {
                assert!(words.len() > 8 && words.ends_with('.'), "{fault:?}: {words}");
            }
            assert!(en.missing != pl.missing && en.next != pl.next, "{fault:?}");
        }
        let codes = Fault::ALL.iter().map(|fault| fault.code());
        let others = Reason::ALL.iter().map(|reason| reason.code()).chain(Refusal::ALL.iter().map(|own| own.code));
        let all: Vec<&str> = codes.chain(others).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "one meaning each: {all:?}");
    }
}
