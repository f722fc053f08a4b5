//! The engine that compiles and runs components, set up as Spin's.

use anyhow::Result;
use std::hash::Hash;
use wasmtime::{Cache, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Instances that Spin runs at once; past that it answers 500.
pub const MAX_INSTANCES: u32 = 1000;

/// Memory of an ended instance that is cleared for the next one rather than returned, in bytes. Source: Spin's engine.
const KEEP_RESIDENT: usize = 2 << 20;

/// Compiles components ahead of time, for [`crate::App::load_compiled`].
pub struct Compiler(Engine);

impl Compiler {
    /// A compiler for this machine.
    pub fn new() -> Result<Self> {
        Ok(Self(engine(None)?))
    }

    /// What compiled code fits: the same version, settings and processor.
    pub fn compatibility(&self) -> impl Hash {
        self.0.precompile_compatibility_hash()
    }

    /// The machine code of a component.
    pub fn compile(&self, component: &[u8]) -> Result<Vec<u8>> {
        Ok(self.0.precompile_component(component)?)
    }
}

/// An engine as Spin sets it up; with a cache it compiles a component once.
pub fn engine(cache: Option<Cache>) -> Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.cache(cache);
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
