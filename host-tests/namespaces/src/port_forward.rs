//! A way into a run's network for the caller's shell: a socket that listens outside, and leads to an address inside.

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A listening port of the machine's own loopback whose connections lead inside. Dropping it closes it.
pub struct PortForward(JoinHandle<()>);

impl PortForward {
    /// Listens on a port before the run is entered: a socket belongs to the network in which it was made. The variable tells the
    /// inner process which open file it is.
    pub fn reserve(variable: &str, port: u16) -> Result<()> {
        let address = (Ipv4Addr::LOCALHOST, port);
        let listener = TcpListener::bind(address).with_context(|| {
            format!("can't listen on 127.0.0.1:{port}: end what listens there, perhaps another run of this")
        })?;
        fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
        // SAFETY: no other thread of this process reads the environment while it prepares to enter.
        unsafe { std::env::set_var(variable, listener.as_raw_fd().to_string()) };
        // It stays open until the process that was entered ends.
        let _ = listener.into_raw_fd();
        Ok(())
    }

    /// Lets connections to the reserved port through to an address inside.
    pub fn open(variable: &str, target: SocketAddr) -> Result<Self> {
        let file = std::env::var(variable).with_context(|| format!("{variable} names no open file"))?.parse()?;
        // SAFETY: the outer process left this file open for this one, which takes it once.
        let listener = unsafe { TcpListener::from_raw_fd(file) };
        // What this process starts has no business with it.
        fcntl(&listener, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(Self(tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // A connection that breaks is the two ends' business.
                    if let Ok(mut server) = TcpStream::connect(target).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        })))
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        self.0.abort();
    }
}
