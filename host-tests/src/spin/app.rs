//! The loaded application: compiled once, instantiated for every request.

use super::{faults::Faults, instance::Instance, manifest::Manifest, postgres::Pools, variables::Variables};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::sync::{Arc, atomic::AtomicI64, atomic::Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
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

/// The guest's wall clock: the real one, or a moment that a test sets. Clones share the moment.
#[derive(Clone, Default)]
pub struct Clock(Arc<AtomicI64>);

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

/// A compiled application with everything its instances share.
pub struct App {
    pub(super) pre: ProxyPre<Instance>,
    pub(super) pools: Pools,
    pub(super) variables: Variables,
    pub(super) allowed_outbound_hosts: Vec<String>,
    pub(super) options: Options,
    pub(super) instances: Semaphore,
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
        let component = Component::from_file(&engine, &manifest.source)
            .map_err(|error| anyhow::anyhow!("can't load {source}: {error:#}; build it with `make component`"))?;
        let mut linker = Linker::new(&engine);
        link(&mut linker).map_err(anyhow::Error::from).context("linking the host's interfaces")?;
        let pre = linker
            .instantiate_pre(&component)
            .and_then(ProxyPre::new)
            .map_err(anyhow::Error::from)
            .with_context(|| format!("{source} asks for what this host does not have"))?;
        Ok(Arc::new(Self {
            pre,
            pools: Pools::default(),
            variables,
            allowed_outbound_hosts: manifest.allowed_outbound_hosts.clone(),
            options,
            instances: Semaphore::new(MAX_INSTANCES as usize),
        }))
    }
}

fn link(linker: &mut Linker<Instance>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    let types = wasmtime_wasi_http::p2::bindings::LinkOptions::default();
    wasmtime_wasi_http::p2::bindings::http::types::add_to_linker::<_, WasiHttp>(linker, &types.into(), Instance::http)?;
    super::bindings::Host_::add_to_linker::<_, HasSelf<_>>(linker, |instance| instance)
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
