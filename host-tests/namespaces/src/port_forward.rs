//! Port forwarding from the machine's own network into a run's network namespace.

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A port of the machine's loopback that is forwarded to an address inside the run's network. Dropping it closes the port.
pub struct PortForward(JoinHandle<()>);

impl PortForward {
    /// Listens on a port before the namespaces are entered, because a socket belongs to the network in which it was created. The variable
    /// tells the inner process the socket's file descriptor.
    pub fn reserve(variable: &str, port: u16) -> Result<()> {
        let address = (Ipv4Addr::LOCALHOST, port);
        let listener = TcpListener::bind(address).with_context(|| {
            format!("can't listen on 127.0.0.1:{port}: stop what listens there, perhaps another run of this")
        })?;
        fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
        // SAFETY: no other thread of this process reads the environment before the namespaces are entered.
        unsafe { std::env::set_var(variable, listener.as_raw_fd().to_string()) };
        // The inner process inherits it.
        let _ = listener.into_raw_fd();
        Ok(())
    }

    /// Forwards connections on the reserved port to an address inside.
    pub fn open(variable: &str, target: SocketAddr) -> Result<Self> {
        let file = std::env::var(variable).with_context(|| format!("{variable} names no open file"))?.parse()?;
        // SAFETY: the outer process left this file open for this one, which takes ownership once.
        let listener = unsafe { TcpListener::from_raw_fd(file) };
        // Child processes must not inherit it.
        fcntl(&listener, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(Self(tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // Both ends notice a broken connection themselves.
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
