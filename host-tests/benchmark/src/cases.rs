//! The measured cases and their order.

use crate::databases::Databases;
use crate::load::{self, CONNECTIONS, Measured};
use crate::servers::{Implementation, Server};
use crate::workload::{LARGE, RequestType, SMALL, Settings};
use anyhow::{Context, Result};
use dob_spin::Build;
use std::collections::{BTreeMap, btree_map::Entry};

/// One line of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The type of request.
    pub request: RequestType,
    /// How many users the database has.
    pub users: u32,
    /// The number of connections.
    pub connections: usize,
    /// The server that is measured.
    pub implementation: Implementation,
}

/// The measurements of each case, one per round.
pub type Rounds = BTreeMap<Case, Vec<Measured>>;

/// All cases; those that are compared follow each other.
pub fn all() -> Vec<Case> {
    use Build::{Wasi02, Wasi03};
    use Implementation::{Component, Constant, Native, OneQuery};
    let builds = [Native, Component(Wasi02), Component(Wasi03), OneQuery(Wasi02)];
    let mut cases = Vec::new();
    let mut group = |request, users, connections, implementations: &[Implementation]| {
        cases.extend(implementations.iter().map(|&implementation| Case {
            request,
            users,
            connections,
            implementation,
        }));
    };
    for connections in [2, CONNECTIONS, 200, 1000] {
        for request in [RequestType::Greeting, RequestType::Saving] {
            group(request, SMALL.users, connections, &builds);
            // It keeps a connection for as long as its instance lives. With more clients, the host's pool has none left.
            if connections <= CONNECTIONS {
                group(request, SMALL.users, connections, &[OneQuery(Wasi03)]);
            }
        }
        // A constant does not depend on the request, so it is measured with one.
        group(RequestType::Greeting, SMALL.users, connections, &[Constant(Wasi02), Constant(Wasi03)]);
    }
    let compared = [Component(Wasi02), OneQuery(Wasi02), Native];
    group(RequestType::Greeting, LARGE.users, CONNECTIONS, &compared);
    group(RequestType::SavingSame, SMALL.users, CONNECTIONS, &compared);
    cases
}

/// Starts every server, warms it up, and measures the cases in turns.
pub async fn run(databases: &Databases, settings: Settings) -> Result<Rounds> {
    let mut servers = BTreeMap::new();
    for Case { implementation, users, .. } in all() {
        if let Entry::Vacant(place) = servers.entry((implementation, users)) {
            place.insert(Server::start(implementation, &databases.variables(users)?)?);
        }
    }
    round(databases, &servers, Settings { seconds: 1, ..settings }, 0, &mut Rounds::new()).await?;
    let mut rounds = Rounds::new();
    for number in 1..=settings.rounds {
        eprintln!("round {number} of {}", settings.rounds);
        round(databases, &servers, settings, number, &mut rounds).await?;
    }
    Ok(rounds)
}

/// Measures every case once. Every second round is in reverse order, so that no case profits from its position.
async fn round(
    databases: &Databases,
    servers: &BTreeMap<(Implementation, u32), Server>,
    settings: Settings,
    number: u32,
    rounds: &mut Rounds,
) -> Result<()> {
    let mut cases = all();
    if number.is_multiple_of(2) {
        cases.reverse();
    }
    for case in cases {
        databases.prepare(case.request, case.users).await?;
        let server = servers.get(&(case.implementation, case.users)).context("every server was started")?;
        let Case { request, users, connections, .. } = case;
        let turn = load::Turn { request, users, connections, seed: number, seconds: settings.seconds };
        let measured = turn.on(server, databases).await.with_context(|| format!("{case:?}"))?;
        rounds.entry(case).or_default().push(measured);
    }
    Ok(())
}
