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
use std::path::Path;
use std::time::Duration;

const PORT: u16 = 5432;
/// As many as the regions' databases accept: old and new pods each have a pool during a rollout.
const CONNECTIONS: &str = "max_connections=560";

/// The cluster's secrets with the variables in each: those of the role that serves, and the administrator's.
const SECRETS: [(&str, [&str; 2]); 2] =
    [("dob-api", ["pg_user", "pg_password"]), ("dob-api-admin", ["pg_admin_user", "pg_admin_password"])];
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
        let directory = Path::new(DIRECTORY).join("database");
        let authority = Authority::new("database authority")?;
        let certificate = authority.server(&DATABASES.map(|address| address.to_string()))?;
        let listen = format!("listen_addresses={},{}", DATABASES[0], DATABASES[1]);
        let tls = ["certificate", "key"].map(|file| directory.join(format!("server.{file}")));
        let [cert_file, key_file] = &tls;
        let settings = [
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", cert_file.display()),
            format!("ssl_key_file={}", key_file.display()),
            listen,
            CONNECTIONS.to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let address = SocketAddr::from((DATABASES[0], PORT));
        let mut server = dob_postgresql::Database::create(&directory, address, &random_word()?, &settings)?;
        for (file, content) in tls.iter().zip([certificate.certificate, certificate.key]) {
            fs::write(file, content)?;
            fs::set_permissions(file, Permissions::from_mode(0o600))?;
            dob_postgresql::give_to_system_user(file)?;
        }
        let mut rules = File::options().append(true).open(server.data().join("pg_hba.conf"))?;
        writeln!(rules, "hostssl all all {PODS} scram-sha-256\nhost all postgres {HERE}/32 scram-sha-256")?;
        server.start().await?;
        Ok(Self { server, authority })
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
        self.put_authority(cluster, NAMESPACE, "ca-certificates.crt")
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
        let secret = secret(namespace, "database-ca", json!({ file: self.authority }));
        cluster.apply(&secret.to_string()).context("the certificate of the database's authority")
    }
}

fn secret(namespace: &str, name: &str, data: Value) -> Value {
    let metadata = json!({ "name": name, "namespace": namespace });
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data })
}
