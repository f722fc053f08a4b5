//! The HTTP server in front of the component.

use crate::app::{App, Handler, Options, Single};
use crate::manifest::Manifest;
use crate::outgoing;
use crate::real::{self, Real};
use crate::telemetry::Telemetry;
use anyhow::{Context, Result, anyhow, bail};
use dob_support::free_port;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap};
use hyper::{Request, Response, Uri, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::{sync::oneshot, task::JoinHandle};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

/// Paths that Spin answers by itself.
const WELL_KNOWN: &str = "/.well-known/spin/";

/// The interval of the checks that a real Spin still runs.
const LOOK: Duration = Duration::from_millis(200);

/// A running server. Dropping it closes its port. Requests in flight still finish, but a real Spin cuts them.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    serving: Serving,
}

enum Serving {
    /// The imitation, in this process.
    Here(JoinHandle<Result<Infallible>>),
    /// A real Spin.
    There(Real),
}

impl Server {
    /// Serves an application on the Spin that `SPIN` names, or else on the imitation. Port 0 means any free port.
    pub async fn serve(manifest: &Path, options: Options, listen: SocketAddr) -> Result<Self> {
        let Some(program) = real::program() else {
            return Self::start(App::load(&Manifest::read(manifest)?, options)?, listen).await;
        };
        let address = match listen.port() {
            0 => SocketAddr::new(listen.ip(), free_port()?),
            _ => listen,
        };
        let spin = Real::start(&program, manifest, &options, address)?;
        Ok(Self { address, serving: Serving::There(spin) })
    }

    /// Serves a loaded application on the imitation.
    pub async fn start(app: Arc<App>, listen: SocketAddr) -> Result<Self> {
        let listener = listener(listen).await?;
        let address = listener.local_addr()?;
        let telemetry = Telemetry::from_environment().context("can't export spans")?;
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, client) = listener.accept().await.context(
                    "can't accept a connection, and ends like Spin; where too many files are open, `ulimit -n` allows more",
                )?;
                tokio::spawn(connection(app.clone(), telemetry.clone(), stream, client));
            }
        });
        Ok(Self { address, serving: Serving::Here(accepting) })
    }

    /// Serves until connections can't be accepted any more, or until a real Spin ends.
    pub async fn until_ended(mut self) -> Result<Infallible> {
        match &mut self.serving {
            Serving::Here(accepting) => accepting.await?,
            Serving::There(spin) => loop {
                if let Some(status) = spin.0.0.try_wait()? {
                    bail!("Spin has ended: {status}");
                }
                tokio::time::sleep(LOOK).await;
            },
        }
    }

    /// `http://` and the address, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Binds an address; an error says what to do.
pub async fn listener(listen: SocketAddr) -> Result<TcpListener> {
    let advice = |error: &Error| match error.kind() {
        ErrorKind::AddrInUse => "stop what listens there, or choose another port",
        ErrorKind::AddrNotAvailable => "choose an address of this machine, such as 127.0.0.1",
        ErrorKind::PermissionDenied => "choose a port from 1024 on, a lower one takes root",
        _ => "choose another address",
    };
    TcpListener::bind(listen).await.map_err(|error| anyhow!("can't listen on {listen}: {}: {error}", advice(&error)))
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Serving::Here(accepting) = &self.serving {
            accepting.abort();
        }
    }
}

async fn connection(app: Arc<App>, telemetry: Telemetry, stream: TcpStream, client: SocketAddr) {
    let service = service_fn(|request| traced(telemetry.clone(), app.clone(), request, client));
    // As in Spin, the socket keeps Nagle's algorithm, and a client that disconnects is not reported.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// Answers a request within its span, which ends without a status where the client leaves before the head of the answer.
async fn traced(
    telemetry: Telemetry,
    app: Arc<App>,
    request: Request<Incoming>,
    client: SocketAddr,
) -> Result<Response<WasiBody>> {
    let (mut span, method) = (telemetry.start(&request), request.method().clone());
    let response = serve(app, request, client).await?;
    span.answered(&method, &response);
    Ok(response)
}

/// An error closes the connection without an answer, as Spin does when the authority is missing or contradictory.
async fn serve(app: Arc<App>, mut request: Request<Incoming>, client: SocketAddr) -> Result<Response<WasiBody>> {
    if let Some(well_known) = request.uri().path().strip_prefix(WELL_KNOWN) {
        let (status, text) = if well_known == "health" { (200, "OK") } else { (404, "") };
        return plain(status, text);
    }
    set_authority(&mut request)?;
    match instance(app, request, client).await {
        Ok(response) => Ok(response),
        Err(error) => {
            eprintln!("the component gave no answer: {error:#}");
            plain(500, "")
        }
    }
}

async fn instance(app: Arc<App>, mut request: Request<Incoming>, client: SocketAddr) -> Result<Response<WasiBody>> {
    add_spin_headers(&mut request, client)?;
    match &app.0 {
        Handler::Single(app) => single(app.clone(), request).await,
        Handler::Reused(instances) => {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            instances.answer(request).await
        }
    }
}

/// Runs one request in a new instance, which may outlive its answer and its client's connection.
async fn single(app: Arc<Single>, request: Request<Incoming>) -> Result<Response<WasiBody>> {
    let mut store = app.store();
    let (sender, receiver) = oneshot::channel();
    let incoming = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
    let out = store.data_mut().http().new_response_outparam_from_callback(move |response| {
        let _ = sender.send(response.map(|response| response.map(outgoing::head_first)));
    })?;
    let task = tokio::spawn(async move {
        let (proxy, _permit) = app.instantiate(&mut store).await?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, incoming, out).await?;
        anyhow::Ok(())
    });
    match receiver.await {
        Ok(response) => Ok(response?),
        Err(_) => {
            task.await??;
            bail!("it returned without an answer")
        }
    }
}

/// Adds the headers in which Spin describes the request. Like Spin, answers 500 to a request whose headers are not UTF-8.
fn add_spin_headers(request: &mut Request<Incoming>, client: SocketAddr) -> Result<()> {
    for value in request.headers().values() {
        std::str::from_utf8(value.as_bytes())?;
    }
    let path = request.uri().path().to_owned();
    let url = request.uri().to_string();
    let headers: &mut HeaderMap = request.headers_mut();
    for (name, value) in [
        ("spin-path-info", path.as_str()),
        ("spin-full-url", &url),
        ("spin-matched-route", "/..."),
        ("spin-base-path", "/"),
        ("spin-raw-component-route", "/..."),
        ("spin-component-route", ""),
        ("spin-client-addr", &client.to_string()),
    ] {
        headers.insert(name, value.parse()?);
    }
    Ok(())
}

/// The absolute URI that the component sees. Its authority comes from the request or the `Host` header; both must agree.
fn set_authority(request: &mut Request<Incoming>) -> Result<()> {
    let from_header = request.headers().get(HOST).map(|host| anyhow::Ok(host.to_str()?.parse()?)).transpose()?;
    let mut parts = request.uri().clone().into_parts();
    parts.authority = match (from_header, parts.authority) {
        (Some(header), Some(uri)) if header != uri => bail!("'Host' contradicts the request's URI"),
        (None, None) => bail!("no 'Host' header"),
        (header, uri) => header.or(uri),
    };
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.path_and_query.get_or_insert(http::uri::PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts)?;
    Ok(())
}

fn plain(status: u16, text: &'static str) -> Result<Response<WasiBody>> {
    let body = match text {
        "" => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        text => Full::from(text).map_err(|never| match never {}).boxed_unsync(),
    };
    Ok(Response::builder().status(status).body(body)?)
}
