//! The command line: `dob-host` serves the component without Spin, and runs the drills; it is what make calls.

mod cluster;
mod drill;
mod lab;

use clap::Parser;
use dob_drills::Pace;
use dob_run::exit_code;
use std::process::ExitCode;

/// Serves the component without Spin, and runs the drills.
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
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(match Command::parse() {
        Command::Serve(command) => command.execute().await.map(|()| ExitCode::SUCCESS),
        Command::Lab { both } => lab::run(both).await,
        Command::Cluster => cluster::run().await,
        Command::Drill { names } => drill::run_on_lab(&names).await,
        Command::Rollout { names, full_size } => {
            let pace = if full_size { Pace::FULL } else { Pace::EACH_CHANGE };
            drill::run_on_cluster(&names, pace).await
        }
    })
}
