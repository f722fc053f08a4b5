//! The manifests and scripts of this project as a release has them, in a copy: with the digest of an image, and with waiting times
//! that a drill can bear.

use crate::Cluster;
use crate::database::Access;
use crate::parts::Parts;
use anyhow::{Context, Result, bail, ensure};
use dob_support::{cmd, project_file, read};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// What the cluster's own overlay is called.
const OVERLAY: &str = "cluster";
/// How long a rollout may take besides the time that its own figures give it.
const ROLLOUT_DEADLINE: Duration = Duration::from_secs(1800);
/// Where the digest stands.
const RELEASE: &str = "k8s/release/kustomization.yaml";
/// Where the database's hosts stand.
const REGION: &str = "k8s/overlays/cluster/region.yaml";
/// The waiting times of pods that come and go, in seconds, and the least that a slow machine needs.
const HASTENED: [(&str, &str, u32); 5] = [
    ("k8s/base/drain.yaml", "deregistration_delay_seconds", 1),
    ("k8s/base/drain.yaml", "health_check_interval_seconds", 1),
    ("k8s/base/drain.yaml", "pre_stop_seconds", 1),
    ("k8s/base/drain.yaml", "grace_period_seconds", 1),
    ("k8s/base/pods.yaml", "progressDeadlineSeconds", 60),
];
const NO_DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A copy of `k8s` and `scripts` to roll out from.
pub struct Checkout {
    directory: PathBuf,
    kubeconfig: PathBuf,
    path: String,
    digest: String,
    /// Files as they were when their figures were hastened.
    originals: BTreeMap<&'static str, String>,
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
        Ok(Self { directory, kubeconfig, path, digest, originals: BTreeMap::new() })
    }

    /// Names the image that the next rollout brings, and gives the one before.
    pub fn set_digest(&mut self, digest: &str) -> Result<String> {
        let old = std::mem::replace(&mut self.digest, digest.to_owned());
        let path = self.directory.join(RELEASE);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(&old), "{RELEASE} does not have {old}");
        fs::write(path, text.replace(&old, digest))?;
        Ok(old)
    }

    /// Names the two hosts of the database.
    pub fn set_hosts(&self, access: &Access) -> Result<()> {
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

    /// Makes pods come and go so many times faster. What a new pod needs to start does not get shorter.
    pub fn hasten(&mut self, by: u32) -> Result<()> {
        for (file, key, least) in HASTENED {
            self.change(file, key, |seconds| (seconds / by).max(least.min(seconds)))?;
            self.originals.insert(file, fs::read_to_string(self.directory.join(file))?);
        }
        Ok(())
    }

    /// Changes a number that a file has after this key, wherever it has that key.
    pub fn change(&self, file: &str, key: &str, number: impl Fn(u32) -> u32) -> Result<()> {
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path)?;
        ensure!(text.lines().any(|line| is_of(line, key)), "{file} has no {key}");
        let changed = |line: &str| -> Result<String> {
            if !is_of(line, key) {
                return Ok(line.to_owned());
            }
            let digits: String = line.chars().filter(char::is_ascii_digit).collect();
            let old: u32 = digits.parse().with_context(|| format!("{file}: {line}"))?;
            Ok(line.replace(&digits, &number(old).to_string()))
        };
        let lines = text.lines().map(changed).collect::<Result<Vec<_>>>()?;
        Ok(fs::write(path, lines.join("\n") + "\n")?)
    }

    /// Takes back what was changed in a file since it was hastened.
    pub fn restore(&self, file: &str) -> Result<()> {
        let original = self.originals.get(file).with_context(|| format!("{file} was not hastened"))?;
        Ok(fs::write(self.directory.join(file), original)?)
    }

    /// Runs `scripts/rollout`; an error has what it said.
    pub async fn roll_out(&self) -> Result<()> {
        let output = self.rollout().await?;
        if !output.status.success() {
            bail!("scripts/rollout failed: {}{}", text(&output.stdout), text(&output.stderr));
        }
        Ok(())
    }

    /// What `scripts/rollout` says when it fails.
    pub async fn refused_rollout(&self) -> Result<String> {
        let output = self.rollout().await?;
        ensure!(!output.status.success(), "scripts/rollout did not fail");
        Ok(text(&output.stderr))
    }

    async fn rollout(&self) -> Result<Output> {
        let mut rollout = tokio::process::Command::new(self.directory.join("scripts/rollout"));
        rollout.arg(OVERLAY).env("KUBECONFIG", &self.kubeconfig).env("PATH", &self.path);
        let ended = tokio::time::timeout(ROLLOUT_DEADLINE, rollout.kill_on_drop(true).output()).await;
        Ok(ended.with_context(|| format!("scripts/rollout did not end within {ROLLOUT_DEADLINE:?}"))??)
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// Whether a line of YAML gives this key its value.
fn is_of(line: &str, key: &str) -> bool {
    line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))
}
