//! Identity documents: the second kind of identifier, for residents without a PESEL.

use zeroize::Zeroizing;

use crate::pesel;

/// The types of document a pseudonym is made of, as they are written in it. Two institutions that call one document by
/// two names would never meet on its holder, so the list is closed.
pub const DOCUMENT_TYPES: [&str; 7] = [
    "PASSPORT",
    "IDENTITY_CARD",
    "RESIDENCE_CARD",
    // The Geneva and the Polish travel document of a foreigner.
    "TRAVEL_DOCUMENT",
    // Polski dokument tożsamości cudzoziemca.
    "FOREIGNER_IDENTITY_DOCUMENT",
    // Tymczasowe zaświadczenie tożsamości cudzoziemca, of who asks for protection.
    "TEMPORARY_IDENTITY_CERTIFICATE",
    // Zgoda na pobyt tolerowany.
    "TOLERATED_STAY_DOCUMENT",
];

/// The codes ISO 3166-1 has assigned, by alphabet. A mistyped country would make a second pseudonym, silently.
const COUNTRIES: &str = "\
    ABW AFG AGO AIA ALA ALB AND ARE ARG ARM ASM ATA ATF ATG AUS AUT AZE BDI BEL BEN BES BFA BGD BGR BHR \
    BHS BIH BLM BLR BLZ BMU BOL BRA BRB BRN BTN BVT BWA CAF CAN CCK CHE CHL CHN CIV CMR COD COG COK COL \
    COM CPV CRI CUB CUW CXR CYM CYP CZE DEU DJI DMA DNK DOM DZA ECU EGY ERI ESH ESP EST ETH FIN FJI FLK \
    FRA FRO FSM GAB GBR GEO GGY GHA GIB GIN GLP GMB GNB GNQ GRC GRD GRL GTM GUF GUM GUY HKG HMD HND HRV \
    HTI HUN IDN IMN IND IOT IRL IRN IRQ ISL ISR ITA JAM JEY JOR JPN KAZ KEN KGZ KHM KIR KNA KOR KWT LAO \
    LBN LBR LBY LCA LIE LKA LSO LTU LUX LVA MAC MAF MAR MCO MDA MDG MDV MEX MHL MKD MLI MLT MMR MNE MNG \
    MNP MOZ MRT MSR MTQ MUS MWI MYS MYT NAM NCL NER NFK NGA NIC NIU NLD NOR NPL NRU NZL OMN PAK PAN PCN \
    PER PHL PLW PNG POL PRI PRK PRT PRY PSE PYF QAT REU ROU RUS RWA SAU SDN SEN SGP SGS SHN SJM SLB SLE \
    SLV SMR SOM SPM SRB SSD STP SUR SVK SVN SWE SWZ SXM SYC SYR TCA TCD TGO THA TJK TKL TKM TLS TON TTO \
    TUN TUR TUV TWN TZA UGA UKR UMI URY USA UZB VAT VCT VEN VGB VIR VNM VUT WLF WSM YEM ZAF ZMB ZWE";

const MAX_NUMBER: usize = 32;

/// Why a document was not accepted; never repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The type is not one of [`DOCUMENT_TYPES`].
    #[error("the document type must be one of {}", DOCUMENT_TYPES.join(", "))]
    Type,
    /// The country is not a code that ISO 3166-1 has assigned.
    #[error("the issuing country must be an ISO 3166-1 alpha-3 code")]
    Country,
    /// The number is not 1 to 32 ASCII letters and digits once separators are removed.
    #[error("the document number must be 1 to 32 ASCII letters and digits")]
    Number,
}

/// The canonical text of an identity document, `TYPE|ISO3166|NUMBER`, upper case.
///
/// `kind` is one of [`DOCUMENT_TYPES`] in any case. `country` is ISO 3166-1 **alpha-3**, the code printed in a passport
/// (ICAO 9303); German documents print `D` there and are entered as `DEU`. `number` begins with the series, if there is
/// one; space, no-break space, tab, `-`, `.` and `/` are removed from it. Letters are the basic Latin ones: a Cyrillic
/// look-alike or a diacritic, which no machine-readable zone has, is refused instead of making a second pseudonym.
///
/// # Errors
/// [`DocumentError`] naming the part that does not fit.
pub fn document(kind: &str, country: &str, number: &str) -> Result<Zeroizing<String>, DocumentError> {
    let kind = kind.trim_ascii();
    let kind = DOCUMENT_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(kind)).ok_or(DocumentError::Type)?;
    let country = country.trim_ascii();
    let country =
        COUNTRIES.split(' ').find(|known| known.eq_ignore_ascii_case(country)).ok_or(DocumentError::Country)?;
    let significant = || number.chars().filter(|&character| !pesel::is_separator(character) && character != '/');
    if !(1..=MAX_NUMBER).contains(&significant().count()) || !significant().all(|it| it.is_ascii_alphanumeric()) {
        return Err(DocumentError::Number);
    }
    // Full capacity up front: a growing string would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(kind.len() + country.len() + MAX_NUMBER + 2));
    text.extend([kind, "|", country, "|"]);
    text.extend(significant().map(|character| character.to_ascii_uppercase()));
    Ok(text)
}

/// Whether `id` is what [`document`] returns.
pub(crate) fn is_canonical(id: &str) -> bool {
    let mut parts = id.split('|');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(kind), Some(country), Some(number), None) => {
            document(kind, country, number).is_ok_and(|canonical| canonical.as_str() == id)
        }
        _ => false,
    }
}

impl DocumentError {
    /// Every error.
    pub const ALL: &'static [DocumentError] = &[DocumentError::Type, DocumentError::Country, DocumentError::Number];

    /// A stable code for APIs and reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Type => "document_type",
            Self::Country => "document_country",
            Self::Number => "document_number",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Kind, frame};

    #[track_caller]
    fn refused(kind: &str, country: &str, number: &str, error: DocumentError) {
        assert_eq!(document(kind, country, number).unwrap_err(), error);
    }

    #[test]
    fn a_document_is_upper_case_without_separators() {
        assert_eq!(*document(" passport", "ukr ", "fa 123-456/7").unwrap(), "PASSPORT|UKR|FA1234567");
        assert_eq!(*document("Identity_Card", "POL", "ABC\u{a0}123.456\t").unwrap(), "IDENTITY_CARD|POL|ABC123456");
    }

    #[test]
    fn what_is_in_doubt_is_refused_by_part() {
        for kind in ["", "paszport", "PASS PORT", "PASSPORT|", "P"] {
            refused(kind, "UKR", "1", DocumentError::Type);
        }
        for country in ["", "UA", "XXX", "UKRA", "POL DEU", "D", "ŁÓD", "UKR UKR"] {
            refused("PASSPORT", country, "1", DocumentError::Country);
        }
        // The third begins with a Cyrillic А, the fourth has a Polish letter.
        for number in ["", " - ", "А123", "ZŚ123", "12_34", "12|34", "1\n2", &"1".repeat(33)] {
            refused("PASSPORT", "UKR", number, DocumentError::Number);
        }
        assert!(document("PASSPORT", "UKR", &"1".repeat(32)).is_ok());
    }

    #[test]
    fn the_countries_are_all_and_distinct() {
        let codes: Vec<&str> = COUNTRIES.split(' ').collect();
        assert!(codes.is_sorted_by(|a, b| a < b));
        assert!(codes.iter().all(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())));
        assert_eq!(codes.len(), 249);
        assert!(["POL", "UKR", "BLR", "GEO", "VNM", "DEU"].iter().all(|code| codes.contains(code)));
    }

    fn any_type() -> impl Strategy<Value = &'static str> {
        prop::sample::select(DOCUMENT_TYPES.to_vec())
    }

    fn any_country() -> impl Strategy<Value = &'static str> {
        prop::sample::select(COUNTRIES.split(' ').collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn never_panics(kind in "\\PC*", country in "\\PC*", number in "\\PC*") {
            let _ = document(&kind, &country, &number);
            let _ = document("PASSPORT", "POL", &number);
            let _ = is_canonical(&number);
        }

        /// Case and separators carry no meaning; what comes out stays as it is and can be framed.
        #[test]
        fn spelling_changes_nothing(
            kind in any_type(),
            country in any_country(),
            number in "[A-Z0-9]{1,32}",
            gaps in prop::collection::vec("[ \t\u{a0}./-]{0,3}", 33),
            lower: bool,
        ) {
            let canonical = document(kind, country, &number).unwrap();
            prop_assert_eq!(canonical.as_str(), format!("{kind}|{country}|{number}"));
            prop_assert!(is_canonical(&canonical) && frame("lodz", Kind::Document, 1, &canonical).is_ok());

            let mut spelled: String = gaps.iter().zip(number.chars()).flat_map(|(gap, c)| [gap.clone(), c.into()]).collect();
            spelled.push_str(&gaps[32]);
            let case = |text: &str| if lower { text.to_lowercase() } else { text.to_owned() };
            prop_assert_eq!(document(&case(kind), &case(country), &case(&spelled)).unwrap(), canonical);
        }

        /// Two documents never share a text.
        #[test]
        fn no_two_documents_are_one(
            one in (any_type(), any_country(), "[A-Z0-9]{1,4}"),
            other in (any_type(), any_country(), "[A-Z0-9]{1,4}"),
        ) {
            let text = |(kind, country, number): &(&str, &str, String)| document(kind, country, number).unwrap();
            prop_assert_eq!(text(&one) == text(&other), one == other);
        }

        #[test]
        fn any_accepted_document_can_be_framed(kind in any_type(), number in "[ a-z0-9/|Ż-]{0,34}") {
            if let Ok(text) = document(kind, "pol", &number) {
                prop_assert!(frame("lodz", Kind::Document, 1, &text).is_ok());
            }
        }
    }
}
