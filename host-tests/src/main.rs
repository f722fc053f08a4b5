//! The command line: `dob-host` serves, drills and measures the component without Spin; it is what make calls.

mod cluster;
mod database_url;
mod drill;
mod lab;
mod run;

use anyhow::Result;
use clap::Parser;
use dob_benchmark::Settings;
use dob_drills::Pace;
use dob_spin::{App, Manifest, Options, Server, Variables};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Serves, drills and measures the component without Spin.
#[derive(Parser)]
enum Command {
    /// Serve with the variables in SPIN_VARIABLE_<NAME>, until a signal ends it at once
    Serve {
        /// The application's manifest
        #[arg(long, default_value = "spin.toml")]
        manifest: PathBuf,
        /// The address to listen on; port 0 takes any free one
        #[arg(long, default_value = "127.0.0.1:3000", value_parser = address)]
        listen: SocketAddr,
    },
    /// Serve with a private PostgreSQL, or with the one in DATABASE_URL, and show what to try
    Run {
        /// The address to listen on
        #[arg(long, default_value = "127.0.0.1:3000", value_parser = address)]
        listen: SocketAddr,
        /// Where the private PostgreSQL keeps its data
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../.dob"))]
        data: PathBuf,
    },
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
        Command::Serve { manifest, listen } => serve(&manifest, listen).await,
        Command::Run { listen, data } => run::run(listen, &data).await,
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

/// The first address of a host and port.
fn address(listen: &str) -> Result<SocketAddr, String> {
    let found = listen.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| "write a host of this machine and a port, such as localhost:3000 or [::1]:3000".to_owned())
}

fn exit_code(done: Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Ends like Spin: a signal stops the process, and requests in flight with it.
async fn serve(manifest: &Path, listen: SocketAddr) -> Result<()> {
    let options = Options { variables: Variables::from_environment(), ..Options::default() };
    let server = Server::start(App::load(&Manifest::read(manifest)?, options)?, listen).await?;
    println!("Serving {}", server.url());
    match server.until_ended().await? {}
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
