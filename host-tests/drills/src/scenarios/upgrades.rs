//! The upgrade of PostgreSQL to a major version, with the commands of the runbook.

use super::steps::judge_later;
use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use crate::runbook::Section;
use crate::traffic::Traffic;
use anyhow::{Result, ensure};
use dob_lab::{Boot, Node, Roles, WEST};
use std::time::{Duration, Instant};

const RUNBOOK: Section = Section("Upgrade PostgreSQL to a major version");
/// How many people have saved before the copy begins.
const PEOPLE: usize = 100_000;
/// For how long the clients save in the new cluster.
const SERVED_FOR: Duration = Duration::from_secs(10);

/// A session on a leader, as the runbook begins it.
struct Session<'a> {
    node: &'a Node,
    other: &'a Node,
}

/// What the cluster does from which saves have moved away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    /// It receives every change.
    Follow,
    /// It is removed.
    End,
}

/// The primary region's dates are copied into a cluster of the newer PostgreSQL while clients save. Saves are switched there, and back.
///
/// The newer cluster has two data nodes and a witness, from the same Terraform module. What differs from AWS: its PostgreSQL is Debian's build for
/// the next release, with that release's libraries, in place of PostgreSQL's own for Debian 13. It has no recovery region. And servers of the
/// component are replaced, in place of pods. Who types the commands needs longer between them than this drill.
pub async fn major(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader: old, .. } = environment.ready().await?;
    let newer = boot(environment).await?;
    let (old, new) = (Session { node: old, other: newer.leader }, Session { node: newer.leader, other: old });
    old.node.add_people(PEOPLE).await?;
    let traffic = environment.traffic().await;
    let copied = copy(&traffic, &old, &new).await?;
    environment.serve_from(WEST, [new.node, old.node]).await?;
    traffic.mark("both leaders configured");
    switch(&traffic, &old, &new, Afterwards::Follow).await?;
    environment.serve_from(WEST, [new.node, newer.replica]).await?;
    new.node.run(&["dob-backup"]).await?;
    traffic.mark("new cluster backed up");
    traffic.run_for(SERVED_FOR).await;
    environment.serve_from(WEST, [old.node, new.node]).await?;
    switch(&traffic, &new, &old, Afterwards::End).await?;
    environment.serve(WEST).await?;
    end(environment, &old, &new).await?;
    Ok(judge_later(environment, traffic).await?.with_note(copied))
}

/// Boots the newer cluster, empty.
async fn boot(environment: &LabEnvironment) -> Result<Roles<'_>> {
    let newer = environment.lab.newer();
    for node in newer.nodes() {
        node.replace(Boot::NewInstanceAndVolume).await?;
    }
    newer.until_leading().await
}

/// Copies the old leader's database into the new cluster. Returns what was copied, in words.
async fn copy(traffic: &Traffic, old: &Session<'_>, new: &Session<'_>) -> Result<String> {
    let (from, to) = (old.node.major_version().await?, new.node.major_version().await?);
    ensure!(from < to, "PostgreSQL {to} is no newer than {from}");
    old.run("prepare").await?;
    old.run("offer").await?;
    traffic.mark("copy begins");
    let began = Instant::now();
    new.run("copy").await?;
    new.run("copied").await?;
    let took = began.elapsed().as_secs_f64();
    traffic.mark("copy is complete");
    new.run("offer").await?;
    let (made, wanted) = (new.node.make_of_database().await?, old.node.make_of_database().await?);
    ensure!(made == wanted, "the copy has {made}, and the original {wanted}");
    Ok(format!("from {from} to {to} and back; {PEOPLE} dates copied in {took:.1} s, while saves continued"))
}

/// Moves saves from one cluster to the other.
async fn switch(traffic: &Traffic, from: &Session<'_>, to: &Session<'_>, afterwards: Afterwards) -> Result<()> {
    traffic.mark(&format!("saves stop on {}", from.node.name));
    let printed = from.run("stop-saves").await?;
    if afterwards == Afterwards::Follow {
        from.run("follow").await?;
    }
    to.run_with("start-saves", &[("PRINTED", &printed)]).await?;
    traffic.mark(&format!("saves allowed on {}", to.node.name));
    traffic.until_saved().await.map(drop)
}

/// Leaves the old cluster as it was, and the new one off.
async fn end(environment: &LabEnvironment, old: &Session<'_>, new: &Session<'_>) -> Result<()> {
    for session in [old, new] {
        session.run("end").await?;
    }
    environment.lab.newer().power_off().await?;
    old.node.remove_people().await
}

impl Session<'_> {
    async fn run(&self, name: &str) -> Result<String> {
        self.run_with(name, &[]).await
    }

    /// Runs commands of the runbook, with these words replaced.
    async fn run_with(&self, name: &str, words: &[(&str, &str)]) -> Result<String> {
        let address = self.other.address.to_string();
        let words = [words, &[("ADDRESS", address.as_str())]].concat();
        RUNBOOK.run(self.node, &["session", name], &words).await
    }
}
