//! One turn of one server under load.

use crate::workload::{Load, SAME};
use crate::{cpu, data::Data, servers::Server, statistics::percentile};
use anyhow::{Result, ensure};
use dob_clients::history::{Call, TODAY};
use dob_clients::load::{Plan, Workload, run_for};
use std::time::Duration;

/// Connections of most cases.
pub const CONNECTIONS: usize = 32;

/// A load for some seconds.
pub struct Run {
    /// What is asked for.
    pub load: Load,
    /// How many users there are.
    pub users: u32,
    /// Over how many connections.
    pub connections: usize,
    /// Makes the random users and dates of two runs differ.
    pub seed: u32,
    /// How long to ask.
    pub seconds: u32,
}

/// What one run showed.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Answers a second, without those that say that something failed.
    pub per_second: f64,
    /// The share of those that do.
    pub failed: f64,
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
    /// Asks a server.
    pub async fn on(&self, server: &Server, data: &Data) -> Result<Measured> {
        let (users, seed) = (self.users, self.seed.into());
        let workload = match self.load {
            Load::Greeting => Workload::GreetNumbered { users, seed },
            Load::Saving => Workload::SaveNumbered { users, seed, version: None },
            Load::SavingSame => Workload::SaveNumbered { users, seed, version: Some(SAME) },
        };
        measure(server, data, self.connections, self.seconds, workload).await
    }
}

/// Asks for one path, one request after the other.
pub async fn sequential(server: &Server, data: &Data, seconds: u32, path: &str) -> Result<Measured> {
    measure(server, data, 1, seconds, Workload::Get { path: path.to_owned() }).await
}

async fn measure(server: &Server, data: &Data, clients: usize, seconds: u32, workload: Workload) -> Result<Measured> {
    let plan = Plan {
        // No greeting is judged.
        today: TODAY,
        clients,
        first: 0,
        pace: Duration::ZERO,
        pace_after_failure: Duration::ZERO,
        gives_up_after: Duration::from_secs(10),
        keeps_connection: None,
        workload,
    };
    let (server_pid, postgres_pid) = (server.pid(), data.pid()?);
    let before = (cpu::of_family(server_pid)?, cpu::of_family(postgres_pid)?);
    let calls = run_for(&plan, server.address, Duration::from_secs(seconds.into())).await;
    let after = (cpu::of_family(server_pid)?, cpu::of_family(postgres_pid)?);
    let failed = calls.iter().find_map(|call| call.error.as_ref());
    ensure!(calls.iter().any(|call| call.error.is_none()), "no request was answered: {failed:?}");
    Ok(summary(&calls, after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)))
}

fn summary(calls: &[Call], server: Duration, postgres: Duration) -> Measured {
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let answered = calls.iter().filter(|call| call.error.is_none());
    let mut latencies: Vec<f64> = answered.map(|call| micros(call.ended - call.started)).collect();
    latencies.sort_by(f64::total_cmp);
    let count = calls.len() as f64;
    let took = calls.iter().map(|call| call.ended).max().unwrap_or_default().as_secs_f64();
    Measured {
        per_second: latencies.len() as f64 / took,
        failed: 1.0 - latencies.len() as f64 / count,
        p50_us: percentile(&latencies, 0.5),
        p99_us: percentile(&latencies, 0.99),
        server_us: micros(server) / count,
        postgres_us: micros(postgres) / count,
    }
}
