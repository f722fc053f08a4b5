//! The primary region is lost and the other takes over; then the way back.

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
    let (leader, _) = world.lab.healthy(CENTRAL, "primary").await?;
    load.mark("dob-rejoin --hand-over in the recovery region");
    world.lab.nodes[&leader].run(&["dob-rejoin", "--hand-over"]).await?;
    load.mark("dob-promote in the primary region");
    world.lab.nodes[&follower].run(&["dob-promote"]).await?;
    world.serve(WEST).await?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving in the primary region");
    world.lab.healthy(CENTRAL, "standby_leader").await?;
    load.go_on(AFTER).await;
    let (figures, _) = world.judge("fail-back", load, WEST).await?;
    ensure!(figures.lost.is_empty(), "{figures:?}");
    ensure!(!rebuilt, "the old region was rebuilt");
    let how = if rewound { "by pg_rewind" } else { "without a rewind, its data had not diverged" };
    let note = format!("the old region followed {rejoined} s after dob-rejoin, {how}");
    Ok(Row::measured("fail-back", figures, note))
}

/// What a command says that must refuse.
async fn refusal(world: &World, node: &str, command: &[&str]) -> Result<String> {
    match world.lab.nodes[node].run(command).await {
        Ok(said) => bail!("{} did not refuse: {said}", command.join(" ")),
        Err(error) => Ok(error.to_string()),
    }
}
