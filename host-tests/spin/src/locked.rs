//! The locked application, which `spin registry push` creates from `spin.toml`, as far as one HTTP component needs it.

use crate::manifest::{Manifest, Variable};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
struct Application {
    spin_lock_version: u32,
    #[serde(rename = "metadata")]
    _metadata: ApplicationMetadata,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    triggers: Vec<Trigger>,
    components: Vec<Component>,
}

/// Fields without which Spin panics.
#[derive(Deserialize)]
struct ApplicationMetadata {
    #[serde(rename = "trigger")]
    _trigger: IgnoredAny,
    #[serde(rename = "triggers")]
    _triggers: IgnoredAny,
}

#[derive(Deserialize)]
struct Trigger {
    trigger_type: String,
}

#[derive(Deserialize)]
struct Component {
    source: Source,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    metadata: ComponentMetadata,
}

#[derive(Deserialize)]
struct Source {
    digest: String,
}

#[derive(Default, Deserialize)]
struct ComponentMetadata {
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
}

impl Manifest {
    /// Reads a locked application. Its component is the file in `folder` whose name is the component's digest.
    pub fn from_locked(json: &[u8], folder: &Path) -> Result<Self> {
        let application: Application = serde_json::from_slice(json).context("this is not a locked application")?;
        if application.spin_lock_version > 1 {
            bail!("the locked application has version {}, not 0 or 1", application.spin_lock_version);
        }
        if let Some(other) = application.triggers.iter().find(|trigger| trigger.trigger_type != "http") {
            bail!("the locked application has a trigger of type {:?}, not \"http\"", other.trigger_type);
        }
        let mut components = application.components.into_iter();
        let (Some(component), None) = (components.next(), components.next()) else {
            bail!("the locked application must have exactly one component");
        };
        Ok(Self {
            source: folder.join(component.source.digest),
            variables: application.variables,
            component_variables: component.config,
            allowed_outbound_hosts: component.metadata.allowed_outbound_hosts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn locked() -> Value {
        json!({
            "spin_lock_version": 1,
            "metadata": { "name": "app", "trigger": { "type": "http" }, "triggers": {}, "origin": "file:///spin.toml" },
            "variables": { "host": {}, "port": { "default": "5432" }, "password": { "secret": true } },
            "triggers": [{ "id": "trigger--api", "trigger_type": "http", "trigger_config": { "route": "/..." } }],
            "components": [{
                "id": "api",
                "metadata": { "allowed_outbound_hosts": ["postgres://{{ host }}:{{ port }}"] },
                "source": { "content_type": "application/wasm", "digest": "sha256:c0" },
                "config": { "connection": "{{ host }}\n{{ password }}" },
            }],
        })
    }

    fn read(locked: &Value) -> Result<Manifest> {
        Manifest::from_locked(locked.to_string().as_bytes(), Path::new("/wasm"))
    }

    fn refused(locked: &Value) -> String {
        format!("{:#}", read(locked).expect_err("it is wrong"))
    }

    #[test]
    fn a_locked_application_says_what_its_manifest_said() {
        let manifest = read(&locked()).expect("a locked application");
        assert_eq!(manifest.source, Path::new("/wasm/sha256:c0"));
        assert_eq!(manifest.component_variables["connection"], "{{ host }}\n{{ password }}");
        assert_eq!(manifest.allowed_outbound_hosts, ["postgres://{{ host }}:{{ port }}"]);
        assert_eq!(manifest.variables["port"].default.as_deref(), Some("5432"));
        assert!(manifest.variables["host"].default.is_none() && manifest.variables["password"].default.is_none());
    }

    #[test]
    fn a_component_may_have_neither_variables_nor_hosts() {
        let mut locked = locked();
        locked["components"][0] = json!({ "id": "api", "source": { "digest": "sha256:c0" } });
        let manifest = read(&locked).expect("a locked application");
        assert!(manifest.component_variables.is_empty() && manifest.allowed_outbound_hosts.is_empty());
    }

    #[test]
    fn what_spin_would_not_run_is_refused() {
        for (pointer, value, complaint) in [
            ("/spin_lock_version", json!(2), "version 2, not 0 or 1"),
            ("/metadata", json!({ "triggers": {} }), "missing field `trigger`"),
            ("/metadata", json!({ "trigger": {} }), "missing field `triggers`"),
            ("/triggers/0/trigger_type", json!("redis"), "a trigger of type \"redis\""),
            ("/components/0/source", json!({ "content_type": "application/wasm" }), "missing field `digest`"),
            ("/components", json!([]), "exactly one component"),
        ] {
            let mut locked = locked();
            *locked.pointer_mut(pointer).expect("it is there") = value;
            let refused = refused(&locked);
            assert!(refused.contains(complaint), "{pointer}: {refused}");
        }
    }
}
