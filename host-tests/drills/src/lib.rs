//! The drills: failover, restore and recovery, done for real on the lab's nodes under load, and judged by what they promise.
//!
//! `drills.toml` has every drill with its promises and its deadline; `stories` tells what happens. Each module knows only those
//! above it:
//!
//! ```text
//! catalogue, promises      drills.toml
//! traffic                  the clients, and the record of what they and the nodes did
//! environment              the lab with a service on it
//! alerts                   what must be raised
//! stories                  what happens in each drill
//! legend, timeline, dashboard, table   what remains of a run: pictures and figures
//! run                      one drill after the other
//! ```

mod alerts;
mod catalogue;
mod dashboard;
mod environment;
mod legend;
mod promises;
mod run;
mod stories;
mod table;
mod timeline;
mod traffic;

pub use catalogue::{Chosen, Drill};
pub use run::run;
