//! The drill that is running.

use crate::timeline;
use crate::traffic::Timeline;
use anyhow::Result;
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
