//! `spin.toml`, as far as one HTTP component needs it.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The application and its only component.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The built component.
    pub source: PathBuf,
    /// Application variables by name.
    pub variables: BTreeMap<String, Variable>,
    /// The component's variables: name and template.
    pub component_variables: BTreeMap<String, String>,
    /// Templates of the hosts that the component may connect to.
    pub allowed_outbound_hosts: Vec<String>,
}

/// An application variable.
#[derive(Debug, Clone, Deserialize)]
pub struct Variable {
    /// The default value; a variable without one is required.
    pub default: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    spin_manifest_version: u32,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    component: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
struct Component {
    source: PathBuf,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
}

/// The builds of this project's component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Build {
    /// For every Spin.
    Wasi02,
    /// For Spin 4.1 and newer.
    Wasi03,
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wasi02 => "0.2",
            Self::Wasi03 => "0.3",
        })
    }
}

impl Build {
    /// The build that SpinKube's shim runs.
    pub const DEFAULT: Self = Self::Wasi02;

    /// The build that the environment's `WASI` names.
    pub fn chosen() -> Result<Self> {
        match std::env::var("WASI").as_deref() {
            Err(_) | Ok("") => Ok(Self::DEFAULT),
            Ok("0.2") => Ok(Self::Wasi02),
            Ok("0.3") => Ok(Self::Wasi03),
            Ok(other) => bail!("WASI is {other:?}: set it to 0.2 or 0.3, or leave it unset"),
        }
    }

    /// Its manifest.
    pub fn manifest(self) -> PathBuf {
        let name = match self {
            Self::Wasi02 => "spin.toml",
            Self::Wasi03 => "spin-wasi-0.3.toml",
        };
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(name)
    }
}

impl Manifest {
    /// This project's manifest, for the chosen build.
    pub fn of_project() -> Result<Self> {
        Self::read(&Build::chosen()?.manifest())
    }

    /// Reads a manifest; the component's path is relative to it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        let document: Document =
            toml::from_str(&text).with_context(|| format!("{} is not a valid manifest", path.display()))?;
        if document.spin_manifest_version != 2 {
            bail!("{} has manifest version {}, not 2", path.display(), document.spin_manifest_version);
        }
        let mut components = document.component.into_values();
        let (Some(component), None) = (components.next(), components.next()) else {
            bail!("{} must have exactly one component", path.display());
        };
        Ok(Self {
            source: path.parent().unwrap_or(Path::new(".")).join(component.source),
            variables: document.variables,
            component_variables: component.variables,
            allowed_outbound_hosts: component.allowed_outbound_hosts,
        })
    }
}
