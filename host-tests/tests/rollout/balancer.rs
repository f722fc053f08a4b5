//! The load balancer: haproxy balances connections, checks its targets' health and drains them, as an NLB does.

use crate::manifests::Manifests;
use anyhow::Result;
use dob_support::{Process, eventually, free_port};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

/// Targets at a time, those that are leaving included.
const SLOTS: usize = 16;
/// How long haproxy may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running balancer with nothing behind it at first.
pub struct Balancer {
    /// Where clients connect.
    pub address: SocketAddr,
    _process: Process,
    socket: PathBuf,
    free: Mutex<Vec<usize>>,
}

/// A place of a target.
#[derive(Debug, Clone, Copy)]
pub struct Slot(usize);

impl Balancer {
    /// Starts with the target group's health check.
    pub async fn start(scratch: &TempDir, manifests: &Manifests) -> Result<Self> {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
        let (socket, file) = (scratch.path().join("haproxy.sock"), scratch.path().join("haproxy.cfg"));
        let check = &manifests.health_check;
        let configuration = format!(
            "global
    stats socket {socket} mode 600 level admin
defaults
    mode tcp
    retries 0
    timeout connect 5s
    timeout client 5m
    timeout server 5m
    timeout check {timeout}ms
listen api
    bind {address}
    option httpchk
    http-check send meth GET uri {path} ver HTTP/1.1 hdr Host localhost
    default-server inter {period}ms rise {successes} fall {failures}
    server-template target 0-{last} 127.0.0.1:1 check disabled
",
            socket = socket.display(),
            timeout = check.timeout.as_millis(),
            path = check.path,
            period = check.period.as_millis(),
            successes = check.successes,
            failures = check.failures,
            last = SLOTS - 1,
        );
        std::fs::write(&file, configuration)?;
        let mut haproxy = Command::new("haproxy");
        let process = Process::spawn(haproxy.args(["-db", "-q", "-f"]).arg(&file), "`make test` installs it")?;
        let balancer = Self { address, _process: process, socket, free: Mutex::new((0..SLOTS).collect()) };
        eventually("haproxy answers", PATIENCE, async || balancer.ask("show info")).await?;
        Ok(balancer)
    }

    /// Takes a target in; it gets connections once it has passed the health check.
    pub fn register(&self, target: SocketAddr) -> Slot {
        let slot = self.free.lock().unwrap().pop().expect("a free slot");
        let server = format!("set server api/target{slot}");
        // haproxy takes what leaves maintenance for healthy: it must not get connections before it was checked.
        let commands = [
            format!("addr {} port {}", target.ip(), target.port()),
            "state drain".to_owned(),
            "health down".to_owned(),
            "state ready".to_owned(),
        ];
        let commands = commands.map(|command| format!("{server} {command}"));
        self.ask(&commands.join(";")).expect("haproxy registers a target");
        Slot(slot)
    }

    /// Whether a target gets connections.
    pub fn is_healthy(&self, Slot(slot): Slot) -> bool {
        let name = format!("target{slot}");
        let table = self.ask("show stat").expect("haproxy's state");
        let status = |line: &str| {
            let fields: Vec<_> = line.split(',').collect();
            (fields.get(1) == Some(&name.as_str())).then(|| fields[17].to_owned())
        };
        table.lines().find_map(status).is_some_and(|status| status.starts_with("UP"))
    }

    /// Gives a target no more new connections; it keeps those that it has.
    pub fn drain(&self, Slot(slot): Slot) {
        self.ask(&format!("set server api/target{slot} state drain")).expect("haproxy drains a target");
    }

    /// Forgets a target.
    pub fn deregister(&self, Slot(slot): Slot) {
        self.ask(&format!("set server api/target{slot} state maint")).expect("haproxy forgets a target");
        self.free.lock().unwrap().push(slot);
    }

    fn ask(&self, command: &str) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(format!("{command}\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
