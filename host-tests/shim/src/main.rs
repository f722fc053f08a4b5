//! A stand-in for SpinKube's shim, 0.24 and 0.25: containerd starts a pod with it, and in the pod the imitation of Spin serves.
//!
//! It uses the same library, so that it has the library's faults: an empty set of capabilities drops none; a start fails while another
//! start on the node stores its compiled component; after a restart of containerd the old processes keep running. SpinKube's own part
//! is imitated in two files:
//!
//! ```text
//! main        the interface to containerd, and the compiler, which runs once per node because containerd caches its output
//! container   the process in the container: writes the layers, and serves the application until a signal
//! ```

mod container;

use anyhow::Result;
use container::Container;
use containerd_shim_wasm::sandbox::context::WasmLayer;
use containerd_shim_wasm::shim::{Cli, Compiler, Config, Shim, Version};
use std::hash::Hash;

/// The layer with the locked application.
const APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";
/// A layer with a component.
const WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";

struct Spin;

struct SpinCompiler(dob_spin::Compiler);

fn main() {
    Spin::run(Config { default_log_level: "error".to_owned(), ..Config::default() });
}

impl Shim for Spin {
    type Sandbox = Container;

    fn name() -> &'static str {
        "spin"
    }

    fn version() -> Version {
        Version { version: env!("CARGO_PKG_VERSION"), revision: "the stand-in of dob-api" }
    }

    async fn compiler() -> Option<impl Compiler> {
        dob_spin::Compiler::new().map(SpinCompiler).inspect_err(|error| log::error!("no compiler: {error:#}")).ok()
    }

    fn supported_layers_types() -> &'static [&'static str] {
        &[APPLICATION, WASM]
    }
}

impl Compiler for SpinCompiler {
    fn cache_key(&self) -> impl Hash {
        self.0.compatibility()
    }

    async fn compile(&self, layers: &[WasmLayer]) -> Result<Vec<Option<Vec<u8>>>> {
        layers.iter().map(|layer| self.compiled(layer)).collect()
    }
}

impl SpinCompiler {
    /// Compiles a layer that is a component. It may already be compiled if another image contains it.
    fn compiled(&self, layer: &WasmLayer) -> Result<Option<Vec<u8>>> {
        if media_type(layer) != WASM {
            return Ok(None);
        }
        if layer.precompiled { Ok(Some(layer.layer.clone())) } else { self.0.compile(&layer.layer).map(Some) }
    }
}

fn media_type(layer: &WasmLayer) -> String {
    layer.config.media_type().to_string()
}
