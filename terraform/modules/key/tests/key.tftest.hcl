mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name          = "dob-logs"
  description   = "Logs."
  encrypts_logs = true
}

run "rotates_and_is_for_this_account_only" {
  assert {
    condition     = aws_kms_key.this.enable_key_rotation
    error_message = "The key is not rotated."
  }
  assert {
    condition     = jsondecode(aws_kms_key.this.policy).Statement[1].Condition.ArnLike["kms:EncryptionContext:aws:logs:arn"] == "arn:aws:logs:eu-west-1:123456789012:*"
    error_message = "A service may use the key for other accounts."
  }
  assert {
    condition     = alltrue([for statement in jsondecode(aws_kms_key.this.policy).Statement : statement.Principal != "*"])
    error_message = "Anybody may use the key."
  }
}

run "a_name_with_alias" {
  command = plan
  variables {
    name = "alias/dob-logs"
  }
  expect_failures = [var.name]
}

run "nothing_is_said" {
  command = plan
  variables {
    description = " "
  }
  expect_failures = [var.description]
}
