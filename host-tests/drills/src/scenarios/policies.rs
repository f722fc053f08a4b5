//! What network policies let through.

use crate::cluster::ClusterEnvironment;
use crate::current::Outcome;
use anyhow::{Result, ensure};
use std::net::SocketAddr;

/// What pods of any namespace may not reach, or only the API's: a database that is another's, and what on EC2 gives a node's credentials.
const ANOTHER_DATABASE: &str = "10.79.0.13:5432";
const METADATA: &str = "169.254.169.254:80";

/// A pod of another namespace, the metadata address and another database are refused; the API's own database is not.
pub async fn kept(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let _listening = [
        environment.cluster.listen(ANOTHER_DATABASE.parse()?).await?,
        environment.cluster.listen(METADATA.parse()?).await?,
    ];
    let (pod, node) = environment.a_pod_that_serves()?;
    let (stranger, its_node) = environment.start_foreign_pod().await?;
    let own = environment.database().await?.server.address;
    for (address, is_reached) in [(own, true), (ANOTHER_DATABASE.parse()?, false), (METADATA.parse()?, false)] {
        let reached = node.connects(pod, address)?;
        ensure!(reached == is_reached, "a pod of the API reaches {address}: {reached}");
        // Without policies: that nothing listens would look the same.
        ensure!(its_node.connects(stranger, address)?, "a pod without network policies does not reach {address}");
    }
    let service = SocketAddr::new(pod, 80);
    ensure!(!its_node.connects(stranger, service)?, "a pod of another namespace reaches {service}");
    environment.delete_foreign_pod()?;
    Ok(Outcome::noted("a pod of another namespace, the metadata address and another database refused"))
}
