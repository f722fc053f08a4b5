//! The environment of the database's drills: the lab, and the component that serves in a region.

use crate::current_drill::CurrentDrill;
use crate::outcome::Outcome;
use crate::readers::Readers;
use crate::traffic::{Probe, Traffic, today};
use anyhow::{Context, Result, ensure};
use chrono::NaiveDate;
use dob_clients::history::{Findings, stored, stored_query};
use dob_clients::load::Route;
use dob_lab::{BaseImage, CENTRAL, HERE, Lab, Node, Plan, Prometheus, Region, Roles, WEST, variables};
use dob_spin::{Build, Clock, Log, Options, Server};
use dob_support::{Process, eventually};
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;

/// How many sessions connect at a time: their client shares its processors with the servers.
const OPENED_AT_ONCE: usize = 4;
const SERVING_WITHIN: Duration = Duration::from_secs(120);
/// How long the clients run before the fault.
const BEFORE: Duration = Duration::from_secs(5);
/// How long a replaced server may finish its requests in flight.
const DRAIN: Duration = Duration::from_secs(6);

/// The lab, with the component in front of it.
pub(crate) struct LabEnvironment {
    pub lab: Arc<Lab>,
    pub prometheus: Prometheus,
    /// The address to which clients connect; on AWS, DNS and the load balancer decide.
    route: Route,
    service: Mutex<Service>,
    pub current: CurrentDrill,
    /// The day of the service's clock.
    today: NaiveDate,
}

/// The component's servers by region, and their credentials.
struct Service {
    user: String,
    password: String,
    admin_password: String,
    servers: BTreeMap<&'static str, Server>,
    /// The servers' logs.
    logs: BTreeMap<&'static str, Log>,
}

impl LabEnvironment {
    /// A monitored lab whose nodes are all off.
    pub async fn make(plan: Plan, image: &BaseImage) -> Result<Self> {
        let lab = Lab::make(plan, image)?;
        let prometheus = lab.watch().await?;
        let (route, _) = watch::channel((HERE, 0).into());
        let service = Service {
            user: "dob_api_a".to_owned(),
            password: "first-password".to_owned(),
            admin_password: lab.admin_password().to_owned(),
            servers: BTreeMap::new(),
            logs: BTreeMap::new(),
        };
        let service = Mutex::new(service);
        Ok(Self { lab: Arc::new(lab), prometheus, route, service, current: CurrentDrill::default(), today: today() })
    }

    /// The primary region.
    pub fn west(&self) -> Region<'_> {
        self.lab.region(WEST)
    }

    /// The recovery region.
    pub fn central(&self) -> Region<'_> {
        self.lab.region(CENTRAL)
    }

    /// Powers on both regions and serves in the primary one. Does nothing if that was done before, even if a drill has changed it since.
    pub async fn boot(&self) -> Result<()> {
        if self.service.lock().await.servers.contains_key(WEST) {
            return Ok(());
        }
        self.west().power_on().await?;
        self.west().until_leading().await?;
        self.central().power_on().await?;
        self.serve(WEST).await?;
        self.central().until_following().await.map(drop)
    }

    /// Boots what is not booted, and waits until the primary region is healthy. Returns its nodes.
    pub async fn ready(&self) -> Result<Roles<'_>> {
        self.boot().await?;
        self.west().until_leading().await
    }

    /// Starts the component in a region, and redirects the clients to it.
    pub async fn serve(&self, region: &'static str) -> Result<()> {
        self.serve_from(region, self.lab.region(region).pair()?).await
    }

    /// The same with these two data nodes, of which one accepts the component's writes.
    pub async fn serve_from(&self, region: &'static str, hosts: [&Node; 2]) -> Result<()> {
        let mut service = self.service.lock().await;
        let Service { user, password, admin_password, .. } = &*service;
        let variables = variables(hosts, user, password, admin_password);
        let clock = Clock::default();
        // Greetings reveal the date that they were made from only if the day is known; a real Spin has the real day.
        clock.set_day(self.today.to_epoch_days().into());
        // The component's log would flood the output: a drill has hundreds of failed requests.
        let log = Options::log();
        let options = Options { variables, clock, stderr: Some(log.clone()), ..Options::default() };
        let server = Server::serve(&Build::chosen()?.manifest(), options, (HERE, 0).into()).await?;
        until_ready(region, &server.url()).await?;
        self.route.send_replace(server.address);
        service.logs.insert(region, log);
        // The previous server finishes its requests in flight, as a terminating pod does.
        if let Some(old) = service.servers.insert(region, server) {
            tokio::time::sleep(DRAIN).await;
            drop(old);
        }
        Ok(())
    }

    /// Serves in the primary region as the other one of the API's two roles. Returns the previous role.
    pub async fn serve_as_other_role(&self) -> Result<String> {
        let old = {
            let mut service = self.service.lock().await;
            let other = if service.user == "dob_api_a" { "dob_api_b" } else { "dob_api_a" };
            service.password = format!("another-password-{}", std::process::id());
            std::mem::replace(&mut service.user, other.to_owned())
        };
        self.serve(WEST).await?;
        Ok(old)
    }

    /// Opens idle sessions of the API's role on a node, as many of these as it accepts. Dropping the result closes them.
    pub async fn open_sessions(&self, node: &Node, sessions: usize) -> Result<Vec<Process>> {
        let Service { user, password, .. } = &*self.service.lock().await;
        let (host, port) = (node.address, node.ports.postgresql);
        let server = format!("host={host} port={port} user={user} dbname=dob_api sslmode=require connect_timeout=10");
        let open = |_| {
            let mut psql = Command::new("psql");
            psql.args(["--no-psqlrc", "--quiet", r"--command=\echo connected", "--file=-", &server])
                .env("PGPASSWORD", password);
            psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            async move { spawn_blocking(|| open_session(psql)).await? }
        };
        stream::iter(0..sessions).map(open).buffered(OPENED_AT_ONCE).try_collect().await
    }

    /// Sets the password of dob_admin for new servers.
    pub async fn set_admin_password(&self, password: String) {
        self.service.lock().await.admin_password = password;
    }

    /// Starts clients, and waits for a while.
    pub async fn traffic(&self) -> Traffic {
        let profile = Traffic::profile(self.current.next_load(), self.today);
        let traffic = Traffic::start(&profile, &self.route, probe(self.lab.clone()));
        self.current.follow(&traffic);
        traffic.run_for(BEFORE).await;
        traffic
    }

    /// Starts clients that only greet, beside these, and waits for a while.
    pub async fn readers(&self, traffic: &Traffic) -> Readers {
        let readers = Readers::start(&traffic.profile, &self.route);
        readers.run_for(BEFORE).await;
        readers
    }

    /// Ends the clients, keeps the timeline, and checks their history against the primary region's leader. The recovery region must
    /// follow.
    pub async fn judge(&self, traffic: Traffic) -> Result<Outcome> {
        let outcome = self.judge_in(self.west(), traffic).await?;
        self.central().until_following().await?;
        Ok(outcome)
    }

    /// The same with the leader of this region; the other region need not follow.
    pub async fn judge_in(&self, region: Region<'_>, traffic: Traffic) -> Result<Outcome> {
        let timeline = self.current.keep(traffic.stop().await);
        let leader = region.until_leading().await?.leader;
        let rows = leader.sql("dob_api", &stored_query()).await?;
        Ok(Outcome { figures: Some(Findings::of(&timeline.operations, &stored(rows.lines())?)), note: String::new() })
    }

    /// Undoes what a failed drill may have left: nodes that are off or partitioned, dropped packets, frozen processes, a full volume,
    /// synchronous mode, roles that may not save, the newer cluster and what its copy needed, clients that were sent to other nodes. After an
    /// error the lab is unusable.
    pub async fn repair(&self) -> Result<()> {
        self.lab.newer().power_off().await?;
        for node in self.west().nodes().chain(self.central().nodes()) {
            node.power_on().await?;
            node.take_faults_back().await?;
        }
        let leader = self.ready().await?.leader;
        self.central().until_following().await?;
        leader.let_api_save().await?;
        leader.forget_upgrade().await?;
        leader.run(&["dob-replication", "asynchronous"]).await?;
        self.serve(WEST).await
    }

    /// Saves every node's journal and the API's log in a directory, to find out why a drill failed.
    pub async fn keep_logs(&self, directory: &Path) -> Result<()> {
        for node in self.lab.nodes.values().filter(|node| node.is_on()) {
            keep_journal(node, directory).await?;
        }
        for (region, log) in &self.service.lock().await.logs {
            std::fs::write(directory.join(format!("api-{region}.log")), log.contents())?;
        }
        for log in Lab::logs() {
            std::fs::copy(&log, directory.join(log.file_name().context("a file")?))?;
        }
        Ok(())
    }
}

/// Starts a session, and waits until it has connected, or has ended because the server refuses it.
fn open_session(mut psql: Command) -> Result<Process> {
    let mut session = Process::spawn(&mut psql, "`make drill` installs it")?;
    let connected = session.0.stdout.take().context("its output is not piped")?;
    BufReader::new(connected).read_line(&mut String::new())?;
    Ok(session)
}

fn probe(lab: Arc<Lab>) -> Probe {
    let sample = move || {
        let lab = lab.clone();
        Box::pin(async move { leaders(&lab).await }) as BoxFuture<'static, Vec<String>>
    };
    Probe { lanes: "leads", sample: Box::new(sample) }
}

/// The names of the nodes that lead, in both regions.
async fn leaders(lab: &Lab) -> Vec<String> {
    let regions = [lab.region(WEST), lab.region(CENTRAL), lab.newer()];
    let nodes: Vec<_> = regions.iter().flat_map(Region::data_nodes).collect();
    let roles = join_all(nodes.iter().map(|node| node.patroni_role())).await;
    let leads = |role: &Option<String>| role.as_deref() == Some("primary");
    nodes.iter().zip(&roles).filter(|(_, role)| leads(role)).map(|(node, _)| node.name.clone()).collect()
}

async fn keep_journal(node: &Node, directory: &Path) -> Result<()> {
    let journal = node.whole_journal().await.unwrap_or_else(|error| format!("{error:#}"));
    Ok(std::fs::write(directory.join(&node.name), journal)?)
}

async fn until_ready(region: &str, url: &str) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    eventually(&format!("the component in {region} is ready"), SERVING_WITHIN, async || {
        let answer = client.get(format!("{url}/readyz")).send().await?;
        let status = answer.status();
        ensure!(status == 200, "{status}: {}", answer.text().await?);
        Ok(())
    })
    .await
}
