//! `make run`: from nothing to a served API, and back to nothing on Ctrl-C.

use crate::database_url;
use anyhow::{Context, Result, bail};
use dob_postgresql::{Database, can_enter, refuse_other_owner};
use dob_spin::{App, Manifest, Options, Server};
use dob_support::{free_port, random_word};
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The database that a private server holds.
const DATABASE: &str = "dob_api";
/// How long making role, database and table may take.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Serves until a signal; the private PostgreSQL is stopped then, and its data kept.
pub async fn run(listen: SocketAddr, data: &Path) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = serve(listen, data) => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn serve(listen: SocketAddr, data: &Path) -> Result<()> {
    // Before anything is started; the port is taken for good a moment later.
    TcpListener::bind(listen).with_context(|| {
        format!("can't listen on {listen}: stop what listens there, or choose another address (make run LISTEN=…)")
    })?;
    let manifest = Manifest::of_project()?;
    let own = std::env::var("DATABASE_URL").ok().map(|url| database_url::parse(&url)).transpose()?;
    let (variables, private) = match &own {
        Some(config) => (database_url::variables(config)?, None),
        None => {
            let database = private_database(data).await?;
            (database.variables(DATABASE), Some(database))
        }
    };
    let server = Server::start(App::load(&manifest, Options { variables, ..Options::default() })?, listen).await?;
    if let Err(error) = prepare_schema(&server.url()).await {
        let advice = match &own {
            Some(config) => database_url::advice(config).await,
            None => None,
        };
        return Err(advice.map_or(error, anyhow::Error::msg));
    }
    let data = private.as_ref().map_or("the PostgreSQL in DATABASE_URL".to_owned(), |database| {
        format!("a private PostgreSQL, data in {}", database.data().display())
    });
    println!("{}", welcome(&server.url(), &data));
    std::future::pending().await
}

fn welcome(url: &str, data: &str) -> String {
    format!(
        "Serving {url} with {data}. Try:

  curl -i -X PUT -d '{{\"dateOfBirth\": \"1990-05-20\"}}' {url}/hello/John
  curl -i {url}/hello/John
  curl -i {url}/hello/nobody
  curl -i {url}/readyz
  curl -i {url}/openapi.json

Ctrl-C stops everything; the data stays."
    )
}

/// A running server whose data directory is made at the first run.
async fn private_database(data: &Path) -> Result<Database> {
    let directory = data_directory(data)?;
    refuse_other_owner(&directory)?;
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
    let password = password(&directory.with_extension("password"))?;
    let mut database = if directory.join("data/PG_VERSION").exists() {
        Database::existing(&directory, address, &password, &[])?
    } else {
        println!("Making a database in {} ...", directory.display());
        Database::create(&directory, address, &password, &[])?
    };
    let advice = "use another directory to start with an empty database (make run DATA=DIRECTORY)";
    database.start().await.context(advice)?;
    Ok(database)
}

/// As asked for; elsewhere only where PostgreSQL's user can't reach that, such as in root's home.
fn data_directory(data: &Path) -> Result<PathBuf> {
    fs::create_dir_all(data).with_context(|| format!("can't make {}", data.display()))?;
    let data = data.canonicalize()?;
    if can_enter(&data)? {
        return Ok(data.join("postgres"));
    }
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    let elsewhere = PathBuf::from(format!("/var/lib/dob-api/{:016x}", hasher.finish()));
    fs::create_dir_all(&elsewhere).with_context(|| format!("can't make {}", elsewhere.display()))?;
    Ok(elsewhere.join("postgres"))
}

/// The private server's password: random, made once, readable by its owner only.
fn password(file: &Path) -> Result<String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        read => return read.with_context(|| format!("can't read {}", file.display())),
    }
    let password = random_word()?;
    let mut options = OpenOptions::new();
    let file_made = options.write(true).create_new(true).mode(0o600).open(file);
    let written = file_made.and_then(|mut file| file.write_all(password.as_bytes()));
    written.with_context(|| format!("can't make {}", file.display()))?;
    Ok(password)
}

/// Asks `/readyz`, which makes role, database and table; why it could not is in the log line above its answer.
pub async fn prepare_schema(url: &str) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(READY_WITHIN).build()?;
    if client.get(format!("{url}/readyz")).send().await?.status() != 200 {
        bail!("the database can't be prepared; the line above says why");
    }
    Ok(())
}
