//! What it takes to start an instance: an answer of the component that needs no database, less one of the host itself.

use crate::databases::Databases;
use crate::load::{Measured, sequential};
use crate::servers::{Implementation, Server};
use crate::statistics::median;
use crate::workload::{SMALL, Settings};
use anyhow::Result;
use dob_spin::Build;

/// The host answers this without an instance.
const HOST: &str = "/.well-known/spin/health";
/// The component answers this without the database.
const COMPONENT: &str = "/healthz";

/// Time and CPU time of starting an instance and calling it, in microseconds.
pub struct Startup {
    /// What a single client waits longer for.
    pub time_us: f64,
    /// What the server's CPUs do.
    pub cpu_us: f64,
}

/// Asks host and component in turn, one request after the other.
pub async fn measure(databases: &Databases, settings: Settings) -> Result<Startup> {
    let server = Server::start(Implementation::Component(Build::Wasi02), &databases.variables(SMALL.users)?)?;
    sequential(&server, databases, 1, COMPONENT).await?;
    let mut differences = Vec::new();
    for _ in 0..3 {
        let host = sequential(&server, databases, settings.seconds, HOST).await?;
        let component = sequential(&server, databases, settings.seconds, COMPONENT).await?;
        differences.push((host, component));
    }
    let more = |value: fn(&Measured) -> f64| median(differences.iter().map(|(a, b)| value(b) - value(a)));
    Ok(Startup { time_us: more(|measured| measured.p50_us), cpu_us: more(|measured| measured.server_us) })
}
