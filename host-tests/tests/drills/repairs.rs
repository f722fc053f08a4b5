//! What does not come back by itself: a person repairs it with the runbooks' commands.

use crate::faults::{refuses, unnoticed};
use crate::world::{PATIENCE, Row, WEST, World};
use anyhow::{Result, ensure};
use dob_host::lab::Boot;

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
    let unsure = world.lab.nodes[&replica].run(&["dob-etcd-alone"]).await.expect_err("nobody vouches").to_string();
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

/// The replica was away until its slot on the leader lost its WAL: it comes back by the archive.
pub async fn slot_lost(world: &mut World) -> Result<Row> {
    let (leader, replica, _) = world.roles().await?;
    let load = world.load().await;
    load.mark("replica's power cut");
    world.lab.node(&replica).power_off()?;
    load.mark("a quarter of the leader's volume written");
    let lost = "SELECT 1 FROM pg_replication_slots WHERE wal_status = 'lost'";
    while world.lab.nodes[&leader].sql("postgres", lost).await?.is_empty() {
        let write =
            "SELECT pg_logical_emit_message(false, 'drill', repeat(md5(random()::text), 250000)), pg_switch_wal()";
        world.lab.nodes[&leader].sql("postgres", write).await?;
        world.lab.nodes[&leader].sql("postgres", "CHECKPOINT").await?;
    }
    load.mark("its slot is lost; power on");
    world.lab.node(&replica).power_on().await?;
    world.lab.healthy(WEST, "primary").await?;
    load.mark("it streams");
    let row = unnoticed(world, "slot-lost", load).await?;
    ensure!(world.lab.nodes[&leader].sql("postgres", lost).await?.is_empty(), "the slot stays lost");
    Ok(row)
}

/// The replica's data is fetched anew.
pub async fn replica_rebuilt(world: &mut World) -> Result<Row> {
    let (leader, replica, _) = world.roles().await?;
    let identity = ["stat", "--format=%W", "/var/lib/postgresql/17/dob/PG_VERSION"];
    let before = world.lab.nodes[&replica].run(&identity).await?;
    let load = world.load().await;
    load.mark("patronictl reinit");
    world.lab.nodes[&leader]
        .run(&["patronictl", "--config-file", "/etc/dob/patroni", "reinit", "dob", &replica, "--force", "--wait"])
        .await?;
    world.lab.healthy(WEST, "primary").await?;
    load.mark("it streams");
    let after = world.lab.nodes[&replica].run(&identity).await?;
    ensure!(before != after, "its data is the same");
    unnoticed(world, "replica-rebuilt", load).await
}
