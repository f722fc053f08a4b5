//! What is done to a node's PostgreSQL, Patroni and etcd, and asked of them.

use crate::node::{Node, PATIENCE};
use anyhow::{Context, Result, ensure};
use dob_support::eventually;
use serde_json::Value;

const PATRONI: &str = "/etc/dob/patroni";
const VOLUME: &str = "/var/lib/postgresql";
const DATA: &str = "/var/lib/postgresql/17/dob";
/// Longest that a statement may take, in seconds.
const STATEMENT_S: &str = "10";

impl Node {
    /// Asks the node's PostgreSQL as its superuser.
    pub async fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "timeout", STATEMENT_S];
        self.run(&[&as_postgres[..], &["psql", "-XqAt", "-d", database, "-c", sql]].concat()).await
    }

    /// Whether its PostgreSQL, asked on the node, takes writes.
    pub async fn takes_writes(&self) -> bool {
        self.sql("postgres", "SELECT pg_is_in_recovery()").await.is_ok_and(|answer| answer == "f")
    }

    /// Whether a PostgreSQL runs.
    pub async fn runs_postgresql(&self) -> bool {
        self.run(&["pgrep", "--exact", "postgres"]).await.is_ok()
    }

    /// Kills all of PostgreSQL's processes.
    pub async fn kill_postgresql(&self) -> Result<()> {
        self.run(&["pkill", "--signal", "KILL", "--uid", "postgres", "--exact", "postgres"]).await.map(drop)
    }

    /// Stops PostgreSQL's and Patroni's processes, while the node's kernel goes on answering for them.
    pub async fn freeze_postgresql(&self) -> Result<()> {
        self.run(&["pkill", "--signal", "STOP", "--uid", "postgres"]).await.map(drop)
    }

    /// Stops replaying WAL. Not by `pg_wal_replay_pause`: Patroni resumes that.
    pub async fn stop_replay(&self) -> Result<()> {
        self.signal_startup_process("STOP").await
    }

    /// Ends `stop_replay`.
    pub async fn resume_replay(&self) -> Result<()> {
        self.signal_startup_process("CONT").await
    }

    async fn signal_startup_process(&self, signal: &str) -> Result<()> {
        self.run(&["pkill", "--signal", signal, "--full", "^postgres: dob: startup"]).await.map(drop)
    }

    /// Takes all space of the data volume.
    pub async fn fill_volume(&self) -> Result<()> {
        let fill = format!(
            "fallocate --length $(df --output=avail --block-size=1 {VOLUME} | tail -1) {VOLUME}/filler || true
             dd if=/dev/zero of={VOLUME}/filler2 bs=4k 2>/dev/null || true"
        );
        self.script(&fill).await.map(drop)
    }

    /// Ends `fill_volume`.
    pub async fn free_volume(&self) -> Result<()> {
        self.script(&format!("rm -f {VOLUME}/filler*")).await.map(drop)
    }

    /// Kills etcd, and removes its data.
    pub async fn lose_etcd(&self) -> Result<()> {
        let lose = format!("systemctl kill --signal=KILL etcd; systemctl stop etcd; rm -r {VOLUME}/etcd/*/member");
        self.script(&lose).await.map(drop)
    }

    /// Waits until every member of etcd, seen from this node, is healthy.
    pub async fn until_etcd_has(&self, members: usize) -> Result<()> {
        let healthy = format!(
            "source /usr/local/sbin/dob-lib
             ETCDCTL_ENDPOINTS=https://$DOB_ADDRESS:$DOB_PORT_ETCD; export ETCDCTL_ENDPOINTS
             etcdctl endpoint health --cluster | grep -c 'is healthy' | grep -qx {members}"
        );
        self.until(&format!("{members} healthy members of etcd"), &healthy).await.map(drop)
    }

    /// Tells the node's data from data that was fetched anew: when it was made.
    pub async fn data_made_at(&self) -> Result<String> {
        self.run(&["stat", "--format=%W", &format!("{DATA}/PG_VERSION")]).await
    }

    /// Writes a transaction of about 8 MB into the WAL, and switches to the next segment.
    pub async fn write_wal(&self) -> Result<()> {
        let message = "pg_logical_emit_message(false, 'drill', repeat(md5(random()::text), 250000))";
        self.sql("postgres", &format!("SELECT {message}, pg_switch_wal()")).await.map(drop)
    }

    /// Ends a checkpoint within a minute, or says that it does not end.
    pub async fn checkpoint(&self) -> Result<()> {
        self.run(&["runuser", "--user", "postgres", "--", "timeout", "60", "psql", "--command=CHECKPOINT"]).await.map(drop)
    }

    /// A table's copy as `pg_dump` writes it.
    pub async fn dump(&self, table: &str) -> Result<String> {
        self.run(&["runuser", "--user", "postgres", "--", "pg_dump", &format!("--table={table}"), "dob_api"]).await
    }

    /// What `dob-status --json` says.
    pub async fn status(&self) -> Result<Value> {
        serde_json::from_str(&self.run(&["dob-status", "--json"]).await?).context("dob-status --json")
    }

    /// Patroni's own command on this node.
    pub async fn patronictl(&self, arguments: &[&str]) -> Result<String> {
        self.run(&[&["patronictl", "--config-file", PATRONI][..], arguments].concat()).await
    }

    /// Waits until Patroni wants to restart the node's PostgreSQL, restarts it, and waits until a setting has its new value.
    pub async fn restart_for(&self, setting: &str, value: &str) -> Result<()> {
        let name = &self.name;
        let pending = format!(
            "patronictl --config-file {PATRONI} list --format=json |
             jq -e '.[] | select(.Member == \"{name}\") | .\"Pending restart\"'"
        );
        self.until("Patroni asks for a restart", &pending).await?;
        self.patronictl(&["restart", "dob", name, "--force"]).await?;
        let what = format!("{name}: {setting} is {value}");
        eventually(&what, PATIENCE, async || {
            let now = self.sql("postgres", &format!("SHOW {setting}")).await?;
            ensure!(now == value, "it is {now}");
            Ok(())
        })
        .await
    }

    /// The node's certificate, by its serial number.
    pub async fn certificate(&self) -> Result<String> {
        self.run(&["openssl", "x509", "-noout", "-serial", "-in", "/run/dob/tls/node.crt"]).await
    }

    /// Waits until both exporters answer and the node's journal is in CloudWatch Logs.
    pub async fn until_observed(&self) -> Result<()> {
        let metric = |port: u16, metric: &str| {
            format!("curl --silent http://{}:{port}/metrics | grep --quiet '{metric}'", self.address)
        };
        let volume = format!(r#"^node_filesystem_avail_bytes{{.*mountpoint="{VOLUME}""#);
        self.until("PostgreSQL's metrics", &metric(self.ports.postgres_exporter, "^pg_up 1")).await?;
        self.until("the volume's metrics", &metric(self.ports.node_exporter, &volume)).await?;
        let logs = format!(
            "aws --region {} logs get-log-events --log-group-name /dob/dob/database --log-stream-name {} |
             jq -e '.events | length > 0'",
            self.region, self.name
        );
        self.until("the journal in CloudWatch Logs", &logs).await.map(drop)
    }
}
