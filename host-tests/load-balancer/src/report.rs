//! Reports an error in the background once, however long it lasts.

use anyhow::{Error, Result};

/// Whether the last attempt failed.
#[derive(Default)]
pub(crate) struct ReportOnce(bool);

impl ReportOnce {
    /// Prints an error on standard error unless the previous attempt failed, too. Returns whether there is one.
    pub fn about<T>(&mut self, what: &str, result: Result<T>) -> bool {
        let was_said = std::mem::replace(&mut self.0, result.is_err());
        if let Err(error) = result
            && !was_said
        {
            eprintln!("The load balancer {what}: {error:#}.");
        }
        self.0
    }
}

/// The root cause of a client's error, whose own text only repeats it.
pub(crate) fn cause(error: impl Into<Error>) -> Error {
    Error::msg(error.into().root_cause().to_string())
}
