//! The clients of a drill, and the record of what they, the nodes and the drill itself did.

use anyhow::Result;
use dob_clients::history::Call;
use dob_clients::load::{Load, Plan, Route, Workload};
use dob_lab::{CENTRAL, Lab, WEST};
use futures_util::future::join_all;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

const CLIENTS: usize = 12;
/// Between two looks at who leads.
const LOOK: Duration = Duration::from_secs(1);
/// How long saving may stay away before a drill gives up.
const PATIENCE: Duration = Duration::from_secs(90);

/// Running clients with everything that is noted beside them. Dropping it ends them.
pub(crate) struct Traffic {
    load: Load,
    marks: Mutex<Vec<(Duration, String)>>,
    watching: JoinSet<()>,
    leaders: Arc<Mutex<Looks>>,
}

/// Who led, at each look.
pub(crate) type Looks = Vec<(Duration, Vec<String>)>;

/// All that a drill's timeline is drawn from; times are from the start of the clients.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub calls: Vec<Call>,
    pub leaders: Looks,
    /// What was done when.
    pub marks: Vec<(Duration, String)>,
}

impl Traffic {
    /// Starts the clients of the n-th drill of a run.
    pub fn start(drill: usize, route: &Route, lab: &Arc<Lab>) -> Self {
        let plan = Plan {
            clients: CLIENTS,
            first: drill * CLIENTS,
            pace: Duration::from_millis(100),
            // The service asks for 2 s; together the clients still notice within 50 ms that it is back.
            pace_after_failure: Duration::from_millis(500),
            // Far above all limits of the service.
            gives_up_after: Duration::from_secs(70),
            keeps_connection: None,
            workload: Workload::SaveAndGreet,
        };
        let load = Load::start(&plan, route);
        let leaders = Arc::default();
        let mut watching = JoinSet::new();
        watching.spawn(watch_leaders(load.started, lab.clone(), Arc::clone(&leaders)));
        Self { load, marks: Mutex::default(), watching, leaders }
    }

    /// When the clients started.
    pub fn started(&self) -> Instant {
        self.load.started
    }

    /// Notes a moment for the timeline.
    pub fn mark(&self, what: &str) {
        let now = self.load.started.elapsed();
        println!("    {:5.1} s  {what}", now.as_secs_f64());
        self.marks.lock().expect("no drill panics here").push((now, what.to_owned()));
    }

    /// Waits until a date is saved, marks that moment, and says how long it took.
    pub async fn until_saved(&self) -> Result<Duration> {
        let took = self.load.until_saved(PATIENCE).await?;
        self.mark("saving again");
        Ok(took)
    }

    /// Lets this much time pass under load.
    pub async fn run_for(&self, time: Duration) {
        self.load.run_for(time).await;
    }

    /// Ends the clients after their last calls.
    pub async fn stop(mut self) -> Record {
        let calls = self.load.stop().await;
        self.watching.abort_all();
        let leaders = std::mem::take(&mut *self.leaders.lock().expect("no drill panics here"));
        Record { calls, leaders, marks: self.marks.into_inner().expect("no drill panics here") }
    }
}

async fn watch_leaders(started: Instant, lab: Arc<Lab>, leaders: Arc<Mutex<Looks>>) {
    loop {
        let nodes: Vec<_> = [WEST, CENTRAL].iter().flat_map(|region| lab.region(region).data_nodes()).collect();
        let roles = join_all(nodes.iter().map(|node| node.patroni_role())).await;
        let leads = |role: &Option<String>| role.as_deref() == Some("primary");
        let names = nodes.iter().zip(&roles).filter(|(_, role)| leads(role)).map(|(node, _)| node.name.clone());
        leaders.lock().expect("no drill panics here").push((started.elapsed(), names.collect()));
        sleep(LOOK).await;
    }
}
