//! A test's own network namespace, in which packets can be dropped.

use anyhow::{Context, Result};
use dob_support::{cmd, read};
use nix::sched::{CloneFlags, unshare};
use std::net::Ipv4Addr;

/// The network namespace of the thread that created it, and of the threads and processes that this one starts. The kernel removes it
/// when the last of them has ended.
pub struct Network(());

impl Network {
    /// Moves the calling thread into a new network that has a loopback interface and nothing else. Needs root.
    pub fn isolate() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("creating a network namespace needs root")?;
        read(&cmd!("ip", "link", "set", "lo", "up"))?;
        Ok(Self(()))
    }

    /// Drops every packet to and from a server silently.
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
        read(&cmd!("nft", rules)).map(drop)
    }

    /// Lets all packets pass again.
    pub fn restore(&self) -> Result<()> {
        read(&cmd!("nft", "flush", "ruleset")).map(drop)
    }
}
