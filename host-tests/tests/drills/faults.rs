use crate::world::{Row, World};
use anyhow::{Result, bail};
pub async fn replica_lost(_: &mut World) -> Result<Row> { bail!("todo") }
pub async fn witness_lost(_: &mut World) -> Result<Row> { bail!("todo") }
pub async fn etcd_lost(_: &mut World) -> Result<Row> { bail!("todo") }
pub async fn disk_full(_: &mut World) -> Result<Row> { bail!("todo") }
pub async fn replica_lagging(_: &mut World) -> Result<Row> { bail!("todo") }
pub async fn packets_dropped(_: &mut World) -> Result<Row> { bail!("todo") }
pub async fn password_rotated(_: &mut World) -> Result<Row> { bail!("todo") }
pub async fn node_replaced(_: &mut World) -> Result<Row> { bail!("todo") }
