//! Passwords and names that nobody guesses.

use anyhow::{Context, Result};
use std::io::Read;

/// 128 random bits in hexadecimal digits, so that they may stand anywhere.
pub fn random_word() -> Result<String> {
    let mut random = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .context("/dev/urandom gives nothing")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
