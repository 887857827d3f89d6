//! Two things in one column: surname with given names, house with flat.

/// Surname and given names of a name that begins with the surname.
///
/// The surname is the first word, with what visibly belongs to it: particles in small letters (`van den Berg Anna`) and
/// a double-barrelled half that is written apart (`Nowak - Kowalska Anna`). Everything after it is given names.
pub(super) fn surname_first(name: &str) -> (String, Option<String>) {
    let mut words = name.split_whitespace().peekable();
    let mut surname = String::new();
    while let Some(word) = words.next() {
        let joined = surname.is_empty() || surname.ends_with('-') || word.starts_with('-');
        if !joined {
            surname.push(' ');
        }
        surname.push_str(word);
        let goes_on = word.starts_with(char::is_lowercase)
            || surname.ends_with('-')
            || words.peek().is_some_and(|next| next.starts_with('-'));
        if !goes_on {
            break;
        }
    }
    let given = words.collect::<Vec<_>>().join(" ");
    (surname, (!given.is_empty()).then_some(given))
}

/// House and flat of `98/15/20`: the flat stands after the last slash, the house number may hold one itself.
pub(super) fn house_flat(number: &str) -> (&str, Option<&str>) {
    match number.rsplit_once('/').map(|(house, flat)| (house.trim(), flat.trim())) {
        Some((house, flat)) if !house.is_empty() && !flat.is_empty() => (house, Some(flat)),
        _ => (number, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surname_comes_first_whatever_the_number_of_words() {
        for (name, surname, given) in [
            ("Nowak Anna", "Nowak", Some("Anna")),
            ("Nowak Anna Maria", "Nowak", Some("Anna Maria")),
            ("Kowalska-Nowak Anna", "Kowalska-Nowak", Some("Anna")),
            ("Kowalska - Nowak Anna Maria", "Kowalska-Nowak", Some("Anna Maria")),
            ("Kowalska -Nowak Anna", "Kowalska-Nowak", Some("Anna")),
            ("van den Berg Anna", "van den Berg", Some("Anna")),
            ("  Nowak \u{a0} Anna ", "Nowak", Some("Anna")),
            ("NOWAK ŁUCJA", "NOWAK", Some("ŁUCJA")),
            ("Nowak", "Nowak", None),
        ] {
            assert_eq!(surname_first(name), (surname.to_owned(), given.map(str::to_owned)), "{name}");
        }
    }

    #[test]
    fn the_flat_stands_after_the_last_slash() {
        for (number, house, flat) in [
            ("52/14", "52", Some("14")),
            ("98/15/20", "98/15", Some("20")),
            ("7A / 3", "7A", Some("3")),
            ("12", "12", None),
            ("12/", "12/", None),
            ("/5", "/5", None),
        ] {
            assert_eq!(house_flat(number), (house, flat), "{number}");
        }
    }
}
