//! `make run`: from nothing to a served API, and back to nothing on Ctrl-C.

use anyhow::{Context, Result, bail};
use dob_postgresql::{Database, can_enter};
use dob_spin::{App, Manifest, Options, Server};
use dob_support::{free_port, random_word};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::config::{Config, Host, SslMode};

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
    let (variables, private) = match std::env::var("DATABASE_URL") {
        Ok(url) => (from_url(&url)?, None),
        Err(_) => {
            let database = private_database(data).await?;
            (database.variables(DATABASE), Some(database))
        }
    };
    let server = Server::start(App::load(&manifest, Options { variables, ..Options::default() })?, listen).await?;
    prepare_schema(&server.url()).await?;
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
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
    let password = password(&directory.with_extension("password"))?;
    let mut database = if directory.join("data/PG_VERSION").exists() {
        Database::existing(&directory, address, &password, &[])?
    } else {
        println!("Making a database in {} ...", directory.display());
        Database::create(&directory, address, &password, &[])?
    };
    database.start().await.with_context(|| {
        format!("if nothing else runs there, remove {} to start with an empty database", directory.display())
    })?;
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
    if let Ok(password) = fs::read_to_string(file) {
        return Ok(password);
    }
    let password = random_word()?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(file)?.write_all(password.as_bytes())?;
    Ok(password)
}

/// Variables for a server of the user's own: its one role serves and makes the schema.
fn from_url(url: &str) -> Result<BTreeMap<String, String>> {
    let config: Config =
        url.parse().context("DATABASE_URL must look like postgres://user:password@host:5432/database")?;
    let [Host::Tcp(host)] = config.get_hosts() else { bail!("DATABASE_URL must name one host that is reached by TCP") };
    let user = config.get_user().context("DATABASE_URL must name a user")?;
    let password = String::from_utf8(config.get_password().unwrap_or_default().to_vec())?;
    let sslmode = match config.get_ssl_mode() {
        SslMode::Disable => "disable",
        SslMode::Require => "require",
        _ => "prefer",
    };
    let variables = [
        ("pg_host_a", host.clone()),
        ("pg_port", config.get_ports().first().unwrap_or(&5432).to_string()),
        ("pg_database", config.get_dbname().unwrap_or(user).to_owned()),
        ("pg_user", user.to_owned()),
        ("pg_password", password.clone()),
        ("pg_sslmode", sslmode.to_owned()),
        ("pg_admin_user", user.to_owned()),
        ("pg_admin_password", password),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Asks `/readyz`, which makes role, database and table; why it could not is in the log line above its answer.
pub async fn prepare_schema(url: &str) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(READY_WITHIN).build()?;
    if client.get(format!("{url}/readyz")).send().await?.status() != 200 {
        bail!("the database can't be prepared; the line above says why");
    }
    Ok(())
}
