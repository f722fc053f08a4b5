# Plans only. After an apply, prevent_destroy would keep the test from removing what it created.
mock_provider "aws" {
  source          = "../../tests/mocks"
  override_during = plan
}

variables {
  name = "dob"
  nodes = {
    dob-eu-west-1-a = { address = "10.20.68.11", zone = "eu-west-1a", role = "data" }
    dob-eu-west-1-b = { address = "10.20.69.11", zone = "eu-west-1b", role = "data" }
    dob-eu-west-1-c = { address = "10.20.70.11", zone = "eu-west-1c", role = "witness" }
    dob-eu-west-1-r = { address = "10.20.68.12", zone = "eu-west-1a", role = "restore" }
  }
  cluster_role   = "primary"
  peer           = { region = "eu-central-1", addresses = ["10.21.68.11", "10.21.69.11"], data_cidr = "10.21.68.0/22" }
  network        = { vpc_id = "vpc-0123", subnet_ids = { eu-west-1a = "subnet-a", eu-west-1b = "subnet-b", eu-west-1c = "subnet-c" } }
  clients        = { security_group_id = "sg-pods", cidr = "10.20.0.0/18" }
  ports          = { postgresql = 5432, patroni = 8008, etcd_client = 2379, etcd_peer = 2380, etcd_metrics = 2381, node_exporter = 9100, postgres_exporter = 9187 }
  backups        = { buckets = { eu-west-1 = "west-backups", eu-central-1 = "central-backups" }, key_alias = "alias/dob-backups" }
  secrets        = { certificate_authority = "dob/certificate-authority", passwords = "dob/passwords", key_arn = "arn:aws:kms:eu-west-1:123456789012:key/secrets" }
  instance_types = { data = "m7i.large", witness = "t3.small" }
  data_volume_gb = 50
  logs           = { key_arn = "arn:aws:kms:eu-west-1:123456789012:key/logs", retention_days = 365 }
  agent          = { version = "1.2.3", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
}

run "an_upgrade_opens_one_port_to_the_other_versions_nodes" {
  command = plan
  variables {
    upgrade_peers = ["10.20.68.21"]
  }
  assert {
    condition = alltrue([for rule in [aws_vpc_security_group_ingress_rule.nodes["upgrade-10.20.68.21"], aws_vpc_security_group_egress_rule.nodes["upgrade-10.20.68.21"]] :
      rule.cidr_ipv4 == "10.20.68.21/32" && rule.from_port == 5432 && rule.to_port == 5432
    ])
    error_message = "The other version's nodes can't read this one's changes, or they reach more than that."
  }
  assert {
    condition     = alltrue([for name, node in module.node : strcontains(node.script, "hostssl dob_api replicator 10.20.68.21/32") || !strcontains(node.script, "pg_hba")])
    error_message = "The nodes refuse the other version's."
  }
}

run "the_nodes" {
  command = plan
  assert {
    condition     = keys(aws_instance.node) == ["dob-eu-west-1-a", "dob-eu-west-1-b", "dob-eu-west-1-c"]
    error_message = "The nodes are not two data nodes and a witness."
  }
  assert {
    condition     = length(distinct(values(aws_network_interface.node)[*].subnet_id)) == 3
    error_message = "Two nodes share a zone."
  }
  assert {
    condition     = alltrue([for name, interface in aws_network_interface.node : interface.private_ips == toset([var.nodes[name].address])])
    error_message = "A node's address is not the fixed one."
  }
  assert {
    condition     = alltrue([for node in aws_instance.node : one(node.metadata_options).http_tokens == "required" && one(node.metadata_options).http_put_response_hop_limit == 1])
    error_message = "A node's metadata can be read without a token, or from outside the node."
  }
  assert {
    condition     = endswith(module.node["dob-eu-west-1-a"].script, local.ec2) && strcontains(local.ec2, "/1.2.3/debian_amd64/amazon-ssm-agent.deb") && strcontains(local.ec2, "SHA256:${var.agent.sha256}\n")
    error_message = "Nodes do not install the agent whose version and checksum are given."
  }
  assert {
    condition     = length(aws_eip.demonstration) == 0 && length(aws_key_pair.demonstration) == 0
    error_message = "A database node has a public address."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.recover : alarm.alarm_actions == toset(["arn:aws:automate:eu-west-1:ec2:recover"])]) && length(aws_cloudwatch_metric_alarm.recover) == 3
    error_message = "EC2 does not move a node whose machine fails."
  }
}

run "the_volumes" {
  command = plan
  assert {
    condition     = keys(aws_ebs_volume.data) == ["dob-eu-west-1-a", "dob-eu-west-1-b"]
    error_message = "A data node has no volume."
  }
  assert {
    condition     = alltrue([for volume in aws_ebs_volume.data : volume.encrypted && volume.type == "gp3" && volume.kms_key_id == module.volumes_key.arn])
    error_message = "A data volume is not encrypted with its own key."
  }
  assert {
    condition     = alltrue([for node in aws_instance.node : one(node.root_block_device).encrypted])
    error_message = "A root volume is not encrypted."
  }
  assert {
    condition     = alltrue([for attachment in aws_volume_attachment.data : attachment.stop_instance_before_detaching])
    error_message = "A data volume is detached while PostgreSQL runs."
  }
  assert {
    condition     = strcontains(module.node["dob-eu-west-1-a"].script, "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${replace(aws_ebs_volume.data["dob-eu-west-1-a"].id, "-", "")}")
    error_message = "The node does not look for its own volume."
  }
}

run "who_may_connect" {
  command = plan
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.nodes : rule.cidr_ipv4 == null || rule.cidr_ipv4 == "10.21.68.0/22"])
    error_message = "An ingress rule allows addresses besides the other region's data subnets."
  }
  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.nodes : rule.from_port if rule.referenced_security_group_id == "sg-pods"] == [2381, 9100, 8008, 9187, 5432]
    error_message = "The pods reach more than PostgreSQL and metrics."
  }
  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.nodes : rule.from_port if rule.cidr_ipv4 != null]) == toset([5432, 8008])
    error_message = "The other region reaches more than PostgreSQL and Patroni."
  }
  assert {
    condition     = alltrue([for rule in merge(aws_vpc_security_group_ingress_rule.nodes, aws_vpc_security_group_egress_rule.nodes) : rule.ip_protocol == "tcp" && rule.from_port == rule.to_port])
    error_message = "A rule opens more than one port."
  }
  assert {
    condition     = toset([for rule in aws_vpc_security_group_egress_rule.nodes : rule.from_port if rule.cidr_ipv4 == "0.0.0.0/0"]) == toset([80, 443])
    error_message = "The nodes reach more of the Internet than web servers."
  }
}

run "least_privilege" {
  command = plan
  assert {
    condition     = jsondecode(aws_iam_role_policy.node["witness"].policy).Statement[*].Sid == ["Secrets", "SecretsKey", "SessionManager", "Log"]
    error_message = "The witness may read backups."
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.node["witness"].policy).Statement[0].Resource == ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:dob/certificate-authority-??????"]
    error_message = "The witness may read passwords."
  }
  assert {
    condition     = length(jsondecode(aws_iam_role_policy.node["data"].policy).Statement[0].Resource) == 2
    error_message = "A data node may read more than its two secrets."
  }
  assert {
    condition = alltrue(flatten([for policy in aws_iam_role_policy.node : [for statement in jsondecode(policy.policy).Statement :
      (!contains(flatten([statement.Resource]), "*") || statement.Sid == "SessionManager") && alltrue([for action in flatten([statement.Action]) : !strcontains(action, "*")])
    ]]))
    error_message = "A policy has a wildcard for its action or for everything."
  }
  assert {
    condition = alltrue(flatten([for policy in aws_iam_role_policy.node : [for statement in jsondecode(policy.policy).Statement :
      alltrue([for action in statement.Action : can(regex("^(ssmmessages|ec2messages):|^ssm:UpdateInstanceInformation$", action))]) if statement.Sid == "SessionManager"
    ]]))
    error_message = "The rights for Session Manager let a node read parameters or documents of others."
  }
  assert {
    condition = toset(flatten([for statement in jsondecode(aws_iam_role_policy.node["data"].policy).Statement : statement.Resource if statement.Sid == "BackupObjects"])) == toset([
      "arn:aws:s3:::west-backups/dob/*", "arn:aws:s3:::central-backups/dob/*",
    ])
    error_message = "A data node may write outside its prefix of the two buckets."
  }
  assert {
    condition     = !strcontains(join("", values(aws_iam_role_policy.node)[*].policy), "DeleteObjectVersion")
    error_message = "A node may destroy a backup for good."
  }
}

run "no_shell_through_the_operations_document" {
  command = plan
  assert {
    condition = alltrue([for text in ["; reboot", "$(reboot)", "a'b", "'$(reboot)'", "a|b", "a\nb", "../x /y"] :
      !can(regex(jsondecode(aws_ssm_document.operation.content).parameters.arguments.allowedPattern, text))
    ])
    error_message = "The arguments of an operation may contain a shell's special characters."
  }
  assert {
    condition = alltrue([for text in ["", "'2026-05-20 12:00:00+00' 2", "'10.20.68.14'", "expire 1 20261124-020000F", "--hand-over", "dob_api_a"] :
      can(regex(jsondecode(aws_ssm_document.operation.content).parameters.arguments.allowedPattern, text))
    ])
    error_message = "The document refuses arguments that the operations need."
  }
  assert {
    condition = (toset(jsondecode(aws_ssm_document.operation.content).parameters.command.allowedValues) ==
    toset(flatten(regexall("`(dob-[a-z-]+)[ `]", file("../../../docs/runbooks.md")))))
    error_message = "docs/runbooks.md must name exactly the dob- commands that the document allows: others can't run through it."
  }
  assert {
    condition     = alltrue([for command in jsondecode(aws_ssm_document.operation.content).parameters.command.allowedValues : fileexists("../database-node/files/sbin/${command}")])
    error_message = "The document offers a command that nodes do not have."
  }
}

run "the_user_data_of_each_role" {
  command = plan
  variables {
    restore_node = true
  }
  assert {
    condition     = toset([for name in keys(module.node) : var.nodes[name].role]) == toset(["data", "witness", "restore"])
    error_message = "A role is not tried."
  }
  assert {
    condition = alltrue(flatten([for node in module.node : [for path in keys(node.files) :
      !strcontains(local.ec2, path)
    ]]))
    error_message = "ec2.sh names a file of the node's configuration, which it could overwrite."
  }
  assert {
    condition = alltrue(flatten([for node in module.node : [for content in values(node.files) :
      endswith(content, "\n") && !strcontains(content, "END OF FILE")
    ]]))
    error_message = "The script would end a file too early or too late."
  }
}

# Values that pack badly, as an account's do, and the longest names of regions.
run "the_largest_user_data" {
  command = plan
  override_data {
    target = data.aws_region.current
    values = { id = "ap-southeast-2" }
  }
  override_resource {
    target          = aws_ebs_volume.data
    override_during = plan
    values          = { id = "vol-0b7f3e92d15c8a640" }
  }
  variables {
    nodes = {
      dob-ap-southeast-2-a = { address = "10.120.168.111", zone = "ap-southeast-2a", role = "data" }
      dob-ap-southeast-2-b = { address = "10.120.169.112", zone = "ap-southeast-2b", role = "data" }
      dob-ap-southeast-2-c = { address = "10.120.170.113", zone = "ap-southeast-2c", role = "witness" }
      dob-ap-southeast-2-r = { address = "10.120.168.114", zone = "ap-southeast-2a", role = "restore" }
    }
    network       = { vpc_id = "vpc-0123", subnet_ids = { ap-southeast-2a = "subnet-a", ap-southeast-2b = "subnet-b", ap-southeast-2c = "subnet-c" } }
    peer          = { region = "ap-northeast-1", addresses = ["10.121.168.121", "10.121.169.122"], data_cidr = "10.121.168.0/22" }
    upgrade_peers = ["10.120.168.131", "10.120.169.132"]
    clients       = { security_group_id = "sg-pods", cidr = "10.120.128.0/18" }
    backups       = { buckets = { ap-southeast-2 = "dob-backups-739152846307-ap-southeast-2", ap-northeast-1 = "dob-backups-739152846307-ap-northeast-1" }, key_alias = "alias/dob-backups" }
    agent         = { version = "3.3.2299.0", sha256 = "5e3ac1f70b9d284c6f0e75d3a8b14962cd97e05f3b6a812d4c7f90e6b8a5d231" }
    restore_node  = true
  }
  assert {
    condition     = alltrue([for node in aws_instance.node : length(node.user_data_base64) * 3 / 4 <= 16384])
    error_message = "The user data is larger than the 16 KB that EC2 takes: ${jsonencode({ for name, node in aws_instance.node : name => length(node.user_data_base64) * 3 / 4 })}"
  }
}

run "a_restore_node_on_demand" {
  command = plan
  variables {
    restore_node = true
  }
  assert {
    condition     = contains(keys(aws_instance.node), "dob-eu-west-1-r") && keys(aws_ebs_volume.restore) == ["dob-eu-west-1-r"]
    error_message = "There is no restore node with a volume."
  }
  assert {
    condition     = strcontains(module.node["dob-eu-west-1-r"].script, "[global:restore]\nio-timeout=60\n")
    error_message = "A restore gives up a bucket that is slow for a moment."
  }
  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.node["restore"].policy).Statement : statement.Action if statement.Sid == "BackupObjects"] == [["s3:GetObject"]]
    error_message = "A restore node may change backups."
  }
}

run "ssh_for_a_demonstration" {
  command = plan
  variables {
    ssh = { from = "192.0.2.7/32", public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample demonstration" }
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.nodes["ssh"].cidr_ipv4 == "192.0.2.7/32" && aws_vpc_security_group_ingress_rule.nodes["ssh"].from_port == 22
    error_message = "SSH is not open to exactly the given block."
  }
  assert {
    condition     = length(aws_eip.demonstration) == 3
    error_message = "Not every node has a public address."
  }
}

run "ssh_from_everywhere" {
  command = plan
  variables {
    ssh = { from = "0.0.0.0/0", public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample demonstration" }
  }
  expect_failures = [var.ssh]
}

run "ssh_from_half_of_everywhere" {
  command = plan
  variables {
    ssh = { from = "0.0.0.0/1", public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample demonstration" }
  }
  expect_failures = [var.ssh]
}

run "a_volume_too_small" {
  command = plan
  variables {
    data_volume_gb = 1
  }
  expect_failures = [var.data_volume_gb]
}

run "a_peer_that_is_no_block" {
  command = plan
  variables {
    peer = { region = "eu-central-1", addresses = ["10.21.68.11", "10.21.69.11"], data_cidr = "10.21.68.0" }
  }
  expect_failures = [var.peer]
}

run "clients_that_are_no_block" {
  command = plan
  variables {
    clients = { security_group_id = "sg-pods", cidr = "private" }
  }
  expect_failures = [var.clients]
}

run "an_agent_without_a_checksum" {
  command = plan
  variables {
    agent = { version = "1.2.3", sha256 = "" }
  }
  expect_failures = [var.agent]
}
