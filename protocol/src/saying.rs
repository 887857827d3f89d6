//! What a person reads of a refusal: what was missing and what to do next, in Polish and English.
//!
//! Nothing here says anything of a resident: reasons that do read as [`Told::NotAvailable`] does.

use crate::{Reason, Told};
use serde::{Deserialize, Serialize};

/// A language people are spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Polish.
    Pl,
    /// English.
    En,
}

/// Two sentences for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saying {
    /// What was missing.
    pub missing: &'static str,
    /// What to do next.
    pub next: &'static str,
}

/// A refusal in the words of people: what was missing and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// In Polish.
    pub pl: String,
    /// In English.
    pub en: String,
}

impl Message {
    /// Both languages of a saying.
    #[must_use]
    pub fn of(saying: impl Fn(Language) -> Saying) -> Self {
        let words = |language| {
            let Saying { missing, next } = saying(language);
            format!("{missing} {next}")
        };
        Message { pl: words(Language::Pl), en: words(Language::En) }
    }
}

impl Reason {
    /// What a person of this institution reads.
    #[must_use]
    pub fn saying(self, language: Language) -> Saying {
        pick(self.sentences(), language)
    }

    /// English, then Polish: what was missing, what to do next.
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn sentences(self) -> [&'static str; 4] {
        match self {
            Reason::NodeClosed => [
                "The node is not ready to answer.",
                "Ask its IT; nothing is released until it is ready again.",
                "Węzeł nie jest gotowy do odpowiedzi.",
                "Zwróć się do informatyka jednostki; do czasu usunięcia przyczyny nic nie jest udostępniane.",
            ],
            Reason::ClockWrong => [
                "The node's clock is wrong.",
                "Correct the clock (NTP) and restart the node.",
                "Zegar węzła wskazuje zły czas.",
                "Ustaw zegar (NTP) i uruchom węzeł ponownie.",
            ],
            Reason::LogUnavailable => [
                "The log cannot be written.",
                "Ask the node's IT: without a record nothing is released.",
                "Nie można zapisać dziennika.",
                "Zwróć się do informatyka: bez zapisu nic nie jest udostępniane.",
            ],
            Reason::ManifestExpired => [
                "The federation's manifest has expired.",
                "Fetch a current manifest from the registry (`ogniwo node refresh`).",
                "Manifest federacji stracił ważność.",
                "Pobierz z rejestru bieżący manifest (`ogniwo node refresh`).",
            ],
            Reason::ManifestMismatch => [
                "Two manifests of one version differ.",
                "Compare the manifest's fingerprint with the officers at once.",
                "Dwa manifesty tej samej wersji różnią się.",
                "Natychmiast porównaj odcisk manifestu z pełnomocnikami federacji.",
            ],
            Reason::PeerUnknown => [
                "The asker is not an active member.",
                "Only active members of the federation may ask.",
                "Pytający nie jest czynnym członkiem federacji.",
                "Pytać mogą tylko czynni członkowie federacji.",
            ],
            Reason::CertificateMismatch => [
                "The request is bound to another certificate.",
                "Send it over the connection of the member that signed it.",
                "Żądanie jest związane z innym certyfikatem.",
                "Wyślij je przez połączenie członka, który je podpisał.",
            ],
            Reason::RequestMalformed => [
                "The request cannot be read.",
                "Compare it with docs/PROTOCOL.md.",
                "Żądania nie da się odczytać.",
                "Porównaj je z docs/PROTOCOL.md.",
            ],
            Reason::SignatureInvalid => [
                "The request's signature does not hold.",
                "Check the member's signing key in the manifest.",
                "Podpis żądania jest nieważny.",
                "Sprawdź klucz podpisu członka w manifeście.",
            ],
            Reason::AudienceWrong => [
                "The request is addressed to another member.",
                "Address it to this one.",
                "Żądanie jest skierowane do innego członka.",
                "Skieruj je do tego członka.",
            ],
            Reason::RequestStale => [
                "The request is too old or meant to live too long.",
                "Send a fresh one; check both clocks.",
                "Żądanie jest nieaktualne.",
                "Wyślij nowe; sprawdź oba zegary.",
            ],
            Reason::RequestReplayed => {
                ["The same request was seen before.", "Send a fresh one.", "To samo żądanie już było.", "Wyślij nowe."]
            }
            Reason::TicketMissing => [
                "No ticket of the registry came with it.",
                "Locate the resident at the registry first.",
                "Brak biletu rejestru.",
                "Najpierw ustal w rejestrze, gdzie pytać.",
            ],
            Reason::TicketInvalid => [
                "The ticket is not the registry's.",
                "Locate the resident again.",
                "Bilet nie pochodzi z rejestru.",
                "Ustal ponownie w rejestrze, gdzie pytać.",
            ],
            Reason::TicketExpired => [
                "The ticket is too old.",
                "Locate the resident again.",
                "Bilet jest przeterminowany.",
                "Ustal ponownie w rejestrze, gdzie pytać.",
            ],
            Reason::TicketWrongAsker => [
                "The ticket was given to another member.",
                "Locate the resident yourself.",
                "Bilet wydano innemu członkowi.",
                "Ustal w rejestrze we własnym imieniu, gdzie pytać.",
            ],
            Reason::EpochUnknown => [
                "The pseudonym's epoch is not in use.",
                "Fetch the current manifest (`ogniwo node refresh`).",
                "Epoka pseudonimu nie jest używana.",
                "Pobierz bieżący manifest (`ogniwo node refresh`).",
            ],
            Reason::AgreementMissing => [
                "No agreement covers this query and purpose.",
                "Conclude an agreement with the holder that does.",
                "Żadne porozumienie nie obejmuje tego pytania i celu.",
                "Zawrzyj z jednostką porozumienie, które je obejmie.",
            ],
            Reason::AgreementExpired => [
                "The agreement is not in force today.",
                "Renew the agreement.",
                "Porozumienie dziś nie obowiązuje.",
                "Przedłuż porozumienie.",
            ],
            Reason::AgreementRevoked => [
                "One of the parties revoked the agreement.",
                "Conclude a new agreement, or ask the resident for the paper.",
                "Jedna ze stron odwołała porozumienie.",
                "Zawrzyj nowe porozumienie albo poproś mieszkańca o dokument.",
            ],
            Reason::QueryUnknown => [
                "The catalogue has no such query for these institutions.",
                "Choose a query type of the catalogue.",
                "Katalog nie ma takiego pytania między tymi jednostkami.",
                "Wybierz pytanie z katalogu.",
            ],
            Reason::RoleNotAllowed => [
                "Your role may not ask this.",
                "Ask somebody whose role permits the query.",
                "Twoja rola nie uprawnia do tego pytania.",
                "Poproś osobę, której rola na to pozwala.",
            ],
            Reason::BasisMissing => [
                "No legal basis was given.",
                "Name the mandate, or record the resident's consent.",
                "Nie podano podstawy prawnej.",
                "Wskaż upoważnienie ustawowe albo zapisz zgodę mieszkańca.",
            ],
            Reason::BasisNotAllowed => [
                "The basis given does not carry this query.",
                "Use a basis the catalogue permits for it.",
                "Podana podstawa nie wystarcza dla tego pytania.",
                "Użyj podstawy, którą katalog dla niego dopuszcza.",
            ],
            Reason::MandateUnknown => [
                "No mandate in force covers these institutions and this purpose.",
                "Cite a mandate of the library that does.",
                "Żadne obowiązujące upoważnienie nie obejmuje tych jednostek i celu.",
                "Wskaż upoważnienie z biblioteki, które je obejmuje.",
            ],
            Reason::CaseMissing => [
                "The reference of an open case is missing.",
                "Give the number of the case.",
                "Brak numeru prowadzonej sprawy.",
                "Podaj numer sprawy.",
            ],
            Reason::EmergencyReason => [
                "The emergency names no reason of the library, or nothing was written.",
                "Choose a reason and write what happened.",
                "Nie wskazano powodu z biblioteki albo nic nie opisano.",
                "Wybierz powód i opisz, co się stało.",
            ],
            Reason::EmergencyUnconfirmed => [
                "The emergency was not confirmed a second time.",
                "Confirm it once more, a second after you opened it.",
                "Nie potwierdzono drugi raz stanu nagłego.",
                "Potwierdź go jeszcze raz, sekundę po zgłoszeniu.",
            ],
            Reason::EmergencyExpired => [
                "The time of the emergency ran out.",
                "Open a new one if the danger lasts.",
                "Minął czas dostępu w stanie nagłym.",
                "Otwórz nowy, jeśli zagrożenie trwa.",
            ],
            Reason::EmergencyUnknown => [
                "You opened no emergency of this id for this resident.",
                "Compare the id, or open an emergency for this resident.",
                "Nie otworzono takiego dostępu w stanie nagłym dla tej osoby.",
                "Porównaj identyfikator albo zgłoś stan nagły dla tej osoby.",
            ],
            Reason::EmergencyLimit => [
                "Your institution opened as many emergencies as it may today.",
                "Telephone the holder's duty desk.",
                "Jednostka wykorzystała dzienny limit stanów nagłych.",
                "Zadzwoń na dyżur jednostki.",
            ],
            Reason::EmergencyReviewOverdue => [
                "An earlier emergency of yours was not reviewed in time.",
                "Have the data-protection officer review it first.",
                "Wcześniejszy stan nagły nie został na czas oceniony.",
                "Poproś inspektora ochrony danych o jego ocenę.",
            ],
            Reason::QuotaExceeded => [
                "The agreement's quota is used up.",
                "Wait until it is renewed.",
                "Wyczerpano limit pytań z porozumienia.",
                "Poczekaj na odnowienie limitu.",
            ],
            Reason::UserQuotaExceeded => [
                "Your own quota of questions is used up.",
                "Wait until tomorrow, or ask a colleague who works on the case.",
                "Wyczerpano Twój limit pytań.",
                "Poczekaj do jutra albo poproś osobę prowadzącą sprawę.",
            ],
            Reason::GuessLimit => [
                "As many values of this field were compared in 30 days as may be.",
                "Ask for the paper; the series is shown to the data-protection officer.",
                "Wykorzystano wszystkie próby porównania tego pola w ciągu 30 dni.",
                "Poproś o dokument; seria prób trafia do inspektora ochrony danych.",
            ],
            Reason::OutsideHours => [
                "This may not be asked at this hour.",
                "Ask again in the hours of the agreement, or those your institution set for your role.",
                "O tej porze nie wolno o to pytać.",
                "Zapytaj w godzinach z porozumienia albo w tych, które jednostka ustaliła dla Twojej roli.",
            ],
            Reason::ConsentUnknown => [
                "No such consent is held.",
                "Record the resident's consent first.",
                "Nie ma takiej zgody.",
                "Najpierw zapisz zgodę mieszkańca.",
            ],
            Reason::ConsentWithdrawn => [
                "The consent was withdrawn.",
                "Ask the resident for the paper instead.",
                "Zgodę wycofano.",
                "Poproś mieszkańca o dokument.",
            ],
            Reason::ConsentSuperseded => [
                "A newer answer of the resident took this consent's place.",
                "Cite the newer consent.",
                "Zgodę zastąpiła nowsza odpowiedź mieszkańca.",
                "Wskaż nowszą zgodę.",
            ],
            Reason::ConsentExpired => [
                "The consent's period is over or has not begun.",
                "Ask the resident to renew it.",
                "Zgoda wygasła albo jeszcze nie obowiązuje.",
                "Poproś mieszkańca o jej odnowienie.",
            ],
            Reason::ConsentOtherRecipient => [
                "The consent names another recipient.",
                "Record one that names your institution.",
                "Zgoda wskazuje innego odbiorcę.",
                "Zapisz zgodę dla swojej jednostki.",
            ],
            Reason::ConsentOtherPurpose => [
                "The consent is for another purpose.",
                "Record one for this purpose.",
                "Zgoda dotyczy innego celu.",
                "Zapisz zgodę na ten cel.",
            ],
            Reason::ConsentOtherQuery => [
                "The consent does not cover this query.",
                "Ask the resident about that part of the template.",
                "Zgoda nie obejmuje tego pytania.",
                "Zapytaj mieszkańca o tę część zgody.",
            ],
            Reason::ConsentOtherSubject => [
                "The consent cited is another person's.",
                "Cite the consent of the resident you ask about.",
                "Wskazana zgoda dotyczy innej osoby.",
                "Wskaż zgodę osoby, o którą pytasz.",
            ],
            Reason::ConsentRefused => [
                "The resident refused this.",
                "Ask the resident for the paper instead.",
                "Mieszkaniec odmówił.",
                "Poproś mieszkańca o dokument.",
            ],
            Reason::ConsentTemplateExpired => [
                "The text consented to is no longer in force.",
                "Ask for consent to the current text.",
                "Treść zgody już nie obowiązuje.",
                "Poproś o zgodę na obecną treść.",
            ],
            Reason::ConsentRepresentative => [
                "Whoever consented may not do so for this resident, or not any more.",
                "Ask the resident, or the one who represents the resident today.",
                "Osoba, która wyraziła zgodę, nie może tego robić w tej sprawie.",
                "Zapytaj mieszkańca albo jego obecnego przedstawiciela.",
            ],
            Reason::ConsentSameUser => [
                "The user who took the consent asks.",
                "Let somebody else ask.",
                "Pyta osoba, która przyjęła zgodę.",
                "Niech zapyta ktoś inny.",
            ],
            Reason::ConsentStatusStale => [
                "It cannot be checked whether the consent still stands.",
                "Try again when its recorder can be reached.",
                "Nie można sprawdzić, czy zgoda nadal obowiązuje.",
                "Spróbuj, gdy jednostka, która ją zapisała, będzie dostępna.",
            ],
            Reason::PolicyDenied => [
                "A policy forbids it.",
                "Ask the data-protection officer which.",
                "Zabrania tego reguła.",
                "Zapytaj inspektora ochrony danych, która.",
            ],
            Reason::PolicyError => [
                "The policies could not be evaluated.",
                "Ask the holder's IT: its policies do not evaluate.",
                "Nie udało się ocenić reguł.",
                "Zwróć się do informatyka jednostki pytanej.",
            ],
            Reason::NoFields => [
                "No field is left that was asked, agreed and covered by the basis.",
                "Ask for fields that the agreement and the basis cover.",
                "Nie zostało żadne pole objęte pytaniem, porozumieniem i podstawą.",
                "Zapytaj o pola, które obejmuje porozumienie i podstawa.",
            ],
            Reason::ApprovalPending => [
                "A person at the holder has not decided yet.",
                "Wait; you are told, or ask for the result later.",
                "Osoba w jednostce pytanej jeszcze nie zdecydowała.",
                "Poczekaj na powiadomienie albo zapytaj później o wynik.",
            ],
            Reason::ApprovalRefused => [
                "A person at the holder refused.",
                "Ask the holder by letter or telephone; its reason stays there.",
                "Osoba w jednostce pytanej odmówiła.",
                "Zapytaj tę jednostkę pismem lub telefonicznie; powód zna tylko ona.",
            ],
            Reason::ApprovalExpired => [
                "Nobody decided, or the answer was not collected, in time.",
                "Ask again.",
                "Decyzja nie zapadła albo odpowiedzi nie odebrano w terminie.",
                "Zapytaj ponownie.",
            ],
            Reason::ApprovalInvalid => [
                "The approval is not one for this request.",
                "Have another person at the holder decide.",
                "Akceptacja nie dotyczy tego żądania.",
                "Niech zdecyduje inna osoba w jednostce pytanej.",
            ],
            Reason::TokenInvalid => [
                "You are not signed in.",
                "Sign in again at your institution.",
                "Brak ważnego zalogowania.",
                "Zaloguj się ponownie w swojej jednostce.",
            ],
            Reason::NotServed => [
                "Your institution does not serve this person.",
                "Ask only about people your institution serves.",
                "Jednostka nie prowadzi sprawy tej osoby.",
                "Pytaj tylko o osoby, których sprawy prowadzisz.",
            ],
            Reason::GuardiansDisagree => [
                "The parents or guardians do not agree.",
                "Without both there is no consent; ask for the paper.",
                "Opiekunowie nie są zgodni.",
                "Bez obojga nie ma zgody; poproś o dokument.",
            ],
            Reason::NoHolder => [
                "No institution that may answer can be asked.",
                "Ask the resident.",
                "Nie ma jednostki, którą można o to zapytać.",
                "Zapytaj mieszkańca.",
            ],
            Reason::PeerUnavailable => [
                "The institution could not be reached in time.",
                "Try again later.",
                "Jednostka nie odpowiedziała w czasie.",
                "Spróbuj później.",
            ],
            Reason::AnswerInvalid => [
                "The institution's answer cannot be believed.",
                "Ask your IT: it is not signed by that institution for this question.",
                "Odpowiedzi jednostki nie można uznać.",
                "Zwróć się do informatyka: nie jest podpisana przez tę jednostkę dla tego pytania.",
            ],
            Reason::RegistryUnavailable => [
                "The registry could not be reached.",
                "Try again when it can be.",
                "Rejestr jest niedostępny.",
                "Spróbuj, gdy będzie dostępny.",
            ],
            Reason::KeyHoldersUnavailable => [
                "Too few key holders answered.",
                "Try again when enough can be reached.",
                "Odpowiedziało zbyt mało opiekunów klucza.",
                "Spróbuj, gdy będzie ich dość.",
            ],
            Reason::TicketWrongSubject
            | Reason::EmergencyClosed
            | Reason::SubjectUnknown
            | Reason::SubjectRestricted
            | Reason::SubjectUnlisted
            | Reason::SubjectDeceased
            | Reason::SubjectObjected => Told::NotAvailable.sentences(),
        }
    }
}

impl Told {
    /// What a person of the asking institution reads.
    #[must_use]
    pub fn saying(self, language: Language) -> Saying {
        pick(self.sentences(), language)
    }

    fn sentences(self) -> [&'static str; 4] {
        match self {
            Told::Closed => [
                "The holder gives no answers at present.",
                "Try again later; if it lasts, ask the holder's IT.",
                "Jednostka chwilowo nie udziela odpowiedzi.",
                "Spróbuj później; jeśli to trwa, zapytaj jej informatyka.",
            ],
            Told::Refused => [
                "The holder did not accept the request.",
                "Ask your IT; the holder's log says why.",
                "Jednostka nie przyjęła żądania.",
                "Zapytaj informatyka; powód jest w jej dzienniku.",
            ],
            Told::NotAgreed => [
                "No agreement covers this.",
                "Conclude one with the holder for this query and purpose.",
                "Nie obejmuje tego żadne porozumienie.",
                "Zawrzyj je z jednostką dla tego pytania i celu.",
            ],
            Told::RoleNotAllowed => [
                "Your role may not ask this.",
                "Ask somebody whose role permits the query.",
                "Twoja rola nie uprawnia do tego pytania.",
                "Poproś osobę, której rola na to pozwala.",
            ],
            Told::BasisMissing => [
                "A legal basis is missing.",
                "Name a mandate that covers this, with the case, or record the resident's consent.",
                "Brak podstawy prawnej.",
                "Wskaż upoważnienie i numer sprawy albo zapisz zgodę mieszkańca.",
            ],
            Told::ConsentMissing => [
                "A valid consent is missing.",
                "Record the resident's consent for your institution, this purpose and these fields.",
                "Brak ważnej zgody.",
                "Zapisz zgodę mieszkańca dla swojej jednostki, tego celu i tych pól.",
            ],
            Told::ConsentWithdrawn => [
                "The consent was withdrawn.",
                "Ask the resident for the paper instead.",
                "Zgodę wycofano.",
                "Poproś mieszkańca o dokument.",
            ],
            Told::StatusUnknown => [
                "It cannot be checked whether the consent still stands.",
                "Try again when its recorder can be reached.",
                "Nie można sprawdzić, czy zgoda nadal obowiązuje.",
                "Spróbuj, gdy jednostka, która ją zapisała, będzie dostępna.",
            ],
            Told::QuotaExceeded => [
                "A quota is used up.",
                "Ask again tomorrow; of a value compared too often, ask for the paper.",
                "Wyczerpano limit pytań.",
                "Zapytaj jutro; jeśli za często porównywano wartość, poproś o dokument.",
            ],
            Told::OutsideHours => [
                "The agreement does not let anybody ask at this hour.",
                "Ask again in the hours of the agreement.",
                "Porozumienie nie pozwala pytać o tej porze.",
                "Zapytaj w godzinach z porozumienia.",
            ],
            Told::ReviewOverdue => [
                "An earlier emergency was not reviewed in time.",
                "Have your data-protection officer review it first.",
                "Wcześniejszy stan nagły nie został na czas oceniony.",
                "Poproś swojego inspektora ochrony danych o jego ocenę.",
            ],
            Told::Pending => [
                "A person at the holder has not decided yet.",
                "Wait; you are told, or ask for the result later.",
                "Osoba w jednostce pytanej jeszcze nie zdecydowała.",
                "Poczekaj na powiadomienie albo zapytaj później o wynik.",
            ],
            Told::Declined => [
                "The holder did not approve it.",
                "Write to the holder, or ask the resident for the paper.",
                "Jednostka tego nie zaakceptowała.",
                "Napisz do jednostki albo poproś mieszkańca o dokument.",
            ],
            Told::NotAvailable => {
                ["Nothing is available there.", "Ask the resident.", "Brak dostępnych danych.", "Zapytaj mieszkańca."]
            }
        }
    }
}

/// English words, then Polish: what was missing, what to do next; in one language.
#[must_use]
pub fn pick([missing_en, next_en, missing_pl, next_pl]: [&'static str; 4], language: Language) -> Saying {
    match language {
        Language::En => Saying { missing: missing_en, next: next_en },
        Language::Pl => Saying { missing: missing_pl, next: next_pl },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn everything_is_said_in_both_languages() {
        let all = Reason::ALL.iter().map(|r| r.sentences()).chain(Told::ALL.iter().map(|t| t.sentences()));
        for sentences in all {
            assert!(sentences.iter().all(|s| s.len() > 8 && s.ends_with('.')), "{sentences:?}");
            let [missing_en, next_en, missing_pl, next_pl] = sentences;
            assert!(missing_en != missing_pl && next_en != next_pl, "{sentences:?}");
        }
    }

    /// A reason that depends on the resident reads as all the others do.
    #[test]
    fn nothing_is_said_of_a_resident() {
        let nothing: BTreeSet<_> = Reason::ALL
            .iter()
            .filter(|reason| reason.told() == Told::NotAvailable && **reason != Reason::NoHolder)
            .map(|reason| reason.sentences())
            .collect();
        assert_eq!(nothing, BTreeSet::from([Told::NotAvailable.sentences()]));
    }
}
