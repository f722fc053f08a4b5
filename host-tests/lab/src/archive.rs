//! A node's backups, and the buckets that hold them.

use crate::node::Node;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;

/// The prefix of a bucket's name; the region follows.
const BUCKET_PREFIX: &str = "dob-backups-";
/// The file that exists while WAL is archived without one of the buckets.
const LEFT_OUT: &str = "/run/dob/postgres/bucket-left-out";
/// The file that says when the leader last looked for newer timelines in the archive.
const LOOKED: &str = "/run/dob/postgres/archive-asked";
/// The file that exists while the other region's bucket is asked first.
const OTHER_FIRST: &str = "/run/dob/postgres/other-first";
/// The options for the lab's S3, whose URLs have the bucket in the path.
const AWS: &str =
    "export AWS_CONFIG_FILE=/tmp/aws AWS_DEFAULT_REGION=eu-west-1; aws configure set default.s3.addressing_style path";

/// Row count and checksum of the birthdays, as dob-checksum prints them.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Checksum {
    /// The number of rows.
    pub rows: u64,
    checksum: String,
}

/// What dob-checksum prints on a leader.
#[derive(Deserialize)]
pub struct Reading {
    #[serde(flatten)]
    pub checksum: Checksum,
    /// The time that it is true for.
    pub at: String,
    /// The WAL segment that a restore to this time needs.
    pub segment: String,
}

impl Node {
    /// Runs dob-checksum.
    pub async fn checksum(&self) -> Result<Checksum> {
        serde_json::from_str(&self.run(&["dob-checksum"]).await?).context("dob-checksum")
    }

    /// The same on a leader, with the time.
    pub async fn reading(&self) -> Result<Reading> {
        serde_json::from_str(&self.run(&["dob-checksum"]).await?).context("dob-checksum")
    }

    /// Writes WAL, and switches to the next segment.
    pub async fn finish_segment(&self) -> Result<()> {
        self.sql("postgres", "SELECT pg_create_restore_point('drill'), pg_switch_wal()").await.map(drop)
    }

    /// Writes this many segments that the archive refuses, because another leader has begun a newer timeline.
    pub async fn write_refused_segments(&self, segments: usize) -> Result<()> {
        // A leader looks for newer timelines every two minutes.
        self.run(&["rm", "--force", LOOKED]).await?;
        for _ in 0..segments {
            self.finish_segment().await?;
        }
        self.until_logged("patroni", "another leader has taken over at byte").await
    }

    /// Whether the node has had no answer from its region's bucket, and asks the other one first.
    pub async fn asks_other_bucket_first(&self) -> Result<bool> {
        Ok(self.script(&format!("test ! -e {OTHER_FIRST} || echo first")).await? == "first")
    }

    /// Waits until the first segment is archived.
    pub async fn until_archiving(&self) -> Result<()> {
        let archived = "dob-status --json | jq -e '.node.archiver.last_archived_wal != null'";
        self.until("the first archived segment", archived).await.map(drop)
    }

    /// Waits until the WAL up to now is archived.
    pub async fn until_archived(&self) -> Result<()> {
        self.until_in_archive(&self.sql("postgres", "SELECT pg_walfile_name(pg_current_wal_insert_lsn())").await?).await
    }

    /// Waits until this segment is archived.
    pub async fn until_in_archive(&self, segment: &str) -> Result<()> {
        // On one timeline, names of segments sort by time.
        let archived = format!("dob-status --json | jq -e '.node.archiver.last_archived_wal >= \"{segment}\"'");
        self.until(&format!("segment {segment} in the archive"), &archived).await.map(drop)
    }

    /// The directory in which a file says whether a segment waits for the archive.
    fn archive_status(&self) -> String {
        format!("{}/pg_wal/archive_status", self.data())
    }

    /// Waits until at most this many segments wait for the archive. An attempt of the archiver takes minutes, so this kills it; the next
    /// attempt then finds too many segments waiting.
    pub async fn until_segments_wait(&self, at_most: usize) -> Result<()> {
        let status = self.archive_status();
        let waiting = format!(
            "test $(find {status} -name '*.ready' | wc -l) -le {at_most} ||
             {{ pkill --full archive-push; false; }}"
        );
        self.until(&format!("at most {at_most} segments wait for the archive"), &waiting).await.map(drop)
    }

    /// Makes the waiting segments older than `dob-archive` waits for a bucket, and waits until WAL is archived without the bucket.
    pub async fn until_bucket_is_left_out(&self) -> Result<()> {
        let status = self.archive_status();
        let aged =
            format!("find {status} -name '*.ready' -exec touch --date='6 minutes ago' {{}} +; test -e {LEFT_OUT}");
        self.until("WAL is archived without the bucket", &aged).await.map(drop)
    }

    /// Whether WAL is archived without one of the buckets.
    pub async fn leaves_out_a_bucket(&self) -> Result<bool> {
        Ok(self.script(&format!("test ! -e {LEFT_OUT} || echo left out")).await? == "left out")
    }

    /// Deletes a region's bucket with its content.
    pub async fn delete_bucket(&self, region: &str) -> Result<()> {
        self.script(&format!("{AWS}; aws s3 --region {region} rb --force s3://{BUCKET_PREFIX}{region}")).await.map(drop)
    }

    /// Creates a region's bucket again, empty.
    pub async fn make_bucket(&self, region: &str) -> Result<()> {
        self.script(&format!("{AWS}; aws s3 --region {region} mb s3://{BUCKET_PREFIX}{region}")).await.map(drop)
    }

    /// Overwrites eight bytes of the newest backup in the node's region. Returns that backup's label.
    pub async fn tamper_with_newest_backup(&self) -> Result<String> {
        let tamper = format!(
            "{AWS}; bucket=s3://{BUCKET_PREFIX}{}
             object=$(aws s3 ls --recursive $bucket/dob/backup/ | awk '/bundle\\// {{print $4}}' | tail -n 1)
             aws s3 cp --quiet $bucket/$object /tmp/damaged
             printf 'tampered' | dd of=/tmp/damaged bs=1 seek=1000 conv=notrunc status=none
             aws s3 cp --quiet /tmp/damaged $bucket/$object
             cut -d / -f 4 <<<$object",
            self.region
        );
        self.script(&tamper).await
    }

    /// Repository and label of each backup.
    pub async fn backups(&self) -> Result<BTreeSet<String>> {
        let backups = "dob-status --json | jq -r '.backups[] | \"\\(.repository) \\(.label)\"'";
        Ok(self.script(backups).await?.lines().map(str::to_owned).collect())
    }

    /// Creates a table, and corrupts a byte of it on this node's volume only.
    pub async fn damage_a_page(&self) -> Result<()> {
        // Autovacuum would make the page dirty in memory, and the next checkpoint would write it whole again.
        let make =
            "CREATE TABLE damaged WITH (autovacuum_enabled = false) AS SELECT generate_series(1, 1000) AS number";
        let path = "SELECT pg_relation_filepath('damaged')";
        self.sql("postgres", make).await?;
        self.sql("postgres", "CHECKPOINT").await?;
        let file = format!("{}/{}", self.data(), self.sql("postgres", path).await?);
        self.script(&format!("printf x | dd of={file} bs=1 seek=12000 conv=notrunc status=none")).await.map(drop)
    }

    /// Reads all of the table of `damage_a_page`, then drops it.
    pub async fn read_damaged_table(&self) -> Result<()> {
        let rows = self.sql("postgres", "SELECT count(number) FROM damaged").await?;
        ensure!(rows == "1000", "{rows} of 1000 rows are on {}", self.name);
        self.sql("postgres", "DROP TABLE damaged").await.map(drop)
    }

    /// Begins a restore to this moment, and waits until it has written this file of the data directory.
    pub async fn begin_restore(&self, moment: &str, file: &str) -> Result<()> {
        self.script(&format!("dob-restore '{moment}' >/dev/null 2>&1 &")).await?;
        self.until(&format!("the restore writes {file}"), &format!("test -e {}/{file}", self.data())).await.map(drop)
    }

    /// Whether the data directory has this file.
    pub async fn has_in_data(&self, file: &str) -> Result<bool> {
        Ok(self.script(&format!("test ! -e {}/{file} || echo has it", self.data())).await? == "has it")
    }

    /// Gives the node a wrong backup key.
    pub async fn spoil_backup_key(&self) -> Result<()> {
        let spoil = "s/^\\(PGBACKREST_REPO[12]_CIPHER_PASS\\)=.*/\\1=wrong/";
        self.run(&["sed", "-i", spoil, "/run/dob/secrets.env"]).await.map(drop)
    }
}
