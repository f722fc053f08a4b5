# The settings that the nodes depend on, and the inputs that Terraform refuses.

variables {
  region = "eu-west-1"
  node   = "west-a"
  nodes = {
    west-a = { address = "10.77.1.11", zone = "eu-west-1a", role = "data" }
    west-b = { address = "10.77.1.12", zone = "eu-west-1b", role = "data" }
    west-c = { address = "10.77.1.13", zone = "eu-west-1c", role = "witness" }
  }
  cluster_role    = "primary"
  other_region    = { region = "eu-central-1", addresses = ["10.77.2.11", "10.77.2.12"] }
  client_networks = ["10.0.0.0/16"]
  backup_buckets  = { eu-west-1 = "backups-west", eu-central-1 = "backups-central" }
  data_device     = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123"
  data_volume_mb  = 20480
  memory_mb       = 4096
  secrets         = { certificate_authority = "dob/certificate-authority", passwords = "dob/passwords" }
}

run "a_data_node" {
  command = plan

  assert {
    condition     = length(output.user_data) * 3 / 4 < 16384
    error_message = "The user data is larger than the 16 KB that EC2 takes."
  }
  assert {
    condition     = !can(regex("password\"?: *['\"]?[a-z0-9]", lower(output.script)))
    error_message = "There is a password in the user data."
  }
  assert {
    condition     = strcontains(output.script, "\"shared_buffers\":\"1024MB\"")
    error_message = "PostgreSQL's settings are not computed from the memory."
  }
  assert {
    condition     = strcontains(output.script, "\"tcp_user_timeout\":\"15s\"")
    error_message = "PostgreSQL waits 15 minutes for a peer that is gone."
  }
  assert {
    condition     = strcontains(output.script, "\"reserved_connections\":5") && strcontains(output.script, "CREATE ROLE prometheus LOGIN IN ROLE pg_monitor, pg_use_reserved_connections;")
    error_message = "If all connections are taken, the exporter can't log in, and the alert on them can't fire."
  }
  assert {
    condition = one([for path, content in output.files : content if path == "/etc/sysctl.d/60-dob.conf"]) == join("\n", [
      "net.ipv4.tcp_keepalive_intvl = 5", "net.ipv4.tcp_keepalive_probes = 3", "net.ipv4.tcp_keepalive_time = 10", "net.ipv4.tcp_mtu_probing = 1", "net.ipv4.tcp_retries2 = 6", "net.ipv4.tcp_syn_retries = 1", "",
    ])
    error_message = "The kernel has no time limits for a peer that is gone."
  }
  assert {
    condition = alltrue([for path, content in output.files : strcontains(content, "\"pause\":null")
    if contains(["/etc/dob/leading.json", "/etc/dob/following.json"], path)])
    error_message = "A hand-over that was killed leaves the region paused after dob-promote and dob-rejoin."
  }
  assert {
    condition     = strcontains(output.script, "ETCD_DATA_DIR=/var/lib/etcd/dob\n")
    error_message = "etcd shares PostgreSQL's volume."
  }
  assert {
    condition = alltrue([for path, content in output.files : strcontains(content, "OOMScoreAdjust=-900")
    if contains(["/etc/systemd/system/patroni.service", "/etc/systemd/system/etcd.service.d/dob.conf"], path)])
    error_message = "If memory runs out, the kernel may kill Patroni or etcd."
  }
  assert {
    condition = one([for path, content in output.files :
    strcontains(content, "\nOOMPolicy=continue\n") if path == "/etc/systemd/system/patroni.service"])
    error_message = "If the kernel kills a session because memory runs out, systemd stops Patroni."
  }
  assert {
    condition     = strcontains(output.script, "\"primary_start_timeout\":10")
    error_message = "Patroni waits for minutes for a crashed leader that replays its WAL."
  }
  assert {
    condition     = !contains(keys(output.files), "/usr/local/sbin/dob-restore")
    error_message = "A member of a running cluster has the command for a restore."
  }
  assert {
    condition     = strcontains(output.script, "\"synchronous_mode\":false")
    error_message = "Replication is not asynchronous by default."
  }
  assert {
    condition     = one([for path, content in output.files : !strcontains(content, "\"standby_cluster\":") if path == "/etc/dob/patroni/node.yml"])
    error_message = "A primary cluster follows another cluster."
  }
  assert {
    condition     = strcontains(output.script, "repo1-s3-bucket=backups-west") && strcontains(output.script, "repo2-s3-bucket=backups-central")
    error_message = "The first repository is not the node's own region's."
  }
  assert {
    condition     = strcontains(output.script, "repo1-cipher-type=aes-256-cbc") && strcontains(output.script, "repo2-cipher-type=aes-256-cbc")
    error_message = "A repository is not encrypted."
  }
  assert {
    condition = { for section in regexall("(?m)^\\[([a-z:-]+)\\]\\n((?:[^\\[\\n].*\\n)*)", one([for path, content in output.files : content if path == "/etc/pgbackrest.conf"])) :
      section[0] => flatten(regexall("(?m)^io-timeout=(.*)$", section[1]))
    } == { global = ["5"], "global:backup" = ["60"], "global:expire" = ["60"], "global:verify" = ["60"], dob = [] }
    error_message = "Archiving waits too long for a bucket, or a backup or a restore gives it up too soon."
  }
}

run "a_witness_has_no_database" {
  command = plan
  variables {
    node = "west-c"
  }
  assert {
    condition     = !anytrue([for package in output.packages : startswith(package, "postgresql-")]) && !contains(output.packages, "pgbackrest")
    error_message = "A witness gets a database."
  }
  assert {
    condition     = !contains(keys(output.files), "/etc/dob/patroni/node.yml")
    error_message = "A witness gets Patroni's configuration."
  }
}

run "a_new_cluster_can_be_copied_into_another_version" {
  command = plan
  assert {
    condition = one([for path, content in output.files : yamldecode(content).bootstrap.dcs.postgresql.parameters.wal_level
    if path == "/etc/dob/patroni/node.yml"]) == "logical"
    error_message = "The WAL can't be read by another version, so that an upgrade has to restart this cluster first."
  }
  assert {
    condition = one([for path, content in output.files : yamldecode(content).bootstrap.dcs.ignore_slots
    if path == "/etc/dob/patroni/node.yml"])[0] == { type = "logical", database = "dob_api", plugin = "pgoutput" }
    error_message = "Patroni drops the slots through which another version reads the changes."
  }
  assert {
    condition     = !strcontains(output.script, "hostssl dob_api replicator")
    error_message = "Somebody may read the database's changes although it is not upgraded."
  }
}

run "the_version_is_one_variable" {
  command = plan
  variables {
    cluster            = "dob-18"
    postgresql_version = "18"
    upgrade_peers      = ["10.77.1.21", "10.77.1.22"]
  }
  assert {
    condition     = contains(output.packages, "postgresql-18") && length([for package in output.packages : package if startswith(package, "postgresql-")]) == 1
    error_message = "The packages are not those of the version."
  }
  assert {
    condition     = output.postgresql.data_directory == "/var/lib/postgresql/18/dob-18" && strcontains(output.script, "pg1-path=/var/lib/postgresql/18/dob-18\n")
    error_message = "The data directory is not the version's."
  }
  assert {
    condition     = length(regexall("postgresql[/-]17", output.script)) == 0
    error_message = "A path or a package is another version's."
  }
  assert {
    condition = one([for path, content in output.files : slice(yamldecode(content).postgresql.pg_hba,
      index(yamldecode(content).postgresql.pg_hba, "hostssl dob_api replicator 10.77.1.21/32 scram-sha-256"),
      index(yamldecode(content).postgresql.pg_hba, "hostssl all postgres,replicator,rewinder,prometheus all reject"))
      if path == "/etc/dob/patroni/node.yml"]) == [
      "hostssl dob_api replicator 10.77.1.21/32 scram-sha-256", "hostssl dob_api replicator 10.77.1.22/32 scram-sha-256",
    ]
    error_message = "The other version's data nodes, and only they, may read the database's changes."
  }
}

run "the_paths_of_a_running_cluster_stay" {
  command = plan
  assert {
    condition     = output.postgresql.data_directory == "/var/lib/postgresql/17/dob" && contains(output.packages, "postgresql-17")
    error_message = "A replaced node would not find its data, or would run another version of PostgreSQL."
  }
}

run "a_version_that_nobody_tried" {
  command = plan
  variables {
    postgresql_version = "16"
  }
  expect_failures = [var.postgresql_version]
}

run "synchronous_by_one_variable" {
  command = plan
  variables {
    replication_mode = "synchronous"
  }
  assert {
    condition     = strcontains(output.script, "\"synchronous_mode\":true")
    error_message = "Replication is not synchronous."
  }
}

run "a_standby_cluster_follows_the_other_region" {
  command = plan
  variables {
    cluster_role = "standby"
  }
  assert {
    condition     = strcontains(output.script, "\"host\":\"10.77.2.11,10.77.2.12\"")
    error_message = "The standby cluster does not stream from the other region."
  }
}

run "two_nodes_with_one_address" {
  command = plan
  variables {
    nodes = {
      west-a = { address = "10.77.1.11", zone = "eu-west-1a", role = "data" }
      west-b = { address = "10.77.1.11", zone = "eu-west-1b", role = "data" }
      west-c = { address = "10.77.1.13", zone = "eu-west-1c", role = "witness" }
    }
  }
  expect_failures = [var.nodes]
}

run "an_even_number_of_etcd_members" {
  command = plan
  variables {
    nodes = {
      west-a = { address = "10.77.1.11", zone = "eu-west-1a", role = "data" }
      west-b = { address = "10.77.1.12", zone = "eu-west-1b", role = "data" }
    }
  }
  expect_failures = [var.nodes]
}

run "a_replica_in_the_leaders_zone" {
  command = plan
  variables {
    nodes = {
      west-a = { address = "10.77.1.11", zone = "eu-west-1a", role = "data" }
      west-b = { address = "10.77.1.12", zone = "eu-west-1a", role = "data" }
      west-c = { address = "10.77.1.13", zone = "eu-west-1c", role = "witness" }
    }
  }
  expect_failures = [var.nodes]
}

run "a_single_data_node" {
  command = plan
  variables {
    nodes = {
      west-a = { address = "10.77.1.11", zone = "eu-west-1a", role = "data" }
      west-b = { address = "10.77.1.12", zone = "eu-west-1b", role = "witness" }
      west-c = { address = "10.77.1.13", zone = "eu-west-1c", role = "witness" }
    }
  }
  expect_failures = [var.nodes]
}

run "no_backup_key" {
  command = plan
  variables {
    secrets = { certificate_authority = "dob/certificate-authority", passwords = "" }
  }
  expect_failures = [var.secrets]
}

run "no_bucket_in_the_other_region" {
  command = plan
  variables {
    backup_buckets = { eu-west-1 = "backups-west" }
  }
  expect_failures = [var.backup_buckets]
}

run "clients_from_everywhere" {
  command = plan
  variables {
    client_networks = ["0.0.0.0/0"]
  }
  expect_failures = [var.client_networks]
}

run "the_other_region_is_this_one" {
  command = plan
  variables {
    other_region = { region = "eu-west-1", addresses = ["10.77.2.11"] }
  }
  expect_failures = [var.other_region]
}

run "an_address_of_the_other_region" {
  command = plan
  variables {
    other_region = { region = "eu-central-1", addresses = ["10.77.1.11"] }
  }
  expect_failures = [var.other_region]
}

run "no_such_node" {
  command = plan
  variables {
    node = "west-x"
  }
  expect_failures = [var.node]
}
