//! What does not come back by itself: a person repairs it with the runbooks' commands.

use crate::faults::{IDENTITY, refuses, unnoticed};
use crate::regions::refusal;
use crate::world::{CENTRAL, PATIENCE, Row, WEST, World, saves_again_within};
use anyhow::{Result, ensure};
use dob_host::lab::{Boot, Node};
use std::time::{Duration, Instant};

const PATRONI: &str = "/etc/dob/patroni";
/// After a replica's power was cut: tcp_user_timeout and the checkpoint itself, with a margin.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(30);

/// The nodes of the leader and of the witness are lost for good: etcd has lost its majority, and nobody may lead until a person
/// says so.
pub async fn majority_lost(world: &mut World) -> Result<Row> {
    let (leader, replica, witness) = world.roles().await?;
    let load = world.load().await;
    load.mark("leader and witness lost for good");
    for node in [&leader, &witness] {
        world.lab.node(node).replace(Boot::NewInstanceAndVolume)?;
        world.lab.node(node).power_on().await?;
    }
    for node in [&leader, &witness] {
        refuses(world, node, "etcd", "etcd has lost its majority").await?;
    }
    let unsure = refusal(world, &replica, &["dob-etcd-alone"]).await?;
    ensure!(unsure.contains("make sure that the other two nodes are off"), "{unsure}");
    ensure!(world.lab.leader(WEST, "primary").await.is_none(), "a node leads");
    load.mark("dob-etcd-alone on the replica");
    world.lab.nodes[&replica].run(&["dob-etcd-alone", "--others-are-gone"]).await?;
    let recovery_time = load.until_saved(PATIENCE).await?.as_secs();
    load.mark("saving again");
    let (leads, _) = world.lab.healthy(WEST, "primary").await?;
    ensure!(leads == replica, "{leads} leads");
    let members = "source /usr/local/sbin/dob-lib; ETCDCTL_ENDPOINTS=https://$DOB_ADDRESS:$DOB_PORT_ETCD; export ETCDCTL_ENDPOINTS; \
                   etcdctl endpoint health --cluster | grep -c 'is healthy' | grep -qx 3";
    world.lab.nodes[&replica].until("three members of etcd", &["bash", "-c", members]).await?;
    load.mark("the new nodes have joined");
    let (figures, _) = world.judge("majority-lost", load, WEST).await?;
    ensure!(figures.failed_greetings == 0, "{figures:?}");
    Ok(Row::measured("majority-lost", figures, format!("saving {recovery_time} s after dob-etcd-alone")))
}

/// The replica loses its power while the leader has more for it than their sockets hold: the leader's checkpoints go on, the slot loses
/// its WAL, and the replica comes back by the archive.
pub async fn slot_lost(world: &mut World) -> Result<Row> {
    let (leader, replica, _) = world.roles().await?;
    let slot = replica.replace('-', "_");
    let load = world.load().await;
    load.mark("link to the replica slow");
    let slow =
        format!("ip daddr {} tcp sport 5432 limit rate over 1 mbytes/second drop", world.lab.nodes[&replica].address);
    world.lab.nodes[&leader].filter(&slow)?;
    write_until(&world.lab.nodes[&leader], &slot, "active AND safe_wal_size < pg_size_bytes('32MB')").await?;
    load.mark("much of a quarter of the leader's volume written; replica's power cut");
    let cut = Instant::now();
    world.lab.node(&replica).power_off()?;
    world.lab.nodes[&leader].pass_packets()?;
    write_until(&world.lab.nodes[&leader], &slot, "wal_status IN ('unreserved', 'lost')").await?;
    load.mark("its slot is beyond the limit");
    checkpoint(&world.lab.nodes[&leader], CHECKPOINT_WITHIN.saturating_sub(cut.elapsed())).await?;
    let took = cut.elapsed().as_secs_f64();
    load.mark("a checkpoint ended, its slot is lost; power on");
    let lost = "SELECT slot_name FROM pg_replication_slots WHERE wal_status = 'lost'";
    ensure!(world.lab.nodes[&leader].sql("postgres", lost).await? == slot, "the checkpoint left the slot as it was");
    world.lab.node(&replica).power_on().await?;
    world.lab.healthy(WEST, "primary").await?;
    load.mark("it streams");
    let mut row = unnoticed(world, "slot-lost", load).await?;
    ensure!(world.lab.nodes[&leader].sql("postgres", lost).await?.is_empty(), "the slot stays lost");
    row.note = format!("a checkpoint ended {took:.1} s after the power cut");
    Ok(row)
}

/// Has a leader write WAL until a slot is in this state; no faster than it archives, or pgBackRest gives segments up.
async fn write_until(leader: &Node, slot: &str, state: &str) -> Result<()> {
    let started = Instant::now();
    let reached = format!("SELECT {state} FROM pg_replication_slots WHERE slot_name = '{slot}'");
    let write = "SELECT pg_logical_emit_message(false, 'drill', 'a segment'), pg_switch_wal()
        WHERE (SELECT count(*) < 8 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')";
    while leader.sql("postgres", &reached).await? != "t" {
        ensure!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: enough WAL archived and written for {state}");
        if leader.sql("postgres", write).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// Makes a checkpoint, which must end within this time.
async fn checkpoint(node: &Node, limit: Duration) -> Result<()> {
    let seconds = limit.as_secs().max(1).to_string();
    let command =
        ["runuser", "--user", "postgres", "--", "timeout", &seconds, "psql", "--no-psqlrc", "--command=CHECKPOINT"];
    let Err(error) = node.run(&command).await else { return Ok(()) };
    let waits = "SELECT string_agg(concat_ws(' ', backend_type, application_name, 'waits in', wait_event), ', ') FROM pg_stat_activity
        WHERE backend_type IN ('checkpointer', 'walsender')";
    let waits = node.sql("postgres", waits).await?;
    Err(error.context(format!("no checkpoint has ended within {CHECKPOINT_WITHIN:?} of the power cut: {waits}")))
}

/// The replica's data is fetched anew.
pub async fn replica_rebuilt(world: &mut World) -> Result<Row> {
    let (leader, replica, _) = world.roles().await?;
    let before = world.lab.nodes[&replica].run(&IDENTITY).await?;
    let load = world.load().await;
    load.mark("patronictl reinit");
    patronictl(world, &leader, &["reinit", "dob", &replica, "--force", "--wait"]).await?;
    world.lab.healthy(WEST, "primary").await?;
    load.mark("it streams");
    let after = world.lab.nodes[&replica].run(&IDENTITY).await?;
    ensure!(before != after, "its data is the same");
    unnoticed(world, "replica-rebuilt", load).await
}

/// More connections for the pods: the recovery region first, whose replay would pause, then replica, switchover, old leader.
pub async fn connections_raised(world: &mut World) -> Result<Row> {
    let (leader, replica, _) = world.roles().await?;
    let (standby_leader, standby) = world.lab.healthy(CENTRAL, "standby_leader").await?;
    let load = world.load().await;
    for (region, nodes) in [(CENTRAL, [&standby, &standby_leader]), (WEST, [&replica, &leader])] {
        load.mark(&format!("max_connections raised in {region}"));
        let set = "postgresql.parameters.max_connections=600";
        patronictl(world, nodes[0], &["edit-config", "dob", "--set", set, "--force"]).await?;
        for node in nodes {
            if *node == leader {
                load.mark("dob-switchover");
                world.lab.nodes[node].run(&["dob-switchover"]).await?;
                world.lab.healthy(WEST, "primary").await?;
            }
            restart_with_600_connections(world, node).await?;
        }
    }
    load.mark("all well");
    let (figures, _) = world.judge("connections-raised", load, WEST).await?;
    saves_again_within(&figures, 5)?;
    ensure!(figures.failed_greetings == 0 && figures.lost.is_empty(), "{figures:?}");
    Ok(Row::measured("connections-raised", figures, "the switchover in it is all that was noticed"))
}

async fn restart_with_600_connections(world: &World, node: &str) -> Result<()> {
    let pending = format!(
        "patronictl --config-file {PATRONI} list --format=json | jq -e '.[] | select(.Member == \"{node}\") | .\"Pending restart\"'"
    );
    world.lab.nodes[node].until("it asks for a restart", &["bash", "-c", &pending]).await?;
    patronictl(world, node, &["restart", "dob", node, "--force"]).await?;
    let raised =
        "psql --no-psqlrc --tuples-only --no-align --username=postgres --command='SHOW max_connections' | grep -qx 600";
    let as_postgres = ["runuser", "--user", "postgres", "--", "bash", "-c", raised];
    world.lab.nodes[node].until("600 connections", &as_postgres).await.map(drop)
}

async fn patronictl(world: &World, node: &str, arguments: &[&str]) -> Result<String> {
    world.lab.nodes[node].run(&[&["patronictl", "--config-file", PATRONI][..], arguments].concat()).await
}
