//! A primary that fails, with a streaming replica.

use crate::helpers::*;
use dob_postgresql::{Database, Shutdown};
use dob_spin::Build;
use dob_support::eventually;
use nix::sys::signal::Signal;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PRIMARY: Ipv4Addr = Ipv4Addr::LOCALHOST;
pub const REPLICA: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A primary that takes this long is late enough for a replica to be asked as well, and early enough for its own answer to count.
const LATE: Duration = Duration::from_millis(100);
/// How long the primary may be silent before a replica's answer counts. Source: the HTTP contract.
const REPLICA_COUNTS_AFTER: Duration = Duration::from_millis(200);

/// A service with a primary and a streaming replica, which has caught up.
pub struct Pair {
    pub service: Service,
    pub primary: Database,
    replica: Database,
    _directory: TempDir,
}

impl Pair {
    pub async fn start() -> Self {
        Self::with_replica_list([REPLICA, PRIMARY]).await
    }

    /// The same with the replica list in this order.
    pub async fn with_replica_list(replica_hosts: [Ipv4Addr; 2]) -> Self {
        let [a, b] = replica_hosts;
        let directory = temporary_directory();
        let primary = database(&directory, PRIMARY).await.unwrap();
        let mut variables = primary.variables("dob_api");
        for (name, host) in [("pg_host_b", REPLICA), ("pg_replica_host_a", a), ("pg_replica_host_b", b)] {
            variables.insert(name.to_owned(), host.to_string());
        }
        let service = Service::start(variables).await;
        // The schema is created on the primary; the base backup copies it to the replica.
        assert_eq!(service.get("/readyz").await.status, 200, "{}", service.log());
        assert_eq!(service.put("john", "1990-05-20").await.status, 204);
        let mut replica = primary.replica(&directory.path().join("replica"), REPLICA, "replica").unwrap();
        replica.start().await.unwrap();
        Self { service, primary, replica, _directory: directory }
    }

    /// Waits until the replica has caught up with the primary.
    pub async fn caught_up(&self) {
        let superuser = self.primary.client("dob_api").await.unwrap();
        let lag = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()";
        let caught_up = eventually("the replica has replayed everything", ANSWER_WITHIN, async || {
            let streaming: i64 = superuser.query_one(lag, &[]).await?.get(0);
            anyhow::ensure!(streaming > 0, "it lags or does not stream");
            Ok(())
        });
        caught_up.await.unwrap();
    }

    /// Lets the replica fall behind: from now on it replays nothing.
    async fn replica_falls_behind(&self) {
        let superuser = self.replica.client("postgres").await.unwrap();
        superuser.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
        let paused = eventually("the replica replays nothing", ANSWER_WITHIN, async || {
            let state = superuser.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await?;
            anyhow::ensure!(state.get::<_, &str>(0) == "paused", "it has not paused");
            Ok(())
        });
        paused.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn greetings_continue_while_the_primary_is_stopped_and_saving_works_again_after_the_promotion() {
    let mut pair = Pair::start().await;
    pair.caught_up().await;
    let service = &pair.service;
    assert_eq!(service.get("/readyz").await.json()["replica"], "ready");

    let greetings = async {
        let mut greeted = 0;
        let started = Instant::now();
        while started.elapsed() < ANSWER_WITHIN {
            let answer = service.request_within_limit("GET", "/hello/john").await;
            assert_eq!(answer.status, 200, "greeting {greeted}: {answer:?} {}", service.log());
            greeted += 1;
        }
        greeted
    };
    let stopped = async {
        service.until("PUT", "/hello/john", 204).await;
        pair.primary.stop(Shutdown::Orderly).unwrap();
        service.request_within_limit("PUT", "/hello/john").await.assert_unavailable();
        let readyz = service.request_within_limit("GET", "/readyz").await;
        assert_eq!((readyz.status, readyz.json()["primary"].as_str()), (200, Some("not ready")));
    };
    let (greeted, ()) = tokio::join!(greetings, stopped);
    println!("{greeted} greetings, 0 failed, with the primary stopped");

    let promoted = pair.replica.client("postgres").await.unwrap();
    promoted.query_one("SELECT pg_promote()", &[]).await.unwrap();
    service.assert_serves().await;
    assert_eq!(service.get("/readyz").await.json()["primary"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn greetings_of_wasi_0_3_come_from_the_replica_while_the_primary_is_frozen() {
    if Build::chosen().unwrap() == Build::Wasi02 {
        // With WASI 0.2 a frozen server holds requests: see frozen_server_processes_hold_requests_of_wasi_0_2.
        return;
    }
    let pair = Pair::start().await;
    pair.caught_up().await;
    let service = &pair.service;
    pair.primary.signal_all(Signal::SIGSTOP).unwrap();
    for _ in 0..200 {
        let answer = service.request_within_limit("GET", "/hello/john").await;
        assert_eq!(answer.status, 200, "{answer:?} {}", service.log());
    }
    service.request_within_limit("PUT", "/hello/john").await.assert_unavailable();
    let readyz = service.request_within_limit("GET", "/readyz").await;
    assert_eq!((readyz.status, readyz.json()["primary"].as_str()), (200, Some("not ready")));
    pair.primary.signal_all(Signal::SIGCONT).unwrap();
    service.until("PUT", "/hello/john", 204).await;
    service.assert_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reads_its_own_date_as_long_as_the_primary_answers_in_time() {
    let pair = Pair::start().await;
    pair.caught_up().await;
    pair.replica_falls_behind().await;
    let service = &pair.service;
    let stale = service.get("/hello/john").await.body;
    assert_eq!(service.put("john", "1991-06-21").await.status, 204);
    let superuser = pair.primary.client("dob_api").await.unwrap();
    let greeted = eventually("a greeting that is held up on the primary is in time", HANGS_AFTER, async || {
        // After a greeting that was not in time, the replica answers until a probe reaches the primary.
        anyhow::ensure!(service.get("/hello/john").await.body != stale, "the replica still answers");
        superuser.batch_execute("BEGIN; LOCK TABLE dob_api.birthday").await?;
        let unlock = async {
            tokio::time::sleep(LATE).await;
            superuser.batch_execute("COMMIT").await
        };
        let (greeted, unlocked) = tokio::join!(service.get("/hello/john"), unlock);
        unlocked?;
        anyhow::ensure!(greeted.took < REPLICA_COUNTS_AFTER, "too late, because this machine is busy: {greeted:?}");
        Ok(greeted)
    });
    let greeted = greeted.await.unwrap();
    assert_eq!(greeted.status, 200, "{greeted:?} {}", service.log());
    assert_ne!(greeted.body, stale, "the replica's date");
    assert!(greeted.took >= LATE, "the lock did not hold it up: {greeted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_crashes_under_load_loses_no_greeting() {
    let mut pair = Pair::start().await;
    pair.caught_up().await;
    let service = &pair.service;
    let load = futures_util::future::join_all((0..16).map(|_| async {
        for _ in 0..200 {
            let answer = service.request_within_limit("GET", "/hello/john").await;
            assert_eq!(answer.status, 200, "{answer:?} {}", service.log());
        }
    }));
    let crash = async {
        service.until("PUT", "/hello/john", 204).await;
        pair.primary.stop(Shutdown::Crash).unwrap();
    };
    tokio::join!(load, crash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_server_behind_pooled_connections_is_left_for_the_new_primary() {
    let mut pair = Pair::start().await;
    pair.service.fill_pool(16).await;
    pair.caught_up().await;
    // Patroni would prevent this: the old primary keeps running, read-only, with its connections open.
    let old = pair.primary.client("postgres").await.unwrap();
    old.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    old.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    pair.replica.client("postgres").await.unwrap().query_one("SELECT pg_promote()", &[]).await.unwrap();
    pair.service.until("PUT", "/hello/john", 204).await;
    pair.service.assert_serves().await;
    let new = pair.replica.client("dob_api").await.unwrap();
    let saved = new.query("SELECT FROM dob_api.birthday WHERE username = 'probe'", &[]).await.unwrap();
    assert_eq!(saved.len(), 1, "saved on the new primary");
    pair.primary.stop(Shutdown::Orderly).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_replica_fails_no_request() {
    let mut pair = Pair::start().await;
    pair.replica.stop(Shutdown::Crash).unwrap();
    pair.service.assert_serves().await;
    let readyz = pair.service.request_within_limit("GET", "/readyz").await;
    // The last host of the replica list is the primary; greetings may come from any server.
    assert_eq!((readyz.status, readyz.json()["primary"].as_str()), (200, Some("ready")));
}
