//! RFC 9457 problem details. The text is for people and never repeats an identifier.

use crate::Reason;
use crate::saying::{Language, Message, Saying};
use serde::{Deserialize, Serialize};

/// An error answer, media type `application/problem+json` (RFC 9457 §3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:ogniwo:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line, the same for every problem of this kind.
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    /// What to do about this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Stable `snake_case` code.
    pub code: String,
    /// The field of the request at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds after which trying again makes sense (also sent as `Retry-After`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// What was missing and what to do next, for a person to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
}

impl Problem {
    /// The media type of a problem document.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A problem of `status` with the stable `code` and its `title`.
    #[must_use]
    pub fn new(status: u16, code: &str, title: &str) -> Self {
        Problem {
            kind: format!("urn:ogniwo:problem:{code}"),
            title: title.to_owned(),
            status,
            detail: None,
            code: code.to_owned(),
            field: None,
            retry_after: None,
            message: None,
        }
    }

    /// A refusal for `reason`, in its words.
    #[must_use]
    pub fn because(status: u16, reason: Reason) -> Self {
        Problem::said(status, reason.code(), |language| reason.saying(language))
    }

    /// A problem in a saying's words, in both languages.
    #[must_use]
    pub fn said(status: u16, code: &str, saying: impl Fn(Language) -> Saying) -> Self {
        let Saying { missing, next } = saying(Language::En);
        Problem::new(status, code, missing).detail(next).message(Message::of(saying))
    }

    /// The same with words for a person.
    #[must_use]
    pub fn message(mut self, message: Message) -> Self {
        self.message = Some(message);
        self
    }

    /// The same with advice for this case.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same naming the field of the request at fault.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same with the seconds to wait before trying again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}
