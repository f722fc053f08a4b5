//! Tells pods how the load balancer finds them: the condition that their readiness gate waits for.

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

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until a pod is told again that could not be told.
const PAUSE: Duration = Duration::from_secs(1);

/// A pod with a readiness gate, and what it is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub endpoint: Endpoint,
    pub gate: String,
    pub target: Target,
}

/// What pods were told last, by their ids.
struct ConditionWriter {
    client: kube::Client,
    told: BTreeMap<String, Told>,
}

struct Told {
    notice: Notice,
    /// When the condition's status became what it is.
    since: Timestamp,
}

/// Tells pods what is new, and those that could not be told again and again, until nobody has notices any more.
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
    /// Tells all that do not know yet, the others too where one can't be told.
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
            // A pod that is gone, or another one of its name, needs no news.
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
            // What is null is removed.
            "reason": reason,
            "message": message,
            "lastTransitionTime": since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }]},
    })
}
