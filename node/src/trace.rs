//! Which question an entry belongs to: the trace id of W3C Trace Context, by which several programs' records of one
//! question are found. It says nothing by itself, and joins no more than the asker's log position, which each holder is
//! given as well.

use axum::http::HeaderMap;
use keyring::random;
use serde::Serialize;
use std::io;

/// The header of W3C Trace Context.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// A trace id: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Trace(String);

impl Trace {
    /// The one `headers` carry.
    pub(crate) fn carried(headers: &HeaderMap) -> Option<Self> {
        Trace::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
    }

    /// A new one.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Trace(format!("{:032x}", u128::from_be_bytes(random()?))))
    }

    /// Out of `version-trace-parent-flags`. An id of decimal digits alone may be somebody's number, and is none: of random
    /// ones that is one in three million.
    fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let digits = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let formed = digits(version, 2) && digits(trace, 32) && digits(parent, 16) && digits(flags, 2);
        let known = version != "ff" && (version != "00" || parts.next().is_none());
        let number = trace.bytes().all(|byte| byte.is_ascii_digit());
        (formed && known && !number).then(|| Trace(trace.to_owned()))
    }

    /// The header of a call that is made for it.
    pub(crate) fn header(&self) -> io::Result<String> {
        Ok(format!("00-{}-{:016x}-00", self.0, u64::from_be_bytes(random()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn an_id_is_taken_from_what_the_specification_calls_a_header_and_never_a_number() {
        let parse = |header: &str| Trace::parse(header);
        assert_eq!(parse(&format!("00-{ID}-00f067aa0ba902b7-01")), Some(Trace(ID.to_owned())));
        assert_eq!(parse(&format!("01-{ID}-00f067aa0ba902b7-01-more")), Some(Trace(ID.to_owned())));
        for wrong in [
            "",
            ID,
            &format!("00-{ID}-00f067aa0ba902b7"),
            &format!("00-{ID}-00f067aa0ba902b7-01-more"),
            &format!("ff-{ID}-00f067aa0ba902b7-01"),
            &format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase()),
            &format!("00-{}-00f067aa0ba902b7-01", &ID[1..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-00000000000000000000044051401359-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let new = Trace::new().unwrap();
        assert_eq!(parse(&new.header().unwrap()), Some(new));
    }
}
