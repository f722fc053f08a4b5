//! Role, database and table. `/readyz` creates what is missing. Every step is idempotent, and any number of pods may run it at once.
//!
//! Each step is one statement, and so a transaction of its own. `DO` blocks take no parameters, so names and the password reach them
//! through session settings. That keeps them out of the statement's text, and so out of logs and trace spans.

use super::{failure::Failure, routing::Store, session::Session};
use crate::config::{Database, Role};
use crate::host::{Connection, Host, Parameter, Purpose, Value};
use std::time::Duration;

/// Takes the advisory lock that lets only one pod at a time change roles or the schema. Its number is arbitrary.
macro_rules! lock {
    () => {
        "PERFORM pg_advisory_xact_lock(7236912);"
    };
}

/// One numbered migration as one statement. It does nothing if its number is recorded already.
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

/// All migrations in order: entry n creates schema version n + 1. Pods of the previous version must still work after each, because they
/// serve during a rollout.
const MIGRATIONS: [&str; 1] = [migration!(1, "0001_birthday.sql")];

/// Returns the schema's version, whether the role has its privileges, and whether the server is a replica.
const CHECK: &str = "\
    SELECT (SELECT max(version) FROM dob_api.schema_migration), \
    has_table_privilege('dob_api.birthday', 'SELECT') \
    AND has_table_privilege('dob_api.birthday', 'INSERT') \
    AND has_table_privilege('dob_api.birthday', 'UPDATE'), \
    pg_is_in_recovery()";

const SETTINGS: &str = "SELECT set_config('dob_api.role', $1, false), set_config('dob_api.password', $2, false)";

/// Creates the serving role, or sets its new password. The inner error is replaced, because its context would write the statement with
/// the password to the server's log.
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

/// The database from which another one is created. Every server has it.
const MAINTENANCE: &str = "postgres";

const DATABASE_EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";

/// Marks a database that `/readyz` has created but not yet set up: a connection limit that nobody would choose. `CREATE DATABASE` can't
/// share a transaction with the grants that must follow, and the pod may end between the two.
macro_rules! made_here {
    () => {
        "1912723"
    };
}

/// Lets the serving role connect, read, insert and update. In a database that `/readyz` has created, it also revokes the default privileges
/// of everybody else. In any other database, it leaves the privileges of others alone.
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

/// The preparation starts no later than this, so that it and the check that follows end within 5 s.
const PREPARE_UNTIL: Duration = Duration::from_millis(1500);

/// How long the primary may take in total, on a host that can end a wait. The rest of the 5 s is for a replica.
const PRIMARY_WITHIN: Duration = Duration::from_millis(4000);

/// What `/readyz` reports.
pub struct Readiness {
    /// Whether the primary takes reads and writes, or why not.
    pub primary: Result<(), Failure>,
    /// Whether a replica answers reads, or why not. `None` if no replica is configured.
    pub replica: Option<Result<(), Failure>>,
}

impl Readiness {
    /// Whether greetings can be read.
    pub fn is_ready(&self) -> bool {
        self.primary.is_ok() || matches!(self.replica, Some(Ok(())))
    }
}

impl<H: Host> Store<'_, H> {
    /// Checks primary and replica. With administrator credentials, first creates what is missing on the primary.
    pub async fn readiness(&self) -> Readiness {
        let primary = self.host.within(PRIMARY_WITHIN, self.primary_readiness()).await;
        let replica = match self.config.replicas(None).await {
            Ok(replicas) if replicas.is_empty() => None,
            Ok(_) => Some(self.in_time("check", self.on_replicas(None, check)).await.map(drop)),
            Err(invalid) => Some(Err(invalid.into())),
        };
        Readiness { primary: primary.unwrap_or_else(|| Err(Failure::late("check"))), replica }
    }

    async fn primary_readiness(&self) -> Result<(), Failure> {
        match self.on_primary(Purpose::Reading, check_primary).await {
            Err(failure) if self.elapsed() < PREPARE_UNTIL => match self.prepare(failure.open_failed()).await {
                Ok(true) => self.on_primary(Purpose::Reading, check_primary).await,
                Ok(false) => Err(failure),
                Err(failure) => Err(failure),
            },
            checked => checked,
        }
    }

    /// Creates database, role (unless it can log in already), schema and grants. Returns `false` without administrator credentials.
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

    /// The administrator's connection to the database. If it can't be opened, the error has no code that says whether the database is
    /// missing, so `postgres` on the same server is asked.
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

/// Whether the server is a replica. `Err` if its schema is too old, or the role lacks a privilege.
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

/// Creates the database if it is missing.
async fn create_database<C: Connection>(maintenance: Session<C>, name: &str) -> Result<(), Failure> {
    let row = maintenance.one_row("find database", DATABASE_EXISTS, &[Parameter::Text(name)]).await?;
    if row == [Value::Boolean(true)] {
        return Ok(());
    }
    // This statement takes no parameters and can't run in a DO block, so the name is quoted here.
    let create = format!("CREATE DATABASE \"{}\" CONNECTION LIMIT {}", name.replace('"', "\"\""), made_here!());
    match maintenance.execute("create database", &create, &[]).await {
        Err(failure) if failure.database_exists() => Ok(()),
        result => result,
    }
}

async fn set<C: Connection>(session: &Session<C>, role: &Role) -> Result<(), Failure> {
    let values = [Parameter::Text(&role.name), Parameter::Text(&role.password)];
    session.one_row("set", SETTINGS, &values).await.map(drop)
}
