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

  # Files have cloud-init's 0644. runcmd makes the commands executable, which is 15 bytes less than permissions for each.
  files = concat(
    [for name in fileset("${path.module}/files/sbin", "*") : {
      path    = "/usr/local/sbin/${name}"
      content = replace(file("${path.module}/files/sbin/${name}"), local.comments, "")
    } if lookup({ dob-guard = "data", dob-restore = "restore" }, name, local.self.role) == local.self.role],
    [for name in fileset("${path.module}/files/systemd", "**") : {
      path    = "/etc/systemd/system/${name}"
      content = replace(file("${path.module}/files/systemd/${name}"), local.comments, "")
    }],
    [{
      path    = "/etc/dob/node.env"
      content = join("", [for name, value in local.environment : "${name}=\"${value}\"\n"])
    }],
    [{
      path    = "/etc/sysctl.d/60-dob.conf"
      content = join("", [for name, value in local.tcp : "net.ipv4.tcp_${name} = ${value}\n"])
    }],
    [{
      # Debian's images upgrade packages by themselves. These would restart the database or etcd on all nodes in one night.
      path    = "/etc/apt/apt.conf.d/60dob"
      content = "Unattended-Upgrade::Package-Blacklist { \"etcd\"; \"pgbackrest\"; \"postgresql\"; };\n"
    }],
    local.runs_etcd ? [{
      path    = "/etc/default/etcd"
      content = join("", [for name, value in local.etcd : "ETCD_${name}=${value}\n"])
    }] : [],
    local.runs_database ? [{
      path    = "/etc/pgbackrest.conf"
      content = local.pgbackrest
    }] : [],
    local.self.role == "data" ? [
      {
        # As JSON, which is YAML, too, 50 bytes less once compressed.
        path    = "/etc/dob/patroni/node.yml"
        content = "${jsonencode(local.patroni)}\n"
      },
      {
        path    = "/etc/dob/leading.json"
        content = "${jsonencode(local.cluster_roles.primary)}\n"
      },
      {
        path    = "/etc/dob/following.json"
        content = "${jsonencode(local.cluster_roles.standby)}\n"
      },
      {
        path    = "/etc/default/prometheus-postgres-exporter"
        content = "DATA_SOURCE_NAME='user=prometheus host=/run/postgresql dbname=postgres'\nARGS=''\n"
      },
    ] : [],
  )

  # Three spaces before each line of a file, where yamlencode writes four, are 50 bytes less once compressed.
  cloud_config = join("\n", ["#cloud-config", replace(yamlencode({
    hostname    = var.node
    write_files = local.files
    runcmd      = concat([["chmod", "--recursive", "755", "/usr/local/sbin"], ["systemctl", "enable", "--now", "--no-block", "dob-install.service"]], var.commands)
  }), "\n    ", "\n   ")])
}
