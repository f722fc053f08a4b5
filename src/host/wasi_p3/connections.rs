//! The connections that an instance reads from: one per address, shared by its concurrent requests.

use crate::clock::within;
use crate::postgres::{failed, open, received, sent};
use dob_api::host::{Connection, DatabaseError, Parameter, Value};
use spin_sdk::pg;
use spin_sdk::wasip3::clocks::monotonic_clock::wait_for;
use spin_sdk::wasip3::wit_stream;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use wit_bindgen::StreamWriter;

/// How long an instance keeps a connection. The host has 64 per address, and a burst starts more instances than that. If each kept its
/// connection for as long as it lives, the others would get none. Taking it from the host's pool again costs one round trip.
const KEPT_FOR: Duration = Duration::from_millis(50);

/// How long the host may take to open a shared connection. It tries two hosts for 1 s each. A request that opens a connection of its own has
/// a limit for all that it does, and a second timer would cost it time.
const OPENED_WITHIN: Duration = Duration::from_millis(2200);

/// The connections that an instance keeps, by address. Clones share them.
#[derive(Clone, Default)]
pub struct Connections(Rc<RefCell<BTreeMap<String, Slot>>>);

type Outcome = Result<Rc<pg::Connection>, DatabaseError>;

enum Slot {
    Opening(Opening),
    Open(Rc<pg::Connection>),
}

/// A connection that is being opened, while the requests that need it wait. The end of a stream wakes them, because only the host can wake
/// a request.
#[derive(Default)]
struct Opening {
    outcome: Rc<OnceCell<Outcome>>,
    waiting: Vec<StreamWriter<u8>>,
}

/// A shared connection, as one request uses it.
pub struct Shared {
    pub connection: Rc<pg::Connection>,
    connections: Connections,
}

/// A statement whose answer is pending. If this is dropped without an answer, the connection is not kept, because later statements on it
/// would wait behind that one.
pub struct Unanswered<'a> {
    shared: &'a Shared,
    is_answered: bool,
}

impl Connections {
    /// The connection to this address. Opens it if there is none.
    pub async fn get(&self, address: &str) -> Result<Shared, DatabaseError> {
        let kept = match self.0.borrow().get(address) {
            Some(Slot::Open(connection)) => Some(connection.clone()),
            _ => None,
        };
        let connection = match kept {
            Some(connection) => connection,
            None => self.opened(address).await?,
        };
        Ok(Shared { connection, connections: self.clone() })
    }

    async fn opened(&self, address: &str) -> Outcome {
        let (signal, mut end) = wit_stream::new();
        let outcome = {
            let mut slots = self.0.borrow_mut();
            let slot = slots.entry(address.to_owned()).or_insert_with(|| Slot::Opening(Opening::default()));
            let Slot::Opening(opening) = slot else { unreachable!("it was not open, and nothing ran since") };
            opening.waiting.push(signal);
            if opening.waiting.len() == 1 {
                // Not opened by the request itself, because it may give up while others still wait.
                wit_bindgen::spawn(self.clone().open(address.to_owned()));
            }
            opening.outcome.clone()
        };
        end.next().await;
        outcome.get().cloned().unwrap_or_else(|| Err(DatabaseError::NoConnection("nothing opened it".to_owned())))
    }

    async fn open(self, address: String) {
        let late = || Err(DatabaseError::NoConnection("the host did not open a connection in time".to_owned()));
        let outcome = within(OPENED_WITHIN, open(&address)).await.unwrap_or_else(late);
        let before = match &outcome {
            Ok(connection) => self.0.borrow_mut().insert(address, Slot::Open(connection.clone())),
            Err(_) => self.0.borrow_mut().remove(&address),
        };
        if let Some(Slot::Opening(opening)) = before {
            let _ = opening.outcome.set(outcome.clone());
        }
        if let Ok(connection) = outcome {
            wait_for(KEPT_FOR.as_nanos() as u64).await;
            self.keep_no_longer(&connection);
        }
    }

    /// Requests that use the connection continue with it. The next request opens another one.
    fn keep_no_longer(&self, connection: &Rc<pg::Connection>) {
        let is_kept = |slot: &Slot| matches!(slot, Slot::Open(kept) if Rc::ptr_eq(kept, connection));
        self.0.borrow_mut().retain(|_, slot| !is_kept(slot));
    }
}

impl Shared {
    /// Hold this until the statement is answered.
    pub fn until_answered(&self) -> Unanswered<'_> {
        Unanswered { shared: self, is_answered: false }
    }
}

impl Unanswered<'_> {
    /// The server has answered the statement.
    pub fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.shared.connections.keep_no_longer(&self.shared.connection);
        }
    }
}

/// A connection that a request has opened.
pub enum Opened {
    /// Other requests use it, too.
    Shared(Shared),
    /// No other request uses it.
    Own(Rc<pg::Connection>),
}

impl Opened {
    fn connection(&self) -> &pg::Connection {
        match self {
            Self::Shared(shared) => &shared.connection,
            Self::Own(connection) => connection,
        }
    }

    /// Runs a statement. If it gets no answer, a shared connection is not kept.
    async fn answered<T>(&self, statement: impl Future<Output = Result<T, pg::Error>>) -> Result<T, DatabaseError> {
        let unanswered = match self {
            Self::Shared(shared) => Some(shared.until_answered()),
            Self::Own(_) => None,
        };
        let answer = statement.await.map_err(failed)?;
        if let Some(unanswered) = unanswered {
            unanswered.answered();
        }
        Ok(answer)
    }
}

impl Connection for Opened {
    async fn query(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Option<Vec<Value>>, DatabaseError> {
        let row = async {
            let mut result = self.connection().query(statement, sent(parameters)).await?;
            match result.rows().next().await {
                Some(row) => Ok(Some(row.into_iter().map(received).collect())),
                // Either the result is empty, or the statement failed after it had begun.
                None => result.result().await.map(|()| None),
            }
        };
        self.answered(row).await
    }

    async fn execute(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<(), DatabaseError> {
        self.answered(async { self.connection().execute(statement, sent(parameters)).await.map(drop) }).await
    }
}
