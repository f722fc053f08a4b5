//! `make bench`: the component beside the floors of its host and a native server, measured in one run.
//!
//! Every server is a process of its own, so that its CPU time can be told apart; all share one PostgreSQL. They take
//! turns, and what is reported is the median over the rounds.

mod cases;
mod cpu;
mod data;
mod load;
mod machine;
mod memory;
mod native;
mod relay;
mod report;
mod servers;
mod startup;

use anyhow::{Result, bail};
use cases::Settings;
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    // Cargo adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [] => interruptible(bench(Settings::FULL)).await,
        ["--quick"] => interruptible(bench(Settings::QUICK)).await,
        ["host", manifest] => servers::host(Path::new(manifest)).await,
        ["native"] => native::serve().await,
        _ => Err(anyhow::anyhow!("usage: cargo bench --bench compare [-- --quick]")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends early, with all that was started, on Ctrl-C or SIGTERM.
async fn interruptible(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

async fn bench(settings: Settings) -> Result<()> {
    let wrk = load::version()?;
    servers::build_floors()?;
    let data = data::Data::create().await?;
    let counted = relay::count(&data).await?;
    let per_instance = memory::per_instance(&data).await?;
    let rounds = cases::run(&data, settings).await?;
    let startup = startup::measure(&data, settings).await?;
    let machine = machine::describe(&data, &wrk, settings).await?;
    report::print(&report::Report { machine, rounds, counted, per_instance, startup })
}
