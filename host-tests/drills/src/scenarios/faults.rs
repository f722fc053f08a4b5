//! Faults that the service must tolerate, or must answer in time.

use super::steps::{AFTER, FAULT, WITHOUT_ETCD, judge_later, refuses};
use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use crate::traffic::Traffic;
use anyhow::{Context, Result, ensure};
use dob_lab::{Boot, CENTRAL, Node, Roles, WEST};
use dob_support::eventually;
use std::time::{Duration, Instant};

/// How long it may take until a client has taken all connections.
const TAKEN_WITHIN: Duration = Duration::from_secs(90);
/// The memory limit of the node, in bytes.
const MEMORY: u64 = 512 << 20;

/// The replica's power is cut.
pub async fn replica_lost(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { replica, .. } = environment.ready().await?;
    node_lost(environment, replica).await
}

/// The witness's power is cut.
pub async fn witness_lost(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { witness, .. } = environment.ready().await?;
    node_lost(environment, witness).await
}

async fn node_lost(environment: &LabEnvironment, node: &Node) -> Result<Outcome> {
    let traffic = environment.traffic().await;
    traffic.mark(&format!("power of {} cut", node.name));
    node.power_off().await?;
    traffic.run_for(FAULT).await;
    traffic.mark("power on");
    node.power_on().await?;
    environment.west().until_leading().await?;
    traffic.mark("replica streams");
    judge_later(environment, traffic).await
}

/// First leader and replica are partitioned from each other, but not from the witness. Then only the leader's traffic with etcd is cut.
pub async fn asymmetric_cut(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, witness } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader and replica cut off from each other");
    leader.drop_packets_to([replica])?;
    replica.drop_packets_to([leader])?;
    traffic.run_for(WITHOUT_ETCD).await;
    still_leads(environment, leader, replica).await?;
    traffic.mark("reconnected");
    leader.pass_packets()?;
    replica.pass_packets()?;
    environment.west().until_leading().await?;
    traffic.mark("replica streams; leader cut off from etcd");
    leader.drop_etcd_packets_to([replica, witness])?;
    traffic.run_for(WITHOUT_ETCD).await;
    still_leads(environment, leader, replica).await?;
    traffic.mark("reconnected");
    leader.pass_packets()?;
    leader.until_etcd_has(3).await?;
    let outcome = judge_later(environment, traffic).await?;
    still_leads(environment, leader, replica).await?;
    Ok(outcome)
}

/// The clock of the leader's PostgreSQL and Patroni jumps ahead by an hour, and back.
pub async fn clock_jumps(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader: before, replica: leader, .. } = environment.ready().await?;
    leader.give_clock().await?;
    environment.west().until_leading().await?;
    before.run(&["dob-switchover"]).await?;
    let Roles { replica, .. } = environment.west().until_leading().await?;
    let started = leader.started_at().await?;
    let traffic = environment.traffic().await;
    for (offset, jump) in [("3600", "ahead by an hour"), ("0", "back")] {
        traffic.mark(&format!("clock of the leader's PostgreSQL and Patroni jumps {jump}"));
        leader.set_clock(offset).await?;
        traffic.run_for(WITHOUT_ETCD).await;
        let off = leader.clock_is_off_by_s().await?;
        ensure!(off.to_string() == offset, "the clock of PostgreSQL on {} is off by {off} s", leader.name);
        still_leads(environment, leader, replica).await?;
        environment.west().until_leading().await?;
    }
    ensure!(leader.started_at().await? == started, "PostgreSQL on {} has restarted", leader.name);
    let outcome = judge_later(environment, traffic).await?;
    leader.run(&["dob-switchover"]).await?;
    environment.west().until_leading().await?;
    leader.take_clock_back().await?;
    environment.west().until_leading().await?;
    Ok(outcome)
}

/// Checks that the leader accepts writes, and that the replica does not.
async fn still_leads(environment: &LabEnvironment, leader: &Node, replica: &Node) -> Result<()> {
    let leads = environment.west().primary().await.map(|node| node.name.as_str());
    ensure!(leads == Some(&leader.name), "{leads:?} leads");
    ensure!(!replica.takes_writes().await?, "{} accepts writes, too", replica.name);
    Ok(())
}

/// The leader's data volume is full, and its PostgreSQL ends when it needs another WAL segment. Often the replica leads then.
pub async fn disk_full(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("leader's volume filled");
    leader.fill_volume().await?;
    leader.use_up_segments().await?;
    traffic.mark("last WAL segment used");
    traffic.run_for(FAULT).await;
    let why = "No space left on device";
    ensure!(leader.journal("patroni").await?.contains(why), "the journal of {} does not say '{why}'", leader.name);
    traffic.mark("volume freed");
    leader.free_volume().await?;
    traffic.until_saved().await?;
    let now = environment.west().until_leading().await?.leader;
    traffic.mark("replica streams");
    // If another node leads, a checkpoint hands over the last segment before its timeline, of which it may have received only the part that is used.
    now.sql("postgres", "CHECKPOINT").await?;
    let segment = now.sql("postgres", "SELECT pg_walfile_name(pg_current_wal_insert_lsn())").await?;
    now.finish_segment().await?;
    now.until_in_archive(&segment).await?;
    environment.judge(traffic).await
}

/// The replica stops replaying.
pub async fn replica_lagging(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("replay on the replica stopped");
    replica.stop_replay().await?;
    traffic.run_for(FAULT).await;
    let lag = "SELECT bool_or(pg_wal_lsn_diff(sent_lsn, replay_lsn) > 10000) FROM pg_stat_replication";
    ensure!(leader.sql("postgres", lag).await? == "t", "the leader sees no lag");
    replica.resume_replay().await?;
    traffic.mark("replay resumed");
    judge_later(environment, traffic).await
}

/// Every packet between the clients and the leader's PostgreSQL is dropped; Patroni is not affected.
pub async fn packets_dropped(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("packets to the leader dropped");
    leader.drop_packets_of_clients()?;
    traffic.run_for(FAULT).await;
    traffic.mark("packets pass again");
    leader.pass_packets()?;
    traffic.until_saved().await?;
    let outcome = environment.judge(traffic).await?;
    let figures = outcome.figures.as_ref().context("clients ran")?;
    ensure!(!figures.errors.is_empty(), "every save succeeded, so no packet was dropped");
    Ok(outcome.with_note("greetings come from the replica"))
}

/// A client takes all of the leader's connections, and leaves them idle. Administrators and Patroni must still be able to connect.
pub async fn connection_storm(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("a client opens sessions and leaves them idle");
    let limit: usize = leader.sql("postgres", "SHOW max_connections").await?.parse()?;
    let mut sessions = environment.open_sessions(leader, limit).await?;
    eventually("all of the leader's connections are taken", TAKEN_WITHIN, async || {
        let free = leader.free_connections().await?;
        ensure!(free == 0, "{free} are free");
        Ok(())
    })
    .await?;
    traffic.mark("no connection is left");
    let (before, ordinary) = (leader.patroni_session().await?, leader.ordinary_sessions().await?);
    // It waits until the session has ended.
    let ended = leader.sql("postgres", &format!("SELECT pg_terminate_backend({before}, 5000)")).await?;
    ensure!(ended == "t", "Patroni's session has not ended");
    // The client takes the connection that this has freed, so that Patroni needs one of the reserved ones.
    sessions.extend(environment.open_sessions(leader, 1).await?);
    eventually("Patroni has logged in on a reserved connection", FAULT, async || {
        let now = leader.patroni_session().await?;
        ensure!(now != before, "its old session is still there");
        let taken = leader.ordinary_sessions().await? - ordinary;
        ensure!(taken == 1, "the client has taken {taken} more connections, so that Patroni may have an ordinary one");
        Ok(())
    })
    .await?;
    traffic.mark("Patroni's session ended, and it has logged in again");
    traffic.run_for(FAULT).await;
    leader.status().await?;
    leader.patronictl(&["list"]).await?;
    drop(sessions);
    traffic.mark("the client has disconnected");
    traffic.until_saved().await?;
    let outcome = judge_later(environment, traffic).await?;
    let now = environment.ready().await?.leader;
    ensure!(now.name == leader.name, "{} leads", now.name);
    Ok(outcome)
}

/// A session takes all memory of the leader's node: the kernel ends the session, and PostgreSQL starts again where it is.
pub async fn memory_exhausted(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let before = leader.vital_processes().await?;
    let traffic = environment.traffic().await;
    traffic.mark("a session on the leader takes all of its memory");
    leader.limit_memory(Some(MEMORY))?;
    let said = leader.exhaust_memory().await?;
    leader.limit_memory(None)?;
    ensure!(said.contains("server closed the connection unexpectedly"), "{said}");
    traffic.mark("the kernel has killed that session");
    traffic.until_saved().await?;
    environment.west().until_leading().await?;
    let after = leader.vital_processes().await?;
    ensure!(after == before, "postmaster, Patroni and etcd of {} were {before:?}, and are {after:?}", leader.name);
    let outcome = judge_later(environment, traffic).await?;
    let now = environment.ready().await?.leader;
    ensure!(now.name == leader.name, "{} leads", now.name);
    Ok(outcome)
}

/// The API's password is rotated: pods start with a new role, then the old one is retired.
pub async fn password_rotated(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("pods with the new role roll out");
    let old = environment.serve_as_other_role().await?;
    traffic.mark("old role retired");
    leader.run(&["dob-retire-role", &old]).await?;
    traffic.run_for(AFTER).await;
    let may_log_in =
        leader.sql("postgres", &format!("SELECT rolcanlogin FROM pg_roles WHERE rolname = '{old}'")).await?;
    ensure!(may_log_in == "f", "{old} may still log in");
    judge_later(environment, traffic).await
}

/// The cluster's own passwords are changed in Secrets Manager. Every node of both regions gets them, and a new certificate.
pub async fn secrets_renewed(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    let stored = "SELECT string_agg(rolpassword, ' ' ORDER BY rolname) FROM pg_authid
        WHERE rolname IN ('replicator', 'rewinder', 'dob_admin')";
    let before = leader.sql("postgres", stored).await?;
    traffic.mark("new passwords in Secrets Manager");
    environment.set_admin_password(leader.change_passwords(&[WEST, CENTRAL]).await?).await;
    renew(leader).await?;
    for node in environment.west().nodes().chain(environment.central().nodes()).filter(|node| node.name != leader.name)
    {
        renew(node).await?;
    }
    traffic.mark("all nodes renewed, replication cut");
    let after = leader.sql("postgres", stored).await?;
    let mut roles = before.split(' ').zip(after.split(' '));
    ensure!(roles.all(|(before, after)| before != after), "a role still has its old password");
    let cut = "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE active";
    ensure!(leader.sql("postgres", cut).await? == "2", "two nodes should have streamed");
    let now = environment.west().until_leading().await?.leader;
    environment.central().until_following().await?;
    traffic.mark("all stream with the new password");
    ensure!(now.name == leader.name, "{} leads", now.name);
    judge_later(environment, traffic).await
}

async fn renew(node: &Node) -> Result<()> {
    let before = node.certificate().await?;
    node.run(&["dob-renew"]).await?;
    ensure!(node.certificate().await? != before, "{} still has its old certificate", node.name);
    Ok(())
}

/// The replica is replaced by a new instance, with its volume and without it; then the witness is replaced.
pub async fn node_replaced(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { replica, witness, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    let kept = replace(environment, &traffic, replica, Boot::NewInstance).await?;
    let lost = replace(environment, &traffic, replica, Boot::NewInstanceAndVolume).await?;
    traffic.mark(&format!("{} replaced", witness.name));
    witness.replace(Boot::NewInstance).await?;
    witness.until_active("etcd").await?;
    traffic.mark("etcd on the new witness is a member");
    let note = format!("the new instance follows after {kept} s with its volume, after {lost} s with an empty one");
    Ok(judge_later(environment, traffic).await?.with_note(note))
}

/// Replaces the replica. Its data must be a new copy only if the volume is new. Returns the seconds until it follows.
async fn replace(environment: &LabEnvironment, traffic: &Traffic, replica: &Node, boot: Boot) -> Result<u64> {
    let keeps = boot == Boot::NewInstance;
    let before = replica.data_made_at().await?;
    traffic.mark(&format!("{} replaced, {}", replica.name, if keeps { "volume kept" } else { "volume lost" }));
    let started = Instant::now();
    replica.replace(boot).await?;
    let follows = environment.west().until_leading().await?.replica;
    ensure!(follows.name == replica.name, "{} follows", follows.name);
    traffic.mark("replica follows");
    let after = replica.data_made_at().await.context("the replica's data")?;
    ensure!(
        (before == after) == keeps,
        "the replica's data was created at {before} before its replacement, and at {after} after it"
    );
    Ok(started.elapsed().as_secs())
}

/// A node without its secret, and one with a foreign volume: neither starts PostgreSQL, and both log why. The first starts by itself
/// when the secret is back.
pub async fn node_unfit(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("replica replaced, its secret deleted");
    let secret = leader.delete_passwords().await?;
    replica.replace(Boot::NewInstance).await?;
    refuses(replica, "dob-secrets", "can't read the secret dob/passwords").await?;
    traffic.mark("secret created again");
    leader.make_passwords(&secret).await?;
    environment.west().until_leading().await?;
    traffic.mark("replica follows");

    traffic.mark("replica replaced, another application's volume attached");
    replica.replace(Boot::NewInstanceAndStrangersVolume).await?;
    refuses(replica, "dob-volume", "holds ext4 that is not a volume of this database").await?;
    traffic.mark("a blank volume attached");
    replica.replace(Boot::NewInstanceAndVolume).await?;
    environment.west().until_leading().await?;
    traffic.mark("replica follows");
    judge_later(environment, traffic).await
}
