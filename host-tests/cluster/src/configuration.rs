//! The configuration files of containerd, kubelet and kube-proxy.

use crate::addresses::{DNS, PODS};
use std::path::Path;

/// A node's pod network: a bridge on the node.
pub(crate) fn pod_network(pods: &str) -> String {
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": pods }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
    .to_string()
}

/// containerd's configuration, with the runtime of the pods.
pub(crate) fn containerd(directory: &Path) -> String {
    // Where the machine lacks CAP_SYS_RESOURCE, runc fails without the restriction.
    format!(
        "version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{pause}'
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '{registries}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '/etc/cni/net.d'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.spin-v2]
runtime_type = 'io.containerd.spin.v2'
",
        pause = crate::registry::image("busybox"),
        registries = directory.join("registries").display(),
    )
}

/// The kubelet's configuration.
pub(crate) fn kubelet(group: &Path, authority: &Path) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{ enabled: false }}
  webhook: {{ enabled: true }}
  x509: {{ clientCAFile: {authority} }}
authorization: {{ mode: Webhook }}
cgroupDriver: cgroupfs
failCgroupV1: false
cgroupRoot: {group}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [{DNS}]
clusterDomain: cluster.local
resolvConf: /dev/null
failSwapOn: false
# A node here has no root device of its own to measure.
localStorageCapacityIsolation: false
evictionHard: {{ memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1% }}
",
        authority = authority.display(),
        group = group.display(),
    )
}

/// kube-proxy's configuration.
pub(crate) fn kube_proxy(kubeconfig: &Path) -> String {
    // 0 leaves the limits of tracked connections alone: they belong to the machine, and a network namespace can't set them.
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{ kubeconfig: {} }}
clusterCIDR: {PODS}
conntrack: {{ maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }}
",
        kubeconfig.display(),
    )
}
