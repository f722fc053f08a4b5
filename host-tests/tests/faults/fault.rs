//! Faults of a single server: stopped, killed, frozen, full, locked, misconfigured.

use crate::helpers::*;
use dob_postgresql::{Shutdown, give_to_system_user};
use dob_spin::{Build, Faults, HostCall};
use dob_support::eventually;
use futures_util::future::join_all;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The deadline of a step.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_database_that_is_away_is_503_and_recovers() {
    let mut app = TestApp::new();
    let TestApp { runtime, service, database, .. } = &mut app;
    runtime.block_on(async {
        database.stop(Shutdown::Orderly).unwrap();
        service.request_within_limit("GET", "/hello/john").await.assert_unavailable();
        service.request_within_limit("PUT", "/hello/john").await.assert_unavailable();
        service.request_within_limit("GET", "/readyz").await.assert_unavailable();
        assert_eq!(service.get("/healthz").await.status, 200);
        database.start().await.unwrap();
        service.assert_serves().await;
    });
}

#[test]
fn a_server_that_crashes_under_pooled_connections_recovers() {
    let mut app = TestApp::new();
    let TestApp { runtime, service, database, .. } = &mut app;
    runtime.block_on(async {
        service.fill_pool(16).await;
        database.stop(Shutdown::Crash).unwrap();
        service.request_within_limit("PUT", "/hello/john").await.assert_unavailable();
        database.start().await.unwrap();
        service.assert_serves().await;
        service.fill_pool(16).await;
    });
}

#[test]
fn a_connection_that_is_killed_during_its_statement_is_replaced_once() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let (service, superuser) = (&app.service, app.database.client("dob_api").await.unwrap());
        let observer = app.database.client("dob_api").await.unwrap();
        service.put("john", "1990-05-20").await;
        superuser.batch_execute("BEGIN; SELECT FROM dob_api.birthday FOR UPDATE").await.unwrap();
        let kill = async {
            let waiting = "SELECT pid FROM pg_stat_activity WHERE usename = 'dob_api' AND wait_event_type = 'Lock'";
            let pid = eventually("the save waits for the lock", PATIENCE, async || {
                Ok(observer.query_one(waiting, &[]).await?.get::<_, i32>(0))
            });
            let pid = pid.await.unwrap();
            superuser.batch_execute(&format!("SELECT pg_terminate_backend({pid}); COMMIT")).await.unwrap();
        };
        let (saved, ()) = tokio::join!(service.put("john", "1991-06-21"), kill);
        assert_eq!(saved.status, 204, "the statement was repeated: {}", service.log());
    });
}

#[test]
fn a_locked_row_is_503_when_the_lock_timeout_ends_and_all_64_connections_come_back() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let (service, superuser) = (&app.service, app.database.client("dob_api").await.unwrap());
        service.put("locked", "1991-06-21").await;
        superuser.batch_execute("BEGIN; SELECT FROM dob_api.birthday FOR UPDATE").await.unwrap();
        // On its own connection, because a transaction keeps its first snapshot of the activity.
        let observer = app.database.client("dob_api").await.unwrap();
        // Three times as many as there are connections, so that all connections stay busy for a while.
        let blocked = join_all((0..192).map(|_| service.request_within_limit("PUT", "/hello/locked")));
        let another = async {
            let taken = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'dob_api'";
            let all_taken = eventually("64 connections are taken", PATIENCE, async || {
                let taken: i64 = observer.query_one(taken, &[]).await?.get(0);
                anyhow::ensure!(taken >= 64, "{taken} are");
                Ok(())
            });
            all_taken.await.unwrap();
            service.request_within_limit("GET", "/hello/locked").await
        };
        let (blocked, another) =
            timeout(PATIENCE, async { tokio::join!(blocked, another) }).await.expect("64 connections");
        assert_eq!(another.status, 200, "a greeting must wait for a connection and get one");
        blocked.iter().for_each(Answer::assert_unavailable);
        assert!(service.log().contains("\"sqlstate\":\"55P03\""), "{}", service.log());
        superuser.batch_execute("COMMIT").await.unwrap();
        service.assert_serves().await;
        let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'dob_api' AND state <> 'idle'";
        assert_eq!(
            superuser.query_one(open, &[]).await.unwrap().get::<_, i64>(0),
            0,
            "no connection is in a transaction"
        );
    });
}

#[test]
fn a_locked_table_is_503_for_everybody_and_recovers() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let (service, superuser) = (&app.service, app.database.client("dob_api").await.unwrap());
        superuser.batch_execute("BEGIN; LOCK TABLE dob_api.birthday").await.unwrap();
        service.request_within_limit("GET", "/hello/john").await.assert_unavailable();
        service.request_within_limit("PUT", "/hello/john").await.assert_unavailable();
        superuser.batch_execute("ROLLBACK").await.unwrap();
        service.assert_serves().await;
    });
}

#[test]
fn a_server_that_turns_read_only_under_pooled_connections_refuses_saves_and_recovers() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let (service, superuser) = (&app.service, app.database.client("dob_api").await.unwrap());
        service.put("john", "1990-05-20").await;
        service.fill_pool(8).await;
        superuser.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
        superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        // Pooled connections notice the reload at their next command.
        service.until("PUT", "/hello/john", 503).await;
        service.request_within_limit("PUT", "/hello/john").await.assert_unavailable();
        superuser.batch_execute("ALTER SYSTEM RESET ALL").await.unwrap();
        superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        service.until("PUT", "/hello/john", 204).await;
        service.assert_serves().await;
    });
}

#[test]
fn a_wrong_password_is_503_and_is_not_mentioned() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let mut variables = app.database.variables("dob_api");
        variables.insert("pg_password".to_owned(), "wr0ng-passw0rd".to_owned());
        variables.insert("pg_admin_user".to_owned(), String::new());
        let service = Service::start(variables).await;
        let answer = service.request_within_limit("GET", "/hello/john").await;
        answer.assert_unavailable();
        assert!(!answer.body.contains("password") && !answer.body.contains("127.0.0.1"), "{answer:?}");
        assert!(service.log().contains("password authentication failed"), "{}", service.log());
        assert!(!service.log().contains("wr0ng-passw0rd"), "{}", service.log());
    });
}

#[test]
fn a_missing_table_is_503_until_readyz_has_made_it() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let (service, superuser) = (&app.service, app.database.client("dob_api").await.unwrap());
        superuser.batch_execute("DROP SCHEMA dob_api CASCADE").await.unwrap();
        service.request_within_limit("GET", "/hello/john").await.assert_unavailable();
        service.request_within_limit("PUT", "/hello/john").await.assert_unavailable();
        assert!(service.log().contains("\"sqlstate\":\"42P01\""), "{}", service.log());
        assert_eq!(service.get("/readyz").await.status, 200);
        service.assert_serves().await;
    });
}

#[test]
fn a_full_disk_is_503_and_recovers() {
    // The mount is visible only to this thread and the server that it starts, and ends with them.
    unshare(CloneFlags::CLONE_NEWNS).expect("mounting a small disk needs root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let disk = temporary_directory();
    let small = disk.path().join("small");
    std::fs::create_dir_all(&small).unwrap();
    mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();
    give_to_system_user(&small).unwrap();
    let app = TestApp::new();
    app.runtime.block_on(async {
        let (service, superuser) = (&app.service, app.database.client("dob_api").await.unwrap());
        let tablespace = format!("CREATE TABLESPACE small LOCATION '{}'", small.display());
        superuser.batch_execute(&tablespace).await.unwrap();
        superuser.batch_execute("ALTER TABLE dob_api.birthday SET TABLESPACE small").await.unwrap();
        let full = async {
            for number in 0..10_000 {
                let letters: String =
                    format!("{number:05}").bytes().map(|digit| (digit - b'0' + b'a') as char).collect();
                let answer = service.put(&letters.repeat(50), "1990-05-20").await;
                if answer.status != 204 {
                    return answer;
                }
            }
            panic!("the disk never filled");
        };
        full.await.assert_unavailable();
        assert!(service.log().contains("\"sqlstate\":\"53100\""), "{}", service.log());
        assert_eq!(service.get("/hello/nobody").await.status, 404, "greetings are still answered");
        superuser.batch_execute("ALTER TABLE dob_api.birthday SET TABLESPACE pg_default").await.unwrap();
        service.assert_serves().await;
    });
    drop(app);
    umount2(&small, MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn frozen_server_processes_hold_requests_of_wasi_0_2_until_they_continue_and_those_of_0_3_until_the_limit() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let (service, database) = (&app.service, &app.database);
        service.put("john", "1990-05-20").await;
        database.signal_all(Signal::SIGSTOP).unwrap();
        let started = Instant::now();
        let asked = async {
            let (greeted, saved) = tokio::join!(service.get("/hello/john"), service.put("john", "1991-06-21"));
            [greeted, saved]
        };
        let thaw = async {
            tokio::time::sleep(ANSWER_WITHIN + ANSWER_WITHIN / 4).await;
            database.signal_all(Signal::SIGCONT).unwrap();
            started.elapsed()
        };
        let (answers, thawed) = tokio::join!(asked, thaw);
        match Build::chosen().unwrap() {
            // The only fault without a time limit: the kernel acknowledges packets, so that the host can't detect the frozen server.
            Build::Wasi02 => {
                assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 204], "{answers:?} {}", service.log());
                assert!(
                    answers.iter().all(|answer| answer.took >= thawed && answer.took < thawed + ANSWER_WITHIN),
                    "{answers:?}"
                );
            }
            Build::Wasi03 => answers.iter().for_each(|answer| {
                answer.assert_unavailable();
                assert!(answer.took < ANSWER_WITHIN, "{answer:?}");
            }),
        }
        service.until("PUT", "/hello/john", 204).await;
        service.assert_serves().await;
    });
}

#[test]
fn every_statement_works_despite_the_fault_of_spin_4_0_2() {
    let directory = temporary_directory();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let database = database(&directory, std::net::Ipv4Addr::LOCALHOST).await.unwrap();
        let faults = Faults::default().with_hanging_empty_query();
        let service = Service::start_with(database.variables("dob_api"), faults).await;
        service.faults.take_calls();
        assert_eq!(service.request_within_limit("GET", "/readyz").await.status, 200);
        assert_eq!(service.request_within_limit("GET", "/hello/john").await.status, 404);
        service.assert_serves().await;
        let calls = service.faults.take_calls();
        let queries: Vec<_> = calls.iter().filter(|(call, ..)| *call == HostCall::Query).collect();
        assert!(queries.len() >= 5, "{calls:?}");
        for (_, statement, rows) in queries {
            assert_eq!(*rows, Some(1), "{statement}");
        }
    });
}

#[test]
fn a_request_opens_one_connection_and_runs_one_statement() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let service = &app.service;
        let calls = async |method: &str, path: &str| {
            service.faults.take_calls();
            service.request_within_limit(method, path).await;
            service.faults.take_calls().into_iter().map(|(call, ..)| call).collect::<Vec<_>>()
        };
        assert_eq!(calls("PUT", "/hello/john").await, [HostCall::Open, HostCall::Execute]);
        let greeting = calls("GET", "/hello/john").await;
        // With WASI 0.3 the connection of the previous greeting may still be open.
        let kept = Build::chosen().unwrap() == Build::Wasi03 && greeting == [HostCall::Query];
        assert!(kept || greeting == [HostCall::Open, HostCall::Query], "{greeting:?}");
    });
}

#[test]
fn the_first_greetings_of_wasi_0_3_wait_for_one_connection() {
    if Build::chosen().unwrap() == Build::Wasi02 {
        // With WASI 0.2 each request has an instance and a connection of its own.
        return;
    }
    let app = TestApp::new();
    app.runtime.block_on(async {
        let (database, observer) = (&app.database, app.database.client("dob_api").await.unwrap());
        app.service.put("john", "1990-05-20").await;
        let connections = async || {
            let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'dob_api'";
            observer.query_one(count, &[]).await.unwrap().get::<_, i64>(0)
        };
        let fresh = &Service::start(database.variables("dob_api")).await;
        let before = connections().await;
        // A frozen server opens no connection, so all greetings come before there is one.
        database.signal_all(Signal::SIGSTOP).unwrap();
        let greetings = join_all((0..16).map(|number| async move {
            // Not all at once, because the host starts another instance if a request comes while the first one computes.
            tokio::time::sleep(Duration::from_millis(10) * number).await;
            fresh.request_within_limit("GET", "/hello/john").await
        }));
        let thaw = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            database.signal_all(Signal::SIGCONT).unwrap();
        };
        let (greetings, ()) = tokio::join!(greetings, thaw);
        assert!(greetings.iter().all(|answer| answer.status == 200), "{greetings:?} {}", fresh.log());
        // An instance serves 16 requests at once. On a busy machine, some of them still get a second or a third instance.
        let opened = connections().await - before;
        assert!((1..=3).contains(&opened), "16 greetings opened {opened} connections");
    });
}
