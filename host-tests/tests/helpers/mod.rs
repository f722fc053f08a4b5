//! Helpers of the tests: the built component, served as by Spin, with a real PostgreSQL.

use anyhow::Result;
use dob_postgresql::Database;
use dob_spin::{Build, Clock, Faults, Manifest, Options, Server, VARIABLE_PREFIX};
use dob_support::{Process, eventually, free_port};
use futures_util::future::join_all;
use reqwest::{Client, Method};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wasmtime_wasi::p2::OutputStream;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

/// The contract's limit for an answer when the database is gone.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A test fails after this time instead of waiting for an answer without a limit.
pub const HANGS_AFTER: Duration = Duration::from_secs(30);

/// The text that the host prints before its address.
const SERVING: &str = "Serving http://";

/// A connection that is quiet for this long has no more answers.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// Settings that make a throwaway server fast. It needs no durability, because tests kill processes, never the machine.
pub const FAST: &[&str] = &["fsync=off", "max_connections=250", "shared_buffers=32MB"];

/// A temporary directory that PostgreSQL's own user may enter.
pub fn temporary_directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("dob-test-").tempdir().expect("a directory for temporary files");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    directory
}

/// A new, running server on `host`.
pub async fn database(directory: &TempDir, host: Ipv4Addr) -> Result<Database> {
    let address = SocketAddr::new(host.into(), free_port()?);
    let mut database = Database::create(&directory.path().join("primary"), address, "super-secret", FAST)?;
    database.start().await?;
    Ok(database)
}

/// A client that ignores proxies in the environment.
pub fn client() -> Client {
    Client::builder().no_proxy().timeout(HANGS_AFTER).build().expect("a client")
}

/// This project's manifest, for the tested build.
pub fn manifest() -> Manifest {
    Manifest::of_project().expect("the project's manifest")
}

/// The service as a client and an operator see it.
pub struct Service {
    pub server: Server,
    pub client: Client,
    pub clock: Clock,
    pub faults: Faults,
    log: MemoryOutputPipe,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
    pub took: Duration,
}

impl Service {
    /// Serves with these variables; the schema does not exist yet.
    pub async fn start(variables: BTreeMap<String, String>) -> Self {
        Self::start_with(variables, Faults::default()).await
    }

    pub async fn start_with(variables: BTreeMap<String, String>, faults: Faults) -> Self {
        let (log, clock) = (Options::log(), Clock::default());
        let options = Options { variables, clock: clock.clone(), faults: faults.clone(), stderr: Some(log.clone()) };
        let manifest = Build::chosen().expect("a build to test").manifest();
        let served = Server::serve(&manifest, options, (Ipv4Addr::LOCALHOST, 0).into()).await;
        let server = served.expect("the component: `make component`");
        Self { server, client: client(), clock, faults, log }
    }

    /// Serves with these variables, and creates the schema.
    pub async fn ready(variables: BTreeMap<String, String>) -> Self {
        let service = Self::start(variables).await;
        let readyz = service.get("/readyz").await;
        assert_eq!(readyz.status, 200, "{readyz:?} {}", service.log());
        service
    }

    pub async fn request(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}{path}", self.server.url());
        let started = Instant::now();
        let response = self.client.request(method, url).body(body).send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.expect("a whole body");
        Answer { status, headers, body, took: started.elapsed() }
    }

    /// Sends raw bytes. Returns the answer when the server closes the connection or goes quiet.
    pub fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.server.address).expect("a connection");
        stream.set_read_timeout(Some(QUIET_FOR)).expect("a socket");
        stream.write_all(request).expect("a request is taken");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "").await
    }

    /// Saves a date as in the contract.
    pub async fn put(&self, user: &str, date: &str) -> Answer {
        self.request("PUT", &format!("/hello/{user}"), format!(r#"{{"dateOfBirth":"{date}"}}"#)).await
    }

    /// Sends a request (with a valid body, in case it saves), and checks that it is answered within the contract's limit.
    pub async fn request_within_limit(&self, method: &str, path: &str) -> Answer {
        let answer = self.request(method, path, r#"{"dateOfBirth":"1990-05-20"}"#).await;
        assert!(answer.took < ANSWER_WITHIN, "{method} {path}: {answer:?} {}", self.log());
        answer
    }

    /// Repeats a request until its answer has this status.
    pub async fn until(&self, method: &str, path: &str, status: u16) {
        let what = format!("{method} {path} is answered with {status}");
        let answered = eventually(&what, ANSWER_WITHIN, async || {
            let answer = self.request_within_limit(method, path).await;
            anyhow::ensure!(answer.status == status, "{answer:?} {}", self.log());
            Ok(())
        });
        answered.await.expect("in time");
    }

    /// Checks that saves and greetings succeed, on several of the pool's connections.
    pub async fn assert_serves(&self) {
        let answers = (0..8).map(|_| async {
            let saved = self.request_within_limit("PUT", "/hello/probe").await;
            (saved, self.request_within_limit("GET", "/hello/probe").await)
        });
        for (saved, greeted) in join_all(answers).await {
            assert_eq!((saved.status, greeted.status), (204, 200), "{saved:?} {greeted:?} {}", self.log());
        }
    }

    /// Sends this many requests at once, so that the host's pool holds several connections.
    pub async fn fill_pool(&self, connections: usize) {
        let answers = join_all((0..connections).map(|_| self.get("/hello/probe"))).await;
        assert!(answers.iter().all(|answer| answer.status < 500), "{answers:?}");
    }

    /// The component's log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.contents()).into_owned()
    }

    /// Fills the log, so that the component can't write to it.
    pub fn fill_log(&self) {
        let mut log = self.log.clone();
        let free = log.check_write().expect("an open pipe");
        log.write(vec![b' '; free].into()).expect("room for that much");
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that this is an error as in the contract. Returns its detail.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["type"].is_string() && problem["title"].is_string(), "{problem}");
        problem["detail"].as_str().expect("a detail").to_owned()
    }

    /// Checks that this is the 503 of an unavailable database.
    #[track_caller]
    pub fn assert_unavailable(&self) {
        self.problem(503);
        assert_eq!(self.header("retry-after"), Some("2"));
    }
}

/// The imitation of Spin as a process. Dropping it ends it.
pub struct HostProcess {
    pub process: Process,
    /// The address on which it listens.
    pub address: String,
}

impl HostProcess {
    /// Serves with these variables, and with other environment variables.
    pub fn start(variables: BTreeMap<String, String>, environment: &[(&str, &Path)]) -> Self {
        let mut host = Self::command("127.0.0.1:0", variables);
        host.envs(environment.iter().copied());
        Self::spawn(host)
    }

    /// The program that serves with these variables.
    pub fn command(listen: &str, variables: BTreeMap<String, String>) -> Command {
        let mut host = Command::new(env!("CARGO_BIN_EXE_dob-host"));
        host.envs(
            variables.into_iter().map(|(name, value)| (format!("{VARIABLE_PREFIX}{}", name.to_uppercase()), value)),
        );
        let manifest = Build::chosen().expect("a build to test").manifest();
        host.args(["serve", "--listen", listen, "--manifest"]).arg(manifest).stdout(Stdio::piped());
        host
    }

    /// Starts the program, and waits until it serves.
    pub fn spawn(mut host: Command) -> Self {
        let mut process = Process::spawn(&mut host, "cargo builds it").expect("the host");
        let printed = process.until_printed(SERVING, HANGS_AFTER).expect("the host serves");
        let address = printed.trim().strip_prefix(SERVING).expect("the address").to_owned();
        Self { process, address }
    }
}

/// A service with its own database and an empty schema, which tests may share.
pub struct TestApp {
    pub runtime: tokio::runtime::Runtime,
    pub service: Service,
    pub database: Database,
    _directory: TempDir,
}

impl TestApp {
    /// Starts it on its own runtime, so that it outlives the test that runs first.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let directory = temporary_directory();
        let (service, database) = runtime.block_on(async {
            let database = database(&directory, Ipv4Addr::LOCALHOST).await.expect("a server");
            (Service::ready(database.variables("dob_api")).await, database)
        });
        Self { runtime, service, database, _directory: directory }
    }
}
