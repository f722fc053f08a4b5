//! TLS to PostgreSQL: `require` checks the chain and the host name against the process's trust store.

use crate::helpers::*;
use dob_host::database::{Database, free_port, give_to_system_user};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate for 127.0.0.1, signed by itself, with its key beside it (`.crt` and `.key`).
fn certificate(directory: &Path, name: &str) -> PathBuf {
    let (certificate, key) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl: `make setup-test`");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    give_to_system_user(&key).unwrap();
    certificate
}

/// The status of `/readyz` on a host that trusts this certificate and asks for TLS.
async fn readyz(variables: &BTreeMap<String, String>, trusted: &Path) -> u16 {
    let mut variables = variables.clone();
    variables.insert("pg_sslmode".to_owned(), "require".to_owned());
    let host = HostProcess::start(variables, &[("SSL_CERT_FILE", trusted)]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(format!("http://{}/readyz", host.address)).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_server_is_trusted_by_its_certificate_and_refused_without_one() {
    let scratch = Scratch::new();
    let (own, other) = (certificate(&scratch.0, "own"), certificate(&scratch.0, "other"));
    let tls =
        [format!("ssl_cert_file={}", own.display()), format!("ssl_key_file={}", own.with_extension("key").display())];
    let settings: Vec<&str> = [&["ssl=on", &tls[0], &tls[1]], FAST].concat();
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port().unwrap());
    let mut database = Database::create(&scratch.join("tls"), address, "super-secret", &settings).unwrap();
    database.start().await.unwrap();
    assert_eq!(readyz(&database.variables("dob_api"), &own).await, 200, "the server's own certificate is trusted");
    assert_eq!(readyz(&database.variables("dob_api"), &other).await, 503, "another certificate is trusted");

    let plain = crate::helpers::database(&scratch, Ipv4Addr::LOCALHOST).await.unwrap();
    assert_eq!(readyz(&plain.variables("dob_api"), &own).await, 503, "the server has no TLS");
}
