//! Planted residents: one for every set of units, each with a PESEL and a surname that must appear nowhere.

use std::fmt::Write as _;
use std::path::Path;

/// The surname of every planted resident; long, and different in UTF-8 and Windows-1250.
pub const CANARY_SURNAME: &str = "Kanarkożółtowska";

/// A planted resident.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// Eleven digits, valid.
    pub pesel: &'static str,
    /// The units that know the resident, joined by `+`.
    pub units: &'static str,
    /// Whether mops keeps the sealed field.
    pub sealed: bool,
}

const fn resident(pesel: &'static str, units: &'static str, sealed: bool) -> Resident {
    Resident { pesel, units, sealed }
}

/// One resident for every set of units.
pub const RESIDENTS: &[Resident] = &[
    resident("80010100017", "mops", false),
    resident("80010200021", "pup", false),
    resident("80010300035", "mops+pup", true),
    resident("80010400049", "css", false),
    resident("80010500053", "mops+css", false),
    resident("80010600067", "pup+css", false),
    resident("80010700071", "mops+pup+css", true),
    resident("80010800085", "zlm", false),
    resident("80010900099", "mops+zlm", false),
    resident("80011000101", "pup+zlm", false),
    resident("80011100115", "mops+pup+zlm", false),
    resident("80011200129", "css+zlm", false),
    resident("80011300133", "mops+css+zlm", false),
    resident("80011400147", "pup+css+zlm", false),
    resident("80011500151", "mops+pup+css+zlm", true),
];

impl Resident {
    /// Whether `unit` knows the resident.
    #[must_use]
    pub fn at(&self, unit: &str) -> bool {
        self.units.split('+').any(|u| u == unit)
    }
}

/// Writes `mops.csv`, `pup.csv`, `css.csv` and `zlm.csv` of these residents into `dir`, in the units' own formats.
pub fn write_extracts(dir: &Path, residents: &[Resident]) {
    let mut mops = String::from(
        "nr sprawy;PESEL;nazwisko;imię;data urodzenia;ulica;nr domu/lokalu;kod pocztowy;klient od;klient do;powód;świadczenie;decyzja od;decyzja do;kwota;dochód na osobę;osób w gospodarstwie;kontrakt socjalny od;niebieska karta\n",
    );
    let mut pup = String::from(
        "id_klienta,pesel,imie,nazwisko,data_ur,status,zarejestrowany_od,wyrejestrowany,powod_wyrejestrowania,prawo_do_zasilku,zasilek_od,zasilek_kwota,odmowy_12m,forma_pomocy,forma_pomocy_od,zawod_kzis\n",
    );
    let mut css = String::from(
        "\u{feff}Numer;PESEL;Świadczeniobiorca;Data urodzenia;Świadczenie;Okres od;Okres do;Kwota miesięczna;Liczba dzieci\n",
    );
    let mut zlm = String::from(
        "lokal\tpesel\tnazwisko\timie\tulica\tdom\tmieszkanie\ttytul\tod\tzaleglosc\tzaleglosc_miesiace\tporozumienie\twniosek_etap\teksmisja\n",
    );
    for (n, r) in residents.iter().enumerate() {
        let (pesel, name, sealed) = (r.pesel, CANARY_SURNAME, if r.sealed { "T" } else { "N" });
        if r.at("mops") {
            let _ = writeln!(
                mops,
                "M/{n};{pesel};{name};Żaneta;;Długa;5/2;90-001;01.02.2024;;ubóstwo;zasiłek okresowy;01.01.2026;30.06.2026;100,50;700,00;2;;{sealed}"
            );
        }
        if r.at("pup") {
            let _ =
                writeln!(pup, "{n},{pesel},Żaneta,{name},,bezrobotny,2026-01-02,,,true,2026-01-10,1200.50,1,,,112233");
        }
        if r.at("css") {
            let _ = writeln!(css, "C-{n};{pesel};{name} Żaneta;;zasiłek pielęgnacyjny;2026-01-01;2026-12-31;215,84;0");
        }
        if r.at("zlm") {
            let _ = writeln!(zlm, "{n}\t{pesel}\t{name}\tŻaneta\tDługa\t5\t2\tnajem\t01.02.2020\t12,50\t1\traty\t\tN");
        }
    }
    let write = |file: &str, bytes: &[u8]| std::fs::write(dir.join(file), bytes).expect("an extract");
    write("mops.csv", &windows_1250(&mops));
    write("pup.csv", pup.as_bytes());
    write("css.csv", css.as_bytes());
    write("zlm.csv", zlm.as_bytes());
}

/// Text in Windows-1250.
#[must_use]
pub(crate) fn windows_1250(text: &str) -> Vec<u8> {
    encoding_rs::WINDOWS_1250.encode(text).0.into_owned()
}
