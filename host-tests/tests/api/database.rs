//! The throwaway PostgreSQL: it really crashes, and a server that can't start fails at once.

use crate::helpers::*;
use dob_postgresql::{Database, Shutdown};
use std::net::Ipv4Addr;
use std::time::Instant;

#[tokio::test]
async fn a_crash_is_recovered_from_and_an_orderly_stop_is_not() {
    let directory = temporary_directory();
    let mut database = database(&directory, Ipv4Addr::LOCALHOST).await.unwrap();
    for (how, recovers) in [(Shutdown::Orderly, false), (Shutdown::Crash, true)] {
        database.stop(how).unwrap();
        database.start().await.unwrap();
        let log = std::fs::read_to_string(directory.path().join("primary/server.log")).unwrap();
        assert_eq!(log.contains("not properly shut down"), recovers, "{how:?}: {log}");
    }
}

#[tokio::test]
async fn a_server_that_ends_at_once_is_not_waited_for() {
    let directory = temporary_directory();
    let address = (Ipv4Addr::LOCALHOST, dob_support::free_port().unwrap()).into();
    let settings = ["shared_buffers=nonsense"];
    let mut database = Database::create(&directory.path().join("primary"), address, "super-secret", &settings).unwrap();
    let started = Instant::now();
    let error = database.start().await.unwrap_err().to_string();
    assert!(started.elapsed() < ANSWER_WITHIN, "{:?}", started.elapsed());
    assert!(error.contains("FATAL:") && error.contains("shared_buffers"), "{error}");
}
