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
/// Longest run of a statement that serves a request, in milliseconds.
const STATEMENT_TIMEOUT_MS: u32 = 1000;
/// Longest wait for a lock in a statement that serves a request, in milliseconds.
const LOCK_TIMEOUT_MS: u32 = 500;
/// Longest run of a statement that prepares the schema, in milliseconds.
const ADMIN_STATEMENT_TIMEOUT_MS: u32 = 3000;

/// The value that means "no such host". An allow-list entry must name a host, so an optional one can't be empty;
/// `.invalid` never resolves (RFC 6761). `spin.toml` has it as the default.
const NO_HOST: &str = "unset.invalid";

/// Reads one variable; `None` when the host can't resolve it.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The service's configuration. Variables are read when they are needed: each read is a call into the host.
pub struct Config<'a> {
    lookup: Lookup<'a>,
}

/// Longest text that [`Config::redact`] lets through, in characters.
const MAX_REDACTED: usize = 500;

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
        let hosts = self.hosts(["pg_host_a", "pg_host_b"])?;
        self.writable(&hosts, &self.role()?, &self.database()?, STATEMENT_TIMEOUT_MS)
    }

    /// The hosts of the replica list, one address each so that the caller can stop between them.
    pub fn replicas(&self) -> Result<Vec<Address>, ConfigError> {
        let hosts = self.hosts(["pg_replica_host_a", "pg_replica_host_b"])?;
        let (role, database) = (self.role()?, self.database()?);
        hosts
            .iter()
            .map(|host| self.address(std::slice::from_ref(host), &role, &database, "any", STATEMENT_TIMEOUT_MS))
            .collect()
    }

    /// The primary as the administrator, in `database`; `None` without administrator credentials.
    pub fn admin(&self, database: &str) -> Result<Option<Address>, ConfigError> {
        let name = self.get("pg_admin_user")?;
        if name.is_empty() {
            return Ok(None);
        }
        let admin = Role { name, password: self.get("pg_admin_password")? };
        let hosts = self.hosts(["pg_host_a", "pg_host_b"])?;
        self.writable(&hosts, &admin, database, ADMIN_STATEMENT_TIMEOUT_MS).map(Some)
    }

    /// The role that serves requests.
    pub fn role(&self) -> Result<Role, ConfigError> {
        Ok(Role { name: self.required("pg_user")?, password: self.get("pg_password")? })
    }

    /// The database that holds the birthdays.
    pub fn database(&self) -> Result<String, ConfigError> {
        self.required("pg_database")
    }

    /// `text` cut to a line's length, with every configured password replaced by `***`.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for variable in ["pg_password", "pg_admin_password"] {
            for secret in self.get(variable).iter().flat_map(|secret| [secret.clone(), percent_encoded(secret)]) {
                if !secret.is_empty() {
                    text = text.replace(&secret, "***");
                }
            }
        }
        text.chars().take(MAX_REDACTED).collect()
    }

    fn writable(
        &self,
        hosts: &[String],
        role: &Role,
        database: &str,
        statement_timeout_ms: u32,
    ) -> Result<Address, ConfigError> {
        if hosts.is_empty() {
            return Err(ConfigError { variable: "pg_host_a", expected: "the primary's host name" });
        }
        self.address(hosts, role, database, "read-write", statement_timeout_ms)
    }

    /// The URL form: Spin 3.6 checks the second host of the key-value form against the wrong port.
    fn address(
        &self,
        hosts: &[String],
        role: &Role,
        database: &str,
        session_attributes: &str,
        statement_timeout_ms: u32,
    ) -> Result<Address, ConfigError> {
        let (port, sslmode) = (self.port()?, self.sslmode()?);
        let hosts: Vec<String> = hosts.iter().map(|host| format!("{host}:{port}")).collect();
        Ok(Address(format!(
            "postgres://{user}:{password}@{hosts}/{database}\
             ?sslmode={sslmode}\
             &target_session_attrs={session_attributes}\
             &application_name=dob-api\
             &connect_timeout={CONNECT_TIMEOUT_S}\
             &tcp_user_timeout={TCP_USER_TIMEOUT_S}\
             &keepalives_idle={KEEPALIVE_S}\
             &keepalives_interval={KEEPALIVE_S}\
             &options=-c%20statement_timeout%3D{statement_timeout_ms}%20-c%20lock_timeout%3D{LOCK_TIMEOUT_MS}",
            user = percent_encoded(&role.name),
            password = percent_encoded(&role.password),
            hosts = hosts.join(","),
            database = percent_encoded(database),
        )))
    }

    fn hosts(&self, variables: [&'static str; 2]) -> Result<Vec<String>, ConfigError> {
        let mut hosts = Vec::with_capacity(variables.len());
        for variable in variables {
            let host = self.get(variable)?;
            let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
            if !is_name || host.is_empty() {
                let expected = "a host name or an IPv4 address";
                return Err(ConfigError { variable, expected });
            }
            if host != NO_HOST {
                hosts.push(host);
            }
        }
        Ok(hosts)
    }

    fn port(&self) -> Result<u16, ConfigError> {
        let expected = "a port number from 1 to 65535";
        let port = self.get("pg_port")?.parse().ok().filter(|port| *port != 0);
        port.ok_or(ConfigError { variable: "pg_port", expected })
    }

    fn sslmode(&self) -> Result<String, ConfigError> {
        let (mode, expected) = (self.get("pg_sslmode")?, "disable, prefer or require");
        match mode.as_str() {
            "disable" | "prefer" | "require" => Ok(mode),
            _ => Err(ConfigError { variable: "pg_sslmode", expected }),
        }
    }

    fn required(&self, variable: &'static str) -> Result<String, ConfigError> {
        let value = self.get(variable)?;
        if value.is_empty() {
            return Err(ConfigError { variable, expected: "a value" });
        }
        Ok(value)
    }

    fn get(&self, variable: &'static str) -> Result<String, ConfigError> {
        let expected = "a value that the host can resolve";
        (self.lookup)(variable).ok_or(ConfigError { variable, expected })
    }
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
            ("pg_host_b", NO_HOST),
            ("pg_replica_host_a", NO_HOST),
            ("pg_replica_host_b", NO_HOST),
            ("pg_port", "5432"),
            ("pg_database", "dob_api"),
            ("pg_user", "dob_api"),
            ("pg_password", "secret"),
            ("pg_sslmode", "require"),
            ("pg_admin_user", ""),
            ("pg_admin_password", ""),
        ];
        move |name| {
            let known = changed.iter().chain(&defaults).find(|(key, _)| *key == name)?;
            Some(known.1.to_owned())
        }
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
        assert!(Config::new(&lookup).replicas().is_ok_and(|replicas| replicas.is_empty()));
        let lookup = variables(&[("pg_replica_host_a", "b"), ("pg_replica_host_b", "a")]);
        let replicas = Config::new(&lookup).replicas().unwrap_or_default();
        let hosts: Vec<_> = replicas.iter().filter_map(|replica| replica.0.split(['@', '/']).nth(3)).collect();
        assert_eq!(hosts, ["b:5432", "a:5432"]);
        assert!(replicas.iter().all(|replica| replica.0.contains("target_session_attrs=any")));
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
    }
}
