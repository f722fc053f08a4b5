//! The state of one instance.

use crate::postgres::{Postgres, PostgresView};
use crate::variables::Variables;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// State that all instances of an application share.
pub struct Shared {
    /// Outbound PostgreSQL.
    pub postgres: Arc<Postgres>,
    /// The configuration.
    pub variables: Variables,
    /// The clock that the component sees.
    pub clock: Clock,
    /// Where the component's stderr goes; `None` means the process's own stderr.
    pub stderr: Option<MemoryOutputPipe>,
}

/// The host's state for one instance. Dropping it returns the instance's connections to their pools.
pub struct Instance {
    shared: Arc<Shared>,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: NoOutbound,
}

/// The guest's wall clock: the real time, or a moment that a test sets. Clones share it.
#[derive(Clone, Default)]
pub struct Clock(Arc<AtomicI64>);

/// The store of a new instance. Like Spin, it never interrupts the guest: its epoch never ends.
pub fn store(engine: &Engine, shared: &Arc<Shared>) -> Store<Instance> {
    let mut store = Store::new(engine, Instance::new(shared));
    store.set_epoch_deadline(u64::MAX / 2);
    store
}

impl Instance {
    /// The state of a new instance.
    fn new(shared: &Arc<Shared>) -> Self {
        let mut wasi = WasiCtx::builder();
        wasi.wall_clock(shared.clock.clone()).inherit_stdout();
        match &shared.stderr {
            Some(log) => wasi.stderr(log.clone()),
            None => wasi.inherit_stderr(),
        };
        Self {
            shared: shared.clone(),
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            outbound: NoOutbound,
        }
    }

    /// Its view of PostgreSQL.
    pub fn postgres(&mut self) -> PostgresView<'_> {
        PostgresView { shared: &self.shared.postgres, table: &mut self.table }
    }

    /// Its view of the configuration.
    pub fn variables(&mut self) -> &Variables {
        &self.shared.variables
    }
}

impl WasiView for Instance {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Instance {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

impl Clock {
    /// Stops the clock at midnight UTC of a day, counted from 1970-01-01.
    pub fn set_day(&self, days_since_1970: i64) {
        self.set_seconds(days_since_1970 * 86_400);
    }

    /// Stops the clock at a moment, in seconds since 1970.
    pub fn set_seconds(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl wasmtime_wasi::HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        match self.0.load(Ordering::SeqCst) {
            0 => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            stopped => Duration::from_secs(stopped.unsigned_abs()),
        }
    }
}

/// Never used: the component makes no HTTP requests, and the interface for them is not linked.
struct NoOutbound;

type Completion = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Completion), Error>;

impl WasiHttpHooks for NoOutbound {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Completion,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}
