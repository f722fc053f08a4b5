//! The limit of open files.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More than the drills and benchmarks open at once: thousands of connections.
const OPEN_FILES: u64 = 16_384;

/// Raises this process's limit of open files to what drills and benchmarks need, or as far as the system allows. A shell's usual limit is
/// 1,024.
pub fn allow_open_files() -> Result<()> {
    let (allowed, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = OPEN_FILES.min(most);
    if allowed < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, most).context("can't raise the limit of open files")?;
    }
    Ok(())
}
