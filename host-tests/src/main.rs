//! `dob-host`, the command line that make calls: it serves the component without Spin, and runs the lab, the cluster and the drills.

mod cluster;
mod drill;
mod lab;

use anyhow::Result;
use clap::Parser;
use dob_drills::Pace;
use dob_run::exit_code;
use dob_support::allow_open_files;
use std::process::ExitCode;

/// Serves the component without Spin, and runs the drills.
#[derive(Parser)]
enum Command {
    #[command(flatten)]
    Serve(dob_run::Command),
    /// Boot the database nodes of the lab's first region and serve on them (needs root and Linux)
    Lab {
        /// Boot the recovery region, too
        #[arg(long)]
        both: bool,
    },
    /// Start SpinKube on this machine and roll the component out (needs root and Linux)
    Cluster,
    /// Break the lab's nodes under load, and measure (needs root and Linux)
    Drill {
        /// The drills to run, or `all`; without a name, those that run on every change
        names: Vec<String>,
    },
    /// Roll versions out on the cluster and break its nodes under load, and measure (needs root and Linux)
    Rollout {
        /// The drills to run, or `all`; without a name, those that run on every change
        names: Vec<String>,
        /// Use the waiting times of AWS, without shortening them
        #[arg(long)]
        full_size: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(run(Command::parse()).await)
}

async fn run(command: Command) -> Result<ExitCode> {
    allow_open_files()?;
    match command {
        Command::Serve(command) => command.execute().await.map(|()| ExitCode::SUCCESS),
        Command::Lab { both } => lab::run(both).await,
        Command::Cluster => cluster::run().await,
        Command::Drill { names } => drill::run_on_lab(&names).await,
        Command::Rollout { names, full_size } => {
            let pace = if full_size { Pace::FULL } else { Pace::EACH_CHANGE };
            drill::run_on_cluster(&names, pace).await
        }
    }
}
