//! Tools for all rooms: waiting with a deadline, commands with a deadline, processes that end with their owner, free ports,
//! certificates, the limit of open files.

mod authority;
mod command;
mod open_files;
mod ports;
mod process;
mod random;
mod wait;

pub use authority::{Authority, ServerCertificate};
pub use command::{read, read_within, run_logged};
pub use duct::cmd;
pub use open_files::allow_open_files;
pub use ports::free_port;
pub use process::{Process, end_within};
pub use random::random_word;
pub use wait::eventually;

use std::path::{Path, PathBuf};

/// The path of a file in the project.
pub fn project_file(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
