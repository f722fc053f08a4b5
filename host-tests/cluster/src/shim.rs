//! The pods' runtime.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

const NAME: &str = "containerd-shim-spin-v2";
/// The variable that names a shim in place of the stand-in.
const VARIABLE: &str = "SHIM";

/// The pods' runtime: the shim that SHIM names, or else the stand-in that was built with this program.
pub fn shim() -> Result<PathBuf> {
    // An empty variable counts as unset.
    let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
        let own = std::env::current_exe()?.with_file_name(NAME);
        ensure!(own.exists(), "there is no {}: build it with `cargo build --bins`, or set {VARIABLE}", own.display());
        return Ok(own);
    };
    let shim = PathBuf::from(path).canonicalize().context("SHIM names no file")?;
    ensure!(shim.ends_with(NAME), "{VARIABLE} must name a program {NAME}, and {} is not one", shim.display());
    Ok(shim)
}
