//! etcd loses members, its data, or its room.

use super::steps::{FAULT, WITHOUT_ETCD, judge_later, until_fired};
use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use crate::runbook::Section;
use anyhow::{Result, ensure};
use dob_lab::{Node, Roles};

/// The room of a member, in bytes, in place of 2 GB.
const ROOM: usize = 32 << 20;

/// etcd on the leader's node is killed and comes back without its data, or with what an interrupted start has left of it. Its data is damaged,
/// and a person deletes it. Then PostgreSQL on the standby leader restarts while its etcd is down.
pub async fn member_lost(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("etcd on the leader's node killed, its data deleted");
    leader.lose_etcd().await?;
    leader.interrupt_first_start_of_etcd().await?;
    traffic.run_for(FAULT).await;
    traffic.mark("etcd started");
    leader.run(&["systemctl", "start", "etcd"]).await?;
    leader.until_etcd_has(3).await?;
    traffic.mark("etcd on that node is a member again");
    leader.damage_etcd().await?;
    traffic.mark("its data damaged: the runbook's commands");
    Section("etcd is lost").run(leader, &["new-member"], &[]).await?;
    leader.until_etcd_has(3).await?;
    traffic.mark("etcd on that node is a member again");
    let standby = environment.central().until_following().await?.leader;
    standby.run(&["systemctl", "stop", "etcd"]).await?;
    standby.run(&["systemctl", "restart", "patroni"]).await?;
    environment.central().until_following().await?;
    traffic.mark("the recovery region follows after a restart without its etcd");
    standby.run(&["systemctl", "start", "etcd"]).await?;
    let outcome = judge_later(environment, traffic).await?;
    let now = environment.ready().await?.leader;
    ensure!(now.name == leader.name, "{} leads", now.name);
    Ok(outcome)
}

/// All three members of etcd are stopped: the leader keeps leading as long as the replica's Patroni answers it.
pub async fn all_stopped(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, .. } = environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("etcd stopped on all nodes");
    for node in environment.west().nodes() {
        node.run(&["systemctl", "stop", "etcd"]).await?;
    }
    traffic.run_for(WITHOUT_ETCD).await;
    ensure!(leader.is_in_failsafe_mode().await?, "{} is not in failsafe mode", leader.name);
    traffic.mark("etcd started");
    for node in environment.west().nodes() {
        node.run(&["systemctl", "start", "--no-block", "etcd"]).await?;
    }
    leader.until_etcd_has(3).await?;
    traffic.mark("etcd has its majority again");
    let outcome = judge_later(environment, traffic).await?;
    let now = environment.ready().await?.leader;
    ensure!(now.name == leader.name, "{} leads", now.name);
    Ok(outcome)
}

/// etcd's room is full of old values. The leader keeps leading. A person makes room.
pub async fn full(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, witness, .. } = environment.ready().await?;
    for node in environment.west().nodes() {
        node.limit_etcd(ROOM).await?;
        leader.until_etcd_has(3).await?;
    }
    let traffic = environment.traffic().await;
    witness.fill_etcd().await?;
    traffic.mark("etcd is full");
    traffic.run_for(WITHOUT_ETCD).await;
    until_fired(environment, traffic.started(), &["EtcdFilling"]).await?;
    let alarms = leader.etcd_alarms().await?;
    ensure!(alarms.contains("NOSPACE"), "etcd is not full: its alarms are '{alarms}'");
    traffic.mark("the runbook's commands");
    Section("etcd is full").run(leader, &["session", "make-room"], &[]).await?;
    let alarms = leader.etcd_alarms().await?;
    ensure!(alarms.is_empty(), "etcd is still full: {alarms}");
    traffic.mark("dob-switchover");
    leader.run(&["dob-switchover"]).await?;
    let now = environment.west().until_leading().await?.leader;
    ensure!(now.name != leader.name, "{} still leads", now.name);
    let outcome = judge_later(environment, traffic).await?;
    for node in environment.west().nodes() {
        node.give_etcd_room().await?;
        leader.until_etcd_has(3).await?;
    }
    Ok(outcome)
}

/// All three members lose their data while the data nodes run. A person stops both, starts etcd anew, and then starts them.
pub async fn emptied(environment: &LabEnvironment) -> Result<Outcome> {
    let Roles { leader, replica, .. } = environment.ready().await?;
    let nodes: Vec<&Node> = environment.west().nodes().collect();
    let traffic = environment.traffic().await;
    traffic.mark("etcd killed on all nodes, its data deleted");
    for node in &nodes {
        node.lose_etcd().await?;
    }
    traffic.run_for(FAULT).await;
    traffic.mark("Patroni stopped on both data nodes");
    for node in [replica, leader] {
        node.run(&["systemctl", "stop", "patroni"]).await?;
    }
    for node in &nodes {
        node.run(&["systemctl", "restart", "--no-block", "etcd"]).await?;
    }
    leader.until_etcd_has(3).await?;
    traffic.mark("etcd is empty, and has three members; Patroni started on the old leader");
    leader.run(&["systemctl", "start", "patroni"]).await?;
    let recovery_time = traffic.until_saved().await?.as_secs();
    traffic.mark("Patroni started on the replica");
    replica.run(&["systemctl", "start", "patroni"]).await?;
    let now = environment.west().until_leading().await?.leader;
    ensure!(now.name == leader.name, "{} leads", now.name);
    let setting = "maximum_lag_on_failover";
    let kept = leader.patronictl(&["show-config", "dob"]).await?;
    ensure!(kept.contains(setting), "Patroni's configuration was lost with etcd: {kept}");
    environment.central().until_following().await?;
    let note = format!("saves succeed {recovery_time} s after Patroni was started");
    Ok(judge_later(environment, traffic).await?.with_note(note))
}
