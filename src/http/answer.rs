//! The answers to clients, and the JSON documents in them.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use serde::Serialize;
use std::borrow::Cow;

/// A complete answer, except for the connection's own headers. The body is empty if the status allows none.
pub type Answer = Response<Cow<'static, str>>;

/// What `GET /hello/<username>` answers.
#[derive(Serialize)]
pub struct Greeting {
    /// The greeting.
    pub message: String,
}

/// What `/healthz` answers.
#[derive(Serialize)]
pub struct Alive {
    /// `alive`.
    pub status: &'static str,
}

/// What `/readyz` answers if greetings can be read.
#[derive(Serialize)]
pub struct Ready {
    /// `ready`.
    pub status: &'static str,
    /// `ready` or `not ready`.
    pub primary: &'static str,
    /// `ready`, `not ready` or `not configured`.
    pub replica: &'static str,
}

/// `204` without a body.
pub fn no_content() -> Answer {
    answer(StatusCode::NO_CONTENT, Cow::Borrowed(""))
}

/// `200` with a document.
pub fn json(document: &impl Serialize) -> Answer {
    with_document(StatusCode::OK, "application/json", to_json(document).into())
}

/// `200` with a document that is written already.
pub fn json_text(document: &'static str) -> Answer {
    with_document(StatusCode::OK, "application/json", document.into())
}

/// The document as JSON. Serializing the types of this service can't fail.
pub fn to_json(document: &impl Serialize) -> String {
    serde_json::to_string(document).unwrap_or_default()
}

/// An answer with a body.
pub(super) fn with_document(status: StatusCode, content_type: &'static str, document: Cow<'static, str>) -> Answer {
    let length = document.len().into();
    let mut answer = answer(status, document);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, length);
    answer
}

fn answer(status: StatusCode, body: Cow<'static, str>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_content_has_no_length() {
        let answer = no_content();
        let headers = answer.headers();
        assert!(headers.keys().all(|name| !name.as_str().starts_with("content-")), "{headers:?}");
    }

    #[test]
    fn a_document_is_written_as_the_contract_has_it() {
        let message = "Hello, Ann! Happy birthday!".to_owned();
        assert_eq!(json(&Greeting { message }).body(), r#"{"message":"Hello, Ann! Happy birthday!"}"#);
        assert_eq!(json(&Alive { status: "alive" }).body(), r#"{"status":"alive"}"#);
        let ready = json(&Ready { status: "ready", primary: "ready", replica: "not configured" });
        assert_eq!(ready.body(), r#"{"status":"ready","primary":"ready","replica":"not configured"}"#);
        assert_eq!(ready.headers()["content-length"], ready.body().len().to_string());
    }
}
