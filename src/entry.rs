//! The entry point: one instance of the component, one request.

use crate::api::{self, BodyError, Request};
use crate::config::Config;
use crate::http::{Answer, MAX_BODY_BYTES, Problem};
use chrono::{DateTime, NaiveDate};
use http::Method;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use spin_sdk::{
    http::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
    http_component, variables,
};
use std::time::{SystemTime, UNIX_EPOCH};
use wasi::io::streams::StreamError;

/// Most bytes that one write to the host's stream may carry. Source: `wasi:io/streams`, blocking-write-and-flush.
const MAX_WRITE: usize = 4096;

#[http_component]
fn handle(incoming: IncomingRequest, out: ResponseOutparam) {
    let method = Method::from_bytes(incoming.method().to_string().as_bytes());
    let Ok(method) = method else {
        return send(Problem::bad_request("The method must be a token (RFC 9110, 9.1).").into(), out);
    };
    let path_with_query = incoming.path_with_query().unwrap_or_default();
    let request = Request {
        method,
        path_with_query: &path_with_query,
        header: &|name| header(&incoming, name),
        body: &|| read_body(&incoming),
    };
    let lookup = |name: &str| variables::get(name).ok();
    let answer = api::answer(&request, &Config::new(&lookup), today());
    send(answer, out);
}

fn header(incoming: &IncomingRequest, name: &HeaderName) -> Option<String> {
    incoming.headers().get(name.as_str()).pop().and_then(|value| String::from_utf8(value).ok())
}

/// Today in UTC, by the host's clock.
fn today() -> NaiveDate {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    DateTime::from_timestamp(seconds as i64, 0).unwrap_or_default().date_naive()
}

/// Reads the body up to the limit; a declared length over it is refused unread.
fn read_body(incoming: &IncomingRequest) -> Result<Vec<u8>, BodyError> {
    let declared = header(incoming, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).unwrap_or(0);
    if declared > MAX_BODY_BYTES as u64 {
        return Err(BodyError::TooLarge);
    }
    let incoming = incoming.consume().map_err(|()| BodyError::Broken)?;
    let stream = incoming.stream().map_err(|()| BodyError::Broken)?;
    let mut body = Vec::new();
    while body.len() <= MAX_BODY_BYTES {
        match stream.blocking_read((MAX_BODY_BYTES + 1 - body.len()) as u64) {
            Ok(chunk) => body.extend(chunk),
            Err(StreamError::Closed) => return Ok(body),
            Err(_) => return Err(BodyError::Broken),
        }
    }
    Err(BodyError::TooLarge)
}

fn send(answer: Answer, out: ResponseOutparam) {
    let text = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().to_owned(), value.as_bytes().to_vec());
    let headers: Vec<_> = answer.headers().iter().map(text).collect();
    let response = OutgoingResponse::new(Fields::from_list(&headers).unwrap_or_else(|_| Fields::new()));
    let _ = response.set_status_code(answer.status().as_u16());
    let body = response.body();
    out.set(response);
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        for chunk in answer.body().as_bytes().chunks(MAX_WRITE) {
            // The client of a HEAD, or one that has gone, takes no body.
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
