//! Restores from S3, lost buckets and damaged backups.

use super::steps::{judge_later, until_fired};
use crate::alerts::until_ended;
use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use anyhow::{Result, ensure};
use dob_lab::{Boot, CENTRAL, Checksum, Node};
use std::time::{Duration, Instant};

/// The RPO that the nodes' `archive_timeout` promises.
const RECOVERY_POINT: Duration = Duration::from_secs(60);
/// The number of segments of 16 MiB; together they exceed the volume's 1 GiB.
const SEGMENTS: usize = 70;
/// How many segments may wait for S3: a quarter of the volume, and some that are being uploaded.
const MAY_WAIT: usize = 20;
/// The two steps of a restore: pgBackRest copies the backup, then PostgreSQL replays WAL. For each, the file that appears when it begins, and the
/// file that is there until it ends.
const STEPS: [(&str, &str); 2] = [("backup.manifest", "backup.manifest"), ("postmaster.pid", "recovery.signal")];
/// How long the upload of a segment may take.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// All rows are deleted by mistake. The state before is restored on a fresh node of the recovery region.
pub async fn restore(environment: &LabEnvironment) -> Result<Outcome> {
    let leader = environment.ready().await?.leader;
    leader.run(&["dob-backup"]).await?;
    let (before, moment) = disaster(environment, leader).await?;
    let deleted = Instant::now();
    environment.current.step("all rows deleted");
    leader.until_archived().await?;
    let archived = deleted.elapsed();
    ensure!(archived < RECOVERY_POINT + ON_ITS_WAY, "the change reached S3 only after {archived:?}");
    let booted = Instant::now();
    let fresh = fresh_node(environment).await?;
    let (started, boot) = (Instant::now(), booted.elapsed().as_secs());
    // The command that starts the restore is ended after a second, as Session Manager ends a command after an hour.
    fresh.refusal(&["timeout", "1", "dob-restore", &moment]).await?;
    let said = fresh.run(&["dob-restore", "progress"]).await?;
    ensure!(said.starts_with("activating: ") && said.contains("MB are here, the newest backup has"), "{said}");
    environment.current.step("the restore continues without its session");
    fresh.run(&["dob-restore", &moment]).await?;
    let restore = started.elapsed().as_secs();
    holds(fresh, &before).await?;
    leader.run(&["dob-copy-back", &fresh.address.to_string()]).await?;
    holds(leader, &before).await?;
    fresh.power_off().await?;
    environment.current.step("copied back; now all that is archived");
    to_the_end(environment, leader, &before).await?;
    environment.current.step("restored; now a moment after the last save");
    to_a_quiet_moment(environment, leader).await?;
    Ok(Outcome::noted(format!(
        "all {} rows are back: a fresh node in {boot} s, dob-restore in {restore} s, then dob-copy-back; RPO {} s by archive_timeout, {} s here; \
         the end of the archive and a time after the last save are restored, too",
        before.rows,
        RECOVERY_POINT.as_secs(),
        archived.as_secs()
    )))
}

/// Restores all that is archived. A time that the archive does not reach is refused first, and costs no new volume.
async fn to_the_end(environment: &LabEnvironment, leader: &Node, all: &Checksum) -> Result<()> {
    leader.sql("postgres", "SELECT pg_switch_wal()").await?;
    leader.until_archived().await?;
    let fresh = fresh_node(environment).await?;
    let tomorrow = leader.sql("postgres", "SELECT now() + interval '1 day'").await?;
    let refused = fresh.refusal(&["dob-restore", &tomorrow]).await?;
    ensure!(refused.contains("recovery ended before configured recovery target was reached"), "{refused}");
    fresh.run(&["dob-restore", "latest"]).await?;
    holds(fresh, all).await?;
    fresh.power_off().await
}

/// Restores a moment after which nobody has saved, as `scripts/restore-drill` does. The node loses its power while the backup is copied, and
/// while WAL is replayed, and when the restore is done. The same command resumes it, or starts the restored database.
async fn to_a_quiet_moment(environment: &LabEnvironment, leader: &Node) -> Result<()> {
    let reading = leader.reading().await?;
    leader.until_in_archive(&reading.segment).await?;
    let fresh = fresh_node(environment).await?;
    for (first, last) in STEPS {
        fresh.begin_restore(&reading.at, first).await?;
        environment.current.step(&format!("it has written {first}: power cut"));
        restart(fresh).await?;
        ensure!(fresh.has_in_data(last).await?, "the power was cut after the restore had deleted {last}");
    }
    fresh.run(&["dob-restore", &reading.at]).await?;
    holds(fresh, &reading.checksum).await?;
    let refused = fresh.refusal(&["dob-restore", "latest"]).await?;
    ensure!(refused.contains(&format!("'{}' is restored here", reading.at)), "{refused}");
    restart(fresh).await?;
    fresh.run(&["dob-restore", &reading.at]).await?;
    holds(fresh, &reading.checksum).await?;
    fresh.power_off().await
}

/// The recovery region's bucket is lost. Later dates can be restored from the other bucket.
pub async fn bucket_lost(environment: &LabEnvironment) -> Result<Outcome> {
    let leader = environment.ready().await?.leader;
    let lost = Instant::now();
    leader.delete_bucket(CENTRAL).await?;
    environment.current.step("bucket deleted");
    leader.finish_segment().await?;
    until_fired(environment, lost, &["WalArchiveFailing"]).await?;
    leader.until_bucket_is_left_out().await?;
    environment.current.step("WAL is archived without it");
    let refused = leader.refusal(&["dob-backup"]).await?;
    ensure!(refused.contains("no backup in repository 2 ("), "{refused}");
    let (before, moment) = disaster(environment, leader).await?;
    leader.sql("postgres", "SELECT pg_switch_wal()").await?;
    leader.until_archived().await?;
    let fresh = fresh_node(environment).await?;
    let refused = fresh.refusal(&["dob-restore", &moment]).await?;
    ensure!(
        refused.contains("repository 1 can't be read"),
        "a restore from both buckets, of which one is gone: {refused}"
    );
    let refused = fresh.refusal(&["dob-restore", &moment, "1"]).await?;
    ensure!(refused.contains("the backup could not be restored"), "a restore from a bucket that is gone: {refused}");
    fresh.run(&["dob-restore", &moment, "2"]).await?;
    holds(fresh, &before).await?;
    fresh.power_off().await?;
    environment.current.step("restored; now an empty bucket");
    leader.make_bucket(CENTRAL).await?;
    leader.run(&["dob-backup"]).await?;
    ensure!(!leader.leaves_out_a_bucket().await?, "WAL is still archived without the bucket");
    let note =
        "what was saved after the loss is restored from the other region's bucket; a backup into the new one is made";
    Ok(Outcome::noted(note))
}

/// S3 can't be reached, while more WAL is written than the volume can hold. Saving must continue, at the price of a hole in the archive.
pub async fn archive_lost(environment: &LabEnvironment) -> Result<Outcome> {
    let leader = environment.ready().await?.leader;
    // The alert on a hole compares it with the newest backup, and must not fire any more because of the drill before.
    leader.run(&["dob-backup"]).await?;
    leader.run(&["systemctl", "restart", "dob-metrics.service"]).await?;
    until_ended(&environment.prometheus, "ArchiveHole").await?;
    let traffic = environment.traffic().await;
    traffic.mark("S3 out of reach");
    leader.refuse_aws()?;
    for _ in 0..SEGMENTS {
        leader.finish_segment().await?;
        leader.until_segments_wait(MAY_WAIT).await?;
    }
    traffic.mark("more written than the volume holds");
    until_fired(environment, traffic.started(), &["WalArchiveFailing", "ArchiveHole"]).await?;
    traffic.mark("S3 is back");
    leader.pass_packets()?;
    leader.run(&["dob-backup"]).await?;
    traffic.mark("backed up");
    judge_later(environment, traffic).await
}

/// A backup is corrupted, and a node has the wrong key.
pub async fn damaged(environment: &LabEnvironment) -> Result<Outcome> {
    let leader = environment.ready().await?.leader;
    leader.run(&["dob-backup"]).await?;
    leader.run(&["dob-backup", "verify"]).await?;
    let label = leader.tamper_with_newest_backup().await?;
    environment.current.step("backup corrupted");
    let refused = leader.refusal(&["dob-backup", "verify"]).await?;
    ensure!(refused.contains("damaged or can't be read in repository 1 ("), "{refused}");
    leader.run(&["dob-backup"]).await?;
    leader.run(&["dob-backup", "expire", "1", &label]).await?;
    leader.run(&["dob-backup", "verify"]).await?;

    environment.current.step("another backup is whole; now a wrong key");
    let fresh = fresh_node(environment).await?;
    fresh.spoil_backup_key().await?;
    let refused = fresh.refusal(&["dob-restore", "now"]).await?;
    ensure!(refused.contains("the backup could not be restored"), "{refused}");
    fresh.power_off().await?;
    let note = "a changed object is found by dob-backup verify; with a wrong key nothing is restored, and both say so";
    Ok(Outcome::noted(note))
}

/// Saves rows, and runs a DELETE without WHERE. Returns the checksum and the time before it.
async fn disaster(environment: &LabEnvironment, leader: &Node) -> Result<(Checksum, String)> {
    environment.traffic().await.stop().await;
    let before = leader.checksum().await?;
    let moment = leader.sql("postgres", "SELECT now()").await?;
    leader.sql("dob_api", "DELETE FROM dob_api.birthday").await?;
    Ok((before, moment))
}

/// Boots the recovery region's node for restores, with an empty volume.
async fn fresh_node(environment: &LabEnvironment) -> Result<&Node> {
    let node = environment.central().restore_node()?;
    node.replace(Boot::NewInstanceAndVolume).await?;
    node.until_active("dob-volume").await?;
    node.until_active("dob-secrets").await?;
    Ok(node)
}

/// Cuts the power of a node for restores, and boots it again.
async fn restart(node: &Node) -> Result<()> {
    node.power_off().await?;
    node.power_on().await?;
    node.until_active("dob-volume").await?;
    node.until_active("dob-secrets").await
}

/// Checks that the node has the same rows as before.
async fn holds(node: &Node, before: &Checksum) -> Result<()> {
    let after = node.checksum().await?;
    ensure!(after == *before, "{} has {after:?}, but should have {before:?}", node.name);
    Ok(())
}
