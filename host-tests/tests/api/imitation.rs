//! The imitation of Spin behaves as Spin does, faults included.

use crate::helpers::*;
use anyhow::ensure;
use dob_spin::{App, Build, HostCall, Options, PgError};
use dob_support::{allow_open_files, end_within, eventually};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn the_well_known_path_is_spins_own() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        app.service.faults.take_calls();
        let health = app.service.get("/.well-known/spin/health").await;
        assert_eq!((health.status, health.body.as_str()), (200, "OK"));
        assert_eq!(health.header("cache-control"), None, "the host answers this without the component");
    });
}

#[test]
fn a_header_that_is_not_utf8_is_a_500_and_a_missing_host_closes_the_connection() {
    let app = TestApp::new();
    let not_utf8 = app.service.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: \xff\r\nConnection: close\r\n\r\n");
    assert!(not_utf8.starts_with("HTTP/1.1 500 "), "{not_utf8}");
    assert_eq!(app.service.raw(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"), "");
}

#[test]
fn a_thousand_unfinished_bodies_occupy_all_instances_of_wasi_0_2_and_few_of_0_3() {
    allow_open_files().unwrap();
    let app = TestApp::new();
    // With an instance for each of them, Spin answers the next request itself.
    let (status, body) = match Build::chosen().unwrap() {
        Build::Wasi02 => (500, ""),
        Build::Wasi03 => (200, "{\"status\":\"alive\"}"),
    };
    // Each instance waits for the rest of a body, which does not come in time.
    let clients: Vec<_> = (0..1000).map(|_| TcpStream::connect(app.service.server.address).unwrap()).collect();
    for mut client in &clients {
        client.write_all(b"PUT /hello/john HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n{").unwrap();
    }
    app.runtime.block_on(async {
        app.service.until("GET", "/healthz", status).await;
        assert_eq!(app.service.get("/healthz").await.body, body);
    });
    // The clients stay connected; the component gives up waiting for their bodies.
    for mut client in &clients {
        let mut status = [0; "HTTP/1.1 408".len()];
        client.set_read_timeout(Some(HANGS_AFTER)).unwrap();
        client.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 408");
    }
    app.runtime.block_on(app.service.until("GET", "/healthz", 200));
}

#[test]
fn a_planted_error_reaches_the_component_once() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let service = &app.service;
        service.faults.fail_next(HostCall::Query, PgError::Other("planted".to_owned()));
        service.get("/hello/john").await.problem(503);
        assert!(service.log().contains("planted"), "{}", service.log());
        service.get("/hello/john").await.problem(404);
    });
}

#[test]
fn a_trap_ends_the_requests_of_its_instance_and_no_others() {
    // With WASI 0.2, the instance that traps has this one request, and the save ends when PostgreSQL gives up its wait for the lock.
    let expected = match Build::chosen().unwrap() {
        Build::Wasi02 => 503,
        Build::Wasi03 => 500,
    };
    let app = TestApp::new();
    app.runtime.block_on(async {
        let (service, superuser) = (&app.service, app.database.client("dob_api").await.unwrap());
        service.put("john", "1990-05-20").await;
        superuser
            .batch_execute("BEGIN; SELECT FROM dob_api.birthday WHERE username = 'john' FOR UPDATE")
            .await
            .unwrap();
        service.faults.take_calls();
        let trap = async {
            eventually("the save has a connection", HANGS_AFTER, async || {
                ensure!(!service.faults.take_calls().is_empty(), "it has called nothing");
                Ok(())
            })
            .await
            .unwrap();
            service.faults.trap_next_drop();
            service.get("/hello/john").await;
        };
        let (save, ()) = tokio::join!(service.put("john", "1990-05-21"), trap);
        assert_eq!(save.status, expected, "{save:?}");
        superuser.batch_execute("ROLLBACK").await.unwrap();
        service.assert_serves().await;
    });
}

#[test]
fn an_answer_that_no_statement_can_have_is_a_500() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let service = &app.service;
        service.faults.fail_next(HostCall::Execute, PgError::ValueConversionFailed("planted".to_owned()));
        let answer = service.put("john", "1990-05-20").await;
        answer.problem(500);
        let id = answer.header("x-request-id").expect("the id to look for in the log").to_owned();
        assert!(service.log().contains(&format!("\"request_id\":\"{id}\"")), "{}", service.log());
        service.faults.fail_next(HostCall::Execute, PgError::ValueConversionFailed("planted".to_owned()));
        let next = service.put("john", "1990-05-20").await;
        assert_ne!(next.header("x-request-id"), Some(&*id), "every request has its own");
    });
}

#[test]
fn a_log_that_cannot_be_written_prevents_no_answer() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let service = &app.service;
        service.fill_log();
        service.faults.fail_next(HostCall::Query, PgError::Other("planted".to_owned()));
        service.get("/hello/john").await.problem(503);
        assert!(!service.log().contains("planted"), "the log had room");
    });
}

#[test]
fn an_application_without_its_required_variables_does_not_start() {
    let error = App::load(&manifest(), Options::default()).err().expect("no host and no password").to_string();
    assert_eq!(error, "set the required variables pg_host_a, pg_password");
}

#[test]
fn a_host_at_its_limit_of_open_files_ends_and_says_how_to_raise_it() {
    let app = TestApp::new();
    let host = HostProcess::command("127.0.0.1:0", app.database.variables("dob_api"));
    let mut few = Command::new("sh");
    few.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(host.get_program()).args(host.get_args());
    few.envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))));
    few.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut host = HostProcess::spawn(few);
    let clients: Vec<_> = (0..64).map_while(|_| TcpStream::connect(&host.address).ok()).collect();
    let status = end_within(HANGS_AFTER, "the host", &mut host.process.0).unwrap();
    assert_eq!(status.code(), Some(1));
    let mut words = String::new();
    host.process.0.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert!(words.contains("can't accept a connection") && words.contains("`ulimit -n`"), "{words}");
    drop(clients);
}

#[test]
fn a_signal_ends_the_process_at_once_with_requests_in_flight() {
    let app = TestApp::new();
    let mut host = HostProcess::start(app.database.variables("dob_api"), &[]);
    let mut client = TcpStream::connect(&host.address).unwrap();
    client.write_all(b"PUT /hello/john HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n").unwrap();
    client.write_all(b"{").unwrap();
    Command::new("kill").arg(host.process.id().to_string()).status().unwrap();
    assert!(
        !end_within(HANGS_AFTER, "the host", &mut host.process.0).unwrap().success(),
        "ended by the signal, not by itself"
    );
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert_eq!(answer, b"", "the request was cut");
}

#[test]
fn as_many_instances_as_there_can_be_stay_within_the_memory_of_a_pod() {
    let app = TestApp::new();
    allow_open_files().unwrap();
    let host = HostProcess::start(app.database.variables("dob_api"), &[]);
    // Spin keeps the memory that an instance has touched after the instance ends.
    let mut slow: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let mut client = TcpStream::connect(&host.address).unwrap();
            client.set_read_timeout(Some(HANGS_AFTER)).unwrap();
            client.write_all(b"PUT /hello/john HTTP/1.1\r\nhost: x\r\ncontent-length: 28\r\n\r\n{").unwrap();
            client
        })
        .collect();
    for client in &mut slow {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", host.process.id())).unwrap();
    let peak: u64 = number_in(status.lines().find(|line| line.starts_with("VmHWM:")).expect("the peak of its memory"));
    let api = fs::read_to_string(dob_support::project_file("k8s/base/api.yaml")).unwrap();
    let (_, limits) = api.split_once("limits:").expect("limits of a pod");
    let limit: u64 = number_in(limits.trim().lines().next().expect("its memory"));
    assert!(peak < limit * 1024, "{peak} KiB, and a pod has {limit} MiB");
}

fn number_in(text: &str) -> u64 {
    text.chars().filter(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}
