//! `run`: serves the API with a private PostgreSQL until Ctrl-C.

use crate::database_url;
use anyhow::{Context, Result, bail};
use dob_postgresql::{Database, can_enter, refuse_other_owner};
use dob_spin::{Build, Options, Server, listener};
use dob_support::{free_port, random_word};
use std::fs::{self, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The database of a private server.
const DATABASE: &str = "dob_api";
/// Where root keeps the data if PostgreSQL's user can't reach the directory.
const ELSEWHERE: &str = "/var/lib/dob-api";
/// How long it may take to create role, database and table.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Serves until a signal. Then the private PostgreSQL stops, and its data stays.
pub async fn run(listen: SocketAddr, data: &Path) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = serve(listen, data) => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn serve(listen: SocketAddr, data: &Path) -> Result<()> {
    // Fails early if the port is in use. This socket is closed again, and the server binds the port a moment later.
    listener(listen).await.context("make run LISTEN=ADDRESS:PORT takes another address")?;
    let manifest = Build::chosen()?.manifest();
    // An empty variable counts as unset, because a shell can't unset one for a single command.
    let url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    let own = url.map(|url| database_url::parse(&url)).transpose()?;
    let (variables, private) = match &own {
        Some(config) => (database_url::variables(config)?, None),
        None => {
            let database = private_database(data).await?;
            (database.variables(DATABASE), Some(database))
        }
    };
    let server = Server::serve(&manifest, Options { variables, ..Options::default() }, listen).await?;
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
    match server.until_ended().await? {}
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

/// A running server; the first run creates its data directory.
async fn private_database(data: &Path) -> Result<Database> {
    let directory = data_directory(data)?;
    refuse_other_owner(&directory)?;
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
    let password = password(&directory.with_extension("password"))?;
    let mut database = if directory.join("data/PG_VERSION").exists() {
        Database::existing(&directory, address, &password, &[])?
    } else {
        println!("Creating a database in {} ...", directory.display());
        Database::create(&directory, address, &password, &[])?
    };
    let advice = "use another directory to start with an empty database (make run DATA=DIRECTORY)";
    database.start().await.context(advice)?;
    Ok(database)
}

/// The directory that was asked for, unless PostgreSQL's user can't reach it, such as in root's home.
fn data_directory(data: &Path) -> Result<PathBuf> {
    if !data.exists() {
        make_open(data)?;
    }
    let data = data.canonicalize()?;
    if can_enter(&data)? {
        return Ok(data.join("postgres"));
    }
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    let elsewhere = Path::new(ELSEWHERE).join(format!("{:016x}", hasher.finish()));
    for directory in [ELSEWHERE.as_ref(), &*elsewhere] {
        make_open(directory)?;
    }
    Ok(elsewhere.join("postgres"))
}

/// Creates a directory that PostgreSQL's user may enter, whatever root's umask is.
fn make_open(directory: &Path) -> Result<()> {
    let made =
        fs::create_dir_all(directory).and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)));
    made.with_context(|| format!("can't make {}", directory.display()))
}

/// The private server's password: random, created once, readable only by its owner.
fn password(path: &Path) -> Result<String> {
    let new = random_word()?;
    let kept = || -> io::Result<String> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        // If two first runs coincide, one of them fails.
        file.try_lock()?;
        let mut password = String::new();
        file.read_to_string(&mut password)?;
        // The file is new, or a run whose disk was full has left it empty.
        if password.is_empty() {
            file.write_all(new.as_bytes())?;
            password.push_str(&new);
        }
        Ok(password)
    };
    kept().with_context(|| format!("can't keep the password in {}", path.display()))
}

/// Requests `/readyz`, which creates role, database and table. If that fails, the component's log line says why.
pub async fn prepare_schema(url: &str) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(READY_WITHIN).build()?;
    if client.get(format!("{url}/readyz")).send().await?.status() != 200 {
        bail!("the database can't be prepared; the line above says why");
    }
    Ok(())
}
