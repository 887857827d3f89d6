//! Problem documents as HTTP answers (RFC 9457).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use protocol::Problem;
use protocol::saying::{Language, Saying, pick};

/// A [`Problem`] as an answer: its status, `application/problem+json`, and `Retry-After` when it names a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProblemResponse(pub Problem);

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        ProblemResponse(problem)
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A struct of strings and numbers always serialises; an empty body would still carry the status.
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        if let Some(seconds) = self.0.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What a listener refuses by itself: its routes were not reached, or did not say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: u16,
    /// Stable code.
    pub code: &'static str,
    words: [&'static str; 4],
}

impl Refusal {
    /// The request cannot be read.
    pub const BAD_REQUEST: Refusal = Refusal::new(
        400,
        "bad_request",
        [
            "The request is not acceptable.",
            "Correct it after the API's description.",
            "Żądanie jest niedopuszczalne.",
            "Popraw je według opisu interfejsu.",
        ],
    );
    /// No such path.
    pub const NOT_FOUND: Refusal = Refusal::new(
        404,
        "not_found",
        [
            "There is nothing at this address.",
            "Compare the path with the API's description.",
            "Pod tym adresem nic nie ma.",
            "Porównaj ścieżkę z opisem interfejsu.",
        ],
    );
    /// The path has no such method.
    pub const METHOD_NOT_ALLOWED: Refusal = Refusal::new(
        405,
        "method_not_allowed",
        [
            "This address does not take this method.",
            "Use the method that the API's description names.",
            "Ten adres nie przyjmuje tej metody.",
            "Użyj metody z opisu interfejsu.",
        ],
    );
    /// [`Limits::max_body`](crate::Limits::max_body).
    pub const BODY_TOO_LARGE: Refusal = Refusal::new(
        413,
        "body_too_large",
        ["The body is too large.", "Send less at once.", "Danych jest za dużo.", "Wyślij mniej naraz."],
    );
    /// A route failed without a word.
    pub const FAILED: Refusal = Refusal::new(
        500,
        "internal_server_error",
        [
            "The program failed; see its trace.",
            "Ask your IT.",
            "Program zawiódł; szczegóły są w jego śladzie.",
            "Zwróć się do informatyka.",
        ],
    );
    /// [`Limits::max_requests`](crate::Limits::max_requests), or one peer's.
    pub const BUSY: Refusal = Refusal::new(
        503,
        "busy",
        [
            "Too many requests run at once.",
            "Try again in a moment.",
            "Zbyt wiele żądań naraz.",
            "Spróbuj ponownie za chwilę.",
        ],
    );
    /// [`Limits::request`](crate::Limits::request).
    pub const REQUEST_TIMEOUT: Refusal = Refusal::new(
        503,
        "request_timeout",
        [
            "The request took too long.",
            "It may be done all the same: look first, then try again.",
            "Żądanie trwało za długo.",
            "Mimo to mogło zostać wykonane: najpierw sprawdź, potem spróbuj ponownie.",
        ],
    );

    /// Every refusal.
    pub const ALL: &'static [Refusal] = &[
        Refusal::BAD_REQUEST,
        Refusal::NOT_FOUND,
        Refusal::METHOD_NOT_ALLOWED,
        Refusal::BODY_TOO_LARGE,
        Refusal::FAILED,
        Refusal::BUSY,
        Refusal::REQUEST_TIMEOUT,
    ];

    const fn new(status: u16, code: &'static str, words: [&'static str; 4]) -> Self {
        Refusal { status, code, words }
    }

    /// What a person reads: what was missing and what to do next.
    #[must_use]
    pub fn saying(self, language: Language) -> Saying {
        pick(self.words, language)
    }

    /// As the caller is told.
    #[must_use]
    pub fn problem(self) -> Problem {
        Problem::said(self.status, self.code, |language| self.saying(language))
    }

    /// What `status` alone says: a status without words of its own has those of its class, under HTTP's name for it.
    fn of(status: StatusCode) -> Problem {
        if let Some(own) = Refusal::ALL.iter().find(|own| own.status == status.as_u16() && status != 503) {
            return own.problem();
        }
        let like = if status.is_client_error() { Refusal::BAD_REQUEST } else { Refusal::FAILED };
        let code = status.canonical_reason().unwrap_or("Error").to_ascii_lowercase().replace([' ', '-', '\''], "_");
        Problem::said(status.as_u16(), &code, |language| like.saying(language))
    }
}

/// Whether these headers announce a problem document.
pub(crate) fn is_problem(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case(Problem::MEDIA_TYPE))
}

/// In the extensions of an error answer whose body another protocol prescribes: it goes out as it is.
#[derive(Clone, Copy, Debug)]
pub struct Prescribed;

/// Replaces an error answer that is no problem document and not [`Prescribed`]. A framework's own error text may quote the
/// request, and a request may hold an identifier.
pub(crate) fn uniform(response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let prescribed = response.extensions().get::<Prescribed>().is_some();
    if !(status.is_client_error() || status.is_server_error()) || is_problem(response.headers()) || prescribed {
        return response;
    }
    let mut problem = ProblemResponse(Refusal::of(status)).into_response();
    for kept in [http::header::ALLOW, http::header::WWW_AUTHENTICATE, RETRY_AFTER] {
        keep(&kept, response.headers(), problem.headers_mut());
    }
    problem
}

fn keep(name: &HeaderName, from: &HeaderMap, to: &mut HeaderMap) {
    if let Some(value) = from.get(name) {
        to.insert(name, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_carries_status_type_and_wait() {
        let response = ProblemResponse(Problem::new(429, "quota", "Quota used up").retry_after(7)).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[RETRY_AFTER], "7");
    }

    #[test]
    fn whatever_is_refused_says_in_both_languages_what_to_do() {
        let of = |status: u16| Refusal::of(StatusCode::from_u16(status).unwrap());
        let derived = [400, 404, 405, 409, 413, 415, 422, 431, 500, 503].map(of);
        for problem in derived.iter().cloned().chain(Refusal::ALL.iter().map(|own| own.problem())) {
            let message = problem.message.unwrap();
            assert!(message.pl != message.en && message.pl.len() > 20 && message.en.len() > 20, "{message:?}");
            assert!(problem.detail.is_some_and(|detail| message.en.ends_with(&detail)));
        }
        let named = derived.map(|problem| (problem.status, problem.code));
        assert_eq!(named[5], (415, "unsupported_media_type".to_owned()));
        assert_eq!(named[9], (503, "service_unavailable".to_owned()), "neither busy nor late");
    }

    #[test]
    fn foreign_error_text_is_replaced_and_other_answers_pass() {
        let response = uniform((StatusCode::METHOD_NOT_ALLOWED, [("allow", "GET")], "90010112345").into_response());
        assert!(is_problem(response.headers()));
        assert_eq!(Refusal::of(StatusCode::METHOD_NOT_ALLOWED), Refusal::METHOD_NOT_ALLOWED.problem());
        assert_eq!(response.headers()["allow"], "GET");
        let fine = uniform((StatusCode::OK, "hello").into_response());
        assert!(!is_problem(fine.headers()));
        let size = (StatusCode::CONFLICT, axum::Extension(Prescribed), "17\n").into_response();
        assert!(!is_problem(uniform(size).headers()));
        let own = Problem::new(400, "bad_pesel", "x");
        assert_eq!(uniform(ProblemResponse(own).into_response()).status(), 400);
    }
}
