//! The loaded application: compiled once, instantiated for every request.

use crate::allow_list::AllowList;
use crate::bindings::{fermyon::spin::variables, spin::postgres::postgres};
use crate::faults::Faults;
use crate::instance::{Clock, Instance, Shared};
use crate::manifest::Manifest;
use crate::postgres::{HasPostgres, Postgres};
use crate::variables::{HasVariables, Variables};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::component::{Component, Linker};
use wasmtime::{Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre, http::types};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

/// Instances that Spin runs at once; past that it answers 500.
pub const MAX_INSTANCES: u32 = 1000;

/// Memory of an ended instance that is cleared for the next one rather than returned, in bytes. Source: Spin's engine.
const KEEP_RESIDENT: usize = 2 << 20;

/// Most that is kept of what the component writes to stderr when a test asks for it, in bytes.
const STDERR_CAPACITY: usize = 1 << 20;

/// How to run the application.
#[derive(Clone, Default)]
pub struct Options {
    /// Values of application variables.
    pub variables: BTreeMap<String, String>,
    /// The clock that the component sees.
    pub clock: Clock,
    /// Faults to play.
    pub faults: Faults,
    /// Where the component's stderr goes; to the process's own if `None`.
    pub stderr: Option<MemoryOutputPipe>,
}

impl Options {
    /// A place that keeps the component's log lines.
    pub fn log() -> MemoryOutputPipe {
        MemoryOutputPipe::new(STDERR_CAPACITY)
    }
}

/// A compiled application with everything its instances share.
pub struct App {
    component: ProxyPre<Instance>,
    shared: Arc<Shared>,
    instances: Semaphore,
}

impl App {
    /// Compiles the manifest's component; refuses one that imports what the host lacks, and missing variables.
    pub fn load(manifest: &Manifest, options: Options) -> Result<Arc<Self>> {
        let variables = Variables::new(manifest, &options.variables);
        if let missing @ [_, ..] = variables.missing().as_slice() {
            bail!("set the required variables {}", missing.join(", "));
        }
        let engine = engine()?;
        let source = manifest.source.display();
        let compiled = Component::from_file(&engine, &manifest.source)
            .map_err(|error| anyhow::anyhow!("can't load {source}: {error:#}; build it with `make component`"))?;
        let mut linker = Linker::new(&engine);
        link(&mut linker).map_err(anyhow::Error::from).context("linking the host's interfaces")?;
        let component = linker
            .instantiate_pre(&compiled)
            .and_then(ProxyPre::new)
            .map_err(anyhow::Error::from)
            .with_context(|| format!("{source} asks for what this host does not have"))?;
        let allow_list = AllowList::new(&manifest.allowed_outbound_hosts, &variables);
        let shared = Shared {
            postgres: Postgres::new(allow_list, options.faults),
            variables,
            clock: options.clock,
            stderr: options.stderr,
        };
        let instances = Semaphore::new(MAX_INSTANCES as usize);
        Ok(Arc::new(Self { component, shared: Arc::new(shared), instances }))
    }

    /// The store of a new instance.
    pub(crate) fn store(&self) -> Store<Instance> {
        let mut store = Store::new(self.component.engine(), Instance::new(&self.shared));
        // Spin interrupts nothing either: the epoch never ends.
        store.set_epoch_deadline(u64::MAX / 2);
        store
    }

    /// Starts an instance in its store, if one may run besides those that do; the permit is given back when it has ended.
    pub(crate) async fn instantiate(&self, store: &mut Store<Instance>) -> Result<(Proxy, SemaphorePermit<'_>)> {
        let permit = self.instances.try_acquire().context("all instances are taken")?;
        Ok((self.component.instantiate_async(store).await?, permit))
    }
}

fn link(linker: &mut Linker<Instance>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    types::add_to_linker::<_, WasiHttp>(linker, &Default::default(), Instance::http)?;
    postgres::add_to_linker::<_, HasPostgres>(linker, Instance::postgres)?;
    variables::add_to_linker::<_, HasVariables>(linker, Instance::variables)
}

/// An engine as Spin sets it up; compiled code is cached on disk between runs.
fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.cache(Some(Cache::new(CacheConfig::new())?));
    let mut pooling = PoolingAllocationConfig::default();
    pooling
        .total_component_instances(MAX_INSTANCES)
        .total_core_instances(4 * MAX_INSTANCES)
        .total_memories(MAX_INSTANCES)
        .total_tables(2 * MAX_INSTANCES)
        .total_stacks(MAX_INSTANCES)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT / 4);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
    // The pool reserves terabytes of addresses; where a system refuses that, Spin allocates on demand, and so do we.
    Engine::new(&config)
        .or_else(|_| {
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            Engine::new(&config)
        })
        .map_err(anyhow::Error::from)
}
