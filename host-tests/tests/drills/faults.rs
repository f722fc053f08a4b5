//! What the service must not notice, or must answer for in time.

use crate::load::Load;
use crate::world::{CENTRAL, PATIENCE, Row, WEST, World};
use anyhow::{Context, Result, ensure};
use dob_host::history::Findings;
use dob_host::lab::{Boot, Node};
use std::time::{Duration, Instant};

/// How long a fault lasts: longer than Patroni takes to act on anything.
const FAULT: Duration = Duration::from_secs(15);
/// How long the clients run on once all is well.
const AFTER: Duration = Duration::from_secs(3);
/// The contract's limit for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The replica's power is cut.
pub async fn replica_lost(world: &mut World) -> Result<Row> {
    let (_, replica, _) = world.roles().await?;
    node_lost(world, "replica-lost", &replica).await
}

/// The witness's power is cut.
pub async fn witness_lost(world: &mut World) -> Result<Row> {
    let (.., witness) = world.roles().await?;
    node_lost(world, "witness-lost", &witness).await
}

async fn node_lost(world: &mut World, drill: &str, node: &str) -> Result<Row> {
    let load = world.load().await;
    load.mark(&format!("power of {node} cut"));
    world.lab.node(node).power_off()?;
    load.go_on(FAULT).await;
    load.mark("power on");
    world.lab.node(node).power_on().await?;
    world.lab.healthy(WEST, "primary").await?;
    load.mark("all well");
    unnoticed(world, drill, load).await
}

/// The etcd of the leader's node is killed, and comes back without its data.
pub async fn etcd_lost(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let load = world.load().await;
    load.mark("etcd on the leader's node killed, its data gone");
    let lose = "systemctl kill --signal=KILL etcd; systemctl stop etcd; rm -r /var/lib/postgresql/etcd/*/member";
    world.lab.nodes[&leader].run(&["bash", "-ec", lose]).await?;
    load.go_on(FAULT).await;
    load.mark("etcd started");
    world.lab.nodes[&leader].run(&["systemctl", "start", "etcd"]).await?;
    load.mark("a member again");
    let row = unnoticed(world, "etcd-lost", load).await?;
    let (now, ..) = world.roles().await?;
    ensure!(now == leader, "{now} leads");
    Ok(row)
}

/// The leader's data volume is full for a while.
pub async fn disk_full(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let load = world.load().await;
    load.mark("leader's volume filled");
    let fill = "fallocate --length $(df --output=avail --block-size=1 /var/lib/postgresql | tail -1) /var/lib/postgresql/filler || true; \
                dd if=/dev/zero of=/var/lib/postgresql/filler2 bs=4k 2>/dev/null || true";
    world.lab.nodes[&leader].run(&["bash", "-c", fill]).await?;
    load.go_on(FAULT).await;
    load.mark("space again");
    world.lab.nodes[&leader].run(&["bash", "-c", "rm -f /var/lib/postgresql/filler*"]).await?;
    load.until_saved(PATIENCE).await?;
    world.lab.healthy(WEST, "primary").await?;
    load.mark("all well");
    let figures = timely(world, "disk-full", load).await?;
    Ok(Row::measured("disk-full", figures, ""))
}

/// The replica stops replaying.
pub async fn replica_lagging(world: &mut World) -> Result<Row> {
    let (leader, replica, _) = world.roles().await?;
    let load = world.load().await;
    load.mark("replay on the replica stopped");
    // Not pg_wal_replay_pause: Patroni resumes.
    let startup = |signal: &'static str| ["pkill", "--signal", signal, "--full", "^postgres: dob: startup"];
    world.lab.nodes[&replica].run(&startup("STOP")).await?;
    load.go_on(FAULT).await;
    let lag = "SELECT bool_or(pg_wal_lsn_diff(sent_lsn, replay_lsn) > 10000) FROM pg_stat_replication";
    ensure!(world.lab.nodes[&leader].sql("postgres", lag).await? == "t", "no lag is seen on the leader");
    world.lab.nodes[&replica].run(&startup("CONT")).await?;
    load.mark("replay goes on");
    unnoticed(world, "replica-lagging", load).await
}

/// Every packet between the clients' side and the leader's PostgreSQL is dropped; Patroni sees nothing wrong.
pub async fn packets_dropped(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let load = world.load().await;
    load.mark("packets to the leader dropped");
    world.lab.nodes[&leader].drop_packets_of_clients()?;
    load.go_on(FAULT).await;
    load.mark("packets pass");
    world.lab.nodes[&leader].pass_packets_of_clients()?;
    load.until_saved(PATIENCE).await?;
    load.mark("saving again");
    let figures = timely(world, "packets-dropped", load).await?;
    Ok(Row::measured("packets-dropped", figures, "greetings come from the replica"))
}

/// The API's password is rotated: pods come up as a new role, then the old one is retired.
pub async fn password_rotated(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let load = world.load().await;
    let old = world.user.clone();
    world.user = if old == "dob_api_a" { "dob_api_b" } else { "dob_api_a" }.to_owned();
    world.password = format!("another-password-{}", std::process::id());
    load.mark("pods with the new role roll out");
    world.serve(WEST).await?;
    load.mark("old role retired");
    world.lab.nodes[&leader].run(&["dob-retire-role", &old]).await?;
    load.go_on(AFTER).await;
    let may_log_in = format!("SELECT rolcanlogin FROM pg_roles WHERE rolname = '{old}'");
    ensure!(world.lab.nodes[&leader].sql("postgres", &may_log_in).await? == "f", "{old} may still log in");
    unnoticed(world, "password-rotated", load).await
}

/// The cluster's own passwords are changed in Secrets Manager, and every node of both regions takes them and a new certificate.
pub async fn secrets_renewed(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let load = world.load().await;
    let stored = "SELECT string_agg(rolpassword, ' ' ORDER BY rolname) FROM pg_authid
        WHERE rolname IN ('replicator', 'rewinder', 'dob_admin')";
    let before = world.lab.nodes[&leader].sql("postgres", stored).await?;
    load.mark("new passwords in Secrets Manager");
    world.lab.admin_password = change_passwords(&world.lab.nodes[&leader]).await?;
    let others =
        [world.lab.cluster(WEST), world.lab.cluster(CENTRAL)].concat().into_iter().filter(|name| *name != leader);
    for name in [leader.clone()].into_iter().chain(others) {
        let node = &world.lab.nodes[&name];
        let serial = node.run(&SERIAL).await?;
        node.run(&["dob-renew"]).await?;
        ensure!(node.run(&SERIAL).await? != serial, "{name} has the same certificate");
    }
    load.mark("all nodes renewed, replication cut");
    let after = world.lab.nodes[&leader].sql("postgres", stored).await?;
    ensure!(
        before.split(' ').zip(after.split(' ')).all(|(before, after)| before != after),
        "a role has its old password"
    );
    let cut = "SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE active";
    ensure!(world.lab.nodes[&leader].sql("postgres", cut).await? == "2", "not two nodes streamed");
    let (now, _) = world.lab.healthy(WEST, "primary").await?;
    world.lab.healthy(CENTRAL, "standby_leader").await?;
    load.mark("all stream with the new password");
    ensure!(now == leader, "{now} leads");
    unnoticed(world, "secrets-renewed", load).await
}

/// Tells a node's data from data that was fetched anew.
pub const IDENTITY: [&str; 3] = ["stat", "--format=%W", "/var/lib/postgresql/17/dob/PG_VERSION"];

const SERIAL: [&str; 6] = ["openssl", "x509", "-noout", "-serial", "-in", "/run/dob/tls/node.crt"];

/// New passwords for all roles, in both regions' Secrets Managers; gives the one of dob_admin.
async fn change_passwords(node: &Node) -> Result<String> {
    let change = format!(
        r#"aws="aws secretsmanager --output text --region"
        new() {{ openssl rand -hex 16; }}
        secret=$($aws {WEST} get-secret-value --secret-id dob/passwords --query SecretString |
            jq -c --arg r $(new) --arg w $(new) --arg a $(new) '. + {{replication: $r, rewind: $w, admin: $a}}')
        for region in {WEST} {CENTRAL}; do $aws $region put-secret-value --secret-id dob/passwords --secret-string "$secret" >/dev/null; done
        jq -r .admin <<<"$secret""#
    );
    node.run(&["bash", "-ec", &change]).await
}

/// Each node of the region is replaced by a new instance: with its volume, without it, and the witness.
pub async fn node_replaced(world: &mut World) -> Result<Row> {
    let (_, replica, witness) = world.roles().await?;
    let load = world.load().await;
    let kept = replace(world, &load, &replica, Boot::NewInstance, true).await?;
    let lost = replace(world, &load, &replica, Boot::NewInstanceAndVolume, false).await?;
    load.mark(&format!("{witness} replaced"));
    world.lab.node(&witness).replace(Boot::NewInstance)?;
    world.lab.node(&witness).power_on().await?;
    let is_active = ["systemctl", "is-active", "--quiet", "etcd"];
    world.lab.nodes[&witness].until("etcd on the new witness", &is_active).await?;
    load.mark("its etcd is a member");
    let mut row = unnoticed(world, "node-replaced", load).await?;
    row.note = format!("the new instance follows after {kept} s with its volume, after {lost} s with an empty one");
    Ok(row)
}

/// Replaces the replica; its data must be the same, not fetched anew, exactly when the volume was kept.
async fn replace(world: &mut World, load: &Load, replica: &str, boot: Boot, keeps: bool) -> Result<u64> {
    let before = world.lab.nodes[replica].run(&IDENTITY).await?;
    load.mark(&format!("{replica} replaced, {}", if keeps { "volume kept" } else { "volume lost" }));
    let started = Instant::now();
    world.lab.node(replica).replace(boot)?;
    world.lab.node(replica).power_on().await?;
    let (_, follows) = world.lab.healthy(WEST, "primary").await?;
    ensure!(follows == replica, "{follows} follows");
    load.mark("it follows");
    let after = world.lab.nodes[replica].run(&IDENTITY).await.context("its data")?;
    ensure!((before == after) == keeps, "files made at {before} before, {after} after");
    Ok(started.elapsed().as_secs())
}

/// A node whose secret is gone, and one whose volume holds something else: neither starts PostgreSQL, both say why, and the
/// first goes on by itself when the secret is there.
pub async fn node_unfit(world: &mut World) -> Result<Row> {
    let (leader, replica, _) = world.roles().await?;
    let load = world.load().await;
    load.mark("replica replaced, its secret gone");
    let aws = |command: &str| format!("aws secretsmanager --region {WEST} {command} --output text");
    let read = aws("get-secret-value --secret-id dob/passwords --query SecretString");
    let delete = aws("delete-secret --secret-id dob/passwords --force-delete-without-recovery");
    let secret = world.lab.nodes[&leader].run(&["bash", "-ec", &format!("{read}; {delete} >/dev/null")]).await?;
    world.lab.node(&replica).replace(Boot::NewInstance)?;
    world.lab.node(&replica).power_on().await?;
    refuses(world, &replica, "dob-secrets", "can't read the secret dob/passwords").await?;
    load.mark("the secret is back");
    let create = aws(&format!("create-secret --name dob/passwords --secret-string '{secret}'"));
    world.lab.nodes[&leader].run(&["bash", "-ec", &create]).await?;
    world.lab.healthy(WEST, "primary").await?;
    load.mark("it follows");

    load.mark("replica replaced, a stranger's volume attached");
    world.lab.node(&replica).replace(Boot::NewInstanceAndStrangersVolume)?;
    world.lab.node(&replica).power_on().await?;
    refuses(world, &replica, "dob-volume", "holds ext4 that is not a volume of this database").await?;
    load.mark("a blank volume attached");
    world.lab.node(&replica).replace(Boot::NewInstanceAndVolume)?;
    world.lab.node(&replica).power_on().await?;
    world.lab.healthy(WEST, "primary").await?;
    load.mark("it follows");
    unnoticed(world, "node-unfit", load).await
}

/// The node's journal must say it, and PostgreSQL must not run.
pub async fn refuses(world: &World, node: &str, unit: &str, sentence: &str) -> Result<()> {
    let said = format!("journalctl --boot --no-pager --unit={unit} | grep -qF \"{sentence}\"");
    world.lab.nodes[node].until(sentence, &["bash", "-c", &said]).await?;
    let runs = world.lab.nodes[node].run(&["pgrep", "--exact", "postgres"]).await;
    ensure!(runs.is_err(), "PostgreSQL runs on {node}");
    Ok(())
}

/// No call may have failed, nothing be lost, and no greeting be older than what its client knew.
pub async fn unnoticed(world: &World, drill: &str, load: Load) -> Result<Row> {
    load.go_on(AFTER).await;
    let figures = timely(world, drill, load).await?;
    ensure!(figures.errors.is_empty() && figures.lost.is_empty() && figures.backwards == 0, "{figures:?}");
    Ok(Row::measured(drill, figures, ""))
}

/// Every call must have been answered in time, rightly or with 503, and nothing be lost.
async fn timely(world: &World, drill: &str, load: Load) -> Result<Findings> {
    let (figures, _) = world.judge(drill, load, WEST).await?;
    ensure!(figures.slowest < ANSWER_WITHIN, "{figures:?}");
    ensure!(figures.errors.keys().all(|error| error == "503"), "{figures:?}");
    ensure!(figures.lost.is_empty(), "{figures:?}");
    Ok(figures)
}
