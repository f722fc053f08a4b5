//! The leader crashes, goes, hangs, is cut off, or hands over.

use crate::load::Load;
use crate::world::{Row, WEST, World};
use anyhow::{Context, Result, ensure};
use dob_host::history::Findings;
use std::time::{Duration, Instant};

const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(5);
/// How long anything may take that should come back by itself.
const PATIENCE: Duration = Duration::from_secs(90);

/// Both regions from user data alone, and the component's own start.
pub async fn cold_start(world: &mut World) -> Result<Row> {
    let started = Instant::now();
    world.ready().await?;
    let took = started.elapsed();
    let (leader, replica, _) = world.roles(WEST).await?;
    for node in world.lab.cluster(WEST) {
        world.lab.nodes[&node].run(&["cloud-init", "schema", "--system"]).await?;
    }
    let status = world.lab.nodes[&leader].run(&["dob-status", "--json"]).await?;
    let status: serde_json::Value = serde_json::from_str(&status).context("dob-status --json")?;
    let node = &status["node"];
    let streams = |row: &serde_json::Value| row["application_name"] == replica.as_str() && row["state"] == "streaming";
    ensure!(node["in_recovery"] == false, "{status}");
    ensure!(node["stat_replication"].as_array().is_some_and(|rows| rows.iter().any(streams)), "{status}");
    let slots = node["replication_slots"].as_array().context("slots")?;
    ensure!(slots.len() == 2 && slots.iter().all(|slot| slot["active"] == true), "{status}");
    let archived = r#"test "$(dob-status --json | jq '.node.archiver.last_archived_wal != null')" = true"#;
    world.lab.nodes[&leader].until("the first archived segment", &["bash", "-c", archived]).await?;
    let text = world.lab.nodes[&leader].run(&["dob-status"]).await?;
    ensure!(text.contains("streaming") && text.contains("active"), "{text}");
    let note = format!("two regions of three nodes, from power-on to all streaming and served: {} s", took.as_secs());
    Ok(Row { drill: "cold-start".to_owned(), figures: None, note })
}

/// All of PostgreSQL's processes are killed.
pub async fn crash(world: &mut World) -> Result<Row> {
    let (leader, ..) = prepare(world).await?;
    let load = world.load();
    load.go_on(BEFORE).await;
    world.lab.nodes[&leader].run(&["pkill", "--signal", "KILL", "--uid", "postgres", "--exact", "postgres"]).await?;
    let figures = recover(world, "leader-crash", load, "all of PostgreSQL's processes killed").await?;
    ensure!(figures.longest_without_save < Duration::from_secs(12), "{figures:?}");
    ensure!(figures.failed_greetings == 0, "{figures:?}");
    finish(world, "leader-crash", figures).await
}

/// The leader's node is shut down in order.
pub async fn shutdown(world: &mut World) -> Result<Row> {
    let (leader, ..) = prepare(world).await?;
    let load = world.load();
    load.go_on(BEFORE).await;
    load.mark("node shut down in order");
    world.lab.node(&leader).shut_down().await?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    load.go_on(AFTER).await;
    let rejoined = power_on_again(world, &leader, &load).await?;
    let (figures, _) = world.judge("leader-shutdown", load, WEST).await?;
    ensure!(figures.longest_without_save < Duration::from_secs(5), "{figures:?}");
    ensure!(figures.failed_greetings == 0 && figures.lost.is_empty(), "{figures:?}");
    row("leader-shutdown", figures, rejoined)
}

/// The leader's node loses its power.
pub async fn power_off(world: &mut World) -> Result<Row> {
    power_off_as(world, "leader-power-off").await
}

/// The same, with every acknowledged date on both nodes.
pub async fn power_off_synchronous(world: &mut World) -> Result<Row> {
    synchronous(world, true).await?;
    let row = power_off_as(world, "leader-power-off-synchronous").await;
    synchronous(world, false).await?;
    let row = row?;
    let lost = row.figures.as_ref().map(|figures| figures.lost.len());
    ensure!(lost == Some(0), "{lost:?} acknowledged dates were lost in synchronous mode");
    Ok(row)
}

async fn power_off_as(world: &mut World, drill: &str) -> Result<Row> {
    let (leader, ..) = prepare(world).await?;
    let load = world.load();
    load.go_on(BEFORE).await;
    load.mark("leader's power cut");
    world.lab.node(&leader).power_off()?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    load.go_on(AFTER).await;
    let rejoined = power_on_again(world, &leader, &load).await?;
    let (figures, _) = world.judge(drill, load, WEST).await?;
    ensure!(figures.longest_without_save < Duration::from_secs(25), "{figures:?}");
    ensure!(figures.failed_greetings == 0, "{figures:?}");
    row(drill, figures, rejoined)
}

/// The leader's zone is cut off from all others, and healed.
pub async fn zone_cut(world: &mut World) -> Result<Row> {
    zone_cut_as(world, "zone-cut").await
}

/// The same, with every acknowledged date on both nodes.
pub async fn zone_cut_synchronous(world: &mut World) -> Result<Row> {
    synchronous(world, true).await?;
    let row = zone_cut_as(world, "zone-cut-synchronous").await;
    synchronous(world, false).await?;
    let row = row?;
    let lost = row.figures.as_ref().map(|figures| figures.lost.len());
    ensure!(lost == Some(0), "{lost:?} acknowledged dates were lost in synchronous mode");
    Ok(row)
}

async fn zone_cut_as(world: &mut World, drill: &str) -> Result<Row> {
    let (leader, replica, _) = prepare(world).await?;
    let load = world.load();
    load.go_on(BEFORE).await;
    load.mark("leader's zone cut off");
    world.lab.nodes[&leader].cut()?;
    let (closed, opened) = tokio::join!(stops_writing(world, &leader), takes_writes(world, &replica));
    let (closed, opened) = (closed?, opened?);
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    load.go_on(AFTER).await;
    load.mark("zone healed");
    world.lab.nodes[&leader].heal()?;
    world.lab.healthy(WEST, "primary").await?;
    load.mark("old leader follows");
    load.go_on(AFTER).await;
    let (figures, _) = world.judge(drill, load, WEST).await?;
    ensure!(closed < opened, "the cut-off leader took writes until {closed:?}, the new one from {opened:?}");
    ensure!(figures.failed_greetings == 0, "{figures:?}");
    let early = (opened - closed).as_secs_f64();
    row(drill, figures, format!("the old leader stopped taking writes {early:.1} s before the new one started"))
}

/// When a node's own PostgreSQL, asked on the node, no longer takes writes.
async fn stops_writing(world: &World, node: &str) -> Result<Instant> {
    until_recovery_is(world, node, "f", false).await
}

/// When a node's PostgreSQL takes writes.
async fn takes_writes(world: &World, node: &str) -> Result<Instant> {
    until_recovery_is(world, node, "f", true).await
}

async fn until_recovery_is(world: &World, node: &str, answer: &str, wanted: bool) -> Result<Instant> {
    let started = Instant::now();
    loop {
        let writable =
            world.lab.nodes[node].sql("postgres", "SELECT pg_is_in_recovery()").await.is_ok_and(|a| a == answer);
        if writable == wanted {
            return Ok(Instant::now());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{node} is {} writable after {PATIENCE:?}",
            if wanted { "not" } else { "still" }
        );
    }
}

/// PostgreSQL's and Patroni's processes stop, while the node's kernel goes on answering for them.
pub async fn frozen(world: &mut World) -> Result<Row> {
    let (leader, ..) = prepare(world).await?;
    let load = world.load();
    load.go_on(BEFORE).await;
    load.mark("leader's processes frozen");
    world.lab.nodes[&leader].run(&["pkill", "--signal", "STOP", "--uid", "postgres"]).await?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    world.lab.healthy(WEST, "primary").await?;
    load.go_on(AFTER).await;
    let (figures, _) = world.judge("leader-frozen", load, WEST).await?;
    ensure!(figures.longest_without_save < Duration::from_secs(60), "{figures:?}");
    ensure!(figures.slowest < Duration::from_secs(60), "{figures:?}");
    finish(world, "leader-frozen", figures).await
}

/// The planned change of leader.
pub async fn switchover(world: &mut World) -> Result<Row> {
    let (leader, replica, _) = prepare(world).await?;
    let load = world.load();
    load.go_on(BEFORE).await;
    load.mark("dob-switchover");
    world.lab.nodes[&leader].run(&["dob-switchover"]).await?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    load.go_on(AFTER).await;
    let (figures, _) = world.judge("switchover", load, WEST).await?;
    let (now, ..) = world.roles(WEST).await?;
    ensure!(now == replica, "{now} leads");
    ensure!(figures.longest_without_save <= Duration::from_secs(3), "{figures:?}");
    ensure!(figures.failed_greetings == 0 && figures.lost.is_empty(), "{figures:?}");
    row("switchover", figures, String::new())
}

async fn prepare(world: &mut World) -> Result<(String, String, String)> {
    world.ready().await?;
    world.roles(WEST).await
}

/// Waits for saving to be back, then for the replica.
async fn recover(world: &World, drill: &str, load: Load, fault: &str) -> Result<Findings> {
    load.mark(fault);
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    world.lab.healthy(WEST, "primary").await?;
    load.mark("replica streams");
    load.go_on(AFTER).await;
    Ok(world.judge(drill, load, WEST).await?.0)
}

async fn power_on_again(world: &mut World, node: &str, load: &Load) -> Result<String> {
    load.mark("old leader's power on");
    let on = Instant::now();
    world.lab.node(node).power_on().await?;
    world.lab.healthy(WEST, "primary").await?;
    load.mark("old leader follows");
    Ok(format!("the old leader follows {} s after its power is back", on.elapsed().as_secs()))
}

async fn synchronous(world: &mut World, on: bool) -> Result<()> {
    let (leader, ..) = prepare(world).await?;
    let mode = if on { "synchronous" } else { "asynchronous" };
    world.lab.nodes[&leader].run(&["dob-replication", mode]).await.map(drop)
}

async fn finish(world: &World, drill: &str, figures: Findings) -> Result<Row> {
    let (leader, ..) = world.roles(WEST).await?;
    row(drill, figures, format!("{leader} leads afterwards"))
}

fn row(drill: &str, figures: Findings, note: String) -> Result<Row> {
    Ok(Row { drill: drill.to_owned(), figures: Some(figures), note })
}
