//! The pods behind TargetGroupBindings: copies of Kubernetes' objects, and which pods are endpoints. The copies do not change while the
//! API server can't be reached.

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{self, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::core::{ApiResource, NotUsed, Object};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The label with which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The prefix of a readiness gate's name; the binding's name follows.
const GATE: &str = "target-health.elbv2.k8s.aws/";

/// A binding: the Service whose pods are the targets of a target group.
pub(crate) type TargetGroupBinding = Object<TargetGroupBindingSpec, NotUsed>;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TargetGroupBindingSpec {
    pub service_ref: ServiceReference,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct ServiceReference {
    pub name: String,
    pub port: IntOrString,
}

/// The API resource of the bindings.
pub(crate) fn target_group_bindings() -> ApiResource {
    ApiResource {
        group: "elbv2.k8s.aws".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "elbv2.k8s.aws/v1beta1".to_owned(),
        kind: "TargetGroupBinding".to_owned(),
        plural: "targetgroupbindings".to_owned(),
    }
}

/// The last known objects that decide which pods are endpoints.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub bindings: Vec<Arc<TargetGroupBinding>>,
    pub services: Vec<Arc<Service>>,
    pub slices: Vec<Arc<EndpointSlice>>,
    pub pods: Vec<Arc<Pod>>,
    pub nodes: Vec<Arc<Node>>,
}

/// A pod that should be a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// The readiness gate that waits for the target's health, if the pod has one.
    pub gate: Option<String>,
}

/// What the load balancer controller does with a pod.
enum Verdict {
    Registered,
    /// Its containers were ready when its node last reported.
    Unknown,
    Deregistered,
}

impl View {
    /// The pods that should be targets. There is one target group here, whichever one a binding names.
    pub fn endpoints(&self) -> BTreeMap<SocketAddr, Endpoint> {
        self.bindings.iter().flat_map(|binding| self.endpoints_of(binding)).collect()
    }

    /// Pods on nodes that do not report are endpoints only if there are no others: then reports are missing, not pods.
    fn endpoints_of(&self, binding: &TargetGroupBinding) -> Vec<(SocketAddr, Endpoint)> {
        let (mut registered, mut unknown) = (Vec::new(), Vec::new());
        for (address, endpoint, pod) in self.addresses_of(binding) {
            let found = (address, Endpoint::of(pod, &binding.name_any()));
            match self.verdict(endpoint, pod) {
                Verdict::Registered => registered.push(found),
                Verdict::Unknown => unknown.push(found),
                Verdict::Deregistered => {}
            }
        }
        if registered.is_empty() { unknown } else { registered }
    }

    /// All pods of a binding's Service and port, from the EndpointSlices.
    fn addresses_of(&self, binding: &TargetGroupBinding) -> Vec<(SocketAddr, &v1::Endpoint, &Pod)> {
        let (namespace, reference) = (binding.namespace(), &binding.spec.service_ref);
        let service = find(&self.services, namespace.as_deref(), &reference.name);
        let Some(port) = service.and_then(|service| port_name(service, &reference.port)) else { return Vec::new() };
        let is_of_service = |slice: &&Arc<EndpointSlice>| {
            slice.namespace() == namespace && slice.labels().get(SERVICE_NAME) == Some(&reference.name)
        };
        let addresses = self.slices.iter().filter(is_of_service).flat_map(|slice| {
            let ports = slice.ports.iter().flatten();
            let mut ports = ports.filter(|other| other.name.as_deref().unwrap_or_default() == port);
            let port = ports.find_map(|port| u16::try_from(port.port?).ok());
            slice.endpoints.iter().flatten().filter_map(move |endpoint| {
                let ip = endpoint.addresses.first()?.parse().ok()?;
                Some((SocketAddr::new(ip, port?), endpoint, self.pod_of(endpoint)?))
            })
        });
        addresses.collect()
    }

    fn pod_of(&self, endpoint: &v1::Endpoint) -> Option<&Pod> {
        let reference = endpoint.target_ref.as_ref().filter(|reference| reference.kind.as_deref() == Some("Pod"))?;
        find(&self.pods, reference.namespace.as_deref(), reference.name.as_deref()?)
    }

    fn verdict(&self, endpoint: &v1::Endpoint, pod: &Pod) -> Verdict {
        let conditions = endpoint.conditions.as_ref();
        let is_ending = pod.metadata.deletion_timestamp.is_some()
            || conditions.and_then(|conditions| conditions.terminating).unwrap_or_default();
        let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or_default();
        match self.node_is_ready(pod) {
            _ if is_ready && !is_ending => Verdict::Registered,
            // The target's health is the only condition that the pod may lack.
            Some("True") if containers_are_ready(pod) && !is_ending => Verdict::Registered,
            Some("Unknown") if containers_are_ready(pod) => Verdict::Unknown,
            _ => Verdict::Deregistered,
        }
    }

    /// The `Ready` condition of the pod's node.
    fn node_is_ready(&self, pod: &Pod) -> Option<&str> {
        let node = find(&self.nodes, None, pod.spec.as_ref()?.node_name.as_deref()?)?;
        let mut conditions = node.status.as_ref()?.conditions.iter().flatten();
        Some(conditions.find(|condition| condition.type_ == "Ready")?.status.as_str())
    }
}

impl Endpoint {
    fn of(pod: &Pod, binding: &str) -> Self {
        let gate = format!("{GATE}{binding}");
        let mut gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            gate: gates.any(|other| other.condition_type == gate).then_some(gate),
        }
    }
}

fn find<'a, K: ResourceExt>(objects: &'a [Arc<K>], namespace: Option<&str>, name: &str) -> Option<&'a K> {
    let is_it = |object: &&Arc<K>| {
        object.meta().name.as_deref() == Some(name) && object.meta().namespace.as_deref() == namespace
    };
    objects.iter().find(is_it).map(Arc::as_ref)
}

/// The name of a Service's port, which EndpointSlices refer to. A Service's only port may have no name.
fn port_name<'a>(service: &'a Service, wanted: &IntOrString) -> Option<&'a str> {
    let mut ports = service.spec.as_ref()?.ports.iter().flatten();
    let port = ports.find(|port| match wanted {
        IntOrString::Int(number) => port.port == *number,
        IntOrString::String(name) => port.name.as_ref() == Some(name),
    });
    Some(port?.name.as_deref().unwrap_or_default())
}

fn containers_are_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "ContainersReady" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    /// A pod, alone on its node.
    #[derive(Debug, Clone, Copy)]
    struct Case {
        /// Whether the endpoint is ready; false while a readiness gate waits.
        ready: bool,
        containers_ready: bool,
        deleted: bool,
        /// The node's `Ready` condition.
        node: &'static str,
    }

    const READY: Case = Case { ready: true, containers_ready: true, deleted: false, node: "True" };

    fn objects<K: DeserializeOwned>(values: impl IntoIterator<Item = Value>) -> Vec<Arc<K>> {
        values.into_iter().map(|value| Arc::new(serde_json::from_value(value).unwrap())).collect()
    }

    fn view(cases: &[Case], port: Value) -> View {
        let meta = |name: String| json!({"name": name, "namespace": "dob-api", "uid": name});
        let cases: Vec<_> = cases.iter().enumerate().collect();
        let endpoints = cases.iter().map(|(index, case)| {
            json!({
                "addresses": [format!("10.78.0.{index}")],
                "conditions": {"ready": case.ready, "serving": case.ready, "terminating": case.deleted},
                "targetRef": {"kind": "Pod", "namespace": "dob-api", "name": format!("pod-{index}")},
            })
        });
        let pods = cases.iter().map(|(index, case)| {
            let mut meta = meta(format!("pod-{index}"));
            if case.deleted {
                meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            let ready = if case.containers_ready { "True" } else { "False" };
            let gates = json!([{"conditionType": "target-health.elbv2.k8s.aws/binding"}]);
            json!({
                "metadata": meta,
                "spec": {"nodeName": format!("node-{index}"), "containers": [], "readinessGates": gates},
                "status": {"conditions": [{"type": "ContainersReady", "status": ready}]},
            })
        });
        let nodes = cases.iter().map(|(index, case)| {
            let conditions = json!([{"type": "Ready", "status": case.node}]);
            json!({"metadata": {"name": format!("node-{index}")}, "status": {"conditions": conditions}})
        });
        let mut slice = meta("slice".to_owned());
        slice["labels"] = json!({SERVICE_NAME: "service"});
        let ports = json!([{"name": "admin", "port": 9000}, {"name": "http", "port": 80}]);
        let service_ports = json!([{"name": "http", "port": 8080}, {"name": "admin", "port": 9}]);
        let spec =
            json!({"targetGroupARN": "arn", "targetType": "ip", "serviceRef": {"name": "service", "port": port}});
        View {
            bindings: objects([json!({"metadata": meta("binding".to_owned()), "spec": spec})]),
            services: objects([json!({"metadata": meta("service".to_owned()), "spec": {"ports": service_ports}})]),
            slices: objects([json!({
                "metadata": slice, "addressType": "IPv4", "endpoints": endpoints.collect::<Vec<_>>(), "ports": ports,
            })]),
            pods: objects(pods),
            nodes: objects(nodes),
        }
    }

    /// The indices of the pods that should be targets.
    fn registered(cases: &[Case]) -> Vec<usize> {
        let endpoints = view(cases, json!("http")).endpoints();
        (0..cases.len())
            .filter(|index| endpoints.contains_key(&format!("10.78.0.{index}:80").parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_pod_is_a_target_by_the_controllers_rules() {
        let gated = Case { ready: false, ..READY };
        for (case, is_target) in [
            (READY, true),
            (gated, true),
            (Case { containers_ready: false, ..gated }, false),
            (Case { deleted: true, ..gated }, false),
            (Case { deleted: true, ..READY }, false),
            (Case { node: "False", ..gated }, false),
            (Case { node: "Unknown", ..gated }, false),
        ] {
            let expected = if is_target { vec![0, 1] } else { vec![1] };
            assert_eq!(registered(&[case, READY]), expected, "{case:?}");
        }
    }

    #[test]
    fn all_pods_stay_targets_while_no_node_is_known() {
        let unknown = Case { ready: false, node: "Unknown", ..READY };
        assert_eq!(registered(&[unknown, READY]), [1]);
        assert_eq!(registered(&[unknown, unknown]), [0, 1]);
        assert_eq!(registered(&[unknown, Case { containers_ready: false, ..unknown }]), [0]);
    }

    #[test]
    fn a_port_is_found_by_number_or_name() {
        let addresses = |port| view(&[READY], port).endpoints().into_keys().collect::<Vec<_>>();
        assert_eq!(addresses(json!("admin")), ["10.78.0.0:9000".parse().unwrap()]);
        assert_eq!(addresses(json!(8080)), ["10.78.0.0:80".parse().unwrap()]);
        assert_eq!(addresses(json!(81)), []);
    }

    #[test]
    fn a_readiness_gate_names_its_binding() {
        let gate = |view: View| view.endpoints().into_values().next().unwrap().gate;
        assert_eq!(gate(view(&[READY], json!("http"))).unwrap(), "target-health.elbv2.k8s.aws/binding");
        let mut other = view(&[READY], json!("http"));
        let spec = Arc::make_mut(&mut other.pods[0]).spec.as_mut().unwrap();
        spec.readiness_gates.as_mut().unwrap()[0].condition_type = "target-health.elbv2.k8s.aws/other".to_owned();
        assert_eq!(gate(other), None);
    }
}
