//! Addresses on the cluster's network.

use anyhow::Result;
use dob_support::{cmd, read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// The bridge that connects all nodes.
pub(crate) const BRIDGE: &str = "br-cluster";
/// The control plane, the registry and the clients.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
/// The two database hosts that the overlay names.
pub const DATABASES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 79, 0, 11), Ipv4Addr::new(10, 79, 0, 12)];
/// The load balancer's listener.
pub const LOAD_BALANCER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(HERE, 8080));
/// The API server's listener.
pub const API_SERVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(HERE, 6443));
pub(crate) const REGISTRY: SocketAddrV4 = SocketAddrV4::new(HERE, 5000);
/// The pod network; each node has 256 of its addresses.
pub(crate) const PODS: &str = "10.80.0.0/16";
pub(crate) const SERVICES: &str = "10.81.0.0/16";
/// The cluster's DNS.
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 10);

/// The overlay's file with its region, and with addresses of this network.
pub(crate) const REGION: &str = "k8s/overlays/cluster/region.yaml";

/// The address of the n-th node.
pub(crate) fn node(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 79, 0, 101 + n)
}

/// The addresses of the n-th node's pods.
pub(crate) fn pods_of(n: u8) -> String {
    format!("10.80.{n}.0/24")
}

/// Whether an address is one of the n-th node's pods.
pub(crate) fn is_pod_of(n: u8, address: Ipv4Addr) -> bool {
    address.octets()[..3] == [10, 80, n]
}

/// Creates the cluster's network. This machine routes its packets.
pub fn make_network() -> Result<()> {
    read(&cmd!("ip", "link", "add", BRIDGE, "address", "02:00:00:00:79:01", "type", "bridge"))?;
    for address in [HERE, DATABASES[0], DATABASES[1]] {
        read(&cmd!("ip", "address", "add", format!("{address}/24"), "dev", BRIDGE))?;
    }
    read(&cmd!("ip", "link", "set", BRIDGE, "up"))?;
    read(&cmd!("sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1")).map(drop)
}
