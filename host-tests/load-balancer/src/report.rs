//! What goes wrong in the background is said once, however long it lasts.

use anyhow::{Error, Result};

/// Whether something goes wrong at the moment.
#[derive(Default)]
pub(crate) struct ReportOnce(bool);

impl ReportOnce {
    /// Says an error on standard error where all was well before, and tells whether there is one.
    pub fn about<T>(&mut self, what: &str, result: Result<T>) -> bool {
        let was_said = std::mem::replace(&mut self.0, result.is_err());
        if let Err(error) = result
            && !was_said
        {
            eprintln!("The way in {what}: {error:#}.");
        }
        self.0
    }
}

/// An error of the client, which repeats its causes in its own words, by its first cause alone.
pub(crate) fn cause(error: impl Into<Error>) -> Error {
    Error::msg(error.into().root_cause().to_string())
}
