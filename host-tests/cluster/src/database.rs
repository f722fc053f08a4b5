//! A PostgreSQL with TLS and its own certificate authority, at both addresses that the overlay names.

use crate::addresses::{DATABASES, HERE, PODS};
use crate::{Cluster, NAMESPACE};
use anyhow::{Context, Result, ensure};
use dob_namespaces::DIRECTORY;
use dob_support::{Authority, eventually, random_word};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PORT: u16 = 5432;
/// As many as the regions' databases accept: old and new pods each have a pool during a rollout.
const CONNECTIONS: &str = "max_connections=560";

/// The cluster's secrets with the variables in each: those of the role that serves, and the administrator's.
const SECRETS: [(&str, [&str; 2]); 2] =
    [("dob-api", ["pg_user", "pg_password"]), ("dob-api-admin", ["pg_admin_user", "pg_admin_password"])];
/// The secret with the pods' trust store, and the name of its file.
pub const TRUST_STORE: &str = "database-ca";
const TRUSTED: &str = "ca-certificates.crt";
/// How long External Secrets may take to copy them once it is asked to.
const COPIED_WITHIN: Duration = Duration::from_secs(60);

/// The database of a cluster.
pub struct Database {
    /// The server.
    pub server: dob_postgresql::Database,
    authority: Authority,
}

/// What pods need to use a database.
pub struct Access {
    /// Variables of the component, including the administrator's.
    pub variables: BTreeMap<String, String>,
    /// The certificate that the pods trust, as PEM.
    pub authority: String,
}

impl Database {
    /// Starts an empty database.
    pub async fn start() -> Result<Self> {
        let authority = Authority::new("database authority")?;
        let listen = format!("listen_addresses={},{}", DATABASES[0], DATABASES[1]);
        let [cert_file, key_file] = certificate_files();
        let settings = [
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", cert_file.display()),
            format!("ssl_key_file={}", key_file.display()),
            listen,
            CONNECTIONS.to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let address = SocketAddr::from((DATABASES[0], PORT));
        let mut server = dob_postgresql::Database::create(&directory(), address, &random_word()?, &settings)?;
        write_certificate(&authority)?;
        let mut rules = File::options().append(true).open(server.data().join("pg_hba.conf"))?;
        writeln!(rules, "hostssl all all {PODS} scram-sha-256\nhost all postgres {HERE}/32 scram-sha-256")?;
        server.start().await?;
        Ok(Self { server, authority })
    }

    /// Gives the server a certificate of another authority, which new connections get.
    pub async fn certify(&mut self, authority: Authority) -> Result<()> {
        write_certificate(&authority)?;
        self.authority = authority;
        Ok(self.server.client("postgres").await?.batch_execute("SELECT pg_reload_conf()").await?)
    }

    /// What pods need to use this database.
    pub fn access(&self) -> Access {
        let mut variables = self.server.variables("dob_api");
        variables.extend(
            [("pg_host_a", DATABASES[0]), ("pg_host_b", DATABASES[1])]
                .map(|(name, host)| (name.to_owned(), host.to_string())),
        );
        Access { variables, authority: self.authority.certificate.clone() }
    }
}

fn directory() -> PathBuf {
    Path::new(DIRECTORY).join("database")
}

/// The files with the server's certificate and its key.
fn certificate_files() -> [PathBuf; 2] {
    ["certificate", "key"].map(|file| directory().join(format!("server.{file}")))
}

/// Writes a certificate of this authority for the server.
fn write_certificate(authority: &Authority) -> Result<()> {
    let server = authority.server(&DATABASES.map(|address| address.to_string()))?;
    for (file, content) in certificate_files().iter().zip([server.certificate, server.key]) {
        fs::write(file, content)?;
        fs::set_permissions(file, Permissions::from_mode(0o600))?;
        dob_postgresql::give_to_system_user(file)?;
    }
    Ok(())
}

impl Access {
    /// Puts the pods' secrets where the cluster expects them: into Secrets Manager if it has one, otherwise as the copies that External
    /// Secrets would make.
    pub fn put_secrets(&self, cluster: &Cluster) -> Result<()> {
        if let Some(manager) = &cluster.secrets_manager {
            return manager.put(&self.secret());
        }
        let of = |names: [&str; 2]| {
            json!(names.map(|name| (name, &self.variables[name])).into_iter().collect::<BTreeMap<_, _>>())
        };
        let secrets = SECRETS.map(|(name, variables)| secret(NAMESPACE, name, of(variables)));
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": secrets });
        cluster.apply(&list.to_string()).context("the pods' secrets")?;
        self.put_authority(cluster, NAMESPACE, TRUSTED)
    }

    /// Makes the cluster copy its secrets now, and waits until it has these values.
    pub async fn until_copied(&self, cluster: &Cluster) -> Result<()> {
        // External Secrets copies when an annotation changes.
        let asked = format!("dob-api/asked={}", random_word()?);
        cluster.kubectl(&["--namespace", NAMESPACE, "annotate", "externalsecret", "--all", "--overwrite", &asked])?;
        let secrets = kube::Api::<Secret>::namespaced(cluster.client.clone(), NAMESPACE);
        eventually("the cluster's secrets have the new values", COPIED_WITHIN, async || {
            for (name, variables) in SECRETS {
                let data = secrets.get(name).await?.data.unwrap_or_default();
                for variable in variables {
                    let copied = data.get(variable).map(|value| value.0.as_slice());
                    ensure!(copied == Some(self.variables[variable].as_bytes()), "{name} has another {variable}");
                }
            }
            let data = secrets.get(TRUST_STORE).await?.data.unwrap_or_default();
            let copied = data.get(TRUSTED).map(|value| value.0.as_slice());
            ensure!(copied == Some(self.authority.as_bytes()), "{TRUST_STORE} has another authority");
            Ok(())
        })
        .await
    }

    /// The secret that `terraform/modules/secrets` describes.
    fn secret(&self) -> Value {
        let of = |name: &str| (name.to_owned(), self.variables[name].clone());
        let mut secret: BTreeMap<_, _> = SECRETS.iter().flat_map(|(_, variables)| variables).copied().map(of).collect();
        secret.insert("ca_certificate".to_owned(), self.authority.clone());
        json!(secret)
    }

    /// Puts the certificate of the authority into a namespace, under the name that its pods know it by.
    pub(crate) fn put_authority(&self, cluster: &Cluster, namespace: &str, file: &str) -> Result<()> {
        let secret = secret(namespace, TRUST_STORE, json!({ file: self.authority }));
        cluster.apply(&secret.to_string()).context("the certificate of the database's authority")
    }
}

fn secret(namespace: &str, name: &str, data: Value) -> Value {
    let metadata = json!({ "name": name, "namespace": namespace });
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data })
}
