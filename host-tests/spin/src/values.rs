//! Conversion of values between PostgreSQL and WIT. Types that this project's components don't use are errors.

use crate::bindings::spin::postgres::postgres::{Column, DbDataType, DbValue, ParameterValue, RowSet};
use anyhow::{Context, Result, bail};
use chrono::{Datelike, NaiveDate};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};

/// A parameter for PostgreSQL. Its type must match the statement's.
pub fn to_sql(value: &ParameterValue) -> Result<Box<dyn ToSql + Send + Sync>> {
    Ok(match value {
        ParameterValue::Str(value) => Box::new(value.clone()),
        ParameterValue::Date((year, month, day)) => Box::new(
            NaiveDate::from_ymd_opt(*year, (*month).into(), (*day).into())
                .with_context(|| format!("invalid date y={year}, m={month}, d={day}"))?,
        ),
        _ => bail!("the test host does not imitate {value:?}"),
    })
}

/// The rows with their columns; without rows there are no columns.
pub fn row_set(rows: &[Row]) -> Result<RowSet> {
    let columns = rows.first().map(columns).transpose()?.unwrap_or_default();
    let rows = rows.iter().map(|row| (0..row.len()).map(|index| value(row, index)).collect());
    Ok(RowSet { columns, rows: rows.collect::<Result<_>>()? })
}

fn columns(row: &Row) -> Result<Vec<Column>> {
    let column = |column: &tokio_postgres::Column| {
        Ok(Column { name: column.name().to_owned(), data_type: data_type(column.type_())? })
    };
    row.columns().iter().map(column).collect()
}

fn data_type(kind: &Type) -> Result<DbDataType> {
    Ok(match *kind {
        Type::BOOL => DbDataType::Boolean,
        Type::DATE => DbDataType::Date,
        Type::INT4 => DbDataType::Int32,
        Type::TEXT => DbDataType::Str,
        _ => bail!("the test host does not imitate {kind}"),
    })
}

fn value(row: &Row, index: usize) -> Result<DbValue> {
    match data_type(row.columns()[index].type_())? {
        DbDataType::Boolean => get(row, index, DbValue::Boolean),
        DbDataType::Int32 => get(row, index, DbValue::Int32),
        DbDataType::Str => get(row, index, DbValue::Str),
        _ => get(row, index, |date: NaiveDate| DbValue::Date((date.year(), date.month() as u8, date.day() as u8))),
    }
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize, value: impl Fn(T) -> DbValue) -> Result<DbValue> {
    Ok(row.try_get::<_, Option<T>>(index)?.map_or(DbValue::DbNull, value))
}
