//! The loaded application: compiled once, and instantiated for each request or for several.

use crate::allow_list::AllowList;
use crate::bindings::{fermyon, spin};
use crate::engine::{MAX_INSTANCES, engine};
use crate::faults::Faults;
use crate::instance::{Clock, Instance, Shared, store};
use crate::manifest::Manifest;
use crate::postgres::{HasPostgres, Postgres};
use crate::reuse::Reused;
use crate::variables::{HasVariables, Variables};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Cache, CacheConfig, Engine, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre, http::types};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

/// How much of the component's stderr is kept when a test asks for it, in bytes.
const STDERR_CAPACITY: usize = 1 << 24;

/// The component's log lines.
pub type Log = MemoryOutputPipe;

/// How to run the application.
#[derive(Clone, Default)]
pub struct Options {
    /// Values of application variables.
    pub variables: BTreeMap<String, String>,
    /// The clock that the component sees.
    pub clock: Clock,
    /// Faults to play.
    pub faults: Faults,
    /// Where the component's stderr goes; `None` means the process's own stderr.
    pub stderr: Option<Log>,
}

impl Options {
    /// A buffer for the component's log lines.
    pub fn log() -> Log {
        Log::new(STDERR_CAPACITY)
    }
}

/// A compiled application with everything that its instances share.
pub struct App(pub(crate) Handler);

/// How requests are given to instances; the component's export decides.
pub(crate) enum Handler {
    /// WASI 0.2: one request for each instance.
    Single(Arc<Single>),
    /// WASI 0.3: many requests for each instance.
    Reused(Reused),
}

/// Instances that serve one request each.
pub(crate) struct Single {
    component: ProxyPre<Instance>,
    shared: Arc<Shared>,
    instances: Semaphore,
}

impl App {
    /// Compiles the manifest's component. Fails if it imports something that the host lacks, or if variables are missing.
    pub fn load(manifest: &Manifest, options: Options) -> Result<Arc<Self>> {
        // Compiled code is cached on disk between runs.
        let engine = engine(Some(Cache::new(CacheConfig::new())?))?;
        Self::new(manifest, options, &engine, || {
            Component::from_file(&engine, &manifest.source).map_err(|error| {
                anyhow::anyhow!("can't load {}: {error:#}; build it with `make component`", manifest.source.display())
            })
        })
    }

    /// The same for a component that is already compiled.
    ///
    /// # Safety
    ///
    /// Its file must come from [`crate::Compiler`], because its machine code is run unchecked.
    pub unsafe fn load_compiled(manifest: &Manifest, options: Options) -> Result<Arc<Self>> {
        let engine = engine(None)?;
        Self::new(manifest, options, &engine, || {
            // SAFETY: the caller vouches for the file.
            unsafe { Component::deserialize_file(&engine, &manifest.source) }.map_err(|error| {
                anyhow::anyhow!("{} was not compiled for this host: {error:#}", manifest.source.display())
            })
        })
    }

    fn new(
        manifest: &Manifest,
        options: Options,
        engine: &Engine,
        component: impl FnOnce() -> Result<Component>,
    ) -> Result<Arc<Self>> {
        let variables = Variables::new(manifest, &options.variables);
        if let missing @ [_, ..] = variables.missing().as_slice() {
            bail!("set the required variables {}", missing.join(", "));
        }
        let mut linker = Linker::new(engine);
        link(&mut linker).map_err(anyhow::Error::from).context("linking the host's interfaces")?;
        let component = linker
            .instantiate_pre(&component()?)
            .map_err(anyhow::Error::from)
            .with_context(|| format!("{} asks for what this host does not have", manifest.source.display()))?;
        let allow_list = AllowList::new(&manifest.allowed_outbound_hosts, &variables);
        let shared = Shared {
            postgres: Arc::new(Postgres::new(allow_list, options.faults)),
            variables,
            clock: options.clock,
            stderr: options.stderr,
        };
        let handler = Handler::of(component, Arc::new(shared)).map_err(anyhow::Error::from);
        Ok(Arc::new(Self(handler.with_context(|| format!("{} serves no HTTP", manifest.source.display()))?)))
    }
}

impl Handler {
    fn of(component: InstancePre<Instance>, shared: Arc<Shared>) -> wasmtime::Result<Self> {
        if let Ok(service) = ServicePre::new(component.clone()) {
            return Ok(Self::Reused(Reused::new(service, shared)));
        }
        let instances = Semaphore::new(MAX_INSTANCES as usize);
        Ok(Self::Single(Arc::new(Single { component: ProxyPre::new(component)?, shared, instances })))
    }
}

impl Single {
    /// The store of a new instance.
    pub(crate) fn store(&self) -> Store<Instance> {
        store(self.component.engine(), &self.shared)
    }

    /// Starts an instance in its store, unless the maximum is running. Its permit is released when it has ended.
    pub(crate) async fn instantiate(&self, store: &mut Store<Instance>) -> Result<(Proxy, SemaphorePermit<'_>)> {
        let permit = self.instances.try_acquire().context("all instances are busy")?;
        Ok((self.component.instantiate_async(store).await?, permit))
    }
}

fn link(linker: &mut Linker<Instance>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi::p3::add_to_linker(linker)?;
    types::add_to_linker::<_, WasiHttp>(linker, &Default::default(), Instance::http)?;
    wasmtime_wasi_http::p3::bindings::http::types::add_to_linker::<_, WasiHttp>(linker, Instance::http)?;
    spin::postgres::postgres::add_to_linker::<_, HasPostgres>(linker, Instance::postgres)?;
    fermyon::spin::variables::add_to_linker::<_, HasVariables>(linker, Instance::variables)?;
    spin::variables::variables::add_to_linker::<_, HasVariables>(linker, Instance::variables)
}
