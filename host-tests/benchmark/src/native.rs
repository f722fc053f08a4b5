//! A native server on axum with cached statements, for comparison.
//!
//! Validation, texts and SQL are the component's, so that only the runtime differs.

use anyhow::{Context, Result};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::Uri;
use axum::response::Response;
use axum::{Router, routing::get};
use chrono::{DateTime, Datelike, NaiveDate};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use dob_api::domain::{DateOfBirth, Username, birthday};
use dob_api::http::{Answer, Greeting, MAX_BODY_BYTES, Problem, Route, date_of_birth_text, json, no_content};
use dob_spin::VARIABLE_PREFIX;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio_postgres::NoTls;

/// The component's statement; the benchmark fails if they differ.
pub const FIND: &str = include_str!("../floors/find.sql");
/// The component's statement; the benchmark fails if they differ.
pub const SAVE: &str = include_str!("../floors/save.sql");

/// The size of Spin's pool.
const POOL_SIZE: usize = 64;

/// Serves on a free port, which it prints, until the process ends.
pub async fn serve() -> Result<()> {
    let address = std::env::var(format!("{VARIABLE_PREFIX}PG_ADDRESS")).context("no address of PostgreSQL")?;
    // "Fast" is the pool's default: it does not query the server.
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(address.parse()?, NoTls, recycling);
    let pool = Pool::builder(manager).max_size(POOL_SIZE).build()?;
    let limit = DefaultBodyLimit::max(MAX_BODY_BYTES);
    let router = Router::new().route("/hello/{username}", get(greet).put(save)).layer(limit).with_state(pool);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("Serving http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}

async fn greet(State(pool): State<Pool>, uri: Uri) -> Response {
    response(find(&pool, &uri).await.unwrap_or_else(Answer::from))
}

async fn save(State(pool): State<Pool>, uri: Uri, body: Bytes) -> Response {
    response(store(&pool, &uri, &body).await.unwrap_or_else(Answer::from))
}

async fn find(pool: &Pool, uri: &Uri) -> Result<Answer, Problem> {
    let user = username(uri)?;
    let connection = connection(pool).await?;
    let find = connection.prepare_cached(FIND).await.map_err(unavailable)?;
    let row = connection.query_one(&find, &[&user.key()]).await.map_err(unavailable)?;
    let stored: Option<NaiveDate> = row.try_get(0).map_err(unavailable)?;
    let born = stored.and_then(|date| DateOfBirth::stored(date.year(), date.month(), date.day()));
    let born = born.ok_or_else(|| Problem::not_found("No date of birth is saved for this username."))?;
    Ok(json(&Greeting { message: birthday::greeting(&user, born, today()) }))
}

async fn store(pool: &Pool, uri: &Uri, body: &[u8]) -> Result<Answer, Problem> {
    let user = username(uri)?;
    let text = date_of_birth_text(body).map_err(Problem::bad_request)?;
    let (year, month, day) = DateOfBirth::parse(&text, today()).map_err(Problem::bad_request)?.year_month_day();
    let date = NaiveDate::from_ymd_opt(year, month, day);
    let connection = connection(pool).await?;
    let save = connection.prepare_cached(SAVE).await.map_err(unavailable)?;
    connection.execute(&save, &[&user.key(), &date]).await.map_err(unavailable)?;
    Ok(no_content())
}

/// Parses the username from the raw path, as the component does.
fn username(uri: &Uri) -> Result<Username, Problem> {
    match Route::parse(uri.path()) {
        Some(Route::Hello(segment)) => Username::parse(segment).map_err(Problem::bad_request),
        _ => Err(Problem::not_found("There is nothing here.")),
    }
}

async fn connection(pool: &Pool) -> Result<Object, Problem> {
    pool.get().await.map_err(unavailable)
}

fn unavailable(error: impl std::fmt::Display) -> Problem {
    eprintln!("{error}");
    Problem::unavailable("The database can't be reached or can't do this now; try again.")
}

fn today() -> NaiveDate {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    DateTime::from_timestamp(seconds as i64, 0).unwrap_or_default().date_naive()
}

fn response(answer: Answer) -> Response {
    answer.map(Body::from)
}
