//! A copy of this project's manifests and scripts, as a release has them: with the digest of an image, and with waiting times that are
//! short enough for a drill.

use crate::Cluster;
use crate::addresses::REGION;
use crate::database::Access;
use crate::parts::Parts;
use anyhow::{Context, Result, bail, ensure};
use dob_support::{cmd, project_file, read};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// The name of this cluster's overlay.
const OVERLAY: &str = "cluster";
/// How long a rollout may take.
const ROLLOUT_DEADLINE: Duration = Duration::from_secs(3600);
/// The file with the digest.
const RELEASE: &str = "k8s/release/kustomization.yaml";
/// The file with the waiting times of pods that start and stop.
const DRAIN: &str = "k8s/base/drain.yaml";
/// The waiting times that shrink, and the minimum in seconds that a slow machine needs.
const HASTENED: [(&str, u32); 6] = [
    ("deregistration_delay_seconds", 1),
    ("health_check_interval_seconds", 1),
    ("pre_stop_seconds", 1),
    ("grace_period_seconds", 1),
    ("serving_progress_deadline_seconds", 60),
    ("schema_progress_deadline_seconds", 60),
];
/// The manifests that an administrator applies before the first rollout.
const FOUNDATION: &str = "k8s/foundation";
const NO_DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// kubectl's options to act as the deploy workflow. The user name does not matter; `k8s/foundation` grants the rights to the group.
pub const AS_DEPLOYER: [&str; 2] = ["--as=deployer", "--as-group=dob-deployers"];

/// A copy of `k8s` and `scripts`, from which versions are rolled out.
pub struct Checkout {
    directory: PathBuf,
    /// The kubeconfig of whoever rolls out: the first time an administrator, who creates what is cluster-wide, then the deployer.
    kubeconfig: PathBuf,
    path: String,
    digest: String,
}

impl Checkout {
    /// Copies the project's files.
    pub fn make(cluster: &Cluster, parts: &Parts) -> Result<Self> {
        let directory = Path::new(dob_namespaces::DIRECTORY).join("checkout");
        fs::create_dir_all(&directory)?;
        for folder in ["k8s", "scripts"] {
            read(&cmd!("cp", "--recursive", project_file(folder), &directory))?;
        }
        let (kubeconfig, path, digest) = (cluster.kubeconfig(), parts.path(), NO_DIGEST.to_owned());
        Ok(Self { directory, kubeconfig, path, digest })
    }

    /// Sets the image of the next rollout. Returns the previous one.
    pub fn set_digest(&mut self, digest: &str) -> Result<String> {
        let old = std::mem::replace(&mut self.digest, digest.to_owned());
        let path = self.directory.join(RELEASE);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(&old), "{RELEASE} does not have {old}");
        fs::write(path, text.replace(&old, digest))?;
        Ok(old)
    }

    /// Sets the two hosts of the database.
    fn set_hosts(&self, access: &Access) -> Result<()> {
        let file = self.directory.join(REGION);
        let text = fs::read_to_string(&file)?;
        let host = |line: &str| {
            let (key, _) = line.split_once(": ")?;
            let name = key.trim().strip_prefix("database_host_")?;
            Some(format!("{key}: {}", access.variables.get(&format!("pg_host_{name}"))?))
        };
        let lines: Vec<String> = text.lines().map(|line| host(line).unwrap_or_else(|| line.to_owned())).collect();
        Ok(fs::write(file, lines.join("\n") + "\n")?)
    }

    /// Divides the waiting times of pods by a factor. The time that a new pod needs to start stays as it is.
    pub fn hasten(&self, by: u32) -> Result<()> {
        for (key, least) in HASTENED {
            self.change(key, |seconds| (seconds / by).max(least.min(seconds)))?;
        }
        Ok(())
    }

    /// Changes a number of `drain.yaml`, which has the waiting times of pods. Returns the previous number.
    pub fn change(&self, key: &str, number: impl Fn(u32) -> u32) -> Result<u32> {
        let path = self.directory.join(DRAIN);
        let text = fs::read_to_string(&path)?;
        let is_it = |line: &&str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
        let line = text.lines().find(is_it).with_context(|| format!("{DRAIN} has no {key}"))?;
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        let before = digits.parse().with_context(|| format!("{DRAIN}: {line}"))?;
        fs::write(path, text.replace(line, &line.replace(&digits, &number(before).to_string())))?;
        Ok(before)
    }

    /// Prepares the first rollout: the administrator's manifests, the secrets and the hosts of the database.
    pub fn prepare(&self, cluster: &Cluster, access: &Access) -> Result<()> {
        let foundation = self.directory.join(FOUNDATION);
        cluster.kubectl(&["apply", "--server-side", "--kustomize", &foundation.to_string_lossy()])?;
        access.put_secrets(cluster)?;
        self.set_hosts(access)
    }

    /// Reverts manual changes, as `scripts/rollout` advises when it refuses.
    pub fn take_back(&self, cluster: &Cluster) -> Result<()> {
        let overlay = self.directory.join("k8s/overlays").join(OVERLAY);
        let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=dob-rollout"];
        let what = ["--selector=!dob-api/step", "--kustomize", &overlay.to_string_lossy()];
        cluster.kubectl(&[&apply[..], &what].concat()).map(drop)
    }

    /// Runs `scripts/rollout`. An error contains its output.
    pub async fn roll_out(&mut self) -> Result<()> {
        let output = self.rollout().await?;
        if !output.status.success() {
            bail!("scripts/rollout failed: {}{}", text(&output.stdout), text(&output.stderr));
        }
        self.become_deployer()
    }

    /// Runs `scripts/roll-pods` as an administrator. If there is an old role, no pod uses it afterwards. An error contains its output.
    pub async fn roll_pods(&self, cluster: &Cluster, old_role: Option<&str>) -> Result<()> {
        let output = self.script("roll-pods", old_role, &cluster.kubeconfig()).await?;
        ensure!(output.status.success(), "scripts/roll-pods failed: {}{}", text(&output.stdout), text(&output.stderr));
        Ok(())
    }

    /// From now on, rolls out with the deployer's rights only.
    fn become_deployer(&mut self) -> Result<()> {
        let own = self.directory.join("deployer.conf");
        if self.kubeconfig != own {
            let [name, group] = AS_DEPLOYER.map(|flag| flag.split_once('=').map_or(flag, |(_, value)| value));
            let administrator = fs::read_to_string(&self.kubeconfig)?;
            let user = format!("  user:\n    as: {name}\n    as-groups: [{group}]\n");
            fs::write(&own, administrator.replace("  user:\n", &user))?;
            self.kubeconfig = own;
        }
        Ok(())
    }

    /// The output of `scripts/rollout`, which must fail.
    pub async fn refused_rollout(&self) -> Result<String> {
        let output = self.rollout().await?;
        ensure!(!output.status.success(), "scripts/rollout did not fail");
        Ok(text(&output.stderr))
    }

    async fn rollout(&self) -> Result<Output> {
        self.script("rollout", Some(OVERLAY), &self.kubeconfig).await
    }

    async fn script(&self, name: &str, argument: Option<&str>, kubeconfig: &Path) -> Result<Output> {
        let mut script = tokio::process::Command::new(self.directory.join("scripts").join(name));
        script.args(argument).env("KUBECONFIG", kubeconfig).env("PATH", &self.path);
        let ended = tokio::time::timeout(ROLLOUT_DEADLINE, script.kill_on_drop(true).output()).await;
        Ok(ended.with_context(|| format!("scripts/{name} did not end within {ROLLOUT_DEADLINE:?}"))??)
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}
