//! The memory of an instance, and of a server under load.

use crate::cpu::children;
use crate::databases::Databases;
use crate::load::Turn;
use crate::servers::{Implementation, Server};
use crate::workload::{RequestType, SMALL, Settings};
use anyhow::{Context, Result, bail};
use dob_spin::Build;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The number of concurrent instances.
const INSTANCES: u64 = 200;
/// The number of connections for the peak.
pub const PEAK_CONNECTIONS: usize = 200;
/// How long to wait until the server's memory is stable.
const SETTLE: Duration = Duration::from_secs(1);
/// A save with an unfinished body. The instance waits for the rest longer than the measurement takes.
const UNFINISHED: &[u8] = b"PUT /hello/a HTTP/1.1\r\nhost: bench\r\ncontent-length: 30\r\n\r\n{\"dateOf";

/// Resident bytes per request in progress, including its connection's buffers.
pub async fn per_instance(databases: &Databases) -> Result<u64> {
    let server = Server::start(Implementation::Component(Build::Wasi02), &databases.variables(SMALL.users)?)?;
    server.client.get(server.url("/hello/aaaaaaa")).send().await?.error_for_status()?;
    let mut clients = (0..INSTANCES).map(|_| TcpStream::connect(server.address)).collect::<Result<Vec<_>, _>>()?;
    tokio::time::sleep(SETTLE).await;
    let before = resident(server.pid())?;
    for client in &mut clients {
        client.write_all(UNFINISHED)?;
    }
    tokio::time::sleep(SETTLE).await;
    let after = resident(server.pid())?;
    for client in &clients {
        client.set_nonblocking(true)?;
        if client.peek(&mut [0]).map_err(|error| error.kind()) != Err(ErrorKind::WouldBlock) {
            bail!("an instance did not wait for the rest of its body, so that its memory can't be measured");
        }
    }
    Ok(after.saturating_sub(before) / INSTANCES)
}

/// The most resident bytes of a server while it greets on many connections, for each build. The server is what runs in a pod.
pub async fn at_peak(databases: &Databases, settings: Settings) -> Result<Vec<(Build, u64)>> {
    let mut peaks = Vec::new();
    for build in [Build::Wasi02, Build::Wasi03] {
        let server = Server::start(Implementation::Component(build), &databases.variables(SMALL.users)?)?;
        let (users, seconds) = (SMALL.users, settings.seconds);
        let turn = Turn { request: RequestType::Greeting, users, connections: PEAK_CONNECTIONS, seed: 0, seconds };
        turn.on(&server, databases).await?;
        peaks.push((build, of_family(server.pid(), "VmHWM:")?));
    }
    Ok(peaks)
}

fn resident(pid: u32) -> Result<u64> {
    of_family(pid, "VmRSS:")
}

/// The sum over a process and its children, because `spin up` serves in a child. Memory that they share counts for each of them.
fn of_family(pid: u32, field: &'static str) -> Result<u64> {
    // A child that has ended meanwhile has no memory.
    let of_children: u64 = children(pid)?.into_iter().filter_map(|child| in_status(child, field).ok()).sum();
    Ok(in_status(pid, field)? + of_children)
}

fn in_status(pid: u32, field: &'static str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context(field)?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}
