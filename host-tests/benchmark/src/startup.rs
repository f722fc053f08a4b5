//! The cost of starting an instance: an answer of the component that needs no database, minus one of the host.

use crate::databases::Databases;
use crate::load::{Measured, sequential};
use crate::servers::{Implementation, Server};
use crate::workload::{SMALL, Settings};
use anyhow::Result;
use dob_clients::statistics::median;
use dob_spin::Build;

/// A path that the host answers without an instance.
const HOST: &str = "/.well-known/spin/health";
/// A path that the component answers without the database.
const COMPONENT: &str = "/healthz";

/// Time and CPU time of starting an instance and calling it, in microseconds.
pub struct Startup {
    /// The additional latency for a single client.
    pub time_us: f64,
    /// The additional CPU time of the server.
    pub cpu_us: f64,
}

/// Measures host and component in turn, with a single client.
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
