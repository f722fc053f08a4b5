//! TLS to PostgreSQL: `require` checks the chain and the host name against the process's trust store.

use crate::helpers::*;
use dob_postgresql::{Database, give_to_system_user};
use dob_support::free_port;
use rcgen::CertifiedKey;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A running server with this certificate.
pub async fn server(directory: &TempDir, certificate: &Path) -> Database {
    let key = certificate.with_extension("key");
    let tls = [format!("ssl_cert_file={}", certificate.display()), format!("ssl_key_file={}", key.display())];
    let settings: Vec<&str> = [&["ssl=on", &tls[0], &tls[1]], FAST].concat();
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port().unwrap());
    let mut database = Database::create(&directory.path().join("tls"), address, "super-secret", &settings).unwrap();
    database.start().await.unwrap();
    database
}

/// A self-signed certificate for 127.0.0.1, with its key beside it (`.crt` and `.key`).
pub fn certificate(directory: &Path, name: &str) -> PathBuf {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    give_to_system_user(&key).unwrap();
    certificate
}

/// The status of `/readyz` on a host that trusts this certificate and asks for TLS.
async fn readyz(variables: &BTreeMap<String, String>, trusted: &Path) -> u16 {
    let mut variables = variables.clone();
    variables.insert("pg_sslmode".to_owned(), "require".to_owned());
    let host = HostProcess::start(variables, &[("SSL_CERT_FILE", trusted)]);
    client().get(format!("http://{}/readyz", host.address)).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_server_is_trusted_by_its_certificate_and_refused_without_one() {
    let directory = temporary_directory();
    let (own, other) = (certificate(directory.path(), "own"), certificate(directory.path(), "other"));
    let database = server(&directory, &own).await;
    assert_eq!(readyz(&database.variables("dob_api"), &own).await, 200, "the server's own certificate is trusted");
    assert_eq!(readyz(&database.variables("dob_api"), &other).await, 503, "another certificate is trusted");

    let plain = crate::helpers::database(&directory, Ipv4Addr::LOCALHOST).await.unwrap();
    assert_eq!(readyz(&plain.variables("dob_api"), &own).await, 503, "the server has no TLS");
}
