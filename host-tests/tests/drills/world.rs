//! What every drill has: the lab, the component serving in a region, and a table for its figures.

use crate::load::{Load, Record};
use crate::timeline;
use anyhow::{Context, Result, bail, ensure};
use dob_host::history::{Findings, TODAY};
use dob_host::lab::{Base, HERE, Lab, Plan, Prometheus};
use dob_host::spin::{App, Clock, Manifest, Options, Server};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::watch;

pub const WEST: &str = "eu-west-1";
pub const CENTRAL: &str = "eu-central-1";
/// Of the days since 1970, which the guest's clock counts.
const TODAY_IN_DAYS: i64 = 20_593;
const SERVING_WITHIN: Duration = Duration::from_secs(120);
/// How long the clients run before anything happens to them.
const BEFORE: Duration = Duration::from_secs(5);
/// How long anything may take that should come back by itself.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The lab with a service on it.
pub struct World {
    pub lab: Lab,
    pub prometheus: Prometheus,
    /// Where clients go: what DNS and the load balancer decide on AWS.
    pub route: watch::Sender<String>,
    pub user: String,
    pub password: String,
    servers: BTreeMap<String, Server>,
    drill: usize,
}

/// A line of the table.
pub struct Row {
    pub drill: String,
    pub figures: Option<Findings>,
    /// What a reader should know besides, such as who led afterwards.
    pub note: String,
}

impl Row {
    /// The line of a drill that had clients.
    pub fn measured(drill: &str, figures: Findings, note: impl Into<String>) -> Self {
        Self { drill: drill.to_owned(), figures: Some(figures), note: note.into() }
    }

    /// The line of a drill that had none.
    pub fn noted(drill: &str, note: impl Into<String>) -> Self {
        Self { drill: drill.to_owned(), figures: None, note: note.into() }
    }
}

impl World {
    /// An empty lab that is watched: nothing is powered on.
    pub async fn make(plan: Plan, base: &Base) -> Result<Self> {
        let lab = Lab::make(plan, base)?;
        let prometheus = lab.watch().await?;
        let (route, _) = watch::channel(String::new());
        let (user, password) = ("dob_api_a".to_owned(), "first-password".to_owned());
        Ok(Self { lab, prometheus, route, user, password, servers: BTreeMap::new(), drill: 0 })
    }

    /// Powers on both regions, unless they are, and serves in the first.
    async fn ready(&mut self) -> Result<()> {
        if self.servers.contains_key(WEST) {
            return Ok(());
        }
        self.lab.power_on(WEST).await?;
        self.lab.healthy(WEST, "primary").await?;
        self.lab.power_on(CENTRAL).await?;
        self.serve(WEST).await?;
        self.lab.healthy(CENTRAL, "standby_leader").await.map(drop)
    }

    /// Starts the component in a region with the current user and password, and sends the clients there.
    pub async fn serve(&mut self, region: &str) -> Result<()> {
        let variables = self.lab.variables(region, &self.user, &self.password)?;
        let clock = Clock::default();
        clock.set_day(TODAY_IN_DAYS);
        assert_eq!(chrono::NaiveDate::default() + chrono::Days::new(TODAY_IN_DAYS as u64), TODAY);
        // What the component logs is the journals' business: a drill has hundreds of refused calls.
        let options = Options { variables, clock, stderr: Some(Options::log()), ..Options::default() };
        let server = Server::start(App::load(&Manifest::of_project()?, options)?, (HERE, 0).into()).await?;
        let url = server.url();
        until_ready(&url).await.with_context(|| format!("the component in {region}"))?;
        self.route.send_replace(url);
        // The one before goes on with its requests in flight, as a pod does that is being replaced.
        if let Some(old) = self.servers.insert(region.to_owned(), server) {
            tokio::time::sleep(Duration::from_secs(6)).await;
            drop(old);
        }
        Ok(())
    }

    /// Starts the clients of the next drill, and lets them run for a while.
    pub async fn load(&mut self) -> Load {
        self.drill += 1;
        let data_nodes = self.lab.nodes.values().filter(|node| node.role == "data");
        let patronis = data_nodes.map(|node| (node.name.clone(), node.patroni())).collect();
        let load = Load::start(self.drill, &self.route, patronis);
        load.go_on(BEFORE).await;
        load
    }

    /// Ends the clients, reads what the leader of a region holds, judges, and draws. The recovery region must follow as before.
    pub async fn judge(&self, drill: &str, load: Load, region: &str) -> Result<(Findings, Record)> {
        let record = load.stop().await;
        let (leader, _) = self.lab.healthy(region, "primary").await?;
        let findings = Findings::of(&record.calls, &self.stored(&leader).await?);
        timeline::write(drill, &record)?;
        if region == WEST {
            self.lab.healthy(CENTRAL, "standby_leader").await?;
        }
        Ok((findings, record))
    }

    /// The versions that a node's database holds.
    pub async fn stored(&self, node: &str) -> Result<BTreeMap<String, u16>> {
        let days = format!("(to_char(date_of_birth, '\"2026\"-MM-DD')::date - date '{TODAY}' + 365) % 365");
        let sql = format!("SELECT username || ' ' || {days} FROM dob_api.birthday WHERE username LIKE 'client%'");
        let rows = self.lab.nodes[node].sql("dob_api", &sql).await?;
        let parse = |row: &str| {
            let (user, version) = row.split_once(' ')?;
            Some((user.to_owned(), version.parse().ok()?))
        };
        rows.lines().map(|row| parse(row).with_context(|| format!("not a row: {row}"))).collect()
    }

    /// The primary region's leader, its replica and its witness, powered on, served and well.
    pub async fn roles(&mut self) -> Result<(String, String, String)> {
        self.ready().await?;
        let (leader, replica) = self.lab.healthy(WEST, "primary").await?;
        let witness = self.lab.cluster(WEST).pop().context("a witness")?;
        Ok((leader, replica, witness))
    }

    /// Keeps every node's journal, to find out why a drill failed.
    pub async fn show_journals(&self, drill: &str) {
        let directory = std::env::temp_dir().join("dob-drill-journals").join(drill);
        let _ = std::fs::create_dir_all(&directory);
        for node in self.lab.nodes.values() {
            if let Ok(journal) = node.run(&["journalctl", "--no-pager", "--output=short-iso-precise"]).await {
                let _ = std::fs::write(directory.join(&node.name), journal);
            }
        }
        for log in ["moto.log", "haproxy.log"] {
            let _ = std::fs::copy(Path::new("/run/dob-lab").join(log), directory.join(log));
        }
        println!("    the nodes' journals are in {}", directory.display());
    }
}

/// Saving must have been back within this time, in seconds; within twice as much on CI, whose machines are shared.
pub fn saves_again_within(figures: &Findings, seconds: u64) -> Result<()> {
    let seconds = if std::env::var_os("CI").is_some() { 2 * seconds } else { seconds };
    let took = figures.longest_without_save.as_secs_f64();
    ensure!(took <= seconds as f64, "{took:.2} s without a save, {seconds} s at most are promised: {figures:?}");
    Ok(())
}

async fn until_ready(url: &str) -> Result<()> {
    let started = Instant::now();
    let client = reqwest::Client::builder().no_proxy().build()?;
    loop {
        let answer = client.get(format!("{url}/readyz")).send().await?;
        if answer.status() == 200 {
            return Ok(());
        }
        if started.elapsed() > SERVING_WITHIN {
            bail!("/readyz says {} after {SERVING_WITHIN:?}", answer.text().await?);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
