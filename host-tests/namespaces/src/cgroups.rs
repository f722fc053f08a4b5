//! A run's control groups: one tree in each hierarchy of the machine, below a group that is named after the run.

use crate::MARK;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

const PREFIX: &str = "dob-run-";
/// The controllers that a kubelet needs if the kernel has them. cgroup2 has one hierarchy for all, cgroup v1 one for each.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "memory", "pids", "io", "hugetlb"];

/// A mounted hierarchy.
struct Hierarchy {
    at: PathBuf,
    is_unified: bool,
}

/// The name of a new run's groups.
pub(crate) fn name() -> String {
    format!("{PREFIX}{}", std::process::id())
}

/// A group in the unified hierarchy for a node's systemd. If nodes shared one, a systemd would end the other nodes' services.
///
/// It has the controllers of that hierarchy, as on a machine of its own: systemd learns from them that the kernel killed a process.
pub fn group(node: &str) -> Result<PathBuf> {
    let mut unified = hierarchies()?.into_iter().filter(|hierarchy| hierarchy.is_unified);
    let root = unified.next().context("this kernel has no cgroup2 mounted, which the nodes' systemd needs")?;
    let run = run()?;
    let group = root.at.join(&run).join(node);
    make(&group)?;
    delegate(&root.at, Path::new(&run))?;
    Ok(group)
}

/// Limits the memory that all processes of a node's `group`, and those that they start, may take from now on. `None` removes the limit.
pub fn limit_memory(node: &str, bytes: Option<u64>) -> Result<()> {
    let group = group(node)?;
    let older = hierarchies()?.into_iter().find(|hierarchy| hierarchy.at.join("memory.limit_in_bytes").exists());
    let Some(older) = older else {
        return Ok(fs::write(group.join("memory.max"), bytes.map_or("max".to_owned(), |bytes| bytes.to_string()))?);
    };
    let limited = older.at.join(run()?).join(node);
    make(&limited)?;
    for process in processes(&group)? {
        // One that has ended meanwhile needs no limit.
        let _ = fs::write(limited.join("cgroup.procs"), process);
    }
    Ok(fs::write(limited.join("memory.limit_in_bytes"), bytes.map_or("-1".to_owned(), |bytes| bytes.to_string()))?)
}

/// The processes of a group and of those below it.
fn processes(group: &Path) -> Result<Vec<String>> {
    let mut found: Vec<String> = fs::read_to_string(group.join("cgroup.procs"))?.lines().map(str::to_owned).collect();
    for entry in fs::read_dir(group)?.flatten().filter(|entry| entry.path().is_dir()) {
        found.extend(processes(&entry.path())?);
    }
    Ok(found)
}

/// Groups for a node's kubelet. Returns their path, which is the same in each hierarchy.
///
/// A machine's controllers are either all in the unified hierarchy, or each in a hierarchy of cgroup v1. In the second case a unified
/// hierarchy without controllers may be mounted, too.
pub fn for_kubelet(node: &str) -> Result<PathBuf> {
    let path = Path::new(&run()?).join(node);
    let hierarchies = hierarchies()?;
    let has_older = hierarchies.iter().any(|hierarchy| !hierarchy.is_unified);
    for hierarchy in hierarchies {
        let group = hierarchy.at.join(&path);
        match (hierarchy.is_unified, has_older) {
            (false, _) => {
                make(&group)?;
                fill_cpuset(&hierarchy.at, &path)?;
            }
            (true, false) => {
                make(&group)?;
                delegate(&hierarchy.at, &path)?;
            }
            (true, true) => make(&group)?,
        }
    }
    Ok(Path::new("/").join(path))
}

/// Copies processors and memory nodes from the root: a new cpuset group of cgroup v1 has none.
fn fill_cpuset(root: &Path, path: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|file| root.join(file).exists()) {
        let all = fs::read(root.join(file))?;
        for ancestor in from_the_top(root, path) {
            fs::write(ancestor.join(file), &all)?;
        }
    }
    Ok(())
}

/// Enables the controllers for the groups below the root and below each group on this path. Of the last one, no process may be a member.
fn delegate(root: &Path, path: &Path) -> Result<()> {
    let parents = [root.to_owned()].into_iter().chain(from_the_top(root, path));
    for parent in parents {
        let there = fs::read_to_string(parent.join("cgroup.controllers"))?;
        for controller in CONTROLLERS.iter().filter(|name| there.split_whitespace().any(|there| there == **name)) {
            fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"))
                .with_context(|| format!("can't enable {controller} below {}", parent.display()))?;
        }
    }
    Ok(())
}

fn from_the_top(root: &Path, path: &Path) -> impl Iterator<Item = PathBuf> {
    let mut group = root.to_owned();
    path.iter().map(move |name| {
        group.push(name);
        group.clone()
    })
}

fn run() -> Result<String> {
    std::env::var(MARK).context("this process is not inside a run's namespaces")
}

fn make(group: &Path) -> Result<()> {
    fs::create_dir_all(group).with_context(|| format!("can't create the control group {}", group.display()))
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let hierarchy = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup").then(|| Hierarchy { at: at.into(), is_unified: kind == "cgroup2" })
    };
    let found: Vec<_> = mounts.lines().filter_map(hierarchy).collect();
    ensure!(!found.is_empty(), "this machine has no control groups mounted below /sys/fs/cgroup");
    Ok(found)
}

/// Removes the empty control groups of ended runs. systemd-nspawn and kubelets create some in all hierarchies.
pub(crate) fn remove() -> Result<()> {
    for hierarchy in hierarchies()? {
        for entry in fs::read_dir(hierarchy.at)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                remove_tree(&entry.path());
            }
        }
    }
    Ok(())
}

/// Removes a tree, depth first. A group that is still in use stays, with its parents.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
