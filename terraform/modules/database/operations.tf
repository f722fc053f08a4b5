# Lets whoever may send this document run the operations commands of the nodes, and nothing else.
resource "aws_ssm_document" "operation" {
  name            = "${var.name}-operation"
  document_type   = "Command"
  document_format = "JSON"
  target_type     = "/AWS::EC2::Instance"
  content = jsonencode({
    schemaVersion = "2.2"
    description   = "Runs an operations command of a database node"
    parameters = {
      command = {
        type        = "String"
        description = "The command"
        allowedValues = [
          "dob-backup", "dob-checksum", "dob-copy-back", "dob-etcd-alone", "dob-promote", "dob-rejoin", "dob-renew", "dob-replication", "dob-restore", "dob-retire-role",
          "dob-status", "dob-stay", "dob-switchover",
        ]
      }
      arguments = {
        type           = "String"
        description    = "Its arguments, separated by spaces. Put a time or an address in quotes: '2026-05-20 12:00:00+00'"
        default        = ""
        allowedPattern = "^('[0-9: +.-]+'|[A-Za-z0-9_-]*)( [A-Za-z0-9_-]+){0,2}$"
      }
    }
    mainSteps = [{
      action = "aws:runShellScript"
      name   = "run"
      inputs = { runCommand = ["/usr/local/sbin/{{ command }} {{ arguments }}"], timeoutSeconds = "3600" }
    }]
  })
}
