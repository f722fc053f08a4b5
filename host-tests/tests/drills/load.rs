//! The clients of a drill: they save and greet through the component at a steady rate, and record every call.

use anyhow::{Result, bail};
use dob_host::history::{Call, VERSIONS, What, date, user, version};
use dob_host::lab::patroni_role;
use reqwest::Client;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const CLIENTS: usize = 12;
/// Between two calls of a client.
const PACE: Duration = Duration::from_millis(100);
/// The same after a call that failed. The service asks for 2 s; together the clients still notice within 50 ms that it is back.
const PACE_AFTER_FAILURE: Duration = Duration::from_millis(500);
/// A call that takes longer has failed; far above all limits of the service.
const GIVES_UP_AFTER: Duration = Duration::from_secs(70);
/// Between two looks at who leads.
const LOOK: Duration = Duration::from_secs(1);

/// Running clients, and what they have recorded so far.
pub struct Load {
    pub started: Instant,
    record: Arc<Mutex<Record>>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// All that a drill's picture is drawn from; times are from the start of the load.
#[derive(Debug, Default, Clone)]
pub struct Record {
    pub calls: Vec<Call>,
    /// Who led, at each look.
    pub leaders: Vec<(Duration, Vec<String>)>,
    /// What was done when.
    pub marks: Vec<(Duration, String)>,
}

impl Load {
    /// Starts clients that no other drill has had, on the route that the sender names.
    pub fn start(drill: usize, route: &watch::Sender<String>, nodes: Vec<(String, SocketAddrV4)>) -> Self {
        let (started, record, (stop, stopped)) = (Instant::now(), Arc::default(), watch::channel(false));
        let clients = (0..CLIENTS).map(|n| {
            let client = SteadyClient {
                id: drill * CLIENTS + n,
                started,
                http: Client::builder().no_proxy().timeout(GIVES_UP_AFTER).build().expect("a client"),
                route: route.subscribe(),
                record: Arc::clone(&record),
            };
            tokio::spawn(client.run(stopped.clone()))
        });
        let mut tasks: Vec<_> = clients.collect();
        tasks.push(tokio::spawn(watch_leaders(started, nodes, Arc::clone(&record), stopped.clone())));
        Self { started, record, tasks, stop }
    }

    /// Notes a moment for the picture.
    pub fn mark(&self, what: &str) -> Duration {
        let now = self.started.elapsed();
        println!("    {:5.1} s  {what}", now.as_secs_f64());
        self.record.lock().unwrap().marks.push((now, what.to_owned()));
        now
    }

    /// Waits until a save succeeds that was started after this call, and says how long that took.
    pub async fn until_saved(&self, patience: Duration) -> Result<Duration> {
        let now = self.started.elapsed();
        loop {
            let saved =
                |call: &Call| call.started > now && call.error.is_none() && matches!(call.what, What::Save { .. });
            if let Some(call) = self.record.lock().unwrap().calls.iter().rev().find(|call| saved(call)) {
                return Ok(call.ended - now);
            }
            if self.started.elapsed() - now > patience {
                bail!("nothing could be saved within {patience:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets this much time pass under load.
    pub async fn go_on(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Ends the clients after their last calls.
    pub async fn stop(self) -> Record {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.expect("no client panics");
        }
        Arc::into_inner(self.record).expect("all clients have ended").into_inner().unwrap()
    }
}

struct SteadyClient {
    id: usize,
    started: Instant,
    http: Client,
    route: watch::Receiver<String>,
    record: Arc<Mutex<Record>>,
}

impl SteadyClient {
    /// In turn: a new user saved and greeted, its own user saved anew and greeted.
    async fn run(mut self, stopped: watch::Receiver<bool>) {
        let own = user(self.id, 0);
        // Not all save at once, then all greet.
        tokio::time::sleep(PACE * (self.id % 4) as u32).await;
        for round in 1.. {
            let own_version = u16::try_from(round).unwrap_or(VERSIONS).min(VERSIONS);
            let new = user(self.id, round);
            for (name, version) in [(new, 1), (own.clone(), own_version)] {
                for saving in [true, false] {
                    if *stopped.borrow() {
                        return;
                    }
                    let started = tokio::time::Instant::now();
                    let answered = self.call(&name, saving.then_some(version)).await;
                    tokio::time::sleep_until(started + if answered { PACE } else { PACE_AFTER_FAILURE }).await;
                }
            }
        }
    }

    /// Makes a call and records it; whether it succeeded.
    async fn call(&mut self, user: &str, save: Option<u16>) -> bool {
        let url = format!("{}/hello/{user}", *self.route.borrow_and_update());
        let started = self.started.elapsed();
        let request = match save {
            Some(version) => self.http.put(url).body(format!(r#"{{"dateOfBirth":"{}"}}"#, date(version))),
            None => self.http.get(url),
        };
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status().as_u16(), response.text().await?))
        };
        let (what, error) = judge(user, save, answer.await);
        let (ended, answered) = (self.started.elapsed(), error.is_none());
        self.record.lock().unwrap().calls.push(Call { client: self.id, started, ended, what, error });
        answered
    }
}

fn judge(user: &str, save: Option<u16>, answer: reqwest::Result<(u16, String)>) -> (What, Option<String>) {
    let user = user.to_owned();
    let error = match (&answer, save) {
        (Ok((204, _)), Some(_)) | (Ok((200 | 404, _)), None) => None,
        (Ok((status, _)), _) => Some(status.to_string()),
        (Err(error), _) if error.is_timeout() => Some("no answer".to_owned()),
        (Err(_), _) => Some("broken connection".to_owned()),
    };
    let greeted = answer.ok().and_then(|(_, body)| version(&body));
    let what = match save {
        Some(version) => What::Save { user, version },
        None => What::Greet { user, version: greeted },
    };
    (what, error)
}

async fn watch_leaders(
    started: Instant,
    nodes: Vec<(String, SocketAddrV4)>,
    record: Arc<Mutex<Record>>,
    stopped: watch::Receiver<bool>,
) {
    while !*stopped.borrow() {
        let roles = futures_util::future::join_all(nodes.iter().map(|(_, patroni)| patroni_role(*patroni))).await;
        let leads = |role: &Option<String>| role.as_deref() == Some("primary");
        let leaders = nodes.iter().zip(&roles).filter(|(_, role)| leads(role)).map(|((name, _), _)| name.clone());
        record.lock().unwrap().leaders.push((started.elapsed(), leaders.collect()));
        tokio::time::sleep(LOOK).await;
    }
}
