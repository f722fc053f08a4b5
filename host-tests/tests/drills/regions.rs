//! The primary region is lost and the other takes over; then the way back.

use crate::alerts;
use crate::load::Load;
use crate::world::{CENTRAL, PATIENCE, Row, WEST, World};
use anyhow::{Result, bail, ensure};
use std::time::{Duration, Instant};

const AFTER: Duration = Duration::from_secs(5);

/// All nodes of the primary region lose their power; a person promotes the recovery region.
pub async fn gone(world: &mut World) -> Result<Row> {
    world.roles().await?;
    let (standby, _) = world.lab.healthy(CENTRAL, "standby_leader").await?;
    let refused = refusal(world, &standby, &["dob-promote"]).await?;
    ensure!(refused.contains("still leads"), "{refused}");

    let load = world.load().await;
    load.mark("primary region's power cut");
    for node in world.lab.cluster(WEST) {
        world.lab.node(&node).power_off()?;
    }
    let refused = refusal(world, &standby, &["dob-promote"]).await?;
    ensure!(refused.contains("can't be asked whether they lead"), "{refused}");
    let decided = Instant::now();
    load.mark("dob-promote --other-region-is-gone");
    world.lab.nodes[&standby].run(&["dob-promote", "--other-region-is-gone"]).await?;
    world.serve(CENTRAL).await?;
    load.until_saved(PATIENCE).await?;
    let recovery_time = decided.elapsed().as_secs();
    load.mark("saving in the recovery region");
    load.go_on(AFTER).await;
    let (figures, _) = world.judge("region-gone", load, CENTRAL).await?;
    let note = format!(
        "RPO {} acknowledged dates ({:.1} s), RTO {recovery_time} s from the decision",
        figures.lost.len(),
        figures.lost_seconds
    );
    Ok(Row::measured("region-gone", figures, note))
}

/// The old region's power is back: it follows, then leads again.
pub async fn fail_back(world: &mut World) -> Result<Row> {
    if world.lab.leader(CENTRAL, "primary").await.is_none() {
        gone(world).await?;
    }
    world.lab.power_on(WEST).await?;
    let old = world.lab.cluster(WEST).swap_remove(0);
    let waits = "journalctl --unit=patroni --boot --no-pager | grep -q 'not started until dob-rejoin'";
    world.lab.nodes[&old].until("the old region waits", &["bash", "-c", waits]).await?;
    ensure!(world.lab.leader(WEST, "primary").await.is_none(), "the old region leads too");
    let rejoined = Instant::now();
    world.lab.nodes[&old].run(&["dob-rejoin"]).await?;
    let (follower, _) = world.lab.healthy(WEST, "standby_leader").await?;
    let rejoined = rejoined.elapsed().as_secs();
    let journal = world.lab.nodes[&follower].run(&["journalctl", "--unit=patroni", "--no-pager", "--boot"]).await?;
    let rewound = journal.contains("running pg_rewind");
    let rebuilt = journal.contains("bootstrap_standby_leader") || journal.contains("pg_basebackup");

    let load = world.load().await;
    hand_back(world, &load, &follower).await?;
    load.go_on(AFTER).await;
    let (figures, _) = world.judge("fail-back", load, WEST).await?;
    ensure!(figures.lost.is_empty(), "{figures:?}");
    ensure!(!rebuilt, "the old region was rebuilt");
    let how = if rewound { "by pg_rewind" } else { "without a rewind, its data had not diverged" };
    let note = format!("the old region followed {rejoined} s after dob-rejoin, {how}");
    Ok(Row::measured("fail-back", figures, note))
}

/// The recovery region hands over to this node of the primary region.
async fn hand_back(world: &mut World, load: &Load, follower: &str) -> Result<()> {
    let (leader, _) = world.lab.healthy(CENTRAL, "primary").await?;
    load.mark("dob-rejoin --hand-over in the recovery region");
    world.lab.nodes[&leader].run(&["dob-rejoin", "--hand-over"]).await?;
    load.mark("dob-promote in the primary region");
    world.lab.nodes[follower].run(&["dob-promote"]).await?;
    world.serve(WEST).await?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving in the primary region");
    world.lab.healthy(CENTRAL, "standby_leader").await.map(drop)
}

/// The regions are cut off from each other, and somebody takes the primary one for lost: both lead. What the one took that is given
/// up is in a copy.
pub async fn both_lead(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let (standby, _) = world.lab.healthy(CENTRAL, "standby_leader").await?;
    let load = world.load().await;
    load.mark("regions cut off from each other");
    let other: Vec<String> =
        world.lab.cluster(CENTRAL).iter().map(|name| world.lab.nodes[name].address.to_string()).collect();
    for node in world.lab.cluster(WEST) {
        world.lab.nodes[&node].filter(&format!("ip daddr {{ {} }} drop", other.join(", ")))?;
    }
    load.mark("dob-promote --other-region-is-gone, though it is not");
    world.lab.nodes[&standby].run(&["dob-promote", "--other-region-is-gone"]).await?;
    world.serve(CENTRAL).await?;
    load.until_saved(PATIENCE).await?;
    let taken_alone = "INSERT INTO dob_api.birthday (username, date_of_birth) VALUES ('takenalone', '1990-05-20')";
    world.lab.nodes[&leader].sql("dob_api", taken_alone).await?;
    load.mark("link healed: both lead");
    for node in world.lab.cluster(WEST) {
        world.lab.nodes[&node].pass_packets()?;
    }
    alerts::fired(&world.prometheus, load.started, &["TwoRegionsLead".to_owned()].into()).await?;
    let copy = world.lab.nodes[&leader]
        .run(&["runuser", "--user", "postgres", "--", "pg_dump", "--table=dob_api.birthday", "dob_api"])
        .await?;
    ensure!(copy.contains("takenalone\t1990-05-20"), "the copy lacks what the primary region took alone");
    load.mark("dob-rejoin in the primary region");
    world.lab.nodes[&leader].run(&["dob-rejoin"]).await?;
    let (follower, _) = world.lab.healthy(WEST, "standby_leader").await?;
    hand_back(world, &load, &follower).await?;
    load.go_on(AFTER).await;
    let (figures, _) = world.judge("both-regions-lead", load, WEST).await?;
    let left = world.lab.nodes[&follower]
        .sql("dob_api", "SELECT count(*) FROM dob_api.birthday WHERE username = 'takenalone'")
        .await?;
    ensure!(left == "0", "what the primary region took alone is still there");
    Ok(Row::measured(
        "both-regions-lead",
        figures,
        "lost: what the primary region took between the promotion and the clients' move; it is in the copy",
    ))
}

/// What a command says that must refuse.
pub async fn refusal(world: &World, node: &str, command: &[&str]) -> Result<String> {
    match world.lab.nodes[node].run(command).await {
        Ok(said) => bail!("{} did not refuse: {said}", command.join(" ")),
        Err(error) => Ok(error.to_string()),
    }
}
