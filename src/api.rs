//! The service: parse, decide, store, answer.

use crate::config::Config;
use crate::domain::{DateOfBirth, Username, birthday};
use crate::host::{BodyError, Host, Request};
use crate::http::*;
use crate::log;
use crate::store::{Failure, Memory, Readiness, Store};
use http::Method;
use http::header::{ALLOW, CONTENT_LENGTH, HeaderName, HeaderValue};

/// The OpenAPI description.
const OPENAPI: &str = include_str!("../openapi.json");

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers one request. HEAD is answered like GET, with the body's length but without the body. `memory` carries what this request learns
/// about the database to the instance's next requests.
pub async fn answer(request: &impl Request, host: &impl Host, memory: &Memory) -> Answer {
    let mut answer = answer_with_body(request, host, memory).await;
    if request.method() == Method::HEAD {
        *answer.body_mut() = "".into();
    }
    answer
}

async fn answer_with_body(request: &impl Request, host: &impl Host, memory: &Memory) -> Answer {
    let store = || Store::new(host, memory);
    let Some(route) = Route::parse(request.path_with_query()) else {
        return Problem::not_found("There is nothing at this path; /openapi.json lists all paths.").into();
    };
    let answered = match (request.method(), route) {
        (&Method::OPTIONS, _) => Ok(options(route)),
        (&Method::GET | &Method::HEAD, Route::Hello(segment)) => greet(segment, host, store()).await,
        (&Method::PUT, Route::Hello(segment)) => save(segment, request, host, store).await,
        (&Method::GET | &Method::HEAD, Route::Healthz) => Ok(json(&Alive { status: "alive" })),
        (&Method::GET | &Method::HEAD, Route::Readyz) => report(store().readiness().await),
        (&Method::GET | &Method::HEAD, Route::OpenApi) => Ok(json_text(OPENAPI)),
        _ => Err(Problem::method_not_allowed(route.allow()).into()),
    };
    match answered {
        Ok(answer) => answer,
        Err(Refusal::Client(problem)) => problem.into(),
        Err(Refusal::Service(problem, failure)) => refuse(problem, failure, request, route, host).await,
    }
}

/// A refusal. The client's own error goes to the client only. The service's failure is logged, too.
enum Refusal {
    Client(Problem),
    Service(Problem, Failure),
}

fn options(route: Route) -> Answer {
    let mut answer = no_content();
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(route.allow()));
    answer
}

async fn greet<H: Host>(segment: &str, host: &H, store: Store<'_, H>) -> Result<Answer, Refusal> {
    let user = Username::parse(segment).map_err(Problem::bad_request)?;
    let today = host.today();
    let unknown = || Problem::not_found("No date of birth is saved for this username; PUT one first.");
    let born = store.find(&user).await?.ok_or_else(unknown)?;
    Ok(json(&Greeting { message: birthday::greeting(&user, born, today) }))
}

async fn save<'a, H: Host + 'a>(
    segment: &str,
    request: &impl Request,
    host: &H,
    store: impl Fn() -> Store<'a, H>,
) -> Result<Answer, Refusal> {
    let user = Username::parse(segment).map_err(Problem::bad_request)?;
    let text = date_of_birth_text(&body(request).await?).map_err(Problem::bad_request)?;
    let born = DateOfBirth::parse(&text, host.today()).map_err(Problem::bad_request)?;
    // Opened only now, so that the store's time limit does not count the time that the client took to send the body.
    store().save(&user, born).await?;
    Ok(no_content())
}

/// Reads the body within both limits. If its declared length is too large, it is refused unread.
async fn body(request: &impl Request) -> Result<Vec<u8>, Problem> {
    let declared = request.header(&CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).unwrap_or(0);
    if declared > MAX_BODY_BYTES as u64 {
        return Err(Problem::too_large(MAX_BODY_BYTES));
    }
    match request.body(MAX_BODY_BYTES, BODY_WITHIN).await {
        Ok(body) if body.len() > MAX_BODY_BYTES => Err(Problem::too_large(MAX_BODY_BYTES)),
        Ok(body) => Ok(body),
        Err(BodyError::Late) => Err(Problem::late(BODY_WITHIN)),
        Err(BodyError::Broken) => Err(Problem::bad_request("The body ended early or is badly framed; send it again.")),
    }
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

/// Logs what failed under the request id, and tells the client that id.
async fn refuse(
    problem: Problem,
    failure: Failure,
    request: &impl Request,
    route: Route<'_>,
    host: &impl Host,
) -> Answer {
    let mut answer = Answer::from(problem);
    let request_id = log::request_id(request.header(&X_REQUEST_ID), || host.number());
    let line = log::Line {
        level: "error",
        request_id: &request_id,
        method: request.method().as_str(),
        route: route.template(),
        status: answer.status().as_u16(),
        failed: failure.step,
        sqlstate: failure.sqlstate.as_deref(),
        message: &Config::new(host).redact(&failure.message).await,
    };
    host.log(&line.to_json());
    answer.headers_mut().extend(HeaderValue::try_from(request_id).ok().map(|id| (X_REQUEST_ID, id)));
    answer
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
