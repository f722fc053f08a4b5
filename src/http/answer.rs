//! What goes back to the client: a result, or a problem (RFC 9457).

use std::{borrow::Cow, fmt::Write};

/// A complete HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers but those of the connection.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty where the status has none.
    pub body: Cow<'static, str>,
}

/// An error as `application/problem+json`.
pub struct Problem {
    status: u16,
    title: &'static str,
    detail: String,
    members: Vec<(&'static str, &'static str)>,
}

impl Answer {
    /// `204` without a body.
    pub fn no_content() -> Self {
        Self::new(204, None, Cow::Borrowed(""))
    }

    /// `200` with a JSON document.
    pub fn json(document: impl Into<Cow<'static, str>>) -> Self {
        Self::new(200, Some("application/json"), document.into())
    }

    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn new(status: u16, content_type: Option<&str>, body: Cow<'static, str>) -> Self {
        let answer = Self { status, headers: Vec::with_capacity(6), body }
            .with("cache-control", "no-store")
            .with("x-content-type-options", "nosniff");
        match content_type {
            Some(content_type) => {
                let length = answer.body.len().to_string();
                answer.with("content-type", content_type).with("content-length", length)
            }
            None => answer,
        }
    }
}

impl Problem {
    /// `400`: the detail says what to change.
    pub fn bad_request(detail: impl ToString) -> Self {
        Self::new(400, "Bad Request", detail)
    }

    /// `404`.
    pub fn not_found(detail: &str) -> Self {
        Self::new(404, "Not Found", detail)
    }

    /// `405`; the caller adds `Allow`.
    pub fn method_not_allowed(allow: &str) -> Self {
        Self::new(405, "Method Not Allowed", format!("Use one of {allow}."))
    }

    /// `413`.
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, "Content Too Large", format!("The body may have at most {limit} bytes."))
    }

    /// `500`.
    pub fn internal() -> Self {
        Self::new(500, "Internal Server Error", "The service has a fault; it has been logged under the request id.")
    }

    /// `503`; the caller adds `Retry-After`.
    pub fn unavailable(detail: &str) -> Self {
        Self::new(503, "Service Unavailable", detail)
    }

    /// Adds an extension member (RFC 9457, 3.2).
    pub fn with_member(mut self, name: &'static str, value: &'static str) -> Self {
        self.members.push((name, value));
        self
    }

    fn new(status: u16, title: &'static str, detail: impl ToString) -> Self {
        Self { status, title, detail: detail.to_string(), members: Vec::new() }
    }
}

impl From<Problem> for Answer {
    /// Titles, details and members are our own words, none of which needs escaping but the detail.
    fn from(problem: Problem) -> Self {
        let Problem { status, title, detail, members } = problem;
        let detail = json_string(&detail);
        let mut body = format!(r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":{detail}"#);
        for (name, value) in members {
            let _ = write!(body, r#","{name}":"{value}""#);
        }
        body.push('}');
        Answer::new(status, Some("application/problem+json"), body.into())
    }
}

/// The text as a JSON string, quotes included.
pub fn json_string(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_json_with_the_four_members_and_its_extensions() {
        let problem = Problem::bad_request("write \"YYYY-MM-DD\"").with_member("primary", "ready");
        let answer = Answer::from(problem);
        assert_eq!(
            answer.body,
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"write \"YYYY-MM-DD\"","primary":"ready"}"#
        );
        let length = answer.body.len().to_string();
        assert!(answer.headers.contains(&("content-type", "application/problem+json".to_owned())));
        assert!(answer.headers.contains(&("content-length", length)));
    }

    #[test]
    fn no_content_has_no_length() {
        let headers = Answer::no_content().headers;
        assert!(headers.iter().all(|(name, _)| !name.starts_with("content-")), "{headers:?}");
    }
}
