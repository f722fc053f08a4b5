//! Random passwords and names.

use anyhow::{Context, Result};
use std::io::Read;

/// 128 random bits as hexadecimal digits, which need no escaping anywhere.
pub fn random_word() -> Result<String> {
    let mut random = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .context("can't read /dev/urandom")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
