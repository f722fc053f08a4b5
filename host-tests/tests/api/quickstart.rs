//! `make run`, from the first start to the second, and every way it can be refused.

use crate::helpers::*;
use dob_support::{Process, end_within, eventually, free_port};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// `make run`'s program on a free port, with its data in `data`.
fn run(data: &Path, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dob-host"));
    command.env_remove("DATABASE_URL").env_remove("RUST_BACKTRACE").arg("run").arg("--data").arg(data);
    command.arg("--listen").arg(format!("127.0.0.1:{port}"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts it and gives all that it prints until it is ready.
fn ready(mut command: Command) -> (Process, String) {
    let mut child = Process::spawn(&mut command, "cargo builds it").unwrap();
    let printed = child.until_printed("Ctrl-C stops everything", HANGS_AFTER).unwrap();
    (child, printed)
}

/// Ends it as Ctrl-C does.
fn interrupt(mut child: Process) {
    Command::new("kill").args(["-INT", &child.0.id().to_string()]).status().unwrap();
    assert!(end_within(HANGS_AFTER, "make run", &mut child.0).unwrap().success());
}

/// The one sentence with which it refuses to start.
fn refused(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(!status.success());
    let words = String::from_utf8(stderr).unwrap();
    assert!(!words.contains("panicked"), "{words}");
    words
}

#[tokio::test]
async fn the_data_stays_between_runs_and_nothing_goes_on_running() {
    let (scratch, port) = (directory(), free_port().unwrap());
    let url = format!("http://127.0.0.1:{port}/hello/John");
    let (first, printed) = ready(run(scratch.path(), port));
    assert!(printed.contains(&format!("curl -i {url}")), "{printed}");
    let saved = reqwest::Client::new().put(&url).body(r#"{"dateOfBirth":"1990-05-20"}"#).send().await.unwrap();
    assert_eq!(saved.status(), 204);
    interrupt(first);
    assert!(!scratch.path().join("postgres/data/postmaster.pid").exists(), "PostgreSQL is stopped");

    let (second, printed) = ready(run(scratch.path(), port));
    assert!(!printed.contains("Making a database"), "{printed}");
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
    interrupt(second);
}

#[tokio::test]
async fn a_database_url_is_used_instead() {
    let scratch = directory();
    let database = database(&scratch, Ipv4Addr::LOCALHOST).await.unwrap();
    let mut command = run(&scratch.path().join("unused"), free_port().unwrap());
    command.env("DATABASE_URL", format!("postgres://postgres:super-secret@{}/mine", database.address));
    let (child, _) = ready(command);
    interrupt(child);
    assert!(!scratch.path().join("unused").exists());
    database.client("mine").await.unwrap().query("SELECT FROM dob_api.birthday", &[]).await.unwrap();
}

#[test]
fn a_port_in_use_is_said_before_anything_is_started() {
    let scratch = directory();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let words = refused(run(&scratch.path().join("data"), port));
    assert!(words.contains(&format!("can't listen on 127.0.0.1:{port}: stop what listens there")), "{words}");
    assert!(!scratch.path().join("data").exists());
}

#[test]
fn a_broken_data_directory_is_one_sentence() {
    let scratch = directory();
    let (child, _) = ready(run(scratch.path(), free_port().unwrap()));
    interrupt(child);
    std::fs::remove_file(scratch.path().join("postgres/data/global/pg_control")).unwrap();
    let words = refused(run(scratch.path(), free_port().unwrap()));
    assert!(words.contains("to start with an empty database") && words.contains("pg_control"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
}

#[test]
fn a_database_url_that_leads_nowhere_is_one_sentence() {
    let scratch = directory();
    for (url, expected) in [
        ("nonsense", "DATABASE_URL must look like postgres://user:password@host:5432/database"),
        ("postgres://user:secret@127.0.0.1:1/x", "the database can't be prepared"),
    ] {
        let mut command = run(scratch.path(), free_port().unwrap());
        let words = refused({
            command.env("DATABASE_URL", url);
            command
        });
        assert!(words.contains(expected), "{words}");
        assert!(!words.contains("secret"), "{words}");
    }
}

#[tokio::test]
async fn a_process_that_is_killed_leaves_no_server_behind() {
    let scratch = directory();
    let (child, _) = ready(run(scratch.path(), free_port().unwrap()));
    drop(child);
    let stopped = eventually("PostgreSQL is stopped", ANSWER_WITHIN, async || {
        anyhow::ensure!(!scratch.path().join("postgres/data/postmaster.pid").exists(), "it has its pid file");
        Ok(())
    });
    stopped.await.unwrap();
}
