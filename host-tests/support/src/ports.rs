//! Free ports for servers on this machine.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Above most registered services, below Linux's ephemeral ports.
const SERVER_PORTS: Range<u16> = 20_000..32_000;

/// A port on which nothing listens. It is no ephemeral port, so that no outgoing connection can take it before a server does. Each
/// call returns another one.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(SERVER_PORTS.end - SERVER_PORTS.start);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    let mut candidates = (0..count).map(|_| {
        let offset = std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        SERVER_PORTS.start + (offset % count) as u16
    });
    candidates.find(is_free).context("every port for servers is in use")
}
