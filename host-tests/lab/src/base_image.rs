//! The nodes' base image: Debian 13 with the packages of the user data, built once and cached. The nodes of the newer PostgreSQL have a second
//! layer over it.

use crate::plan::{Plan, PlannedNode, Release};
use anyhow::{Context, Result};
use dob_support::{cmd, project_file, run_logged};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

const CACHE: &str = "/var/cache/dob-api";
/// The names of all images and layers begin with this.
const PREFIX: &str = "lab-base-";
/// Raise this when the steps below change, so that cached images are rebuilt.
const RECIPE: u32 = 3;
/// The commands that install packages and Patroni, on a node as well as here.
const INSTALL: &str = "terraform/modules/database-node/files/sbin/dob-packages";
const INSTALL_PATRONI: &str = "terraform/modules/database-node/files/sbin/dob-patroni";
/// The authorities that this machine trusts, such as its proxy's.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The deadline of a step; the longest ones download packages.
const STEP_DEADLINE: Duration = Duration::from_secs(1200);
/// Where the newer PostgreSQL comes from. On EC2 it comes from PostgreSQL's own repository, built for Debian 13. This is Debian's build for the
/// next release, with that release's libraries.
const NEWER_SOURCE: &str = "deb http://deb.debian.org/debian forky main";
/// Packages of an EC2 image that the user data does not install.
const PREINSTALLED: [&str; 2] = ["cloud-init", "udev"];

/// The directories of the image, which are read-only from now on.
#[derive(Debug, Clone)]
pub struct BaseImage {
    base: PathBuf,
    newer: Newer,
}

/// The layer with the newer PostgreSQL, which may be missing.
#[derive(Debug, Clone)]
struct Newer {
    package: String,
    layer: PathBuf,
}

impl BaseImage {
    /// The base image for this plan. The first time takes minutes and needs the network.
    pub fn prepare(plan: &Plan) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        let programs = [INSTALL, INSTALL_PATRONI].map(|program| fs::read(project_file(program)));
        (&plan.packages, &plan.patroni, PREINSTALLED, RECIPE).hash(&mut hasher);
        programs.into_iter().collect::<Result<Vec<_>, _>>()?.hash(&mut hasher);
        let directory = Path::new(CACHE).join(format!("{PREFIX}{:016x}", hasher.finish()));
        if !directory.exists() {
            remove_older()?;
            println!("Building the nodes' base image in {} (about 4 minutes, once) ...", directory.display());
            let unfinished = directory.with_extension("unfinished");
            make(&unfinished, &plan.packages, &plan.patroni)?;
            fs::rename(&unfinished, &directory)?;
        }
        Ok(Self { newer: Newer::over(&directory, plan)?, base: directory })
    }

    /// Adds the newer PostgreSQL, which only the drill `major-upgrade` needs. The first time takes a minute and needs the network.
    pub fn add_newer(&self) -> Result<()> {
        let Newer { package, layer } = &self.newer;
        if layer.exists() {
            return Ok(());
        }
        println!("Adding {package} to the nodes' base image in {} (about a minute, once) ...", layer.display());
        let unfinished = layer.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        make_newer(&self.base, &unfinished, package)?;
        fs::rename(unfinished.join("upper"), layer)?;
        Ok(fs::remove_dir_all(unfinished)?)
    }

    /// The overlay's lower directories of a node's system. `None` if the node needs the newer PostgreSQL, and it was not added.
    pub(crate) fn layers_of(&self, node: &PlannedNode) -> Option<String> {
        let (base, Newer { package, layer }) = (self.base.display(), &self.newer);
        if node.postgresql.package != *package {
            return Some(base.to_string());
        }
        layer.exists().then(|| format!("{}:{base}", layer.display()))
    }
}

impl Newer {
    fn over(base: &Path, plan: &Plan) -> Result<Self> {
        let mut packages = plan.nodes.values().map(|node| &node.postgresql.package);
        let package = packages.find(|package| !plan.packages.contains(package)).context("no node is newer")?;
        let mut hasher = DefaultHasher::new();
        (base, package, NEWER_SOURCE, RECIPE).hash(&mut hasher);
        let layer = Path::new(CACHE).join(format!("{PREFIX}newer-{:016x}", hasher.finish()));
        Ok(Self { package: package.clone(), layer })
    }
}

/// Makes the layer over a base image in the directory `upper`. The namespace of its mount ends with the command.
fn make_newer(base: &Path, directory: &Path, package: &str) -> Result<()> {
    for part in ["upper", "work", "root"] {
        fs::create_dir_all(directory.join(part))?;
    }
    let log = PathBuf::from(CACHE).join("lab-newer.log");
    let install = format!(
        "mount -t overlay overlay -o lowerdir=$BASE,upperdir=upper,workdir=work root
         cp \"$INSTALL\" root/tmp/dob-packages
         cp /etc/resolv.conf root/etc/resolv.conf
         echo '{NEWER_SOURCE}' >root/etc/apt/sources.list.d/newer.list
         older=$(ls \"$BASE\"/usr/lib/postgresql)
         chroot root apt-get purge --quiet --yes postgresql-$older postgresql-client-$older
         chroot root /tmp/dob-packages {package}
         chroot root apt-get install --quiet --yes --only-upgrade pgbackrest
         chroot root systemctl disable postgresql
         rm -r root/var/lib/apt/lists"
    );
    let make = cmd!("unshare", "--mount", "sh", "-ec", install).dir(directory);
    let make = make.env("BASE", base).env("INSTALL", project_file(INSTALL)).env("DEBIAN_FRONTEND", "noninteractive");
    let why = || format!("{package} can't be installed: the reason is in {}", log.display());
    run_logged(STEP_DEADLINE, &make, &fs::File::create(&log)?).with_context(why)
}

/// Removes base images of other package lists, and unfinished ones.
fn remove_older() -> Result<()> {
    for entry in fs::read_dir(CACHE).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
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
