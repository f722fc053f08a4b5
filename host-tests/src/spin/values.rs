//! Values between PostgreSQL and WIT, with Spin's quirks. Decimals and ranges are left out and refused in words.

use super::bindings::spin::postgres::postgres::{Column, DbDataType, DbValue, ParameterValue, RowSet};
use anyhow::{Context, Result, bail};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use std::error::Error;
use tokio_postgres::Row;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// A parameter for PostgreSQL; its type must be the one that the statement expects.
pub fn to_sql(value: &ParameterValue) -> Result<Box<dyn ToSql + Send + Sync>> {
    Ok(match value {
        ParameterValue::Boolean(value) => Box::new(*value),
        ParameterValue::Int8(value) => Box::new(*value),
        ParameterValue::Int16(value) => Box::new(*value),
        ParameterValue::Int32(value) => Box::new(*value),
        ParameterValue::Int64(value) => Box::new(*value),
        ParameterValue::Floating32(value) => Box::new(*value),
        ParameterValue::Floating64(value) => Box::new(*value),
        ParameterValue::Str(value) => Box::new(value.clone()),
        ParameterValue::Binary(value) => Box::new(value.clone()),
        ParameterValue::Date(value) => Box::new(date(*value)?),
        ParameterValue::Time(value) => Box::new(time(*value)?),
        ParameterValue::Datetime((y, mo, d, h, mi, s, ns)) => {
            Box::new(date((*y, *mo, *d))?.and_time(time((*h, *mi, *s, *ns))?))
        }
        ParameterValue::Timestamp(seconds) => {
            Box::new(DateTime::from_timestamp(*seconds, 0).with_context(|| format!("invalid timestamp {seconds}"))?)
        }
        ParameterValue::Uuid(value) => Box::new(uuid::Uuid::parse_str(value)?),
        ParameterValue::Jsonb(value) => Box::new(serde_json::from_slice::<serde_json::Value>(value)?),
        ParameterValue::ArrayInt32(values) => Box::new(values.clone()),
        ParameterValue::ArrayInt64(values) => Box::new(values.clone()),
        ParameterValue::ArrayStr(values) => Box::new(values.clone()),
        ParameterValue::DbNull => Box::new(Null),
        ParameterValue::Decimal(_)
        | ParameterValue::ArrayDecimal(_)
        | ParameterValue::RangeInt32(_)
        | ParameterValue::RangeInt64(_)
        | ParameterValue::RangeDecimal(_)
        | ParameterValue::Interval(_) => bail!("the test host does not imitate {value:?}"),
    })
}

/// The rows with their columns; no columns where there are no rows.
pub fn row_set(rows: &[Row]) -> Result<RowSet> {
    let columns = rows.first().map(columns).unwrap_or_default();
    let rows = rows.iter().map(|row| (0..row.len()).map(|index| value(row, index)).collect());
    Ok(RowSet { columns, rows: rows.collect::<Result<_>>()? })
}

fn columns(row: &Row) -> Vec<Column> {
    let column = |column: &tokio_postgres::Column| Column {
        name: column.name().to_owned(),
        data_type: data_type(column.type_()),
    };
    row.columns().iter().map(column).collect()
}

fn data_type(kind: &Type) -> DbDataType {
    match *kind {
        Type::BOOL => DbDataType::Boolean,
        Type::BYTEA => DbDataType::Binary,
        Type::FLOAT4 => DbDataType::Floating32,
        Type::FLOAT8 => DbDataType::Floating64,
        Type::INT2 => DbDataType::Int16,
        Type::INT4 => DbDataType::Int32,
        Type::INT8 => DbDataType::Int64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => DbDataType::Str,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => DbDataType::Datetime,
        Type::DATE => DbDataType::Date,
        Type::TIME => DbDataType::Time,
        Type::UUID => DbDataType::Uuid,
        Type::JSONB => DbDataType::Jsonb,
        Type::INT4_ARRAY => DbDataType::ArrayInt32,
        Type::INT8_ARRAY => DbDataType::ArrayInt64,
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => DbDataType::ArrayStr,
        _ => DbDataType::Other(kind.name().to_owned()),
    }
}

fn value(row: &Row, index: usize) -> Result<DbValue> {
    match *row.columns()[index].type_() {
        Type::BOOL => get(row, index, DbValue::Boolean),
        Type::BYTEA => get(row, index, DbValue::Binary),
        Type::FLOAT4 => get(row, index, DbValue::Floating32),
        Type::FLOAT8 => get(row, index, DbValue::Floating64),
        Type::INT2 => get(row, index, DbValue::Int16),
        Type::INT4 => get(row, index, DbValue::Int32),
        Type::INT8 => get(row, index, DbValue::Int64),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => get(row, index, DbValue::Str),
        // Read as a time without zone, which TIMESTAMPTZ never converts to: Spin's fault.
        Type::TIMESTAMP | Type::TIMESTAMPTZ => get(row, index, |value: NaiveDateTime| {
            let ((y, mo, d), (h, mi, s, ns)) = (date_parts(value.date()), time_parts(value.time()));
            DbValue::Datetime((y, mo, d, h, mi, s, ns))
        }),
        Type::DATE => get(row, index, |value| DbValue::Date(date_parts(value))),
        Type::TIME => get(row, index, |value| DbValue::Time(time_parts(value))),
        Type::UUID => get(row, index, |value: uuid::Uuid| DbValue::Uuid(value.to_string())),
        Type::JSONB => get(row, index, |value: serde_json::Value| DbValue::Jsonb(value.to_string().into_bytes())),
        Type::INT4_ARRAY => get(row, index, DbValue::ArrayInt32),
        Type::INT8_ARRAY => get(row, index, DbValue::ArrayInt64),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => get(row, index, DbValue::ArrayStr),
        Type::NUMERIC
        | Type::NUMERIC_ARRAY
        | Type::INT4_RANGE
        | Type::INT8_RANGE
        | Type::NUM_RANGE
        | Type::INTERVAL => {
            bail!("the test host does not imitate {}", row.columns()[index].type_())
        }
        _ => get(row, index, |Raw(bytes)| DbValue::Unsupported(bytes)),
    }
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize, value: impl Fn(T) -> DbValue) -> Result<DbValue> {
    Ok(row.try_get::<_, Option<T>>(index)?.map_or(DbValue::DbNull, value))
}

fn date((year, month, day): (i32, u8, u8)) -> Result<NaiveDate> {
    NaiveDate::from_ymd_opt(year, month.into(), day.into())
        .with_context(|| format!("invalid date y={year}, m={month}, d={day}"))
}

fn time((hour, minute, second, nanosecond): (u8, u8, u8, u32)) -> Result<NaiveTime> {
    NaiveTime::from_hms_nano_opt(hour.into(), minute.into(), second.into(), nanosecond)
        .with_context(|| format!("invalid time {hour}:{minute}:{second}:{nanosecond}"))
}

fn date_parts(date: NaiveDate) -> (i32, u8, u8) {
    (date.year(), date.month() as u8, date.day() as u8)
}

fn time_parts(time: NaiveTime) -> (u8, u8, u8, u32) {
    (time.hour() as u8, time.minute() as u8, time.second() as u8, time.nanosecond())
}

/// NULL of any type.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The bytes of a value whose type has no mapping.
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
