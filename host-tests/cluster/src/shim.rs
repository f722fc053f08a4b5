//! The pods' runtime.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

const NAME: &str = "containerd-shim-spin-v2";
/// The variable that names a shim in place of the stand-in.
const VARIABLE: &str = "SHIM";

/// The pods' runtime: the shim that SHIM names, or else the stand-in that was built with this program.
pub fn shim() -> Result<PathBuf> {
    // An empty variable counts as unset.
    let shim = match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path).canonicalize().context("SHIM names no file")?,
        None => std::env::current_exe()?.with_file_name(NAME),
    };
    ensure!(
        shim.ends_with(NAME) && shim.exists(),
        "SHIM must name a program {NAME}, and {} is not one",
        shim.display()
    );
    Ok(shim)
}
