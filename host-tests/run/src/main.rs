//! `dob-run`, the program of `make run`. `dob-host` has the same commands and more.

use clap::Parser;
use dob_run::{Command, exit_code};
use std::process::ExitCode;

/// Serves the component without Spin.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit_code(Arguments::parse().command.execute().await.map(|()| ExitCode::SUCCESS))
}
