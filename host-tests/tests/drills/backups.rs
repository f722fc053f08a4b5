//! A restore from S3 alone, and backups that are not what they were.

use crate::world::{CENTRAL, Row, WEST, World};
use anyhow::{Result, bail, ensure};
use dob_host::lab::Boot;
use std::time::{Duration, Instant};

/// The fresh node of the recovery region.
const FRESH: &str = "central-r";
const DIGEST: &str =
    "SELECT count(*) || ' ' || md5(string_agg(username || date_of_birth, ',' ORDER BY username)) FROM dob_api.birthday";
const READY: &str = "systemctl is-active --quiet dob-volume && systemctl is-active --quiet dob-secrets";
/// The lab's S3 has the buckets in its paths.
const AWS: &str =
    "export AWS_CONFIG_FILE=/tmp/aws AWS_DEFAULT_REGION=eu-west-1; aws configure set default.s3.addressing_style path";
/// archive_timeout, and what a segment takes.
const RECOVERY_POINT: Duration = Duration::from_secs(60 + 5);

/// Somebody deletes all; the moment before comes back on a fresh node of the recovery region.
pub async fn restore(world: &mut World) -> Result<Row> {
    let (leader, before, moment) = disaster(world).await?;
    let deleted = Instant::now();
    until_archived(world, &leader).await?;
    let archived = deleted.elapsed();
    ensure!(archived < RECOVERY_POINT, "the change was in S3 after {archived:?}");
    let started = Instant::now();
    restore_on_fresh_node(world, &[&moment]).await?;
    compare(world, &before).await?;
    let note = format!(
        "all {} rows are back, {} s from the command to serving; a change is in S3 after {} s at most by the clock, {} s here",
        before.split(' ').next().unwrap_or_default(),
        started.elapsed().as_secs(),
        60,
        archived.as_secs()
    );
    Ok(Row { drill: "restore".to_owned(), figures: None, note })
}

/// The recovery region's bucket is lost; the other one is enough.
pub async fn bucket_lost(world: &mut World) -> Result<Row> {
    let (leader, before, moment) = disaster(world).await?;
    world.lab.nodes[&leader].sql("postgres", "SELECT pg_switch_wal()").await?;
    until_archived(world, &leader).await?;
    let bucket = format!("s3://dob-backups-{CENTRAL}");
    let aws = |command: &str| format!("{AWS}; aws s3 --region {CENTRAL} {command} {bucket}");
    world.lab.nodes[&leader].run(&["bash", "-ec", &aws("rb --force")]).await?;
    let refused = restore_on_fresh_node(world, &[&moment, "1"]).await;
    let told = refused.as_ref().is_err_and(|error| format!("{error:#}").contains("nothing could be restored"));
    ensure!(told, "a restore from a bucket that is gone: {refused:?}");
    world.lab.nodes[FRESH].run(&["dob-restore", &moment, "2"]).await?;
    compare(world, &before).await?;
    world.lab.nodes[&leader].run(&["bash", "-ec", &aws("mb")]).await?;
    world.lab.nodes[&leader].run(&["dob-backup"]).await?;
    let note = "restored from the other region's bucket; a backup into the new one is made".to_owned();
    Ok(Row { drill: "bucket-lost".to_owned(), figures: None, note })
}

/// A backup is tampered with, and a node has the wrong key.
pub async fn damaged(world: &mut World) -> Result<Row> {
    world.ready().await?;
    let (leader, ..) = world.roles(WEST).await?;
    let node = &world.lab.nodes[&leader];
    node.run(&["dob-backup"]).await?;
    node.run(&["dob-backup", "verify"]).await?;
    let tamper = format!(
        "{AWS}; bucket=s3://dob-backups-{WEST}
         object=$(aws s3 ls --recursive $bucket/dob/backup/ | awk '/bundle\\// {{print $4}}' | tail -n 1)
         aws s3 cp --quiet $bucket/$object /tmp/whole
         cp /tmp/whole /tmp/damaged
         printf 'tampered' | dd of=/tmp/damaged bs=1 seek=1000 conv=notrunc status=none
         aws s3 cp --quiet /tmp/damaged $bucket/$object
         dob-backup verify && echo 'not noticed'
         aws s3 cp --quiet /tmp/whole $bucket/$object"
    );
    let said = node.run(&["bash", "-c", &format!("exec 2>&1; {tamper}")]).await?;
    ensure!(said.contains("damaged or can't be read in repository 1 (") && !said.contains("not noticed"), "{said}");
    node.run(&["dob-backup", "verify"]).await?;

    fresh_node(world).await?;
    let fresh = &world.lab.nodes[FRESH];
    fresh.run(&["sed", "-i", "s/^\\(PGBACKREST_REPO[12]_CIPHER_PASS\\)=.*/\\1=wrong/", "/run/dob/secrets.env"]).await?;
    match fresh.run(&["dob-restore", "now"]).await {
        Ok(said) => bail!("restored with a wrong key: {said}"),
        Err(error) => ensure!(error.to_string().contains("nothing could be restored"), "{error}"),
    }
    world.lab.node(FRESH).power_off()?;
    let note = "a changed object is found by dob-backup verify; with a wrong key nothing is restored, and both say so"
        .to_owned();
    Ok(Row { drill: "backups-damaged".to_owned(), figures: None, note })
}

/// A backup, rows after it, and a DELETE without WHERE: the leader, what was there before, and when that was.
async fn disaster(world: &mut World) -> Result<(String, String, String)> {
    world.ready().await?;
    let (leader, ..) = world.roles(WEST).await?;
    let node = &world.lab.nodes[&leader];
    node.run(&["dob-backup"]).await?;
    let load = world.load();
    load.go_on(Duration::from_secs(5)).await;
    load.stop().await;
    let node = &world.lab.nodes[&leader];
    let before = node.sql("dob_api", DIGEST).await?;
    let moment = node.sql("postgres", "SELECT now()").await?;
    node.sql("dob_api", "DELETE FROM dob_api.birthday").await?;
    Ok((leader, before, moment))
}

/// Waits until the WAL of now is in both buckets.
async fn until_archived(world: &World, leader: &str) -> Result<()> {
    let node = &world.lab.nodes[leader];
    let segment = node.sql("postgres", "SELECT pg_walfile_name(pg_current_wal_insert_lsn())").await?;
    let archived = format!(
        "test \"$(dob-status --json | jq -r .node.archiver.last_archived_wal | cut -c9-24)\" '>' {}",
        &segment[8..]
    );
    let same = format!(
        "test \"$(dob-status --json | jq -r .node.archiver.last_archived_wal | cut -c9-24)\" = {}",
        &segment[8..]
    );
    node.until("the last segment in S3", &["bash", "-c", &format!("{archived} || {same}")]).await.map(drop)
}

async fn restore_on_fresh_node(world: &mut World, arguments: &[&str]) -> Result<()> {
    fresh_node(world).await?;
    world.lab.nodes[FRESH].run(&[&["dob-restore"], arguments].concat()).await.map(drop)
}

/// A node of role restore as it comes, with an empty volume.
async fn fresh_node(world: &mut World) -> Result<()> {
    let node = world.lab.node(FRESH);
    node.replace(Boot::NewInstanceAndVolume)?;
    node.power_on().await?;
    node.until("the fresh node's volume and secrets", &["bash", "-c", READY]).await.map(drop)
}

/// The restored rows must be those of before; the fresh node is terminated.
async fn compare(world: &mut World, before: &str) -> Result<()> {
    let after = world.lab.nodes[FRESH].sql("dob_api", DIGEST).await?;
    world.lab.node(FRESH).power_off()?;
    ensure!(after == before, "{before} before, {after} restored");
    Ok(())
}
