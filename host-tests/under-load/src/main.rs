//! `dob-under-load`: clients save and greet on a deployed service while a command runs. It prints a report in Markdown. It fails if the
//! command fails, an acknowledged date is lost, or a greeting is stale.

mod report;
mod tls;

use anyhow::{Context, Result, bail, ensure};
use chrono::{NaiveDate, Utc};
use clap::Parser;
use dob_clients::history::{Action, Findings, Operation, version};
use dob_clients::load::{LoadGenerator, LoadProfile, Workload};
use dob_support::eventually;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{Client, Response, StatusCode, Url};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::sync::watch;

/// How many clients there are; two runs on one database must not share a client.
const CLIENTS: usize = 8;
/// How long a client keeps a connection: less than the load balancer's deregistration delay of 30 s, after which it cuts connections.
const KEEPS_CONNECTION: Duration = Duration::from_secs(20);
/// How long the first save may take, and the first one after the command.
const SAVED_WITHIN: Duration = Duration::from_secs(90);
/// How long a user may take to be looked up at the end.
const LOOKED_UP_WITHIN: Duration = Duration::from_secs(30);
/// How long the load continues after the command.
const AFTERWARDS: Duration = Duration::from_secs(20);

/// Saves and greets on a deployed service while a command runs.
#[derive(Parser)]
struct Arguments {
    /// What the report is about, such as rollout
    #[arg(long)]
    title: String,
    /// Which run of this database it is: 0, 1, …; each has users of its own
    #[arg(long)]
    run: usize,
    /// The service, such as https://primary.dob.example.com
    url: Url,
    /// The command that runs under load; its output goes to standard error
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("under-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let today = Utc::now().date_naive();
    let (route, _) = watch::channel(address(&arguments.url).await?);
    let load = LoadGenerator::start(&profile(arguments.run, today), &route);
    load.until_saved(SAVED_WITHIN).await.with_context(|| format!("nothing can be saved at {}", arguments.url))?;
    let began = Instant::now();
    let status = execute(&arguments.command).await?;
    let took = began.elapsed();
    load.run_for(AFTERWARDS).await;
    let saves_again = load.until_saved(SAVED_WITHIN).await;
    let history = load.stop().await;
    let stored = stored(&arguments.url, &history, today).await;
    let stored = stored.with_context(|| format!("{} ended ({status}), and then", arguments.command.join(" ")))?;
    ensure!(
        Utc::now().date_naive() == today,
        "the day changed during this run, so greetings can't be compared: run it again"
    );
    let findings = Findings::of(&history, &stored);
    println!("{}", report::markdown(&arguments.title, took, history.len(), &findings));
    saves_again?;
    judge(&arguments.command, status, &findings)
}

fn profile(run: usize, today: NaiveDate) -> LoadProfile {
    LoadProfile {
        clients: CLIENTS,
        first: run * CLIENTS,
        pace: Duration::from_millis(250),
        pace_after_failure: Duration::from_millis(500),
        // The service promises an answer within 5 s.
        gives_up_after: Duration::from_secs(6),
        keeps_connection: Some(KEEPS_CONNECTION),
        today,
        workload: Workload::SaveAndGreet,
    }
}

/// Where clients connect: the service, or the proxy that speaks TLS with it for them.
async fn address(url: &Url) -> Result<SocketAddr> {
    let host = url.host_str().context("the URL names no host")?;
    let port = url.port_or_known_default().context("the URL has no port")?;
    match url.scheme() {
        "https" => tls::proxy(host, port).await,
        "http" => {
            let found =
                tokio::net::lookup_host((host, port)).await.with_context(|| format!("{host} has no address"))?;
            found.into_iter().next().with_context(|| format!("{host} has no address"))
        }
        other => bail!("'{other}' is not supported: write http or https"),
    }
}

async fn execute(command: &[String]) -> Result<ExitStatus> {
    let [program, arguments @ ..] = command else { bail!("no command was given") };
    let output = std::io::stderr();
    let mut command = Command::new(program);
    // Standard output is only for the report.
    command.args(arguments).stdin(Stdio::null()).stdout(output).kill_on_drop(true);
    command.status().await.with_context(|| format!("{program} can't be started"))
}

/// The final version of each user with an acknowledged date, as the user's greeting shows it.
async fn stored(url: &Url, history: &[Operation], today: NaiveDate) -> Result<BTreeMap<String, u16>> {
    let saved: BTreeSet<&String> = history
        .iter()
        .filter(|operation| operation.saved())
        .filter_map(|operation| match &operation.action {
            Action::Save { user, .. } => Some(user),
            _ => None,
        })
        .collect();
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let greetings = stream::iter(saved).map(|user| {
        let request = url.join(&format!("/hello/{user}")).map(|url| client.get(url));
        async move {
            let request = request?;
            // This request is repeated, because a pod that is ending may refuse it. Only the clients' requests count as failed.
            eventually(&format!("{user} is looked up"), LOOKED_UP_WITHIN, async || {
                let answer = request.try_clone().context("a request without a body")?.send().await?;
                look_up(user, answer, today).await
            })
            .await
        }
    });
    let found: Vec<_> = greetings.buffer_unordered(CLIENTS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn look_up(user: &str, answer: Response, today: NaiveDate) -> Result<Option<(String, u16)>> {
    match answer.status() {
        StatusCode::OK => {
            let greeting = answer.text().await?;
            let found = version(&greeting, today).with_context(|| format!("{greeting} greets nobody"))?;
            Ok(Some((user.to_owned(), found)))
        }
        StatusCode::NOT_FOUND => Ok(None),
        other => bail!("{user} can't be looked up: {other}"),
    }
}

fn judge(command: &[String], status: ExitStatus, findings: &Findings) -> Result<()> {
    ensure!(findings.lost.is_empty(), "{} acknowledged dates are lost: {:?}", findings.lost.len(), findings.lost);
    ensure!(findings.stale_greetings == 0, "{} greetings went back to an older date", findings.stale_greetings);
    ensure!(status.success(), "{} failed: {status}", command.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests;
