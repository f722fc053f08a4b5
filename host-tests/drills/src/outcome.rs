//! The outcome of a drill.

use anyhow::{Context, Result};
use dob_clients::history::Findings;

/// What a scenario returns.
pub(crate) struct Outcome {
    /// The findings of the history checker, if the drill has clients.
    pub figures: Option<Findings>,
    /// Additional findings for readers, such as the leader afterwards.
    pub note: String,
}

impl Outcome {
    /// The outcome of a drill without clients.
    pub fn noted(note: impl Into<String>) -> Self {
        Self { figures: None, note: note.into() }
    }

    /// Replaces the note.
    pub fn with_note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// The findings of the history checker.
    pub fn figures(&self) -> Result<&Findings> {
        self.figures.as_ref().context("this drill has no clients")
    }
}
