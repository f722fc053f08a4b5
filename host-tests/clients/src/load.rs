//! The load generator: clients that save and greet, each on its own connection, and record every operation.

use crate::connection::{Connection, Failed};
use crate::history::{Action, LAST_USER, Operation, VERSIONS, date, numbered_user, user, version};
use anyhow::{Result, ensure};
use chrono::NaiveDate;
use dob_support::eventually;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// How many clients there are, what they do, and how fast.
#[derive(Debug, Clone)]
pub struct LoadProfile {
    /// The number of clients.
    pub clients: usize,
    /// The number of the first client. Two load generators that save in one database must not share a client.
    pub first: usize,
    /// The time from the start of an operation to the start of the client's next one.
    pub pace: Duration,
    /// The same after a failed operation.
    pub pace_after_failure: Duration,
    /// An operation that takes longer has failed.
    pub gives_up_after: Duration,
    /// How long a client keeps a connection; none means without a limit. If it is set, every second client keeps no connection and opens
    /// one for each operation.
    pub keeps_connection: Option<Duration>,
    /// The day of the service's clock.
    pub today: NaiveDate,
    /// What the clients do.
    pub workload: Workload,
}

/// The operations of clients.
#[derive(Debug, Clone)]
pub enum Workload {
    /// In turn: save and greet a new user, then save and greet the client's own user.
    SaveAndGreet,
    /// Greet random users of a prefilled database with this many users.
    GreetNumbered { users: u32, seed: u64 },
    /// Save this version, or a random one, for random users of a prefilled database with this many users.
    SaveNumbered { users: u32, seed: u64, version: Option<u16> },
    /// Get one path repeatedly.
    Get { path: String },
}

/// The address to which clients connect; whoever has the sender can change it.
pub type Route = watch::Sender<SocketAddr>;

/// Running clients and their history so far. Dropping it aborts them.
pub struct LoadGenerator {
    /// When the clients started; times in the history count from here.
    pub started: Instant,
    history: Arc<Mutex<Vec<Operation>>>,
    clients: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl LoadGenerator {
    /// Starts the clients.
    pub fn start(profile: &LoadProfile, route: &Route) -> Self {
        let (started, history, (stop, stopped)) = (Instant::now(), Arc::default(), watch::channel(false));
        let mut clients = JoinSet::new();
        for n in 0..profile.clients {
            let keep = profile.keeps_connection.map(|keep| if n % 2 == 0 { Duration::ZERO } else { keep });
            let client = Client {
                number: profile.first + n,
                profile: profile.clone(),
                started,
                connection: Connection::new(route.subscribe(), keep),
                history: Arc::clone(&history),
            };
            clients.spawn(client.run(stopped.clone()));
        }
        Self { started, clients, history, stop }
    }

    /// Waits until a save succeeds that starts from now on, and returns how long that took.
    pub async fn until_saved(&self, deadline: Duration) -> Result<Duration> {
        self.until("a date is saved", Operation::saved, deadline).await
    }

    /// The same for a greeting.
    pub async fn until_greeted(&self, deadline: Duration) -> Result<Duration> {
        self.until("a greeting is answered", Operation::greeted, deadline).await
    }

    async fn until(&self, what: &str, succeeded: fn(&Operation) -> bool, deadline: Duration) -> Result<Duration> {
        let now = self.started.elapsed();
        eventually(what, deadline, async || {
            let history = lock(&self.history);
            let success = history.iter().rev().find(|operation| operation.started > now && succeeded(operation));
            let last = history.last().and_then(|operation| operation.error.as_deref()).unwrap_or("nothing");
            ensure!(success.is_some(), "the error of the last operation is {last}");
            Ok(success.map_or(Duration::ZERO, |operation| operation.ended - now))
        })
        .await
    }

    /// Waits for this time under load.
    pub async fn run_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Lets the clients finish their current operations, and returns the history.
    pub async fn stop(self) -> Vec<Operation> {
        self.stop.send_replace(true);
        self.clients.join_all().await;
        std::mem::take(&mut lock(&self.history))
    }
}

/// Generates load for a fixed time.
pub async fn run_for(profile: &LoadProfile, service: SocketAddr, time: Duration) -> Vec<Operation> {
    let (route, _) = watch::channel(service);
    let load = LoadGenerator::start(profile, &route);
    load.run_for(time).await;
    load.stop().await
}

struct Client {
    number: usize,
    profile: LoadProfile,
    started: Instant,
    connection: Connection,
    history: Arc<Mutex<Vec<Operation>>>,
}

impl Client {
    async fn run(mut self, stopped: watch::Receiver<bool>) {
        // Staggers the clients, so that they don't all save at once and then all greet.
        tokio::time::sleep(self.profile.pace * (self.number % 4) as u32).await;
        let mut random = Random::new(&self.profile.workload, self.number);
        for n in 0.. {
            if *stopped.borrow() {
                return;
            }
            let started = tokio::time::Instant::now();
            let action = action(&self.profile.workload, self.number, n, &mut random);
            let answered = self.perform(action).await;
            let pace = if answered { self.profile.pace } else { self.profile.pace_after_failure };
            if !pace.is_zero() {
                sleep_until(started + pace).await;
            }
        }
    }

    /// Performs and records an operation. Returns whether it succeeded.
    async fn perform(&mut self, mut action: Action) -> bool {
        let started = self.started.elapsed();
        let sent = match &action {
            // The query repeats the date for the benchmark's server that reads no body; the API ignores it.
            Action::Save { user, version } => {
                let date = date(*version);
                let body = format!(r#"{{"dateOfBirth":"{date}"}}"#);
                self.connection.send("PUT", format!("/hello/{user}?{date}"), body)
            }
            Action::Greet { user, .. } => self.connection.send("GET", format!("/hello/{user}"), String::new()),
            Action::Get { path } => self.connection.send("GET", path.clone(), String::new()),
        };
        let answer = tokio::time::timeout(self.profile.gives_up_after, sent).await;
        // A user whose save failed may be unknown; users of a prefilled database are not.
        let may_be_unknown = matches!(self.profile.workload, Workload::SaveAndGreet);
        let error = judge(&mut action, self.profile.today, may_be_unknown, answer.unwrap_or(Err(Failed::NoAnswer)));
        if error.is_some() {
            self.connection.close();
        }
        let (ended, answered) = (self.started.elapsed(), error.is_none());
        lock(&self.history).push(Operation { client: self.number, started, ended, action, error });
        answered
    }
}

/// The n-th action of a client.
fn action(workload: &Workload, client: usize, n: usize, random: &mut Random) -> Action {
    match workload {
        Workload::SaveAndGreet => {
            let (user, version) = save_and_greet(client, n);
            if n.is_multiple_of(2) { Action::Save { user, version } } else { Action::Greet { user, version: None } }
        }
        Workload::GreetNumbered { users, .. } => {
            Action::Greet { user: numbered_user(random.below(*users)), version: None }
        }
        Workload::SaveNumbered { users, version, .. } => Action::Save {
            user: numbered_user(random.below(*users)),
            version: version.unwrap_or_else(|| random.below(VERSIONS.into()) as u16 + 1),
        },
        Workload::Get { path } => Action::Get { path: path.clone() },
    }
}

/// The user and version of a client's n-th action: in turn a new user, and the client's own user, whose version rises. When greetings
/// can't tell more versions apart, another user becomes the client's own, so that every save changes something.
fn save_and_greet(client: usize, n: usize) -> (String, u16) {
    let (round, is_new) = (n / 4, n % 4 < 2);
    if is_new {
        return (user(client, round), 1);
    }
    let versions = usize::from(VERSIONS);
    (user(client, LAST_USER - round / versions), (round % versions) as u16 + 1)
}

/// The kind of error of an answer, if it is wrong. Stores the version that a greeting found.
fn judge(
    action: &mut Action,
    today: NaiveDate,
    may_be_unknown: bool,
    answer: Result<(u16, String), Failed>,
) -> Option<String> {
    let (status, body) = match answer {
        Ok(answer) => answer,
        Err(failed) => return Some(failed.to_string()),
    };
    let is_due = match action {
        Action::Save { .. } => status == 204,
        Action::Greet { version: found, .. } => {
            *found = version(&body, today);
            status == 200 || (status == 404 && may_be_unknown)
        }
        Action::Get { .. } => status == 200,
    };
    (!is_due).then(|| status.to_string())
}

fn lock(history: &Mutex<Vec<Operation>>) -> MutexGuard<'_, Vec<Operation>> {
    history.lock().expect("no client panics while it holds this")
}

/// Reproducible random numbers (xorshift64*), which make a benchmark's rounds comparable.
struct Random(u64);

impl Random {
    fn new(workload: &Workload, client: usize) -> Self {
        let (Workload::GreetNumbered { seed, .. } | Workload::SaveNumbered { seed, .. }) = workload else {
            return Self(1);
        };
        // The state must not be 0: xorshift would stay at 0.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (client as u64 + 1))
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        (high % u64::from(limit)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::TODAY;
    use std::collections::BTreeSet;

    #[test]
    fn no_version_is_saved_twice_for_one_user() {
        let saves = (0..10_000).step_by(2).map(|n| save_and_greet(3, n));
        assert_eq!(saves.collect::<BTreeSet<_>>().len(), 5_000);
    }

    #[test]
    fn a_greeting_asks_for_the_user_that_was_saved_before() {
        for n in (0..10_000).step_by(2) {
            assert_eq!(save_and_greet(3, n), save_and_greet(3, n + 1));
        }
    }

    #[test]
    fn only_a_client_that_saves_accepts_an_unknown_user() {
        let judge = |may_be_unknown, status| {
            let mut greeting = Action::Greet { user: "ann".to_owned(), version: None };
            judge(&mut greeting, TODAY, may_be_unknown, Ok((status, String::new())))
        };
        assert_eq!((judge(true, 404), judge(false, 200)), (None, None));
        assert_eq!(judge(false, 404), Some("404".to_owned()));
    }
}
