//! The drills: failovers, restores, recoveries and rollouts under load, compared with their promises.
//!
//! `drills.toml` lists every drill with its promises and its deadline. `scenarios` says what happens in each. Each module knows only
//! those above it, or in its line:
//!
//! ```text
//! promises, catalogue      drills.toml
//! traffic                  clients, and the timeline of what they and the nodes did
//! readers                  clients that only greet, and how much of their rate they keep
//! legend, timeline         the timeline as a picture
//! current_drill            the drill that is running, which gets the timeline
//! outcome                  what a scenario returns: the findings, and a note
//! lab                      the database nodes of two regions, with the component in front
//! cluster                  SpinKube with the component, and a database behind it
//! alerts                   the alerts that a drill must raise
//! runbook                  the commands of the runbooks
//! scenarios                what happens in each drill
//! processors               how busy the machine's processors were, for a failed drill
//! results, dashboard       the page of all results, and the picture of the dashboard
//! run                      one drill after the other
//! ```

mod alerts;
mod catalogue;
mod cluster;
mod current_drill;
mod dashboard;
mod lab;
mod legend;
mod outcome;
mod processors;
mod promises;
mod readers;
mod results;
mod run;
mod runbook;
mod scenarios;
mod timeline;
mod traffic;

pub use catalogue::{Selection, Testbed};
pub use cluster::Pace;
pub use run::{run_on_cluster, run_on_lab};
