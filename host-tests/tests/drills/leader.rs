//! The leader crashes, goes, hangs, is cut off, or hands over.

use crate::load::Load;
use crate::world::{CENTRAL, PATIENCE, Row, WEST, World, saves_again_within};
use anyhow::{Context, Result, ensure};
use dob_host::history::Findings;
use dob_host::lab::Node;
use std::time::{Duration, Instant};

const AFTER: Duration = Duration::from_secs(5);
/// How far behind the replica is when it matters.
const LAG: Duration = Duration::from_secs(3);

/// Both regions from user data alone, and the component's own start.
pub async fn cold_start(world: &mut World) -> Result<Row> {
    let started = Instant::now();
    let (leader, replica, _) = world.roles().await?;
    let took = started.elapsed();
    for node in world.lab.cluster(WEST) {
        world.lab.nodes[&node].run(&["cloud-init", "schema", "--system"]).await?;
    }
    let syn_retries = world.lab.nodes[&leader].run(&["cat", "/proc/sys/net/ipv4/tcp_syn_retries"]).await?;
    ensure!(syn_retries == "1", "a host that is gone is tried for long: tcp_syn_retries is {syn_retries}");
    let status = world.lab.nodes[&leader].run(&["dob-status", "--json"]).await?;
    let status: serde_json::Value = serde_json::from_str(&status).context("dob-status --json")?;
    let node = &status["node"];
    let streams = |row: &serde_json::Value| row["application_name"] == replica.as_str() && row["state"] == "streaming";
    ensure!(node["in_recovery"] == false, "{status}");
    ensure!(node["stat_replication"].as_array().is_some_and(|rows| rows.iter().any(streams)), "{status}");
    let slots = node["replication_slots"].as_array().context("slots")?;
    ensure!(slots.len() == 2 && slots.iter().all(|slot| slot["active"] == true), "{status}");
    // A slot that nobody reads from would fill the volume.
    let (standby, _) = world.lab.healthy(CENTRAL, "standby_leader").await?;
    let unread = "SELECT count(*) FROM pg_replication_slots WHERE NOT active";
    ensure!(
        world.lab.nodes[&standby].sql("postgres", unread).await? == "0",
        "a slot on {standby} keeps WAL for nobody"
    );
    let archived = r#"test "$(dob-status --json | jq '.node.archiver.last_archived_wal != null')" = true"#;
    world.lab.nodes[&leader].until("the first archived segment", &["bash", "-c", archived]).await?;
    observed(&world.lab.nodes[&leader]).await?;
    let text = world.lab.nodes[&leader].run(&["dob-status"]).await?;
    ensure!(text.contains("streaming") && text.contains("active"), "{text}");
    let note = format!("two regions of three nodes, from power-on to all streaming and served: {} s", took.as_secs());
    Ok(Row::noted("cold-start", note))
}

/// The node's metrics can be read, and its journal is in CloudWatch Logs.
async fn observed(node: &Node) -> Result<()> {
    let has_metric =
        |port: u16, metric: &str| format!("curl -s http://{}:{port}/metrics | grep -q '{metric}'", node.address);
    let volume = r#"^node_filesystem_avail_bytes{.*mountpoint="/var/lib/postgresql""#;
    node.until("PostgreSQL's metrics", &["bash", "-c", &has_metric(node.ports.postgres_exporter, "^pg_up 1")]).await?;
    node.until("the volume's metrics", &["bash", "-c", &has_metric(node.ports.node_exporter, volume)]).await?;
    let logs = format!(
        "aws --region {WEST} logs get-log-events --log-group-name /dob/dob/database --log-stream-name {} | jq -e '.events | length > 0'",
        node.name
    );
    node.until("the journal in CloudWatch Logs", &["bash", "-c", &logs]).await.map(drop)
}

/// All of PostgreSQL's processes are killed.
pub async fn crash(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let load = world.load().await;
    world.lab.nodes[&leader].run(&["pkill", "--signal", "KILL", "--uid", "postgres", "--exact", "postgres"]).await?;
    let figures = recover(world, "leader-crash", load, "all of PostgreSQL's processes killed").await?;
    saves_again_within(&figures, 12)?;
    ensure!(figures.failed_greetings == 0, "{figures:?}");
    finish(world, "leader-crash", figures).await
}

/// The leader's node is shut down in order.
pub async fn shutdown(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let load = world.load().await;
    load.mark("node shut down in order");
    world.lab.node(&leader).shut_down().await?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    load.go_on(AFTER).await;
    let rejoined = power_on_again(world, &leader, &load).await?;
    let (figures, _) = world.judge("leader-shutdown", load, WEST).await?;
    saves_again_within(&figures, 5)?;
    ensure!(figures.failed_greetings == 0 && figures.lost.is_empty(), "{figures:?}");
    Ok(Row::measured("leader-shutdown", figures, rejoined))
}

/// The leader's node loses its power.
pub async fn power_off(world: &mut World) -> Result<Row> {
    power_off_as(world, "leader-power-off").await
}

/// The same, with every acknowledged date on both nodes.
pub async fn power_off_synchronous(world: &mut World) -> Result<Row> {
    synchronously(world, async |world| power_off_as(world, "leader-power-off-synchronous").await).await
}

async fn power_off_as(world: &mut World, drill: &str) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let load = world.load().await;
    load.mark("leader's power cut");
    world.lab.node(&leader).power_off()?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    load.go_on(AFTER).await;
    let rejoined = power_on_again(world, &leader, &load).await?;
    let (figures, _) = world.judge(drill, load, WEST).await?;
    saves_again_within(&figures, 25)?;
    ensure!(figures.failed_greetings == 0, "{figures:?}");
    Ok(Row::measured(drill, figures, rejoined))
}

/// The same while nothing reaches the replica: it leads without the leader's last dates, which the recovery region has already.
pub async fn power_off_lagging(world: &mut World) -> Result<Row> {
    let (leader, replica, _) = world.roles().await?;
    let load = world.load().await;
    load.mark("replication in the region stopped");
    let (from, to) = (&world.lab.nodes[&leader], &world.lab.nodes[&replica]);
    from.filter(&format!("ip daddr {} tcp sport {} drop", to.address, from.ports.postgresql))?;
    load.go_on(LAG).await;
    load.mark("leader's power cut");
    world.lab.node(&leader).power_off()?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    load.go_on(AFTER).await;
    power_on_again(world, &leader, &load).await?;
    let refused = "journalctl --boot --no-pager --unit=patroni | grep -q 'goes on beyond that and is not archived'";
    world.lab.nodes[&leader].until("what it wrote last stays out of the archive", &["bash", "-c", refused]).await?;
    let (figures, _) = world.judge("leader-power-off-lagging", load, WEST).await?;
    saves_again_within(&figures, 25)?;
    ensure!(!figures.lost.is_empty(), "nothing was lost: the replica did not lag");
    ensure!(figures.lost_seconds <= LAG.as_secs_f64(), "{} s were lost, not {LAG:?}", figures.lost_seconds);
    let note =
        format!("{:.1} s of dates lost; both regions' other nodes, which had them, rewound", figures.lost_seconds);
    Ok(Row::measured("leader-power-off-lagging", figures, note))
}

/// The leader's zone is cut off from all others, and healed.
pub async fn zone_cut(world: &mut World) -> Result<Row> {
    zone_cut_as(world, "zone-cut").await
}

/// The same, with every acknowledged date on both nodes.
pub async fn zone_cut_synchronous(world: &mut World) -> Result<Row> {
    synchronously(world, async |world| zone_cut_as(world, "zone-cut-synchronous").await).await
}

async fn zone_cut_as(world: &mut World, drill: &str) -> Result<Row> {
    let (leader, replica, _) = world.roles().await?;
    let load = world.load().await;
    load.mark("leader's zone cut off");
    world.lab.nodes[&leader].cut()?;
    let (closed, opened) = tokio::join!(until_writable(world, &leader, false), until_writable(world, &replica, true));
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
    Ok(Row::measured(
        drill,
        figures,
        format!("the old leader stopped taking writes {early:.1} s before the new one started"),
    ))
}

/// When a node's own PostgreSQL, asked on the node, takes writes or no longer does.
async fn until_writable(world: &World, node: &str, wanted: bool) -> Result<Instant> {
    let started = Instant::now();
    loop {
        let in_recovery = world.lab.nodes[node].sql("postgres", "SELECT pg_is_in_recovery()").await;
        if in_recovery.is_ok_and(|answer| answer == "f") == wanted {
            return Ok(Instant::now());
        }
        let still = if wanted { "not" } else { "still" };
        ensure!(started.elapsed() < PATIENCE, "{node} is {still} writable after {PATIENCE:?}");
    }
}

/// PostgreSQL's and Patroni's processes stop, while the node's kernel goes on answering for them.
pub async fn frozen(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let load = world.load().await;
    load.mark("leader's processes frozen");
    world.lab.nodes[&leader].run(&["pkill", "--signal", "STOP", "--uid", "postgres"]).await?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    world.lab.healthy(WEST, "primary").await?;
    load.go_on(AFTER).await;
    let (figures, _) = world.judge("leader-frozen", load, WEST).await?;
    saves_again_within(&figures, 60)?;
    ensure!(figures.slowest < Duration::from_secs(60), "{figures:?}");
    finish(world, "leader-frozen", figures).await
}

/// The planned change of leader.
pub async fn switchover(world: &mut World) -> Result<Row> {
    let (leader, replica, _) = world.roles().await?;
    let load = world.load().await;
    load.mark("dob-switchover");
    world.lab.nodes[&leader].run(&["dob-switchover"]).await?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    load.go_on(AFTER).await;
    let (figures, _) = world.judge("switchover", load, WEST).await?;
    let (now, ..) = world.roles().await?;
    ensure!(now == replica, "{now} leads");
    saves_again_within(&figures, 3)?;
    ensure!(figures.failed_greetings == 0 && figures.lost.is_empty(), "{figures:?}");
    Ok(Row::measured("switchover", figures, ""))
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

/// A drill in synchronous mode, in which nothing may be lost.
async fn synchronously(world: &mut World, drill: impl AsyncFnOnce(&mut World) -> Result<Row>) -> Result<Row> {
    replicate(world, "synchronous").await?;
    let row = drill(world).await;
    replicate(world, "asynchronous").await?;
    let row = row?;
    let lost = row.figures.as_ref().map(|figures| figures.lost.len());
    ensure!(lost == Some(0), "{lost:?} acknowledged dates were lost in synchronous mode");
    Ok(row)
}

async fn replicate(world: &mut World, mode: &str) -> Result<()> {
    let (leader, ..) = world.roles().await?;
    world.lab.nodes[&leader].run(&["dob-replication", mode]).await.map(drop)
}

async fn finish(world: &mut World, drill: &str, figures: Findings) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    Ok(Row::measured(drill, figures, format!("{leader} leads afterwards")))
}
