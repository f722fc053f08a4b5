//! The measurements: the component beside the floors of its host and a native server, in one run.
//!
//! Every server is a process of its own, so that its CPU time can be told apart; all share one PostgreSQL. They take
//! turns, and what is reported is the median over the rounds. Each module knows only those above it:
//!
//! ```text
//! cpu, statistics, workload
//! native                     the server that a user would pick instead
//! servers                    each in a process of its own
//! data                       the PostgreSQL that all share
//! load                       one turn of one server
//! relay, memory, startup     what is counted and measured besides
//! cases                      who is put under which load, in which order
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
mod statistics;
mod workload;

pub use native::serve as serve_native;
pub use workload::Settings;

use anyhow::Result;

/// Measures everything and prints the report. The program that runs this must know the subcommands `serve` and `native`: its servers
/// are this program, started again.
pub async fn run(settings: Settings) -> Result<()> {
    servers::build_floors()?;
    let databases = databases::Databases::create().await?;
    let counted = relay::count(&databases).await?;
    let per_instance = memory::per_instance(&databases).await?;
    let rounds = cases::run(&databases, settings).await?;
    let startup = startup::measure(&databases, settings).await?;
    let machine = machine::describe(&databases, settings).await?;
    report::print(&report::Report { machine, rounds, counted, per_instance, startup })
}
