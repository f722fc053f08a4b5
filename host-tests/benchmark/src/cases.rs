//! Which server is put under which load, and in which order.

use crate::data::Data;
use crate::load::{self, Measured};
use crate::servers::{Server, Subject};
use crate::workload::{LARGE, Load, SMALL, Settings};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, btree_map::Entry};

/// One line of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What is asked for.
    pub load: Load,
    /// How many users the database has.
    pub users: u32,
    /// Who is asked.
    pub subject: Subject,
}

/// What was measured for each case, one entry per round.
pub type Rounds = BTreeMap<Case, Vec<Measured>>;

/// All cases; those that are compared stand side by side.
pub fn all() -> Vec<Case> {
    use Subject::*;
    let groups: [(Load, u32, &[Subject]); 4] = [
        (Load::Greeting, SMALL.users, &[Constant, Native, OneQuery, Component]),
        (Load::Greeting, LARGE.users, &[Component, OneQuery, Native]),
        (Load::Saving, SMALL.users, &[Native, OneQuery, Component]),
        (Load::SavingSame, SMALL.users, &[Component, OneQuery, Native]),
    ];
    let mut cases = Vec::new();
    for (load, users, subjects) in groups {
        cases.extend(subjects.iter().map(|&subject| Case { load, users, subject }));
    }
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
        let run = load::Run { load: case.load, users: case.users, seed: number, seconds: settings.seconds };
        let measured = run.on(server, data).await.with_context(|| format!("{case:?}"))?;
        rounds.entry(case).or_default().push(measured);
    }
    Ok(())
}
