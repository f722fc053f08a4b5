//! The nodes' base image: Debian 13 with the packages of the user data, built once and cached.

use crate::plan::{Plan, Release};
use anyhow::{Context, Result};
use dob_support::{cmd, project_file, run_logged};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

const CACHE: &str = "/var/cache/dob-api";
/// Raise this when the steps below change, so that cached images are rebuilt.
const RECIPE: u32 = 3;
/// The commands that install packages and Patroni, on a node as well as here.
const INSTALL: &str = "terraform/modules/database-node/files/sbin/dob-packages";
const INSTALL_PATRONI: &str = "terraform/modules/database-node/files/sbin/dob-patroni";
/// The authorities that this machine trusts, such as its proxy's.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The deadline of a step; the longest ones download packages.
const STEP_DEADLINE: Duration = Duration::from_secs(1200);
/// Packages of an EC2 image that the user data does not install.
const PREINSTALLED: [&str; 2] = ["cloud-init", "udev"];

/// A directory with the base image, which is read-only from now on.
#[derive(Debug, Clone)]
pub struct BaseImage(pub PathBuf);

impl BaseImage {
    /// The base image for this plan. The first time takes minutes and needs the network.
    pub fn prepare(plan: &Plan) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        let programs = [INSTALL, INSTALL_PATRONI].map(|program| fs::read(project_file(program)));
        (&plan.packages, &plan.patroni, PREINSTALLED, RECIPE).hash(&mut hasher);
        programs.into_iter().collect::<Result<Vec<_>, _>>()?.hash(&mut hasher);
        let directory = Path::new(CACHE).join(format!("lab-base-{:016x}", hasher.finish()));
        if !directory.exists() {
            remove_older()?;
            println!("Building the nodes' base image in {} (about 4 minutes, once) ...", directory.display());
            let unfinished = directory.with_extension("unfinished");
            make(&unfinished, &plan.packages, &plan.patroni)?;
            fs::rename(&unfinished, &directory)?;
        }
        Ok(Self(directory))
    }
}

/// Removes base images of other package lists, and unfinished ones.
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
    // This machine's proxy, if packages come through one.
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
    // On a new instance, only the user data starts services.
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
