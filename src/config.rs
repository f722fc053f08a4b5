//! The configuration: reads Spin variables, and builds PostgreSQL connection strings from them.
//!
//! The host sets no time limits, so the connection string does. On a host that can end a wait, such as WASI 0.3, the store adds its own.

use crate::host::Host;
use std::cmp::Ordering;
use std::fmt::{self, Write};
use std::rc::Rc;

/// How long connecting to one server may take, in seconds. The driver takes whole seconds only.
pub const CONNECT_TIMEOUT_S: u32 = 1;
/// How long sent data may stay unacknowledged before the connection counts as dead, in seconds. It is at least as long as two keepalive
/// probes: when a request finds one pooled connection dead, the kernel has then closed the others, and the pool hands out no second one.
pub const TCP_USER_TIMEOUT_S: u32 = 2 * KEEPALIVE_S;
/// How long a pooled connection is idle before the kernel probes it, and the time between two probes, in seconds.
const KEEPALIVE_S: u32 = 1;
/// The time limits of a statement, in milliseconds.
#[derive(Clone, Copy)]
struct Limits {
    /// How long it may run.
    statement_ms: u32,
    /// How long it may wait for a lock.
    lock_ms: u32,
}

/// For a statement that serves a request.
const SERVING: Limits = Limits { statement_ms: 1000, lock_ms: 500 };
/// For a statement that prepares the schema. It may have to wait for another pod that does the same.
const PREPARING: Limits = Limits { statement_ms: 3000, lock_ms: 3000 };

/// The isolation level, percent-encoded. Each statement is a transaction of its own, and correct at this level. If the database's default
/// is stricter, a save would fail whenever another save of the same user is quicker.
const ISOLATION: &str = "read%5C%20committed";

/// The value that means "no such host". An entry of Spin's allow-list must name a host, so an optional one can't be empty. `.invalid` never
/// resolves (RFC 6761). `spin.toml` has it as the default.
const NO_HOST: &str = "unset.invalid";

/// A variable of the component. It carries several variables of the application, one per line, because each read is a call into the host.
/// A request that the primary serves reads only one. `spin.toml` puts them together.
struct Variable<const N: usize> {
    name: &'static str,
    carries: [Carried; N],
}

/// An application variable: its name, as the operator sets it, and a test of whether a text can be its value.
type Carried = (&'static str, fn(&str) -> bool);

const CONNECTION: Variable<7> = Variable {
    name: "connection",
    carries: [
        ("pg_host_a", is_host),
        ("pg_host_b", is_host),
        ("pg_port", |port| port_of(port).is_some()),
        ("pg_database", is_name),
        ("pg_user", is_name),
        ("pg_password", |_| true),
        ("pg_sslmode", |mode| sslmode_of(mode).is_some()),
    ],
};
const REPLICAS: Variable<2> =
    Variable { name: "replicas", carries: [("pg_replica_host_a", is_host), ("pg_replica_host_b", is_host)] };
const ADMIN: Variable<2> =
    Variable { name: "admin", carries: [("pg_admin_user", |_| true), ("pg_admin_password", |_| true)] };

/// Longest name of a database or role, in bytes. PostgreSQL truncates a longer one, and then does not find it by its full name.
const MAX_NAME: usize = 63;
/// How an error describes a valid name.
const A_NAME: &str = "a name of 1 to 63 bytes";
/// Longest text that [`Config::redact`] returns, in characters.
const MAX_REDACTED: usize = 500;
/// Shortest password that is redacted everywhere, in characters. A shorter one occurs in ordinary words, so it is redacted only in a
/// connection string. Otherwise no line would stay readable.
const MIN_REDACTED: usize = 4;

/// The service's configuration. Each variable is read when it is needed.
pub struct Config<'a, H> {
    host: &'a H,
}

/// The database: its name, serving role, hosts, port and TLS mode.
#[derive(Clone)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// The role that serves requests.
    pub role: Role,
    hosts: Vec<String>,
    port: u16,
    sslmode: &'static str,
}

/// A role that logs in with a password.
#[derive(Clone)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

/// A guess at which host of the primary list is a replica, from the driver's error message. A wrong guess only costs time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikelyReplica {
    /// The first one, because the last one did not answer as a replica. The first one is not silent.
    FirstHost,
    /// The same, but the first one may be silent, too.
    PerhapsFirstHost,
    /// The last one, because it answered as a replica.
    LastHost,
}

/// A variable that is missing or has an invalid value, for the operator's log.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Its name. Several names if each of these variables may be the wrong one.
    variables: Vec<&'static str>,
    expected: &'static str,
}

/// A PostgreSQL connection string. Clones share it. It holds a password, so it has no `Debug` and is never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Rc<str>);

/// The values in the variable `connection`, unchecked.
struct Connection {
    host_a: String,
    host_b: String,
    port: String,
    database: String,
    user: String,
    password: String,
    sslmode: String,
}

impl<'a, H: Host> Config<'a, H> {
    /// The configuration that this host holds.
    pub fn new(host: &'a H) -> Self {
        Self { host }
    }

    /// The database that holds the birthdays.
    pub async fn database(&self) -> Result<Database, ConfigError> {
        Database::parse(&self.read(&CONNECTION).await?)
    }

    /// The primary: whichever host of the primary list accepts writes.
    pub async fn primary(&self) -> Result<Address, ConfigError> {
        Ok(self.database().await?.primary())
    }

    /// The hosts of the replica list. Each has an address of its own, so that the caller can stop between them. The host that is likely a
    /// replica comes first.
    pub async fn replicas(&self, likely: Option<LikelyReplica>) -> Result<Vec<Address>, ConfigError> {
        let hosts = replica_hosts(&self.read(&REPLICAS).await?)?;
        Ok(self.database().await?.replicas(hosts, likely))
    }

    /// The administrator, if credentials are configured.
    pub async fn admin(&self) -> Result<Option<Role>, ConfigError> {
        Role::admin(&self.read(&ADMIN).await?)
    }

    /// `text`, shortened, with every configured password replaced by `***`.
    pub async fn redact(&self, text: &str) -> String {
        let connection = self.read(&CONNECTION).await.and_then(|values| Connection::parse(&values));
        let admin = self.read(&ADMIN).await.and_then(|values| Role::parse(&values));
        let serving = connection.map(|connection| connection.password).unwrap_or_default();
        redacted(text, [serving, admin.map(|admin| admin.password).unwrap_or_default()])
    }

    async fn read<const N: usize>(&self, variable: &Variable<N>) -> Result<String, ConfigError> {
        let expected = "a value that the host can resolve";
        let value = self.host.variable(variable.name).await;
        value.ok_or_else(|| ConfigError { variables: names(&variable.carries), expected })
    }
}

impl Connection {
    fn parse(values: &str) -> Result<Self, ConfigError> {
        let [host_a, host_b, port, database, user, password, sslmode] = CONNECTION.values(values)?;
        Ok(Self { host_a, host_b, port, database, user, password, sslmode })
    }
}

impl Role {
    /// The administrator, or `None` if the name is empty.
    fn admin(values: &str) -> Result<Option<Self>, ConfigError> {
        let Some(admin) = Some(Self::parse(values)?).filter(|admin| !admin.name.is_empty()) else { return Ok(None) };
        Ok(Some(Self {
            name: ok_or_invalid("pg_admin_user", A_NAME, Some(admin.name).filter(|name| is_name(name)))?,
            ..admin
        }))
    }

    fn parse(values: &str) -> Result<Self, ConfigError> {
        let [name, password] = ADMIN.values(values)?;
        Ok(Self { name, password })
    }
}

impl Database {
    /// Parses the value of the variable `connection`.
    pub fn parse(values: &str) -> Result<Self, ConfigError> {
        let Connection { host_a, host_b, port, database, user, password, sslmode } = Connection::parse(values)?;
        let hosts = hosts([("pg_host_a", host_a), ("pg_host_b", host_b)])?;
        if hosts.is_empty() {
            return Err(ConfigError { variables: vec!["pg_host_a"], expected: "the primary's host name" });
        }
        Ok(Self {
            hosts,
            port: ok_or_invalid("pg_port", "a port number from 1 to 65535", port_of(&port))?,
            name: ok_or_invalid("pg_database", A_NAME, Some(database).filter(|name| is_name(name)))?,
            role: Role { name: ok_or_invalid("pg_user", A_NAME, Some(user).filter(|name| is_name(name)))?, password },
            sslmode: ok_or_invalid("pg_sslmode", "disable, prefer or require", sslmode_of(&sslmode))?,
        })
    }

    /// The address of whichever host accepts writes.
    pub fn primary(&self) -> Address {
        self.address(&self.hosts, "read-write", SERVING)
    }

    /// The primary's address for the administrator, in the database of this name.
    pub fn administered(&self, admin: &Role, name: &str) -> Address {
        let database = Self { role: admin.clone(), name: name.to_owned(), ..self.clone() };
        database.address(&self.hosts, "read-write", PREPARING)
    }

    fn replicas(&self, mut hosts: Vec<String>, likely: Option<LikelyReplica>) -> Vec<Address> {
        let replica = match likely {
            Some(LikelyReplica::FirstHost | LikelyReplica::PerhapsFirstHost) => self.hosts.first(),
            Some(LikelyReplica::LastHost) => self.hosts.last(),
            None => None,
        };
        if let Some(position) = hosts.iter().position(|host| Some(host) == replica) {
            hosts.swap(0, position);
        }
        hosts.into_iter().map(|host| self.address(&[host], "any", SERVING)).collect()
    }

    /// A connection string in URL form, because Spin 3.6 checks the second host of the key-value form against the wrong port.
    fn address(&self, hosts: &[String], session_attributes: &str, limits: Limits) -> Address {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("{host}:{}", self.port)).collect();
        Address(Rc::from(format!(
            "postgres://{user}:{password}@{hosts}/{database}\
             ?sslmode={sslmode}\
             &target_session_attrs={session_attributes}\
             &application_name=dob-api\
             &connect_timeout={CONNECT_TIMEOUT_S}\
             &tcp_user_timeout={TCP_USER_TIMEOUT_S}\
             &keepalives_idle={KEEPALIVE_S}\
             &keepalives_interval={KEEPALIVE_S}\
             &options=-c%20statement_timeout%3D{statement_ms}%20-c%20lock_timeout%3D{lock_ms}\
             %20-c%20default_transaction_isolation%3D{ISOLATION}",
            user = percent_encoded(&self.role.name),
            password = percent_encoded(&self.role.password),
            hosts = hosts.join(","),
            database = percent_encoded(&self.name),
            sslmode = self.sslmode,
            statement_ms = limits.statement_ms,
            lock_ms = limits.lock_ms,
        )))
    }
}

fn replica_hosts(values: &str) -> Result<Vec<String>, ConfigError> {
    let [host_a, host_b] = REPLICAS.values(values)?;
    hosts([("pg_replica_host_a", host_a), ("pg_replica_host_b", host_b)])
}

/// The hosts that are configured.
fn hosts(values: [(&'static str, String); 2]) -> Result<Vec<String>, ConfigError> {
    let mut hosts = Vec::with_capacity(values.len());
    for (variable, host) in values {
        let host = ok_or_invalid(variable, "a host name or an IPv4 address", Some(host).filter(|host| is_host(host)))?;
        if host != NO_HOST {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

impl<const N: usize> Variable<N> {
    /// The values of the application variables that it carries.
    fn values(&self, value: &str) -> Result<[String; N], ConfigError> {
        let lines: Vec<&str> = value.split('\n').collect();
        let values = <[&str; N]>::try_from(&*lines).map(|values| values.map(str::to_owned));
        values.map_err(|_| ConfigError {
            variables: broken(&self.carries, &lines),
            expected: "a value without line breaks",
        })
    }
}

/// The variables that may hold the extra line breaks. A variable may hold them if all values are valid once its own line breaks are removed.
/// If no variable passes this test, returns all of them.
fn broken(carries: &[Carried], lines: &[&str]) -> Vec<&'static str> {
    let Some(more) = lines.len().checked_sub(carries.len()) else { return names(carries) };
    let value = |index: usize, broken: usize| match index.cmp(&broken) {
        Ordering::Less => lines[index].to_owned(),
        Ordering::Equal => lines[index..=index + more].join("\n").trim_matches('\n').to_owned(),
        Ordering::Greater => lines[index + more].to_owned(),
    };
    let may_hold_them = |broken: usize| (0..carries.len()).all(|index| carries[index].1(&value(index, broken)));
    let suspects: Vec<Carried> =
        (0..carries.len()).filter(|index| may_hold_them(*index)).map(|index| carries[index]).collect();
    names(if suspects.is_empty() { carries } else { &suspects })
}

fn names(carries: &[Carried]) -> Vec<&'static str> {
    carries.iter().map(|(name, _)| *name).collect()
}

fn redacted(text: &str, mut passwords: [String; 2]) -> String {
    // The longer password is replaced first, because it may contain the other.
    if passwords[0].len() < passwords[1].len() {
        passwords.swap(0, 1);
    }
    let mut text = text.to_owned();
    for password in passwords {
        let encoded = percent_encoded(&password);
        text = text.replace(&format!(":{encoded}@"), ":***@");
        if password.chars().count() >= MIN_REDACTED {
            text = text.replace(&password, "***").replace(&encoded, "***");
        }
    }
    text.chars().take(MAX_REDACTED).collect()
}

/// Allows an underscore, which a container's name may have, although no domain name does.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
}

fn port_of(port: &str) -> Option<u16> {
    port.parse().ok().filter(|port| *port != 0)
}

fn sslmode_of(mode: &str) -> Option<&'static str> {
    ["disable", "prefer", "require"].into_iter().find(|known| *known == mode)
}

fn ok_or_invalid<T>(variable: &'static str, expected: &'static str, value: Option<T>) -> Result<T, ConfigError> {
    value.ok_or_else(|| ConfigError { variables: vec![variable], expected })
}

impl Address {
    /// The connection string, for the host's `open` and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.variables.join(", ");
        if let Some(comma) = names.rfind(", ") {
            names.replace_range(comma..comma + 1, " or");
        }
        write!(f, "variable {names} must be {}", self.expected)
    }
}

/// Encodes everything except RFC 3986's unreserved characters, so that no value can add a key or a host to the connection string.
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

    /// A variable of the component, as `spin.toml` puts it together.
    fn variable(name: &str, changed: &[(&str, &str)]) -> String {
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
        let value = |name: &str| {
            changed.iter().chain(&defaults).find(|(key, _)| *key == name).map_or(NO_HOST, |(_, value)| *value)
        };
        let carries = carried().into_iter().find(|(variable, _)| *variable == name).unwrap().1;
        carries.iter().map(|(name, _)| value(name)).collect::<Vec<_>>().join("\n")
    }

    fn database(changed: &[(&str, &str)]) -> Result<Database, String> {
        Database::parse(&variable("connection", changed)).map_err(|error| error.to_string())
    }

    fn carried() -> [(&'static str, Vec<Carried>); 3] {
        [
            (CONNECTION.name, CONNECTION.carries.into()),
            (REPLICAS.name, REPLICAS.carries.into()),
            (ADMIN.name, ADMIN.carries.into()),
        ]
    }

    #[test]
    fn the_manifest_puts_the_values_together_in_this_order() {
        let manifest = include_str!("../spin.toml");
        for (variable, carries) in carried() {
            let template: Vec<String> = carries.iter().map(|(name, _)| format!("{{{{ {name} }}}}")).collect();
            let line = format!("{variable} = \"{}\"", template.join("\\n"));
            assert!(manifest.lines().any(|in_manifest| in_manifest == line), "{line}");
        }
        assert!(manifest.contains(&format!("pg_host_b = {{ default = \"{NO_HOST}\" }}")));
    }

    #[test]
    fn a_line_break_in_a_value_cannot_shift_the_others() {
        for (variable, value, named) in [
            ("pg_password", "secret\n", "pg_database, pg_user, pg_password or pg_sslmode"),
            ("pg_password", "a\nb", "pg_database, pg_user or pg_password"),
            ("pg_sslmode", "require\n", "pg_sslmode"),
            ("pg_port", "5432\n", "pg_port or pg_database"),
            ("pg_host_a", "a\n", "pg_host_a or pg_host_b"),
        ] {
            let error = primary(&[(variable, value)]).unwrap_err();
            assert_eq!(error, format!("variable {named} must be a value without line breaks"), "{variable}={value:?}");
        }
        let two = primary(&[("pg_host_a", "a\n"), ("pg_sslmode", "require\n")]).unwrap_err();
        assert!(CONNECTION.carries.iter().all(|(name, _)| two.contains(name)), "{two}");
        let admin = Role::admin(&variable("admin", &[("pg_admin_password", "root\n")])).err().unwrap().to_string();
        assert_eq!(admin, "variable pg_admin_user or pg_admin_password must be a value without line breaks");
    }

    fn primary(changed: &[(&str, &str)]) -> Result<String, String> {
        database(changed).map(|database| database.primary().expose().to_owned())
    }

    #[test]
    fn the_address_carries_every_limit() {
        assert_eq!(
            primary(&[]).unwrap(),
            "postgres://dob_api:secret@db-a.internal:5432/dob_api?sslmode=require&target_session_attrs=read-write\
             &application_name=dob-api&connect_timeout=1&tcp_user_timeout=2&keepalives_idle=1&keepalives_interval=1\
             &options=-c%20statement_timeout%3D1000%20-c%20lock_timeout%3D500\
             %20-c%20default_transaction_isolation%3Dread%5C%20committed"
        );
    }

    #[test]
    fn every_host_carries_its_port() {
        let address = primary(&[("pg_host_b", "10.0.0.2"), ("pg_port", "6432")]).unwrap();
        assert!(address.contains("@db-a.internal:6432,10.0.0.2:6432/"), "{address}");
    }

    #[test]
    fn values_are_escaped_in_the_address() {
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
    fn an_invalid_variable_is_named() {
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
            ("pg_user", &"r".repeat(64)),
            ("pg_database", ""),
            ("pg_database", &"é".repeat(32)),
        ] {
            let error = primary(&[(variable, value)]).unwrap_err();
            assert!(error.contains(variable), "{variable}={value}: {error}");
        }
    }

    #[test]
    fn a_name_has_at_most_63_bytes_and_a_host_may_have_an_underscore() {
        let address = primary(&[("pg_host_a", "app_db_1"), ("pg_user", &"r".repeat(63))]).unwrap();
        assert!(address.contains(&format!("//{}:secret@app_db_1:5432/", "r".repeat(63))), "{address}");
        let admin = variable("admin", &[("pg_admin_user", &"a".repeat(64))]);
        assert_eq!(
            Role::admin(&admin).err().unwrap().to_string(),
            "variable pg_admin_user must be a name of 1 to 63 bytes"
        );
    }

    #[test]
    fn replicas_are_read_one_at_a_time_and_are_optional() {
        assert_eq!(replica_hosts(&variable("replicas", &[])), Ok(vec![]));
        let hosts = [("pg_host_a", "a"), ("pg_host_b", "b"), ("pg_replica_host_a", "b"), ("pg_replica_host_b", "a")];
        let replicas = replica_hosts(&variable("replicas", &hosts)).unwrap();
        let database = database(&hosts).ok().unwrap();
        for (likely, order) in [
            (None, ["b:5432", "a:5432"]),
            (Some(LikelyReplica::FirstHost), ["a:5432", "b:5432"]),
            (Some(LikelyReplica::PerhapsFirstHost), ["a:5432", "b:5432"]),
            (Some(LikelyReplica::LastHost), ["b:5432", "a:5432"]),
        ] {
            let replicas = database.replicas(replicas.clone(), likely);
            let hosts: Vec<_> = replicas.iter().filter_map(|replica| replica.0.split(['@', '/']).nth(3)).collect();
            assert_eq!(hosts, order, "{likely:?}");
            assert!(replicas.iter().all(|replica| replica.0.contains("target_session_attrs=any")));
        }
    }

    #[test]
    fn passwords_are_redacted_as_they_are_and_as_the_address_has_them() {
        let changed = [("pg_password", "p@ss"), ("pg_admin_password", "root")];
        let serving = Connection::parse(&variable("connection", &changed)).ok().unwrap().password;
        let admin = Role::parse(&variable("admin", &changed)).ok().unwrap().password;
        let redacted = redacted("p@ss p%40ss root user", [serving, admin]);
        assert_eq!(redacted, "*** *** *** user");
    }

    #[test]
    fn a_password_that_contains_the_other_is_redacted_whole() {
        assert_eq!(redacted("secret secret-2", ["secret".to_owned(), "secret-2".to_owned()]), "*** ***");
    }

    #[test]
    fn a_short_password_is_redacted_in_an_address_and_nowhere_else() {
        for (password, encoded) in [("e", "e"), ("@", "%40"), ("abc", "abc")] {
            let text = format!("refused: postgres://dob_api:{encoded}@db-a.internal:5432/ (see abc.example)");
            let readable = "refused: postgres://dob_api:***@db-a.internal:5432/ (see abc.example)";
            assert_eq!(redacted(&text, [password.to_owned(), String::new()]), readable);
        }
        assert_eq!(redacted("refused", [String::new(), String::new()]), "refused");
    }

    #[test]
    fn the_administrator_is_optional_and_chooses_the_database() {
        assert!(Role::admin(&variable("admin", &[])).is_ok_and(|admin| admin.is_none()));
        let admin = Role::admin(&variable("admin", &[("pg_admin_user", "admin"), ("pg_admin_password", "root")]));
        let Ok(Some(admin)) = admin else { panic!("no administrator") };
        let address = database(&[]).ok().unwrap().administered(&admin, "postgres");
        assert!(address.0.starts_with("postgres://admin:root@db-a.internal:5432/postgres?"), "{}", address.0);
        assert!(address.0.contains("statement_timeout%3D3000%20-c%20lock_timeout%3D3000%20"), "{}", address.0);
    }
}
