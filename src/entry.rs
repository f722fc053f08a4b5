//! The entry point: one instance of the component, one request.

use crate::api::{self, BodyError, Request};
use crate::config::Config;
use crate::http::{Answer, MAX_BODY_BYTES};
use chrono::{DateTime, NaiveDate};
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
    let method = incoming.method().to_string();
    let path_with_query = incoming.path_with_query().unwrap_or_default();
    let request = Request {
        method: &method,
        path_with_query: &path_with_query,
        header: &|name| header(&incoming, name),
        body: &|| read_body(&incoming),
    };
    let lookup = |name: &str| variables::get(name).ok();
    let answer = api::answer(&request, &Config::new(&lookup), today());
    send(answer, out);
}

fn header(incoming: &IncomingRequest, name: &str) -> Option<String> {
    incoming.headers().get(name).pop().and_then(|value| String::from_utf8(value).ok())
}

/// Today in UTC, by the host's clock.
fn today() -> NaiveDate {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    DateTime::from_timestamp(seconds as i64, 0).unwrap_or_default().date_naive()
}

/// Reads the body up to the limit; a declared length over it is refused unread.
fn read_body(incoming: &IncomingRequest) -> Result<Vec<u8>, BodyError> {
    let declared = header(incoming, "content-length").and_then(|length| length.parse::<u64>().ok()).unwrap_or(0);
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
    let headers: Vec<_> =
        answer.headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect();
    let response = OutgoingResponse::new(Fields::from_list(&headers).unwrap_or_else(|_| Fields::new()));
    let _ = response.set_status_code(answer.status);
    let body = response.body();
    out.set(response);
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        for chunk in answer.body.as_bytes().chunks(MAX_WRITE) {
            // The client of a HEAD, or one that has gone, takes no body.
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
