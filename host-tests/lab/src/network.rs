//! The lab's network: one bridge that all nodes are plugged into, this machine and AWS's metadata service included.

use anyhow::Result;
use dob_support::{cmd, read};
use std::net::Ipv4Addr;

/// Where the clients are, and AWS.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Where EC2's metadata service is.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// What all nodes are plugged into.
pub(crate) const BRIDGE: &str = "br-lab";

/// Makes the network of the nodes.
pub(crate) fn make() -> Result<()> {
    // An address of its own: a bridge takes that of a port else, and changes it when that node goes, to everybody's confusion.
    read(&cmd!("ip", "link", "add", BRIDGE, "address", "02:00:00:00:77:01", "type", "bridge"))?;
    for address in [format!("{HERE}/16"), format!("{METADATA}/32")] {
        read(&cmd!("ip", "address", "add", address, "dev", BRIDGE))?;
    }
    read(&cmd!("ip", "link", "set", BRIDGE, "up")).map(drop)
}
