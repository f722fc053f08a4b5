//! `spin:postgres/postgres@4.0.0` on the libraries that Spin uses, without any limit that Spin does not set.

use crate::allow_list::AllowList;
use crate::bindings::spin::postgres::postgres::{
    DbError, Error, Host, HostConnection, ParameterValue, QueryError, RowSet,
};
use crate::faults::{Call, Faults};
use crate::values;
use anyhow::Context;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use moka::sync::Cache;
use native_tls::TlsConnector;
use postgres_native_tls::MakeTlsConnector;
use tokio_postgres::config::{Config, Host as PgHost, SslMode};
use tokio_postgres::{NoTls, types::ToSql};
use wasmtime::component::{HasData, Resource, ResourceTable};

/// Connections per address.
const POOL_SIZE: usize = 64;
/// Addresses whose pools are kept.
const MAX_POOLS: u64 = 16;

/// What all instances share: the pools, and what decides who may be dialled.
pub struct Postgres {
    pools: Pools,
    allow_list: AllowList,
    faults: Faults,
}

/// One instance's view of it, with the table that holds its connections.
pub struct PostgresView<'a> {
    /// Shared by all instances.
    pub shared: &'a Postgres,
    /// The instance's own.
    pub table: &'a mut ResourceTable,
}

/// What the linker gives the interface's functions.
pub struct HasPostgres;

impl HasData for HasPostgres {
    type Data<'a> = PostgresView<'a>;
}

/// One pool per exact address string.
struct Pools(Cache<String, Pool>);

impl Default for Pools {
    fn default() -> Self {
        Self(Cache::new(MAX_POOLS))
    }
}

impl Pools {
    /// Waits for a connection as long as it takes.
    async fn connection(&self, address: &str) -> anyhow::Result<Object> {
        let pool = self
            .0
            .try_get_with_by_ref(address, || pool(address))
            .map_err(|error| anyhow::anyhow!("{error:#}"))
            .context("establishing PostgreSQL connection pool")?;
        Ok(pool.get().await?)
    }
}

fn pool(address: &str) -> anyhow::Result<Pool> {
    let config: Config = address.parse().context("parsing Postgres connection string")?;
    // "Clean" is the recycle statement that spin-host.md quotes: everything is reset but an open transaction.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Clean };
    let manager = match config.get_ssl_mode() {
        SslMode::Disable => Manager::from_config(config, NoTls, recycling),
        _ => Manager::from_config(config, tls()?, recycling),
    };
    Ok(Pool::builder(manager).max_size(POOL_SIZE).build()?)
}

/// Checks chain and host name wherever a server offers TLS, whatever the mode.
fn tls() -> anyhow::Result<MakeTlsConnector> {
    Ok(MakeTlsConnector::new(TlsConnector::new()?))
}

/// Connects once as a pool does, and ends the connection: the error is the driver's own.
pub async fn connect(config: &Config) -> anyhow::Result<()> {
    match config.get_ssl_mode() {
        SslMode::Disable => drop(config.connect(NoTls).await?),
        _ => drop(config.connect(tls()?).await?),
    }
    Ok(())
}

impl Postgres {
    /// Empty pools, for the hosts of the list.
    pub fn new(allow_list: AllowList, faults: Faults) -> Self {
        Self { pools: Pools::default(), allow_list, faults }
    }

    /// Checks every host of the address on its own, each with its port.
    fn check_allowed(&self, address: &str) -> Result<(), Error> {
        let config: Config = address.parse().map_err(|error| Error::ConnectionFailed(format!("{error}")))?;
        for (index, host) in config.get_hosts().iter().enumerate() {
            let PgHost::Tcp(host) = host else {
                return Err(Error::ConnectionFailed("Unix sockets are not supported on WebAssembly".to_owned()));
            };
            // A single port for several hosts is looked up under the wrong index, as in Spin 3.6.3.
            let port = config.get_ports().get(index).copied();
            let allowed = self.allow_list.allows(host, port).map_err(|error| Error::Other(error.to_string()))?;
            if !allowed {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                return Err(Error::ConnectionFailed(format!("address postgres://{host}{port} is not permitted")));
            }
        }
        Ok(())
    }
}

impl PostgresView<'_> {
    fn connection(&self, connection: &Resource<Object>) -> Result<&Object, Error> {
        self.table.get(connection).map_err(|_| Error::ConnectionFailed("no connection found".to_owned()))
    }
}

impl Host for PostgresView<'_> {}

impl HostConnection for PostgresView<'_> {
    async fn open(&mut self, address: String) -> Result<Resource<Object>, Error> {
        let faults = &self.shared.faults;
        faults.saw(Call::Open, "", None);
        faults.planted(Call::Open)?;
        self.shared.check_allowed(&address)?;
        let connection = self
            .shared
            .pools
            .connection(&address)
            .await
            .map_err(|error| Error::ConnectionFailed(format!("{error:?}")))?;
        self.table.push(connection).map_err(|_| Error::ConnectionFailed("too many connections".to_owned()))
    }

    async fn query(
        &mut self,
        connection: Resource<Object>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<RowSet, Error> {
        let faults = &self.shared.faults;
        faults.planted(Call::Query)?;
        let parameters = to_sql(&parameters).map_err(Error::BadParameter)?;
        let rows = self.connection(&connection)?.query(&statement, &borrowed(&parameters)).await;
        faults.saw(Call::Query, &statement, rows.as_ref().ok().map(Vec::len));
        let rows = rows.map_err(query_failed)?;
        if rows.is_empty() && faults.empty_query_hangs() {
            std::future::pending::<()>().await;
        }
        values::row_set(&rows).map_err(|error| Error::QueryFailed(QueryError::Text(format!("{error:?}"))))
    }

    async fn execute(
        &mut self,
        connection: Resource<Object>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<u64, Error> {
        let faults = &self.shared.faults;
        faults.planted(Call::Execute)?;
        let parameters = to_sql(&parameters).map_err(Error::ValueConversionFailed)?;
        let touched = self.connection(&connection)?.execute(&statement, &borrowed(&parameters)).await;
        faults.saw(Call::Execute, &statement, None);
        touched.map_err(query_failed)
    }

    async fn drop(&mut self, connection: Resource<Object>) -> wasmtime::Result<()> {
        drop(self.table.delete(connection)?);
        Ok(())
    }
}

fn to_sql(parameters: &[ParameterValue]) -> Result<Vec<Box<dyn ToSql + Send + Sync>>, String> {
    parameters.iter().map(values::to_sql).collect::<anyhow::Result<_>>().map_err(|error| format!("{error:?}"))
}

fn borrowed(parameters: &[Box<dyn ToSql + Send + Sync>]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync)).collect()
}

/// Only an error that the server sent has a SQLSTATE; a broken connection is text.
fn query_failed(error: tokio_postgres::Error) -> Error {
    let as_text = format!("{error:?}");
    Error::QueryFailed(match error.as_db_error() {
        None => QueryError::Text(as_text),
        Some(server) => QueryError::DbError(DbError {
            as_text,
            severity: server.severity().to_owned(),
            code: server.code().code().to_owned(),
            message: server.message().to_owned(),
            detail: server.detail().map(str::to_owned),
            extras: extras(server),
        }),
    })
}

fn extras(error: &tokio_postgres::error::DbError) -> Vec<(String, String)> {
    let fields = [
        ("column", error.column()),
        ("constraint", error.constraint()),
        ("routine", error.routine()),
        ("hint", error.hint()),
        ("table", error.table()),
        ("datatype", error.datatype()),
        ("schema", error.schema()),
        ("where_", error.where_()),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
}
