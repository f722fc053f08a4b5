//! TLS for clients that speak none: an entrance on this machine that leads to the service.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_native_tls::{TlsConnector, native_tls};

/// Opens the entrance. Each connection to it becomes one to the service, whose name is looked up each time.
pub async fn entrance(host: &str, port: u16) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let way = Arc::new(Way { host: host.to_owned(), port, tls: native_tls::TlsConnector::new()?.into() });
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let way = Arc::clone(&way);
            // A client whose way is broken sees its connection close.
            tokio::spawn(async move { drop(way.lead(client).await) });
        }
    });
    Ok(address)
}

struct Way {
    host: String,
    port: u16,
    tls: TlsConnector,
}

impl Way {
    async fn lead(&self, mut client: TcpStream) -> Result<()> {
        let service = TcpStream::connect((self.host.as_str(), self.port)).await?;
        service.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let mut service = self.tls.connect(&self.host, service).await.context("no TLS")?;
        copy_bidirectional(&mut client, &mut service).await?;
        Ok(())
    }
}
