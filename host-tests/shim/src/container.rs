//! The process in the container: writes the layers, and serves the application until a signal.

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
/// Spin's cache in the container's root; the last folder has the components.
const CACHE: [&str; 3] = ["/.cache/registry/manifests", "/.cache/registry/data", COMPONENTS];
const COMPONENTS: &str = "/.cache/registry/wasm";

/// The variable with the address to listen on, which the operator sets.
const LISTEN: &str = "SPIN_HTTP_LISTEN_ADDR";
const DEFAULT_LISTEN: &str = "0.0.0.0:80";

/// The process in the container.
#[derive(Default)]
pub struct Container;

impl Sandbox for Container {
    /// On a signal, exits with 0 at once, without waiting for requests.
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

/// Sets the environment of this process, from which OpenSSL reads the location of the trust store.
fn set_environment(variables: &[String]) {
    for variable in variables {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        // SAFETY: no other thread of this process reads or writes the environment yet.
        unsafe { std::env::set_var(name, value) };
    }
}

async fn serve(context: &impl RuntimeContext) -> Result<i32> {
    let Source::Oci(layers) = context.entrypoint().source else {
        bail!("Failed to read Spin app manifest from \"/spin.toml\": containerd gave no layers");
    };
    let manifest = unpack(layers)?;
    let listen = std::env::var(LISTEN).unwrap_or(DEFAULT_LISTEN.to_owned());
    let listen = listen.parse().with_context(|| format!("{LISTEN} is {listen:?}, which is not an address"))?;
    let options = Options { variables: variables(&manifest), ..Options::default() };
    // SAFETY: this shim has compiled the layer, and only containerd, which runs it, could have changed it.
    let server = Server::start(unsafe { App::load_compiled(&manifest, options)? }, listen).await?;
    // Spin prints this on stdout, too.
    println!("\nServing {}", server.url());
    std::future::pending().await
}

/// Writes the layers where SpinKube's shim does; the container's user must have the permission.
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

/// The application's variables. SpinKube's shim also reads them by their bare names, which take precedence.
fn variables(manifest: &Manifest) -> BTreeMap<String, String> {
    let bare =
        manifest.variables.keys().filter_map(|name| Some((name.clone(), std::env::var(name.to_uppercase()).ok()?)));
    let mut variables = Variables::from_environment();
    variables.extend(bare);
    variables
}
