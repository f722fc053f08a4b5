//! A rolling update on this machine: pods are processes of the test host, which ends at once on SIGTERM as Spin does, each
//! on an address of its own behind a real balancer of connections. How they are replaced, probed, drained and killed is
//! read out of the rendered manifests; `deployment` and `pod` do with it what Kubernetes does.

#[path = "../helpers/mod.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod helpers;

mod balancer;
mod deployment;
mod manifests;
mod pod;

use balancer::Balancer;
use deployment::Deployment;
use dob_clients::history::{Findings, stored, stored_query};
use dob_clients::load::{Load, Plan, Workload};
use dob_postgresql::Database;
use helpers::{HostProcess, client, database, directory};
use manifests::Manifests;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;

/// The versions that are rolled out: what tells them apart is what their pods are started with.
const FIRST: usize = 0;
const SECOND: usize = 1;
const BROKEN: usize = 2;
const THIRD: usize = 3;

/// A database with its schema made, a balancer, and the first version serving behind it.
struct World {
    deployment: Deployment,
    balancer: Arc<Balancer>,
    database: Database,
    _directory: TempDir,
}

impl World {
    async fn start(manifests: Manifests) -> Self {
        let scratch = directory();
        let database = database(&scratch, Ipv4Addr::LOCALHOST).await.unwrap();
        let mut variables = database.variables("dob_api");
        make_schema(variables.clone()).await;
        // As in the cluster: the pods that serve can't make what is missing.
        variables.retain(|name, _| !name.starts_with("pg_admin"));
        let broken = [("pg_password".to_owned(), "wrong".to_owned())];
        let broken: BTreeMap<_, _> = variables.clone().into_iter().chain(broken).collect();
        let versions = vec![variables.clone(), variables.clone(), broken, variables];
        let balancer = Arc::new(Balancer::start(&scratch, &manifests).await.unwrap());
        let mut deployment = Deployment::new(manifests, versions, balancer.clone(), scratch.path().join("pods.log"));
        deployment.roll_out(FIRST).await.expect("the first version gets ready");
        Self { deployment, balancer, database, _directory: scratch }
    }

    /// Loads the service while `story` is told, and judges what the clients saw.
    async fn under_load(&mut self, story: impl AsyncFnOnce(&mut Deployment)) -> Findings {
        let (route, _) = watch::channel(self.balancer.address);
        let plan = Plan {
            clients: 32,
            first: 0,
            pace: Duration::from_millis(100),
            pace_after_failure: Duration::from_millis(100),
            gives_up_after: Duration::from_secs(10),
            // As long as a balancer keeps the connections of a target that is leaving.
            keeps_connection: Some(self.deployment.manifests.deregistration_delay),
            workload: Workload::SaveAndGreet,
        };
        let load = Load::start(&plan, &route);
        story(&mut self.deployment).await;
        self.deployment.settle().await;
        let history = load.stop().await;
        let rows = self.database.client("dob_api").await.unwrap().query(&stored_query(), &[]).await.unwrap();
        let findings = Findings::of(&history, &stored(rows.iter().map(|row| row.get(0))).unwrap());
        println!("{} calls, failed: {:?}", history.len(), findings.errors);
        // Pods have the real clock, by which a greeting does not tell its date, only that there is one.
        assert!(findings.lost.is_empty() && findings.unknown == 0, "{findings:?}");
        findings
    }
}

/// What the pod with the administrator's password does: its readiness probe.
async fn make_schema(variables: BTreeMap<String, String>) {
    let host = HostProcess::start(variables, &[]);
    let answer = client().get(format!("http://{}/readyz", host.address)).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_rollouts_one_of_them_broken_fail_no_request() {
    let mut world = World::start(Manifests::of("primary")).await;
    let findings = world
        .under_load(async |deployment| {
            deployment.roll_out(SECOND).await.expect("the second version gets ready");
            deployment.roll_out(BROKEN).await.expect_err("a version that can't reach its database never gets ready");
            deployment.roll_out(SECOND).await.expect("what served before the broken version goes on serving");
            deployment.roll_out(THIRD).await.expect("the third version gets ready");
        })
        .await;
    assert!(findings.errors.is_empty(), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_pre_stop_sleep_a_rollout_fails_requests() {
    let manifests = Manifests { pre_stop: None, ..Manifests::of("primary") };
    let mut world = World::start(manifests).await;
    let findings = world
        .under_load(async |deployment| deployment.roll_out(SECOND).await.expect("the second version gets ready"))
        .await;
    assert!(!findings.errors.is_empty(), "{findings:?}");
}
