//! The leader crashes, goes, hangs, is cut off, or hands over.

use super::steps::AFTER;
use crate::current::Outcome;
use crate::lab::LabEnvironment;
use crate::traffic::Traffic;
use anyhow::{Context, Result, bail, ensure};
use dob_lab::{Node, Roles};
use dob_support::eventually;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long a volume takes no writes.
const STALL: Duration = Duration::from_secs(60);
/// How far behind the replica is when it matters.
const LAG: Duration = Duration::from_secs(3);
/// By how many seconds clocks may differ, and nodes still take each other's new certificates.
const CLOCKS_DIFFER_S: u64 = 3000;
/// Lines that a node logs at once: many times what is shipped in one go.
const FLOOD: usize = 3000;
/// How long a leader that is cut off may go on taking writes, and the next one take to start.
const PATIENCE: Duration = Duration::from_secs(90);

/// Both regions from user data alone, and the component's own start.
pub async fn cold_start(environment: &LabEnvironment) -> Result<Outcome> {
    let started = Instant::now();
    let Roles { leader, replica, .. } = environment.ready().await?;
    let took = started.elapsed().as_secs();
    for node in environment.west().nodes() {
        node.run(&["cloud-init", "schema", "--system"]).await?;
    }
    gives_peers_up(leader).await?;
    let session = leader.oom_score_of_session_under(100).await?;
    ensure!(session == "0", "sessions of {} are spared with the postmaster where memory ends: {session}", leader.name);
    ensure!(leader.remounts_a_broken_volume().await?, "a broken file system on {} stays writable", leader.name);
    ensure!(
        leader.certificate_age_s().await? > CLOCKS_DIFFER_S,
        "a node whose clock is behind refuses {}",
        leader.name
    );
    says_that_it_leads(leader, replica).await?;
    // A slot that nobody reads from would fill the volume.
    let standby = environment.central().until_following().await?.leader;
    let unread = standby.sql("postgres", "SELECT count(*) FROM pg_replication_slots WHERE NOT active").await?;
    ensure!(unread == "0", "a slot on {} keeps WAL for nobody", standby.name);
    leader.until_archiving().await?;
    leader.until_observed().await?;
    leader.until_shipped(FLOOD).await?;
    Ok(Outcome::noted(format!("two regions of three nodes, from power-on to all streaming and served: {took} s")))
}

/// The kernel tries a host that is gone, and one that no longer answers, for seconds only.
async fn gives_peers_up(node: &Node) -> Result<()> {
    for (setting, expected) in [("tcp_syn_retries", "1"), ("tcp_retries2", "6"), ("tcp_mtu_probing", "1")] {
        let value = node.run(&["cat", &format!("/proc/sys/net/ipv4/{setting}")]).await?;
        ensure!(value == expected, "{setting} is {value} on {}, not {expected}", node.name);
    }
    Ok(())
}

/// dob-status shows the leader with a streaming replica and both slots in use.
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

/// All of PostgreSQL's processes are killed, and it would replay its WAL for longer than anybody waits: the replica leads.
pub async fn crash_replaying(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("all of PostgreSQL's processes killed");
    leader.kill_postgresql().await?;
    leader.hold_recovery().await?;
    traffic.mark("its replay held");
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

/// The leader's node loses its power.
pub async fn power_off(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader's power cut");
    leader.power_off().await?;
    traffic.until_saved().await?;
    traffic.run_for(AFTER).await;
    let rejoined = power_on_again(environment, leader, &traffic).await?;
    Ok(environment.judge(traffic).await?.with_note(rejoined))
}

/// The same, and etcd's leader is on that node: its next one counts the time of Patroni's leader from the beginning.
pub async fn power_off_with_etcd(environment: &LabEnvironment) -> Result<Outcome> {
    environment.ready().await?.leader.lead_etcd().await?;
    power_off(environment).await
}

/// The same, with every acknowledged date on both nodes.
pub async fn power_off_synchronous(environment: &LabEnvironment) -> Result<Outcome> {
    synchronously(environment, power_off).await
}

/// The same while nothing reaches the replica: it leads without the leader's last dates, which the recovery region has already.
pub async fn power_off_lagging(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("replication in the region stopped");
    leader.drop_replication_to(replica)?;
    traffic.run_for(LAG).await;
    traffic.mark("leader's power cut");
    leader.power_off().await?;
    traffic.until_saved().await?;
    traffic.run_for(AFTER).await;
    power_on_again(environment, leader, &traffic).await?;
    // What it wrote last stays out of the archive.
    leader.until_logged("patroni", "goes on beyond that and is not archived").await?;
    let outcome = environment.judge(traffic).await?;
    let figures = outcome.figures()?;
    ensure!(!figures.lost.is_empty(), "nothing was lost: the replica did not lag");
    ensure!(figures.lost_seconds <= LAG.as_secs_f64(), "{} s were lost, not {LAG:?}", figures.lost_seconds);
    let lost = figures.lost_seconds;
    Ok(outcome.with_note(format!("{lost:.1} s of dates lost; both regions' other nodes, which had them, rewound")))
}

/// The leader alone has the last dates, and loses its power with all that is not on its volumes.
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

/// The same while PostgreSQL takes for written what its kernel has not written: dates must be lost, or a power cut here is none.
pub async fn power_cut_without_fsync(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("replica shut down in order; fsync = off");
    replica.shut_down().await?;
    // Neither the recovery region nor the archive may have what the leader then loses.
    leader.drop_packets_to(environment.central().nodes())?;
    leader.refuse_aws()?;
    leader.set_fsync("off").await?;
    cut_and_return(leader, replica, &traffic).await?;
    leader.set_fsync("on").await?;
    environment.west().until_leading().await?;
    traffic.mark("replica follows; fsync = on");
    traffic.run_for(AFTER).await;
    let outcome = environment.judge(traffic).await?;
    let seconds = outcome.figures()?.lost_seconds;
    Ok(outcome.with_note(format!("fsync = off, {seconds:.1} s of dates lost: a control, which must lose some")))
}

/// Cuts a leader's power that is alone, and gives it back, then its replica's.
async fn cut_and_return(leader: &Node, replica: &Node, traffic: &Traffic) -> Result<()> {
    traffic.run_for(AFTER).await;
    traffic.mark("leader's power cut; what its kernel had not written is lost");
    leader.cut_power().await?;
    traffic.mark("its power on");
    leader.power_on().await?;
    traffic.until_saved().await?;
    traffic.mark("replica's power on");
    replica.power_on().await
}

/// The leader's zone is cut off from all others, and reconnected.
pub async fn zone_cut(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader's zone cut off");
    leader.cut_off()?;
    let (closed, opened) = tokio::join!(until_closed(leader), until_open(replica));
    traffic.until_saved().await?;
    traffic.run_for(AFTER).await;
    traffic.mark("zone reconnected");
    leader.reconnect()?;
    let (closed, opened) = (closed?, opened?);
    ensure!(closed < opened, "the cut-off leader took writes until {closed:?}, the new one from {opened:?}");
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

/// By when a node's own PostgreSQL, asked on the node, has stopped taking writes.
async fn until_closed(node: &Node) -> Result<Instant> {
    eventually(&format!("{} stops taking writes", node.name), PATIENCE, async || {
        ensure!(!node.takes_writes().await?, "it takes them");
        Ok(Instant::now())
    })
    .await
}

/// Until when a node's own PostgreSQL has not taken writes: when it was asked for the last time and said no.
async fn until_open(node: &Node) -> Result<Instant> {
    let mut refused = Instant::now();
    eventually(&format!("{} takes writes", node.name), PATIENCE, async || {
        let asked = Instant::now();
        if !node.takes_writes().await? {
            refused = asked;
            bail!("it does not");
        }
        Ok(refused)
    })
    .await
}

/// The leader's volume takes no writes for a minute, though it is still read.
pub async fn disk_stalled(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader's volume stalls");
    leader.stall_volume().await?;
    let took = traffic.until_saved().await?;
    traffic.run_for(STALL.saturating_sub(took)).await;
    traffic.mark("it takes writes");
    leader.resume_volume().await?;
    let west = environment.west();
    let now = tokio::select! {
        opened = until_open(leader) => bail!("the old leader takes writes: {opened:?}"),
        now = west.until_leading() => now?.leader,
    };
    traffic.mark("old leader follows");
    ensure!(now.name == replica.name, "{} leads", now.name);
    traffic.run_for(AFTER).await;
    environment.judge(traffic).await
}

/// PostgreSQL's and Patroni's processes stop, while the node's kernel goes on answering for them.
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

/// The planned change of leader.
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

/// A drill in synchronous mode, which is left afterwards.
async fn synchronously(
    environment: &LabEnvironment,
    drill: impl AsyncFnOnce(&LabEnvironment) -> Result<Outcome>,
) -> Result<Outcome> {
    replicate(environment, "synchronous").await?;
    let outcome = drill(environment).await?;
    replicate(environment, "asynchronous").await?;
    Ok(outcome)
}

/// Changes the mode in both regions, and dob-status in either says so.
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
