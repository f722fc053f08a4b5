//! The clients of a drill, and the timeline of what they, the nodes and the drill did.

use anyhow::Result;
use chrono::{Days, NaiveDate};
use dob_clients::history::{CLIENTS_WITHOUT_SHARED_USERS, Operation};
use dob_clients::load::{LoadGenerator, LoadProfile, Route, Workload};
use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The number of clients. Few, because at a fault all of them log in again, on processors that they share with the lab's nodes.
const CLIENTS: usize = 8;
/// The interval at which it is sampled who leads, or serves.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How long a drill waits for a successful save or greeting.
const SERVED_WITHIN: Duration = Duration::from_secs(90);

/// Running clients, with marks and samples for the timeline. Dropping it ends them.
pub(crate) struct Traffic {
    /// Its load profile.
    pub profile: LoadProfile,
    load: LoadGenerator,
    /// What happened when.
    pub marks: Marks,
    watching: JoinSet<()>,
    samples: Arc<Mutex<Samples>>,
    lanes: &'static str,
}

/// What happened when, since the start of the clients.
pub(crate) type Marks = Arc<Mutex<Vec<(Duration, String)>>>;

/// Who led, or served, at each sample.
pub(crate) type Samples = Vec<(Duration, Vec<String>)>;

/// Samples who leads, or serves.
pub(crate) struct Probe {
    /// The legend of the samples, such as "leads".
    pub lanes: &'static str,
    /// Takes a sample.
    pub sample: Box<dyn Fn() -> BoxFuture<'static, Vec<String>> + Send + Sync>,
}

/// The data of a drill's timeline. Times count from the start of the clients.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub operations: Vec<Operation>,
    pub samples: Samples,
    /// The legend of the samples.
    pub lanes: &'static str,
    /// What happened when.
    pub marks: Vec<(Duration, String)>,
}

impl Traffic {
    /// The load profile of the n-th load generator in a run.
    pub fn profile(load: usize, today: NaiveDate) -> LoadProfile {
        let first = load * CLIENTS;
        assert!(
            first + CLIENTS <= CLIENTS_WITHOUT_SHARED_USERS,
            "two drills' clients would share users: run fewer drills"
        );
        LoadProfile {
            clients: CLIENTS,
            first,
            pace: Duration::from_millis(100),
            // The service asks for 2 s. With 500 ms, all clients together notice within 70 ms that it is back.
            pace_after_failure: Duration::from_millis(500),
            // Far above the service's time limits.
            gives_up_after: Duration::from_secs(70),
            keeps_connection: None,
            today,
            workload: Workload::SaveAndGreet,
        }
    }

    /// Starts clients.
    pub fn start(profile: &LoadProfile, route: &Route, probe: Probe) -> Self {
        let load = LoadGenerator::start(profile, route);
        let samples = Arc::default();
        let mut watching = JoinSet::new();
        watching.spawn(watch(load.started, probe.sample, Arc::clone(&samples)));
        let profile = profile.clone();
        Self { profile, load, marks: Marks::default(), watching, samples, lanes: probe.lanes }
    }

    /// The start of the clients.
    pub fn started(&self) -> Instant {
        self.load.started
    }

    /// Prints what happens now, and marks it in the timeline.
    pub fn mark(&self, what: &str) {
        let now = self.load.started.elapsed();
        println!("    {:5.1} s  {what}", now.as_secs_f64());
        self.marks.lock().expect("no drill panics here").push((now, what.to_owned()));
    }

    /// Waits until a save succeeds, and marks that moment. Returns how long it took.
    pub async fn until_saved(&self) -> Result<Duration> {
        let took = self.load.until_saved(SERVED_WITHIN).await?;
        self.mark("saving again");
        Ok(took)
    }

    /// Waits until a greeting is answered, and marks that moment.
    pub async fn until_greeted(&self) -> Result<()> {
        self.load.until_greeted(SERVED_WITHIN).await?;
        self.mark("greeting again");
        Ok(())
    }

    /// Waits for this time under load.
    pub async fn run_for(&self, time: Duration) {
        self.load.run_for(time).await;
    }

    /// Lets the clients finish their current operations, and ends them.
    pub async fn stop(mut self) -> Timeline {
        let operations = self.load.stop().await;
        self.watching.abort_all();
        let samples = std::mem::take(&mut *self.samples.lock().expect("no drill panics here"));
        let marks = self.marks.lock().expect("no drill panics here").clone();
        Timeline { operations, samples, lanes: self.lanes, marks }
    }
}

/// The current day, which pods and a real Spin have.
pub(crate) fn today() -> NaiveDate {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    NaiveDate::default() + Days::new(days)
}

async fn watch(
    started: Instant,
    sample: Box<dyn Fn() -> BoxFuture<'static, Vec<String>> + Send + Sync>,
    samples: Arc<Mutex<Samples>>,
) {
    loop {
        let names = sample().await;
        samples.lock().expect("no drill panics here").push((started.elapsed(), names));
        sleep(SAMPLE_EVERY).await;
    }
}
