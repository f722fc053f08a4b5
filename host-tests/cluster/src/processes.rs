//! The processes in a node's pods, as the node sees them.

use crate::node::Node;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The user of the API's pods.
const POD_USER: u32 = 65532;

/// A process in a pod.
pub struct Process {
    id: String,
    node: &'static str,
}

impl Node {
    /// The process that serves in the pod with this address; its id is the node's.
    pub fn process_of(&self, pod: IpAddr) -> Result<Process> {
        let script = format!(
            "for status in $(grep --files-with-matches '^Uid:.{POD_USER}' /proc/[0-9]*/status); do
                 process=${{status#/proc/}}; process=${{process%/status}}
                 # The sandbox of the pod.
                 [ \"$(readlink /proc/$process/exe)\" != /busybox ] || continue
                 ! nsenter --target $process --net ip -oneline address | grep --quiet 'inet {pod}/' || echo $process
             done"
        );
        let found = self.run(&["sh", "-c", &script])?;
        let id = found.lines().next().with_context(|| format!("no process serves at {pod} on {}", self.name))?;
        Ok(Process { id: id.to_owned(), node: self.name })
    }

    /// Sends a signal to a process of the node.
    pub fn signal(&self, process: &Process, signal: &str) -> Result<()> {
        ensure!(process.node == self.name, "process {} runs on another node", process.id);
        self.run(&["kill", &format!("-{signal}"), &process.id]).map(drop)
    }

    /// A process's parent; Spin's is its shim.
    pub fn parent_of(&self, process: &Process) -> Result<Process> {
        let mut status = self.status_of(process)?;
        let id = status.remove("PPid").context("the process has no parent")?;
        Ok(Process { id, node: self.name })
    }

    /// How many processes of Spin are orphaned: their shim is gone, so that nothing ends them.
    pub fn orphans(&self) -> Result<usize> {
        let script = format!(
            "grep --files-with-matches '^PPid:.1$' $(grep --files-with-matches '^Uid:.{POD_USER}' /proc/[0-9]*/status) /dev/null || true"
        );
        Ok(self.run(&["sh", "-c", &script])?.lines().count())
    }

    /// Whether the pod with this address can connect to another address.
    pub fn connects(&self, pod: IpAddr, to: SocketAddr) -> Result<bool> {
        let script = format!(
            "for network in /run/netns/*; do
                 nsenter --net=$network ip -oneline address | grep --quiet 'inet {pod}/' || continue
                 nsenter --net=$network timeout 3 bash -c 'exec 3<>/dev/tcp/{}/{}' && echo yes || echo no
                 exit
             done
             echo 'no pod has this address' >&2
             exit 1",
            to.ip(),
            to.port()
        );
        Ok(self.run(&["sh", "-c", &script])? == "yes")
    }

    /// The fields of a process's `/proc` status.
    pub fn status_of(&self, process: &Process) -> Result<BTreeMap<String, String>> {
        let status = self.run(&["cat", &format!("/proc/{}/status", process.id)])?;
        let fields = status.lines().filter_map(|line| line.split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }
}
