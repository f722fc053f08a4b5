//! A proxy on this machine that speaks TLS with the service, for clients that speak none.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_native_tls::{TlsConnector, native_tls};

/// Starts the proxy. Each connection to it becomes one to the service, whose name is looked up each time.
pub async fn proxy(host: &str, port: u16) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let upstream = Arc::new(Upstream { host: host.to_owned(), port, tls: native_tls::TlsConnector::new()?.into() });
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = Arc::clone(&upstream);
            // If the connection to the service fails, the client's connection is closed.
            tokio::spawn(async move { drop(upstream.forward(client).await) });
        }
    });
    Ok(address)
}

struct Upstream {
    host: String,
    port: u16,
    tls: TlsConnector,
}

impl Upstream {
    async fn forward(&self, mut client: TcpStream) -> Result<()> {
        let service = TcpStream::connect((self.host.as_str(), self.port)).await?;
        service.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let mut service = self.tls.connect(&self.host, service).await.context("no TLS")?;
        copy_bidirectional(&mut client, &mut service).await?;
        Ok(())
    }
}
