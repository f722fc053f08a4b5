//! The lab's network: one bridge that connects all nodes, this machine and AWS's metadata service.

use anyhow::Result;
use dob_support::{cmd, read};
use std::net::Ipv4Addr;

/// The address of the clients and of the AWS emulator.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The addresses of S3 in both regions, in the order of the regions' names.
pub(crate) const BUCKETS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 3)];
/// The address of EC2's metadata service.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The bridge that connects all nodes.
pub(crate) const BRIDGE: &str = "br-lab";

/// Creates the nodes' network.
pub(crate) fn make() -> Result<()> {
    // A fixed MAC address: else the bridge takes a node's, and changes it when that node goes, which breaks all connections.
    read(&cmd!("ip", "link", "add", BRIDGE, "address", "02:00:00:00:77:01", "type", "bridge"))?;
    read(&cmd!("ip", "address", "add", format!("{HERE}/16"), "dev", BRIDGE))?;
    for address in [METADATA, BUCKETS[0], BUCKETS[1]] {
        read(&cmd!("ip", "address", "add", format!("{address}/32"), "dev", BRIDGE))?;
    }
    read(&cmd!("ip", "link", "set", BRIDGE, "up")).map(drop)
}
