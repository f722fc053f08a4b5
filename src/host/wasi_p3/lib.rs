//! The component for WASI 0.3, built on Spin's SDK 7. An instance serves many requests, several of them at the same time.

// A native linker does not accept the export's name.
#![cfg(target_family = "wasm")]

mod clock;
mod connections;
mod http;
mod postgres;

use ::http::Method;
use clock::within;
use connections::{Connections, Opened};
use dob_api::api;
use dob_api::host::{DatabaseError, Host, Purpose};
use dob_api::http::Problem;
use dob_api::store::Memory;
use http::{Incoming, method_of, response};
use postgres::open;
use spin_sdk::variables;
use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::types::{ErrorCode, Request, Response};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

struct Component;

spin_sdk::wasip3::http::service::export!(Component with_types_in spin_sdk::wasip3);

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let method = method_of(&request);
        let answer = match Method::from_bytes(method.as_bytes()) {
            Ok(method) => {
                let instance = INSTANCE.with(|instance| *instance);
                api::answer(&Incoming::new(method, request), &instance.host, &instance.memory).await
            }
            Err(_) => Problem::bad_request("The method must be a token (RFC 9110, 9.1).").into(),
        };
        Ok(response(answer).await)
    }
}

thread_local! {
    static INSTANCE: &'static Instance = Box::leak(Box::default());
}

/// What an instance keeps between requests.
#[derive(Default)]
struct Instance {
    host: Spin,
    memory: Memory,
}

#[derive(Default)]
struct Spin {
    connections: Connections,
    /// Values that the host has returned. They do not change while an instance lives.
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
