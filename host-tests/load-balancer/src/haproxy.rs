//! haproxy, which balances connections over slots. Slots are filled and emptied while it runs.

use crate::targets::Traffic;
use anyhow::{Context, Result, bail, ensure};
use dob_support::{Process, eventually};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The most targets at a time, draining ones included.
const SLOTS: usize = 64;
/// How long haproxy may take to start, and to answer a command.
const PATIENCE: Duration = Duration::from_secs(10);

/// The content of haproxy's slots. The caller owns the process.
pub(crate) struct Haproxy {
    socket: PathBuf,
    slots: [Option<(SocketAddr, Traffic)>; SLOTS],
}

impl Haproxy {
    /// Starts it without targets, with its files in an existing directory.
    pub async fn start(directory: &Path, listen: SocketAddr) -> Result<(Process, Self)> {
        let (socket, file) = (directory.join("haproxy.sock"), directory.join("haproxy.cfg"));
        let configuration = configuration(&socket, listen);
        std::fs::write(&file, configuration).with_context(|| format!("can't write {}", file.display()))?;
        let mut haproxy = Command::new("haproxy");
        let process = Process::spawn(haproxy.args(["-db", "-q", "-f"]).arg(&file), "`make test` installs it")?;
        let haproxy = Self { socket, slots: [None; SLOTS] };
        eventually("haproxy answers", PATIENCE, async || haproxy.ask("show info").await).await?;
        Ok((process, haproxy))
    }

    /// Applies the wanted connections, and cuts those of targets that are no longer wanted.
    pub async fn apply(&mut self, wanted: &BTreeMap<SocketAddr, Traffic>) -> Result<()> {
        for slot in 0..SLOTS {
            if self.slots[slot].is_some_and(|(address, _)| !wanted.contains_key(&address)) {
                self.empty(slot).await?;
            }
        }
        let mut without_slot = 0;
        for (address, traffic) in wanted {
            let holds = |target: &Option<(SocketAddr, Traffic)>| target.is_some_and(|(other, _)| other == *address);
            match self.slots.iter().position(holds).or_else(|| self.slots.iter().position(Option::is_none)) {
                Some(slot) => self.fill(slot, *address, *traffic).await?,
                None => without_slot += 1,
            }
        }
        ensure!(without_slot == 0, "haproxy's {SLOTS} slots are full and {without_slot} more are needed: raise SLOTS");
        Ok(())
    }

    async fn fill(&mut self, slot: usize, address: SocketAddr, traffic: Traffic) -> Result<()> {
        if self.slots[slot] == Some((address, traffic)) {
            return Ok(());
        }
        if self.slots[slot].is_none() {
            let (ip, port) = (address.ip(), address.port());
            self.tell(&format!("set server targets/target{slot} addr {ip} port {port}")).await?;
        }
        let state = if traffic == Traffic::New { "ready" } else { "drain" };
        self.tell(&format!("set server targets/target{slot} state {state}")).await?;
        self.slots[slot] = Some((address, traffic));
        Ok(())
    }

    async fn empty(&mut self, slot: usize) -> Result<()> {
        self.tell(&format!("set server targets/target{slot} state maint")).await?;
        self.tell(&format!("shutdown sessions server targets/target{slot}")).await?;
        self.slots[slot] = None;
        Ok(())
    }

    /// Runs a command. On success haproxy's answer is empty, or confirms a server's new address.
    async fn tell(&self, command: &str) -> Result<()> {
        let answer = self.ask(command).await?;
        match answer.trim() {
            answer if answer.is_empty() || answer.ends_with("by 'stats socket command'") => Ok(()),
            refusal => bail!("haproxy refuses \"{command}\": {refusal}"),
        }
    }

    async fn ask(&self, command: &str) -> Result<String> {
        let asked = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(format!("{command}\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(PATIENCE, asked).await;
        let answer = answer.with_context(|| format!("haproxy does not answer \"{command}\" within {PATIENCE:?}"))?;
        answer.with_context(|| format!("can't connect to haproxy at {}: has it ended?", self.socket.display()))
    }
}

/// The configuration. A connection stays with its target, and is closed after 350 s without a byte, as on AWS.
fn configuration(socket: &Path, listen: SocketAddr) -> String {
    format!(
        "global
    stats socket {socket} mode 600 level admin
defaults
    mode tcp
    retries 0
    timeout connect 5s
    timeout client 350s
    timeout server 350s
frontend load-balancer
    bind {listen}
    default_backend targets
backend targets
    balance roundrobin
    server-template target 0-{last} 127.0.0.1:1 disabled
",
        socket = socket.display(),
        last = SLOTS - 1,
    )
}
