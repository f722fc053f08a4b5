//! A client's connection, which is reopened when it breaks.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// No connection could be opened.
    #[error("no connection")]
    NoConnection,
    /// The connection broke before the answer was complete.
    #[error("broken connection")]
    BrokenConnection,
    /// The client gave up waiting.
    #[error("no answer")]
    NoAnswer,
}

/// A connection to the route's current address.
pub struct Connection {
    route: watch::Receiver<SocketAddr>,
    keep: Option<Duration>,
    open: Option<Open>,
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    server: SocketAddr,
    since: Instant,
}

impl Connection {
    /// A connection that the first request opens. It is kept for `keep`, or without a limit.
    pub fn new(route: watch::Receiver<SocketAddr>, keep: Option<Duration>) -> Self {
        Self { route, keep, open: None }
    }

    /// Closes it; the next request opens another.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Sends a request and returns the status and body of its answer.
    pub async fn send(&mut self, method: &'static str, path: String, body: String) -> Result<(u16, String), Failed> {
        let server = *self.route.borrow_and_update();
        let request = Request::builder().method(method).uri(path).header("host", server.to_string());
        let request = request.body(Full::from(body)).expect("a valid request");
        let response = self.response(server, request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|_| Failed::BrokenConnection)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn response(
        &mut self,
        server: SocketAddr,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failed> {
        let keep = self.keep;
        let is_kept = |open: &Open| open.server == server && keep.is_none_or(|keep| open.since.elapsed() <= keep);
        if let Some(open) = self.open.take().filter(is_kept) {
            let open = self.open.insert(open);
            match open.sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                // The server had closed the connection and the request was not sent, so that sending it now does not repeat it.
                Err(mut error) => request = error.take_message().ok_or(Failed::BrokenConnection)?,
            }
        }
        let open = self.open.insert(connect(server).await?);
        open.sender.send_request(request).await.map_err(|_| Failed::BrokenConnection)
    }
}

async fn connect(server: SocketAddr) -> Result<Open, Failed> {
    let stream = TcpStream::connect(server).await.map_err(|_| Failed::NoConnection)?;
    stream.set_nodelay(true).map_err(|_| Failed::NoConnection)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| Failed::NoConnection)?;
    // The task ends with its sender. The request gets any error of the connection.
    tokio::spawn(async move { drop(connection.await) });
    Ok(Open { sender, server, since: Instant::now() })
}
