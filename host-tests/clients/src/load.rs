//! The load generator: clients that save and greet, each on a connection of its own, and record every call.

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

/// What the clients do, how many they are, and how fast.
#[derive(Debug, Clone)]
pub struct LoadProfile {
    /// How many clients there are.
    pub clients: usize,
    /// The number of the first one: two loads on one database must not share a client.
    pub first: usize,
    /// From the start of a call to that of the client's next.
    pub pace: Duration,
    /// The same after a call that failed.
    pub pace_after_failure: Duration,
    /// A call that takes longer has failed.
    pub gives_up_after: Duration,
    /// How long a client keeps a connection; for ever where this is not set. Where it is, every other client keeps none: it makes one
    /// for each call.
    pub keeps_connection: Option<Duration>,
    /// The day that the service's clock shows.
    pub today: NaiveDate,
    /// What they ask for.
    pub workload: Workload,
}

/// What clients ask for.
#[derive(Debug, Clone)]
pub enum Workload {
    /// In turn: a new user saved and greeted, the client's own user saved anew and greeted.
    SaveAndGreet,
    /// Greetings for random ones of so many numbered users.
    GreetNumbered { users: u32, seed: u64 },
    /// Dates for random ones of so many numbered users: this version, or a random one.
    SaveNumbered { users: u32, seed: u64, version: Option<u16> },
    /// One path, again and again.
    Get { path: String },
}

/// Where clients connect; whoever holds the sender can send them elsewhere.
pub type Route = watch::Sender<SocketAddr>;

/// Clients at work, and what they have recorded so far. Dropping it ends them where they are.
pub struct LoadGenerator {
    /// When they started; the record's times count from here.
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

    /// Waits until a save succeeds that was started after this call, and says how long that took.
    pub async fn until_saved(&self, deadline: Duration) -> Result<Duration> {
        let now = self.started.elapsed();
        eventually("a date is saved", deadline, async || {
            let history = lock(&self.history);
            let saved = history.iter().rev().find(|operation| operation.started > now && operation.saved());
            let last = history.last().and_then(|operation| operation.error.as_deref()).unwrap_or("nothing");
            ensure!(saved.is_some(), "the last call's error is {last}");
            Ok(saved.map_or(Duration::ZERO, |operation| operation.ended - now))
        })
        .await
    }

    /// Lets this much time pass under load.
    pub async fn run_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Ends the clients after their last calls, and gives the history.
    pub async fn stop(self) -> Vec<Operation> {
        self.stop.send_replace(true);
        self.clients.join_all().await;
        std::mem::take(&mut lock(&self.history))
    }
}

/// A load for a fixed time, such as a benchmark's turn.
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
        // Not all save at once, then all greet.
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

    /// Makes a call and records it; whether it succeeded.
    async fn perform(&mut self, mut action: Action) -> bool {
        let started = self.started.elapsed();
        let sent = match &action {
            // The date stands in the query, too, for the server of the benchmark that reads no body; the API ignores it.
            Action::Save { user, version } => {
                let date = date(*version);
                let body = format!(r#"{{"dateOfBirth":"{date}"}}"#);
                self.connection.send("PUT", format!("/hello/{user}?{date}"), body)
            }
            Action::Greet { user, .. } => self.connection.send("GET", format!("/hello/{user}"), String::new()),
            Action::Get { path } => self.connection.send("GET", path.clone(), String::new()),
        };
        let answer = tokio::time::timeout(self.profile.gives_up_after, sent).await;
        // A user whose save failed may be unknown; users of a database that was filled are not.
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

/// The n-th call of a client.
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

/// The user and the version of a client's n-th call: in turn a new user, and its own one, whose version rises until greetings tell no
/// more of them apart; then the next own one takes its place, so that every save changes something.
fn save_and_greet(client: usize, n: usize) -> (String, u16) {
    let (round, is_new) = (n / 4, n % 4 < 2);
    if is_new {
        return (user(client, round), 1);
    }
    let versions = usize::from(VERSIONS);
    (user(client, LAST_USER - round / versions), (round % versions) as u16 + 1)
}

/// What is wrong with an answer, in words that are the same for the same fault; notes what a greeting found.
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

/// Random numbers that are the same in every run (xorshift64*): a benchmark's rounds must be comparable.
struct Random(u64);

impl Random {
    fn new(workload: &Workload, client: usize) -> Self {
        let (Workload::GreetNumbered { seed, .. } | Workload::SaveNumbered { seed, .. }) = workload else {
            return Self(1);
        };
        // Never 0, from which nothing random follows.
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
    fn only_a_client_that_saves_may_meet_an_unknown_user() {
        let judge = |may_be_unknown, status| {
            let mut greeting = Action::Greet { user: "ann".to_owned(), version: None };
            judge(&mut greeting, TODAY, may_be_unknown, Ok((status, String::new())))
        };
        assert_eq!((judge(true, 404), judge(false, 200)), (None, None));
        assert_eq!(judge(false, 404), Some("404".to_owned()));
    }
}
