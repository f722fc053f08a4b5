//! The component for WASI 0.3: the service on Spin's SDK 7. An instance serves many requests, several at a time.

// The export's name means nothing to a native linker.
#![cfg(target_family = "wasm")]

mod connections;

use connections::{Connections, Shared, Unanswered};
use dob_api::api;
use dob_api::host::{BodyError, Connection, DatabaseError, Host, Parameter, Purpose, Request, Value};
use dob_api::http::{Answer, Problem};
use dob_api::store::Health;
use futures_util::future::{Either, select};
use http::{HeaderName, HeaderValue, Method};
use spin_sdk::pg::{self, DbValue, ParameterValue, PgError, QueryError};
use spin_sdk::variables;
use spin_sdk::wasip3::clocks::monotonic_clock;
use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::types::{self, ErrorCode, Fields, Response};
use spin_sdk::wasip3::{wit_future, wit_stream};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use wit_bindgen::StreamResult;

/// How long the host may take to open a connection: two hosts are tried for 1 s each.
const OPENED_WITHIN: Duration = Duration::from_millis(2200);

struct Component;

spin_sdk::wasip3::http::service::export!(Component with_types_in spin_sdk::wasip3);

impl Guest for Component {
    async fn handle(request: types::Request) -> Result<Response, ErrorCode> {
        let method = method_of(&request);
        let answer = match Method::from_bytes(method.as_bytes()) {
            Ok(method) => {
                let instance = INSTANCE.with(|instance| *instance);
                api::answer(&Incoming::new(method, request), &instance.host, &instance.health).await
            }
            Err(_) => Problem::bad_request("The method must be a token (RFC 9110, 9.1).").into(),
        };
        Ok(response(answer).await)
    }
}

thread_local! {
    static INSTANCE: &'static Instance = Box::leak(Box::default());
}

/// What outlives a request.
#[derive(Default)]
struct Instance {
    host: Spin,
    health: Health,
}

#[derive(Default)]
struct Spin {
    connections: Connections,
    /// The host's answers: they stay the same for as long as an instance lives.
    variables: RefCell<BTreeMap<String, Option<String>>>,
}

impl Host for Spin {
    type Connection = Opened;

    async fn variable(&self, name: &str) -> Option<String> {
        if let Some(value) = self.variables.borrow().get(name) {
            return value.clone();
        }
        let value = variables::get(name).await.ok();
        self.variables.borrow_mut().insert(name.to_owned(), value.clone());
        value
    }

    async fn open(&self, address: &str, purpose: Purpose) -> Result<Opened, DatabaseError> {
        match purpose {
            Purpose::Reading => self.connections.get(address).await.map(Opened::Shared),
            Purpose::Saving | Purpose::Preparing => open(address).await.map(Opened::Own),
        }
    }

    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        within(limit, work).await
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let limit = pin!(monotonic_clock::wait_for(limit.as_nanos() as u64));
    match select(pin!(work), limit).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

/// A connection of the host's pool.
async fn open(address: &str) -> Result<Rc<pg::Connection>, DatabaseError> {
    let opened = within(OPENED_WITHIN, pg::Connection::open(address)).await;
    let late = || DatabaseError::NoConnection("the host opened no connection in time".to_owned());
    opened.ok_or_else(late)?.map(Rc::new).map_err(failed)
}

/// A connection in the hands of one request.
enum Opened {
    /// Other requests send statements on it, too.
    Shared(Shared),
    /// Nobody else does.
    Own(Rc<pg::Connection>),
}

impl Opened {
    fn connection(&self) -> &pg::Connection {
        match self {
            Self::Shared(shared) => &shared.connection,
            Self::Own(connection) => connection,
        }
    }

    /// Runs a statement; a shared connection that gave no answer is not kept.
    async fn answered<T>(&self, statement: impl Future<Output = Result<T, pg::Error>>) -> Result<T, DatabaseError> {
        let unanswered = match self {
            Self::Shared(shared) => Some(shared.until_answered()),
            Self::Own(_) => None,
        };
        let answer = statement.await.map_err(failed)?;
        unanswered.map(Unanswered::answered);
        Ok(answer)
    }
}

impl Connection for Opened {
    async fn query(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Option<Vec<Value>>, DatabaseError> {
        let row = async {
            let mut result = self.connection().query(statement, sent(parameters)).await?;
            match result.rows().next().await {
                Some(row) => Ok(Some(row.into_iter().map(received).collect())),
                // Why there is none: the statement has none, or it failed after it had begun.
                None => result.result().await.map(|()| None),
            }
        };
        self.answered(row).await
    }

    async fn execute(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<(), DatabaseError> {
        self.answered(async { self.connection().execute(statement, sent(parameters)).await.map(drop) }).await
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

fn failed(error: pg::Error) -> DatabaseError {
    match error {
        pg::Error::PgError(PgError::QueryFailed(QueryError::DbError(error))) => {
            DatabaseError::Refused { sqlstate: error.code, message: error.message }
        }
        // Spin has no error of its own for a connection that broke during a statement, only text.
        pg::Error::PgError(PgError::QueryFailed(QueryError::Text(message))) => DatabaseError::ConnectionLost(message),
        pg::Error::PgError(PgError::ConnectionFailed(message) | PgError::Other(message)) => {
            DatabaseError::NoConnection(message)
        }
        pg::Error::PgError(PgError::BadParameter(message) | PgError::ValueConversionFailed(message))
        | pg::Error::Decode(message) => DatabaseError::Parameter(message),
    }
}

struct Incoming {
    method: Method,
    path_with_query: String,
    /// Without its body once that was taken.
    request: RefCell<Option<types::Request>>,
    headers: OnceCell<Fields>,
}

impl Incoming {
    fn new(method: Method, request: types::Request) -> Self {
        let path_with_query = request.get_path_with_query().unwrap_or_default();
        Self { method, path_with_query, request: RefCell::new(Some(request)), headers: OnceCell::new() }
    }

    fn headers(&self) -> &Fields {
        let read = || self.request.borrow().as_ref().map_or_else(Fields::new, types::Request::get_headers);
        self.headers.get_or_init(read)
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
        self.headers().get(name.as_str()).pop().and_then(|value| String::from_utf8(value).ok())
    }

    async fn body(&self, limit: usize, time: Duration) -> Result<Vec<u8>, BodyError> {
        // The request is gone with its body.
        self.headers();
        let request = self.request.take().ok_or(BodyError::Broken)?;
        within(time, body(request, limit)).await.ok_or(BodyError::Late)?
    }
}

/// Reads the body, up to one byte more than `limit`.
async fn body(request: types::Request, limit: usize) -> Result<Vec<u8>, BodyError> {
    let (_, taken) = wit_future::new(|| Ok(()));
    let (mut stream, end) = types::Request::consume_body(request, taken);
    let mut body = Vec::with_capacity(limit + 1);
    while body.len() <= limit {
        let (result, more) = stream.read(body).await;
        body = more;
        if result == StreamResult::Dropped {
            return end.await.map(|_| body).map_err(|_| BodyError::Broken);
        }
    }
    Ok(body)
}

fn method_of(request: &types::Request) -> String {
    match request.get_method() {
        types::Method::Get => "GET".to_owned(),
        types::Method::Head => "HEAD".to_owned(),
        types::Method::Post => "POST".to_owned(),
        types::Method::Put => "PUT".to_owned(),
        types::Method::Delete => "DELETE".to_owned(),
        types::Method::Connect => "CONNECT".to_owned(),
        types::Method::Options => "OPTIONS".to_owned(),
        types::Method::Trace => "TRACE".to_owned(),
        types::Method::Patch => "PATCH".to_owned(),
        types::Method::Other(method) => method,
    }
}

/// The answer for the host. Its body's first write begins before that, and its length is declared: Spin sends with Nagle's algorithm,
/// and a body that comes after its head waits for the client's delayed acknowledgement.
async fn response(answer: Answer) -> Response {
    let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.as_bytes().to_vec());
    let headers: Vec<_> = answer.headers().iter().map(text).collect();
    let headers = Fields::from_list(&headers).unwrap_or_else(|_| Fields::new());
    let status = answer.status().as_u16();
    let body = answer.into_body().into_owned().into_bytes();
    let (trailers, end) = wit_future::new(|| Ok(None));
    // A body that is not there ends with the head, whatever length this declares: so HEAD has its answer.
    if body.is_empty() {
        let (response, _) = Response::new(headers, None, end);
        let _ = response.set_status_code(status);
        return response;
    }
    let (mut writer, reader) = wit_stream::new();
    let (response, _) = Response::new(headers, Some(reader), end);
    let _ = response.set_status_code(status);
    let mut writing = Box::pin(async move {
        // A client that has gone takes no more.
        let _ = writer.write_all(body).await;
        drop(writer);
        let _ = trailers.write(Ok(None)).await;
    });
    let written = poll_fn(|context| Poll::Ready(writing.as_mut().poll(context).is_ready())).await;
    if !written {
        wit_bindgen::spawn(writing);
    }
    response
}
