# Patroni decides who leads. Passwords come from a file in memory beside this configuration (dob-secrets), never from here.
locals {
  # A leader that is lost costs up to ttl; 20 s is the least that Patroni 4 takes, and loop_wait + 2 * retry_timeout must fit in it.
  # A leader that has crashed and replays its WAL for longer than primary_start_timeout gives way to its replica, which has replayed it already.
  timing = { ttl = 20, loop_wait = 5, retry_timeout = 5, primary_start_timeout = 10 }

  # Bytes, 16 MiB: a replica that is further behind does not lead. The alert ReplicationLag counts with it.
  maximum_lag = 16777216

  # The slot of the other region's standby leader.
  region_slot = "other_region"

  # 64 for each pod, old and new ones of a rollout, and some besides: k8s/checks/rules.py counts them.
  # With 8 GB, all of them taken: shared_buffers 2 GB; a session 1.6 MB (measured), and 4 MB of page tables once it has touched all of those buffers,
  # 3.1 GB; three autovacuum workers with maintenance_work_mem, 1.5 GB; Patroni, etcd and the rest 0.4 GB. That is 7 GB. work_mem comes on top
  # where a query sorts: the service's do not.
  max_connections = 560

  # Of them, besides superusers' three: for prometheus, which opens sessions anew for each scrape, and for rewinder, with which a node comes back.
  reserved_connections = 5

  postgresql_parameters = {
    archive_mode = "on"
    # pgBackRest makes no backup where its name is not in here.
    archive_command = "/usr/local/sbin/dob-archive %p # pgbackrest"
    # The most that a restore from S3 alone can lose, in seconds.
    archive_timeout = 60

    reserved_connections = local.reserved_connections

    password_encryption      = "scram-sha-256"
    ssl                      = "on"
    ssl_min_protocol_version = "TLSv1.2"
    ssl_ca_file              = local.tls.ca
    ssl_cert_file            = local.tls.certificate
    ssl_key_file             = local.tls.key
    # A peer that is silent is asked whether it is still there; how often before it is given up, tcp_user_timeout says.
    tcp_keepalives_idle     = 5
    tcp_keepalives_interval = 2
    # A peer that is gone, or frozen, ends its connection, also while it has data to acknowledge or to take: keepalives don't count then, and
    # a checkpoint may wait for the process that sends. Less than Patroni's ttl.
    tcp_user_timeout     = "15s"
    wal_receiver_timeout = "10s"
    # A node that joins writes all data of the leader, and its volume may hold up what streams the WAL beside that for longer than 10 s; one
    # that is gone, tcp_user_timeout gives up.
    wal_sender_timeout         = "60s"
    log_checkpoints            = "on"
    log_lock_waits             = "on"
    log_min_duration_statement = "500ms"
    # A slow statement is logged without its values: they are people's names and birthdays.
    log_parameter_max_length = 0
    # PostgreSQL's own text goes to the journal.
    logging_collector = "off"
    log_destination   = "stderr"

    # Sized from memory: a quarter for PostgreSQL's own cache, the rest is the kernel's.
    shared_buffers       = "${floor(var.memory_mb / 4)}MB"
    effective_cache_size = "${floor(var.memory_mb * 3 / 4)}MB"
    maintenance_work_mem = "${max(16, floor(var.memory_mb / 16))}MB"
    work_mem             = "${max(1, floor(var.memory_mb / 4 / local.max_connections))}MB"
    # Sized from the volume: what a checkpoint, a lost replica and a lost archive may keep together leaves a quarter free.
    max_wal_size           = "${floor(min(8192, var.data_volume_mb / 4))}MB"
    max_slot_wal_keep_size = "${floor(var.data_volume_mb / 4)}MB"
  }

  restore_command = "/usr/local/sbin/dob-archive-get %f %p"

  database_peers = concat(values(local.data), var.other_region.addresses)

  patroni = {
    scope = var.cluster
    name  = var.node
    restapi = {
      listen          = "${local.self.address}:${local.ports.patroni}"
      connect_address = "${local.self.address}:${local.ports.patroni}"
      cafile          = local.tls.ca
      certfile        = local.tls.certificate
      keyfile         = local.tls.key
      # Reading the state is free; changing it takes a certificate of the cluster.
      verify_client = "optional"
    }
    ctl = { cacert = local.tls.ca, certfile = local.tls.certificate, keyfile = local.tls.key }
    etcd3 = {
      hosts    = [for address in values(local.members) : "${address}:${local.ports.etcd_client}"]
      protocol = "https"
      cacert   = local.tls.ca
      cert     = local.tls.certificate
      key      = local.tls.key
    }
    watchdog = { mode = "automatic", device = "/dev/watchdog", safety_margin = 5 }
    bootstrap = {
      dcs = merge({
        ttl                     = local.timing.ttl
        loop_wait               = local.timing.loop_wait
        retry_timeout           = local.timing.retry_timeout
        maximum_lag_on_failover = local.maximum_lag
        failsafe_mode           = true
        primary_start_timeout   = local.timing.primary_start_timeout
        synchronous_mode        = var.replication_mode == "synchronous"
        postgresql = {
          use_pg_rewind = true
          use_slots     = true
          # These must be the same on all nodes, so Patroni takes them from here only.
          parameters = { max_connections = local.max_connections, hot_standby = "on", wal_log_hints = "on" }
        }
      }, { for setting, value in local.cluster_roles[var.cluster_role] : setting => value if value != null })
      initdb         = [{ encoding = "UTF8" }, { locale = "C.UTF-8" }, "data-checksums"]
      post_bootstrap = "/usr/local/sbin/dob-roles"
    }
    postgresql = {
      listen          = "${local.self.address}:${local.ports.postgresql}"
      connect_address = "${local.self.address}:${local.ports.postgresql}"
      data_dir        = local.data_directory
      bin_dir         = "/usr/lib/postgresql/17/bin"
      use_unix_socket = true
      pgpass          = "/run/dob/postgres/pgpass"
      # Diverged data that can't be rewound is fetched anew: the leader's is the truth.
      remove_data_directory_on_rewind_failure     = true
      remove_data_directory_on_diverged_timelines = true
      authentication = {
        superuser   = { username = "postgres" }
        replication = merge({ username = "replicator" }, local.verified)
        rewind      = merge({ username = "rewinder" }, local.verified)
      }
      parameters    = local.postgresql_parameters
      recovery_conf = { restore_command = local.restore_command }
      basebackup    = { checkpoint = "fast" }
      pg_hba = concat(
        ["local all postgres peer", "local postgres prometheus peer"],
        flatten([for address in local.database_peers : [
          "hostssl replication replicator ${address}/32 scram-sha-256",
          "hostssl postgres rewinder ${address}/32 scram-sha-256",
        ]]),
        ["hostssl all postgres,replicator,rewinder,prometheus all reject"],
        [for network in var.client_networks : "hostssl all all ${network} scram-sha-256"],
      )
    }
  }

  verified = { sslmode = "verify-ca", sslrootcert = local.tls.ca }

  # What makes a region lead or follow the other; null takes a setting away. A region that follows has no slot that nobody reads from: it
  # would keep WAL until the volume is a quarter full, and be lost when it is needed.
  cluster_roles = {
    primary = { standby_cluster = null, slots = { (local.region_slot) = { type = "physical" } } }
    standby = { standby_cluster = local.standby_cluster, slots = null }
  }

  standby_cluster = {
    host                   = join(",", var.other_region.addresses)
    port                   = local.ports.postgresql
    primary_slot_name      = local.region_slot
    create_replica_methods = ["basebackup"]
    restore_command        = local.restore_command
  }
}
