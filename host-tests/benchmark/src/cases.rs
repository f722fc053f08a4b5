//! Which server is put under which load, and in which order.

use crate::data::Data;
use crate::load::{self, CONNECTIONS, Measured};
use crate::servers::{Server, Subject};
use crate::workload::{LARGE, Load, SMALL, Settings};
use anyhow::{Context, Result};
use dob_spin::Build;
use std::collections::{BTreeMap, btree_map::Entry};

/// One line of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What is asked for.
    pub load: Load,
    /// How many users the database has.
    pub users: u32,
    /// Over how many connections.
    pub connections: usize,
    /// Who is asked.
    pub subject: Subject,
}

/// What was measured for each case, one entry per round.
pub type Rounds = BTreeMap<Case, Vec<Measured>>;

/// All cases; those that are compared stand side by side.
pub fn all() -> Vec<Case> {
    use Build::{Wasi02, Wasi03};
    use Subject::{Component, Constant, Native, OneQuery};
    let builds = [Native, Component(Wasi02), Component(Wasi03)];
    let floors = [OneQuery(Wasi02), OneQuery(Wasi03)];
    let mut cases = Vec::new();
    let mut group = |load, users, connections, subjects: &[Subject]| {
        cases.extend(subjects.iter().map(|&subject| Case { load, users, connections, subject }));
    };
    group(Load::Greeting, SMALL.users, CONNECTIONS, &[Constant(Wasi02), Constant(Wasi03)]);
    for load in [Load::Greeting, Load::Saving] {
        for connections in [2, CONNECTIONS, 200, 1000] {
            group(load, SMALL.users, connections, &builds);
            if connections == CONNECTIONS {
                group(load, SMALL.users, connections, &floors);
            }
        }
    }
    let compared = [Component(Wasi02), OneQuery(Wasi02), Native];
    group(Load::Greeting, LARGE.users, CONNECTIONS, &compared);
    group(Load::SavingSame, SMALL.users, CONNECTIONS, &compared);
    cases
}

/// Starts every server, warms it up and lets the cases take turns.
pub async fn run(data: &Data, settings: Settings) -> Result<Rounds> {
    let mut servers = BTreeMap::new();
    for Case { subject, users, .. } in all() {
        if let Entry::Vacant(place) = servers.entry((subject, users)) {
            place.insert(Server::start(subject, &data.variables(users)?)?);
        }
    }
    round(data, &servers, Settings { seconds: 1, ..settings }, 0, &mut Rounds::new()).await?;
    let mut rounds = Rounds::new();
    for number in 1..=settings.rounds {
        eprintln!("round {number} of {}", settings.rounds);
        round(data, &servers, settings, number, &mut rounds).await?;
    }
    Ok(rounds)
}

/// Every second round goes backwards, so that no case profits from its place.
async fn round(
    data: &Data,
    servers: &BTreeMap<(Subject, u32), Server>,
    settings: Settings,
    number: u32,
    rounds: &mut Rounds,
) -> Result<()> {
    let mut cases = all();
    if number.is_multiple_of(2) {
        cases.reverse();
    }
    for case in cases {
        data.prepare(case.load, case.users).await?;
        let server = servers.get(&(case.subject, case.users)).context("every server was started")?;
        let Case { load, users, connections, .. } = case;
        let run = load::Run { load, users, connections, seed: number, seconds: settings.seconds };
        let measured = run.on(server, data).await.with_context(|| format!("{case:?}"))?;
        rounds.entry(case).or_default().push(measured);
    }
    Ok(())
}
