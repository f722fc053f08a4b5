//! Serves the component without Spin.

mod playground;
mod quickstart;

use anyhow::Result;
use clap::Parser;
use dob_host::spin::{App, Manifest, Options, Server};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// The prefix of the environment variables that set the application's variables, as in Spin.
const VARIABLE_PREFIX: &str = "SPIN_VARIABLE_";

/// Serves a Spin application that has one HTTP component, the way Spin does.
#[derive(Parser)]
enum Command {
    /// Serve with the variables in SPIN_VARIABLE_<NAME>, until a signal ends it at once
    Serve {
        /// The application's manifest
        #[arg(long, default_value = "spin.toml")]
        manifest: PathBuf,
        /// The address to listen on; port 0 takes any free one
        #[arg(long, default_value = "127.0.0.1:3000")]
        listen: SocketAddr,
    },
    /// Serve with a private PostgreSQL, or with the one in DATABASE_URL, and show what to try
    Run {
        /// The address to listen on
        #[arg(long, default_value = "127.0.0.1:3000")]
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
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Serve { manifest, listen } => serve(&manifest, listen).await.map(|()| ExitCode::SUCCESS),
        Command::Run { listen, data } => quickstart::run(listen, &data).await.map(|()| ExitCode::SUCCESS),
        Command::Lab { both } => playground::run(both).await,
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Ends like Spin: a signal stops the process, and requests in flight with it.
async fn serve(manifest: &std::path::Path, listen: SocketAddr) -> Result<()> {
    let options = Options { variables: variables(), ..Options::default() };
    let server = Server::start(App::load(&Manifest::read(manifest)?, options)?, listen).await?;
    println!("Serving {}", server.url());
    std::future::pending().await
}

fn variables() -> BTreeMap<String, String> {
    let ours = |(name, value): (String, String)| Some((name.strip_prefix(VARIABLE_PREFIX)?.to_lowercase(), value));
    std::env::vars().filter_map(ours).collect()
}
