//! A node's PostgreSQL and Patroni.

use crate::node::{Node, PATIENCE};
use anyhow::{Context, Result, bail, ensure};
use dob_support::{cmd, eventually, project_file, read};
use serde_json::Value;
use std::path::Display;
use std::time::Duration;

const PATRONI: &str = "/etc/dob/patroni";
const VOLUME: &str = "/var/lib/postgresql";
/// The time limit of a statement, in seconds.
const STATEMENT_S: &str = "10";
/// The suffix of the next version of a package.
const NEXT: &str = "next";
/// Segments that are written before the slot is checked again.
const BURST: usize = 8;
/// How long Patroni may take to begin a base backup, in seconds.
const BEGINS_WITHIN_S: &str = "30";
/// The unit of a program that leaves its transaction open.
const LEFT_OPEN: &str = "left-open";
/// The process that replays WAL.
const STARTUP: &str = "^postgres: dob: startup";
/// The library that shifts a process's clock: its source, its path on a node, and the file with the seconds by which it shifts.
const CLOCK_SOURCE: &str = "host-tests/lab/src/clock.c";
const CLOCK_LIBRARY: &str = "/usr/local/lib/clock.so";
const CLOCK: &str = "/run/clock";
/// What dob-rejoin changes in Patroni's configuration.
const FOLLOWING: &str = "/etc/dob/following.json";
/// The node's configuration of the kernel's sockets.
const KERNEL: &str = "/etc/sysctl.d/60-dob.conf";

impl Node {
    /// Runs SQL on the node's PostgreSQL as its superuser.
    pub async fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "timeout", STATEMENT_S];
        self.run(&[&as_postgres[..], &["psql", "-XqAt", "-d", database, "-c", sql]].concat()).await
    }

    /// Whether the node's PostgreSQL accepts writes; one that does not run accepts none.
    pub async fn takes_writes(&self) -> Result<bool> {
        match self.sql("postgres", "SELECT pg_is_in_recovery()").await {
            Ok(in_recovery) => Ok(in_recovery == "f"),
            // It is starting up or shutting down.
            Err(error) if format!("{error:#}").contains("FATAL:  the database system is") => Ok(false),
            Err(error) if self.runs_postgresql().await? => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Whether any process of PostgreSQL runs.
    pub async fn runs_postgresql(&self) -> Result<bool> {
        // pgrep exits with 1 if it finds nothing, and with more if it fails.
        Ok(self.script("pgrep --count --exact postgres || test $? = 1").await? != "0")
    }

    /// Runs `dob-rejoin --hand-over`, and kills it when it has stopped PostgreSQL, before it lets the region follow.
    pub async fn kill_hand_over(&self) -> Result<()> {
        // It waits for the file that it reads next.
        let begin = format!(
            "mv {FOLLOWING} {FOLLOWING}.kept
             mkfifo {FOLLOWING}
             dob-rejoin --hand-over >/dev/null 2>&1 &
             echo $! >/run/hand-over"
        );
        self.script(&begin).await?;
        let reads = format!("'^cat {FOLLOWING}'");
        self.until("dob-rejoin has stopped PostgreSQL", &format!("pgrep --full {reads}")).await?;
        let kill = format!("kill -KILL $(</run/hand-over); pkill --full {reads}; mv {FOLLOWING}.kept {FOLLOWING}");
        self.script(&kill).await.map(drop)
    }

    /// Undoes every fault that a drill can have left on the node.
    pub async fn take_faults_back(&self) -> Result<()> {
        self.reconnect()?;
        self.limit_memory(None)?;
        self.give_etcd_room().await?;
        let back = format!(
            "nft delete table ip lab 2>/dev/null || true
             fsfreeze --unfreeze {VOLUME} 2>/dev/null || true
             [[ ! -e {FOLLOWING}.kept ]] || mv {FOLLOWING}.kept {FOLLOWING}
             pkill --signal CONT --uid postgres || true
             for unit in etcd patroni dob-guard; do
                 ! systemctl is-enabled --quiet $unit || systemctl start --no-block $unit
             done
             patronictl --config-file {PATRONI} resume dob 2>/dev/null || true
             echo 0 >{CLOCK}
             runuser --user postgres -- psql --command 'ALTER SYSTEM RESET ALL' --command 'SELECT pg_reload_conf()' || true
             sysctl --quiet --load={KERNEL}
             rm -f {VOLUME}/filler*"
        );
        self.script(&back).await.map(drop)
    }

    /// Restarts Patroni and PostgreSQL with a time of day that `set_clock` can shift. Their monotonic clock stays the kernel's. A reboot of
    /// the node undoes this.
    pub async fn give_clock(&self) -> Result<()> {
        let (library, file) = (self.root().join(&CLOCK_LIBRARY[1..]), format!("-DCLOCK=\"{CLOCK}\""));
        read(&cmd!("cc", "-O2", "-shared", "-fPIC", file, "-o", library, project_file(CLOCK_SOURCE)))?;
        self.set_clock("0").await?;
        let give = format!(
            "mkdir -p /run/systemd/system/patroni.service.d
             printf '[Service]\\nEnvironment=LD_PRELOAD={CLOCK_LIBRARY}\\n' >/run/systemd/system/patroni.service.d/clock.conf
             systemctl daemon-reload
             systemctl restart patroni"
        );
        self.script(&give).await.map(drop)
    }

    /// Shifts the time of day of Patroni and PostgreSQL by this many seconds, after `give_clock`.
    pub async fn set_clock(&self, offset: &str) -> Result<()> {
        self.script(&format!("echo '{offset}' >{CLOCK}.new; chmod 644 {CLOCK}.new; mv {CLOCK}.new {CLOCK}"))
            .await
            .map(drop)
    }

    /// How many seconds PostgreSQL's clock is ahead of the node's, in whole tens, because the two queries take up to ten seconds.
    pub async fn clock_is_off_by_s(&self) -> Result<i64> {
        let node: i64 = self.run(&["date", "+%s"]).await?.parse()?;
        let postgresql: i64 =
            self.sql("postgres", "SELECT extract(epoch FROM clock_timestamp())::bigint").await?.parse()?;
        Ok((postgresql - node) / 10 * 10)
    }

    /// Undoes `give_clock`. Patroni and PostgreSQL restart.
    pub async fn take_clock_back(&self) -> Result<()> {
        let back = "rm -r /run/systemd/system/patroni.service.d; systemctl daemon-reload; systemctl restart patroni";
        self.script(back).await.map(drop)
    }

    /// Kills all of PostgreSQL's processes.
    pub async fn kill_postgresql(&self) -> Result<()> {
        self.run(&["pkill", "--signal", "KILL", "--uid", "postgres", "--exact", "postgres"]).await.map(drop)
    }

    /// Freezes PostgreSQL and Patroni, while the node's kernel still acknowledges packets for them.
    pub async fn freeze_postgresql(&self) -> Result<()> {
        self.run(&["pkill", "--signal", "STOP", "--uid", "postgres"]).await.map(drop)
    }

    /// Freezes Patroni alone. PostgreSQL keeps serving, but nothing renews the leader key.
    pub async fn freeze_patroni(&self) -> Result<()> {
        self.run(&["systemctl", "kill", "--kill-whom=main", "--signal=STOP", "patroni"]).await.map(drop)
    }

    /// Stops replaying WAL. `pg_wal_replay_pause` would not do: Patroni resumes the replay.
    pub async fn stop_replay(&self) -> Result<()> {
        self.signal_startup_process("STOP").await
    }

    /// Undoes `stop_replay`.
    pub async fn resume_replay(&self) -> Result<()> {
        self.signal_startup_process("CONT").await
    }

    /// Pauses the base backup from the leader for some seconds, once both data and WAL have begun to arrive.
    pub async fn hold_base_backup(&self, seconds: u64) -> Result<()> {
        let copying = "test $(pgrep --count --exact pg_basebackup) = 2";
        let hold = format!(
            "timeout {BEGINS_WITHIN_S} bash -c 'until {copying}; do :; done'
             pkill --signal STOP --exact pg_basebackup
             sleep {seconds}
             pkill --signal CONT --exact pg_basebackup"
        );
        self.script(&hold).await.map(drop).with_context(|| format!("{} has not begun its base backup", self.name))
    }

    /// How many of its base backups have failed since it booted.
    pub async fn failed_base_backups(&self) -> Result<usize> {
        Ok(self.journal("patroni").await?.matches("Error when fetching backup").count())
    }

    /// Opens a transaction that has written, and leaves it idle. Returns the process id of its session.
    pub async fn leave_transaction_open(&self) -> Result<String> {
        let session = format!("--unit={LEFT_OPEN}");
        let type_it =
            "(echo 'BEGIN; SELECT pg_current_xact_id();'; sleep infinity) | psql --no-psqlrc --dbname=dob_api";
        let process = ["systemd-run", "--quiet", "--collect", "--uid=postgres", &session, "bash", "-c", type_it];
        self.run(&process).await?;
        let find = "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xid IS NOT NULL";
        eventually(&format!("{}: a transaction is left open", self.name), PATIENCE, async || {
            Some(self.sql("postgres", find).await?).filter(|pid| !pid.is_empty()).context("there is none")
        })
        .await
    }

    /// Ends the program whose session `leave_transaction_open` has opened.
    pub async fn end_left_program(&self) -> Result<()> {
        self.run(&["systemctl", "stop", LEFT_OPEN]).await.map(drop)
    }

    /// Blocks every write to the data volume.
    pub async fn stall_volume(&self) -> Result<()> {
        self.run(&["fsfreeze", "--freeze", VOLUME]).await.map(drop)
    }

    /// Lets the data volume's file system find an error in itself.
    pub async fn break_volume(&self) -> Result<()> {
        let device = self.run(&["findmnt", "--noheadings", "--output=SOURCE", VOLUME]).await?;
        let device = device.rsplit('/').next().unwrap_or_default();
        // A node can't write here.
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        std::fs::write(&trigger, "a drill").with_context(|| format!("can't write {trigger}"))
    }

    /// Undoes `stall_volume`.
    pub async fn resume_volume(&self) -> Result<()> {
        self.run(&["fsfreeze", "--unfreeze", VOLUME]).await.map(drop)
    }

    /// Kills all of PostgreSQL's processes, and pauses crash recovery before it replays any WAL. Here it would take less than a second.
    pub async fn kill_postgresql_and_pause_recovery(&self) -> Result<()> {
        // Recovery reads this file, if there is one, and cannot read a FIFO until somebody opens it to write.
        let file = self.postgresql.data_directory.join("pg_logical/replorigin_checkpoint");
        let file = file.display();
        self.script(&format!("rm --force {file}; mkfifo --mode=644 {file}")).await?;
        self.kill_postgresql().await?;
        self.until("crash recovery begins", &format!("pkill --signal STOP --full '{STARTUP}'")).await?;
        self.script(&format!("rm {file}")).await.map(drop)
    }

    async fn signal_startup_process(&self, signal: &str) -> Result<()> {
        self.run(&["pkill", "--signal", signal, "--full", STARTUP]).await.map(drop)
    }

    /// Fills the data volume.
    pub async fn fill_volume(&self) -> Result<()> {
        let fill = format!(
            "fallocate --length $(df --output=avail --block-size=1 {VOLUME} | tail -1) {VOLUME}/filler || true
             dd if=/dev/zero of={VOLUME}/filler2 bs=4k 2>/dev/null || true"
        );
        self.script(&fill).await.map(drop)
    }

    /// Writes WAL until PostgreSQL ends, because the full volume has no space for another segment.
    pub async fn use_up_segments(&self) -> Result<()> {
        let write = "SELECT pg_logical_emit_message(false, 'drill', 'a segment'), pg_switch_wal()";
        eventually("PostgreSQL ends, because it has no space for a WAL segment", PATIENCE, async || {
            for _ in 0..BURST {
                // Any session may be the one that finds no space, so this one may only notice the end.
                if self.sql("postgres", write).await.is_err() && !self.takes_writes().await? {
                    return Ok(());
                }
            }
            bail!("{BURST} more segments are not enough")
        })
        .await
    }

    /// Undoes `fill_volume`.
    pub async fn free_volume(&self) -> Result<()> {
        self.script(&format!("rm -f {VOLUME}/filler*")).await.map(drop)
    }

    /// Whether its Patroni is in failsafe mode: it keeps leading without etcd while all members answer it.
    pub async fn is_in_failsafe_mode(&self) -> Result<bool> {
        let url = format!("https://{}:{}/metrics", self.address, self.ports.patroni);
        let metrics = self.http.get(url).send().await?.text().await?;
        let mut lines = metrics.lines().filter(|line| line.starts_with("patroni_failsafe_mode_is_active{"));
        Ok(lines.next().context("Patroni does not report its failsafe mode")?.ends_with(" 1"))
    }

    /// Lets PostgreSQL and the kernel wait for a peer that is gone for as long as Linux does by default.
    pub async fn wait_long_for_peers(&self) -> Result<()> {
        self.run(&["sysctl", "--quiet", "--write", "net.ipv4.tcp_retries2=15"]).await?;
        self.reconfigure("ALTER SYSTEM SET tcp_user_timeout = 0").await
    }

    /// Undoes `wait_long_for_peers`.
    pub async fn wait_as_configured_for_peers(&self) -> Result<()> {
        self.run(&["sysctl", "--quiet", &format!("--load={KERNEL}")]).await?;
        self.reconfigure("ALTER SYSTEM RESET tcp_user_timeout").await
    }

    /// Changes PostgreSQL's configuration, and lets it read that.
    async fn reconfigure(&self, change: &str) -> Result<()> {
        self.sql("postgres", change).await?;
        self.sql("postgres", "SELECT pg_reload_conf()").await.map(drop)
    }

    /// Address and port of the follower to which a walsender writes without an end.
    pub async fn follower_that_reads_nothing(&self) -> Result<(String, String)> {
        let writing = "SELECT host(client_addr), client_port FROM pg_stat_activity
            WHERE backend_type = 'walsender' AND wait_event = 'ClientWrite'";
        eventually(&format!("a walsender on {} waits in ClientWrite", self.name), PATIENCE, async || {
            let found = self.sql("postgres", writing).await?;
            let (address, port) = found.split_once('|').context("none does")?;
            Ok((address.to_owned(), port.to_owned()))
        })
        .await
    }

    /// Turns PostgreSQL's `fsync` off, or resets it to `on`, and waits until that is in effect.
    pub async fn set_fsync(&self, is_on: bool) -> Result<()> {
        let (change, value) = if is_on { ("RESET fsync", "on") } else { ("SET fsync = off", "off") };
        self.reconfigure(&format!("ALTER SYSTEM {change}")).await?;
        eventually(&format!("fsync is {value} on {}", self.name), PATIENCE, async || {
            let now = self.sql("postgres", "SHOW fsync").await?;
            ensure!(now == value, "it is {now}");
            Ok(())
        })
        .await
    }

    /// When its PostgreSQL was started.
    pub async fn started_at(&self) -> Result<String> {
        self.sql("postgres", "SELECT pg_postmaster_start_time()").await
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> Display<'_> {
        self.postgresql.data_directory.display()
    }

    /// When the node's data directory was created; a new base backup changes it.
    pub async fn data_made_at(&self) -> Result<String> {
        self.run(&["stat", "--format=%W", &format!("{}/PG_VERSION", self.data())]).await
    }

    /// Writes WAL until a replica's slot is in this state, an expression over `pg_replication_slots`. It waits for the archiver, because
    /// pgBackRest drops segments if too many wait.
    pub async fn write_wal_until_slot(&self, replica: &Node, state: &str) -> Result<()> {
        let slot = replica.name.replace('-', "_");
        let reached = format!("SELECT {state} FROM pg_replication_slots WHERE slot_name = '{slot}'");
        let write = "SELECT pg_logical_emit_message(false, 'drill', 'a segment'), pg_switch_wal()
            WHERE (SELECT count(*) < 8 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')";
        eventually(&format!("enough WAL is archived and written for {state}"), PATIENCE, async || {
            for _ in 0..BURST {
                if self.sql("postgres", &reached).await? == "t" {
                    return Ok(());
                }
                let written = self.sql("postgres", write).await?;
                ensure!(!written.is_empty(), "segments wait for the archive");
            }
            bail!("{BURST} more segments are not enough")
        })
        .await
    }

    /// How many connections are free for roles that are not superusers.
    pub async fn free_connections(&self) -> Result<usize> {
        let free = "SELECT greatest(0, (SELECT sum(setting::int * CASE name WHEN 'max_connections' THEN 1 ELSE -1 END) FROM pg_settings
                WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections'))
            - count(*)) FROM pg_stat_activity WHERE backend_type = 'client backend'";
        Ok(self.sql("postgres", free).await?.parse()?)
    }

    /// How many sessions have the API's roles, for which no connection is reserved.
    pub async fn ordinary_sessions(&self) -> Result<i64> {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE starts_with(usename, 'dob_api_')";
        Ok(self.sql("postgres", count).await?.parse()?)
    }

    /// The process of the session through which Patroni watches its PostgreSQL.
    pub async fn patroni_session(&self) -> Result<u32> {
        let session = "SELECT pid FROM pg_stat_activity WHERE application_name = 'Patroni heartbeat'";
        Ok(self.sql("postgres", session).await?.parse()?)
    }

    /// Installs PostgreSQL's unchanged package under a higher version, in place of Debian's next minor version.
    pub async fn upgrade_postgresql(&self) -> Result<()> {
        let package = &self.postgresql.package;
        let upgrade = format!(
            "build=$(mktemp --directory) && mkdir $build/DEBIAN
             dpkg-query --listfiles {package} | while read -r path; do
                 [[ -d $path && ! -L $path ]] || cp --parents --no-dereference \"$path\" $build
             done
             dpkg-query --status {package} | sed '/^Status:/d; s/^Version: .*/&.{NEXT}/' >$build/DEBIAN/control
             for script in preinst postinst prerm postrm; do
                 [[ ! -e /var/lib/dpkg/info/{package}.$script ]] || cp /var/lib/dpkg/info/{package}.$script $build/DEBIAN/$script
             done
             dpkg-deb -Znone --build $build /tmp/{package}.deb
             DEBIAN_FRONTEND=noninteractive dpkg --install /tmp/{package}.deb
             dpkg-query --show --showformat='${{Version}}' {package} | grep '{NEXT}$'"
        );
        self.script(&upgrade).await.map(drop)
    }

    /// Saves this many people, whom no client asks for.
    pub async fn add_people(&self, people: usize) -> Result<()> {
        let add = format!(
            "INSERT INTO dob_api.birthday SELECT 'zz' || translate(n::text, '0123456789', 'abcdefghij'), '1990-05-20'
             FROM generate_series(1, {people}) n"
        );
        self.sql("dob_api", &add).await.map(drop)
    }

    /// Undoes `add_people`.
    pub async fn remove_people(&self) -> Result<()> {
        self.sql("dob_api", "DELETE FROM dob_api.birthday WHERE username LIKE 'zz%'").await.map(drop)
    }

    /// Removes what an upgrade to a major version that has failed leaves in the old cluster. Its slot would keep WAL.
    pub async fn forget_upgrade(&self) -> Result<()> {
        let slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'logical'";
        self.sql("dob_api", slots).await?;
        self.sql("dob_api", "DROP PUBLICATION IF EXISTS upgrade; DROP SCHEMA IF EXISTS upgrade CASCADE").await?;
        self.remove_people().await
    }

    /// What must be the same in another version: encoding and collation of the database, and whether pages have checksums.
    pub async fn make_of_database(&self) -> Result<String> {
        let make = "SELECT concat_ws(' ', pg_encoding_to_char(encoding), datlocprovider, datcollate, datctype, current_setting('data_checksums'))
            FROM pg_database WHERE datname = 'dob_api'";
        self.sql("postgres", make).await
    }

    /// The major version of its PostgreSQL.
    pub async fn major_version(&self) -> Result<u32> {
        Ok(self.sql("postgres", "SELECT current_setting('server_version_num')::int / 10000").await?.parse()?)
    }

    /// Lets the API's roles save, if an upgrade that failed has left them read-only.
    pub async fn let_api_save(&self) -> Result<()> {
        let reset = "DO $$ DECLARE role text; BEGIN
            FOR role IN SELECT rolname FROM pg_roles WHERE rolname ~ '^dob_api_' LOOP
                EXECUTE format('ALTER ROLE %I RESET default_transaction_read_only', role);
            END LOOP; END $$";
        self.sql("postgres", reset).await.map(drop)
    }

    /// Whether a slot has lost its WAL.
    pub async fn has_lost_slots(&self) -> Result<bool> {
        let lost = "SELECT count(*) FROM pg_replication_slots WHERE wal_status = 'lost'";
        Ok(self.sql("postgres", lost).await? != "0")
    }

    /// Runs a checkpoint, which must end within this time. The error says which process waits for what.
    pub async fn checkpoint(&self, deadline: Duration) -> Result<()> {
        let seconds = deadline.as_secs().max(1).to_string();
        let checkpoint = ["timeout", &seconds, "psql", "--no-psqlrc", "--command=CHECKPOINT"];
        let Err(error) = self.run(&[&["runuser", "--user", "postgres", "--"][..], &checkpoint].concat()).await else {
            return Ok(());
        };
        let waits = "SELECT string_agg(concat_ws(' ', backend_type, nullif(application_name, ''), 'waits in', wait_event), ', ')
            FROM pg_stat_activity WHERE backend_type IN ('checkpointer', 'walsender')";
        let waits = self.sql("postgres", waits).await.unwrap_or_else(|error| format!("{error:#}"));
        Err(error.context(format!("no checkpoint has ended within {deadline:?}: {waits}")))
    }

    /// A table as `pg_dump` writes it.
    pub async fn dump(&self, table: &str) -> Result<String> {
        self.run(&["runuser", "--user", "postgres", "--", "pg_dump", &format!("--table={table}"), "dob_api"]).await
    }

    /// The OOM score adjustment of a new session while the postmaster has this one. The postmaster's own is restored afterwards.
    pub async fn oom_score_of_session_under(&self, score: i32) -> Result<String> {
        let file = format!("/proc/$(head --lines=1 {}/postmaster.pid)/oom_score_adj", self.data());
        let own = self.script(&format!("cat {file}; echo {score} >{file}")).await?;
        let session = self.sql("postgres", "SELECT trim(pg_read_file('/proc/self/oom_score_adj'), E'\n')").await;
        self.script(&format!("echo {own} >{file}")).await?;
        session
    }

    /// Limits the memory of all its processes together. `None` removes the limit.
    pub fn limit_memory(&self, bytes: Option<u64>) -> Result<()> {
        dob_namespaces::limit_memory(&self.name, bytes)
    }

    /// Runs a sort of more than a gigabyte. Returns the error with which its session ends.
    pub async fn exhaust_memory(&self) -> Result<String> {
        let sort = "SET work_mem = '4GB'; SELECT count(*) FROM (SELECT n FROM generate_series(1, 20000000) n ORDER BY -n) sorted";
        let session = ["runuser", "--user", "postgres", "--", "psql", "--no-psqlrc", "--command", sort];
        self.refusal(&session).await
    }

    /// The process ids of postmaster, Patroni and etcd, which must survive when memory runs out.
    pub async fn vital_processes(&self) -> Result<String> {
        let postmaster = format!("{}/postmaster.pid", self.data());
        self.script(&format!("head --lines=1 {postmaster}; systemctl show --property=MainPID patroni etcd")).await
    }

    /// Whether the kernel remounts the data volume read-only when its file system is corrupt.
    pub async fn remounts_a_broken_volume(&self) -> Result<bool> {
        let options = self.run(&["findmnt", "--noheadings", "--output=OPTIONS", VOLUME]).await?;
        Ok(options.split(',').any(|option| option == "errors=remount-ro"))
    }

    /// The output of `dob-status --json`.
    pub async fn status(&self) -> Result<Value> {
        serde_json::from_str(&self.run(&["dob-status", "--json"]).await?).context("dob-status --json")
    }

    /// Runs patronictl on this node.
    pub async fn patronictl(&self, arguments: &[&str]) -> Result<String> {
        self.run(&[&["patronictl", "--config-file", PATRONI][..], arguments].concat()).await
    }

    /// Waits until Patroni reports a pending restart, restarts PostgreSQL, and waits until a setting has its new value. A leader that Patroni
    /// has demoted since may have the value already, because it was restarted then.
    pub async fn restart_for(&self, setting: &str, value: &str) -> Result<()> {
        let (name, show) = (&self.name, format!("SHOW {setting}"));
        let pending = format!(
            "[[ $(runuser -u postgres -- psql -XqAtc '{show}') == {value} ]] ||
             patronictl --config-file {PATRONI} list --format=json |
             jq -e '.[] | select(.Member == \"{name}\") | .\"Pending restart\"'"
        );
        self.until("Patroni asks for a restart, or has restarted it", &pending).await?;
        if self.sql("postgres", &show).await? != value {
            self.patronictl(&["restart", "dob", name, "--force"]).await?;
        }
        let what = format!("{name}: {setting} is {value}");
        eventually(&what, PATIENCE, async || {
            let now = self.sql("postgres", &show).await?;
            ensure!(now == value, "it is {now}");
            Ok(())
        })
        .await
    }

    /// The serial number of the node's certificate.
    pub async fn certificate(&self) -> Result<String> {
        self.run(&["openssl", "x509", "-noout", "-serial", "-in", "/run/dob/tls/node.crt"]).await
    }

    /// How many seconds ago its certificate became valid.
    pub async fn certificate_age_s(&self) -> Result<u64> {
        let age = "start=$(openssl x509 -noout -startdate -in /run/dob/tls/node.crt)
             echo $(($(date +%s) - $(date --date=\"${start#*=}\" +%s)))";
        Ok(self.script(age).await?.parse()?)
    }

    /// Logs this many lines at once, and waits until the last one is in CloudWatch Logs.
    pub async fn until_shipped(&self, lines: usize) -> Result<()> {
        self.script(&format!("seq --format='line %g of many' {lines} | systemd-cat --identifier=many")).await?;
        let shipped = format!(
            "aws --region {} logs filter-log-events --log-group-name /dob/dob/database --log-stream-names {} \
             --filter-pattern '\"line {lines} of many\"' | jq -e '.events | length > 0'",
            self.region, self.name
        );
        self.until(&format!("{lines} lines in CloudWatch Logs"), &shipped).await.map(drop)
    }

    /// Waits until both exporters answer and the node's journal is in CloudWatch Logs.
    pub async fn until_observed(&self) -> Result<()> {
        self.until_exported(self.ports.postgres_exporter, "pg_up 1", "").await?;
        let volume = format!("mountpoint=\"{VOLUME}\"");
        self.until_exported(self.ports.node_exporter, "node_filesystem_avail_bytes{", &volume).await?;
        let logs = format!(
            "aws --region {} logs get-log-events --log-group-name /dob/dob/database --log-stream-name {} |
             jq -e '.events | length > 0'",
            self.region, self.name
        );
        self.until("the journal in CloudWatch Logs", &logs).await.map(drop)
    }

    /// Waits until an exporter has a line with this beginning and this label.
    async fn until_exported(&self, port: u16, metric: &str, label: &str) -> Result<()> {
        let what = format!("{} exports {metric} {label} on port {port}", self.name);
        eventually(&what, PATIENCE, async || {
            let metrics = self.http.get(format!("http://{}:{port}/metrics", self.address)).send().await?.text().await?;
            let found = metrics.lines().any(|line| line.starts_with(metric) && line.contains(label));
            ensure!(found, "its {} bytes of metrics do not contain it", metrics.len());
            Ok(())
        })
        .await
    }
}
