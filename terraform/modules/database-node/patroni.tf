# Patroni elects the leader. Passwords are not in this configuration: dob-secrets writes them to a file in memory.
locals {
  # A lost leader is replaced after ttl, which begins anew if etcd's leader is lost, too. 20 s is the least that Patroni 4 accepts, and loop_wait + 2 * retry_timeout must fit in it.
  # If a crashed leader replays its WAL for longer than primary_start_timeout, its replica leads, because it has replayed that WAL already.
  timing = { ttl = 20, loop_wait = 5, retry_timeout = 5, primary_start_timeout = 10 }

  # Bytes (16 MiB): a replica that is further behind is not promoted. The alert ReplicationLag has the same number.
  maximum_lag = 16777216

  # The slot of the other region's standby leader.
  region_slot = "other_region"

  # 64 for each pod, for old and new pods during a rollout, and some more: k8s/checks/rules.py checks the sum.
  # A node with 8 GB has enough memory if all are in use: 2 GB of shared_buffers, 3.1 GB of sessions (1.6 MB each, measured, and 4 MB of page tables once
  # a session has touched all of those buffers), 1.5 GB of maintenance_work_mem in three autovacuum workers, 0.4 GB of Patroni, etcd and the rest. That is
  # 7 GB. work_mem would come on top if a query sorted, but the service's queries do not.
  max_connections = 560

  # Besides the three for superusers, these are kept for prometheus, which opens new sessions for each scrape, and for rewinder, which a node needs to rejoin.
  reserved_connections = 5

  postgresql_parameters = {
    archive_mode = "on"
    # pgBackRest makes no backup unless its name is in this command.
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
    # A silent peer is probed. tcp_user_timeout decides when it is given up.
    tcp_keepalives_idle     = 5
    tcp_keepalives_interval = 2
    # The connection to a peer that is gone or frozen ends, even while the peer has data to acknowledge or to receive. Keepalives do not apply then,
    # and a checkpoint may wait for the process that sends. Less than Patroni's ttl.
    tcp_user_timeout     = "15s"
    wal_receiver_timeout = "10s"
    # A node that joins writes all of the leader's data, and its volume may delay the WAL that it streams meanwhile for longer than 10 s.
    # tcp_user_timeout gives up a node that is gone.
    wal_sender_timeout         = "60s"
    log_checkpoints            = "on"
    log_lock_waits             = "on"
    log_min_duration_statement = "500ms"
    # Slow statements are logged without their values, which are people's names and birthdays.
    log_parameter_max_length = 0
    # PostgreSQL's own text goes to the journal.
    logging_collector = "off"
    log_destination   = "stderr"

    # Computed from the memory: a quarter is for PostgreSQL's own cache, the rest for the kernel's.
    shared_buffers       = "${floor(var.memory_mb / 4)}MB"
    effective_cache_size = "${floor(var.memory_mb * 3 / 4)}MB"
    maintenance_work_mem = "${max(16, floor(var.memory_mb / 16))}MB"
    work_mem             = "${max(1, floor(var.memory_mb / 4 / local.max_connections))}MB"
    # Computed from the volume: a checkpoint, a lost replica and a lost archive may each keep a quarter of it, and a quarter stays free.
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
      # Anybody may read the state. Changing it needs a certificate of the cluster.
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
          # These must be the same on all nodes, so Patroni reads them only from here. Only WAL of this level can be copied into another version.
          parameters = { max_connections = local.max_connections, hot_standby = "on", wal_log_hints = "on", wal_level = "logical" }
        }
        # The slots of such a copy. Patroni would drop them.
        ignore_slots = [{ type = "logical", database = "dob_api", plugin = "pgoutput" }]
      }, { for setting, value in local.cluster_roles[var.cluster_role] : setting => value if value != null })
      initdb         = [{ encoding = "UTF8" }, { locale = "C.UTF-8" }, "data-checksums"]
      post_bootstrap = "/usr/local/sbin/dob-roles"
    }
    postgresql = {
      listen          = "${local.self.address}:${local.ports.postgresql}"
      connect_address = "${local.self.address}:${local.ports.postgresql}"
      data_dir        = local.data_directory
      bin_dir         = local.programs
      use_unix_socket = true
      pgpass          = "/run/dob/postgres/pgpass"
      # If diverged data can't be rewound, it is copied from the leader again, because the leader's data counts.
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
        [for address in var.upgrade_peers : "hostssl dob_api replicator ${address}/32 scram-sha-256"],
        ["hostssl all postgres,replicator,rewinder,prometheus all reject"],
        [for network in var.client_networks : "hostssl all all ${network} scram-sha-256"],
      )
    }
  }

  verified = { sslmode = "verify-ca", sslrootcert = local.tls.ca }

  # The settings that make a region lead, or follow the other one. null removes a setting. A region that follows has no slot for the other: nobody would
  # read from it, so it would keep WAL until a quarter of the volume is full, and be invalid when it is needed. A hand-over that was killed leaves a pause.
  cluster_roles = {
    primary = { pause = null, standby_cluster = null, slots = { (local.region_slot) = { type = "physical" } } }
    standby = { pause = null, standby_cluster = local.standby_cluster, slots = null }
  }

  standby_cluster = {
    host                   = join(",", var.other_region.addresses)
    port                   = local.ports.postgresql
    primary_slot_name      = local.region_slot
    create_replica_methods = ["basebackup"]
    restore_command        = local.restore_command
  }
}
