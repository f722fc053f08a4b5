//! The user's own PostgreSQL, which `DATABASE_URL` names.

use anyhow::{Context, Result, bail, ensure};
use dob_spin::TlsError;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::config::{Config, Host, SslMode};
use tokio_postgres::error::{Error, SqlState};

/// The expected form. No error quotes the given URL, because any part of it may contain the password.
const FORM: &str = "DATABASE_URL must look like postgres://user:password@host:5432/database, and @ : / % in a password like \
                    %40 %3A %2F %25 (p@ss: p%40ss)";
/// How long the check of a connection may take.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

/// Parses the URL.
pub fn parse(url: &str) -> Result<Config> {
    // The parser ends the password at the first @ and takes the rest for a host.
    ensure!(url.matches('@').count() <= 1, "{FORM}");
    let config = url.parse::<Config>();
    // The parser's error for text that is not a URL quotes a piece of it, which may be the password.
    if url.contains("://") { config.context(FORM) } else { config.ok().context(FORM) }
}

/// The component's variables. One role serves and creates the schema.
pub fn variables(config: &Config) -> Result<BTreeMap<String, String>> {
    let [Host::Tcp(host)] = config.get_hosts() else { bail!("DATABASE_URL must name one host that is reached by TCP") };
    let user = config.get_user().context("DATABASE_URL must name a user")?;
    let password = String::from_utf8(config.get_password().unwrap_or_default().to_vec()).ok().context(FORM)?;
    let sslmode = match config.get_ssl_mode() {
        SslMode::Disable => "disable",
        SslMode::Require => "require",
        _ => "prefer",
    };
    let variables = [
        ("pg_host_a", host.clone()),
        ("pg_port", config.get_ports().first().unwrap_or(&5432).to_string()),
        ("pg_database", config.get_dbname().unwrap_or(user).to_owned()),
        ("pg_user", user.to_owned()),
        ("pg_password", password.clone()),
        ("pg_sslmode", sslmode.to_owned()),
        ("pg_admin_user", user.to_owned()),
        ("pg_admin_password", password),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Advice on how to change the URL, if the server refuses it for a known reason.
pub async fn advice(config: &Config) -> Option<&'static str> {
    let error = timeout(REFUSED_WITHIN, dob_spin::connect(config)).await.ok()?.err()?;
    if error.chain().any(|cause| cause.is::<TlsError>()) {
        return Some(
            "this machine does not trust the certificate of the PostgreSQL in DATABASE_URL: add ?sslmode=disable to it to \
             go without encryption, or name a certificate that is issued to its host in SSL_CERT_FILE",
        );
    }
    let code = error.downcast_ref::<Error>().and_then(Error::code);
    (code == Some(&SqlState::INVALID_PASSWORD)).then_some(
        "PostgreSQL refuses the password in DATABASE_URL: is it right, and are @ : / % in it written %40 %3A %2F %25?",
    )
}
