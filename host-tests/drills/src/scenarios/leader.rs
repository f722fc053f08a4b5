//! The leader crashes, shuts down, hangs, is partitioned, or hands over.

use super::steps::{AFTER, until_fired};
use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use crate::runbook::Section;
use crate::traffic::Traffic;
use anyhow::{Context, Result, bail, ensure};
use dob_lab::{Boot, Node, Roles, WEST};
use dob_spin::Build;
use dob_support::eventually;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a volume blocks writes.
const STALL: Duration = Duration::from_secs(60);
/// How far the replica lags behind when it is promoted.
const LAG: Duration = Duration::from_secs(3);
/// By how many seconds clocks may differ so that nodes still accept each other's new certificates.
const CLOCKS_DIFFER_S: u64 = 3000;
/// How many lines a node logs at once: many times as many as fit into one upload.
const FLOOD: usize = 3000;
/// How long a partitioned leader may still accept writes, and how long the next one may take to accept them.
const PATIENCE: Duration = Duration::from_secs(90);

/// Boots both regions from user data alone, and starts the component.
pub async fn cold_start(environment: &LabEnvironment) -> Result<Outcome> {
    let started = Instant::now();
    let Roles { leader, replica, .. } = environment.ready().await?;
    let took = started.elapsed().as_secs();
    environment.current.step("both regions run");
    for node in environment.west().nodes() {
        node.run(&["jq", "--exit-status", ".v1.errors == []", "/run/cloud-init/result.json"]).await?;
        ensure!(node.run(&["hostname"]).await? == node.name, "{} has another host name", node.name);
    }
    gives_peers_up(leader).await?;
    let session = leader.oom_score_of_session_under(100).await?;
    ensure!(session == "0", "the OOM killer spares sessions of {} like the postmaster: {session}", leader.name);
    ensure!(leader.remounts_a_broken_volume().await?, "a corrupt file system on {} stays writable", leader.name);
    ensure!(
        leader.certificate_age_s().await? > CLOCKS_DIFFER_S,
        "a node with a slow clock would refuse the certificate of {}",
        leader.name
    );
    says_that_it_leads(leader, replica).await?;
    environment.current.step("the nodes are as they should be");
    // An unused slot would fill the volume.
    let standby = environment.central().until_following().await?.leader;
    let unread = standby.sql("postgres", "SELECT count(*) FROM pg_replication_slots WHERE NOT active").await?;
    ensure!(unread == "0", "{} has an unused slot, which keeps WAL", standby.name);
    leader.until_archiving().await?;
    leader.until_observed().await?;
    leader.until_shipped(FLOOD).await?;
    Ok(Outcome::noted(format!("two regions of three nodes: all stream, and the API serves, {took} s after power-on")))
}

/// Checks that the kernel gives up unreachable hosts within seconds.
async fn gives_peers_up(node: &Node) -> Result<()> {
    for (setting, expected) in [("tcp_syn_retries", "1"), ("tcp_retries2", "6"), ("tcp_mtu_probing", "1")] {
        let value = node.run(&["cat", &format!("/proc/sys/net/ipv4/{setting}")]).await?;
        ensure!(value == expected, "{setting} is {value} on {}, not {expected}", node.name);
    }
    Ok(())
}

/// Checks that dob-status shows the leader with a streaming replica and both slots in use.
async fn says_that_it_leads(leader: &Node, replica: &Node) -> Result<()> {
    let status = leader.status().await?;
    let node = &status["node"];
    let streams = |row: &Value| row["application_name"] == replica.name.as_str() && row["state"] == "streaming";
    ensure!(node["in_recovery"] == false, "{status}");
    ensure!(node["stat_replication"].as_array().is_some_and(|rows| rows.iter().any(streams)), "{status}");
    let slots = node["replication_slots"].as_array().context("slots")?;
    ensure!(slots.len() == 2 && slots.iter().all(|slot| slot["active"] == true), "{status}");
    let text = leader.run(&["dob-status"]).await?;
    ensure!(text.contains("streaming") && text.contains("active"), "{text}");
    Ok(())
}

/// All of PostgreSQL's processes are killed.
pub async fn crash(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("all of PostgreSQL's processes killed");
    leader.kill_postgresql().await?;
    traffic.until_saved().await?;
    environment.west().until_leading().await?;
    traffic.mark("replica streams");
    traffic.run_for(AFTER).await;
    judge_and_name_leader(environment, traffic).await
}

/// All of PostgreSQL's processes are killed, and crash recovery would take too long: the replica takes over.
pub async fn crash_replaying(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("all of PostgreSQL's processes killed");
    leader.kill_postgresql_and_pause_recovery().await?;
    traffic.mark("crash recovery paused");
    traffic.until_saved().await?;
    let now = environment.west().until_leading().await?.leader;
    traffic.mark("old leader follows");
    ensure!(now.name == replica.name, "{} leads", now.name);
    traffic.run_for(AFTER).await;
    environment.judge(traffic).await
}

/// The leader's node is shut down in order.
pub async fn shutdown(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("node shut down in order");
    leader.shut_down().await?;
    traffic.until_saved().await?;
    traffic.run_for(AFTER).await;
    let rejoined = power_on_again(environment, leader, &traffic).await?;
    Ok(environment.judge(traffic).await?.with_note(rejoined))
}

/// The leader's node loses its power, while etcd's leader is another node.
pub async fn power_off(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = ready_with_etcd_elsewhere(environment).await?;
    lose_power(environment, leader).await
}

/// The same, and etcd's leader is on that node. etcd's next leader restarts the ttl of Patroni's leader key.
pub async fn power_off_with_etcd(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    leader.lead_etcd().await?;
    lose_power(environment, leader).await
}

/// The leader's node loses its power, while the region's bucket accepts connections and does not answer. A promotion asks the archive several
/// times.
pub async fn power_off_with_silent_bucket(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = ready_with_etcd_elsewhere(environment).await?;
    replica.silence_own_bucket().await?;
    let outcome = lose_power(environment, leader).await?;
    ensure!(replica.asks_other_bucket_first().await?, "{} has not noticed that its bucket is silent", replica.name);
    replica.pass_packets()?;
    Ok(outcome)
}

/// The leader's node loses its power, with every acknowledged date on both nodes.
pub async fn power_off_synchronous(environment: &LabEnvironment) -> Result<Outcome> {
    synchronously(environment, power_off).await
}

/// The leader's node loses its power while its replica lags. The replica leads without the last dates, which the recovery region already has.
pub async fn power_off_lagging(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = ready_with_etcd_elsewhere(environment).await?;
    let ahead: Vec<&Node> = environment.central().data_nodes().chain([leader]).collect();
    let made = data_made_at(&ahead).await?;
    let traffic = environment.traffic().await;
    traffic.mark("replication in the region stopped");
    let stopped = Instant::now();
    leader.drop_replication_to(replica)?;
    traffic.run_for(LAG).await;
    traffic.mark("leader's power cut");
    leader.cut_off()?;
    let lagged = stopped.elapsed().as_secs_f64();
    leader.power_off().await?;
    traffic.until_saved().await?;
    traffic.run_for(AFTER).await;
    power_on_again(environment, leader, &traffic).await?;
    // The old leader's last WAL must not be archived.
    leader.until_logged("patroni", "another leader has taken over at byte").await?;
    let outcome = environment.judge(traffic).await?;
    let figures = outcome.figures()?;
    ensure!(!figures.lost.is_empty(), "nothing was lost, so the replica did not lag");
    let lost = figures.lost_seconds;
    ensure!(lost <= lagged, "{lost:.1} s of dates were lost, although the replica lagged behind by {lagged:.1} s");
    let now = data_made_at(&ahead).await?;
    ensure!(now == made, "some data was copied, not rewound; the times at which it was created: {made:?}, now {now:?}");
    Ok(outcome.with_note(format!("{lost:.1} s of dates lost; both regions' other nodes, which had them, rewound")))
}

/// When each node's data was created.
async fn data_made_at(nodes: &[&Node]) -> Result<BTreeMap<String, String>> {
    let mut made = BTreeMap::new();
    for node in nodes {
        made.insert(node.name.clone(), node.data_made_at().await?);
    }
    Ok(made)
}

/// The region's nodes. The witness leads etcd, so a failover does not wait for an election there.
async fn ready_with_etcd_elsewhere(environment: &LabEnvironment) -> Result<Roles<'_>> {
    let roles = environment.ready().await?;
    roles.witness.lead_etcd().await?;
    Ok(roles)
}

/// The leader's power is cut. Clients that only greet show how much of their rate is left until a date is saved again.
async fn lose_power(environment: &LabEnvironment, leader: &Node) -> Result<Outcome> {
    let traffic = environment.traffic().await;
    let readers = environment.readers(&traffic).await;
    traffic.mark("leader's power cut");
    let cut = Instant::now();
    leader.power_off().await?;
    traffic.until_saved().await?;
    let kept = readers.stop(cut).await;
    traffic.run_for(AFTER).await;
    let rejoined = power_on_again(environment, leader, &traffic).await?;
    kept.check(Build::chosen()?)?;
    Ok(environment.judge(traffic).await?.with_note(format!("{kept}; {rejoined}")))
}

/// In its region, only the leader has the last dates. It loses its power, and everything that is not on its volumes.
pub async fn power_cut_for_real(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let member = leader.etcd_member().await?;
    let traffic = environment.traffic().await;
    traffic.mark("replica shut down in order");
    replica.shut_down().await?;
    cut_and_return(leader, replica, &traffic).await?;
    environment.west().until_leading().await?;
    traffic.mark("replica follows");
    let now = leader.etcd_member().await?;
    ensure!(now == member, "etcd on {} was member {member}, and came back as {now}", leader.name);
    traffic.run_for(AFTER).await;
    environment.judge(traffic).await
}

/// The same with `fsync = off`. Dates must be lost; otherwise this power cut does not lose unwritten data.
pub async fn power_cut_without_fsync(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("replica shut down in order; fsync = off");
    replica.shut_down().await?;
    // Neither the recovery region nor the archive may have what the leader then loses.
    leader.drop_packets_to(environment.central().nodes())?;
    leader.refuse_aws()?;
    leader.set_fsync(false).await?;
    cut_and_return(leader, replica, &traffic).await?;
    leader.set_fsync(true).await?;
    environment.west().until_leading().await?;
    traffic.mark("replica follows; fsync = on");
    traffic.run_for(AFTER).await;
    let outcome = environment.judge(traffic).await?;
    let seconds = outcome.figures()?.lost_seconds;
    Ok(outcome.with_note(format!("fsync = off, {seconds:.1} s of dates lost: a control, which must lose some")))
}

/// Cuts the power of a leader whose replica is off, and then powers on both.
async fn cut_and_return(leader: &Node, replica: &Node, traffic: &Traffic) -> Result<()> {
    traffic.run_for(AFTER).await;
    traffic.mark("leader's power cut; what its kernel had not written is lost");
    leader.cut_power().await?;
    traffic.mark("old leader's power on");
    leader.power_on().await?;
    traffic.until_saved().await?;
    traffic.mark("replica's power on");
    replica.power_on().await
}

/// The leader's zone is partitioned from all others, and reconnected.
pub async fn zone_cut(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = ready_with_etcd_elsewhere(environment).await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader's zone cut off");
    leader.cut_off()?;
    let (closed, opened) = tokio::join!(until_closed(leader), until_open(replica));
    traffic.until_saved().await?;
    traffic.run_for(AFTER).await;
    traffic.mark("zone reconnected");
    leader.reconnect()?;
    let (closed, opened) = (closed?, opened?);
    ensure!(
        closed < opened,
        "two leaders: the partitioned one accepted writes until {closed:?}, the new one from {opened:?}"
    );
    environment.west().until_leading().await?;
    traffic.mark("old leader follows");
    traffic.run_for(AFTER).await;
    let early = (opened - closed).as_secs_f64();
    let note = format!("the old leader stopped taking writes {early:.1} s before the new one started");
    Ok(environment.judge(traffic).await?.with_note(note))
}

/// The same, with every acknowledged date on both nodes.
pub async fn zone_cut_synchronous(environment: &LabEnvironment) -> Result<Outcome> {
    synchronously(environment, zone_cut).await
}

/// Waits until a node's PostgreSQL, queried on the node, accepts no writes. Returns a time at which it did not.
async fn until_closed(node: &Node) -> Result<Instant> {
    eventually(&format!("{} accepts no writes", node.name), PATIENCE, async || {
        ensure!(!node.takes_writes().await?, "it accepts writes");
        Ok(Instant::now())
    })
    .await
}

/// Waits until a node's PostgreSQL, queried on the node, accepts writes. Returns the last time at which it did not.
async fn until_open(node: &Node) -> Result<Instant> {
    let mut refused = Instant::now();
    eventually(&format!("{} accepts writes", node.name), PATIENCE, async || {
        let asked = Instant::now();
        if !node.takes_writes().await? {
            refused = asked;
            bail!("it does not");
        }
        Ok(refused)
    })
    .await
}

/// The leader's volume blocks writes for a minute; it can still be read.
pub async fn disk_stalled(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader's volume stalls");
    leader.stall_volume().await?;
    let took = traffic.until_saved().await?;
    traffic.run_for(STALL.saturating_sub(took)).await;
    traffic.mark("old leader's volume takes writes again");
    leader.resume_volume().await?;
    let west = environment.west();
    let now = tokio::select! {
        Ok(_) = until_open(leader) => bail!("the old leader accepts writes again"),
        now = west.until_leading() => now?.leader,
    };
    traffic.mark("old leader follows");
    ensure!(now.name == replica.name, "{} leads", now.name);
    traffic.run_for(AFTER).await;
    environment.judge(traffic).await
}

/// The file system of the leader's volume finds an error in itself, and becomes read-only. The node gets a new volume.
pub async fn volume_read_only(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader's file system is corrupt");
    leader.break_volume().await?;
    traffic.until_saved().await?;
    ensure!(replica.takes_writes().await?, "{} does not lead", replica.name);
    let why = "Read-only file system";
    ensure!(leader.journal("patroni").await?.contains(why), "the journal of {} does not say '{why}'", leader.name);
    until_fired(environment, traffic.started(), &["PostgresqlDown"]).await?;
    traffic.mark("old leader gets a new volume");
    leader.replace(Boot::NewInstanceAndVolume).await?;
    let now = environment.west().until_leading().await?.leader;
    traffic.mark("old leader follows");
    ensure!(now.name == replica.name, "{} leads", now.name);
    traffic.run_for(AFTER).await;
    environment.judge(traffic).await
}

/// PostgreSQL and Patroni are frozen, while the node's kernel still acknowledges packets for them.
pub async fn frozen(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader's processes frozen");
    leader.freeze_postgresql().await?;
    traffic.until_saved().await?;
    environment.west().until_leading().await?;
    traffic.run_for(AFTER).await;
    judge_and_name_leader(environment, traffic).await
}

/// Patroni alone is frozen, while PostgreSQL takes writes. It must have stopped before another node leads.
pub async fn patroni_frozen(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader's Patroni frozen");
    leader.freeze_patroni().await?;
    tokio::select! {
        Ok(_) = until_open(replica) => bail!("two leaders: the replica accepts writes, too"),
        closed = until_closed(leader) => closed?,
    };
    traffic.mark("dob-guard has killed PostgreSQL");
    traffic.until_saved().await?;
    environment.west().until_leading().await?;
    traffic.run_for(AFTER).await;
    judge_and_name_leader(environment, traffic).await
}

/// The same without what kills PostgreSQL: two nodes lead, and what the old one accepts is lost. A person stops it.
pub async fn two_lead(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    // Clients try the old leader first.
    environment.serve_from(WEST, [leader, replica]).await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader's Patroni frozen, dob-guard stopped");
    leader.run(&["systemctl", "stop", "dob-guard"]).await?;
    leader.freeze_patroni().await?;
    until_open(replica).await?;
    traffic.mark("the replica leads, too");
    ensure!(leader.takes_writes().await?, "{} accepts no writes, so there are no two leaders", leader.name);
    until_fired(environment, traffic.started(), &["TwoLeaders"]).await?;
    let runbook = Section("Two nodes of a region lead");
    traffic.mark("old leader stopped");
    runbook.run(leader, &["stop"], &[]).await?;
    until_closed(leader).await?;
    traffic.until_saved().await?;
    traffic.run_for(AFTER).await;
    traffic.mark("old leader started");
    leader.run(&["systemctl", "start", "patroni", "dob-guard"]).await?;
    environment.west().until_leading().await?;
    traffic.mark("old leader follows");
    traffic.run_for(AFTER).await;
    let outcome = environment.judge(traffic).await?;
    environment.serve(WEST).await?;
    let seconds = outcome.figures()?.lost_seconds;
    Ok(outcome.with_note(format!("two leaders, {seconds:.1} s of dates lost: a control, which must lose some")))
}

/// A planned switchover.
pub async fn switchover(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("dob-switchover");
    leader.run(&["dob-switchover"]).await?;
    traffic.until_saved().await?;
    traffic.run_for(AFTER).await;
    let outcome = environment.judge(traffic).await?;
    let now = environment.ready().await?.leader;
    ensure!(now.name == replica.name, "{} leads", now.name);
    Ok(outcome)
}

async fn power_on_again(environment: &LabEnvironment, node: &Node, traffic: &Traffic) -> Result<String> {
    traffic.mark("old leader's power on");
    let on = Instant::now();
    node.power_on().await?;
    environment.west().until_leading().await?;
    traffic.mark("old leader follows");
    Ok(format!("the old leader follows {} s after its power is back", on.elapsed().as_secs()))
}

/// Runs a scenario in synchronous mode, and switches back afterwards.
async fn synchronously(
    environment: &LabEnvironment,
    drill: impl AsyncFnOnce(&LabEnvironment) -> Result<Outcome>,
) -> Result<Outcome> {
    replicate(environment, "synchronous").await?;
    let outcome = drill(environment).await?;
    replicate(environment, "asynchronous").await?;
    Ok(outcome)
}

/// Changes the replication mode, and checks that dob-status of both regions shows it.
async fn replicate(environment: &LabEnvironment, mode: &str) -> Result<()> {
    let leader = environment.ready().await?.leader;
    leader.run(&["dob-replication", mode]).await?;
    for node in [leader, environment.central().until_following().await?.leader] {
        let said = &node.status().await?["replication"];
        ensure!(said["here"] == mode && said["in_other_region"] == mode, "{} says {said}, not {mode}", node.name);
    }
    Ok(())
}

async fn judge_and_name_leader(environment: &LabEnvironment, traffic: Traffic) -> Result<Outcome> {
    let outcome = environment.judge(traffic).await?;
    let leader = environment.ready().await?.leader;
    Ok(outcome.with_note(format!("{} leads afterwards", leader.name)))
}
