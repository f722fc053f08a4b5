//! A registry on the cluster's network, and the images in it.

use crate::addresses::REGISTRY;
use crate::control_plane::PATIENCE;
use crate::daemon::Daemon;
use crate::parts::Parts;
use anyhow::{Context, Result, bail};
use dob_support::{cmd, eventually, project_file, read};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::net::TcpStream;

/// Debian's static busybox, which sleeps in every pod's sandbox.
const BUSYBOX: &str = "/usr/bin/busybox";

/// The media types that `spin registry push` uses for a locked application and its component.
const APPLICATION_TYPE: &str = "application/vnd.fermyon.spin.application.v1+config";
const COMPONENT_TYPE: &str = "application/vnd.wasm.content.layer.v1+wasm";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A fault that is built into a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It requires a variable that only the schema step has, so that Spin does not start in serving pods.
    VariableMissing,
    /// Its statement that finds a user returns a number where the component expects a boolean. A greeting answers 500; all else works.
    CannotGreet,
}

/// A variable that serving pods lack, and which has a default.
const ADMINISTRATOR: &str = "pg_admin_user";

/// A part of the statement that finds a user, and the same part with a fault.
const FINDS: &[u8] = b"username = $1), pg_is_in_recovery()";
const FINDS_NOT: &[u8] = b"username = $1), pg_backend_pid()   ";

/// The name of the image of a single program.
pub fn image(program: &str) -> String {
    format!("{REGISTRY}/{program}:1")
}

fn name_of(program: &Path) -> Result<&str> {
    program.file_name().and_then(|name| name.to_str()).context("a program with a name")
}

/// A registry without TLS.
pub struct Registry {
    directory: PathBuf,
    crane: PathBuf,
    _server: Daemon,
}

impl Registry {
    pub(crate) async fn start(parts: &Parts, directory: &Path) -> Result<Self> {
        let crane = parts.program("crane")?;
        let directory = directory.join("registry");
        fs::create_dir_all(directory.join("blobs"))?;
        let mut serve = Command::new(&crane);
        serve.args(["registry", "serve", "--address", &REGISTRY.to_string(), "--disk"]).arg(directory.join("blobs"));
        let server = Daemon::start(&directory, "registry", &mut serve)?;
        eventually("the registry listens", PATIENCE, async || {
            server.ensure_running()?;
            Ok(TcpStream::connect(REGISTRY).await.map(drop)?)
        })
        .await?;
        let registry = Self { directory, crane, _server: server };
        let pushed = registry.push_program(Path::new(BUSYBOX), &["sleep", "infinity"]);
        pushed.context("the image of the pods' sandboxes")?;
        Ok(registry)
    }

    /// Pushes the built component as `spin registry push` would. Returns its digest. Versions differ in their name, and in the fault that
    /// one may have.
    pub fn push_component(&self, version: &str, fault: Option<Fault>) -> Result<String> {
        let manifest = fs::read_to_string(project_file("spin.toml"))?;
        let manifest: toml::Table = manifest.parse().context("spin.toml")?;
        let layout = Layout::make(&self.directory.join(version))?;
        let digest = layout.write_application(serde_json::to_value(manifest)?, version, fault)?;
        read(&cmd!(&self.crane, "push", "--insecure", &layout.0, format!("{REGISTRY}/dob-api:{version}")))?;
        Ok(digest)
    }

    /// Pushes a static program as an image that runs it with these arguments. Returns the image's name.
    pub(crate) fn push_program(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let (name, directory) = (name_of(program)?, program.parent().context("a directory")?);
        let started_as = format!("/{name}");
        self.push_files(name, directory, &[name.to_owned()], &[&[&started_as[..]], arguments].concat())
    }

    /// Pushes programs of this machine with the libraries that they load, as an image that runs the first one; gives the image's name.
    pub(crate) fn push_dynamic_programs(&self, programs: &[&Path]) -> Result<String> {
        let first = programs.first().context("a program")?;
        let mut files = BTreeSet::new();
        for program in programs {
            files.insert(program.display().to_string());
            let libraries = read(&cmd!("ldd", program))?;
            files.extend(libraries.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
        }
        let files: Vec<String> = files.iter().map(|file| file.trim_start_matches('/').to_owned()).collect();
        self.push_files(name_of(first)?, Path::new("/"), &files, &[&first.to_string_lossy()])
    }

    fn push_files(&self, name: &str, directory: &Path, files: &[String], entrypoint: &[&str]) -> Result<String> {
        let (image, layer) = (image(name), self.directory.join(format!("{name}.tar")));
        let from = ["--create", "--dereference", "--directory"].map(OsString::from);
        let tar = from.into_iter().chain([directory.into(), "--file".into(), layer.clone().into()]);
        read(&cmd("tar", tar.chain(files.iter().map(OsString::from))))?;
        read(&cmd!(&self.crane, "append", "--insecure", "--new_layer", &layer, "--new_tag", &image))?;
        let entrypoint = format!("--entrypoint={}", entrypoint.join(","));
        read(&cmd!(&self.crane, "mutate", "--insecure", &image, entrypoint, "--tag", &image))?;
        Ok(image)
    }
}

/// An image as a directory, in the OCI layout.
struct Layout(PathBuf);

impl Layout {
    fn make(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#)?;
        Ok(Self(directory.to_owned()))
    }

    /// Writes a blob and returns its descriptor.
    fn write(&self, media_type: &str, content: &[u8]) -> Result<Value> {
        let digest = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        fs::write(self.0.join("blobs/sha256").join(&digest), content)?;
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() }))
    }

    /// Writes the application of `spin.toml`. Returns the image's digest.
    fn write_application(&self, mut manifest: Value, version: &str, fault: Option<Fault>) -> Result<String> {
        let components = manifest["component"].as_object_mut().context("components")?;
        let (id, component) = std::mem::take(components).into_iter().next().context("a component")?;
        let source = component["source"].as_str().context("the component's source")?;
        let mut source =
            fs::read(project_file(source)).with_context(|| format!("{source}: build it with `make component`"))?;
        match fault {
            Some(Fault::VariableMissing) => manifest["variables"][ADMINISTRATOR] = json!({}),
            Some(Fault::CannotGreet) => spoil(&mut source)?,
            None => {}
        }
        let wasm = self.write(COMPONENT_TYPE, &source)?;
        let application = locked_application(&manifest, &id, &component, &wasm["digest"], version);
        let application = self.write(APPLICATION_TYPE, application.to_string().as_bytes())?;
        let config = json!({
            "architecture": "wasm",
            "os": "wasip1",
            "config": { "Labels": { "com.fermyon.spin.lockedAppDigest": application["digest"] } },
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = self.write(CONFIG_TYPE, config.to_string().as_bytes())?;
        let image =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [application, wasm] });
        let image = self.write(MANIFEST_TYPE, image.to_string().as_bytes())?;
        fs::write(self.0.join("index.json"), json!({ "schemaVersion": 2, "manifests": [image] }).to_string())?;
        Ok(image["digest"].as_str().context("a digest")?.to_owned())
    }
}

/// Plants a fault in the component's statement that finds a user.
fn spoil(component: &mut [u8]) -> Result<()> {
    let mut places = component.windows(FINDS.len()).enumerate().filter(|(_, bytes)| *bytes == FINDS);
    let (place, None) =
        (places.next().context("the statement that finds a user has changed: adapt FINDS here")?.0, places.next())
    else {
        bail!("the component contains the statement that finds a user twice: only one can get the fault");
    };
    component[place..][..FINDS_NOT.len()].copy_from_slice(FINDS_NOT);
    Ok(())
}

/// The manifest, locked as `spin registry push` does it.
fn locked_application(manifest: &Value, id: &str, component: &Value, digest: &Value, version: &str) -> Value {
    let variables = manifest["variables"].as_object().into_iter().flatten().map(|(name, variable)| {
        let keep = |key: &str| variable.get(key).map(|value| (key.to_owned(), value.clone()));
        (name.clone(), Value::Object(["default", "secret"].into_iter().filter_map(keep).collect()))
    });
    let routes = manifest["trigger"]["http"].as_array().into_iter().flatten().map(|trigger| {
        json!({
            "id": format!("trigger--{id}"),
            "trigger_type": "http",
            "trigger_config": { "component": id, "executor": null, "route": trigger["route"] },
        })
    });
    json!({
        "spin_lock_version": 1,
        "metadata": {
            "name": manifest["application"]["name"],
            "version": version,
            "origin": "file:///spin.toml",
            "trigger": { "type": "http" },
            // Spin exits if this is missing.
            "triggers": {},
        },
        "variables": variables.collect::<serde_json::Map<_, _>>(),
        "triggers": routes.collect::<Vec<_>>(),
        "components": [{
            "id": id,
            "metadata": { "allowed_outbound_hosts": component["allowed_outbound_hosts"] },
            "source": { "content_type": "application/wasm", "digest": digest },
            "config": component["variables"],
        }],
    })
}
