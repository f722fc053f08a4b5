//! The data plane with haproxy, and servers of this machine as targets.

use crate::data_plane::DataPlane;
use crate::haproxy::Haproxy;
use crate::settings::{HealthCheck, Settings};
use crate::targets::{State, Target, Traffic};
use anyhow::{Context, Result, ensure};
use dob_support::{eventually, free_port};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const LAG: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_secs(1);

/// A server that answers every request with its name, and its health check as the test wants.
struct Pod {
    address: SocketAddr,
    is_well: Arc<AtomicBool>,
}

impl Pod {
    async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let pod = Self { address: listener.local_addr().unwrap(), is_well: Arc::new(true.into()) };
        let is_well = pod.is_well.clone();
        tokio::spawn(async move {
            loop {
                tokio::spawn(serve(listener.accept().await.unwrap().0, name, is_well.clone()));
            }
        });
        pod
    }

    fn is_well(&self, is_well: bool) {
        self.is_well.store(is_well, Ordering::SeqCst);
    }
}

async fn serve(mut stream: TcpStream, name: &'static str, is_well: Arc<AtomicBool>) -> Result<()> {
    loop {
        let request = read_until(&mut stream, "\r\n\r\n").await?;
        let status = if request.starts_with("GET /health ") && !is_well.load(Ordering::SeqCst) { 503 } else { 200 };
        let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n{name}\n", name.len() + 1);
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn read_until(stream: &mut TcpStream, end: &str) -> Result<String> {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(stream.read_u8().await?.into());
    }
    Ok(text)
}

/// One connection through the load balancer.
struct Client(TcpStream);

impl Client {
    /// Sends a request; returns the name of the pod that answers.
    async fn ask(&mut self) -> Result<String> {
        let asked = async {
            self.0.write_all(b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n").await?;
            read_until(&mut self.0, "\r\n\r\n").await?;
            Ok(read_until(&mut self.0, "\n").await?.trim().to_owned())
        };
        timeout(PATIENCE, asked).await.context("no answer")?
    }
}

struct Fixture {
    data_plane: DataPlane,
    address: SocketAddr,
    _directory: TempDir,
}

impl Fixture {
    async fn start() -> Self {
        let health_check = HealthCheck {
            path: "/health".to_owned(),
            status: 200,
            interval: Duration::from_millis(20),
            timeout: PATIENCE,
            successes: 2,
            failures: 2,
        };
        let settings = Settings {
            health_check,
            registration_delay: Duration::from_millis(50),
            deregistration_lag: LAG,
            deregistration_delay: DELAY,
        };
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port().unwrap());
        let data_plane = DataPlane::start(directory.path(), address, settings).await.unwrap();
        Self { data_plane, address, _directory: directory }
    }

    /// A load balancer on which these pods are registered and healthy.
    async fn with(pods: &[&Pod]) -> Self {
        let fixture = Self::start().await;
        fixture.registers(pods);
        for pod in pods {
            fixture.becomes(pod, State::Healthy).await;
        }
        fixture
    }

    fn registers(&self, pods: &[&Pod]) {
        self.data_plane.endpoints().send_replace(pods.iter().map(|pod| pod.address).collect());
    }

    async fn becomes(&self, pod: &Pod, state: State) {
        let mut targets = self.data_plane.targets();
        let is_so =
            |targets: &Vec<Target>| targets.iter().any(|target| target.address == pod.address && target.state == state);
        timeout(PATIENCE, targets.wait_for(is_so)).await.expect("in time").expect("a running balancer");
    }

    async fn connect(&self) -> Result<Client> {
        Ok(Client(TcpStream::connect(self.address).await?))
    }

    /// The names of the pods that answer on this many new connections.
    async fn new_connections(&self, count: usize) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for _ in 0..count {
            names.insert(self.connect().await?.ask().await?);
        }
        Ok(names)
    }

    /// Waits until exactly these pods answer on new connections.
    async fn new_connections_reach(&self, names: &[&str]) {
        let expected = names.iter().map(|name| (*name).to_owned()).collect();
        let reached = eventually("new connections reach whom they should", PATIENCE, async || {
            let names = self.new_connections(8).await?;
            ensure!(names == expected, "they reach {names:?}");
            Ok(())
        });
        reached.await.unwrap();
    }

    /// Opens a connection to this pod.
    async fn connection_to(&self, name: &str) -> Client {
        let connected = eventually("a connection reaches the pod", PATIENCE, async || {
            let mut client = self.connect().await?;
            ensure!(client.ask().await? == name);
            Ok(client)
        });
        connected.await.unwrap()
    }
}

#[tokio::test]
async fn an_unhealthy_target_keeps_its_connections_and_when_all_are_unhealthy_all_get_new_ones() {
    let (one, two) = (Pod::start("one").await, Pod::start("two").await);
    let fixture = Fixture::with(&[&one, &two]).await;
    assert_eq!(fixture.new_connections(8).await.unwrap().len(), 2);
    let mut connection = fixture.connection_to("one").await;
    one.is_well(false);
    fixture.becomes(&one, State::Unhealthy).await;
    fixture.new_connections_reach(&["two"]).await;
    assert_eq!(connection.ask().await.unwrap(), "one");
    two.is_well(false);
    fixture.becomes(&two, State::Unhealthy).await;
    fixture.new_connections_reach(&["one", "two"]).await;
    two.is_well(true);
    fixture.new_connections_reach(&["two"]).await;
}

#[tokio::test]
async fn a_deregistered_target_gets_new_connections_then_keeps_its_own_then_loses_them() {
    let (old, new) = (Pod::start("old").await, Pod::start("new").await);
    let fixture = Fixture::with(&[&old, &new]).await;
    let mut connection = fixture.connection_to("old").await;
    let deregistered = Instant::now();
    fixture.registers(&[&new]);
    fixture.becomes(&old, State::Draining).await;
    assert_eq!(fixture.new_connections(8).await.unwrap().len(), 2);
    fixture.new_connections_reach(&["new"]).await;
    assert!(deregistered.elapsed() >= LAG, "{:?}", deregistered.elapsed());
    assert_eq!(connection.ask().await.unwrap(), "old");
    let cut = eventually("the connection is cut", PATIENCE, async || {
        ensure!(connection.ask().await.is_err(), "it serves");
        Ok(())
    });
    cut.await.unwrap();
    assert!(deregistered.elapsed() >= LAG + DELAY, "{:?}", deregistered.elapsed());
    assert_eq!(fixture.new_connections(8).await.unwrap(), ["new".to_owned()].into());
    assert_eq!(fixture.data_plane.targets().borrow().len(), 1);
}

#[tokio::test]
async fn a_full_connection_table_is_reported_and_keeps_its_connections() {
    let (fixture, pod) = (Fixture::start().await, Pod::start("first").await);
    let directory = tempfile::tempdir().unwrap();
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port().unwrap());
    let (_process, mut haproxy) = Haproxy::start(directory.path(), address).await.unwrap();
    let others = (0..64).map(|index| SocketAddr::new(Ipv4Addr::new(127, 0, 9, index).into(), 1));
    let wanted = std::iter::once((pod.address, Traffic::New)).chain(others.map(|address| (address, Traffic::Kept)));
    let error = haproxy.apply(&wanted.collect()).await.unwrap_err().to_string();
    assert_eq!(error, "haproxy's 64 slots are full and 1 more are needed: raise SLOTS");
    let fixture = Fixture { address, ..fixture };
    fixture.new_connections_reach(&["first"]).await;
}

#[tokio::test]
async fn dropping_a_balancer_ends_it() {
    let fixture = Fixture::start().await;
    drop(fixture.data_plane);
    assert!(TcpStream::connect(fixture.address).await.is_err());
}
