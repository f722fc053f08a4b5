//! Inside the container: from the layers to a served application, until a signal.

use crate::{APPLICATION, WASM, media_type};
use anyhow::{Context, Result, bail};
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::{RuntimeContext, Source, WasmLayer};
use dob_spin::{App, Manifest, Options, Server, Variables};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

/// The locked application, in the container's root.
const LOCKED: &str = "/spin.json";
/// Spin's cache, likewise: its folders for what it may fetch, and the one with components.
const CACHE: [&str; 3] = ["/.cache/registry/manifests", "/.cache/registry/data", COMPONENTS];
const COMPONENTS: &str = "/.cache/registry/wasm";

/// Where it listens: the operator sets the variable.
const LISTEN: &str = "SPIN_HTTP_LISTEN_ADDR";
const DEFAULT_LISTEN: &str = "0.0.0.0:80";

/// The process in the container.
#[derive(Default)]
pub struct Container;

impl Sandbox for Container {
    /// Ends at once on a signal, with 0, whatever requests it has.
    async fn run_wasi(&self, context: &impl RuntimeContext) -> Result<i32> {
        set_environment(context.envs());
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::select! {
            failed = serve(context) => failed.inspect_err(|error| log::error!("the container can't serve: {error:#}")),
            _ = interrupt.recv() => Ok(0),
            _ = terminate.recv() => Ok(0),
            _ = hang_up.recv() => Ok(0),
        }
    }

    async fn can_handle(&self, _: &impl RuntimeContext) -> Result<()> {
        Ok(())
    }
}

/// OpenSSL reads the trust store's place from the process's own environment.
fn set_environment(variables: &[String]) {
    for variable in variables {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        // SAFETY: nothing else of this process reads or writes its environment yet.
        unsafe { std::env::set_var(name, value) };
    }
}

async fn serve(context: &impl RuntimeContext) -> Result<i32> {
    let Source::Oci(layers) = context.entrypoint().source else {
        bail!("Failed to read Spin app manifest from \"/spin.toml\": containerd gave no layers");
    };
    let manifest = unpack(layers)?;
    let listen = std::env::var(LISTEN).unwrap_or(DEFAULT_LISTEN.to_owned());
    let listen = listen.parse().with_context(|| format!("{LISTEN} is {listen:?}, which is no address"))?;
    let options = Options { variables: variables(&manifest), ..Options::default() };
    // SAFETY: the layer is what this shim compiled; only containerd, who runs it, could have changed that.
    let server = Server::start(unsafe { App::load_compiled(&manifest, options)? }, listen).await?;
    // As Spin does, on stdout.
    println!("\nServing {}", server.url());
    std::future::pending().await
}

/// Writes the layers where SpinKube's shim does, which the container's user must be allowed to.
fn unpack(layers: &[WasmLayer]) -> Result<Manifest> {
    for layer in layers {
        match media_type(layer).as_str() {
            APPLICATION => fs::write(LOCKED, &layer.layer).context("failed to create spin.json")?,
            WASM => {
                CACHE.iter().try_for_each(fs::create_dir_all).context("failed to create Spin's cache")?;
                let file = Path::new(COMPONENTS).join(layer.config.digest().to_string());
                fs::write(&file, &layer.layer).with_context(|| format!("failed to write {}", file.display()))?;
            }
            _ => {}
        }
    }
    let json = fs::read(LOCKED).with_context(|| format!("failed to read {LOCKED}"))?;
    Manifest::from_locked(&json, Path::new(COMPONENTS))
}

/// The application's variables: SpinKube's shim takes them by their bare names, too, and those win.
fn variables(manifest: &Manifest) -> BTreeMap<String, String> {
    let bare =
        manifest.variables.keys().filter_map(|name| Some((name.clone(), std::env::var(name.to_uppercase()).ok()?)));
    let mut variables = Variables::from_environment();
    variables.extend(bare);
    variables
}
