//! The primary region is lost and the other takes over; then failing back.

use super::steps::{AFTER, until_fired};
use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use crate::traffic::Traffic;
use anyhow::{Context, Result, ensure};
use dob_clients::history::date;
use dob_lab::{CENTRAL, Node, Roles, WEST};
use std::time::Instant;

/// How many segments wait for the archive: more than it ever has to upload at once.
const WAITING: usize = 10;

/// All nodes of the primary region lose their power, and a person promotes the recovery region.
pub async fn gone(environment: &LabEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let standby = environment.central().until_following().await?.leader;
    let refused = standby.refusal(&["dob-promote"]).await?;
    ensure!(refused.contains("still leads"), "{refused}");

    let traffic = environment.traffic().await;
    traffic.mark("primary region's power cut");
    environment.west().power_off().await?;
    let refused = standby.refusal(&["dob-promote"]).await?;
    ensure!(refused.contains("can't be asked whether they lead"), "{refused}");
    let decided = Instant::now();
    traffic.mark("dob-promote --other-region-is-gone");
    standby.run(&["dob-promote", "--other-region-is-gone"]).await?;
    environment.serve(CENTRAL).await?;
    traffic.until_saved().await?;
    let recovery_time = decided.elapsed().as_secs();
    let refused = standby.refusal(&["dob-replication", "synchronous"]).await?;
    ensure!(refused.contains("no Patroni of the other region answers"), "{refused}");
    traffic.run_for(AFTER).await;
    let outcome = environment.judge_in(environment.central(), traffic).await?;
    let figures = outcome.figures()?;
    let (lost, seconds) = (figures.lost.len(), figures.lost_seconds);
    let note = format!("RPO {lost} acknowledged dates ({seconds:.1} s), RTO {recovery_time} s from the decision");
    Ok(outcome.with_note(note))
}

/// The old region's power is back. It follows, then leads again. The first attempt to hand over is killed, and undone.
pub async fn fail_back(environment: &LabEnvironment) -> Result<Outcome> {
    if environment.central().primary().await.is_none() {
        gone(environment).await?;
    }
    let west = environment.west();
    west.power_on().await?;
    let old = west.data_nodes().next().context("the region has no data node")?;
    old.until_logged("patroni", "not started until dob-rejoin").await?;
    ensure!(west.primary().await.is_none(), "the old region leads, too");
    let rejoined = Instant::now();
    old.run(&["dob-rejoin"]).await?;
    let follower = west.until_following().await?.leader;
    let rejoined = rejoined.elapsed().as_secs();
    let journal = follower.journal("patroni").await?;
    let rebuilt = journal.contains("bootstrap_standby_leader") || journal.contains("pg_basebackup");
    ensure!(!rebuilt, "the old region was rebuilt");
    let rewound = journal.contains("running pg_rewind");
    let leader = environment.central().until_leading().await?.leader;
    leader.kill_hand_over().await?;
    ensure!(environment.central().primary().await.is_none(), "a node leads without PostgreSQL");
    leader.run(&["dob-promote"]).await?;
    environment.central().until_leading().await?;
    west.until_following().await?;

    let traffic = environment.traffic().await;
    hand_back(environment, &traffic, follower).await?;
    traffic.run_for(AFTER).await;
    let how = if rewound { "by pg_rewind" } else { "without a rewind, its data had not diverged" };
    let note = format!("the old region followed {rejoined} s after dob-rejoin, {how}");
    Ok(environment.judge(traffic).await?.with_note(note))
}

/// Hands over from the recovery region to this node of the primary region.
async fn hand_back(environment: &LabEnvironment, traffic: &Traffic, follower: &Node) -> Result<()> {
    let leader = environment.central().until_leading().await?.leader;
    traffic.mark("dob-rejoin --hand-over in the recovery region");
    leader.run(&["dob-rejoin", "--hand-over"]).await?;
    traffic.mark("dob-promote in the primary region");
    follower.run(&["dob-promote"]).await?;
    environment.serve(WEST).await?;
    traffic.until_saved().await?;
    environment.central().until_following().await.map(drop)
}

/// The regions are partitioned, and somebody promotes the recovery region, so that both lead. The writes that only the primary region
/// accepted are kept in a copy before it is given up.
pub async fn both_lead(environment: &LabEnvironment) -> Result<Outcome> {
    let leader = environment.ready().await?.leader;
    let standby = environment.central().until_following().await?.leader;
    let traffic = environment.traffic().await;
    promote_though_partitioned(environment, &traffic, standby).await?;
    environment.serve(CENTRAL).await?;
    traffic.until_saved().await?;
    let taken_alone = "INSERT INTO dob_api.birthday (username, date_of_birth) VALUES ('takenalone', '1990-05-20')";
    leader.sql("dob_api", taken_alone).await?;
    reconnect_two_that_lead(environment, &traffic).await?;
    let copy = leader.dump("dob_api.birthday").await?;
    ensure!(copy.contains("takenalone\t1990-05-20"), "the copy lacks the writes that only the primary region took");
    traffic.mark("dob-rejoin in the primary region");
    leader.run(&["dob-rejoin"]).await?;
    let follower = environment.west().until_following().await?.leader;
    hand_back(environment, &traffic, follower).await?;
    traffic.run_for(AFTER).await;
    let outcome = environment.judge(traffic).await?;
    for (user, version) in &outcome.figures()?.lost {
        let row = format!("{user}\t{}\t", date(*version));
        ensure!(copy.contains(&row), "a lost date is not in the copy: {row}");
    }
    let left = "SELECT count(*) FROM dob_api.birthday WHERE username = 'takenalone'";
    let left = follower.sql("dob_api", left).await?;
    ensure!(left == "0", "the writes that only the primary region took are still there");
    let note = "lost: the primary region's writes between the promotion and the clients' move; they are in the copy";
    Ok(outcome.with_note(note))
}

/// The same, but the recovery region is given up. The leader of the region that stays has the older timeline, whose WAL the archive refuses
/// until dob-stay.
pub async fn old_stays(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let standby = environment.central().until_following().await?.leader;
    let traffic = environment.traffic().await;
    promote_though_partitioned(environment, &traffic, standby).await?;
    standby.until_archiving().await?;
    reconnect_two_that_lead(environment, &traffic).await?;
    replica.run(&["systemctl", "restart", "patroni"]).await?;
    environment.west().until_leading().await?;
    traffic.mark("the primary region's replica streams after a restart");
    leader.write_refused_segments(WAITING).await?;
    until_fired(environment, traffic.started(), &["WalArchiveFailing"]).await?;
    traffic.mark("the archive refuses the primary region's WAL; dob-stay");
    leader.run(&["dob-stay"]).await?;
    let now = environment.west().until_leading().await?.leader;
    traffic.mark("dob-rejoin in the recovery region");
    standby.run(&["dob-rejoin"]).await?;
    environment.central().until_following().await?;
    traffic.mark("recovery region follows");
    leader.run(&["systemctl", "restart", "patroni"]).await?;
    environment.west().until_leading().await?;
    now.finish_segment().await?;
    now.until_archived().await?;
    traffic.mark("WAL archived; the old leader streams after a restart");
    traffic.run_for(AFTER).await;
    environment.judge(traffic).await
}

/// Partitions the regions, and promotes the recovery region although the primary one leads.
async fn promote_though_partitioned(environment: &LabEnvironment, traffic: &Traffic, standby: &Node) -> Result<()> {
    traffic.mark("regions cut off from each other");
    environment.west().cut_off_from(&environment.central())?;
    traffic.mark("dob-promote --other-region-is-gone, though it is not");
    standby.run(&["dob-promote", "--other-region-is-gone"]).await.map(drop)
}

/// Reconnects the regions, and waits for the alert that both lead.
async fn reconnect_two_that_lead(environment: &LabEnvironment, traffic: &Traffic) -> Result<()> {
    traffic.mark("regions reconnected: both lead");
    environment.west().reconnect()?;
    until_fired(environment, traffic.started(), &["TwoRegionsLead"]).await
}
