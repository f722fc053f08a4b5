mock_provider "aws" {
  source          = "../tests/mocks"
  override_during = plan
}

variables {
  domain = "example.com"
  agent  = { version = "1.2.3", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  shim   = { version = "1.2.3", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
}

run "the_region" {
  command = plan
  assert {
    condition     = output.region.kubernetes.overlay.aws_region == "eu-west-1" && output.region.hostname == "primary.dob.example.com"
    error_message = "This is not the primary region."
  }
  assert {
    condition     = local.default_size == "standard" && local.cluster_role == "primary"
    error_message = "The primary region is not of standard size, or follows the other one."
  }
}
