//! The log: one line of JSON for every 5xx answer.

use crate::http::to_json;
use serde::Serialize;

/// Longest request id that is accepted from a client, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// The log line of a failed request.
#[derive(Serialize)]
pub struct Line<'a> {
    /// Always `error`.
    pub level: &'static str,
    /// The request id, which the client gets, too.
    pub request_id: &'a str,
    /// The method as sent.
    pub method: &'a str,
    /// The route without the username.
    pub route: &'static str,
    /// The answer's status.
    pub status: u16,
    /// The step that failed.
    pub failed: &'static str,
    /// PostgreSQL's SQLSTATE, if the server sent one.
    pub sqlstate: Option<&'a str>,
    /// The message of the host or the server, shortened, and with the configured passwords removed.
    pub message: &'a str,
}

impl Line<'_> {
    /// The line, without a line break at its end.
    pub fn to_json(&self) -> String {
        to_json(self)
    }
}

/// The client's `x-request-id` if it is short and plain. Otherwise a new one, made from `number`.
pub fn request_id(from_client: Option<String>, number: impl FnOnce() -> u64) -> String {
    let is_plain = |id: &String| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    from_client.filter(is_plain).unwrap_or_else(|| format!("{:016x}", number()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(request_id(Some("abc-1.2_3".to_owned()), || 1), "abc-1.2_3");
        for id in [None, Some(""), Some("a b"), Some("a\"b"), Some(&*"a".repeat(65))] {
            let made = request_id(id.map(str::to_owned), || 1);
            assert_eq!(made.len(), 16, "{id:?}");
            assert_ne!(made, request_id(None, || 2));
        }
    }

    #[test]
    fn whatever_a_server_says_stays_on_one_line() {
        let line = Line {
            level: "error",
            request_id: "1",
            method: "GET",
            route: "/readyz",
            status: 503,
            failed: "open",
            sqlstate: None,
            message: "a \"b\"\nc",
        };
        assert_eq!(
            line.to_json(),
            r#"{"level":"error","request_id":"1","method":"GET","route":"/readyz","status":503,"failed":"open","sqlstate":null,"message":"a \"b\"\nc"}"#
        );
    }
}
