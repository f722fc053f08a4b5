//! The runtime of the pods.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

const NAME: &str = "containerd-shim-spin-v2";
/// Names another shim than the stand-in.
const VARIABLE: &str = "SHIM";

/// The runtime of the pods: the one in SHIM, or the stand-in that was built with this program.
pub fn shim() -> Result<PathBuf> {
    // Empty it is as good as unset.
    let shim = match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path).canonicalize().context("SHIM names no file")?,
        None => std::env::current_exe()?.with_file_name(NAME),
    };
    ensure!(shim.ends_with(NAME) && shim.exists(), "SHIM must name a program {NAME}, and {} is none", shim.display());
    Ok(shim)
}
