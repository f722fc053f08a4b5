//! AWS on the lab's network: moto behind haproxy's TLS, under AWS's own names, so that the nodes' clients need no setting.

use super::run;
use super::terraform::Account;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python");
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/aws.py");
const PORT: u16 = 5000;
const SERVICES: [&str; 3] = ["s3", "secretsmanager", "logs"];

/// Where the metadata service has the node's role.
const ROLES: &str = "/latest/meta-data/iam/security-credentials";
/// What the role's credentials look like; moto takes any.
const CREDENTIALS: &str = r#"{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "lab", "SecretAccessKey": "lab", "Token": "lab",
"LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z"}
"#;

/// The emulator; it ends with the lab.
pub(super) struct Aws {
    pub admin_password: String,
    /// Certificates that the nodes take for AWS's.
    pub authority: PathBuf,
    /// The host names that lead here.
    pub names: Vec<String>,
    _moto: Child,
    _haproxy: Child,
}

impl Aws {
    pub fn start(directory: &Path, address: Ipv4Addr, account: &Account) -> Result<Self> {
        let names: Vec<String> = account
            .buckets
            .keys()
            .flat_map(|region| SERVICES.map(|service| format!("{service}.{region}.amazonaws.com")))
            .collect();
        let public = authority(directory, "public-authority")?;
        server_certificate(directory, &public, &names)?;
        let cluster = authority(directory, "authority")?;
        let admin_password = random()?;
        let secrets = json!({
            &account.secrets.certificate_authority: json!({
                "certificate": fs::read_to_string(cluster.with_extension("crt"))?,
                "key": fs::read_to_string(cluster.with_extension("key"))?,
            }).to_string(),
            &account.secrets.passwords: json!({
                "replication": random()?, "rewind": random()?, "admin": admin_password, "backup_key": random()?,
            }).to_string(),
        });
        let regions: Vec<_> = account.buckets.keys().collect();
        let account = json!({ "regions": regions, "buckets": account.buckets, "secrets": secrets });
        let moto = moto(directory, address, &account.to_string())?;
        let haproxy = haproxy(directory, address)?;
        Ok(Self { admin_password, authority: public.with_extension("crt"), names, _moto: moto, _haproxy: haproxy })
    }
}

/// A random word that may stand anywhere.
pub(super) fn random() -> Result<String> {
    run(Command::new("openssl").args(["rand", "-hex", "16"]))
}

fn authority(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let mut openssl = new_certificate(&path, &format!("lab {name}"));
    run(openssl.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]))?;
    Ok(path)
}

/// `server.pem` for these names, as haproxy reads it.
fn server_certificate(directory: &Path, authority: &Path, names: &[String]) -> Result<()> {
    let path = directory.join("server");
    let alternatives: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
    let mut openssl = new_certificate(&path, "amazonaws.com");
    openssl.args(["-addext", &format!("subjectAltName={}", alternatives.join(","))]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-CA").arg(authority.with_extension("crt")).arg("-CAkey").arg(authority.with_extension("key"));
    run(&mut openssl)?;
    let both = fs::read_to_string(path.with_extension("crt"))? + &fs::read_to_string(path.with_extension("key"))?;
    Ok(fs::write(path.with_extension("pem"), both)?)
}

/// The command that writes a key and its certificate beside each other: `path`.key and `path`.crt.
fn new_certificate(path: &Path, name: &str) -> Command {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "30", "-subj", &format!("/CN={name}")]);
    openssl.arg("-keyout").arg(path.with_extension("key")).arg("-out").arg(path.with_extension("crt"));
    openssl
}

fn moto(directory: &Path, address: Ipv4Addr, account: &str) -> Result<Child> {
    let log = fs::File::create(directory.join("moto.log"))?;
    let mut moto = Command::new(PYTHON);
    moto.arg(PROGRAM).args([address.to_string(), PORT.to_string()]);
    moto.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let mut child = moto.spawn().context("the emulator of AWS is missing: `make setup-lab`")?;
    writeln!(child.stdin.as_mut().context("piped")?, "{account}")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
    if line.trim() != "ready" {
        let words = fs::read_to_string(directory.join("moto.log"))?;
        bail!("the emulator of AWS does not start: {}", words.lines().last().unwrap_or("it said nothing"));
    }
    Ok(child)
}

fn haproxy(directory: &Path, address: Ipv4Addr) -> Result<Child> {
    let server = directory.join("server.pem");
    let credentials = directory.join("credentials.json");
    fs::write(&credentials, CREDENTIALS)?;
    // The second version of the metadata service only, as the nodes ask for it; with and without the last slash, as AWS.
    let configuration = format!(
        "defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend aws
  bind {address}:443 ssl crt {}
  default_backend moto
frontend metadata
  bind 169.254.169.254:80
  http-request return status 200 content-type text/plain string lab-token if {{ path /latest/api/token }} {{ method PUT }}
  http-request deny deny_status 401 if !{{ req.hdr(x-aws-ec2-metadata-token) lab-token }}
  http-request return status 200 content-type text/plain string lab-role if {{ path -m reg ^{ROLES}/?$ }}
  http-request return status 200 content-type application/json file {} if {{ path {ROLES}/lab-role }}
  http-request deny deny_status 404
backend moto
  server moto {address}:{PORT}
",
        server.display(),
        credentials.display()
    );
    let file = directory.join("haproxy.cfg");
    fs::write(&file, configuration)?;
    let log = fs::File::create(directory.join("haproxy.log"))?;
    let mut haproxy = Command::new("haproxy");
    haproxy.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    haproxy.spawn().context("haproxy is missing: `make setup-lab`")
}
