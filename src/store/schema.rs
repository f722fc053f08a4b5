//! Role, database and table: made by `/readyz` where they are missing, by as many pods at once as like to.
//!
//! Each step is one statement and so its own transaction. `DO` blocks take no parameters: names and the password reach
//! them through session settings, which keeps them out of the statement's text (and out of logs and trace spans).

use super::{failure::Failure, routing::Store, session::Session};
use crate::config::{Database, Role};
use crate::host::{Connection, Host, Parameter, Purpose, Value};
use std::time::Duration;

/// The advisory lock that lets one pod at a time change roles or the schema (any constant will do).
macro_rules! lock {
    () => {
        "PERFORM pg_advisory_xact_lock(7236912);"
    };
}

/// One numbered migration as one statement; it does nothing where its number is recorded already.
macro_rules! migration {
    ($version:literal, $file:literal) => {
        concat!(
            "DO $migration$ BEGIN ",
            lock!(),
            "CREATE SCHEMA IF NOT EXISTS dob_api;",
            "CREATE TABLE IF NOT EXISTS dob_api.schema_migration",
            "(version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());",
            "IF NOT EXISTS (SELECT FROM dob_api.schema_migration WHERE version = ",
            $version,
            ") THEN\n",
            include_str!(concat!("../../migrations/", $file)),
            "INSERT INTO dob_api.schema_migration (version) VALUES (",
            $version,
            "); END IF; END $migration$"
        )
    };
}

/// All migrations in order: entry n brings version n + 1. A running older version must tolerate each of them.
const MIGRATIONS: [&str; 1] = [migration!(1, "0001_birthday.sql")];

/// The schema's version, whether the role may do its work, and whether the server is a replica.
const CHECK: &str = "\
    SELECT (SELECT max(version) FROM dob_api.schema_migration), \
    has_table_privilege('dob_api.birthday', 'SELECT') \
    AND has_table_privilege('dob_api.birthday', 'INSERT') \
    AND has_table_privilege('dob_api.birthday', 'UPDATE'), \
    pg_is_in_recovery()";

const SETTINGS: &str = "SELECT set_config('dob_api.role', $1, false), set_config('dob_api.password', $2, false)";

/// Creates the serving role or gives it a changed password. The inner error is replaced: its context would put the
/// statement with the password into the server's log.
const ROLE: &str = concat!(
    "DO $role$ DECLARE serving text := current_setting('dob_api.role'); BEGIN ",
    lock!(),
    "IF serving = session_user THEN RETURN; END IF;",
    "PERFORM set_config('password_encryption', 'scram-sha-256', true);",
    "IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = serving) THEN EXECUTE format('CREATE ROLE %I', serving); END IF;",
    "BEGIN EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', serving, current_setting('dob_api.password'));",
    "EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION USING ERRCODE = SQLSTATE,",
    " MESSAGE = 'the serving role could not be given its password'; END;",
    "END $role$"
);

/// The database from which another one can be made: every server has it.
const MAINTENANCE: &str = "postgres";

const DATABASE_EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";

/// The mark of a database that a probe has made and none has completed: a limit of connections that nobody would choose.
/// `CREATE DATABASE` can't share a transaction with what must follow it, and the pod may end between the two.
macro_rules! made_here {
    () => {
        "1912723"
    };
}

/// The serving role may connect, read, insert and update; in a database that was made here, nobody else may do anything
/// by default. In any other one the rights that others have are theirs.
const GRANTS: &str = concat!(
    "DO $grants$ DECLARE serving text := current_setting('dob_api.role'); made_here boolean; BEGIN ",
    lock!(),
    "made_here := EXISTS (SELECT FROM pg_database WHERE datname = current_database() AND datconnlimit = ",
    made_here!(),
    ");",
    "IF made_here THEN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT -1', current_database()); END IF;",
    "IF serving = session_user THEN RETURN; END IF;",
    "IF made_here THEN EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());",
    "REVOKE ALL ON SCHEMA public FROM PUBLIC; END IF;",
    "EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), serving);",
    "EXECUTE format('GRANT USAGE ON SCHEMA dob_api TO %I', serving);",
    "EXECUTE format('GRANT SELECT ON dob_api.schema_migration TO %I', serving);",
    "EXECUTE format('GRANT SELECT, INSERT, UPDATE ON dob_api.birthday TO %I', serving);",
    "END $grants$"
);

/// Preparing starts no later than this, so that its connections and the check that follows end within 5 s.
const PREPARE_UNTIL: Duration = Duration::from_millis(1500);

/// How long the primary may take in all, where the host can end a wait: a replica needs some time, too.
const PRIMARY_WITHIN: Duration = Duration::from_millis(4000);

/// What a probe found.
pub struct Readiness {
    /// The primary takes reads and writes, or why not.
    pub primary: Result<(), Failure>,
    /// A replica answers reads, or why not; `None` where no replica is configured.
    pub replica: Option<Result<(), Failure>>,
}

impl Readiness {
    /// Whether greetings can be read.
    pub fn is_ready(&self) -> bool {
        self.primary.is_ok() || matches!(self.replica, Some(Ok(())))
    }
}

impl<H: Host> Store<'_, H> {
    /// Checks primary and replica; with administrator credentials makes what is missing on the primary first.
    pub async fn readiness(&self) -> Readiness {
        let primary = self.host.within(PRIMARY_WITHIN, self.primary_readiness()).await;
        let replicas = self.config.replicas(None).await.unwrap_or_default();
        let replica = match replicas[..] {
            [] => None,
            _ => Some(self.in_time("check", self.on_replicas(None, check)).await.map(drop)),
        };
        Readiness { primary: primary.unwrap_or_else(|| Err(Failure::late("check"))), replica }
    }

    async fn primary_readiness(&self) -> Result<(), Failure> {
        match self.on_primary(Purpose::Reading, check_primary).await {
            Err(failure) if self.elapsed() < PREPARE_UNTIL => match self.prepare(failure.is_of_open()).await {
                Ok(true) => self.on_primary(Purpose::Reading, check_primary).await,
                Ok(false) => Err(failure),
                Err(failure) => Err(failure),
            },
            checked => checked,
        }
    }

    /// Creates database, role (unless it can log in already), schema and grants; `false` without administrator credentials.
    async fn prepare(&self, role_too: bool) -> Result<bool, Failure> {
        let database = self.config.database().await?;
        let Some(admin) = self.config.admin().await? else { return Ok(false) };
        let own = self.open_or_create(&database, &admin).await?;
        set(&own, &database.role).await?;
        if role_too {
            own.execute("create role", ROLE, &[]).await?;
        }
        for migration in MIGRATIONS {
            own.execute("migrate", migration, &[]).await?;
        }
        own.execute("grant", GRANTS, &[]).await?;
        Ok(true)
    }

    /// The administrator's connection to the database. Why it can't be opened is only words: whether the database is missing,
    /// another one of the server says, which is asked for nothing else.
    async fn open_or_create(&self, database: &Database, admin: &Role) -> Result<Session<H::Connection>, Failure> {
        let own = database.administered(admin, &database.name);
        match Session::open(self.host, &own, Purpose::Preparing).await {
            Err(failure) if self.elapsed() < PREPARE_UNTIL => {
                let maintenance =
                    Session::open(self.host, &database.administered(admin, MAINTENANCE), Purpose::Preparing).await;
                create_database(maintenance.map_err(|other| Failure::neither_opens(failure, &other))?, &database.name)
                    .await?;
                Session::open(self.host, &own, Purpose::Preparing).await
            }
            opened => opened,
        }
    }
}

async fn check_primary<C: Connection>(session: &Session<C>) -> Result<(), Failure> {
    if check(session).await? { Err(Failure::not_primary("check")) } else { Ok(()) }
}

/// Whether the server is a replica; `Err` where its schema or our privileges are not enough.
async fn check<C: Connection>(session: &Session<C>) -> Result<bool, Failure> {
    match session.one_row("check", CHECK, &[]).await?[..] {
        [Value::Integer(version), Value::Boolean(true), Value::Boolean(in_recovery)]
            if version >= MIGRATIONS.len() as i32 =>
        {
            Ok(in_recovery)
        }
        _ => Err(Failure::unprepared("check")),
    }
}

/// Creates the database where it is missing.
async fn create_database<C: Connection>(maintenance: Session<C>, name: &str) -> Result<(), Failure> {
    let row = maintenance.one_row("find database", DATABASE_EXISTS, &[Parameter::Text(name)]).await?;
    if row == [Value::Boolean(true)] {
        return Ok(());
    }
    // The only statement that can take neither a parameter nor a block around it.
    let create = format!("CREATE DATABASE \"{}\" CONNECTION LIMIT {}", name.replace('"', "\"\""), made_here!());
    match maintenance.execute("create database", &create, &[]).await {
        Err(failure) if failure.is_already_done() => Ok(()),
        result => result,
    }
}

async fn set<C: Connection>(session: &Session<C>, role: &Role) -> Result<(), Failure> {
    let values = [Parameter::Text(&role.name), Parameter::Text(&role.password)];
    session.one_row("set", SETTINGS, &values).await.map(drop)
}
