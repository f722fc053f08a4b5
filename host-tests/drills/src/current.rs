//! The running drill, and its outcome.

use crate::timeline;
use crate::traffic::Timeline;
use anyhow::{Context, Result};
use dob_clients::history::Findings;
use std::sync::{Mutex, MutexGuard};

/// The drill that is running.
#[derive(Default)]
pub(crate) struct CurrentDrill(Mutex<State>);

#[derive(Default)]
struct State {
    drill: String,
    loads: usize,
}

impl CurrentDrill {
    /// Sets the drill that is running from now on.
    pub fn begin(&self, drill: &str) {
        self.state().drill = drill.to_owned();
    }

    /// The number of a new load generator in this run; no two generators share a client.
    pub fn next_load(&self) -> usize {
        let mut state = self.state();
        state.loads += 1;
        state.loads
    }

    /// Draws the drill's timeline.
    pub fn draw(&self, timeline: &Timeline) -> Result<()> {
        timeline::write(&self.state().drill, timeline)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no drill panics while it holds this")
    }
}

/// The outcome of a drill.
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
