//! Ports for servers that only this machine uses.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Above the registered services, below the ports that Linux gives to clients.
const SERVER_PORTS: Range<u16> = 20_000..32_000;

/// A port that nothing listens on. It lies below those that the kernel gives to clients, so that no connection takes it
/// before a server does, and is another one at every call.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(SERVER_PORTS.end - SERVER_PORTS.start);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    let mut candidates = (0..count).map(|_| {
        let offset = std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        SERVER_PORTS.start + (offset % count) as u16
    });
    candidates.find(is_free).context("every port of a server is taken")
}
