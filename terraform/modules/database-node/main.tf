locals {
  self    = var.nodes[var.node]
  members = { for name, node in var.nodes : name => node.address if node.role != "restore" }
  data    = { for name, node in var.nodes : name => node.address if node.role == "data" }

  ports = {
    postgresql  = 5432
    patroni     = 8008
    etcd_client = 2379
    etcd_peer   = 2380
    # Read-only and without TLS. A scraper with a certificate could also write.
    etcd_metrics = 2381
    # Debian's exporters listen here.
    node_exporter     = 9100
    postgres_exporter = 9187
  }
  tls = { ca = "/run/dob/tls/ca.crt", certificate = "/run/dob/tls/node.crt", key = "/run/dob/tls/node.key" }

  data_mount     = "/var/lib/postgresql"
  data_directory = "${local.data_mount}/${var.postgresql_version}/${var.cluster}"
  # Debian's path of PostgreSQL's programs.
  programs = "/usr/lib/postgresql/${var.postgresql_version}/bin"

  runs_etcd     = local.self.role != "restore"
  runs_database = local.self.role != "witness"

  packages = sort(distinct(concat(
    var.packages.common,
    local.runs_etcd ? var.packages.etcd : [],
    local.self.role == "data" ? var.packages.data : [],
    local.self.role == "restore" ? var.packages.restore : [],
    local.runs_database ? ["postgresql-${var.postgresql_version}"] : [],
  )))

  # The settings that the scripts read. None of them is secret.
  environment = {
    DOB_CLUSTER          = var.cluster
    DOB_NODE             = var.node
    DOB_ROLE             = local.self.role
    DOB_ADDRESS          = local.self.address
    DOB_MEMBERS          = join(" ", [for name, address in local.members : "${name}=${address}"])
    DOB_DATA_NODES       = join(" ", values(local.data))
    DOB_OTHER_REGION     = join(" ", var.other_region.addresses)
    DOB_CLUSTER_ROLE     = var.cluster_role
    DOB_PORT_POSTGRESQL  = local.ports.postgresql
    DOB_PORT_PATRONI     = local.ports.patroni
    DOB_PORT_ETCD        = local.ports.etcd_client
    DOB_DATA_DEVICE      = var.data_device
    DOB_DATA_MOUNT       = local.data_mount
    DOB_DATA_DIRECTORY   = local.data_directory
    DOB_PROGRAMS         = local.programs
    DOB_SECRET_AUTHORITY = var.secrets.certificate_authority
    DOB_SECRET_PASSWORDS = var.secrets.passwords
    DOB_PATRONI_RELEASE  = "${var.patroni.version} ${var.patroni.sha256}"
    DOB_PACKAGES         = join(" ", local.packages)
    DOB_RESTORED_CLIENTS = join(" ", var.client_networks)
    AWS_DEFAULT_REGION   = var.region
  }

  # Time limits of sockets whose programs set none, such as Patroni's when a replica streams or copies its data. A peer that is gone answers
  # nothing. 25 s is longer than the programs' own limits, and than a short outage between regions.
  tcp = {
    # A connection attempt fails after 7 s, not 130, and the next host is tried.
    syn_retries = 1
    # A peer that does not acknowledge data is given up after 25 s, not 15 minutes.
    retries2 = 6
    # A silent peer of an idle connection is given up after 10 s and three probes, in total 25 s, not two hours.
    keepalive_time   = 10
    keepalive_intvl  = 5
    keepalive_probes = 3
    # A link between regions takes smaller packets (8,500 bytes) than a VPC (9,001). The kernel finds that out without ICMP, which may be blocked.
    mtu_probing = 1
  }

  # Comments, and what is one in a unit, are removed, because EC2 takes at most 16 KB of user data.
  comments = "/(?m)^ *((#( .*)?|Description=.*)?\n)?/"

  # By path.
  files = merge(
    { for name in fileset("${path.module}/files/sbin", "*") :
      "/usr/local/sbin/${name}" => replace(file("${path.module}/files/sbin/${name}"), local.comments, "")
      if lookup({ dob-guard = "data", dob-restore = "restore" }, name, local.self.role) == local.self.role
    },
    { for name in fileset("${path.module}/files/systemd", "**") :
      "/etc/systemd/system/${name}" => replace(file("${path.module}/files/systemd/${name}"), local.comments, "")
    },
    {
      "/etc/dob/node.env"         = join("", [for name, value in local.environment : "${name}=\"${value}\"\n"])
      "/etc/sysctl.d/60-dob.conf" = join("", [for name, value in local.tcp : "net.ipv4.tcp_${name} = ${value}\n"])
      # Debian's images upgrade packages by themselves. These would restart the database or etcd on all nodes in one night.
      "/etc/apt/apt.conf.d/60dob" = "Unattended-Upgrade::Package-Blacklist { \"etcd\"; \"pgbackrest\"; \"postgresql\"; };\n"
      # The units' states, which no rule reads, would cost most of a scrape's time.
      "/etc/default/prometheus-node-exporter" = "ARGS=--no-collector.systemd\n"
    },
    local.runs_etcd ? { "/etc/default/etcd" = join("", [for name, value in local.etcd : "ETCD_${name}=${value}\n"]) } : {},
    local.runs_database ? { "/etc/pgbackrest.conf" = local.pgbackrest } : {},
    local.self.role == "data" ? {
      # As JSON, which is YAML, too, 50 bytes less once compressed.
      "/etc/dob/patroni/node.yml"                 = "${jsonencode(local.patroni)}\n"
      "/etc/dob/leading.json"                     = "${jsonencode(local.cluster_roles.primary)}\n"
      "/etc/dob/following.json"                   = "${jsonencode(local.cluster_roles.standby)}\n"
      "/etc/default/prometheus-postgres-exporter" = "DATA_SOURCE_NAME='user=prometheus host=/run/postgresql dbname=postgres'\nARGS=''\n"
    } : {},
  )

  # cloud-init runs it at the first boot. A script, because a cloud-config would indent every line, 300 bytes more once compressed.
  script = join("", concat(
    ["#!/bin/bash\nset -euo pipefail\n"],
    # As cloud-init does it.
    ["echo ${var.node} >/etc/hostname\nhostname ${var.node}\n"],
    ["mkdir -p ${join(" ", distinct([for path in keys(local.files) : dirname(path)]))}\n"],
    [for path, content in local.files : "cat >${path} <<'END OF FILE'\n${content}END OF FILE\n"],
    ["chmod 755 /usr/local/sbin/*\nsystemctl enable --now --no-block dob-install.service\n"],
    [var.commands],
  ))
}
