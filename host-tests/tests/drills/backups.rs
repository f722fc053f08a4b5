use crate::world::{Row, World};
use anyhow::{Result, bail};
pub async fn restore(_: &mut World) -> Result<Row> { bail!("todo") }
pub async fn damaged(_: &mut World) -> Result<Row> { bail!("todo") }
