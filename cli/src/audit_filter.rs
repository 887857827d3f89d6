//! Which entries of a log, live and in an export. What one of the two cannot look for is refused: a criterion that is
//! passed over would show everything.

use crate::args::FilterArgs;
use crate::exit::Failure;
use crate::prompt::resident;
use audit::{DECISIONS, EventKind, Filter};
use serde_json::{Value, json};

impl FilterArgs {
    /// Whether it is about one resident by a number or document, which only the node can turn into a file id.
    pub(crate) fn names_resident(&self) -> bool {
        self.resident || self.who.local_number.is_some() || self.who.document.is_some()
    }
}

/// The filter as the local API takes it; the PESEL comes from a prompt or standard input.
pub(crate) fn live(arguments: &FilterArgs) -> Result<Value, Failure> {
    catalogued(arguments)?;
    let FilterArgs {
        resident: _,
        who,
        file,
        event,
        staff,
        user,
        terminal_name,
        terminal,
        peer,
        purpose,
        basis,
        case,
        decision,
        request,
        key,
        from,
        until,
    } = arguments;
    let mut filter = json!({
        "file": file, "event": event, "staff": staff, "user": user, "terminal_name": terminal_name,
        "terminal": terminal, "peer": peer, "purpose": purpose, "basis": basis,
        "case_ref": case, "decision": decision, "request": request, "key": key,
        "from": moment(from.as_deref())?, "until": moment(until.as_deref())?,
    });
    if let Some(filter) = filter.as_object_mut() {
        if arguments.names_resident() {
            filter.insert("resident".to_owned(), resident(who)?);
        }
        filter.retain(|_, value| !value.is_null());
    }
    Ok(filter)
}

/// The filter on an export, where only what stands in the entries can be looked for.
pub(crate) fn offline(arguments: &FilterArgs) -> Result<Filter, Failure> {
    catalogued(arguments)?;
    let FilterArgs { staff, terminal_name, case, .. } = arguments;
    if arguments.names_resident() || [staff, terminal_name, case].into_iter().any(Option::is_some) {
        let why = "a resident, a member of staff, a terminal by its name or a case can only be looked for live: the node \
                   alone knows what stands for them";
        return Err(Failure::new("value", why));
    }
    let FilterArgs {
        resident: _,
        who: _,
        file,
        event,
        staff: _,
        user,
        terminal_name: _,
        terminal,
        peer,
        purpose,
        basis,
        case: _,
        decision,
        request,
        key,
        from,
        until,
    } = arguments;
    Ok(Filter {
        event: event.clone(),
        file: file.clone(),
        user: user.clone(),
        peer: peer.clone(),
        purpose: purpose.clone(),
        basis: basis.clone(),
        case: None,
        decision: decision.clone(),
        request: request.clone(),
        key: key.clone(),
        terminal: terminal.clone(),
        from: moment(from.as_deref())?,
        until: moment(until.as_deref())?,
    })
}

/// Refuses what stands in no entry: nothing would be found, as if nothing had happened.
fn catalogued(arguments: &FilterArgs) -> Result<(), Failure> {
    let events = EventKind::ALL.iter().map(|event| event.name());
    one_of("event", arguments.event.as_deref(), events)?;
    one_of("decision", arguments.decision.as_deref(), DECISIONS.iter().copied())
}

fn one_of<'a>(what: &str, given: Option<&str>, all: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    const NAMED: usize = 3;
    let Some(given) = given else { return Ok(()) };
    let mut near: Vec<(usize, &str)> = all.map(|name| (distance(given, name), name)).collect();
    near.sort_unstable();
    if near.first().is_some_and(|(distance, _)| *distance == 0) {
        return Ok(());
    }
    let near: Vec<&str> = near.into_iter().take(NAMED).map(|(_, name)| name).collect();
    Err(Failure::new("value", format!("no entry has the {what} {given}; near it are {}", near.join(", "))))
}

/// How many letters have to be put in, left out or changed to make one word of another.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (number, letter) in one.chars().enumerate() {
        let mut next = vec![number + 1];
        for ((compared, corner), above) in other.chars().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or_default();
            next.push((corner + usize::from(letter != compared)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// A day of Warsaw or a moment (RFC 3339) in seconds since 1970.
pub(crate) fn moment(text: Option<&str>) -> Result<Option<i64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let day = || policies::calendar::begins(text.parse().ok()?).map(|begins| begins.0);
    let instant = text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second).or_else(day);
    let wrong =
        || Failure::new("value", format!("{text} is neither a day (2026-11-21) nor a moment (2026-11-21T12:00:00Z)"));
    instant.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_entry_says_is_refused_with_what_is_near_it() {
        let events = || EventKind::ALL.iter().map(|event| event.name());
        let refused = |given| one_of("event", Some(given), events()).err().map(|failure| failure.message);
        assert_eq!(refused("query.denied"), None);
        let message = refused("query.denid").expect("there is none");
        assert!(message.contains("near it are query.denied, "), "{message}");
        assert!(one_of("decision", Some("foo"), DECISIONS.iter().copied()).is_err());
        assert!(one_of("decision", Some("mixed"), DECISIONS.iter().copied()).is_ok());
        assert_eq!((distance("", "abc"), distance("abc", "abc"), distance("kitten", "sitting")), (3, 0, 3));
    }
}
