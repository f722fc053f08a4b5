//! The base system of the nodes: Debian 13 with the packages of the user data, made once and kept.

use crate::plan::{Plan, Release};
use anyhow::{Context, Result};
use dob_support::{cmd, project_file, run_logged};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

const CACHE: &str = "/var/cache/dob-api";
/// Counted up when the steps below change, so that everybody's is made anew.
const RECIPE: u32 = 3;
/// What installs packages and Patroni on a node, and here.
const INSTALL: &str = "terraform/modules/database-node/files/sbin/dob-packages";
const INSTALL_PATRONI: &str = "terraform/modules/database-node/files/sbin/dob-patroni";
/// Those that this machine trusts, such as its way out.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How long a step may take; the longest ones wait for the network.
const STEP_DEADLINE: Duration = Duration::from_secs(1200);
/// What an EC2 image holds besides the packages of the user data.
const PREINSTALLED: [&str; 2] = ["cloud-init", "udev"];

/// A directory with the base system, never written to again.
#[derive(Debug, Clone)]
pub struct BaseImage(pub PathBuf);

impl BaseImage {
    /// The base system for this plan; the first time takes minutes, and the network.
    pub fn prepare(plan: &Plan) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        let programs = [INSTALL, INSTALL_PATRONI].map(|program| fs::read(project_file(program)));
        (&plan.packages, &plan.patroni, PREINSTALLED, RECIPE).hash(&mut hasher);
        programs.into_iter().collect::<Result<Vec<_>, _>>()?.hash(&mut hasher);
        let directory = Path::new(CACHE).join(format!("lab-base-{:016x}", hasher.finish()));
        if !directory.exists() {
            remove_older()?;
            println!("Making the nodes' base system in {} (about 4 minutes, once) ...", directory.display());
            let unfinished = directory.with_extension("unfinished");
            make(&unfinished, &plan.packages, &plan.patroni)?;
            fs::rename(&unfinished, &directory)?;
        }
        Ok(Self(directory))
    }
}

/// Base systems of other package lists, and those that were not finished.
fn remove_older() -> Result<()> {
    for entry in fs::read_dir(CACHE).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("lab-base-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn make(directory: &Path, packages: &[String], patroni: &Release) -> Result<()> {
    fs::create_dir_all(directory)?;
    let log = PathBuf::from(CACHE).join("lab-base.log");
    let log_file = fs::File::create(&log)?;
    let step = |name: &str, command: &[&str]| -> Result<()> {
        println!("  {name}");
        let why = || format!("{name} failed: the reason is in {}", log.display());
        run_logged(STEP_DEADLINE, &cmd(command[0], &command[1..]), &log_file).with_context(why)
    };
    let root = directory.to_str().context("a path in UTF-8")?;
    let in_chroot = |name: &str, command: &[&str]| step(name, &[&["chroot", root], command].concat());
    let first = "--include=systemd,systemd-sysv,dbus,iproute2,ca-certificates";
    step("the smallest Debian 13 with systemd", &["debootstrap", "--variant=minbase", first, "trixie", root])?;
    fs::copy("/etc/resolv.conf", directory.join("etc/resolv.conf"))?;
    // The way out of this machine, where packages come through one.
    for entry in fs::read_dir("/etc/apt/apt.conf.d")?.flatten() {
        fs::copy(entry.path(), directory.join("etc/apt/apt.conf.d").join(entry.file_name()))?;
    }
    fs::copy(project_file(INSTALL), directory.join("tmp/dob-packages"))?;
    let packages = PREINSTALLED.into_iter().chain(packages.iter().map(String::as_str));
    let install: Vec<&str> = ["/tmp/dob-packages"].into_iter().chain(packages).collect();
    in_chroot("cloud-init, PostgreSQL, etcd, pgBackRest", &install)?;
    fs::copy(project_file(INSTALL_PATRONI), directory.join("tmp/dob-patroni"))?;
    fs::copy(AUTHORITIES, directory.join("tmp/authorities.crt"))?;
    let trusting = ["env", "SSL_CERT_FILE=/tmp/authorities.crt"];
    in_chroot("Patroni", &[&trusting[..], &["/tmp/dob-patroni", &patroni.version, &patroni.sha256]].concat())?;
    // A new instance of an image has no services running but those that its user data starts.
    for service in [
        "etcd",
        "postgresql",
        "prometheus-node-exporter",
        "prometheus-postgres-exporter",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
    ] {
        in_chroot(&format!("{service} off"), &["systemctl", "disable", service])?;
    }
    in_chroot("networking by systemd", &["systemctl", "enable", "systemd-networkd"])?;
    in_chroot("no waiting for it", &["systemctl", "mask", "systemd-networkd-wait-online"])?;
    fs::write(directory.join("etc/cloud/cloud.cfg.d/99-lab.cfg"), "network: {config: disabled}\n")?;
    Ok(())
}
