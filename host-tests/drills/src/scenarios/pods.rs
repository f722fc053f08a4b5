//! The confinement of pods, and faults in pods.

use crate::cluster::{API, ClusterEnvironment, PODS};
use crate::outcome::Outcome;
use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The expected fields of the serving process's status.
const CONFINED: [(&str, &str); 5] = [
    // Only DAC_OVERRIDE.
    ("CapEff", "0000000000000002"),
    ("CapPrm", "0000000000000002"),
    ("Seccomp", "2"),
    ("NoNewPrivs", "1"),
    ("Uid", "65532\t65532\t65532\t65532"),
];
/// How long a frozen pod may still get new connections.
const OUT_WITHIN: Duration = Duration::from_secs(15);
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// More than a pod's maximum of instances.
const SLOW_BODIES: usize = 1050;
/// How many of them a pod takes at least. If it took fewer, its maximum of 1,000 instances was not tried.
const TAKEN_AT_LEAST: usize = 990;
const SLOW_BODY_ENDS_WITHIN: Duration = Duration::from_secs(30);
/// How long a save may take to succeed once the slow bodies are refused.
const SAVED_WITHIN: Duration = Duration::from_secs(2);
const CUT_OFF_FOR: Duration = Duration::from_secs(90);

/// Checks the rights of the process in each serving pod.
pub async fn confined(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    for (pod, node) in environment.serving_pods()? {
        let status = node.status_of(&node.process_of(pod)?)?;
        for (field, wanted) in CONFINED {
            let found = status.get(field).with_context(|| format!("the process's status has no {field}"))?;
            ensure!(found == wanted, "the process of {pod} has {field} {found}, not {wanted}");
        }
    }
    Ok(Outcome::noted("one capability, DAC_OVERRIDE; user 65532, seccomp, no new privileges"))
}

/// Spin is frozen in one pod, as if it hung.
pub async fn frozen(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let (pod, node) = environment.any_serving_pod()?;
    let process = node.process_of(pod)?;
    traffic.mark(&format!("Spin stopped in {pod}"));
    let started = Instant::now();
    node.signal(&process, "STOP")?;
    let out = environment.until_out_of_service(|other| other == pod).await?;
    traffic.mark("out of the load balancer");
    environment.until_healthy().await?;
    let back = started.elapsed();
    traffic.mark("three pods serve");
    let outcome = environment.judge(traffic).await?;
    ensure!(out <= OUT_WITHIN, "the pod got new connections for {out:?}, but the limit is {OUT_WITHIN:?}");
    ensure!(back <= BACK_WITHIN, "the pod was missing for {back:?}, but the limit is {BACK_WITHIN:?}");
    Ok(outcome.with_note(format!(
        "out of the load balancer after {} s, serving again after {} s",
        out.as_secs(),
        back.as_secs()
    )))
}

/// Somebody deletes the Deployment.
pub async fn deployment_deleted(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("the Deployment deleted");
    let old = environment.serving_pods()?;
    environment.kubectl(&["delete", "deployment", API, "--wait=false"])?;
    environment.until_out_of_service(|pod| old.iter().any(|(one, _)| *one == pod)).await?;
    environment.until_healthy().await?;
    traffic.mark("three new pods serve");
    environment.judge(traffic).await
}

/// Somebody deletes the SpinApp and rolls it out again.
pub async fn spin_app_deleted(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("the SpinApp deleted");
    environment.kubectl(&["delete", "spinapp", API])?;
    environment.roll_out_again().await?;
    traffic.mark("rolled out again");
    environment.judge(traffic).await
}

/// A client sends more slow bodies to one pod than it has instances.
pub async fn slow_bodies(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let (pod, _) = environment.any_serving_pod()?;
    send_slow_bodies(environment, &[pod]).await
}

/// The same, to every pod.
pub async fn slow_bodies_everywhere(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let pods: Vec<IpAddr> = environment.serving_pods()?.into_iter().map(|(pod, _)| pod).collect();
    send_slow_bodies(environment, &pods).await
}

async fn send_slow_bodies(environment: &ClusterEnvironment, pods: &[IpAddr]) -> Result<Outcome> {
    let before = environment.cluster.restarts().await?;
    let traffic = environment.traffic().await;
    traffic.mark(&format!("{SLOW_BODIES} slow bodies to {} pods", pods.len()));
    let clients = pods.iter().flat_map(|pod| (0..SLOW_BODIES).map(|_| slow_body(*pod)));
    let given_up = join_all(clients).await.into_iter().filter(|answer| answer.starts_with("HTTP/1.1 408 ")).count();
    traffic.mark("the slow bodies are refused");
    let (sent, needed) = (pods.len() * SLOW_BODIES, pods.len() * TAKEN_AT_LEAST);
    ensure!(given_up >= needed, "{given_up} of {sent} bodies got 408, but {needed} must: were all connections opened?");
    let took = traffic.until_saved().await?;
    ensure!(took <= SAVED_WITHIN, "a save succeeded only {took:?} after the slow bodies were refused");
    environment.until_healthy().await?;
    let outcome = environment.judge(traffic).await?;
    let after = environment.cluster.restarts().await?;
    ensure!(after == before, "pods were restarted or replaced: {before:?} before, {after:?} after");
    Ok(outcome.with_note(format!("{given_up} of {sent} bodies got 408")))
}

/// Sends the beginning of a body, and returns the answer when the connection is closed.
async fn slow_body(pod: IpAddr) -> String {
    let mut answer = String::new();
    let talk = async {
        let mut stream = TcpStream::connect((pod, 80)).await?;
        stream.write_all(b"PUT /hello/slow HTTP/1.1\r\nhost: pod\r\ncontent-length: 28\r\n\r\n{").await?;
        stream.read_to_string(&mut answer).await
    };
    // A timeout leaves the answer empty, so that it does not count as 408.
    let _ = timeout(SLOW_BODY_ENDS_WITHIN, talk).await;
    answer
}

/// More load than three pods can serve, and less again.
pub async fn autoscaled(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let load = environment.heavy_load();
    traffic.mark("heavy load");
    environment.until_serving(PODS + 1).await?;
    traffic.mark("four pods serve");
    load.stop().await;
    traffic.mark("heavy load ended");
    environment.until_serving(PODS).await?;
    environment.until_healthy().await?;
    traffic.mark("three pods serve");
    environment.judge(traffic).await
}

/// All nodes are cut off from the control plane.
pub async fn control_plane_cut_off(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("nodes cut off from the control plane");
    environment.cluster.cut_off_control_plane()?;
    traffic.run_for(CUT_OFF_FOR).await;
    environment.cluster.reconnect_control_plane()?;
    traffic.mark("reconnected");
    environment.until_healthy().await?;
    traffic.mark("three pods serve");
    environment.judge(traffic).await
}
