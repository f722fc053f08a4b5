//! The engine that compiles and runs components, configured as Spin's.

use anyhow::Result;
use std::hash::Hash;
use wasmtime::{Cache, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// The most instances that Spin runs at once; beyond that it answers 500.
pub const MAX_INSTANCES: u32 = 1000;

/// How much memory of an ended instance is cleared and reused instead of being returned, in bytes. Source: Spin's engine.
const KEEP_RESIDENT: usize = 2 << 20;

/// Compiles components ahead of time, for [`crate::App::load_compiled`].
pub struct Compiler(Engine);

impl Compiler {
    /// A compiler for this machine.
    pub fn new() -> Result<Self> {
        Ok(Self(engine(None)?))
    }

    /// Identifies where compiled code can run: the same version, settings and processor.
    pub fn compatibility(&self) -> impl Hash {
        self.0.precompile_compatibility_hash()
    }

    /// Compiles a component to machine code.
    pub fn compile(&self, component: &[u8]) -> Result<Vec<u8>> {
        Ok(self.0.precompile_component(component)?)
    }
}

/// An engine as Spin configures it. With a cache it compiles a component only once.
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
    // The pool reserves terabytes of address space. If the system refuses that, Spin allocates on demand, and so does this.
    Engine::new(&config)
        .or_else(|_| {
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            Engine::new(&config)
        })
        .map_err(anyhow::Error::from)
}
