//! The API's description: it is served, and the service conforms to it.

use crate::helpers::*;
use crate::oracle::days_since_1970;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A day after all dates that the description allows, so that none may be refused.
const AFTER_EVERY_DATE: (i64, u32, u32) = (10_000, 1, 1);

/// The file that the component contains.
const DESCRIPTION: &str = include_str!("../../../openapi.json");

#[tokio::test]
async fn the_description_is_served_as_it_is_in_the_project() {
    let directory = temporary_directory();
    let database = database(&directory, Ipv4Addr::LOCALHOST).await.unwrap();
    let service = Service::start(database.variables("dob_api")).await;
    let answer = service.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.body, DESCRIPTION);
    assert!(answer.json()["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_does_what_the_description_says() {
    let directory = temporary_directory();
    let database = database(&directory, Ipv4Addr::LOCALHOST).await.unwrap();
    let service = Service::ready(database.variables("dob_api")).await;
    service.clock.set_day(days_since_1970(AFTER_EVERY_DATE));
    let mut schemathesis = Command::new(schemathesis());
    schemathesis.arg("run").arg(format!("{}/openapi.json", service.server.url()));
    schemathesis.args(["--no-color", "--seed=1", "--generation-database=none"]);
    schemathesis.args(["--checks=all", "--mode=all", "--max-examples=100", "--continue-on-failure"]);
    // It writes its cache into its working directory.
    schemathesis.current_dir(directory.path());
    let output = tokio::task::block_in_place(|| schemathesis.output()).expect("schemathesis is executable");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}\n{}", String::from_utf8_lossy(&output.stderr), service.log());
}

/// The checker, a Python program: from the environment, or where `make test` installs it.
fn schemathesis() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/schemathesis");
    let path = std::env::var_os("SCHEMATHESIS").map_or(installed, PathBuf::from);
    assert!(path.exists(), "schemathesis is missing: `make test` installs it");
    path
}
