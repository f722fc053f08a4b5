//! Faults that a test injects into the host, and the host calls that it can inspect.

use crate::bindings::spin::postgres::postgres::Error;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// A call of the component into the host's PostgreSQL interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostCall {
    /// `connection.open`
    Open,
    /// `connection.query`
    Query,
    /// `connection.execute`
    Execute,
}

/// The component's calls, in order: the call, its statement (empty for `open`) and the number of rows.
pub type HostCalls = Vec<(HostCall, String, Option<usize>)>;

/// Injected faults and recorded calls; clones share both.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    empty_query_hangs: bool,
    answers: VecDeque<(HostCall, Error)>,
    drop_traps: bool,
    calls: Option<HostCalls>,
}

impl Faults {
    /// Imitates a fault of Spin 4.0: a query without rows never answers.
    pub fn with_hanging_empty_query(self) -> Self {
        self.state().empty_query_hangs = true;
        self
    }

    /// Makes the next call of this kind fail with `error` before it reaches PostgreSQL.
    pub fn fail_next(&self, call: HostCall, error: Error) {
        self.state().answers.push_back((call, error));
    }

    /// Makes the instance trap that gives a connection back next.
    pub fn trap_next_drop(&self) {
        self.state().drop_traps = true;
    }

    /// Returns the calls since the last time this was called. The first time starts recording.
    pub fn take_calls(&self) -> HostCalls {
        self.state().calls.replace(HostCalls::new()).unwrap_or_default()
    }

    pub(crate) fn planted(&self, call: HostCall) -> Result<(), Error> {
        let mut state = self.state();
        match state.answers.iter().position(|(planted, _)| *planted == call) {
            Some(index) => Err(state.answers.remove(index).expect("just found").1),
            None => Ok(()),
        }
    }

    pub(crate) fn takes_trap(&self) -> bool {
        std::mem::take(&mut self.state().drop_traps)
    }

    pub(crate) fn saw(&self, call: HostCall, statement: &str, rows: Option<usize>) {
        if let Some(calls) = &mut self.state().calls {
            calls.push((call, statement.to_owned(), rows));
        }
    }

    pub(crate) fn empty_query_hangs(&self) -> bool {
        self.state().empty_query_hangs
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }
}
