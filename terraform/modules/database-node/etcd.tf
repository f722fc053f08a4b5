# etcd: every node of the cluster runs a member. Members and clients authenticate with certificates.
locals {
  etcd = {
    NAME = var.node
    # On the root volume, even if there is a data volume. There, a base backup or a checkpoint would delay etcd's writes and cause an election.
    DATA_DIR = "/var/lib/etcd/${var.cluster}"

    LISTEN_PEER_URLS            = "https://${local.self.address}:${local.ports.etcd_peer}"
    LISTEN_CLIENT_URLS          = "https://${local.self.address}:${local.ports.etcd_client}"
    INITIAL_ADVERTISE_PEER_URLS = "https://${local.self.address}:${local.ports.etcd_peer}"
    ADVERTISE_CLIENT_URLS       = "https://${local.self.address}:${local.ports.etcd_client}"
    INITIAL_CLUSTER             = join(",", [for name, address in local.members : "${name}=https://${address}:${local.ports.etcd_peer}"])
    LISTEN_METRICS_URLS         = "http://${local.self.address}:${local.ports.etcd_metrics}"
    INITIAL_CLUSTER_TOKEN       = "${var.cluster}-${var.region}"

    CERT_FILE             = local.tls.certificate
    KEY_FILE              = local.tls.key
    TRUSTED_CA_FILE       = local.tls.ca
    CLIENT_CERT_AUTH      = true
    PEER_CERT_FILE        = local.tls.certificate
    PEER_KEY_FILE         = local.tls.key
    PEER_TRUSTED_CA_FILE  = local.tls.ca
    PEER_CLIENT_CERT_AUTH = true

    # Patroni rewrites a few keys all the time. Without this, the database grows until etcd refuses writes.
    AUTO_COMPACTION_MODE      = "periodic"
    AUTO_COMPACTION_RETENTION = "1h"
    LOG_LEVEL                 = "warn"
  }
}
