//! A server with its data directory.

use crate::directory::{lock, remove_stale_pid_file};
use crate::installation::{as_system_user, binaries, give_to_system_user};
use anyhow::{Context, Result, anyhow, bail};
use dob_support::{Process, end_within, eventually};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio_postgres::{Client, Config, NoTls};

/// The superuser of a private server.
pub const SUPERUSER: &str = "postgres";
/// How long a server may take to start or stop, and one of its programs to run.
const PATIENCE: Duration = Duration::from_secs(30);

/// A supervisor that ends the server when its standard input closes, so that the server ends with this process in any case.
const SUPERVISOR: &str = r#""$@" & server=$!; read -r _; kill -INT $server; wait $server"#;

/// A PostgreSQL server with its data directory. Dropping it stops the server and keeps the data.
pub struct Database {
    /// Where it listens.
    pub address: SocketAddr,
    directory: PathBuf,
    password: String,
    settings: Vec<String>,
    supervisor: Option<Child>,
    /// Keeps the directory locked.
    _lock: File,
}

/// How to end a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Ends sessions and writes a checkpoint ("fast").
    Orderly,
    /// Ends at once and recovers at the next start ("immediate"), as after a crash.
    Crash,
}

impl Database {
    /// Creates a data directory at `directory`, with this password for the superuser.
    pub fn create(directory: &Path, address: SocketAddr, password: &str, settings: &[&str]) -> Result<Self> {
        let database = Self::existing(directory, address, password, settings)?;
        let password_file = directory.join("password");
        fs::write(&password_file, password).with_context(|| format!("can't write {}", password_file.display()))?;
        give_to_system_user(&password_file)?;
        // The directory gets its name when it is complete, so that the next run redoes what an interrupted one has left.
        let unfinished = directory.join("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).with_context(|| format!("can't remove {}", unfinished.display()))?;
        }
        let mut initdb = database.command("initdb")?;
        initdb.args(["--username", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.args(["--data-checksums", "--no-sync", "--pwfile"]).arg(&password_file).arg(&unfinished);
        let made = finish(&mut initdb, "initdb");
        fs::remove_file(&password_file)?;
        made?;
        fs::rename(&unfinished, database.data())
            .with_context(|| format!("can't make {}", database.data().display()))?;
        Ok(database)
    }

    /// Opens an existing data directory.
    pub fn existing(directory: &Path, address: SocketAddr, password: &str, settings: &[&str]) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
        let lock = lock(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        give_to_system_user(directory)?;
        Ok(Self {
            address,
            directory: directory.to_owned(),
            password: password.to_owned(),
            settings: settings.iter().map(|setting| setting.to_string()).collect(),
            supervisor: None,
            _lock: lock,
        })
    }

    /// A streaming replica of this running server with its own replication slot, not started yet.
    pub fn replica(&self, directory: &Path, host: Ipv4Addr, slot: &str) -> Result<Self> {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let address = SocketAddr::new(host.into(), self.address.port());
        let replica = Self::existing(directory, address, &self.password, &settings)?;
        let mut backup = self.command("pg_basebackup")?;
        let source = format!("host={} port={} user={SUPERUSER}", self.address.ip(), self.address.port());
        // Variables of the user's shell such as PGHOSTADDR and PGSSLMODE must not interfere.
        backup.env_clear().env("PGPASSWORD", &self.password);
        backup.args(["--dbname", &source, "--pgdata"]).arg(replica.data());
        backup.args([
            "--wal-method=stream",
            "--checkpoint=fast",
            "--write-recovery-conf",
            "--create-slot",
            "--slot",
            slot,
        ]);
        finish(&mut backup, "pg_basebackup").map(|()| replica)
    }

    /// Starts the server and waits until it accepts connections.
    pub async fn start(&mut self) -> Result<()> {
        remove_stale_pid_file(&self.data())?;
        let log = self.directory.join("server.log");
        let mut server = self.command("postgres")?;
        server.arg("-D").arg(self.data()).args(["-h", &self.address.ip().to_string()]);
        server.args(["-p", &self.address.port().to_string(), "-k", ""]);
        server.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        let mut supervisor = Command::new("sh");
        supervisor.args(["-c", SUPERVISOR, "sh"]).arg(server.get_program()).args(server.get_args());
        as_system_user(&mut supervisor)?;
        let output = File::create(&log)?;
        supervisor.process_group(0).stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        self.supervisor = Some(supervisor.spawn()?);
        let what = format!("PostgreSQL in {} takes connections", self.directory.display());
        let started = eventually(&what, PATIENCE, async || match self.client(SUPERUSER).await {
            Ok(_) => Ok(Ok(())),
            // It has ended, so there is nothing to wait for.
            Err(error) if self.has_ended() => Ok(Err(error)),
            Err(error) => Err(error),
        });
        let log = |error: anyhow::Error| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            anyhow!("PostgreSQL does not start in {}: {} ({error:#})", self.directory.display(), reason(&log))
        };
        started.await.and_then(|ended| ended).map_err(log)
    }

    /// Stops the server and waits for its end.
    pub fn stop(&mut self, how: Shutdown) -> Result<()> {
        let server = self.pid();
        let Some(mut supervisor) = self.supervisor.take() else { return Ok(()) };
        if let Some(server) = server {
            kill(server, if how == Shutdown::Orderly { Signal::SIGINT } else { Signal::SIGQUIT })?;
        }
        drop(supervisor.stdin.take());
        end_within(PATIENCE, &format!("PostgreSQL in {}", self.directory.display()), &mut supervisor).map(drop)
    }

    /// Sends a signal to the server and all its processes. After `SIGSTOP` they are frozen, but the kernel still acknowledges packets.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        let server = self.pid().context("the server is not running")?;
        for process in std::iter::once(server).chain(children(server)) {
            // A session may have ended meanwhile.
            match kill(process, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                failed => failed?,
            }
        }
        Ok(())
    }

    /// A connection as the superuser.
    pub async fn client(&self, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config.host(self.address.ip().to_string()).port(self.address.port());
        config.user(SUPERUSER).password(&self.password).dbname(database);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The component's variables to serve `database` here, as the role of the same name, without a replica.
    pub fn variables(&self, database: &str) -> BTreeMap<String, String> {
        let variables = [
            ("pg_host_a", self.address.ip().to_string()),
            ("pg_port", self.address.port().to_string()),
            ("pg_database", database.to_owned()),
            ("pg_user", database.to_owned()),
            ("pg_password", format!("{}-{database}", self.password)),
            ("pg_sslmode", "disable".to_owned()),
            ("pg_admin_user", SUPERUSER.to_owned()),
            ("pg_admin_password", self.password.clone()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The server's process, if this program has started it.
    pub fn pid(&self) -> Option<Pid> {
        children(Pid::from_raw(self.supervisor.as_ref()?.id() as i32)).next()
    }

    /// Whether the server has ended by itself. Its supervisor reaps it late, so that its process id is not reused meanwhile.
    fn has_ended(&self) -> bool {
        let status = self.pid().map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default());
        // In /proc/PID/stat the state follows the program's name in parentheses.
        status.is_some_and(|status| status.contains(") Z "))
    }

    /// A command that runs one of PostgreSQL's programs as the right user, in a directory that this user may enter.
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(binaries(&self.data())?.join(program));
        command.current_dir(&self.directory);
        as_system_user(&mut command)?;
        Ok(command)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A frozen server can't stop.
        let _ = self.signal_all(Signal::SIGCONT);
        if let Err(error) = self.stop(Shutdown::Orderly) {
            eprintln!("{error:#}");
        }
    }
}

/// A process's children; none if it is gone.
fn children(process: Pid) -> impl Iterator<Item = Pid> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let pids: Vec<Pid> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect();
    pids.into_iter()
}

/// Runs one of PostgreSQL's programs to its end; the error holds its reason.
fn finish(command: &mut Command, name: &str) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut program = Process::spawn(command, "install PostgreSQL")?;
    if !end_within(PATIENCE, name, &mut program.0)?.success() {
        let mut words = String::new();
        program.0.stderr.take().context("piped")?.read_to_string(&mut words)?;
        bail!("{name} failed: {}", reason(&words));
    }
    Ok(())
}

/// The line of a log that says why one of PostgreSQL's programs has ended.
fn reason(words: &str) -> &str {
    let is_reason = |line: &&str| ["FATAL:", "PANIC:", "error:"].iter().any(|mark| line.contains(mark));
    words.lines().rfind(is_reason).or(words.lines().last()).unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_line_that_names_an_error() {
        let full = "initdb: error: could not write to file \"base/1\": No space left on device\ninitdb: removing data directory \"x\"\n";
        assert!(reason(full).ends_with("No space left on device"), "{}", reason(full));
        assert_eq!(reason("LOG:  starting\nFATAL:  it is no use\nLOG:  shut down\n"), "FATAL:  it is no use");
        assert_eq!(reason("cannot open shared object file\n"), "cannot open shared object file");
        assert_eq!(reason(""), "it said nothing");
    }
}
