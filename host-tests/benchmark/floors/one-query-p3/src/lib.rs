//! Runs one statement and nothing else: finds the user of `/hello/<username>`, or saves the date in the query string if there is one.

#![cfg(target_family = "wasm")]

#[path = "../../answer_p3.rs"]
mod answer;

use answer::answer;
use spin_sdk::pg::{Connection, ParameterValue};
use spin_sdk::variables;
use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::types::{ErrorCode, Request, Response};
use spin_sdk::wasip3::wit_future;
use std::cell::RefCell;
use std::rc::Rc;
use wit_bindgen::StreamResult;

/// The component's statement. The benchmark fails if they differ.
const FIND: &str = include_str!("../../find.sql");
/// The component's statement. The benchmark fails if they differ.
const SAVE: &str = include_str!("../../save.sql");

thread_local! {
    /// The connection that the instance reads from for as long as it lives.
    static READING: RefCell<Option<Rc<Connection>>> = const { RefCell::new(None) };
}

struct Component;

spin_sdk::wasip3::http::service::export!(Component with_types_in spin_sdk::wasip3);

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (done, status, text) = match target.split_once('?') {
            Some((path, date)) => {
                read_to_end(request).await;
                (save(path, date).await, 204, "")
            }
            None => (find(&target).await, 200, "Hello"),
        };
        Ok(answer(done.map_or(500, |()| status), text).await)
    }
}

async fn find(path: &str) -> Option<()> {
    let kept = READING.with_borrow(Clone::clone);
    let connection = match kept {
        Some(connection) => connection,
        None => {
            let opened = Rc::new(connection().await?);
            READING.with_borrow_mut(|kept| kept.get_or_insert(opened).clone())
        }
    };
    connection.query(FIND, [username(path)]).await.ok()?.rows().next().await.map(drop)
}

/// The date comes with the path, because reading it from the body would be more than the floor.
async fn save(path: &str, date: &str) -> Option<()> {
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let date = ParameterValue::Date((year.parse().ok()?, month.parse().ok()?, day.parse().ok()?));
    connection().await?.execute(SAVE, [username(path), date]).await.ok().map(drop)
}

async fn connection() -> Option<Connection> {
    Connection::open(variables::get("pg_address").await.ok()?).await.ok()
}

fn username(path: &str) -> ParameterValue {
    ParameterValue::Str(path.rsplit('/').next().unwrap_or_default().to_owned())
}

async fn read_to_end(request: Request) {
    let (_, taken) = wit_future::new(|| Ok(()));
    let (mut body, _) = Request::consume_body(request, taken);
    while body.read(Vec::with_capacity(4096)).await.0 != StreamResult::Dropped {}
}
