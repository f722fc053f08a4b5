//! The service: parse, decide, store, answer.

use crate::{
    config::Config,
    domain::{DateOfBirth, Username, birthday},
    http::*,
    log,
    store::{Failure, Readiness, Store},
};
use chrono::NaiveDate;
use http::Method;
use http::header::{ALLOW, HeaderName, HeaderValue};
use std::io::{Write, stderr};

/// The API's description, as it is served.
const OPENAPI: &str = include_str!("../openapi.json");

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request, with its body still unread.
pub struct Request<'a> {
    /// The method as sent.
    pub method: Method,
    /// The raw path and query.
    pub path_with_query: &'a str,
    /// Reads a header's last value. Each read is a call into the host: ask only for what is needed.
    pub header: &'a dyn Fn(&HeaderName) -> Option<String>,
    /// Reads the body; called once at most.
    pub body: &'a dyn Fn() -> Result<Vec<u8>, BodyError>,
}

/// Why a body could not be had.
#[derive(Debug, Clone, Copy)]
pub enum BodyError {
    /// It has more than [`MAX_BODY_BYTES`].
    TooLarge,
    /// It broke off, or its framing is wrong.
    Broken,
}

/// Answers one request on the day `today` (UTC).
pub fn answer(request: &Request, config: &Config, today: NaiveDate) -> Answer {
    let Some(route) = Route::parse(request.path_with_query) else {
        return Problem::not_found("There is nothing here; see /openapi.json.").into();
    };
    let store = Store::new(config);
    let answered = match (&request.method, route) {
        (&Method::OPTIONS, _) => Ok(options(route)),
        (&Method::GET | &Method::HEAD, Route::Hello(segment)) => greet(segment, &store, today),
        (&Method::PUT, Route::Hello(segment)) => save(segment, request.body, &store, today),
        (&Method::GET | &Method::HEAD, Route::Healthz) => Ok(json(&Alive { status: "alive" })),
        (&Method::GET | &Method::HEAD, Route::Readyz) => report(store.readiness()),
        (&Method::GET | &Method::HEAD, Route::OpenApi) => Ok(json_text(OPENAPI)),
        _ => Err(Problem::method_not_allowed(route.allow()).into()),
    };
    answered.unwrap_or_else(|refusal| refuse(refusal, request, route, config))
}

/// A refusal: the client's fault, which is only told, or the service's, which is logged as well.
enum Refusal {
    Client(Problem),
    Service(Problem, Failure),
}

fn options(route: Route) -> Answer {
    let mut answer = no_content();
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(route.allow()));
    answer
}

fn greet(segment: &str, store: &Store, today: NaiveDate) -> Result<Answer, Refusal> {
    let user = Username::parse(segment).map_err(Problem::bad_request)?;
    let unknown = || Problem::not_found("No date of birth is saved for this username; PUT one first.");
    let born = store.find(&user)?.ok_or_else(unknown)?;
    Ok(json(&Greeting { message: birthday::greeting(&user, born, today) }))
}

fn save(
    segment: &str,
    body: &dyn Fn() -> Result<Vec<u8>, BodyError>,
    store: &Store,
    today: NaiveDate,
) -> Result<Answer, Refusal> {
    let user = Username::parse(segment).map_err(Problem::bad_request)?;
    let body = body().map_err(|error| match error {
        BodyError::TooLarge => Problem::too_large(MAX_BODY_BYTES),
        BodyError::Broken => Problem::bad_request("The body could not be read to its end."),
    })?;
    let text = date_of_birth_text(&body).map_err(Problem::bad_request)?;
    let born = DateOfBirth::parse(&text, today).map_err(Problem::bad_request)?;
    store.save(&user, born)?;
    Ok(no_content())
}

fn report(readiness: Readiness) -> Result<Answer, Refusal> {
    let ready = readiness.is_ready();
    let state = |answered: &Result<(), Failure>| if answered.is_ok() { "ready" } else { "not ready" };
    let primary = state(&readiness.primary);
    let replica = readiness.replica.as_ref().map_or("not configured", state);
    match readiness.primary {
        Err(failure) if !ready => {
            let problem = Problem::unavailable("Neither the primary nor a replica can serve greetings.")
                .with_member("primary", primary)
                .with_member("replica", replica);
            Err(Refusal::Service(problem, failure))
        }
        _ => Ok(json(&Ready { status: "ready", primary, replica })),
    }
}

fn refuse(refusal: Refusal, request: &Request, route: Route, config: &Config) -> Answer {
    match refusal {
        Refusal::Client(problem) => problem.into(),
        Refusal::Service(problem, failure) => {
            let mut answer = Answer::from(problem);
            let request_id = log::request_id((request.header)(&X_REQUEST_ID));
            let line = log::Line {
                level: "error",
                request_id: &request_id,
                method: request.method.as_str(),
                route: route.template(),
                status: answer.status().as_u16(),
                failed: failure.step,
                sqlstate: failure.sqlstate.as_deref(),
                message: &config.redact(&failure.message),
            };
            // Not eprintln!, which panics where the line can't be written: the client still gets its answer.
            let _ = writeln!(stderr(), "{}", line.to_json());
            answer.headers_mut().extend(HeaderValue::try_from(request_id).ok().map(|id| (X_REQUEST_ID, id)));
            answer
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Client(problem)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let problem = if failure.is_unexpected() {
            Problem::internal()
        } else {
            Problem::unavailable("The database can't be reached or can't do this now; try again.")
        };
        Self::Service(problem, failure)
    }
}
