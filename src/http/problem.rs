//! Errors, as clients get them (RFC 9457).

use super::answer::{Answer, to_json, with_document};
use http::StatusCode;
use http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a client should wait before it tries again, in seconds.
const RETRY_AFTER_S: &str = "2";

/// An error as `application/problem+json`, with the header that its status needs.
#[derive(Serialize)]
pub struct Problem {
    r#type: &'static str,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    detail: String,
    #[serde(flatten)]
    members: BTreeMap<&'static str, &'static str>,
    #[serde(skip)]
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// `400`. The detail says what to change.
    pub fn bad_request(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad Request", detail)
    }

    /// `404`.
    pub fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found", detail)
    }

    /// `405` with `Allow`.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", format!("Use one of {allow}."))
            .with_header(ALLOW, allow)
    }

    /// `408`.
    pub fn late(limit: Duration) -> Self {
        let detail = format!("The body must arrive within {} s.", limit.as_secs());
        Self::new(StatusCode::REQUEST_TIMEOUT, "Request Timeout", detail)
    }

    /// `413`.
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("The body may have at most {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Content Too Large", detail)
    }

    /// `500`.
    pub fn internal() -> Self {
        let detail = "The service has a bug and could not answer; report it with this answer's x-request-id.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", detail)
    }

    /// `503` with `Retry-After`.
    pub fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", detail)
            .with_header(RETRY_AFTER, RETRY_AFTER_S)
    }

    /// Adds an extension member (RFC 9457, 3.2).
    pub fn with_member(mut self, name: &'static str, value: &'static str) -> Self {
        self.members.insert(name, value);
        self
    }

    fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// The title is the name that RFC 9110 gives the status.
    fn new(status: StatusCode, title: &'static str, detail: impl ToString) -> Self {
        let detail = detail.to_string();
        Self { r#type: "about:blank", title, status, detail, members: BTreeMap::new(), header: None }
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let mut answer = with_document(problem.status, "application/problem+json", to_json(&problem).into());
        answer.headers_mut().extend(problem.header);
        answer
    }
}

fn as_number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_json_with_the_four_members_and_its_extensions() {
        let problem = Problem::bad_request("write \"YYYY-MM-DD\"").with_member("primary", "ready");
        let answer = Answer::from(problem);
        assert_eq!(
            answer.body(),
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"write \"YYYY-MM-DD\"","primary":"ready"}"#
        );
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_eq!(answer.headers()["content-length"], answer.body().len().to_string());
    }

    #[test]
    fn a_problem_carries_the_header_that_its_status_asks_for() {
        let not_allowed = Answer::from(Problem::method_not_allowed("GET, HEAD, OPTIONS"));
        assert_eq!(not_allowed.headers()["allow"], "GET, HEAD, OPTIONS");
        assert_eq!(Answer::from(Problem::unavailable("later")).headers()["retry-after"], RETRY_AFTER_S);
        let internal = Answer::from(Problem::internal());
        assert!(!internal.headers().contains_key("allow") && !internal.headers().contains_key("retry-after"));
    }
}
