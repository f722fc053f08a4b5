//! The drill that is running.

use crate::timeline;
use crate::traffic::{Marks, Timeline, Traffic};
use anyhow::Result;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// The drill that is running.
#[derive(Default)]
pub(crate) struct CurrentDrill(Mutex<State>);

#[derive(Default)]
struct State {
    drill: String,
    loads: usize,
    /// Of a drill without clients.
    step: Option<String>,
    /// Those of the drill's clients.
    marks: Marks,
    /// That of the drill's clients, once they have ended.
    timeline: Option<Arc<Timeline>>,
}

impl CurrentDrill {
    /// Sets the drill that is running from now on.
    pub fn begin(&self, drill: &str) {
        let mut state = self.state();
        state.drill = drill.to_owned();
        state.marks = Marks::default();
        state.step = None;
        state.timeline = None;
    }

    /// Prints what a drill without clients has reached.
    pub fn step(&self, what: &str) {
        println!("    {what}");
        self.state().step = Some(what.to_owned());
    }

    /// Keeps the marks of the drill's clients, which a drill that passes its deadline loses.
    pub fn follow(&self, traffic: &Traffic) {
        self.state().marks = Arc::clone(&traffic.marks);
    }

    /// What the drill has reached.
    pub fn reached(&self) -> String {
        let state = self.state();
        let marks = state.marks.lock().expect("no drill panics here");
        let mark = marks.last().map(|(at, what)| format!("{:.1} s {what}", at.as_secs_f64()));
        mark.or_else(|| state.step.clone()).unwrap_or_else(|| "nothing".to_owned())
    }

    /// The number of a new load generator in this run; no two that save share a client.
    pub fn next_load(&self) -> usize {
        let mut state = self.state();
        state.loads += 1;
        state.loads
    }

    /// Keeps the timeline, which is drawn once it is known whether the drill failed.
    pub fn keep(&self, timeline: Timeline) -> Arc<Timeline> {
        Arc::clone(self.state().timeline.insert(Arc::new(timeline)))
    }

    /// Draws the timeline into a directory, and forgets it; nothing if no clients have ended.
    pub fn draw(&self, directory: &Path) -> Result<()> {
        let mut state = self.state();
        state.timeline.take().map_or(Ok(()), |timeline| timeline::write(&state.drill, &timeline, directory))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no drill panics while it holds this")
    }
}
