//! CPU time of processes, from `/proc`.

use anyhow::{Context, Result};
use std::time::Duration;

/// Source: proc_pid_stat(5), USER_HZ.
const TICKS_PER_SECOND: u64 = 100;
/// The first of utime, stime, cutime and cstime among the fields after the program's name. Source: proc_pid_stat(5).
const UTIME: usize = 11;

/// User and system time of a process, its children, and its children that have ended.
pub fn of_family(pid: u32) -> Result<Duration> {
    let mut total: u64 = times(pid)?.iter().sum();
    // The time of a child that ends meanwhile is added to the process's own.
    for child in children(pid)?.into_iter().filter_map(|child| times(child).ok()) {
        total += child[0] + child[1];
    }
    Ok(ticks(total))
}

/// A process's children.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that ends meanwhile has none.
        let of_thread = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(of_thread.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(children)
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

fn times(pid: u32) -> Result<[u64; 4]> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} has ended; its output above says why"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name in brackets")?;
    let fields: Vec<u64> = fields.split_whitespace().skip(UTIME).take(4).map(str::parse).collect::<Result<_, _>>()?;
    fields.try_into().ok().context("four times")
}
