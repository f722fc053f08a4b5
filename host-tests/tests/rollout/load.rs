//! Clients that save and greet through the balancer, and what they saw.

use dob_host::history::{VERSIONS, date, user};
use futures_util::future::join_all;
use reqwest::Client;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const CLIENTS: usize = 32;
/// The time from one request of a client to its next.
const PACE: Duration = Duration::from_millis(100);
/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Clients at work.
pub struct Load {
    stopped: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Record>>,
}

/// What all clients saw.
pub struct Outcome {
    /// Requests with the answer that is due.
    pub answered: usize,
    /// All others, by what came instead.
    pub failures: BTreeMap<String, usize>,
    took: Duration,
}

/// What one client saw.
struct Record {
    number: usize,
    answered: usize,
    failures: Vec<String>,
    /// The last date that was acknowledged.
    saved: Option<u16>,
    took: Duration,
}

impl Load {
    /// Starts the clients. Every other one makes a connection for each request; the others keep theirs for as long as a
    /// balancer keeps those of a leaving target, and then make a new one.
    pub fn start(service: SocketAddr, keep: Duration) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let client = |number| {
            let keep = if number % 2 == 0 { Duration::ZERO } else { keep };
            tokio::spawn(run(number, service, keep, stopped.clone()))
        };
        Self { clients: (0..CLIENTS).map(client).collect(), stopped }
    }

    /// Ends the load, and looks whether the database holds what was acknowledged.
    pub async fn stop(self, database: &tokio_postgres::Client) -> Outcome {
        self.stopped.store(true, Ordering::SeqCst);
        let mut outcome = Outcome { answered: 0, failures: BTreeMap::new(), took: Duration::ZERO };
        for record in join_all(self.clients).await {
            let record = record.expect("a client that ran to its end");
            outcome.answered += record.answered;
            outcome.took = outcome.took.max(record.took);
            for failure in record.failures {
                *outcome.failures.entry(failure).or_default() += 1;
            }
            if let Some(version) = record.saved {
                let stored = "SELECT date_of_birth FROM dob_api.birthday WHERE username = $1";
                let stored = database.query_one(stored, &[&user(record.number, 0)]).await.expect("the user's row");
                assert_eq!(stored.get::<_, chrono::NaiveDate>(0), date(version), "client {}", record.number);
            }
        }
        outcome
    }
}

async fn run(number: usize, service: SocketAddr, keep: Duration, stopped: Arc<AtomicBool>) -> Record {
    let url = format!("http://{service}/hello/{}", user(number, 0));
    let mut record = Record { number, answered: 0, failures: Vec::new(), saved: None, took: Duration::ZERO };
    let (started, mut connected) = (Instant::now(), Instant::now());
    let mut client = connect(keep);
    let mut pace = tokio::time::interval(PACE);
    for version in (1..VERSIONS).cycle() {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        if connected.elapsed() > keep {
            (client, connected) = (connect(keep), Instant::now());
        }
        pace.tick().await;
        let saving = client.put(&url).body(format!(r#"{{"dateOfBirth":"{}"}}"#, date(version)));
        if record.note(saving, 204).await {
            record.saved = Some(version);
        }
        pace.tick().await;
        record.note(client.get(&url), 200).await;
    }
    record.took = started.elapsed();
    record
}

/// A client whose connections are closed with it, or after each request.
fn connect(keep: Duration) -> Client {
    let idle = usize::from(!keep.is_zero());
    Client::builder().no_proxy().timeout(PATIENCE).pool_max_idle_per_host(idle).build().expect("a client")
}

impl Record {
    /// Sends a request and notes whether it was answered as it should.
    async fn note(&mut self, request: reqwest::RequestBuilder, status: u16) -> bool {
        let failure = match request.send().await {
            Ok(answer) if answer.status().as_u16() == status => match answer.bytes().await {
                Ok(_) => None,
                Err(_) => Some("an answer that broke off".to_owned()),
            },
            Ok(answer) => Some(format!("status {} instead of {status}", answer.status().as_u16())),
            Err(error) if error.is_timeout() => Some("no answer in time".to_owned()),
            Err(error) if error.is_connect() => Some("no connection".to_owned()),
            Err(_) => Some("a connection that broke off".to_owned()),
        };
        let answered = failure.is_none();
        self.answered += usize::from(answered);
        self.failures.extend(failure);
        answered
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, seconds) = (self.failures.values().sum::<usize>(), self.took.as_secs());
        write!(
            f,
            "{CLIENTS} clients, {} requests answered in {seconds} s, {failed} failed {:?}",
            self.answered, self.failures
        )
    }
}
