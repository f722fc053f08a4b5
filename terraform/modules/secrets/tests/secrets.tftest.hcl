mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  key_name = "dob-secrets"
  names    = { passwords = "dob/passwords", api = "dob/api" }
}

run "in_the_primary_region" {
  variables {
    replica_region = "eu-central-1"
  }
  assert {
    condition     = toset(values(aws_secretsmanager_secret.this)[*].name) == toset(["dob/passwords", "dob/api"])
    error_message = "A secret is missing."
  }
  assert {
    condition     = alltrue([for secret in aws_secretsmanager_secret.this : secret.kms_key_id == module.key.arn && one(secret.replica).kms_key_id == "alias/dob-secrets"])
    error_message = "A secret or its copy is not encrypted with the region's own key."
  }
  assert {
    condition     = alltrue([for secret in aws_secretsmanager_secret.this : one(secret.replica).region == "eu-central-1"])
    error_message = "A secret is not copied to the other region."
  }
}

run "in_the_recovery_region" {
  assert {
    condition     = length(aws_secretsmanager_secret.this) == 0
    error_message = "The region of the copies creates secrets of its own."
  }
}
