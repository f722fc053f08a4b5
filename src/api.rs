//! The service: parse, decide, store, answer.

use crate::{
    config::Config,
    domain::{DateOfBirth, Username, birthday},
    http::*,
    log,
    store::{Failure, Readiness, Store},
};
use chrono::NaiveDate;

/// The API's description, as it is served.
const OPENAPI: &str = include_str!("../openapi.json");

/// What a client of an unavailable service should wait before it tries again, in seconds.
const RETRY_AFTER_S: &str = "2";

/// A request, with its body still unread.
pub struct Request<'a> {
    /// The method as sent.
    pub method: &'a str,
    /// The raw path and query.
    pub path_with_query: &'a str,
    /// Reads a header's last value. Each read is a call into the host: ask only for what is needed.
    pub header: &'a dyn Fn(&str) -> Option<String>,
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
    let answered = match (Method::parse(request.method), route) {
        (Method::Options, _) => Ok(Answer::no_content().with("allow", route.allow())),
        (Method::Get, Route::Hello(segment)) => greet(segment, &store, today),
        (Method::Put, Route::Hello(segment)) => save(segment, request.body, &store, today),
        (Method::Get, Route::Healthz) => Ok(Answer::json(r#"{"status":"alive"}"#)),
        (Method::Get, Route::Readyz) => report(store.readiness()),
        (Method::Get, Route::OpenApi) => Ok(Answer::json(OPENAPI)),
        (Method::Put | Method::Other, _) => {
            Ok(Answer::from(Problem::method_not_allowed(route.allow())).with("allow", route.allow()))
        }
    };
    answered.unwrap_or_else(|refusal| refuse(refusal, request, route, config))
}

/// A refusal: the client's fault, which is only told, or the service's, which is logged as well.
enum Refusal {
    Client(Problem),
    Service(Problem, Failure),
}

fn greet(segment: &str, store: &Store, today: NaiveDate) -> Result<Answer, Refusal> {
    let user = Username::parse(segment).map_err(Problem::bad_request)?;
    let unknown = || Problem::not_found("No date of birth is saved for this username; PUT one first.");
    let born = store.find(&user)?.ok_or_else(unknown)?;
    let message = birthday::greeting(&user, born, today);
    Ok(Answer::json(format!(r#"{{"message":"{message}"}}"#)))
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
    Ok(Answer::no_content())
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
        _ => Ok(Answer::json(format!(r#"{{"status":"ready","primary":"{primary}","replica":"{replica}"}}"#))),
    }
}

fn refuse(refusal: Refusal, request: &Request, route: Route, config: &Config) -> Answer {
    match refusal {
        Refusal::Client(problem) => problem.into(),
        Refusal::Service(problem, failure) => {
            let answer = Answer::from(problem);
            let request_id = log::request_id((request.header)("x-request-id"));
            log::failure(&request_id, request.method, route.template(), answer.status, &failure, config);
            let answer = answer.with("x-request-id", request_id);
            if answer.status == 503 { answer.with("retry-after", RETRY_AFTER_S) } else { answer }
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
