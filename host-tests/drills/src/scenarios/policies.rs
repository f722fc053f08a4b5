//! Network policies.

use crate::cluster::ClusterEnvironment;
use crate::outcome::Outcome;
use anyhow::{Result, ensure};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Addresses that the API's pods must not reach: another application's database, and EC2's metadata service with a node's credentials.
const FORBIDDEN: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 79, 0, 13)), 5432),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80),
];

/// The API's pods reach their own database, but not another one nor the metadata service; a pod of another namespace does not reach them.
pub async fn kept(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let judged = try_all(environment).await;
    environment.delete_foreign_pod()?;
    for address in FORBIDDEN {
        environment.cluster.remove_address(address.ip())?;
    }
    judged?;
    Ok(Outcome::noted("a pod of another namespace, the metadata address and another database refused"))
}

/// Tries every connection, allowed and forbidden.
async fn try_all(environment: &ClusterEnvironment) -> Result<()> {
    let mut listening = Vec::new();
    for address in FORBIDDEN {
        listening.push(environment.cluster.listen(address).await?);
    }
    let (pod, node) = environment.any_serving_pod()?;
    let (stranger, its_node) = environment.start_foreign_pod().await?;
    let own = environment.database().await?.server.address;
    for address in [own].into_iter().chain(FORBIDDEN) {
        let reached = node.connects(pod, address)?;
        let does = if reached { "reaches" } else { "does not reach" };
        ensure!(reached == (address == own), "a pod of the API {does} {address}");
        // A pod without policies must reach it: otherwise nothing may be listening there.
        ensure!(its_node.connects(stranger, address)?, "a pod without network policies does not reach {address}");
    }
    let service = SocketAddr::new(pod, 80);
    ensure!(!its_node.connects(stranger, service)?, "a pod of another namespace reaches {service}");
    Ok(())
}
