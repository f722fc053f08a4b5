//! An AWS emulator on the lab's network: moto behind haproxy, which adds TLS. It has AWS's host names, so that the nodes' clients need
//! no configuration.

use crate::network::{BUCKETS, HERE};
use crate::plan::Account;
use anyhow::{Context, Result};
use dob_support::{Authority, Process, project_file, random_word};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The Python in which moto is installed.
const PYTHON: &str = ".venv/bin/python";
/// The script that fills moto and serves it.
const PROGRAM: &str = "host-tests/lab/aws.py";
const PORT: u16 = 5000;
/// How long the emulator may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// The path of the node's role in the metadata service.
const ROLES: &str = "/latest/meta-data/iam/security-credentials";
/// The role's credentials; moto accepts any.
const CREDENTIALS: &str = r#"{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "lab", "SecretAccessKey": "lab", "Token": "lab",
"LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z"}
"#;

/// The emulator; it ends with the lab.
pub(crate) struct Aws {
    pub admin_password: String,
    /// The authority that signs AWS's certificates here; the nodes trust it.
    pub authority: PathBuf,
    /// Its addresses and host names, as in /etc/hosts.
    pub hosts: String,
    _moto: Process,
    _haproxy: Process,
}

impl Aws {
    pub fn start(directory: &Path, account: &Account) -> Result<Self> {
        let hosts = account.buckets.keys().zip(BUCKETS).flat_map(|(region, bucket)| {
            [("s3", bucket), ("secretsmanager", HERE), ("logs", HERE)]
                .map(|(service, address)| (address, format!("{service}.{region}.amazonaws.com")))
        });
        let (addresses, names): (Vec<Ipv4Addr>, Vec<String>) = hosts.unzip();
        let hosts = addresses.iter().zip(&names).map(|(address, name)| format!("{address} {name}\n")).collect();
        let public = Authority::new("lab public authority")?;
        let trusted = directory.join("public-authority.crt");
        fs::write(&trusted, &public.certificate)?;
        let server = public.server(&names)?;
        fs::write(directory.join("server.pem"), server.certificate + &server.key)?;
        let cluster = Authority::new("lab authority")?;
        fs::write(dob_namespaces::authority(), &cluster.certificate)?;
        let admin_password = random_word()?;
        let secrets = json!({
            &account.secrets.certificate_authority: json!({
                "certificate": cluster.certificate, "key": cluster.key,
            }).to_string(),
            &account.secrets.passwords: json!({
                "replication": random_word()?, "rewind": random_word()?, "admin": admin_password, "backup_key": random_word()?,
            }).to_string(),
        });
        let regions: Vec<_> = account.buckets.keys().collect();
        let account =
            json!({ "regions": regions, "clusters": account.clusters, "buckets": account.buckets, "secrets": secrets });
        let moto = moto(directory, &account.to_string())?;
        let haproxy = haproxy(directory)?;
        Ok(Self { admin_password, authority: trusted, hosts, _moto: moto, _haproxy: haproxy })
    }
}

fn moto(directory: &Path, account: &str) -> Result<Process> {
    let log = fs::File::create(directory.join("moto.log"))?;
    let mut moto = Command::new(project_file(PYTHON));
    moto.arg(project_file(PROGRAM)).args([HERE.to_string(), PORT.to_string()]);
    moto.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let mut moto = Process::spawn(&mut moto, "`make drill` installs it")?;
    writeln!(moto.0.stdin.as_mut().context("piped")?, "{account}")?;
    let why = || {
        let words = fs::read_to_string(directory.join("moto.log")).unwrap_or_default();
        format!("the emulator of AWS does not start: {}", words.lines().last().unwrap_or("it said nothing"))
    };
    moto.until_printed("ready", STARTS_WITHIN).with_context(why)?;
    Ok(moto)
}

fn haproxy(directory: &Path) -> Result<Process> {
    let server = directory.join("server.pem");
    let credentials = directory.join("credentials.json");
    fs::write(&credentials, CREDENTIALS)?;
    // Only the second version of the metadata service, which the nodes use; with and without a trailing slash, as on AWS.
    let configuration = format!(
        "defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend aws
  bind {HERE}:443,{}:443,{}:443 ssl crt {}
  default_backend moto
frontend metadata
  bind 169.254.169.254:80
  http-request return status 200 content-type text/plain string lab-token if {{ path /latest/api/token }} {{ method PUT }}
  http-request deny deny_status 401 if !{{ req.hdr(x-aws-ec2-metadata-token) lab-token }}
  http-request return status 200 content-type text/plain string lab-role if {{ path -m reg ^{ROLES}/?$ }}
  http-request return status 200 content-type application/json file {} if {{ path {ROLES}/lab-role }}
  http-request deny deny_status 404
backend moto
  server moto {HERE}:{PORT}
",
        BUCKETS[0],
        BUCKETS[1],
        server.display(),
        credentials.display()
    );
    let file = directory.join("haproxy.cfg");
    fs::write(&file, configuration)?;
    let log = fs::File::create(directory.join("haproxy.log"))?;
    let mut haproxy = Command::new("haproxy");
    haproxy.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Process::spawn(&mut haproxy, "`make drill` installs it")
}
