//! The configuration: Spin variables in, PostgreSQL connection strings out.
//!
//! The host sets no time limit of any kind, so every limit lives in the connection string.

use std::fmt::{self, Write};

/// How long one host may take to accept a TCP connection, in seconds (the driver takes whole seconds).
const CONNECT_TIMEOUT_S: u32 = 1;
/// How long sent data may stay unacknowledged before the connection counts as dead, in seconds.
const TCP_USER_TIMEOUT_S: u32 = 1;
/// After how long without traffic a pooled connection is probed, and how long between probes, in seconds.
const KEEPALIVE_S: u32 = 1;
/// Limits of a statement, in milliseconds.
#[derive(Clone, Copy)]
struct Limits {
    /// Longest run.
    statement_ms: u32,
    /// Longest wait for a lock.
    lock_ms: u32,
}

/// Of a statement that serves a request.
const SERVING: Limits = Limits { statement_ms: 1000, lock_ms: 500 };
/// Of a statement that prepares the schema; it may wait for another pod that does the same.
const PREPARING: Limits = Limits { statement_ms: 3000, lock_ms: 3000 };

/// The value that means "no such host". An allow-list entry must name a host, so an optional one can't be empty;
/// `.invalid` never resolves (RFC 6761). `spin.toml` has it as the default.
const NO_HOST: &str = "unset.invalid";

/// The application variables that each of the component's three variables carries, one a line: a read is a call into
/// the host, and a request that the primary serves makes only one. `spin.toml` puts them together.
const CONNECTION: [&str; 7] =
    ["pg_host_a", "pg_host_b", "pg_port", "pg_database", "pg_user", "pg_password", "pg_sslmode"];
const REPLICAS: [&str; 2] = ["pg_replica_host_a", "pg_replica_host_b"];
const ADMIN: [&str; 2] = ["pg_admin_user", "pg_admin_password"];

/// Longest text that [`Config::redact`] lets through, in characters.
const MAX_REDACTED: usize = 500;

/// Reads one of the component's variables; `None` when the host can't resolve it.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The service's configuration, read when it is needed.
pub struct Config<'a> {
    lookup: Lookup<'a>,
}

/// Which host of the primary list is a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replica {
    /// The first: the last one does not answer.
    FirstHost,
    /// The last: it has just said so.
    LastHost,
}

/// A variable that is missing or makes no sense, named for the operator's log.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    variable: &'static str,
    expected: &'static str,
}

/// A PostgreSQL connection string. It holds a password: it has no `Debug` and is never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

/// The role that serves requests.
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl<'a> Config<'a> {
    /// A configuration that reads its variables through `lookup`.
    pub fn new(lookup: Lookup<'a>) -> Self {
        Self { lookup }
    }

    /// The primary: whichever host of the primary list accepts writes.
    pub fn primary(&self) -> Result<Address, ConfigError> {
        Ok(self.connection()?.writable(SERVING))
    }

    /// The hosts of the replica list, one address each so that the caller can stop between them; a host of the primary
    /// list that is known to be a replica goes first.
    pub fn replicas(&self, known: Option<Replica>) -> Result<Vec<Address>, ConfigError> {
        let mut hosts = hosts(REPLICAS, self.values("replicas")?)?;
        let connection = self.connection()?;
        let replica = match known {
            Some(Replica::FirstHost) => connection.hosts.first(),
            Some(Replica::LastHost) => connection.hosts.last(),
            None => None,
        };
        hosts.sort_by_key(|host| Some(host) != replica);
        let address = |host| connection.address(&[host], "any", SERVING);
        Ok(hosts.into_iter().map(address).collect())
    }

    /// The primary as the administrator, in `database`; `None` without administrator credentials.
    pub fn admin(&self, database: &str) -> Result<Option<Address>, ConfigError> {
        let [name, password]: [String; ADMIN.len()] = self.values("admin")?;
        if name.is_empty() {
            return Ok(None);
        }
        let (role, database) = (Role { name, password }, database.to_owned());
        let connection = Connection { role, database, ..self.connection()? };
        Ok(Some(connection.writable(PREPARING)))
    }

    /// The role that serves requests.
    pub fn role(&self) -> Result<Role, ConfigError> {
        Ok(self.connection()?.role)
    }

    /// The database that holds the birthdays.
    pub fn database(&self) -> Result<String, ConfigError> {
        Ok(self.connection()?.database)
    }

    /// `text` cut to a line's length, with every configured password replaced by `***`.
    pub fn redact(&self, text: &str) -> String {
        let serving = self.values("connection").map(|values: [String; CONNECTION.len()]| values[5].clone());
        let admin = self.values("admin").map(|values: [String; ADMIN.len()]| values[1].clone());
        let mut text = text.to_owned();
        for secret in [serving, admin].into_iter().flatten().filter(|secret| !secret.is_empty()) {
            text = text.replace(&secret, "***").replace(&percent_encoded(&secret), "***");
        }
        text.chars().take(MAX_REDACTED).collect()
    }

    fn connection(&self) -> Result<Connection, ConfigError> {
        let [host_a, host_b, port, database, name, password, sslmode] = self.values("connection")?;
        let hosts = hosts([CONNECTION[0], CONNECTION[1]], [host_a, host_b])?;
        if hosts.is_empty() {
            return Err(ConfigError { variable: "pg_host_a", expected: "the primary's host name" });
        }
        Ok(Connection {
            hosts,
            port: valid("pg_port", "a port number from 1 to 65535", port.parse().ok().filter(|port| *port != 0))?,
            database: valid("pg_database", "a value", Some(database).filter(|name| !name.is_empty()))?,
            role: Role { name: valid("pg_user", "a value", Some(name).filter(|name| !name.is_empty()))?, password },
            sslmode: valid("pg_sslmode", "disable, prefer or require", sslmode_of(&sslmode))?,
        })
    }

    /// The values that one of the component's variables carries.
    fn values<const N: usize>(&self, variable: &'static str) -> Result<[String; N], ConfigError> {
        let lines = valid(variable, "a value that the host can resolve", (self.lookup)(variable))?;
        let values: Vec<String> = lines.split('\n').map(str::to_owned).collect();
        valid(variable, "made of values without line breaks", values.try_into().ok())
    }
}

/// What the connection strings of one application have in common.
struct Connection {
    hosts: Vec<String>,
    port: u16,
    database: String,
    role: Role,
    sslmode: &'static str,
}

impl Connection {
    fn writable(&self, limits: Limits) -> Address {
        self.address(&self.hosts, "read-write", limits)
    }

    /// The URL form: Spin 3.6 checks the second host of the key-value form against the wrong port.
    fn address(&self, hosts: &[String], session_attributes: &str, limits: Limits) -> Address {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("{host}:{}", self.port)).collect();
        Address(format!(
            "postgres://{user}:{password}@{hosts}/{database}\
             ?sslmode={sslmode}\
             &target_session_attrs={session_attributes}\
             &application_name=dob-api\
             &connect_timeout={CONNECT_TIMEOUT_S}\
             &tcp_user_timeout={TCP_USER_TIMEOUT_S}\
             &keepalives_idle={KEEPALIVE_S}\
             &keepalives_interval={KEEPALIVE_S}\
             &options=-c%20statement_timeout%3D{statement_ms}%20-c%20lock_timeout%3D{lock_ms}",
            user = percent_encoded(&self.role.name),
            password = percent_encoded(&self.role.password),
            hosts = hosts.join(","),
            database = percent_encoded(&self.database),
            sslmode = self.sslmode,
            statement_ms = limits.statement_ms,
            lock_ms = limits.lock_ms,
        ))
    }
}

/// The hosts that are set.
fn hosts(variables: [&'static str; 2], values: [String; 2]) -> Result<Vec<String>, ConfigError> {
    let is_name = |host: &String| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
    };
    let mut hosts = Vec::with_capacity(variables.len());
    for (variable, host) in variables.into_iter().zip(values) {
        let host = valid(variable, "a host name or an IPv4 address", Some(host).filter(is_name))?;
        if host != NO_HOST {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

fn sslmode_of(mode: &str) -> Option<&'static str> {
    ["disable", "prefer", "require"].into_iter().find(|known| *known == mode)
}

fn valid<T>(variable: &'static str, expected: &'static str, value: Option<T>) -> Result<T, ConfigError> {
    value.ok_or(ConfigError { variable, expected })
}

impl Address {
    /// The connection string, for the host's `open` and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "variable {} must be {}", self.variable, self.expected)
    }
}

/// Encodes all but RFC 3986's unreserved characters, so that no value can add a key or a host to the string.
fn percent_encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables<'a>(changed: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        let defaults = [
            ("pg_host_a", "db-a.internal"),
            ("pg_port", "5432"),
            ("pg_database", "dob_api"),
            ("pg_user", "dob_api"),
            ("pg_password", "secret"),
            ("pg_sslmode", "require"),
            ("pg_admin_user", ""),
            ("pg_admin_password", ""),
        ];
        let value = move |name: &str| {
            changed.iter().chain(&defaults).find(|(key, _)| *key == name).map_or(NO_HOST, |(_, value)| *value)
        };
        move |variable| {
            let names = carried().into_iter().find(|(name, _)| *name == variable)?.1;
            Some(names.iter().map(|name| value(name)).collect::<Vec<_>>().join("\n"))
        }
    }

    fn carried() -> [(&'static str, &'static [&'static str]); 3] {
        [("connection", &CONNECTION), ("replicas", &REPLICAS), ("admin", &ADMIN)]
    }

    #[test]
    fn the_manifest_puts_the_values_together_in_this_order() {
        let manifest = include_str!("../spin.toml");
        for (variable, names) in carried() {
            let template: Vec<String> = names.iter().map(|name| format!("{{{{ {name} }}}}")).collect();
            let line = format!("{variable} = \"{}\"", template.join("\\n"));
            assert!(manifest.lines().any(|in_manifest| in_manifest == line), "{line}");
        }
        assert!(manifest.contains(&format!("pg_host_b = {{ default = \"{NO_HOST}\" }}")));
    }

    #[test]
    fn a_line_break_in_a_value_cannot_shift_the_others() {
        let error = primary(&[("pg_password", "secret\n")]).unwrap_err();
        assert_eq!(error, "variable connection must be made of values without line breaks");
    }

    fn primary(changed: &[(&str, &str)]) -> Result<String, String> {
        let lookup = variables(changed);
        Config::new(&lookup).primary().map(|address| address.0).map_err(|error| error.to_string())
    }

    #[test]
    fn the_address_carries_every_limit() {
        assert_eq!(
            primary(&[]).unwrap(),
            "postgres://dob_api:secret@db-a.internal:5432/dob_api?sslmode=require&target_session_attrs=read-write\
             &application_name=dob-api&connect_timeout=1&tcp_user_timeout=1&keepalives_idle=1&keepalives_interval=1\
             &options=-c%20statement_timeout%3D1000%20-c%20lock_timeout%3D500"
        );
    }

    #[test]
    fn every_host_carries_its_port() {
        let address = primary(&[("pg_host_b", "10.0.0.2"), ("pg_port", "6432")]).unwrap();
        assert!(address.contains("@db-a.internal:6432,10.0.0.2:6432/"), "{address}");
    }

    #[test]
    fn values_cannot_break_out_of_their_place() {
        let address = primary(&[("pg_password", "p@ss/w:rd?x=1&hostaddr=6.6.6.6 é%")]).unwrap();
        assert!(
            address.starts_with(
                "postgres://dob_api:p%40ss%2Fw%3Ard%3Fx%3D1%26hostaddr%3D6.6.6.6%20%C3%A9%25@db-a.internal:5432/"
            ),
            "{address}"
        );
        let address = primary(&[("pg_database", "x?host=evil")]).unwrap();
        assert!(address.contains("/x%3Fhost%3Devil?sslmode"), "{address}");
    }

    #[test]
    fn a_variable_that_makes_no_sense_is_named() {
        for (variable, value) in [
            ("pg_host_a", "a,evil"),
            ("pg_host_a", "/var/run/postgresql"),
            ("pg_host_a", ""),
            ("pg_host_a", NO_HOST),
            ("pg_host_b", "::1"),
            ("pg_port", "0"),
            ("pg_port", "65536"),
            ("pg_sslmode", "verify-full"),
            ("pg_user", ""),
            ("pg_database", ""),
        ] {
            let error = primary(&[(variable, value)]).unwrap_err();
            assert!(error.contains(variable), "{variable}={value}: {error}");
        }
    }

    #[test]
    fn replicas_are_read_one_at_a_time_and_are_optional() {
        let lookup = variables(&[]);
        assert!(Config::new(&lookup).replicas(None).is_ok_and(|replicas| replicas.is_empty()));
        let hosts = [("pg_host_a", "a"), ("pg_host_b", "b"), ("pg_replica_host_a", "b"), ("pg_replica_host_b", "a")];
        let lookup = variables(&hosts);
        for (known, order) in [
            (None, ["b:5432", "a:5432"]),
            (Some(Replica::FirstHost), ["a:5432", "b:5432"]),
            (Some(Replica::LastHost), ["b:5432", "a:5432"]),
        ] {
            let replicas = Config::new(&lookup).replicas(known).unwrap_or_default();
            let hosts: Vec<_> = replicas.iter().filter_map(|replica| replica.0.split(['@', '/']).nth(3)).collect();
            assert_eq!(hosts, order, "{known:?}");
            assert!(replicas.iter().all(|replica| replica.0.contains("target_session_attrs=any")));
        }
    }

    #[test]
    fn passwords_are_redacted_as_they_are_and_as_the_address_has_them() {
        let lookup = variables(&[("pg_password", "p@ss"), ("pg_admin_password", "root")]);
        let redacted = Config::new(&lookup).redact("p@ss p%40ss root user");
        assert_eq!(redacted, "*** *** *** user");
    }

    #[test]
    fn the_administrator_is_optional_and_chooses_the_database() {
        let lookup = variables(&[]);
        assert!(matches!(Config::new(&lookup).admin("postgres"), Ok(None)));
        let lookup = variables(&[("pg_admin_user", "admin"), ("pg_admin_password", "root")]);
        let Ok(Some(address)) = Config::new(&lookup).admin("postgres") else { panic!("no address") };
        assert!(address.0.starts_with("postgres://admin:root@db-a.internal:5432/postgres?"), "{}", address.0);
        assert!(address.0.ends_with("statement_timeout%3D3000%20-c%20lock_timeout%3D3000"), "{}", address.0);
    }
}
