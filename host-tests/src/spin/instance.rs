//! The state of one instance, which lives as long as its request.

use super::app::App;
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// What the host keeps for one instance. Dropping it gives the instance's connections back to their pools.
pub struct Instance {
    pub(super) app: Arc<App>,
    pub(super) table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: NoOutbound,
}

impl Instance {
    /// A store for one new instance.
    pub fn store(app: &Arc<App>) -> Store<Self> {
        let mut wasi = WasiCtx::builder();
        wasi.wall_clock(app.options.clock.clone()).inherit_stdout();
        match &app.options.stderr {
            Some(log) => wasi.stderr(log.clone()),
            None => wasi.inherit_stderr(),
        };
        let instance = Self {
            app: app.clone(),
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            outbound: NoOutbound,
        };
        let mut store = Store::new(app.pre.engine(), instance);
        // Spin interrupts nothing either: the epoch never ends.
        store.set_epoch_deadline(u64::MAX / 2);
        store
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

/// The component makes no HTTP requests of its own; the interface for it is not even linked.
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
