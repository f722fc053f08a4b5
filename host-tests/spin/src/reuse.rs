//! Instances that serve several requests, as Spin 4.1 does for WASI 0.3 components.

use crate::engine::MAX_INSTANCES;
use crate::instance::{Instance, Shared, store};
use anyhow::Result;
use http::{Request, Response};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut, format_err};
use wasmtime_wasi_http::handler::{self, HandlerState, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

/// Requests that an instance serves in its lifetime.
const REQUESTS: usize = 128;
/// Requests that it serves at once.
const REQUESTS_AT_ONCE: usize = 16;
/// How long it waits for the next request.
const IDLE: Duration = Duration::from_secs(1);

/// The error of wasmtime-wasi-http's handler for an instance that panicked or was dropped.
const DROPPED: &str = "worker panicked";

/// Sends requests to instances, and starts new ones as needed.
pub struct Reused(handler::ProxyHandler<Instances>);

struct Instances {
    component: ServicePre<Instance>,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
}

impl Reused {
    /// No instance runs yet.
    pub fn new(component: ServicePre<Instance>, shared: Arc<Shared>) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_INSTANCES as usize));
        Self(handler::ProxyHandler::new(Instances { component, shared, permits }))
    }

    /// The answer to a request. Fails if its instance could not start, or trapped.
    pub async fn answer(&self, request: Request<WasiBody>) -> Result<Response<WasiBody>> {
        Ok(self.0.handle((), request).await?)
    }
}

impl HandlerState for Instances {
    type StoreData = Instance;
    type WorkerExpiration = Idle;
    type WorkerState = Requests;

    async fn instantiate(&self) -> wasmtime::Result<handler::Instance<Instance, Idle, Requests>> {
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| format_err!("all instances are busy"))?;
        let mut store = store(self.component.engine(), &self.shared);
        let service = self.component.instantiate_async(&mut store).await?;
        Ok(handler::Instance {
            store,
            proxy: handler::Proxy::P3(service),
            view: Instance::http,
            expiration: Idle(Box::pin(tokio::time::sleep(IDLE))),
            state: Requests(permit),
        })
    }
}

/// Ends an instance that has been idle for a while. A request has no time limit in Spin.
struct Idle(Pin<Box<Sleep>>);

impl WorkerExpiration for Idle {
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>, status: WorkerStatus, since: Instant) -> Poll<()> {
        if status != WorkerStatus::Idle {
            return Poll::Pending;
        }
        let end = (since + IDLE).into();
        if self.0.deadline() != end {
            self.0.as_mut().reset(end);
        }
        self.0.as_mut().poll(context)
    }
}

/// Counts an instance's requests. The instance occupies a slot until this is dropped.
struct Requests(#[expect(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit);

impl WorkerState for Requests {
    type StoreData = Instance;
    type RequestData = ();

    fn should_accept_request(&self, at_once: usize, so_far: usize) -> ShouldAccept {
        match (so_far < REQUESTS, at_once < REQUESTS_AT_ONCE) {
            (false, _) => ShouldAccept::Never,
            (true, false) => ShouldAccept::No,
            (true, true) => ShouldAccept::Yes,
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, Instance>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<Instance>, ended: wasmtime::Result<()>) {
        // An instance that is dropped while it runs ends with this program. That is not a failure.
        let is_dropped = |error: &wasmtime::Error| error.to_string() == DROPPED && !std::thread::panicking();
        if let Some(error) = ended.err().filter(|error| !is_dropped(error)) {
            eprintln!("an instance failed: {error:?}");
        }
        drop(store);
    }
}
