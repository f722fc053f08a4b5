//! Runs one statement and nothing else: finds the user of `/hello/<username>`, or saves the date in the query string if there is one.

use spin_sdk::http::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use spin_sdk::pg4::{Connection, ParameterValue};
use spin_sdk::{http_component, variables};

/// The component's statement. The benchmark fails if they differ.
const FIND: &str = include_str!("../../find.sql");
/// The component's statement. The benchmark fails if they differ.
const SAVE: &str = include_str!("../../save.sql");

#[http_component]
fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = request.path_with_query().unwrap_or_default();
    match target.split_once('?') {
        Some((path, date)) => {
            read_to_end(&request);
            send(if save(path, date).is_some() { 204 } else { 500 }, b"", out);
        }
        None => send(if find(&target).is_some() { 200 } else { 500 }, b"Hello", out),
    }
}

fn find(path: &str) -> Option<()> {
    connection()?.query(FIND, &[username(path)]).ok().map(drop)
}

/// The date comes with the path, because reading it from the body would be more than the floor.
fn save(path: &str, date: &str) -> Option<()> {
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let date = ParameterValue::Date((year.parse().ok()?, month.parse().ok()?, day.parse().ok()?));
    connection()?.execute(SAVE, &[username(path), date]).ok().map(drop)
}

fn connection() -> Option<Connection> {
    Connection::open(&variables::get("pg_address").ok()?).ok()
}

fn username(path: &str) -> ParameterValue {
    ParameterValue::Str(path.rsplit('/').next().unwrap_or_default().to_owned())
}

fn read_to_end(request: &IncomingRequest) {
    let Ok(body) = request.consume() else { return };
    if let Ok(stream) = body.stream() {
        while stream.blocking_read(4096).is_ok() {}
    }
}

fn send(status: u16, text: &[u8], out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let _ = response.set_status_code(status);
    if let (false, Ok(body)) = (text.is_empty(), response.body()) {
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(text);
        }
        let _ = OutgoingBody::finish(body, None);
    }
    out.set(response);
}
