//! `allowed_outbound_hosts`: the servers that the component may connect to.

use crate::variables::Variables;
use anyhow::{Context, Result, bail};
use url::Host;

/// PostgreSQL's default port, for an entry or an address without one.
const POSTGRES_PORT: u16 = 5432;

/// One resolved entry, `scheme://host:port`. Wildcards and ranges are not supported: this project's manifests must name each host.
struct Entry {
    scheme: String,
    host: Host,
    port: u16,
}

/// The manifest's list, whose templates are filled at each check.
pub struct AllowList {
    templates: Vec<String>,
    variables: Variables,
}

impl AllowList {
    /// The list of a manifest.
    pub fn new(templates: &[String], variables: &Variables) -> Self {
        Self { templates: templates.to_vec(), variables: variables.clone() }
    }

    /// Whether the component may connect to `host` (with its port, if the address has one). As in Spin, one entry that can't be resolved
    /// fails every check.
    pub fn allows(&self, host: &str, port: Option<u16>) -> Result<bool> {
        let entries: Vec<Entry> = self
            .templates
            .iter()
            .map(|template| Entry::parse(&self.variables.fill(template)?))
            .collect::<Result<_>>()?;
        let Ok(host) = Host::parse(host) else { return Ok(false) };
        let port = port.unwrap_or(POSTGRES_PORT);
        Ok(entries.iter().any(|entry| entry.scheme == "postgres" && entry.host == host && entry.port == port))
    }
}

impl Entry {
    fn parse(entry: &str) -> Result<Self> {
        let (scheme, authority) = entry.split_once("://").with_context(|| format!("{entry:?} has no scheme"))?;
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        if host.contains(['*', '/', '{']) {
            bail!("the test host does not imitate {entry:?}: name each host");
        }
        Ok(Self {
            scheme: scheme.to_owned(),
            host: Host::parse(host).with_context(|| format!("invalid allowed host {host:?}"))?,
            port: match port {
                "" => POSTGRES_PORT,
                port => port.parse().with_context(|| format!("port {port:?} is not a number"))?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Manifest, Variable};
    use std::collections::BTreeMap;

    fn check(templates: &[&str], host: &str, port: Option<u16>) -> Result<bool> {
        let db = Variable { default: Some("db.internal".to_owned()) };
        let manifest = Manifest {
            source: "".into(),
            variables: BTreeMap::from([("db".to_owned(), db), ("empty".to_owned(), Variable { default: None })]),
            component_variables: BTreeMap::new(),
            allowed_outbound_hosts: Vec::new(),
        };
        let templates: Vec<String> = templates.iter().map(|template| template.to_string()).collect();
        AllowList::new(&templates, &Variables::new(&manifest, &BTreeMap::new())).allows(host, port)
    }

    #[test]
    fn host_and_port_must_both_match() {
        let list = ["postgres://{{ db }}:6432", "postgres://10.0.0.1"];
        assert!(check(&list, "db.internal", Some(6432)).unwrap());
        assert!(check(&list, "10.0.0.1", None).unwrap());
        assert!(!check(&list, "db.internal", None).unwrap());
        assert!(!check(&list, "other.internal", Some(6432)).unwrap());
    }

    #[test]
    fn one_bad_entry_fails_every_check() {
        assert!(check(&["postgres://db", "postgres://{{ empty }}"], "db", None).is_err());
        assert!(check(&["postgres://db", "postgres://:5432"], "db", None).is_err());
        assert!(check(&["postgres://db", "postgres://*:5432"], "db", None).is_err());
    }
}
