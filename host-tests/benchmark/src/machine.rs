//! The machine, versions and settings of a run.

use crate::databases::Databases;
use crate::workload::Settings;
use anyhow::Result;
use dob_spin::real_spin;
use dob_support::{cmd, read};
use std::fs::read_to_string;

const LOCK: &str = include_str!("../../../Cargo.lock");

/// One line each for the machine, the versions and the settings.
pub async fn describe(databases: &Databases, settings: Settings) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let model = field("/proc/cpuinfo", "model name").unwrap_or("unknown CPU".to_owned());
    let kibibytes: f64 =
        field("/proc/meminfo", "MemTotal").and_then(|size| size.split(' ').next()?.parse().ok()).unwrap_or(0.0);
    let memory = kibibytes / 1024.0 / 1024.0;
    let client = databases.database.client("postgres").await?;
    let postgres: String = client.query_one("SHOW server_version", &[]).await?.get(0);
    let postgres = postgres.split(' ').next().unwrap_or_default();
    let crates = ["wasmtime", "axum", "tokio-postgres"].map(|name| format!("{name} {}", version(name)));
    let host = match real_spin() {
        Some(spin) => read(&cmd!(spin, "--version"))?.trim().to_owned(),
        None => "the imitation of Spin".to_owned(),
    };
    let Settings { rounds, seconds } = settings;
    Ok(format!(
        "Machine: {model}, {cores} cores, {memory:.0} GB; servers, PostgreSQL and load generator share it.  \n\
         Host of the components: {host}.  \n\
         Versions: PostgreSQL {postgres} (`fsync` on), {}.  \n\
         Settings: turns of {seconds} s, random users, {rounds} interleaved rounds, medians.",
        crates.join(", ")
    ))
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// The version of a dependency in the lock file; the newest, if there are several.
fn version(name: &str) -> &'static str {
    let after = LOCK.rsplit_once(&format!("name = \"{name}\"\nversion = \"")).map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or_default()
}
