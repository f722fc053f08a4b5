//! The benchmark: measures the component, the floors of its host and a native server in one run.
//!
//! Every server is its own process, so that its CPU time can be measured; all share one PostgreSQL. They take turns, and the report has
//! the medians over all rounds. Each module knows only those above it:
//!
//! ```text
//! cpu, workload
//! native                     the native server, for comparison
//! servers                    the servers, each in its own process
//! databases                  the PostgreSQL that all share
//! load                       one turn of one server
//! relay, memory, startup     round trips, memory and start of an instance
//! cases                      the measured cases and their order
//! machine, report            the result as Markdown
//! ```

mod cases;
mod cpu;
mod databases;
mod load;
mod machine;
mod memory;
mod native;
mod relay;
mod report;
mod servers;
mod startup;
mod workload;

pub use native::serve as serve_native;
pub use workload::Settings;

use anyhow::Result;

/// Measures everything and prints the report. The calling program must have the subcommands `serve` and `native`, because its servers
/// are the same program, started again.
pub async fn run(settings: Settings) -> Result<()> {
    dob_support::allow_open_files()?;
    servers::build_floors()?;
    let databases = databases::Databases::create().await?;
    let counted = relay::count(&databases).await?;
    let per_instance = memory::per_instance(&databases).await?;
    let rounds = cases::run(&databases, settings).await?;
    let startup = startup::measure(&databases, settings).await?;
    let peaks = memory::at_peak(&databases, settings).await?;
    let machine = machine::describe(&databases, settings).await?;
    report::print(&report::Report { machine, rounds, counted, per_instance, peaks, startup })
}
