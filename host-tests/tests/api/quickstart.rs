//! `make run`: the first start, the second, and every error.

use crate::helpers::*;
use crate::tls;
use dob_spin::Build;
use dob_support::{Process, end_within, eventually, free_port};
use nix::unistd::User;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The program of `make run` on a port, with its data in `data`.
fn run(data: &Path, port: u16) -> Command {
    run_on(&format!("127.0.0.1:{port}"), data)
}

fn run_on(listen: &str, data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dob-host"));
    command.env_remove("DATABASE_URL").env_remove("RUST_BACKTRACE").arg("run").arg("--data").arg(data);
    command.arg("--listen").arg(listen);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts it, and returns its output until it is ready.
fn ready(mut command: Command) -> (Process, String) {
    let mut child = Process::spawn(&mut command, "cargo builds it").unwrap();
    let printed = child.until_printed("Ctrl-C stops everything", HANGS_AFTER).unwrap();
    (child, printed)
}

/// Ends it like Ctrl-C.
fn interrupt(mut child: Process) {
    Command::new("kill").args(["-INT", &child.0.id().to_string()]).status().unwrap();
    assert!(end_within(HANGS_AFTER, "make run", &mut child.0).unwrap().success());
}

/// Its error, a single sentence.
fn refused(mut command: Command) -> String {
    let mut child = Process::spawn(&mut command, "cargo builds it").unwrap();
    assert!(!end_within(HANGS_AFTER, "a start that must be refused", &mut child.0).unwrap().success());
    let mut words = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert!(!words.contains("panicked"), "{words}");
    words
}

#[tokio::test]
async fn the_data_stays_between_runs_and_no_process_does() {
    let (directory, port) = (temporary_directory(), free_port().unwrap());
    let url = format!("http://127.0.0.1:{port}/hello/John");
    let (first, printed) = ready(run(directory.path(), port));
    assert!(printed.contains(&format!("curl -i {url}")), "{printed}");
    let saved = client().put(&url).body(r#"{"dateOfBirth":"1990-05-20"}"#).send().await.unwrap();
    assert_eq!(saved.status(), 204);
    interrupt(first);
    assert!(!directory.path().join("postgres/data/postmaster.pid").exists(), "PostgreSQL is stopped");

    let mut with_empty_url = run(directory.path(), port);
    with_empty_url.env("DATABASE_URL", "");
    let (second, printed) = ready(with_empty_url);
    assert!(!printed.contains("Creating a database"), "{printed}");
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    interrupt(second);
}

#[tokio::test]
async fn a_database_url_is_used_instead() {
    let directory = temporary_directory();
    let database = database(&directory, Ipv4Addr::LOCALHOST).await.unwrap();
    let mut command = run(&directory.path().join("unused"), free_port().unwrap());
    command.env("DATABASE_URL", format!("postgres://postgres:super-secret@{}/mine", database.address));
    let (child, _) = ready(command);
    interrupt(child);
    assert!(!directory.path().join("unused").exists());
    database.client("mine").await.unwrap().query("SELECT FROM dob_api.birthday", &[]).await.unwrap();
}

/// A program that is started as Spin is. It writes down its arguments, and serves as the imitation.
fn stand_in_for_spin(directory: &Path) -> PathBuf {
    let program = directory.join("spin");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >'{}'\nexec '{}' serve --manifest \"$3\" --listen \"$5\"\n",
        directory.join("arguments").display(),
        env!("CARGO_BIN_EXE_dob-host")
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[tokio::test]
async fn the_program_that_spin_names_serves_and_ends_with_make_run() {
    let (directory, port) = (temporary_directory(), free_port().unwrap());
    let mut command = run(directory.path(), port);
    command.env("SPIN", stand_in_for_spin(directory.path()));
    let (child, _) = ready(command);
    let url = format!("http://127.0.0.1:{port}/hello/John");
    let saved = client().put(&url).body(r#"{"dateOfBirth":"1990-05-20"}"#).send().await.unwrap();
    let greeted = client().get(&url).send().await.unwrap();
    assert_eq!((saved.status().as_u16(), greeted.status().as_u16()), (204, 200));
    let arguments = fs::read_to_string(directory.path().join("arguments")).unwrap();
    let manifest = Build::chosen().unwrap().manifest();
    assert_eq!(arguments, format!("up --from {} --listen 127.0.0.1:{port}\n", manifest.display()));
    interrupt(child);
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it has ended, too");
}

#[test]
fn a_port_in_use_is_said_before_anything_is_started() {
    let directory = temporary_directory();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let words = refused(run(&directory.path().join("data"), port));
    assert!(words.contains(&format!("can't listen on 127.0.0.1:{port}: stop what listens there")), "{words}");
    assert!(!directory.path().join("data").exists());
}

#[test]
fn a_host_name_can_be_listened_on_and_an_invalid_address_is_one_sentence() {
    let (directory, port) = (temporary_directory(), free_port().unwrap());
    let (child, printed) = ready(run_on(&format!("localhost:{port}"), directory.path()));
    assert!(
        printed.contains(&format!("127.0.0.1:{port}/")) || printed.contains(&format!("[::1]:{port}/")),
        "{printed}"
    );
    interrupt(child);
    for listen in ["localhost", "3000", ":3000", "127.0.0.1:65536", "nosuch.invalid:3000"] {
        let words = refused(run_on(listen, directory.path()));
        assert!(words.contains("write a host of this machine and a port, such as localhost:3000"), "{words}");
    }
    let words = refused(run_on("192.0.2.1:3000", directory.path()));
    assert!(words.contains("can't listen on 192.0.2.1:3000: choose an address of this machine"), "{words}");
}

#[test]
fn a_port_that_needs_root_is_explained_to_another_user() {
    let directory = temporary_directory();
    let mut as_nobody = run(directory.path(), 1);
    as_nobody.uid(User::from_name("nobody").unwrap().unwrap().uid.as_raw());
    let words = refused(as_nobody);
    assert!(
        words.contains("can't listen on 127.0.0.1:1: choose a port from 1024 on, a lower one takes root"),
        "{words}"
    );
}

#[test]
fn a_strict_umask_of_root_does_not_lock_postgresql_out() {
    let directory = temporary_directory();
    let command = run(&directory.path().join("new"), free_port().unwrap());
    let mut closed = Command::new("sh");
    closed.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    closed.env_remove("DATABASE_URL").stdout(Stdio::piped());
    let (child, printed) = ready(closed);
    assert!(printed.contains(&format!("data in {}/new/postgres/data", directory.path().display())), "{printed}");
    interrupt(child);
}

#[test]
fn data_of_an_interrupted_first_run_is_created_again() {
    let directory = temporary_directory();
    // As after a run whose disk was full.
    fs::write(directory.path().join("postgres.password"), "").unwrap();
    // As after a power failure during initdb.
    fs::create_dir_all(directory.path().join("postgres/unfinished/base")).unwrap();
    let (child, _) = ready(run(directory.path(), free_port().unwrap()));
    interrupt(child);
    assert!(!directory.path().join("postgres/unfinished").exists());
}

#[test]
fn data_of_a_postgresql_that_is_gone_is_one_sentence() {
    let directory = temporary_directory();
    let (child, _) = ready(run(directory.path(), free_port().unwrap()));
    interrupt(child);
    fs::write(directory.path().join("postgres/data/PG_VERSION"), "9\n").unwrap();
    let words = refused(run(directory.path(), free_port().unwrap()));
    assert!(words.contains("to start with an empty database") && words.contains("install postgresql-9"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
}

#[test]
fn a_broken_data_directory_is_one_sentence() {
    let directory = temporary_directory();
    let (child, _) = ready(run(directory.path(), free_port().unwrap()));
    interrupt(child);
    fs::remove_file(directory.path().join("postgres/data/global/pg_control")).unwrap();
    let words = refused(run(directory.path(), free_port().unwrap()));
    assert!(words.contains("to start with an empty database") && words.contains("pg_control"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
}

#[tokio::test]
async fn a_second_run_on_the_same_data_is_refused_and_the_first_goes_on() {
    let (directory, port) = (temporary_directory(), free_port().unwrap());
    let (first, _) = ready(run(directory.path(), port));
    let started = Instant::now();
    let words = refused(run(directory.path(), free_port().unwrap()));
    assert!(started.elapsed() < ANSWER_WITHIN, "{:?}", started.elapsed());
    let pid_file = fs::read_to_string(directory.path().join("postgres/data/postmaster.pid")).unwrap();
    let server = format!("PostgreSQL (process {}) uses ", pid_file.lines().next().unwrap());
    assert!(words.starts_with(&server) && words.contains("DATA=DIRECTORY") && !words.contains("remove"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
    let readyz = client().get(format!("http://127.0.0.1:{port}/readyz")).send().await.unwrap();
    assert_eq!(readyz.status(), 200);
    interrupt(first);
}

#[test]
fn a_stale_pid_file_stops_neither_the_start_nor_the_process_that_has_its_number_now() {
    let directory = temporary_directory();
    let (first, _) = ready(run(directory.path(), free_port().unwrap()));
    interrupt(first);
    let data = directory.path().join("postgres/data");
    let owner = fs::metadata(&data).unwrap();
    let mut other = Command::new("sleep");
    other.arg("600").current_dir("/").uid(owner.uid()).gid(owner.gid());
    let mut other = Process::spawn(&mut other, "it is in coreutils").unwrap();
    fs::write(data.join("postmaster.pid"), format!("{}\n{}\n", other.id(), data.display())).unwrap();
    chown(data.join("postmaster.pid"), Some(owner.uid()), Some(owner.gid())).unwrap();
    let (second, _) = ready(run(directory.path(), free_port().unwrap()));
    interrupt(second);
    assert!(other.0.try_wait().unwrap().is_none(), "it still runs");

    // A zombie keeps its process id until its parent waits for it.
    let mut dead = Command::new("true").uid(owner.uid()).gid(owner.gid()).spawn().unwrap();
    fs::write(data.join("postmaster.pid"), format!("{}\n{}\n", dead.id(), data.display())).unwrap();
    chown(data.join("postmaster.pid"), Some(owner.uid()), Some(owner.gid())).unwrap();
    let (third, _) = ready(run(directory.path(), free_port().unwrap()));
    interrupt(third);
    assert!(dead.wait().unwrap().success());
}

#[test]
fn files_of_another_user_are_left_alone() {
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let directory = temporary_directory();
    let data = directory.path().join("postgres/data");
    let state = |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.mode())).unwrap();
    // A user creates the directory, then root uses it.
    fs::create_dir_all(&data).unwrap();
    for path in [&data, data.parent().unwrap(), directory.path()] {
        chown(path, Some(nobody.uid.as_raw()), None).unwrap();
    }
    let before = state(data.parent().unwrap());
    let words = refused(run(directory.path(), free_port().unwrap()));
    let path = data.parent().unwrap().display();
    assert!(words.starts_with(&format!("{path} belongs to nobody, and PostgreSQL would run as postgres")), "{words}");
    assert_eq!((words.lines().count(), state(data.parent().unwrap())), (1, before), "{words}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "there are no other files");

    // Root creates the directory, then a user uses it. Before PostgreSQL's user owns it, root may use it.
    let directory = temporary_directory();
    fs::create_dir(directory.path().join("postgres")).unwrap();
    let (child, _) = ready(run(directory.path(), free_port().unwrap()));
    interrupt(child);
    let mut as_nobody = run(directory.path(), free_port().unwrap());
    as_nobody.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    let words = refused(as_nobody);
    assert!(words.contains("postgres belongs to postgres, and PostgreSQL would run as nobody"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
    let (child, _) = ready(run(directory.path(), free_port().unwrap()));
    interrupt(child);
}

#[tokio::test]
async fn a_server_that_refuses_says_what_to_change_in_the_database_url() {
    let directory = temporary_directory();
    let certificate = tls::certificate(directory.path(), "snakeoil");
    let database = tls::server(&directory, &certificate).await;
    let run = |password: &str, options: &str| {
        let mut command = run(directory.path(), free_port().unwrap());
        command.env("DATABASE_URL", format!("postgres://postgres:{password}@{}/mine{options}", database.address));
        command
    };
    let words = refused(run("super-secret", ""));
    let last = words.lines().last().unwrap();
    assert!(last.contains("does not trust the certificate") && last.contains("?sslmode=disable"), "{words}");
    let words = refused(run("5%25", "?sslmode=disable"));
    let last = words.lines().last().unwrap();
    assert!(last.contains("refuses the password") && last.contains("%40 %3A %2F %25"), "{words}");

    interrupt(ready(run("super-secret", "?sslmode=disable")).0);
    let mut trusting = run("super-secret", "");
    trusting.env("SSL_CERT_FILE", certificate);
    interrupt(ready(trusting).0);
}

#[test]
fn a_database_url_that_leads_nowhere_is_one_sentence() {
    let directory = temporary_directory();
    let form = "DATABASE_URL must look like postgres://user:password@host:5432/database";
    for (url, expected) in [
        ("nonsense", form),
        ("postgres://user:top@secret@127.0.0.1:5432/x", "in a password like %40 %3A %2F %25"),
        ("postgres://user:%ff@127.0.0.1:5432/x", "in a password like %40 %3A %2F %25"),
        ("host=127.0.0.1 user=user password=top secret=1", form),
        ("postgres://user@127.0.0.1:5432/x?sslmode=verify-full", "invalid value for option `sslmode`"),
        ("postgres://user:secret@127.0.0.1:1/x", "the database can't be prepared"),
    ] {
        let mut command = run(directory.path(), free_port().unwrap());
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
    let directory = temporary_directory();
    let (child, _) = ready(run(directory.path(), free_port().unwrap()));
    drop(child);
    let stopped = eventually("PostgreSQL is stopped", ANSWER_WITHIN, async || {
        anyhow::ensure!(!directory.path().join("postgres/data/postmaster.pid").exists(), "it has its pid file");
        Ok(())
    });
    stopped.await.unwrap();
}
