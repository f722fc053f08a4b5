//! The drill that is held, and what it has shown.

use crate::timeline;
use crate::traffic::Timeline;
use anyhow::{Context, Result};
use dob_clients::history::Findings;
use std::sync::{Mutex, MutexGuard};

/// The drill that is held now.
#[derive(Default)]
pub(crate) struct CurrentDrill(Mutex<State>);

#[derive(Default)]
struct State {
    drill: String,
    loads: usize,
}

impl CurrentDrill {
    /// Names the drill that is held from now on.
    pub fn begin(&self, drill: &str) {
        self.state().drill = drill.to_owned();
    }

    /// The number of a new load of this run: no two share a client.
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

/// What a drill has shown.
pub(crate) struct Outcome {
    /// What the clients saw, if there were any.
    pub figures: Option<Findings>,
    /// What a reader should know besides, such as who led afterwards.
    pub note: String,
}

impl Outcome {
    /// Of a drill without clients.
    pub fn noted(note: impl Into<String>) -> Self {
        Self { figures: None, note: note.into() }
    }

    /// The same with another note.
    pub fn with_note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// What the clients saw.
    pub fn figures(&self) -> Result<&Findings> {
        self.figures.as_ref().context("this drill has no clients")
    }
}
