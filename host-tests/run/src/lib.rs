//! `serve` and `run`: the component on the imitation of Spin, with given variables or with a private PostgreSQL.

mod database_url;
mod private;

pub use private::prepare_schema;

use anyhow::Result;
use clap::Subcommand;
use dob_spin::{App, Manifest, Options, Server, Variables};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The commands that serve until a signal.
#[derive(Subcommand)]
pub enum Command {
    /// Serve on the imitation of Spin, with variables from SPIN_VARIABLE_<NAME>; a signal ends it at once
    Serve {
        /// The application's manifest
        #[arg(long, default_value = "spin.toml")]
        manifest: PathBuf,
        /// The address to listen on; port 0 means any free port
        #[arg(long, default_value = "127.0.0.1:3000", value_parser = address)]
        listen: SocketAddr,
    },
    /// Serve with a private PostgreSQL, or the one in DATABASE_URL, and print commands to try
    Run {
        /// The address to listen on
        #[arg(long, default_value = "127.0.0.1:3000", value_parser = address)]
        listen: SocketAddr,
        /// Where the private PostgreSQL keeps its data
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.dob"))]
        data: PathBuf,
    },
}

impl Command {
    /// Serves until a signal, or until an error.
    pub async fn execute(self) -> Result<()> {
        match self {
            Self::Serve { manifest, listen } => serve(&manifest, listen).await,
            Self::Run { listen, data } => private::run(listen, &data).await,
        }
    }
}

/// The first address of a host and port.
fn address(listen: &str) -> Result<SocketAddr, String> {
    let found = listen.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| "write a host of this machine and a port, such as localhost:3000 or [::1]:3000".to_owned())
}

/// Serves until a signal, which cuts requests in flight, as in Spin.
async fn serve(manifest: &Path, listen: SocketAddr) -> Result<()> {
    let options = Options { variables: Variables::from_environment(), ..Options::default() };
    let server = Server::start(App::load(&Manifest::read(manifest)?, options)?, listen).await?;
    println!("Serving {}", server.url());
    match server.until_ended().await? {}
}

/// The exit code of a command. Prints an error as one line on stderr.
pub fn exit_code(done: Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}
