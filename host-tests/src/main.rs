//! The command line: `dob-host` serves, drills and measures the component without Spin; it is what make calls.

mod cluster;
mod drill;
mod lab;

use anyhow::Result;
use clap::Parser;
use dob_benchmark::Settings;
use dob_drills::Pace;
use dob_run::exit_code;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Serves, drills and measures the component without Spin.
#[derive(Parser)]
enum Command {
    #[command(flatten)]
    Serve(dob_run::Command),
    /// Boot the lab's first region and serve on it (root on Linux only)
    Lab {
        /// The recovery region too
        #[arg(long)]
        both: bool,
    },
    /// Boot SpinKube on this machine, roll the component out and serve (root on Linux only)
    Cluster,
    /// Break the lab's nodes under load, and measure (root on Linux only)
    Drill {
        /// Which drills; `all` of them, or without a name those that run on every change
        names: Vec<String>,
    },
    /// Roll versions out on the cluster and break its nodes under load, and measure (root on Linux only)
    Rollout {
        /// Which drills; `all` of them, or without a name those that run on every change
        names: Vec<String>,
        /// With all waiting times as they are on AWS
        #[arg(long)]
        full_size: bool,
    },
    /// Measure the component beside its floors and a native server, and print the report
    Report {
        /// A minute instead of six, to see whether it works
        #[arg(long)]
        quick: bool,
    },
    /// Serve as the native server that the report compares with
    #[command(hide = true)]
    Native,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Serve(command) => command.execute().await,
        Command::Lab { both } => return exit_code(lab::run(both).await),
        Command::Cluster => return exit_code(cluster::run().await),
        Command::Drill { names } => return exit_code(drill::run_on_lab(&names).await),
        Command::Rollout { names, full_size } => {
            let pace = if full_size { Pace::FULL } else { Pace::EACH_CHANGE };
            return exit_code(drill::run_on_cluster(&names, pace).await);
        }
        Command::Report { quick } => {
            let settings = if quick { Settings::QUICK } else { Settings::FULL };
            until_signal(dob_benchmark::run(settings)).await
        }
        Command::Native => dob_benchmark::serve_native().await,
    };
    exit_code(done.map(|()| ExitCode::SUCCESS))
}

/// Does some work to its end, or drops it with all that it has started on Ctrl-C or SIGTERM.
async fn until_signal(work: impl Future<Output = Result<()>>) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}
