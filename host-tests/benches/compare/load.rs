//! The load: `wrk` with a script that writes the requests.

use crate::{cpu, data::Data, servers::Server};
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::Duration;

/// Connections of a run with [`Run::on`].
pub const CONNECTIONS: u32 = 32;
/// Threads of the load generator.
pub const THREADS: u32 = 2;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/compare/load.lua");

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// A greeting for a random user.
    Greeting,
    /// Another date for a random user.
    Saving,
    /// The date that a random user has already.
    SavingSame,
}

/// A load for some seconds.
pub struct Run {
    /// What is asked for.
    pub load: Load,
    /// How many users there are.
    pub users: u32,
    /// Makes the random users and dates of two runs differ.
    pub seed: u32,
    /// How long to ask.
    pub seconds: u32,
}

/// What one run showed.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Answers a second.
    pub per_second: f64,
    /// Half of the answers took at most this many microseconds.
    pub p50_us: f64,
    /// All but a hundredth of the answers took at most this many microseconds.
    pub p99_us: f64,
    /// The server's CPU time a request, in microseconds.
    pub server_us: f64,
    /// PostgreSQL's CPU time a request, in microseconds.
    pub postgres_us: f64,
}

impl Run {
    /// Asks a server over [`CONNECTIONS`] connections.
    pub async fn on(&self, server: &Server, data: &Data) -> Result<Measured> {
        let kind = match self.load {
            Load::Greeting => "greet",
            Load::Saving => "save",
            Load::SavingSame => "same",
        };
        let arguments = [kind.to_owned(), self.users.to_string(), self.seed.to_string()];
        measure(server, data, CONNECTIONS, self.seconds, &arguments).await
    }
}

/// Asks for one path, one request after the other.
pub async fn sequential(server: &Server, data: &Data, seconds: u32, path: &str) -> Result<Measured> {
    measure(server, data, 1, seconds, &["path".to_owned(), path.to_owned()]).await
}

/// The load generator's name and version.
pub fn version() -> Result<String> {
    let output = wrk().arg("-v").output().map_err(missing)?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(words.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

async fn measure(
    server: &Server,
    data: &Data,
    connections: u32,
    seconds: u32,
    arguments: &[String],
) -> Result<Measured> {
    let (server_pid, postgres_pid) = (server.pid(), data.pid()?);
    let before = (cpu::of_process(server_pid)?, cpu::of_family(postgres_pid)?);
    let [requests, failed, duration_us, p50_us, p99_us] = results(&server.url, connections, seconds, arguments).await?;
    let after = (cpu::of_process(server_pid)?, cpu::of_family(postgres_pid)?);
    if failed > 0.0 || requests == 0.0 {
        bail!("{failed} of {requests} requests failed");
    }
    let per_request = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / requests;
    Ok(Measured {
        per_second: requests * 1e6 / duration_us,
        p50_us,
        p99_us,
        server_us: per_request(before.0, after.0),
        postgres_us: per_request(before.1, after.1),
    })
}

/// The numbers that the script's `done` prints.
async fn results(url: &str, connections: u32, seconds: u32, arguments: &[String]) -> Result<[f64; 5]> {
    let mut command = wrk();
    command.args([format!("-t{}", THREADS.min(connections)), format!("-c{connections}"), format!("-d{seconds}s")]);
    command.args(["-s", SCRIPT, url, "--"]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await?.map_err(missing)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.lines().find_map(|line| line.strip_prefix("result "));
    let words = String::from_utf8_lossy(&output.stderr);
    let numbers = numbers.with_context(|| format!("wrk gave no result: {}", words.trim()))?;
    let numbers: Vec<f64> = numbers.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    numbers.try_into().ok().context("five numbers")
}

fn wrk() -> Command {
    Command::new("wrk")
}

fn missing(_: std::io::Error) -> anyhow::Error {
    anyhow::anyhow!("wrk is missing: `make bench` installs it")
}
