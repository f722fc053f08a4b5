//! `dob-bench`, the program of `make bench`. Its servers are this program, started again.

use clap::Parser;
use dob_benchmark::Settings;
use dob_run::exit_code;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Measures the component beside its floors and a native server.
#[derive(Parser)]
enum Command {
    #[command(flatten)]
    Serve(dob_run::Command),
    /// Measure, and print the report
    Report {
        /// Take only about 5 minutes, to check that the benchmark works
        #[arg(long)]
        quick: bool,
    },
    /// Serve as the native server, for comparison
    #[command(hide = true)]
    Native,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Serve(command) => command.execute().await,
        Command::Report { quick } => {
            until_signal(dob_benchmark::run(if quick { Settings::QUICK } else { Settings::FULL })).await
        }
        Command::Native => dob_benchmark::serve_native().await,
    };
    exit_code(done.map(|()| ExitCode::SUCCESS))
}

/// Runs some work until it is done. Ctrl-C and SIGTERM drop it with all that it has started.
async fn until_signal(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}
