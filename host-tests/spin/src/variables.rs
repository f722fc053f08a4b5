//! Variables: the component's templates over the application's values.

use crate::bindings::fermyon::spin::variables::{Error, Host};
use crate::bindings::spin::variables::variables as latest;
use crate::manifest::{Manifest, Variable};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use wasmtime::component::{Accessor, HasData};

/// The prefix of the environment variables that set the application's variables, as in Spin.
pub const VARIABLE_PREFIX: &str = "SPIN_VARIABLE_";

/// Every application variable, with its value if it has one.
#[derive(Debug, Clone)]
pub struct Variables {
    values: BTreeMap<String, Option<String>>,
    templates: BTreeMap<String, String>,
}

impl Variables {
    /// The manifest's variables; `given` values override defaults.
    pub fn new(manifest: &Manifest, given: &BTreeMap<String, String>) -> Self {
        let value = |(name, variable): (&String, &Variable)| {
            (name.clone(), given.get(name).or(variable.default.as_ref()).cloned())
        };
        Self { values: manifest.variables.iter().map(value).collect(), templates: manifest.component_variables.clone() }
    }

    /// The application variables that this process's environment sets.
    pub fn from_environment() -> BTreeMap<String, String> {
        // A variable that is not UTF-8 can't be one of these.
        let given = |(name, value): (OsString, OsString)| {
            let name = name.into_string().ok()?.strip_prefix(VARIABLE_PREFIX)?.to_lowercase();
            Some((name, value.into_string().ok()?))
        };
        std::env::vars_os().filter_map(given).collect()
    }

    /// The variables without a value and a default; Spin does not start without them.
    pub fn missing(&self) -> Vec<&str> {
        self.values.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect()
    }

    /// `template` with each `{{ name }}` replaced by its value.
    pub fn fill(&self, template: &str) -> Result<String> {
        let mut filled = String::new();
        let mut rest = template;
        while let Some((literal, expression)) = rest.split_once("{{") {
            let (name, after) = expression.split_once("}}").context("unmatched '{{' in template")?;
            let value = self.values.get(name.trim()).with_context(|| format!("unknown variable {:?}", name.trim()))?;
            filled += literal;
            filled += value.as_deref().with_context(|| format!("no value for variable {:?}", name.trim()))?;
            rest = after;
        }
        Ok(filled + rest)
    }
}

/// Selects the state for the interface's functions in the linker.
pub struct HasVariables;

impl HasData for HasVariables {
    type Data<'a> = &'a Variables;
}

impl Variables {
    fn get(&self, name: String) -> Result<String, Error> {
        let is_key = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_key || name.is_empty() {
            return Err(Error::InvalidName(name));
        }
        let template = self.templates.get(&name).ok_or(Error::Undefined(format!("no variable {name:?}")))?;
        self.fill(template).map_err(|error| Error::Provider(error.to_string()))
    }
}

impl Host for &Variables {
    async fn get(&mut self, name: String) -> Result<String, Error> {
        Variables::get(self, name)
    }
}

impl latest::Host for &Variables {}

impl<T: Send + 'static> latest::HostWithStore<T> for HasVariables {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> Result<String, latest::Error> {
        accessor.with(|mut access| Variables::get(access.get(), name)).map_err(|error| match error {
            Error::InvalidName(name) => latest::Error::InvalidName(name),
            Error::Undefined(words) => latest::Error::Undefined(words),
            Error::Provider(words) => latest::Error::Provider(words),
            Error::Other(words) => latest::Error::Other(words),
        })
    }
}
