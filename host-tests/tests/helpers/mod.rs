//! What the tests share: the built component, served as Spin serves it, on a real PostgreSQL.

use anyhow::Result;
use dob_host::database::{Database, free_port};
use dob_host::spin::{App, Clock, Faults, Manifest, Options, Server};
use reqwest::{Client, Method, Response};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

/// The contract's limit for an answer when the database is gone.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Settings that make a throwaway server fast; what a test stops or kills is a process, never the machine.
pub const FAST: &[&str] = &["fsync=off", "max_connections=250", "shared_buffers=32MB"];

/// A directory that is removed with all it holds.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let unique = format!("dob-test-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(unique.replace(['(', ')'], "-"));
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A new, running server on `host`.
pub async fn database(scratch: &Scratch, host: Ipv4Addr) -> Result<Database> {
    let address = SocketAddr::new(host.into(), free_port()?);
    let mut database = Database::create(&scratch.join("primary"), address, "super-secret", FAST)?;
    database.start().await?;
    Ok(database)
}

/// `spin.toml` of this project.
pub fn manifest() -> Manifest {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spin.toml");
    Manifest::read(&path).expect("the project's manifest")
}

/// The service as a client and an operator see it.
pub struct Service {
    pub server: Server,
    pub client: Client,
    pub clock: Clock,
    pub faults: Faults,
    log: MemoryOutputPipe,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Service {
    /// Serves with these variables; the schema is not made yet.
    pub async fn start(variables: BTreeMap<String, String>) -> Self {
        Self::start_with(variables, Faults::default()).await
    }

    pub async fn start_with(variables: BTreeMap<String, String>, faults: Faults) -> Self {
        let (log, clock) = (Options::log(), Clock::default());
        let options = Options { variables, clock: clock.clone(), faults: faults.clone(), stderr: Some(log.clone()) };
        let app = App::load(&manifest(), options).expect("the component: `make component`");
        let server = Server::start(app, (Ipv4Addr::LOCALHOST, 0).into()).await.expect("a free port");
        Self { server, client: Client::builder().no_proxy().build().unwrap(), clock, faults, log }
    }

    /// Serves with these variables and the schema made.
    pub async fn ready(variables: BTreeMap<String, String>) -> Self {
        let service = Self::start(variables).await;
        let readyz = service.get("/readyz").await;
        assert_eq!(readyz.status, 200, "{readyz:?} {}", service.log());
        service
    }

    pub async fn request(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}{path}", self.server.url());
        Answer::read(self.client.request(method, url).body(body).send().await.expect("an answer")).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "").await
    }

    /// Saves a date as the contract has it.
    pub async fn put(&self, user: &str, date: &str) -> Answer {
        self.request("PUT", &format!("/hello/{user}"), format!(r#"{{"dateOfBirth":"{date}"}}"#)).await
    }

    /// What the component has written to stderr so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.contents()).into_owned()
    }
}

impl Answer {
    async fn read(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.text().await.expect("a whole body") }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that this is an error as the contract wants it, and gives its detail.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["type"].is_string() && problem["title"].is_string(), "{problem}");
        problem["detail"].as_str().expect("a detail").to_owned()
    }
}
