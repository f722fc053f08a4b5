//! Restarts under load lose no acknowledged date.

use crate::helpers::*;
use dob_clients::history::{Findings, TODAY, stored, stored_query};
use dob_clients::load::{LoadGenerator, LoadProfile, Workload};
use dob_postgresql::Shutdown;
use std::time::Duration;
use tokio::sync::watch;

const CLIENTS: usize = 32;
const LOAD: Duration = Duration::from_secs(60);
const RESTARTS: u32 = 3;

#[test]
fn every_acknowledged_date_is_there_after_three_restarts_under_load() {
    let mut app = TestApp::new();
    let TestApp { runtime, service, database, .. } = &mut app;
    runtime.block_on(async {
        // On this day a greeting reveals the version of its date.
        service.clock.set_day(TODAY.to_epoch_days().into());
        let (route, _) = watch::channel(service.server.address);
        let profile = LoadProfile {
            today: TODAY,
            clients: CLIENTS,
            first: 0,
            pace: Duration::from_millis(5),
            pace_after_failure: Duration::from_millis(5),
            gives_up_after: HANGS_AFTER,
            keeps_connection: None,
            workload: Workload::SaveAndGreet,
        };
        let load = LoadGenerator::start(&profile, &route);
        for restart in 0..RESTARTS {
            load.run_for(LOAD / (RESTARTS + 1)).await;
            database.stop(if restart == 1 { Shutdown::Crash } else { Shutdown::Orderly }).unwrap();
            database.start().await.unwrap();
        }
        load.run_for(LOAD / (RESTARTS + 1)).await;
        let history = load.stop().await;
        let superuser = database.client("dob_api").await.unwrap();
        let rows = superuser.query(&stored_query(), &[]).await.unwrap();
        let stored = stored(rows.iter().map(|row| row.get(0))).unwrap();
        let findings = Findings::of(&history, &stored);
        println!(
            "{} dates acknowledged, {} lost, {:?} refused",
            findings.acknowledged,
            findings.lost.len(),
            findings.errors
        );
        assert!(findings.acknowledged >= CLIENTS, "{findings:?}");
        assert!(findings.lost.is_empty() && findings.stale_greetings == 0, "{findings:?}");
        assert!(findings.slowest < ANSWER_WITHIN, "{findings:?}");
        assert!(findings.errors.keys().all(|error| error == "503"), "{findings:?}");
        service.assert_serves().await;
    });
}
