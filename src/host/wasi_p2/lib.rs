//! The component for WASI 0.2, built on Spin's SDK 5.2. Each request gets an instance of its own, and every call into the host blocks.

// A native linker does not accept the export's name.
#![cfg(target_family = "wasm")]

use dob_api::api;
use dob_api::host::{BodyError, Connection, DatabaseError, Host, Parameter, Purpose, Request, Value};
use dob_api::http::{Answer, Problem};
use dob_api::store::Memory;
use http::{HeaderName, HeaderValue, Method};
use spin_sdk::http::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use spin_sdk::pg4::{self, DbValue, ParameterValue, PgError, QueryError};
use spin_sdk::{http_component, variables};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use wasi::clocks::monotonic_clock;
use wasi::io::{poll::poll, streams::StreamError};

/// Most bytes in one write to the host's stream. Source: `wasi:io/streams`, blocking-write-and-flush.
const MAX_WRITE: usize = 4096;

#[http_component]
fn handle(incoming: IncomingRequest, out: ResponseOutparam) {
    let answer = match Method::from_bytes(incoming.method().to_string().as_bytes()) {
        Ok(method) => wait(api::answer(&Incoming::new(method, incoming), &Spin, &Memory::default())),
        Err(_) => Problem::bad_request("The method must be a token (RFC 9110, 9.1).").into(),
    };
    send(answer, out);
}

/// The future's result. Every call into this host blocks, so the future is never pending.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
    }
}

struct Spin;

struct Pooled(pg4::Connection);

struct Incoming {
    method: Method,
    path_with_query: String,
    request: IncomingRequest,
}

impl Incoming {
    fn new(method: Method, request: IncomingRequest) -> Self {
        Self { method, path_with_query: request.path_with_query().unwrap_or_default(), request }
    }
}

impl Request for Incoming {
    fn method(&self) -> &Method {
        &self.method
    }

    fn path_with_query(&self) -> &str {
        &self.path_with_query
    }

    fn header(&self, name: &HeaderName) -> Option<String> {
        self.request.headers().get(name.as_str()).pop().and_then(|value| String::from_utf8(value).ok())
    }

    async fn body(&self, limit: usize, within: Duration) -> Result<Vec<u8>, BodyError> {
        let incoming = self.request.consume().map_err(|()| BodyError::Broken)?;
        let stream = incoming.stream().map_err(|()| BodyError::Broken)?;
        let readable = stream.subscribe();
        let too_late = monotonic_clock::subscribe_duration(within.as_nanos() as u64);
        let mut body = Vec::new();
        while body.len() <= limit {
            if poll(&[&readable, &too_late]).contains(&1) {
                return Err(BodyError::Late);
            }
            match stream.read((limit + 1 - body.len()) as u64) {
                Ok(chunk) => body.extend(chunk),
                Err(StreamError::Closed) => break,
                Err(_) => return Err(BodyError::Broken),
            }
        }
        Ok(body)
    }
}

impl Host for Spin {
    type Connection = Pooled;

    async fn variable(&self, name: &str) -> Option<String> {
        variables::get(name).ok()
    }

    async fn open(&self, address: &str, _: Purpose) -> Result<Pooled, DatabaseError> {
        pg4::Connection::open(address).map(Pooled).map_err(failed)
    }

    async fn within<T>(&self, _: Duration, work: impl Future<Output = T>) -> Option<T> {
        Some(work.await)
    }
}

impl Connection for Pooled {
    async fn query(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Option<Vec<Value>>, DatabaseError> {
        let rows = self.0.query(statement, &sent(parameters)).map_err(failed)?.rows;
        Ok(rows.into_iter().next().map(|row| row.into_iter().map(received).collect()))
    }

    async fn execute(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<(), DatabaseError> {
        self.0.execute(statement, &sent(parameters)).map(drop).map_err(failed)
    }
}

fn sent(parameters: &[Parameter]) -> Vec<ParameterValue> {
    let sent = |parameter: &Parameter| match *parameter {
        Parameter::Text(text) => ParameterValue::Str(text.to_owned()),
        Parameter::Date(year, month, day) => ParameterValue::Date((year, month, day)),
    };
    parameters.iter().map(sent).collect()
}

fn received(value: DbValue) -> Value {
    match value {
        DbValue::DbNull => Value::Null,
        DbValue::Boolean(value) => Value::Boolean(value),
        DbValue::Int32(value) => Value::Integer(value),
        DbValue::Date((year, month, day)) => Value::Date(year, month, day),
        _ => Value::Other,
    }
}

fn failed(error: PgError) -> DatabaseError {
    match error {
        PgError::QueryFailed(QueryError::DbError(error)) => {
            DatabaseError::Refused { sqlstate: error.code, message: error.message }
        }
        // Spin has no separate error for a connection that broke during a statement, only a text.
        PgError::QueryFailed(QueryError::Text(message)) => DatabaseError::ConnectionLost(message),
        PgError::ConnectionFailed(message) | PgError::Other(message) => DatabaseError::NoConnection(message),
        PgError::BadParameter(message) | PgError::ValueConversionFailed(message) => DatabaseError::Parameter(message),
    }
}

fn send(answer: Answer, out: ResponseOutparam) {
    let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.as_bytes().to_vec());
    let headers: Vec<_> = answer.headers().iter().map(text).collect();
    let response = OutgoingResponse::new(Fields::from_list(&headers).unwrap_or_else(|_| Fields::new()));
    let _ = response.set_status_code(answer.status().as_u16());
    let text = answer.body().as_bytes();
    // If the body is never taken, the response ends after its head, whatever length that declares. This is how HEAD is answered.
    if text.is_empty() {
        return out.set(response);
    }
    let Ok(body) = response.body() else { return out.set(response) };
    let Ok(stream) = body.write() else { return out.set(response) };
    // The body is written before the response is set. Spin uses Nagle's algorithm, so a body that follows its head would wait for the
    // client's delayed acknowledgement.
    let taken = stream.check_write().map_or(0, |room| text.len().min(room as usize));
    let (now, later) = text.split_at(taken);
    let _ = stream.write(now);
    if later.is_empty() {
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
        return out.set(response);
    }
    out.set(response);
    // This fails if the client has left, and then nobody needs the rest.
    let _ = later.chunks(MAX_WRITE).try_for_each(|chunk| stream.blocking_write_and_flush(chunk));
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
