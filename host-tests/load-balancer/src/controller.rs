//! Registers Kubernetes' endpoints as targets, and reports the targets' health to their pods.

use crate::conditions::{Notice, tell_pods};
use crate::data_plane::{DataPlane, publish};
use crate::kubernetes::{TargetGroupBinding, View, target_group_bindings};
use crate::report::{ReportOnce, cause};
use crate::settings::Settings;
use crate::targets::Target;
use anyhow::{Context, Result};
use dob_support::eventually;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, reflector};
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long Kubernetes may take to list its objects.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before the API server is asked again; on AWS the controller waits for up to half a minute.
const PAUSE: Duration = Duration::from_secs(1);

/// A cluster's load balancer. Dropping it ends it and every connection through it.
pub struct LoadBalancer {
    data_plane: DataPlane,
    /// The background tasks, which end with this.
    _tasks: JoinSet<()>,
}

impl LoadBalancer {
    /// Starts a load balancer on an address, with its files in an existing directory. Its targets are the pods of all TargetGroupBindings
    /// in the cluster, which must have that resource definition.
    pub async fn start(client: Client, directory: &Path, listen: SocketAddr, settings: Settings) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let copies = Copies::start(&client, &mut tasks).await?;
        let data_plane = DataPlane::start(directory, listen, settings).await?;
        let (notices, news) = watch::channel(Vec::new());
        tasks.spawn(tell_pods(client, news));
        tasks.spawn(follow(copies, data_plane.endpoints(), data_plane.targets(), notices));
        Ok(Self { data_plane, _tasks: tasks })
    }

    /// The current targets.
    pub fn targets(&self) -> Vec<Target> {
        self.data_plane.targets().borrow().clone()
    }
}

/// Registers the pods of the bindings, and publishes notices of their health.
async fn follow(
    copies: Copies,
    registered: watch::Sender<BTreeSet<SocketAddr>>,
    mut targets: watch::Receiver<Vec<Target>>,
    notices: watch::Sender<Vec<Notice>>,
) {
    loop {
        let endpoints = copies.view().endpoints();
        publish(&registered, endpoints.keys().copied().collect());
        let known = targets.borrow_and_update().clone();
        let notice = |target: Target| {
            let endpoint = endpoints.get(&target.address)?.clone();
            Some(Notice { gate: endpoint.gate.clone()?, endpoint, target })
        };
        publish(&notices, known.into_iter().filter_map(notice).collect());
        tokio::select! {
            () = copies.changed.notified() => {}
            changed = targets.changed() => if changed.is_err() { break },
        }
    }
}

/// Local copies of Kubernetes' objects, kept up to date by watches.
struct Copies {
    bindings: Store<TargetGroupBinding>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    changed: Arc<Notify>,
}

impl Copies {
    async fn start(client: &Client, tasks: &mut JoinSet<()>) -> Result<Self> {
        let kind = target_group_bindings();
        let bindings: Api<TargetGroupBinding> = Api::all_with(client.clone(), &kind);
        eventually("Kubernetes lists its TargetGroupBindings (their definition comes first)", PATIENCE, async || {
            bindings.list(&ListParams::default()).await.map_err(cause)
        })
        .await?;
        let changed = Arc::new(Notify::new());
        let copies = Self {
            bindings: copy(bindings, kind, &changed, tasks),
            services: copy(Api::all(client.clone()), (), &changed, tasks),
            slices: copy(Api::all(client.clone()), (), &changed, tasks),
            pods: copy(Api::all(client.clone()), (), &changed, tasks),
            nodes: copy(Api::all(client.clone()), (), &changed, tasks),
            changed,
        };
        let complete = timeout(PATIENCE, copies.complete()).await;
        complete.with_context(|| {
            format!("Kubernetes did not list the objects behind its bindings within {PATIENCE:?}")
        })??;
        Ok(copies)
    }

    async fn complete(&self) -> Result<()> {
        self.bindings.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.slices.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        Ok(self.nodes.wait_until_ready().await?)
    }

    fn view(&self) -> View {
        View {
            bindings: self.bindings.state(),
            services: self.services.state(),
            slices: self.slices.state(),
            pods: self.pods.state(),
            nodes: self.nodes.state(),
        }
    }
}

/// Keeps a copy of all objects of a kind. While the API server can't be reached, the copy stays and the watch is retried.
fn copy<K>(objects: Api<K>, kind: K::DynamicType, changed: &Arc<Notify>, tasks: &mut JoinSet<()>) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash + Send + Sync,
{
    let what = format!("can't watch {}s and continues with its copy of them", K::kind(&kind));
    let writer = Writer::new(kind);
    let (store, changed) = (writer.as_reader(), changed.clone());
    let mut events = Box::pin(reflector(writer, watcher(objects, watcher::Config::default())));
    tasks.spawn(async move {
        let mut report = ReportOnce::default();
        while let Some(event) = events.next().await {
            let heard = match event {
                // The API server has restarted, so all objects are listed again.
                Err(watcher::Error::WatchError(status)) if status.code == 410 => Ok(()),
                event => event.map(drop).map_err(cause),
            };
            if report.about(&what, heard) {
                sleep(PAUSE).await;
            }
            changed.notify_one();
        }
    });
    store
}
