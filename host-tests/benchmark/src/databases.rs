//! The PostgreSQL server that all measured servers share, with its two databases.

use crate::servers::{Implementation, Server};
use crate::workload::{LARGE, RequestType, SAME, SMALL, Size};
use anyhow::{Context, Result, bail};
use dob_api::config;
use dob_clients::history::date;
use dob_postgresql::Database;
use dob_spin::{Build, Manifest, Variables};
use dob_support::free_port;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// Durable as in production (`fsync` is on). Autovacuum and checkpoints must not disturb single turns: the benchmark vacuums between
/// turns.
const SETTINGS: &[&str] =
    &["max_connections=600", "shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=1h", "autovacuum=off"];

/// Fills a database. User n's name is the seven digits of n as letters, as in the load generator.
const LOAD: &str = "\
    INSERT INTO dob_api.birthday (username, date_of_birth) \
    SELECT translate(lpad(n::text, 7, '0'), '0123456789', 'abcdefghij'), DATE '1950-01-01' + n % 20000 \
    FROM generate_series(0, $1::int - 1) n";

/// Gives every user the same date.
const RESET: &str = "UPDATE dob_api.birthday SET date_of_birth = $1 WHERE date_of_birth <> $1";

/// A running PostgreSQL with both databases. Dropping it stops the server and removes all data.
pub struct Databases {
    /// The server.
    pub database: Database,
    _directory: TempDir,
}

impl Databases {
    /// Creates and fills both databases in a temporary directory.
    pub async fn create() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("dob-bench-").tempdir()?;
        // PostgreSQL's own user must be able to enter it.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
        let address = (Ipv4Addr::LOCALHOST, free_port()?).into();
        let mut database = Database::create(&directory.path().join("postgresql"), address, "bench", SETTINGS)?;
        database.start().await?;
        let databases = Self { database, _directory: directory };
        for size in [SMALL, LARGE] {
            eprintln!("loading {} users", size.users);
            databases.fill(&size).await?;
        }
        Ok(databases)
    }

    /// The variables of a server that uses the database with this many users.
    pub fn variables(&self, users: u32) -> Result<BTreeMap<String, String>> {
        self.variables_through(users, self.database.address.port())
    }

    /// The same, through a relay on another port.
    pub fn variables_through(&self, users: u32, port: u16) -> Result<BTreeMap<String, String>> {
        let mut variables = self.database.variables(name(users));
        variables.insert("pg_port".to_owned(), port.to_string());
        let address = address(&variables)?;
        variables.insert("pg_address".to_owned(), address);
        Ok(variables)
    }

    /// Brings a database into the state that a type of request expects.
    pub async fn prepare(&self, request: RequestType, users: u32) -> Result<()> {
        if request == RequestType::Greeting {
            return Ok(());
        }
        let client = self.database.client(name(users)).await?;
        if request == RequestType::SavingSame {
            client.execute(RESET, &[&date(SAME)]).await?;
        }
        Ok(client.batch_execute("VACUUM dob_api.birthday").await?)
    }

    /// The parent of all PostgreSQL processes.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.database.pid().context("PostgreSQL has ended")?.as_raw() as u32)
    }

    async fn fill(&self, size: &Size) -> Result<()> {
        let server = Server::start(Implementation::Component(Build::Wasi02), &self.variables(size.users)?)?;
        let readyz = server.client.get(server.url("/readyz")).send().await?;
        if !readyz.status().is_success() {
            bail!("the component can't create its schema: {}", readyz.text().await?);
        }
        let client = self.database.client(size.name).await?;
        client.execute(LOAD, &[&(size.users as i32)]).await?;
        client.batch_execute("VACUUM ANALYZE").await?;
        Ok(client.batch_execute("CHECKPOINT").await?)
    }
}

fn name(users: u32) -> &'static str {
    if users == SMALL.users { SMALL.name } else { LARGE.name }
}

/// The address that the component builds from these variables; all servers use the same one.
fn address(variables: &BTreeMap<String, String>) -> Result<String> {
    let manifest = Manifest::of_project()?;
    let values = Variables::new(&manifest, variables);
    let connection = manifest.component_variables.get("connection").context("the component has no connection")?;
    let database = config::Database::parse(&values.fill(connection)?).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(database.primary().expose().to_owned())
}
