//! Problem documents as HTTP answers (RFC 9457).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use protocol::Problem;

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
    let title = status.canonical_reason().unwrap_or("Error");
    let code = title.to_ascii_lowercase().replace([' ', '-', '\''], "_");
    let mut problem = ProblemResponse(Problem::new(status.as_u16(), &code, title)).into_response();
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
    fn foreign_error_text_is_replaced_and_other_answers_pass() {
        let response = uniform((StatusCode::METHOD_NOT_ALLOWED, [("allow", "GET")], "90010112345").into_response());
        assert!(is_problem(response.headers()));
        assert_eq!(response.headers()["allow"], "GET");
        let fine = uniform((StatusCode::OK, "hello").into_response());
        assert!(!is_problem(fine.headers()));
        let size = (StatusCode::CONFLICT, axum::Extension(Prescribed), "17\n").into_response();
        assert!(!is_problem(uniform(size).headers()));
        let own = Problem::new(400, "bad_pesel", "x");
        assert_eq!(uniform(ProblemResponse(own).into_response()).status(), 400);
    }
}
