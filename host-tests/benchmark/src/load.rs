//! A turn: one server under load for some seconds.

use crate::workload::{RequestType, SAME};
use crate::{cpu, databases::Databases, servers::Server};
use anyhow::{Result, ensure};
use dob_clients::history::{Operation, TODAY};
use dob_clients::load::{LoadProfile, Workload, run_for};
use dob_clients::statistics::percentile;
use std::time::Duration;

/// The number of connections in most cases.
pub const CONNECTIONS: usize = 32;

/// A turn's load.
pub struct Turn {
    /// The type of request.
    pub request: RequestType,
    /// How many users the database has.
    pub users: u32,
    /// The number of connections.
    pub connections: usize,
    /// Makes the random users and dates of two turns differ.
    pub seed: u32,
    /// The length of the turn.
    pub seconds: u32,
}

/// The measurements of a turn.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Successful answers per second.
    pub per_second: f64,
    /// The share of failed requests.
    pub failed: f64,
    /// The median latency in microseconds.
    pub p50_us: f64,
    /// The 99th percentile of the latency in microseconds.
    pub p99_us: f64,
    /// The server's CPU time per request, in microseconds.
    pub server_us: f64,
    /// PostgreSQL's CPU time per request, in microseconds.
    pub postgres_us: f64,
}

impl Turn {
    /// Measures a server.
    pub async fn on(&self, server: &Server, databases: &Databases) -> Result<Measured> {
        let (users, seed) = (self.users, self.seed.into());
        let workload = match self.request {
            RequestType::Greeting => Workload::GreetNumbered { users, seed },
            RequestType::Saving => Workload::SaveNumbered { users, seed, version: None },
            RequestType::SavingSame => Workload::SaveNumbered { users, seed, version: Some(SAME) },
        };
        measure(server, databases, self.connections, self.seconds, workload).await
    }
}

/// Measures a single client that requests one path.
pub async fn sequential(server: &Server, databases: &Databases, seconds: u32, path: &str) -> Result<Measured> {
    measure(server, databases, 1, seconds, Workload::Get { path: path.to_owned() }).await
}

async fn measure(
    server: &Server,
    databases: &Databases,
    clients: usize,
    seconds: u32,
    workload: Workload,
) -> Result<Measured> {
    let profile = LoadProfile {
        // The day does not matter: greetings are not checked here.
        today: TODAY,
        clients,
        first: 0,
        pace: Duration::ZERO,
        pace_after_failure: Duration::ZERO,
        gives_up_after: Duration::from_secs(10),
        keeps_connection: None,
        workload,
    };
    let (server_pid, postgres_pid) = (server.pid(), databases.pid()?);
    let before = (cpu::of_family(server_pid)?, cpu::of_family(postgres_pid)?);
    let operations = run_for(&profile, server.address, Duration::from_secs(seconds.into())).await;
    let after = (cpu::of_family(server_pid)?, cpu::of_family(postgres_pid)?);
    let failed = operations.iter().find_map(|operation| operation.error.as_ref());
    ensure!(operations.iter().any(|operation| operation.error.is_none()), "no request was answered: {failed:?}");
    Ok(summary(&operations, after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)))
}

fn summary(operations: &[Operation], server: Duration, postgres: Duration) -> Measured {
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let answered = operations.iter().filter(|operation| operation.error.is_none());
    let mut latencies: Vec<f64> = answered.map(|operation| micros(operation.ended - operation.started)).collect();
    latencies.sort_by(f64::total_cmp);
    let count = operations.len() as f64;
    let took = operations.iter().map(|operation| operation.ended).max().unwrap_or_default().as_secs_f64();
    Measured {
        per_second: latencies.len() as f64 / took,
        failed: 1.0 - latencies.len() as f64 / count,
        p50_us: percentile(&latencies, 0.5),
        p99_us: percentile(&latencies, 0.99),
        server_us: micros(server) / count,
        postgres_us: micros(postgres) / count,
    }
}
