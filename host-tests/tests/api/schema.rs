//! `/readyz`, which creates role, database and table.

use crate::helpers::*;
use dob_postgresql::{Database, Shutdown};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tempfile::TempDir;

/// Runs a scenario with an empty server.
async fn empty_server() -> (Database, TempDir) {
    let directory = temporary_directory();
    (database(&directory, Ipv4Addr::LOCALHOST).await.unwrap(), directory)
}

fn with(mut variables: BTreeMap<String, String>, changes: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.extend(changes.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    variables
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pods_at_once_create_role_database_and_table() {
    let (database, _directory) = empty_server().await;
    let mut pods = Vec::new();
    for _ in 0..8 {
        pods.push(Service::start(database.variables("dob_api")).await);
    }
    let probes = pods.into_iter().map(|pod| {
        tokio::spawn(async move {
            // A probe may lose the race for a lock. The next one, which Kubernetes sends later, must succeed.
            let first = pod.get("/readyz").await.status;
            (first, pod.get("/readyz").await, pod.log())
        })
    });
    for probe in probes.collect::<Vec<_>>() {
        let (first, second, log) = probe.await.unwrap();
        assert!([200, 503].contains(&first), "{first} {log}");
        assert_eq!(second.status, 200, "{log}");
        assert!(!log.contains("create database"), "it is no failure that another pod was first: {log}");
    }
}

#[tokio::test]
async fn without_administrator_credentials_nothing_is_created() {
    let (database, _directory) = empty_server().await;
    let without = with(database.variables("dob_api"), &[("pg_admin_user", ""), ("pg_admin_password", "")]);
    let service = Service::start(without.clone()).await;
    let readyz = service.get("/readyz").await;
    readyz.problem(503);
    assert_eq!((&readyz.json()["primary"], &readyz.json()["replica"]), (&"not ready".into(), &"not configured".into()));
    let superuser = database.client("postgres").await.unwrap();
    let roles = superuser.query("SELECT FROM pg_roles WHERE rolname = 'dob_api'", &[]).await.unwrap();
    assert!(roles.is_empty());

    Service::ready(database.variables("dob_api")).await;
    assert_eq!(service.get("/readyz").await.status, 200, "another pod has created it: {}", service.log());
}

#[tokio::test]
async fn the_serving_role_can_select_insert_and_update_and_nothing_else() {
    let (database, _directory) = empty_server().await;
    Service::ready(database.variables("dob_api")).await;
    let superuser = database.client("dob_api").await.unwrap();
    let privileges =
        "SELECT string_agg(privilege_type, ',' ORDER BY privilege_type) FROM information_schema.table_privileges
         WHERE grantee = 'dob_api' AND table_name = $1";
    let granted = async |table: &str| -> String { superuser.query_one(privileges, &[&table]).await.unwrap().get(0) };
    assert_eq!(granted("birthday").await, "INSERT,SELECT,UPDATE");
    assert_eq!(granted("schema_migration").await, "SELECT");
    let row = superuser
        .query_one(
            "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls,
             has_database_privilege('dob_api', 'dob_api', 'CREATE') OR has_database_privilege('dob_api', 'dob_api', 'TEMP'),
             has_schema_privilege('dob_api', 'dob_api', 'CREATE') OR has_schema_privilege('dob_api', 'public', 'CREATE')
             FROM pg_roles WHERE rolname = 'dob_api'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (false, false, false));
}

#[tokio::test]
async fn a_changed_password_is_given_to_the_role_and_stays_out_of_every_log() {
    let (database, _directory) = empty_server().await;
    let superuser = database.client("postgres").await.unwrap();
    superuser.batch_execute("ALTER SYSTEM SET log_statement = 'ddl'").await.unwrap();
    superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let old = Service::ready(database.variables("dob_api")).await;
    let rotated = with(database.variables("dob_api"), &[("pg_password", "n3w'\"\\pass%")]);
    let new = Service::ready(rotated.clone()).await;
    assert_eq!(new.put("john", "1990-05-20").await.status, 204);
    let stale = Service::start(with(database.variables("dob_api"), &[("pg_admin_user", "")])).await;
    stale.get("/readyz").await.problem(503);
    let logs = [
        old.log(),
        new.log(),
        stale.log(),
        std::fs::read_to_string(database.data().with_file_name("server.log")).unwrap(),
    ]
    .concat();
    assert!(logs.contains("\"failed\":\"open\""), "{logs}");
    for secret in ["n3w'", "super-secret", "super-secret-dob_api"] {
        assert!(!logs.contains(secret), "{secret}: {logs}");
    }
}

#[tokio::test]
async fn a_password_that_cannot_be_set_stays_out_of_the_servers_log() {
    let (database, _directory) = empty_server().await;
    let superuser = database.client("postgres").await.unwrap();
    // This administrator may create databases but no roles.
    superuser
        .batch_execute("CREATE ROLE operator LOGIN CREATEDB PASSWORD 'operator-secret'; CREATE ROLE dob_api")
        .await
        .unwrap();
    let variables =
        with(database.variables("dob_api"), &[("pg_admin_user", "operator"), ("pg_admin_password", "operator-secret")]);
    let service = Service::start(variables).await;
    service.get("/readyz").await.problem(503);
    assert!(service.log().contains("42501"), "{}", service.log());
    let log = std::fs::read_to_string(database.data().with_file_name("server.log")).unwrap();
    assert!(log.contains("could not be given its password"), "{log}");
    for log in [log, service.log()] {
        assert!(!log.contains("secret"), "{log}");
    }
}

#[tokio::test]
async fn an_administrator_without_superuser_rights_is_enough() {
    let (database, _directory) = empty_server().await;
    let superuser = database.client("postgres").await.unwrap();
    superuser.batch_execute("CREATE ROLE operator LOGIN CREATEDB CREATEROLE PASSWORD 'x'").await.unwrap();
    let service = Service::ready(with(
        database.variables("dob_api"),
        &[("pg_admin_user", "operator"), ("pg_admin_password", "x")],
    ))
    .await;
    assert_eq!(service.put("john", "1990-05-20").await.status, 204);
}

#[tokio::test]
async fn one_role_may_be_administrator_and_serve() {
    let (database, _directory) = empty_server().await;
    let same = with(database.variables("mine"), &[("pg_user", "postgres"), ("pg_password", "super-secret")]);
    let service = Service::ready(same).await;
    assert_eq!(service.put("john", "1990-05-20").await.status, 204);
    let superuser = database.client("mine").await.unwrap();
    let untouched = "SELECT datacl IS NULL FROM pg_database WHERE datname = current_database()";
    assert!(superuser.query_one(untouched, &[]).await.unwrap().get::<_, bool>(0), "its own database is unchanged");
}

#[tokio::test]
async fn a_stricter_isolation_of_the_database_fails_no_save() {
    let (database, _directory) = empty_server().await;
    Service::ready(database.variables("dob_api")).await;
    let superuser = database.client("dob_api").await.unwrap();
    let strict = "ALTER DATABASE dob_api SET default_transaction_isolation = serializable";
    superuser.batch_execute(strict).await.unwrap();
    // Its connections are new.
    let service = Service::start(database.variables("dob_api")).await;
    let dates: Vec<String> =
        (0..320).map(|number| format!("19{:02}-01-{:02}", number % 90 + 10, number % 28 + 1)).collect();
    for saved in join_all(dates.iter().map(|date| service.put("john", date))).await {
        assert_eq!(saved.status, 204, "{saved:?} {}", service.log());
    }
}

#[tokio::test]
async fn names_are_quoted() {
    let (database, _directory) = empty_server().await;
    let odd = with(database.variables("dob_api"), &[("pg_database", "o\"dd; --'"), ("pg_user", "o'dd \"role")]);
    let service = Service::ready(odd).await;
    assert_eq!(service.put("john", "1990-05-20").await.status, 204);
}

#[tokio::test]
async fn a_running_version_tolerates_a_newer_schema_and_refuses_an_older_one() {
    let (database, _directory) = empty_server().await;
    let service = Service::ready(database.variables("dob_api")).await;
    let superuser = database.client("dob_api").await.unwrap();
    // As the next version's pods would during a rolling update.
    let next = "ALTER TABLE dob_api.birthday ADD COLUMN nickname text; INSERT INTO dob_api.schema_migration VALUES (2)";
    superuser.batch_execute(next).await.unwrap();
    assert_eq!(service.get("/readyz").await.status, 200, "{}", service.log());
    assert_eq!(service.put("john", "1990-05-20").await.status, 204);
    assert_eq!(service.get("/hello/john").await.status, 200);

    superuser.batch_execute("DELETE FROM dob_api.schema_migration").await.unwrap();
    let without = Service::start(with(database.variables("dob_api"), &[("pg_admin_user", "")])).await;
    without.get("/readyz").await.problem(503);
}

#[tokio::test]
async fn a_missing_privilege_is_not_ready_and_is_granted_again() {
    let (database, _directory) = empty_server().await;
    let without = Service::start(with(database.variables("dob_api"), &[("pg_admin_user", "")])).await;
    let service = Service::ready(database.variables("dob_api")).await;
    let superuser = database.client("dob_api").await.unwrap();
    superuser.batch_execute("REVOKE UPDATE ON dob_api.birthday FROM dob_api").await.unwrap();
    without.get("/readyz").await.problem(503);
    assert_eq!(service.get("/readyz").await.status, 200);
    assert_eq!(without.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn an_invalid_variable_is_named_only_in_the_log() {
    let (database, _directory) = empty_server().await;
    let service = Service::start(with(database.variables("dob_api"), &[("pg_sslmode", "verify-full")])).await;
    for answer in [service.get("/readyz").await, service.get("/hello/john").await] {
        assert!(!answer.problem(503).contains("pg_"), "{answer:?}");
    }
    assert!(service.log().contains("variable pg_sslmode must be disable, prefer or require"), "{}", service.log());
    // Secrets that are read from files often end with a newline.
    let service = Service::start(with(database.variables("dob_api"), &[("pg_password", "super-secret\n")])).await;
    service.get("/readyz").await.problem(503);
    assert!(
        service.log().contains("pg_password or pg_sslmode must be a value without line breaks"),
        "{}",
        service.log()
    );
    assert!(!service.log().contains("super-secret"), "{}", service.log());
}

#[tokio::test]
async fn an_invalid_replica_is_not_ready_and_named_once_it_is_needed() {
    let (mut database, _directory) = empty_server().await;
    let replica = ("pg_replica_host_a", "db-b,db-c");
    let service = Service::start(with(database.variables("dob_api"), &[replica])).await;
    let ready = service.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["replica"]), (200, &"not ready".into()), "{ready:?}");
    database.stop(Shutdown::Orderly).unwrap();
    service.get("/hello/john").await.problem(503);
    assert!(service.log().contains("variable pg_replica_host_a must be a host name"), "{}", service.log());
}

#[tokio::test]
async fn a_one_letter_password_leaves_the_log_readable() {
    let (database, _directory) = empty_server().await;
    let service =
        Service::start(with(database.variables("dob_api"), &[("pg_password", "e"), ("pg_admin_user", "")])).await;
    service.get("/readyz").await.problem(503);
    assert!(service.log().contains("password authentication failed for user"), "{}", service.log());
}

#[tokio::test]
async fn an_administrator_that_owns_the_database_needs_no_other() {
    let (database, _directory) = empty_server().await;
    let superuser = database.client("postgres").await.unwrap();
    for statement in [
        "CREATE ROLE owner LOGIN CREATEROLE PASSWORD 'owner-secret'",
        "CREATE DATABASE dob_api OWNER owner",
        "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC",
    ] {
        superuser.batch_execute(statement).await.unwrap();
    }
    let owner = [("pg_admin_user", "owner"), ("pg_admin_password", "owner-secret")];
    let service = Service::ready(with(database.variables("dob_api"), &owner)).await;
    assert_eq!(service.put("john", "1990-05-20").await.status, 204);

    let missing =
        Service::start(with(database.variables("dob_api"), &[owner[0], owner[1], ("pg_database", "missing")])).await;
    missing.get("/readyz").await.problem(503);
    let both =
        ["can open neither", "\\\"missing\\\" does not exist", "permission denied for database \\\"postgres\\\""];
    assert!(both.iter().all(|words| missing.log().contains(words)), "{}", missing.log());
}

#[tokio::test]
async fn a_server_that_refuses_connections_to_postgres_serves_a_database_that_is_there() {
    let (database, _directory) = empty_server().await;
    let superuser = database.client("postgres").await.unwrap();
    superuser.batch_execute("CREATE DATABASE dob_api").await.unwrap();
    let rules = database.data().join("pg_hba.conf");
    let others = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host postgres all all reject\n{others}")).unwrap();
    superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let refused = dob_support::eventually("the server refuses connections to postgres", ANSWER_WITHIN, async || {
        anyhow::ensure!(database.client("postgres").await.is_err(), "it takes one");
        Ok(())
    });
    refused.await.unwrap();
    let service = Service::ready(database.variables("dob_api")).await;
    assert_eq!(service.put("john", "1990-05-20").await.status, 204);
}

#[tokio::test]
async fn a_role_that_can_log_in_already_is_left_unchanged() {
    let (database, _directory) = empty_server().await;
    let superuser = database.client("postgres").await.unwrap();
    // The owner may not change roles, and somebody else has created the role.
    for statement in [
        "CREATE ROLE owner LOGIN PASSWORD 'owner-secret'",
        "CREATE ROLE dob_api LOGIN PASSWORD 'super-secret-dob_api'",
        "CREATE DATABASE dob_api OWNER owner",
    ] {
        superuser.batch_execute(statement).await.unwrap();
    }
    let owner = [("pg_admin_user", "owner"), ("pg_admin_password", "owner-secret")];
    let service = Service::ready(with(database.variables("dob_api"), &owner)).await;
    assert_eq!(service.put("john", "1990-05-20").await.status, 204);
}

#[tokio::test]
async fn other_roles_keep_their_privileges_in_an_existing_database() {
    let (database, _directory) = empty_server().await;
    let superuser = database.client("postgres").await.unwrap();
    superuser.batch_execute("CREATE DATABASE shared").await.unwrap();
    superuser.batch_execute("CREATE ROLE other LOGIN PASSWORD 'x'").await.unwrap();
    let shared = database.client("shared").await.unwrap();
    shared.batch_execute("GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE TABLE public.theirs ()").await.unwrap();
    shared.batch_execute("GRANT SELECT ON public.theirs TO other").await.unwrap();
    let service = Service::ready(with(database.variables("dob_api"), &[("pg_database", "shared")])).await;
    assert_eq!(service.put("john", "1990-05-20").await.status, 204);
    let may = "SELECT has_database_privilege('other', 'shared', 'CONNECT'), has_database_privilege('other', 'shared', 'TEMP'),
         has_schema_privilege('other', 'public', 'USAGE'), has_schema_privilege('other', 'public', 'CREATE'),
         has_schema_privilege('other', 'dob_api', 'USAGE')";
    let row = shared.query_one(may, &[]).await.unwrap();
    let may: Vec<bool> = (0..5).map(|column| row.get(column)).collect();
    assert_eq!(may, [true, true, true, true, false]);
}

#[tokio::test]
async fn a_database_that_readyz_creates_is_closed_to_other_roles() {
    let (database, _directory) = empty_server().await;
    let superuser = database.client("postgres").await.unwrap();
    superuser.batch_execute("CREATE ROLE operator LOGIN CREATEDB PASSWORD 'x'; CREATE ROLE other").await.unwrap();
    let operator = [("pg_admin_user", "operator"), ("pg_admin_password", "x")];
    let service = Service::start(with(database.variables("dob_api"), &operator)).await;
    // It creates the database, but may not create the role.
    service.get("/readyz").await.problem(503);
    let may = "SELECT datconnlimit, has_database_privilege('other', oid, 'CONNECT') FROM pg_database WHERE datname = 'dob_api'";
    superuser.query_one(may, &[]).await.expect("the database is there");
    superuser.batch_execute("ALTER ROLE operator CREATEROLE").await.unwrap();
    assert_eq!(service.get("/readyz").await.status, 200, "{}", service.log());
    let row = superuser.query_one(may, &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), (-1, false), "its connection limit, and whether others may connect");
}
