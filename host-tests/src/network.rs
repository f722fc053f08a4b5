//! A network of a test's own, in which packets can be dropped.

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// The network namespace of the thread that made it, and of the threads and processes that this one starts. It is gone
/// when the last of them is.
pub struct Network(());

impl Network {
    /// Moves the calling thread into a new network that has a loopback interface and nothing else. Needs root.
    pub fn isolate() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace takes root")?;
        run(Command::new("ip").args(["link", "set", "lo", "up"]), "")?;
        Ok(Self(()))
    }

    /// Drops every packet to and from a server, without telling either side.
    pub fn drop_packets(&self, host: Ipv4Addr, port: u16) -> Result<()> {
        let rules = format!(
            "table ip dob {{
                chain dropped {{
                    type filter hook input priority 0;
                    ip daddr {host} tcp dport {port} drop
                    ip saddr {host} tcp sport {port} drop
                }}
            }}"
        );
        run(Command::new("nft").args(["-f", "-"]), &rules)
    }

    /// Lets all packets pass again.
    pub fn restore(&self) -> Result<()> {
        run(Command::new("nft").args(["flush", "ruleset"]), "")
    }
}

fn run(command: &mut Command, input: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child =
        command.stdin(Stdio::piped()).spawn().with_context(|| format!("{name} is missing: `make setup`"))?;
    child.stdin.take().context("piped")?.write_all(input.as_bytes())?;
    if !child.wait()?.success() {
        bail!("{name} failed; its own words are above");
    }
    Ok(())
}
