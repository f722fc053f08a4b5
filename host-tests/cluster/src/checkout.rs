//! The manifests and scripts of this project as a release has them, in a copy: with the digest of an image, and with waiting times
//! that a drill can bear.

use crate::Cluster;
use crate::parts::Parts;
use anyhow::{Context, Result, bail, ensure};
use dob_support::{cmd, project_file, read};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// What the cluster's own overlay is called.
const OVERLAY: &str = "cluster";
/// How long a rollout may take besides the time that its own figures give it.
const ROLLOUT_DEADLINE: Duration = Duration::from_secs(1800);
const NO_DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A copy of `k8s` and `scripts` to roll out from.
pub struct Checkout {
    directory: PathBuf,
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
        Ok(Self { directory, kubeconfig: cluster.kubeconfig(), path: parts.path(), digest: NO_DIGEST.to_owned() })
    }

    /// Names the image that the next rollout brings.
    pub fn set_digest(&mut self, digest: &str) -> Result<()> {
        let old = std::mem::replace(&mut self.digest, digest.to_owned());
        self.replace("k8s/release/kustomization.yaml", &old, digest)
    }

    /// Changes a file; the text that goes must be there.
    pub fn replace(&self, file: &str, old: &str, new: &str) -> Result<()> {
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(old), "{file} does not have {old}");
        Ok(fs::write(path, text.replace(old, new))?)
    }

    /// Divides the seconds that a file names after this key.
    pub fn divide(&self, file: &str, key: &str, by: u32) -> Result<()> {
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path)?;
        let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{key}:")));
        let line = line.with_context(|| format!("{file} has no {key}"))?;
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        let seconds: u32 = digits.parse().with_context(|| format!("{file}: {line}"))?;
        let scaled = line.replace(&digits, &(seconds / by).max(1).to_string());
        Ok(fs::write(path, text.replace(line, &scaled))?)
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
