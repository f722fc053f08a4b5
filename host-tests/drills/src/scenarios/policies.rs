//! Network policies.

use crate::cluster::ClusterEnvironment;
use crate::outcome::Outcome;
use anyhow::{Result, ensure};
use std::net::SocketAddr;

/// Addresses that the API's pods must not reach: another application's database, and EC2's metadata service with a node's credentials.
const ANOTHER_DATABASE: &str = "10.79.0.13:5432";
const METADATA: &str = "169.254.169.254:80";

/// The API's pods reach their own database, but not another one nor the metadata service; a pod of another namespace does not reach them.
pub async fn kept(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let _listening = [
        environment.cluster.listen(ANOTHER_DATABASE.parse()?).await?,
        environment.cluster.listen(METADATA.parse()?).await?,
    ];
    let (pod, node) = environment.any_serving_pod()?;
    let (stranger, its_node) = environment.start_foreign_pod().await?;
    let own = environment.database().await?.server.address;
    for (address, is_reached) in [(own, true), (ANOTHER_DATABASE.parse()?, false), (METADATA.parse()?, false)] {
        let reached = node.connects(pod, address)?;
        ensure!(reached == is_reached, "a pod of the API reaches {address}: {reached}");
        // A pod without policies must reach it: otherwise nothing may be listening there.
        ensure!(its_node.connects(stranger, address)?, "a pod without network policies does not reach {address}");
    }
    let service = SocketAddr::new(pod, 80);
    ensure!(!its_node.connects(stranger, service)?, "a pod of another namespace reaches {service}");
    environment.delete_foreign_pod()?;
    Ok(Outcome::noted("a pod of another namespace, the metadata address and another database refused"))
}
