//! `spin:postgres/postgres`, built on the libraries that Spin uses, with no other limits than Spin's.

use crate::allow_list::AllowList;
use crate::bindings::spin::postgres::postgres::{
    Column, DbError, DbValue, Error, Host, HostConnection, HostConnectionWithStore, ParameterValue, QueryError, RowSet,
};
use crate::faults::{Faults, HostCall};
use crate::values;
use anyhow::Context;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use futures_util::TryStreamExt;
use moka::sync::Cache;
use native_tls::TlsConnector;
use postgres_native_tls::MakeTlsConnector;
use std::pin::pin;
use std::sync::Arc;
use tokio_postgres::config::{Config, Host as PgHost, SslMode};
use tokio_postgres::{NoTls, Row, RowStream, types::ToSql};
use wasmtime::component::{Accessor, FutureReader, HasData, Resource, ResourceTable, StreamReader};

/// Connections per address.
const POOL_SIZE: usize = 64;
/// The most addresses whose pools are kept.
const MAX_POOLS: u64 = 16;

/// A connection of the pool. Running calls share it, so that it returns to the pool when the last has ended.
pub type Connection = Arc<Object>;

/// State that all instances share: the pools and the allow-list.
pub struct Postgres {
    pools: Pools,
    allow_list: AllowList,
    faults: Faults,
}

/// One instance's view of PostgreSQL, with the table of its connections.
pub struct PostgresView<'a> {
    /// Shared by all instances.
    pub shared: &'a Arc<Postgres>,
    /// The instance's own table.
    pub table: &'a mut ResourceTable,
}

/// Selects the state for the interface's functions in the linker.
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
    /// Waits for a connection, without a time limit.
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
    // As in Spin: a connection that returns to the pool is reset, but an open transaction in it is not rolled back.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Clean };
    let manager = match config.get_ssl_mode() {
        SslMode::Disable => Manager::from_config(config, NoTls, recycling),
        _ => Manager::from_config(config, tls()?, recycling),
    };
    Ok(Pool::builder(manager).max_size(POOL_SIZE).build()?)
}

/// Checks chain and host name whenever a server offers TLS, in every mode.
fn tls() -> anyhow::Result<MakeTlsConnector> {
    Ok(MakeTlsConnector::new(TlsConnector::new()?))
}

/// Connects once as a pool does, and closes the connection. The error is the driver's own.
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

    /// Checks each host of the address with its port.
    fn check_allowed(&self, address: &str) -> Result<(), Error> {
        let config: Config = address.parse().map_err(|error| Error::ConnectionFailed(format!("{error}")))?;
        for (index, host) in config.get_hosts().iter().enumerate() {
            let PgHost::Tcp(host) = host else {
                return Err(Error::ConnectionFailed("Unix sockets are not supported on WebAssembly".to_owned()));
            };
            // A single port for several hosts is looked up at the wrong index, as in Spin 3.6.3.
            let port = config.get_ports().get(index).copied();
            let allowed = self.allow_list.allows(host, port).map_err(|error| Error::Other(error.to_string()))?;
            if !allowed {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                return Err(Error::ConnectionFailed(format!("address postgres://{host}{port} is not permitted")));
            }
        }
        Ok(())
    }

    async fn open(&self, address: &str) -> Result<Connection, Error> {
        self.faults.saw(HostCall::Open, "", None);
        self.faults.planted(HostCall::Open)?;
        self.check_allowed(address)?;
        let opened = self.pools.connection(address).await;
        opened.map(Arc::new).map_err(|error| Error::ConnectionFailed(format!("{error:?}")))
    }

    async fn execute(&self, connection: &Object, statement: &str, parameters: &[ParameterValue]) -> Result<u64, Error> {
        self.faults.planted(HostCall::Execute)?;
        let parameters = to_sql(parameters).map_err(Error::ValueConversionFailed)?;
        let touched = connection.execute(statement, &borrowed(&parameters)).await;
        self.faults.saw(HostCall::Execute, statement, None);
        touched.map_err(query_failed)
    }

    /// The rows up to an error. The outer error means that there are no rows.
    async fn query(
        &self,
        connection: &Object,
        statement: &str,
        parameters: &[ParameterValue],
    ) -> Result<(Vec<Row>, Result<(), Error>), Error> {
        self.faults.planted(HostCall::Query)?;
        let parameters = to_sql(parameters).map_err(Error::BadParameter)?;
        let stream = connection.query_raw(statement, borrowed(&parameters)).await;
        let mut rows = Vec::new();
        let ended = match stream {
            Ok(stream) => Ok(collected(stream, &mut rows).await),
            Err(error) => Err(error),
        };
        self.faults.saw(HostCall::Query, statement, matches!(ended, Ok(Ok(()))).then_some(rows.len()));
        let ended = ended.map_err(query_failed)?;
        Ok((rows, ended.map_err(query_failed)))
    }
}

impl PostgresView<'_> {
    fn connection(&self, connection: &Resource<Connection>) -> Result<Connection, Error> {
        self.table.get(connection).cloned().map_err(|_| Error::ConnectionFailed("no connection found".to_owned()))
    }

    fn keep(&mut self, connection: Connection) -> Result<Resource<Connection>, Error> {
        self.table.push(connection).map_err(|_| Error::ConnectionFailed("too many connections".to_owned()))
    }
}

impl Host for PostgresView<'_> {}

/// The functions of version 4.0, which block the instance until they return.
impl HostConnection for PostgresView<'_> {
    async fn open(&mut self, address: String) -> Result<Resource<Connection>, Error> {
        let connection = self.shared.open(&address).await?;
        self.keep(connection)
    }

    async fn query(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<RowSet, Error> {
        let (rows, ended) = self.shared.query(&*self.connection(&connection)?, &statement, &parameters).await?;
        ended?;
        if rows.is_empty() && self.shared.faults.empty_query_hangs() {
            std::future::pending::<()>().await;
        }
        values::row_set(&rows).map_err(unreadable)
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<u64, Error> {
        self.shared.execute(&*self.connection(&connection)?, &statement, &parameters).await
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        drop(self.table.delete(connection)?);
        if self.shared.faults.takes_trap() {
            return Err(wasmtime::format_err!("an injected trap"));
        }
        Ok(())
    }
}

type Rows = (Vec<Column>, StreamReader<Vec<DbValue>>, FutureReader<Result<(), Error>>);

/// The functions of version 4.2, which are asynchronous.
impl<T: Send + 'static> HostConnectionWithStore<T> for HasPostgres {
    async fn open_async(accessor: &Accessor<T, Self>, address: String) -> Result<Resource<Connection>, Error> {
        let shared = accessor.with(|mut access| access.get().shared.clone());
        let connection = shared.open(&address).await?;
        accessor.with(|mut access| access.get().keep(connection))
    }

    async fn query_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<Rows, Error> {
        let (shared, connection) = connection_of(accessor, &connection)?;
        let (rows, ended) = shared.query(&connection, &statement, &parameters).await?;
        let RowSet { columns, rows } = values::row_set(&rows).map_err(unreadable)?;
        let readers = accessor.with(|mut access| {
            let ended = FutureReader::new(&mut access, async { wasmtime::error::Ok(ended) })?;
            wasmtime::error::Ok((StreamReader::new(&mut access, rows)?, ended))
        });
        let (rows, ended) = readers.map_err(|error| Error::Other(error.to_string()))?;
        Ok((columns, rows, ended))
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<u64, Error> {
        let (shared, connection) = connection_of(accessor, &connection)?;
        shared.execute(&connection, &statement, &parameters).await
    }
}

/// The host's PostgreSQL, and this connection of an instance.
fn connection_of<T>(
    accessor: &Accessor<T, HasPostgres>,
    connection: &Resource<Connection>,
) -> Result<(Arc<Postgres>, Connection), Error> {
    accessor.with(|mut access| {
        let view = access.get();
        Ok((view.shared.clone(), view.connection(connection)?))
    })
}

fn unreadable(error: anyhow::Error) -> Error {
    Error::QueryFailed(QueryError::Text(format!("{error:?}")))
}

async fn collected(stream: RowStream, rows: &mut Vec<Row>) -> Result<(), tokio_postgres::Error> {
    let mut stream = pin!(stream);
    while let Some(row) = stream.try_next().await? {
        rows.push(row);
    }
    Ok(())
}

fn to_sql(parameters: &[ParameterValue]) -> Result<Vec<Box<dyn ToSql + Send + Sync>>, String> {
    parameters.iter().map(values::to_sql).collect::<anyhow::Result<_>>().map_err(|error| format!("{error:?}"))
}

fn borrowed(parameters: &[Box<dyn ToSql + Send + Sync>]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync)).collect()
}

/// Only an error from the server has a SQLSTATE; a broken connection is plain text.
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
