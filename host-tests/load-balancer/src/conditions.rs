//! Writes each target's health into its pod, as the condition that the pod's readiness gate waits for.

use crate::kubernetes::Endpoint;
use crate::report::{ReportOnce, cause};
use crate::targets::{State, Target};
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The deadline of a request to the API server.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before a failed update is repeated.
const PAUSE: Duration = Duration::from_secs(1);

/// The condition that a pod with a readiness gate should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub endpoint: Endpoint,
    pub gate: String,
    pub target: Target,
}

/// Writes conditions, and remembers the last one of each pod, by the pod's id.
struct ConditionWriter {
    client: kube::Client,
    told: BTreeMap<String, Told>,
}

struct Told {
    notice: Notice,
    /// When the condition got its current status.
    since: Timestamp,
}

/// Writes changed conditions, and repeats failed updates, until the sender of notices is gone.
pub(crate) async fn tell_pods(client: kube::Client, mut notices: watch::Receiver<Vec<Notice>>) {
    let (mut writer, mut report) = (ConditionWriter { client, told: BTreeMap::new() }, ReportOnce::default());
    while notices.changed().await.is_ok() {
        loop {
            let newest = notices.borrow_and_update().clone();
            if !report.about("can't tell a pod its health", writer.tell(&newest).await) {
                break;
            }
            sleep(PAUSE).await;
        }
    }
}

impl ConditionWriter {
    /// Updates every pod whose condition has changed, even if one of the updates fails.
    async fn tell(&mut self, notices: &[Notice]) -> Result<()> {
        self.told.retain(|uid, _| notices.iter().any(|notice| notice.endpoint.uid == *uid));
        let mut told = Ok(());
        for notice in notices {
            let Endpoint { namespace, pod, .. } = &notice.endpoint;
            let this = self.tell_one(notice).await.with_context(|| format!("{namespace}/{pod}"));
            told = told.and(this);
        }
        told
    }

    async fn tell_one(&mut self, notice: &Notice) -> Result<()> {
        let told = self.told.get(&notice.endpoint.uid);
        if told.is_some_and(|told| told.notice == *notice) {
            return Ok(());
        }
        let same_status = told.filter(|told| status(&told.notice.target) == status(&notice.target));
        let since = same_status.map_or_else(Timestamp::now, |told| told.since);
        let Endpoint { namespace, pod, uid, .. } = &notice.endpoint;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let (parameters, patch) = (PatchParams::default(), Patch::Strategic(patch(notice, since)));
        let patched = timeout(PATIENCE, pods.patch_status(pod, &parameters, &patch)).await;
        match patched.with_context(|| format!("no answer within {PATIENCE:?}"))? {
            // A pod that is gone, or was replaced by one with its name, needs no update.
            Err(kube::Error::Api(error)) if error.code == 404 || error.code == 409 => {}
            patched => drop(patched.map_err(cause)?),
        }
        self.told.insert(uid.clone(), Told { notice: notice.clone(), since });
        Ok(())
    }
}

fn status(target: &Target) -> &'static str {
    if target.state == State::Healthy { "True" } else { "False" }
}

fn patch(Notice { endpoint, gate, target }: &Notice, since: Timestamp) -> Value {
    let reason = (!target.reason.is_empty()).then_some(target.reason);
    let message = (!target.description.is_empty()).then_some(&target.description);
    json!({
        "metadata": {"uid": endpoint.uid},
        "status": {"conditions": [{
            "type": gate,
            "status": status(target),
            // A field that is null is removed.
            "reason": reason,
            "message": message,
            "lastTransitionTime": since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }]},
    })
}
