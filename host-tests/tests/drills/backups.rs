//! A restore from S3 alone, and backups that are not what they were.

use crate::alerts;
use crate::faults::unnoticed;
use crate::regions::refusal;
use crate::world::{CENTRAL, Row, WEST, World};
use anyhow::{Context, Result, bail, ensure};
use dob_host::lab::{Boot, HERE, Node};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// The fresh node of the recovery region.
const FRESH: &str = "central-r";
const READY: &str = "systemctl is-active --quiet dob-volume && systemctl is-active --quiet dob-secrets";
/// The lab's S3 has the buckets in its paths.
const AWS: &str =
    "export AWS_CONFIG_FILE=/tmp/aws AWS_DEFAULT_REGION=eu-west-1; aws configure set default.s3.addressing_style path";
/// What the nodes' `archive_timeout` promises.
const RECOVERY_POINT: Duration = Duration::from_secs(60);
const ARCHIVE_STATUS: &str = "/var/lib/postgresql/17/dob/pg_wal/archive_status";
/// There while the archive goes on without a bucket.
const LEFT_OUT: &str = "/run/dob/postgres/bucket-left-out";
/// Segments of 16 MiB: more than the volume's 1 GiB.
const SEGMENTS: usize = 70;
/// Segments that may wait for S3: a quarter of the volume, and some on their way.
const MAY_WAIT: usize = 20;
/// What a segment takes on its way to S3.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// What dob-checksum says of the data.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Data {
    rows: u64,
    checksum: String,
}

/// Somebody deletes all; the moment before comes back on a fresh node of the recovery region.
pub async fn restore(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    world.lab.nodes[&leader].run(&["dob-backup"]).await?;
    let (before, moment) = disaster(world, &leader).await?;
    let deleted = Instant::now();
    until_archived(world, &leader).await?;
    let archived = deleted.elapsed();
    ensure!(archived < RECOVERY_POINT + ON_ITS_WAY, "the change was in S3 after {archived:?}");
    let booted = Instant::now();
    fresh_node(world).await?;
    let (started, boot) = (Instant::now(), booted.elapsed().as_secs());
    world.lab.nodes[FRESH].run(&["dob-restore", &moment]).await?;
    let restore = started.elapsed().as_secs();
    compare(world, &before).await?;
    let address = world.lab.nodes[FRESH].address.to_string();
    world.lab.nodes[&leader].run(&["dob-copy-back", &address]).await?;
    let copied = data(&world.lab.nodes[&leader]).await?;
    ensure!(copied == before, "{before:?} before, {copied:?} copied back");
    world.lab.node(FRESH).power_off()?;
    let rows = before.rows;
    let note = format!(
        "all {rows} rows are back: a fresh node in {boot} s, dob-restore in {restore} s, then dob-copy-back; RPO {} s by archive_timeout, {} s here",
        RECOVERY_POINT.as_secs(),
        archived.as_secs()
    );
    Ok(Row::noted("restore", note))
}

/// The recovery region's bucket is lost; what is saved from then on is in the other one.
pub async fn bucket_lost(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let bucket = format!("s3://dob-backups-{CENTRAL}");
    let aws = |command: &str| format!("{AWS}; aws s3 --region {CENTRAL} {command} {bucket}");
    world.lab.nodes[&leader].run(&["bash", "-ec", &aws("rb --force")]).await?;
    world.lab.nodes[&leader].sql("postgres", "SELECT pg_create_restore_point('bucket lost'), pg_switch_wal()").await?;
    alerts::fired(&world.prometheus, Instant::now(), &["WalArchiveFailing".to_owned()].into()).await?;
    // Five minutes of waiting, in a moment.
    let wait =
        format!("find {ARCHIVE_STATUS} -name '*.ready' -exec touch --date='6 minutes ago' {{}} +; test -e {LEFT_OUT}");
    world.lab.nodes[&leader].until("the archive goes on without it", &["bash", "-c", &wait]).await?;
    let refused = refusal(world, &leader, &["dob-backup"]).await?;
    ensure!(refused.contains("no backup in repository 2 ("), "{refused}");
    let (before, moment) = disaster(world, &leader).await?;
    world.lab.nodes[&leader].sql("postgres", "SELECT pg_switch_wal()").await?;
    until_archived(world, &leader).await?;
    fresh_node(world).await?;
    let refused = world.lab.nodes[FRESH].run(&["dob-restore", &moment, "1"]).await;
    let told = refused.as_ref().is_err_and(|error| format!("{error:#}").contains("nothing could be restored"));
    ensure!(told, "a restore from a bucket that is gone: {refused:?}");
    world.lab.nodes[FRESH].run(&["dob-restore", &moment, "2"]).await?;
    compare(world, &before).await?;
    world.lab.node(FRESH).power_off()?;
    world.lab.nodes[&leader].run(&["bash", "-ec", &aws("mb")]).await?;
    world.lab.nodes[&leader].run(&["dob-backup"]).await?;
    let left_out = world.lab.nodes[&leader].run(&["test", "-e", LEFT_OUT]).await;
    ensure!(left_out.is_err(), "the bucket is still left out");
    let note =
        "what was saved after the loss is restored from the other region's bucket; a backup into the new one is made";
    Ok(Row::noted("bucket-lost", note))
}

/// Nothing reaches S3, while more is written than the volume could hold: rather the archive has a hole than saving ends.
pub async fn archive_lost(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
    let load = world.load().await;
    load.mark("S3 out of reach");
    let node = &world.lab.nodes[&leader];
    node.filter(&format!("ip daddr {HERE} tcp dport 443 reject with tcp reset"))?;
    // A try takes minutes; ended, it is followed by one that finds too much waiting.
    let few_wait = format!(
        "test $(find {ARCHIVE_STATUS} -name '*.ready' | wc -l) -le {MAY_WAIT} || {{ pkill --full archive-push; false; }}"
    );
    for _ in 0..SEGMENTS {
        node.sql("postgres", "SELECT pg_create_restore_point('S3 is away'), pg_switch_wal()").await?;
        node.until("segments are given up", &["bash", "-c", &few_wait]).await?;
    }
    load.mark("more written than the volume holds");
    alerts::fired(&world.prometheus, load.started, &["WalArchiveFailing".to_owned()].into()).await?;
    load.mark("S3 is back");
    node.pass_packets()?;
    node.run(&["dob-backup"]).await?;
    load.mark("backed up");
    unnoticed(world, "archive-lost", load).await
}

/// A backup is tampered with, and a node has the wrong key.
pub async fn damaged(world: &mut World) -> Result<Row> {
    let (leader, ..) = world.roles().await?;
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
         echo \"damaged: $(cut -d / -f 4 <<<$object)\"
         ! dob-backup verify || echo 'not noticed'"
    );
    let said = node.run(&["bash", "-c", &format!("exec 2>&1; {tamper}")]).await?;
    ensure!(said.contains("damaged or can't be read in repository 1 (") && !said.contains("not noticed"), "{said}");
    let label = said.lines().find_map(|line| line.strip_prefix("damaged: ")).context("the damaged backup's label")?;
    node.run(&["dob-backup"]).await?;
    node.run(&["dob-backup", "expire", "1", label]).await?;
    node.run(&["dob-backup", "verify"]).await?;

    fresh_node(world).await?;
    let fresh = &world.lab.nodes[FRESH];
    fresh.run(&["sed", "-i", "s/^\\(PGBACKREST_REPO[12]_CIPHER_PASS\\)=.*/\\1=wrong/", "/run/dob/secrets.env"]).await?;
    match fresh.run(&["dob-restore", "now"]).await {
        Ok(said) => bail!("restored with a wrong key: {said}"),
        Err(error) => ensure!(error.to_string().contains("nothing could be restored"), "{error}"),
    }
    world.lab.node(FRESH).power_off()?;
    let note = "a changed object is found by dob-backup verify; with a wrong key nothing is restored, and both say so";
    Ok(Row::noted("backups-damaged", note))
}

/// Rows, and a DELETE without WHERE: what was there before, and when that was.
async fn disaster(world: &mut World, leader: &str) -> Result<(Data, String)> {
    world.load().await.stop().await;
    let node = &world.lab.nodes[leader];
    let before = data(node).await?;
    let moment = node.sql("postgres", "SELECT now()").await?;
    node.sql("dob_api", "DELETE FROM dob_api.birthday").await?;
    Ok((before, moment))
}

/// Waits until the WAL of now is in both buckets.
async fn until_archived(world: &World, leader: &str) -> Result<()> {
    let node = &world.lab.nodes[leader];
    let segment = node.sql("postgres", "SELECT pg_walfile_name(pg_current_wal_insert_lsn())").await?;
    // Names of segments sort by time on one timeline.
    let archived = format!("dob-status --json | jq -e '.node.archiver.last_archived_wal >= \"{segment}\"'");
    node.until("the last segment in S3", &["bash", "-c", &archived]).await.map(drop)
}

/// A node of role restore as it comes, with an empty volume.
async fn fresh_node(world: &mut World) -> Result<()> {
    let node = world.lab.node(FRESH);
    node.replace(Boot::NewInstanceAndVolume)?;
    node.power_on().await?;
    node.until("the fresh node's volume and secrets", &["bash", "-c", READY]).await.map(drop)
}

/// The restored rows must be those of before.
async fn compare(world: &World, before: &Data) -> Result<()> {
    let after = data(&world.lab.nodes[FRESH]).await?;
    ensure!(after == *before, "{before:?} before, {after:?} restored");
    Ok(())
}

async fn data(node: &Node) -> Result<Data> {
    serde_json::from_str(&node.run(&["dob-checksum"]).await?).context("dob-checksum")
}
