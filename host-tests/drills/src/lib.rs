//! The drills: failover, restore, recovery and rollouts, done for real under load, and judged by what they promise.
//!
//! `drills.toml` has every drill with its promises and its deadline; `scenarios` tells what happens. Each module knows only those
//! above it:
//!
//! ```text
//! catalogue, promises      drills.toml
//! traffic                  the clients, and the record of what they and the nodes did
//! legend, timeline         the record as a picture
//! held                     the drill that is held, and what it has shown
//! environment              the lab with a service on it
//! cluster                  SpinKube with a service on it
//! alerts                   what must be raised
//! scenarios                  what happens in each drill
//! dashboard, table         what else remains of a run
//! run                      one drill after the other
//! ```

mod alerts;
mod catalogue;
mod cluster;
mod current;
mod dashboard;
mod lab;
mod legend;
mod promises;
mod run;
mod scenarios;
mod table;
mod timeline;
mod traffic;

pub use catalogue::{Chosen, Place};
pub use cluster::Pace;
pub use run::{run_on_cluster, run_on_lab};
