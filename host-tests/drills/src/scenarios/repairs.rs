//! Faults that a person repairs, with the runbooks' commands.

use super::steps::{judge_later, refuses, until_fired};
use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use crate::runbook::Section;
use crate::traffic::Traffic;
use anyhow::{Context, Result, ensure};
use dob_lab::{Boot, Node, Roles};
use dob_support::eventually;
use std::time::{Duration, Instant};

/// How long a checkpoint may take after a replica lost its power: tcp_user_timeout and the checkpoint itself, with a margin.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(30);

/// For how many seconds a busy volume blocks a base backup: less than tcp_user_timeout.
const HELD_UP_S: u64 = 12;
/// How long a base backup may take.
const MADE_ANEW_WITHIN: Duration = Duration::from_secs(60);

/// The leader and the witness are lost for good. etcd has lost its majority, so that no node may lead until a person decides.
pub async fn majority_lost(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, witness } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader and witness lost for good");
    for node in [leader, witness] {
        node.power_off().await?;
    }
    // Here, new nodes take the clients' processors while they boot.
    traffic.until_greeted().await?;
    for node in [leader, witness] {
        node.replace(Boot::NewInstanceAndVolume).await?;
    }
    for node in [leader, witness] {
        refuses(node, "etcd", "etcd has lost its majority").await?;
    }
    let unsure = replica.refusal(&["dob-etcd-alone"]).await?;
    ensure!(unsure.contains("make sure that the others are off"), "{unsure}");
    ensure!(environment.west().primary().await.is_none(), "a node leads");
    traffic.mark("dob-etcd-alone on the replica, killed when it has started etcd again");
    replica.kill_etcd_alone().await?;
    let recovery_time = traffic.until_saved().await?.as_secs();
    let leads = environment.west().until_leading().await?.leader;
    ensure!(leads.name == replica.name, "{} leads", leads.name);
    replica.until_etcd_has(3).await?;
    traffic.mark("the new nodes have joined");
    replica.run(&["systemctl", "restart", "etcd"]).await?;
    replica.until_etcd_has(3).await?;
    traffic.mark("etcd on the replica has started again, with the new nodes");
    let again = replica.run(&["dob-etcd-alone", "--others-are-gone"]).await?;
    ensure!(again.contains("etcd has its majority: nothing to do"), "{again}");
    let note = format!("saves succeed {recovery_time} s after dob-etcd-alone");
    Ok(environment.judge(traffic).await?.with_note(note))
}

/// The replica loses its power while the leader has more WAL for it than fits into their sockets. The leader's checkpoints must still
/// end; the slot loses its WAL, and the replica recovers from the archive.
pub async fn slot_lost(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    let cut = lose_unread_replica(leader, replica, &traffic).await?;
    traffic.mark("its slot is beyond the limit");
    let left =
        CHECKPOINT_WITHIN.checked_sub(cut.elapsed()).context("writing the WAL after the power cut took too long")?;
    leader.checkpoint(left).await?;
    let took = cut.elapsed().as_secs_f64();
    traffic.mark("a checkpoint ended, its slot is lost; power on");
    ensure!(leader.has_lost_slots().await?, "the slot is not lost after the checkpoint");
    replica.power_on().await?;
    environment.west().until_leading().await?;
    traffic.mark("replica streams");
    let outcome = judge_later(environment, traffic).await?;
    ensure!(!leader.has_lost_slots().await?, "the slot is still lost");
    Ok(outcome.with_note(format!("a checkpoint ended {took:.1} s after the power cut")))
}

/// The same without the time limits of the leader's sockets: a checkpoint waits for the process that sends. A person ends its connection.
pub async fn checkpoint_stuck(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    leader.wait_long_for_peers().await?;
    let traffic = environment.traffic().await;
    lose_unread_replica(leader, replica, &traffic).await?;
    let stuck = leader.checkpoint(CHECKPOINT_WITHIN).await.err().context("a checkpoint ended in time")?;
    ensure!(format!("{stuck:#}").contains("checkpointer waits in ReplicationSlotDrop"), "{stuck:#}");
    until_fired(environment, traffic.started(), &["CheckpointStuck"]).await?;
    let (address, port) = leader.follower_that_reads_nothing().await?;
    traffic.mark("its connection ended");
    let words = [("ADDRESS", address.as_str()), ("PORT", &port)];
    Section("A checkpoint does not end").run(leader, &["end-connection"], &words).await?;
    leader.checkpoint(CHECKPOINT_WITHIN).await?;
    traffic.mark("a checkpoint ended; replica's power on");
    leader.wait_as_configured_for_peers().await?;
    replica.power_on().await?;
    environment.west().until_leading().await?;
    traffic.mark("replica streams");
    judge_later(environment, traffic).await
}

/// Cuts the replica's power while the leader has more WAL for it than fits into their sockets, and writes until its slot is beyond the limit.
/// Returns when its power was cut.
async fn lose_unread_replica(leader: &Node, replica: &Node, traffic: &Traffic) -> Result<Instant> {
    traffic.mark("link to the replica slowed down");
    leader.slow_replication_to(replica)?;
    leader.write_wal_until_slot(replica, "active AND safe_wal_size < pg_size_bytes('32MB')").await?;
    traffic.mark("its slot has less than 32 MB left; replica's power cut");
    let cut = Instant::now();
    replica.power_off().await?;
    leader.pass_packets()?;
    leader.write_wal_until_slot(replica, "wal_status IN ('unreserved', 'lost')").await?;
    Ok(cut)
}

/// The replica is reinitialized, while its volume blocks the base backup for a while.
pub async fn replica_rebuilt(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let before = replica.data_made_at().await?;
    let failed = replica.failed_base_backups().await?;
    let traffic = environment.traffic().await;
    traffic.mark("patronictl reinit");
    let reinit = ["reinit", "dob", replica.name.as_str(), "--force"];
    // At once, because the copy takes less than a second, and patronictl may take longer to end.
    tokio::try_join!(replica.hold_base_backup(HELD_UP_S), leader.patronictl(&reinit))?;
    traffic.mark(&format!("base backup continues after {HELD_UP_S} s"));
    let made_anew = format!("{} has new data", replica.name);
    eventually(&made_anew, MADE_ANEW_WITHIN, async || {
        let made = replica.data_made_at().await?;
        ensure!(made != before, "it still has its old data");
        Ok(())
    })
    .await?;
    environment.west().until_leading().await?;
    traffic.mark("replica streams");
    ensure!(replica.failed_base_backups().await? == failed, "the base backup had to start again");
    judge_later(environment, traffic).await
}

/// Raises max_connections: first in the recovery region, whose replay would pause otherwise; then on the replica, and after a
/// switchover on the old leader.
pub async fn connections_raised(environment: &LabEnvironment) -> Result<Outcome> {
    let west = environment.ready().await?;
    let central = environment.central().until_following().await?;
    let traffic = environment.traffic().await;
    for Roles { leader, replica, .. } in [central, west] {
        traffic.mark(&format!("max_connections raised in {}", leader.region));
        let set = "postgresql.parameters.max_connections=600";
        replica.patronictl(&["edit-config", "dob", "--set", set, "--force"]).await?;
        replica.restart_for("max_connections", "600").await?;
        if leader.name == west.leader.name {
            traffic.mark("dob-switchover");
            leader.run(&["dob-switchover"]).await?;
            environment.west().until_leading().await?;
        }
        leader.restart_for("max_connections", "600").await?;
    }
    traffic.mark("all servers restarted");
    let outcome = environment.judge(traffic).await?;
    Ok(outcome.with_note("clients noticed only the switchover"))
}

/// Upgrades PostgreSQL's package: on the replica, and after a switchover on the old leader.
pub async fn minor_upgrade(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    for node in [replica, leader] {
        if node.name == leader.name {
            traffic.mark("dob-switchover");
            leader.run(&["dob-switchover"]).await?;
            environment.west().until_leading().await?;
        }
        let started = node.started_at().await?;
        node.upgrade_postgresql().await?;
        ensure!(
            node.started_at().await? == started,
            "installing the package has restarted PostgreSQL on {}",
            node.name
        );
        node.patronictl(&["restart", "dob", &node.name, "--force"]).await?;
        environment.west().until_leading().await?;
        ensure!(
            node.started_at().await? != started,
            "PostgreSQL on {} was not restarted, so that it runs its old version",
            node.name
        );
        traffic.mark(&format!("{} runs the next version", node.name));
    }
    judge_later(environment, traffic).await
}

/// Somebody pauses Patroni and forgets to resume it.
pub async fn pause_left_over(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("patronictl pause");
    leader.patronictl(&["pause", "dob", "--wait"]).await?;
    until_fired(environment, traffic.started(), &["ClusterPaused"]).await?;
    traffic.mark("patronictl resume");
    leader.patronictl(&["resume", "dob", "--wait"]).await?;
    judge_later(environment, traffic).await
}

/// Somebody leaves a transaction open, and stops the timer that writes metrics.
pub async fn work_left_over(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("transaction left open, timer of dob-metrics stopped");
    leader.run(&["systemctl", "stop", "dob-metrics.timer"]).await?;
    let session = leader.leave_transaction_open().await?;
    until_fired(environment, traffic.started(), &["TransactionOld", "MetricsOld"]).await?;
    let runbook = Section("A transaction holds up vacuum");
    let oldest = runbook.run(leader, &["oldest"], &[]).await?;
    ensure!(
        oldest.contains(&format!(" {session} ")),
        "the runbook's query does not show the session {session}: {oldest}"
    );
    let ended = runbook.run(leader, &["end"], &[("PID", &session)]).await?;
    ensure!(ended.contains(" t\n"), "the session {session} was not ended: {ended}");
    leader.end_left_program().await?;
    leader.run(&["systemctl", "start", "dob-metrics.timer"]).await?;
    traffic.mark("transaction ended, timer started");
    judge_later(environment, traffic).await
}

/// A byte of a table is corrupted on the leader's volume. The backup reports it, and no backup expires. The replica, whose copy is
/// intact, takes over, and the old leader is reinitialized.
pub async fn page_damaged(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    leader.run(&["dob-backup"]).await?;
    let traffic = environment.traffic().await;
    traffic.mark("a page of a table corrupted on the leader's volume");
    leader.damage_a_page().await?;
    let before = leader.backups().await?;
    let refused = leader.refusal(&["dob-backup"]).await?;
    ensure!(refused.contains("is damaged, and the backup in repository 1 2 holds it"), "{refused}");
    traffic.mark("dob-backup reports the page");
    leader.run(&["dob-backup", "nightly"]).await?;
    let after = leader.backups().await?;
    ensure!(before.is_subset(&after) && after.len() == before.len() + 2, "{before:?} before, {after:?} after");
    until_fired(environment, traffic.started(), &["PageDamaged"]).await?;
    traffic.mark("dob-switchover");
    leader.run(&["dob-switchover"]).await?;
    let now = environment.west().until_leading().await?.leader;
    now.patronictl(&["reinit", "dob", &leader.name, "--force", "--wait"]).await?;
    environment.west().until_leading().await?;
    traffic.mark("the old leader reinitialized");
    now.read_damaged_table().await?;
    now.run(&["dob-backup"]).await?;
    traffic.mark("a backup without damaged pages");
    judge_later(environment, traffic).await
}
